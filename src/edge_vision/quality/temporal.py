"""What only a stream tells: pictures that are frozen, spots that stay put and blank while all around them moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.quality.flicker import Flicker, FlickerMeter
from edge_vision.quality.grey import halved

_CELLS = 60  # at most over the width
_ROWS = 360  # that are looked at, at most
_STRIPS, _PARTS = 80, 20  # rows at most, and columns, of the thumbnail that light is measured on
_LEAST_SIDE = 64  # px
_NORMAL = 2 / math.sqrt(math.pi)  # mean absolute difference of two values with noise of sigma 1
_LEAST_MOVING = 0.12  # share of the image, for a frame to tell where nothing moves
_BLANK_S = 4.0  # longer than parts stay away from a place that parts around it pass
_BLANK_FRAMES = 8
_PASSES = 4.0  # DN at least, mean over a cell: coding of video and the texture of a dim belt change by less
_BLOWN = 250  # DN: what is white is a light or a wall
_LEAST_SPOT = 0.003  # share of the image, of each spot by itself
_RING = 3  # cells about a spot, of which the nearest are its soft edge
_RING_PASSED, _SIDE_PASSED = 0.65, 0.34  # shares of the cells
_LONGEST_GAP_S = 5.0
_LOOK_S = 0.05
_NEVER_NS = 10**18


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
        self._since_passed: NDArray[np.float32] | None = None  # (2, H, W), s since the last but one and the last pass
        self._blank_frames: NDArray[np.int32] | None = None  # for how many frames a cell has been blank and still
        self._blank_s: NDArray[np.float32] | None = None
        self._looked = -_NEVER_NS
        self._occluded_share = math.nan

    def update(self, pyramid: Sequence[NDArray[np.uint8]], stamp: int, noise: float) -> Change:
        """pyramid: of the grey image (`edge_vision.quality.grey.pyramid_of`), whose first is kept until the next call;
        stamp: ns; noise: DN, of grey with its rounding, NaN counts as 1."""
        grey = pyramid[0]
        before, self._before = self._before, grey
        if before is not None and before.shape != grey.shape:
            self._reset()
            self._before, before = grey, None
        if before is not None and self._same(grey, before):
            self._frozen += 1
            return Change(self._frozen, (stamp - self._since) * 1e-9, 0.0)
        self._frozen, self._since = 0, stamp
        if min(grey.shape) < _LEAST_SIDE:
            return Change()
        strips = next(image for image in pyramid if len(image) <= _STRIPS)
        thumbnail = cv2.resize(strips, (_PARTS, len(strips)), interpolation=cv2.INTER_AREA).astype(np.float32)
        flicker = self._flicker.update(thumbnail, stamp)
        if before is None:
            return Change(flicker=flicker)
        floor = _NORMAL * (noise if math.isfinite(noise) else 1.0)
        thin = -(-len(grey) // _ROWS)  # rows are looked at one in so many
        rows = grey[::thin]
        steps = _cells(cv2.absdiff(rows, before[::thin])[:, 1:], thin)
        moving = steps > 1.5 * floor + 0.4
        moving_share = float(np.count_nonzero(moving)) / moving.size
        step = (stamp - self._looked) * 1e-9
        if moving_share < _LEAST_MOVING:
            self._occluded_share = math.nan
        elif not 0 <= step < _LOOK_S:  # what stays for seconds need not be looked at more often
            self._looked = stamp
            blank = ~moving
            blank &= _cells(cv2.absdiff(rows[:, 1:], rows[:, :-1]), thin) < 1.4 * floor + 0.8
            blank &= _like(pyramid, blank) < _BLOWN
            self._occluded_share = self._occluded(steps > max(3 * floor + 1.2, _PASSES), blank, step)
        return Change(0, 0.0, moving_share, self._occluded_share, flicker)

    def forget_spots(self) -> None:
        """To be told after frames in which spots cannot be told from the scene: dark, flat or blurred as a whole."""
        self._since_passed = None
        self._occluded_share = math.nan

    @staticmethod
    def _same(grey: NDArray, before: NDArray) -> bool:
        middle = len(grey) // 2
        if grey[middle].tobytes() != before[middle].tobytes():
            return False  # nearly always
        return not cv2.norm(grey, before, cv2.NORM_L1)

    def _occluded(self, passing: NDArray, blank: NDArray, step: float) -> float:
        if self._since_passed is None or not 0 <= step < _LONGEST_GAP_S:
            self._since_passed = np.full((2, *blank.shape), np.inf, np.float32)
            self._blank_frames = np.zeros(blank.shape, np.int32)
            self._blank_s = np.zeros(blank.shape, np.float32)
            step = 0.0
        assert self._blank_frames is not None
        assert self._blank_s is not None
        self._since_passed += np.float32(step)
        before_last, last = self._since_passed
        np.copyto(before_last, last, where=passing)
        last[passing] = 0.0
        self._blank_frames = (self._blank_frames + 1) * blank
        self._blank_s = (self._blank_s + np.float32(step)) * blank
        dead = (self._blank_frames >= _BLANK_FRAMES) & (self._blank_s >= _BLANK_S)
        if not dead.any():
            return 0.0
        # Twice, and after the cells went dead: who walks up and then stands still moved things before.
        return spots_share(dead, before_last < _BLANK_S)


def spots_share(dead: NDArray[np.bool_], passed: NDArray[np.bool_]) -> float:
    """Share of the cells that lie in spots.

    dead: (H, W) bool, cells that have long been still and blank; passed: (H, W) bool, where something passed meanwhile.
    A spot is a coherent patch of dead cells round most of which, and on three of its sides, things passed: its fourth
    may be the image's edge or a rail. A rail, a wall, and the lane between two rows of parts have less.
    """
    # What hangs on a rail is told from the rail by having life on three sides itself.
    reach = np.maximum.accumulate
    life = passed.view(np.int8)
    reached = reach(life, 0) + reach(life[::-1], 0)[::-1] + reach(life, 1) + reach(life[:, ::-1], 1)[:, ::-1]
    dead = dead & (reached >= 3)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(dead.astype(np.uint8), connectivity=4)
    found = 0
    for label in range(1, count):
        x, y, across, down, area = (int(value) for value in stats[label])
        if area < _LEAST_SPOT * dead.size:
            continue
        left, top, right, bottom = max(0, x - _RING), max(0, y - _RING), x + across + _RING, y + down + _RING
        near = passed[top:bottom, left:right]
        spot = (labels[top:bottom, left:right] == label).astype(np.uint8)
        ring = cv2.dilate(spot, np.ones((2 * _RING + 1,) * 2, np.uint8)) > cv2.dilate(spot, np.ones((3, 3), np.uint8))
        sides = (
            passed[y : y + down, left:x],
            passed[y : y + down, x + across : right],
            passed[top:y, x : x + across],
            passed[y + down : bottom, x : x + across],
        )
        alive = sum(bool(side.size) and float(side.mean()) >= _SIDE_PASSED for side in sides)
        if ring.any() and alive >= 3 and near[ring].mean() >= _RING_PASSED:
            found += area
    return found / dead.size


def _like(pyramid: Sequence[NDArray[np.uint8]], cells: NDArray) -> NDArray[np.uint8]:
    """The image, in the shape of its cells."""
    level = next((image for image in pyramid if image.shape[1] <= cells.shape[1] + 1), pyramid[-1])
    if level.shape == cells.shape:
        return level
    return cv2.resize(level, cells.shape[::-1], interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def _cells(steps: NDArray, thin: int) -> NDArray[np.float32]:
    """Mean steps of parts of the image, `_CELLS` at most over the width. steps: of each thin-th row.

    By halving, which is the fast way: each rounds up by 1/8 on average, so that all but the first, which is the most
    work, are of four times the steps. Where rows were left out, the last halvings are of the width alone, so that cells
    are about as high as they are wide.
    """
    halvings = max(0, math.ceil(math.log2(steps.shape[1] / _CELLS)))
    both = min(max(0, halvings - thin.bit_length() + 1), len(steps).bit_length() - 1)
    if both:
        steps = halved(steps)
        steps = cv2.add(steps, steps, dst=steps)
        steps = cv2.add(steps, steps, dst=steps)  # saturated, at a third of the time of scaling by 4
    for _ in range(both - 1):
        steps = halved(steps)
    cells = steps.astype(np.float32)
    cells *= np.float32((0.25 if both else 1.0) / (1 << halvings - both))
    for _ in range(halvings - both):
        even = cells.shape[1] // 2 * 2
        cells = cells[:, :even:2] + cells[:, 1:even:2]
    return cells
