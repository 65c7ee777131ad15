"""The border between weak and strong detections, from the detector's own scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BINS = 40
ENOUGH = 100  # detections, before the scores are trusted
EVERY = 200  # detections, after which the border is looked for again
KEPT = 0.9  # of the old counts then: a memory of some 2,000 detections

_EDGES = np.arange(BINS + 1)
_ABOVE, _BELOW = np.minimum(_EDGES + 2, BINS), np.maximum(_EDGES - 2, 0)  # +-0.05 of each border between bins


class ScoreBorder:
    """Finds the valley between the scores of what is real and the scores of what is not.

    Detectors differ in what 0.5 means. Where the histogram of scores is lowest, few detections lie near the border, so
    it cuts the fewest objects whose scores go up and down about it. Follows the stream, whatever its frame rate.

    start: the border before anything is known; reach: how far from it the border may go.
    """

    def __init__(self, start: float, reach: float) -> None:
        self.start, self.reach = start, reach
        self.value = start
        self._counts = np.zeros(BINS)
        self._waiting: list[NDArray] = []
        self._fresh = self._known = 0

    def add(self, scores: NDArray) -> None:
        """Scores (N,) of one frame, in 0..1."""
        self._waiting.append(scores)
        self._fresh += len(scores)
        if self._fresh >= (EVERY if self._known else ENOUGH):
            self._known += self._fresh
            self._learn()

    def _learn(self) -> None:
        bins = np.minimum(np.maximum(np.concatenate(self._waiting) * BINS, 0), BINS - 1)  # np.clip takes far longer
        self._counts *= KEPT
        self._counts += np.bincount(bins.astype(np.intp), minlength=BINS)
        self._waiting, self._fresh = [], 0
        # Counts near each border between bins, the highest of equally empty places.
        total = np.zeros(BINS + 1)
        np.cumsum(self._counts, out=total[1:])
        near = total[_ABOVE] - total[_BELOW]
        allowed = (np.abs(_EDGES / BINS - self.start) <= self.reach + 1e-9).nonzero()[0]
        if len(allowed):
            lowest = near[allowed]
            self.value = float(allowed[len(lowest) - 1 - int(lowest[::-1].argmin())]) / BINS
