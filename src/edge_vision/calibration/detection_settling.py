"""Corners at full resolution, each verified: of a marker's surroundings, the chess corner and nothing else.

Where a board's corner should be is known from markers to some pixels only: at the end of a board, and with a wide lens,
that is nearer to the corner of a marker or to one of its bits. A refined corner is therefore looked at: around a true
one, two dark and two bright fields change in turn. Those that are none, or lie apart from where their neighbours say,
are looked for anew from there.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import Board
from edge_vision.calibration.detection_chessboard import is_crossing

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ids = NDArray[np.int64]

_LEAST, _MOST = 3, 15  # px, half windows; with 2, 1.2 px of blur leave corners 0.3 px off
_BORDER = 5  # px, the least half window of a corner near the border whose others have more
_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 50, 0.002)
_ROUNDS = 3  # a corner that is put right may put the next one right
_NEIGHBOURS = 8
_FEWEST = 5  # neighbours that place a corner
_APART = 0.06  # of the neighbours' distance, and at least a pixel: what a lens may bend within so few corners
_SMOOTH = 0.7  # px, against noise around a corner
_RING = (2.0, 4.0)  # px, the least and largest radius around a corner at which dark and bright are looked at


def half_window(share: float, spacing: float) -> int:
    """px, for a share of the least spacing of corners"""
    return int(np.clip(share * spacing, _LEAST, _MOST))


def refine_corners(gray: NDArray[np.uint8], pixels: Floats, half: int) -> tuple[Bools, Floats]:
    """(N,) which corners could be refined, and those (K, 2): the point that all edges in its window point to.

    Near the border the window is made smaller, so that it ends within the image, but to no less than 5 px (or ``half``
    where that is less): with fewer, blur and sharpening move a corner by tenths of a pixel to a pixel. One that
    would have less is left out; one that leaves its window was none.
    """
    height, width = gray.shape
    room = np.minimum(pixels, np.array([width - 1, height - 1]) - pixels).min(1)
    windows = np.minimum(half, np.floor(room - 1)).astype(np.int64)
    refined = pixels.copy()
    least = min(half, _BORDER)
    for window in np.unique(windows[windows >= least]):
        chosen = windows == window
        given = pixels[chosen].astype(np.float32).reshape(-1, 1, 2).copy()
        size = (int(window), int(window))
        refined[chosen] = cv2.cornerSubPix(gray, given, size, (-1, -1), _CRITERIA).reshape(-1, 2)
    moved = np.abs(refined - pixels).max(1)
    kept = (windows >= least) & (moved <= windows)
    return kept, refined[kept]


def settle(gray: NDArray[np.uint8], board: Board, ids: Ids, pixels: Floats, half: int) -> tuple[Ids, Floats]:
    """The corners that are some: (K,) ids and (K, 2) px, refined, of ids (N,) that should be near ``pixels`` (N, 2)."""
    radius = float(np.clip(half, *_RING))
    smooth = np.asarray(cv2.GaussianBlur(gray, (0, 0), _SMOOTH))
    where = np.full((len(board.points), 2), np.nan)

    def look(chosen: Ids, near: Floats) -> None:
        kept, refined = refine_corners(gray, near, half)
        true = is_crossing(smooth, refined, radius)
        where[chosen[kept][true]] = refined[true]

    look(ids, pixels)
    for _ in range(_ROUNDS):
        expected, apart = _expected(board, where, ids)
        with np.errstate(invalid="ignore"):
            off = np.hypot(*(where[ids] - expected).T) > apart
        where[ids[off]] = np.nan
        anew = np.isnan(where[ids, 0]) & np.isfinite(expected[:, 0])
        if not anew.any():
            break
        before = len(ids) - int(np.isnan(where[ids, 0]).sum())
        look(ids[anew], expected[anew])
        if len(ids) - int(np.isnan(where[ids, 0]).sum()) == before:
            break
    # One that no neighbour can tell of was placed by one marker, perhaps misread.
    settled = ids[np.isfinite(where[ids, 0]) & np.isfinite(_expected(board, where, ids)[0][:, 0])]
    return settled, where[settled]


@lru_cache(maxsize=16)
def _nearest(board: Board) -> Ids:
    """(N, M) the other points of the board, from the nearest on"""
    distance = np.linalg.norm(board.points[:, None] - board.points[None], axis=2)
    return np.argsort(distance, 1, kind="stable")[:, 1 : 4 * _NEIGHBOURS + 1]


def _expected(board: Board, where: Floats, ids: Ids) -> tuple[Floats, Floats]:
    """(N, 2) px where the nearest known neighbours place points, without the points themselves; NaN: too few.

    By a homography. Also (N,) px how far off a corner may be.
    """
    nearest = _nearest(board)[ids]
    there = np.isfinite(where[nearest, 0])
    order = np.argsort(~there, 1, kind="stable")[:, :_NEIGHBOURS]
    nearest, there = np.take_along_axis(nearest, order, 1), np.take_along_axis(there, order, 1)
    source = (board.points[nearest, :2] - board.points[ids, None, :2]) / board.spacing
    target = np.where(there[..., None], where[nearest], 0.0)
    placed = homographies_at_origin(source, target, there.astype(np.float64))
    placed[there.sum(1) < _FEWEST] = np.nan
    step = np.hypot(*(target - placed[:, None]).transpose(2, 0, 1))
    distance = np.where(there, step, np.nan)
    with np.errstate(invalid="ignore"):
        apart = np.maximum(1.0, _APART * np.nan_to_num(np.nanmax(np.where(there, distance, -1.0), 1)))
    return placed, apart


def homographies_at_origin(source: Floats, target: Floats, used: Floats) -> Floats:
    """(N, 2) px: where the homographies through (N, M, 2) ``source``, ``target`` px with weights (N, M) put the origin.

    Linear least squares (Hartley and Zisserman, 4.1, with h33 = 1) for all at once; h13 and h23 are the origin's image.
    """
    x, y = np.moveaxis(source, 2, 0)
    origin = (target * used[..., None]).sum(1) / np.maximum(used.sum(1), 1e-9)[:, None]
    u, v = np.moveaxis(target - origin[:, None], 2, 0)
    one, zero = np.ones_like(x), np.zeros_like(x)
    upper = np.stack([x, y, one, zero, zero, zero, -u * x, -u * y], 2)
    lower = np.stack([zero, zero, zero, x, y, one, -v * x, -v * y], 2)
    weights = np.tile(used, 2)
    system = np.concatenate([upper, lower], 1) * weights[..., None]
    values = np.concatenate([u, v], 1) * weights
    transposed = system.transpose(0, 2, 1)
    normal = transposed @ system + 1e-9 * np.eye(8)
    solution = np.linalg.solve(normal, transposed @ values[..., None])[..., 0]
    placed: Floats = solution[:, [2, 5]] + origin
    return placed
