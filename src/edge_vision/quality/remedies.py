"""What to do about each cause of a bad picture, and verdicts in words."""

from __future__ import annotations

from edge_vision.datatypes import QualityReport, Verdict

REMEDIES = {
    "black": "look for a lens cap, at the exposure and the cable",
    "frozen": "the same image comes again and again: restart the camera's driver, look at its cable and power",
    "occluded": "clean the lens, or take away what hangs before it",
    "clipped": "shorten the exposure, lower the gain, or keep the light from shining into the lens",
    "bright": "shorten the exposure or lower the gain",
    "dark": "give more light, a longer exposure or more gain (the enhance node's brightness camera does the latter)",
    "low_contrast": "look for fog, a dirty lens, or light that shines into it",
    "colour_cast": "set the white balance to the light",
    "blocky": "raise the bit rate of the stream, or the quality of its JPEG",
    "noisy": "give more light and less gain",
    "flicker": "set the driver's power line frequency, or expose for a multiple of 10 ms (50 Hz) or 8.33 ms (60 Hz)",
    "motion_blurred": "shorten the exposure and give more light",
    "blurred": "focus the lens, and look whether it is dirty or wet",
}
"""By cause."""


def figure_text(verdict: Verdict) -> str:
    """The figure and the threshold behind a verdict: "p99 12 DN (limit 64 DN)"."""
    unit = f" {verdict.unit}" if verdict.unit else ""
    return f"{verdict.name} {_short(verdict.figure)}{unit} (limit {_short(verdict.threshold)}{unit})"


def advice(report: QualityReport) -> str | None:
    """The primary cause with its figure and what to do about it, and what else is blamed; None for a good picture."""
    if report.cause == "ok":
        return None
    verdict = report.verdict(report.cause)
    also = [v.cause for v in report.verdicts if v.blamed and v.cause != report.cause]
    more = f" (also: {', '.join(also)})" if also else ""
    remedy = REMEDIES.get(report.cause, "see docs/quality_node.md")
    return f"{report.cause}: {figure_text(verdict)}{more}; {remedy}"


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
