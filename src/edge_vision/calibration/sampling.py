"""Which of a camera's frames are worth keeping as samples, and how much of the usual spans they cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import Board
from edge_vision.calibration.guidance import Suggestion, coverage_cells, tilt_direction
from edge_vision.calibration.knowledge import Knowledge, locate
from edge_vision.calibration.views import View

Floats = NDArray[np.float64]

_SAME = 0.005
"""of the image's diagonal: corners nearer than this to those of a sample, in the median, are the same view again"""
_NEW_CELLS = 3
"""of the coverage's 100, that a view must be the first to show to be kept for that alone"""
_TILTED = 18.0
"""degrees: enough for the verdict's 15 with what a pose errs before the camera is known"""
_AS_ASKED = 0.08
"""of the diagonal: corners nearer than this to where the next view asks for them, in the mean"""
_SPANS = (0.7, 0.7, 0.4, 0.5)
"""of x, y, size and skew that are the whole (camera_calibration, `get_parameters`)"""


@dataclass(frozen=True)
class Decision:
    """Whether a view is kept, why (in words), and the share by which it lowers the uncertainty (the same again: 0)."""

    keep: bool
    reason: str
    gain: float


class Selection:
    """What the samples so far cover, and with it what is worth adding. Immutable: `added` makes a new one."""

    def __init__(self, board: Board, image_size: tuple[int, int], views: Sequence[View] = ()) -> None:
        self.board = board
        self.image_size = image_size
        self.views = tuple(views)

    def added(self, view: View) -> Selection:
        return Selection(self.board, self.image_size, (*self.views, view))

    @cached_property
    def cells(self) -> NDArray[np.bool_]:
        """(10, 10)"""
        return coverage_cells([view.pixels for view in self.views], self.image_size)

    @cached_property
    def spans(self) -> tuple[float, float, float, float]:
        """0..1 each: how much of the image's width and height, of sizes and of skews the views span."""
        if not self.views:
            return (0.0, 0.0, 0.0, 0.0)
        figures = np.array([view_spans(view, self.board) for view in self.views])
        low, high = figures.min(axis=0), figures.max(axis=0)
        low[2:] = 0.0  # a small and an upright board are no merit
        x, y, size, skew = np.minimum((high - low) / _SPANS, 1.0).tolist()
        return (x, y, size, skew)

    @cached_property
    def coverage(self) -> float:
        """0..1: share of the image inside the hull of all corners."""
        if not self.views:
            return 0.0
        hull = cv2.convexHull(np.concatenate([view.pixels for view in self.views]).astype(np.float32)[:, None])
        return min(1.0, float(cv2.contourArea(hull)) / (self.image_size[0] * self.image_size[1]))

    @cached_property
    def diagonal(self) -> float:
        return float(np.hypot(*self.image_size))

    def decide(
        self, view: View, knowledge: Knowledge, sides: frozenset[int], asked: Suggestion | None, least: float
    ) -> Decision:
        """sides: of the board, that samples turned to the camera; asked: the next view; least: share of gain."""
        if any(self._same(view, other) for other in self.views):
            return Decision(False, "adds too little: there is this view already", 0.0)
        gain = knowledge.gain(view)
        if gain > least:
            return Decision(True, f"it lowers the uncertainty by {gain:.0%}", gain)
        new = int(np.sum(coverage_cells([view.pixels], self.image_size) & ~self.cells))
        if new >= _NEW_CELLS:
            return Decision(True, f"it shows {new} % of the image that no view has shown", gain)
        pose = locate(knowledge.camera, self.board, view)
        if pose is not None:
            R, t = pose
            angle, side = tilt_direction(R, R @ self.board.points.mean(axis=0) + t)
            if angle >= _TILTED and side not in sides:
                return Decision(True, "it turns a side of the board to the camera that no view has", gain)
        if asked is not None and self.follows(view, knowledge, asked):
            return Decision(True, "it is the view that was asked for", gain)
        return Decision(False, f"adds too little: it lowers the uncertainty by {gain:.1%}", gain)

    def follows(self, view: View, knowledge: Knowledge, asked: Suggestion) -> bool:
        """Whether the view's corners are about where the view asked for has them."""
        points = self.board.points[view.ids] @ asked.rotation.T + asked.translation
        distances = np.linalg.norm(knowledge.camera.project(points) - view.pixels, axis=1)
        distances = distances[np.isfinite(distances)]
        return 2 * len(distances) > len(view) and float(distances.mean()) < _AS_ASKED * self.diagonal

    def _same(self, view: View, other: View) -> bool:
        return displacement(view, other) < _SAME * self.diagonal


def displacement(view: View, other: View) -> float:
    """px: median distance of the corners that both hold; infinite where less than half of them are the same."""
    ids, rows, others = np.intersect1d(view.ids, other.ids, assume_unique=True, return_indices=True)
    if 2 * len(ids) < max(len(view), len(other)):
        return float("inf")
    return float(np.median(np.linalg.norm(view.pixels[rows] - other.pixels[others], axis=1)))


def tilted_sides(knowledge: Knowledge, views: Sequence[View], least: float = 15.0) -> frozenset[int]:
    """The sides of the board (0 right, 1 left, 2 top, 3 bottom) that views turned to the camera."""
    middle = knowledge.board.points.mean(axis=0)
    poses = [pose for view in views if (pose := locate(knowledge.camera, knowledge.board, view))]
    tilts = [tilt_direction(R, R @ middle + t) for R, t in poses]
    return frozenset(side for angle, side in tilts if angle >= least)


@lru_cache(maxsize=256)  # views are compared by identity
def view_spans(view: View, board: Board) -> tuple[float, float, float, float]:
    """x, y, size and skew, 0..1, as camera_calibration counts them, of the rectangle of the corners seen.

    x, y: the middle in the image less half the board on each side; size: root of the share of the image; skew: how far
    the angle at its top right corner is from 90 degrees, 1 at 45.
    """
    width, height = view.image_size
    flat = board.points[view.ids, :2]
    low, high = flat.min(axis=0), flat.max(axis=0)
    corners = np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]])
    # A chessboard's own corners; of a board in view in part, where they would be.
    nearest = np.linalg.norm(flat[None] - corners[:, None], axis=2)
    if nearest.min(axis=1).max() < 1e-9:
        outer = view.pixels[nearest.argmin(axis=1)]
    else:
        H, _ = cv2.findHomography(flat, view.pixels, 0)
        if H is None:
            return (0.0, 0.0, 0.0, 0.0)
        outer = cv2.perspectiveTransform(corners[None], H)[0]
    area = float(cv2.contourArea(outer.astype(np.float32)))
    border = np.sqrt(area)
    middle = view.pixels.mean(axis=0)
    x, y = (
        float(np.clip((middle[axis] - border / 2) / max(extent - border, 1.0), 0, 1))
        for axis, extent in enumerate((width, height))
    )
    a, b = outer[0] - outer[1], outer[2] - outer[1]
    angle = np.arccos(np.clip(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-9), -1, 1))
    return x, y, float(np.sqrt(area / (width * height))), float(min(1.0, 2 * abs(np.pi / 2 - angle)))
