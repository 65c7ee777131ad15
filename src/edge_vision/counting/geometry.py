"""Segments and polygons against many points at once. Image coordinates: x to the right, y downwards, float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


def _cross(a: Points, b: Points) -> Points:
    """z of the cross product over the last axis: positive where b lies clockwise of a, as y points down."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def crossings(before: Points, after: Points, start: Points, end: Points) -> NDArray[np.int32]:
    """(N, L): which of L segments N moves have crossed, +1 towards the right of `start` -> `end`, -1 towards the left.

    before, after (N, 2), start, end (L, 2). A point on the line counts as right of it and a segment has its start but
    not its end, so that a move through the joint of two segments crosses one of them. Zero where a coordinate is NaN.
    """
    along = end - start
    with np.errstate(invalid="ignore"):
        was, now = _cross(along, before[:, None] - start), _cross(along, after[:, None] - start)
        finite = np.isfinite(was) & np.isfinite(now)
        was_right, now_right = was >= 0, now >= 0
        # Always looked at from the left to the right: the way back then gives the same numbers, whatever the rounding.
        first = np.where(was_right[..., None], after[:, None], before[:, None])
        second = np.where(was_right[..., None], before[:, None], after[:, None])
        move = second - first
        met = (_cross(move, start - first) >= 0) & (_cross(move, end - first) < 0)
    return np.where(finite & met, now_right.astype(np.int32) - was_right, 0)


def distances(points: Points, start: Points, end: Points) -> Points:
    """(N, S): how far each of N points is from each of S segments, px."""
    along = end - start
    offset = points[:, None] - start
    share = np.clip((offset * along).sum(-1) / np.maximum((along * along).sum(-1), 1e-12), 0.0, 1.0)
    rest = offset - share[..., None] * along
    return np.sqrt((rest * rest).sum(-1))


def inside(points: Points, polygon: Points) -> NDArray[np.bool_]:
    """(N,): whether each point lies in the polygon (V, 2), by the even-odd rule."""
    x, y = points[:, :1], points[:, 1:]
    x1, y1 = polygon[:, 0], polygon[:, 1]
    x2, y2 = np.roll(x1, -1), np.roll(y1, -1)
    spans = (y1 > y) != (y2 > y)
    rise = np.where(y2 == y1, 1.0, y2 - y1)  # level edges span nothing
    return ((spans & (x < x1 + (y - y1) * (x2 - x1) / rise)).sum(1) % 2).astype(bool)
