"""From figures to verdicts: which cause spoils a picture, and how badly.

Each cause has one figure and one threshold (docs/quality.md has how they were chosen). Severity is 1 at the threshold
and grows with the figure: figure / threshold where more is worse, threshold / figure where less is. Of several blamed
causes the first of `CAUSES` is the primary one: a dark picture is also noisy and poor in contrast, a picture of coarse
JPEG is also blurred, and not the other way round. "occluded" is the last: it is of a part of the picture, and what
spoils all of it comes first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter as _get
from types import SimpleNamespace
from typing import Any

from edge_vision.datatypes import QualityReport, Verdict


@dataclass(frozen=True)
class Thresholds:
    """Limits of the figures; a picture beyond one is blamed.

    black: DN of p99, at most. frozen: repeated frames. occluded: share of the image. clipped: share of pixels at 253
    and above. bright: DN of the mean. dark: DN of p99, less than. low_contrast: (p99 - p1) / (p99 + p1), less than.
    colour_cast: octaves. blocky: ratio of steps. motion: px of length. blurred: px of sigma. noisy: DN of sigma.
    flicker: relative.
    """

    black: float = 10.0
    frozen: float = 5.0
    occluded: float = 0.005
    clipped: float = 0.08
    bright: float = 215.0
    dark: float = 64.0
    low_contrast: float = 0.30
    colour_cast: float = 0.30
    blocky: float = 1.6
    motion: float = 6.0
    blurred: float = 1.2
    noisy: float = 5.0
    flicker: float = 0.015


@dataclass(frozen=True, slots=True)
class _Rule:
    cause: str
    name: str
    unit: str
    threshold: Callable[[Thresholds], float]
    figure: Callable[[Any], float]  # of a report
    less_is_worse: bool = False


_MOTION_OVER_SIGMA = 4.8  # a box of L px has the spread of a Gaussian of L / 3.46


def _motion(report: QualityReport) -> float:
    """Its length, where motion is clearly the larger part of the blur: edges that are soft by themselves are not
    equally so in all directions, and a Gaussian blur makes more of that."""
    if report.motion_length < _MOTION_OVER_SIGMA * report.blur_sigma:
        return 0.0
    return report.motion_length


def _flicker(report: QualityReport) -> float:
    known = [x for x in (report.flicker, report.row_banding) if math.isfinite(x)]
    return max(known, default=math.nan)


_RULES = (
    _Rule("black", "p99", "DN", _get("black"), _get("p99"), less_is_worse=True),
    _Rule("frozen", "frozen_frames", "frames", _get("frozen"), lambda r: float(r.frozen_frames)),
    _Rule("clipped", "clipped_bright", "", _get("clipped"), _get("clipped_bright")),
    _Rule("bright", "mean", "DN", _get("bright"), _get("mean")),
    _Rule("dark", "p99", "DN", _get("dark"), _get("p99"), less_is_worse=True),
    _Rule("low_contrast", "contrast", "", _get("low_contrast"), _get("contrast"), less_is_worse=True),
    _Rule("colour_cast", "colour_cast", "octaves", _get("colour_cast"), _get("colour_cast")),
    _Rule("blocky", "blockiness", "", _get("blocky"), _get("blockiness")),
    _Rule("noisy", "noise_sigma", "DN", _get("noisy"), _get("noise_sigma")),
    _Rule("flicker", "flicker", "", _get("flicker"), _flicker),
    _Rule("motion_blurred", "motion_length", "px", _get("motion"), _motion),
    _Rule("blurred", "blur_sigma", "px", _get("blurred"), _get("blur_sigma")),
    _Rule("occluded", "occluded_share", "", _get("occluded"), _get("occluded_share")),
)

CAUSES = tuple(rule.cause for rule in _RULES)


def judge(report: QualityReport | SimpleNamespace, thresholds: Thresholds) -> tuple[str, tuple[Verdict, ...]]:
    """The primary cause, "ok" where nothing is blamed, and the verdict on each cause in the order of `CAUSES`. report:
    or what has its figures already, by the same names."""
    verdicts = []
    primary = "ok"
    for rule in _RULES:
        figure, threshold = rule.figure(report), rule.threshold(thresholds)
        if not math.isfinite(figure):
            severity = math.nan
        elif rule.less_is_worse:
            severity = threshold / max(figure, 1e-3)
        else:
            severity = max(figure, 0.0) / threshold
        verdicts.append(Verdict(rule.cause, figure, threshold, severity, rule.name, rule.unit))
        if primary == "ok" and severity >= 1.0:
            primary = rule.cause
    return primary, tuple(verdicts)
