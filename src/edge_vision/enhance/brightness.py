"""Brightness by software: what a grey value becomes, as a table of 256 that all channels go through.

A stretch is linear: the 1st percentile goes to ``black``, the 99th to ``white``. Shot noise and haze are undone as
far as software can, and edges keep their proportions, which detectors live on (docs/enhance.md has what gamma and
CLAHE cost them).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import QualityReport

CLIP_LIMIT, GRID = 2.0, (8, 8)  # of CLAHE (Zuiderveld 1994)


@dataclass(frozen=True, slots=True)
class ToneTargets:
    """black, white: DN that the 1st and 99th percentile are stretched to. A picture is left alone while its
    percentiles lie at least ``least_span`` DN apart and it is neither overexposed (1st percentile above ``fog``,
    median above ``bright`` and a share of ``clipped`` at full scale) nor dark (median below ``dark``). largest_gain:
    of a stretch; beyond, there is only noise."""

    black: float = 18.0
    white: float = 180.0
    least_span: float = 80.0
    fog: float = 32.0
    bright: float = 140.0
    clipped: float = 0.02
    dark: float = 22.0
    largest_gain: float = 40.0


@dataclass(frozen=True, slots=True)
class Tone:
    """table: (256,) uint8. name: what it does. gain: DN after over DN before, at the median: what noise is multiplied
    by."""

    table: NDArray
    name: str
    gain: float


def stretched(p1: float, p99: float, targets: ToneTargets | None = None) -> Tone:
    """The linear table that takes p1 and p99 (DN) to the targets."""
    t = targets or ToneTargets()
    slope = min((t.white - t.black) / max(p99 - p1, 1.0), t.largest_gain)
    values = t.black + (np.arange(256) - p1) * slope
    return Tone(_table(values), "stretch", slope)


def gamma_for(median: float, goal: float) -> Tone:
    """The power law that takes ``median`` to ``goal`` (DN), its exponent within 0.4 to 2.5."""
    share = min(max(median, 1.0), 254.0) / 255
    exponent = min(max(math.log(goal / 255) / math.log(share), 0.4), 2.5)
    values = 255 * (np.arange(256) / 255) ** exponent
    return Tone(_table(values), "gamma", exponent * share ** (exponent - 1))


def needed_tone(report: QualityReport, targets: ToneTargets | None = None, slack: float = 0.0) -> Tone | None:
    """What this picture's brightness needs; None where it is fine.

    slack: 0 to 1, by how much better than the limits it must be to count as fine: for whoever has begun to correct.
    """
    t = targets or ToneTargets()
    p1, p99, median = report.p1, report.p99, report.median
    if not all(map(math.isfinite, (p1, p99, median))) or p99 - p1 < 3:  # black, or a wall: nothing to bring out
        return None
    kept = 1 - slack
    over = p1 > t.fog * kept and median > t.bright * kept and report.clipped_bright > t.clipped * kept
    if over or p99 - p1 < t.least_span * (1 + slack):
        return stretched(p1, p99, t)
    if median < t.dark * (1 + slack):  # and wide: lamps in the night
        return gamma_for(median, 2 * t.dark)
    return None


class ToneFollower:
    """The tone of a stream: follows the light smoothly, and neither flickers nor switches to and fro at a limit.

    A change of more than ``jump`` (as a ratio of spans) is followed at once: somebody has switched the light. Others
    are followed with the time constant ``seconds`` of header time.
    """

    def __init__(self, targets: ToneTargets | None = None, *, seconds: float = 0.7, jump: float = 1.3) -> None:
        self._targets = targets or ToneTargets()
        self._seconds, self._jump = seconds, jump
        self._state: NDArray[np.float64] | None = None  # p1, median, p99
        self._stamp = 0
        self._on = False

    def update(self, report: QualityReport, *, always: bool = False) -> Tone | None:
        """The tone for the frame that the report is of. always: also where nothing is needed: a stretch."""
        seen = np.array([report.p1, report.median, report.p99], float)
        if not np.isfinite(seen).all():
            return None
        before = self._state
        if before is not None and self._alike(seen, before):
            share = 1 - math.exp(-max(report.stamp - self._stamp, 0) * 1e-9 / self._seconds)
            seen = before + share * (seen - before)
        else:
            self._on = False
        self._state, self._stamp = seen, report.stamp
        p1, median, p99 = seen.tolist()
        if always:
            return stretched(p1, p99, self._targets) if p99 - p1 >= 3 else None
        smooth = QualityReport(p1=p1, median=median, p99=p99, clipped_bright=report.clipped_bright)
        tone = needed_tone(smooth, self._targets, 0.15 if self._on else 0.0)
        self._on = tone is not None
        return tone

    def _alike(self, seen: NDArray, before: NDArray) -> bool:
        spans = [max(values[2] - values[0], 2.0) for values in (seen, before)]
        shift = np.abs(seen - before).max() / max(spans)
        return max(spans) / min(spans) < self._jump and shift < self._jump - 1


def apply_tone(image: NDArray, tone: Tone) -> NDArray:
    return cv2.LUT(image, tone.table)


def equalised(image: NDArray) -> NDArray:
    """Contrast-limited adaptive histogram equalisation of the luma (clip limit 2, 8x8 tiles)."""
    clahe = cv2.createCLAHE(CLIP_LIMIT, GRID)
    if image.ndim == 2:
        return clahe.apply(image)
    planes = list(cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2YCrCb)))
    planes[0] = clahe.apply(planes[0])
    return cv2.cvtColor(cv2.merge(planes), cv2.COLOR_YCrCb2BGR)


def _table(values: NDArray) -> NDArray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
