"""From figures to verdicts: which cause spoils a picture, and how badly."""

from __future__ import annotations

CAUSES = (
    "black",
    "frozen",
    "occluded",
    "dark",
    "bright",
    "low_contrast",
    "colour_cast",
    "blocky",
    "motion_blurred",
    "blurred",
    "noisy",
    "flicker",
)
