"""What only a stream tells: pictures that are frozen, spots that stay put and blank while all around them moves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.quality.flicker import Flicker, FlickerMeter

_GRID = (40, 30)  # cells over the width and the height
_ROW_PARTS = 4  # the thumbnail is that much finer along y
_NORMAL = 2 / math.sqrt(math.pi)  # mean absolute difference of two values with noise of sigma 1
_LEAST_MOVING = 0.12  # share of the image, for a frame to tell where nothing moves
_BLANK_S = 1.0
_BLANK_FRAMES = 8
_LONGEST_GAP_S = 5.0


@dataclass(frozen=True, slots=True)
class Change:
    """Figures of `edge_vision.datatypes.QualityReport` of the same names. still: whether nothing but noise changed."""

    frozen_frames: int = 0
    frozen_s: float = 0.0
    moving_share: float = math.nan
    occluded_share: float = math.nan
    flicker: Flicker = field(default_factory=Flicker)


class ChangeMeter:
    """Compares each grey image with what was seen before it. A change of size starts it anew."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._before: NDArray[np.uint8] | None = None
        self._since = 0
        self._frozen = 0
        self._flicker = FlickerMeter()
        self._lively: NDArray[np.float32] | None = None  # recent share of frames in which a cell moved
        self._blank_frames: NDArray[np.int32] | None = None  # for how many frames a cell has been blank and still
        self._blank_s: NDArray[np.float32] | None = None
        self._last = 0

    def update(self, grey: NDArray[np.uint8], stamp: int, noise: float) -> Change:
        """grey (H, W), kept until the next call; stamp: ns; noise: DN, of grey with its rounding, NaN is 1."""
        before, self._before = self._before, grey
        if before is None or before.shape != grey.shape:
            self._reset()
            self._before, self._since, self._last = grey, stamp, stamp
        elif self._same(grey, before):
            self._frozen += 1
            return Change(self._frozen, (stamp - self._since) * 1e-9, 0.0, math.nan)
        self._frozen, self._since = 0, stamp
        if min(grey.shape) < 2 * _GRID[0]:
            return Change()
        rows = grey[:: max(1, grey.shape[0] // 480)]
        size = (_GRID[0], _GRID[1] * _ROW_PARTS)
        thumbnail = cv2.resize(rows, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        flicker = self._flicker.update(thumbnail, stamp)
        if before is None or before.shape != grey.shape:
            return Change()
        step = (stamp - self._last) * 1e-9
        self._last = stamp
        noise = noise if math.isfinite(noise) else 1.0
        change = cv2.absdiff(rows, before[:: max(1, grey.shape[0] // 480)])
        moving = _cells(change) > 1.5 * _NORMAL * noise + 0.4
        detail = _cells(cv2.absdiff(rows[:, 1:], rows[:, :-1]))
        blank = ~moving & (detail < 1.4 * _NORMAL * noise + 0.8)
        moving_share = float(moving.mean())
        occluded = self._occluded(moving, blank, moving_share, step)
        return Change(0, 0.0, moving_share, occluded, flicker)

    @staticmethod
    def _same(grey: NDArray, before: NDArray) -> bool:
        middle = len(grey) // 2
        if cv2.norm(grey[middle : middle + 1], before[middle : middle + 1], cv2.NORM_L1):
            return False  # nearly always
        return not cv2.norm(grey, before, cv2.NORM_L1)

    def _occluded(self, moving: NDArray, blank: NDArray, moving_share: float, step: float) -> float:
        if self._lively is None or not 0 <= step < _LONGEST_GAP_S:
            self._lively = np.zeros(moving.shape, np.float32)
            self._blank_frames = np.zeros(moving.shape, np.int32)
            self._blank_s = np.zeros(moving.shape, np.float32)
        assert self._blank_frames is not None
        assert self._blank_s is not None
        if moving_share >= _LEAST_MOVING:
            self._lively += 0.15 * (moving - self._lively)
            self._blank_frames = np.where(blank, self._blank_frames + 1, 0)
            self._blank_s = np.where(blank, self._blank_s + step, 0)
        dead = (self._blank_frames >= _BLANK_FRAMES) & (self._blank_s >= _BLANK_S)
        if not dead.any():
            return 0.0 if self._blank_frames.any() or moving_share >= _LEAST_MOVING else math.nan
        lively = self._lively > 0.5
        # Life on three of the four sides: what lies at the image's edge beside one moving thing is a place of no interest.
        sides = np.zeros(dead.shape, np.int8)
        for axis in (0, 1):
            sides += np.logical_or.accumulate(lively, axis)
            sides += np.flip(np.logical_or.accumulate(np.flip(lively, axis), axis), axis)
        return float((dead & (sides >= 3)).mean())


def _cells(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Means of the grid's cells. Summed to a finer grid first: its bytes would be rounded, floats cost ten times that."""
    width, height = _GRID
    fine = cv2.resize(image, (width * 4, height * 4), interpolation=cv2.INTER_AREA)
    return fine.reshape(height, 4, width, 4).mean((1, 3), dtype=np.float32)
