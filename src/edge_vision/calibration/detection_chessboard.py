"""Chessboards: their inner corners in a small copy of the image, and the numbering of what is found.

An inner corner is a saddle of brightness: two dark and two bright squares meet. Saddles are found in some milliseconds,
with a board in view or without, and `detection_grid` makes the board of them. OpenCV's own search takes seconds where
something nearly is the board (one that is partly out of view): it is asked only for images that can wait.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import Board
from edge_vision.calibration.detection_grid import find_grid
from edge_vision.calibration.detection_lattice import right_handed, upright

_FLAGS = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_FAST_CHECK
_SEARCH_SIDES = (640, 320, 1280)  # px, the longer side of the copies that are searched: usual, smeared, far boards

_RING = 3.0  # px of a copy, the radius around a saddle where dark and bright are looked at
_ANGLES = np.arange(16) * (2 * np.pi / 16)
_LEAST_RING = 3.0  # grey levels, root mean square around the ring: a sixth of the least contrast that is accepted
_LEAST_RATIO = 0.03  # of a saddle's two curvatures: 72 degrees of tilt along a diagonal leave 0.1
_MOST_SADDLES = 600
_OUTWARDS = np.array([0.5, 1.05, 1.1, 1.15, 1.2, 1.25])  # squares: the middle of an outer square, and around the board
_FEWEST_AROUND = 4  # dark outer squares that must be in the image to tell whether the board is inverted
_STRONGEST, _FAINT = 40, 0.02  # of so many strongest saddles' median: contrast enters squared, so a seventh of theirs


def find_chessboard(gray: NDArray[np.uint8], board: Board, *, thorough: bool) -> NDArray[np.float64] | None:
    """(rows, columns, 2) px of the image, right to about a pixel of the copy that was searched; None: not in view.

    ``thorough`` asks OpenCV too, goes on to the full size and to its sector-based detector (slow, but
    finds blurred and small boards).
    """
    pattern = (board.columns, board.rows)
    for small, scale in copies(gray, (*_SEARCH_SIDES, max(gray.shape)) if thorough else _SEARCH_SIDES):
        corners = saddles(small)
        places = find_grid(corners, board)
        if places is not None and (grid := _ordered(gray, corners[places.ravel()], board, scale)) is not None:
            return grid
        if thorough:
            found, seen = cv2.findChessboardCorners(small, pattern, flags=_FLAGS)
            if found and (grid := _ordered(gray, seen, board, scale)) is not None:
                return grid
    if thorough:
        small, scale = copies(gray, (1920,))[0]
        found, seen = cv2.findChessboardCornersSB(small, pattern, flags=cv2.CALIB_CB_NORMALIZE_IMAGE)
        if found:
            return _ordered(gray, seen, board, scale)
    return None


def saddles(gray: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N, 2) px: where two dark and two bright fields meet, to some tenths of a pixel; at most the 600 sharpest."""
    smooth = np.asarray(cv2.GaussianBlur(gray.astype(np.float32), (0, 0), 1.0), np.float32)
    xx, yy, xy = (cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3) for order in ((2, 0), (0, 2), (1, 1)))
    strength = np.asarray(cv2.subtract(cv2.multiply(xy, xy), cv2.multiply(xx, yy)))
    around = np.asarray(cv2.dilate(strength, np.ones((5, 5), np.uint8)))
    peak = ((strength >= around) & (strength > 4 * _LEAST_RING**2)).view(np.uint8)
    margin = int(_RING) + 1
    inner = cv2.findNonZero(np.ascontiguousarray(peak[margin:-margin, margin:-margin]))
    if inner is None:
        return np.zeros((0, 2))
    x, y = inner.reshape(-1, 2).T + margin
    if len(x) > _MOST_SADDLES:
        chosen = np.argpartition(-strength[y, x], _MOST_SADDLES)[:_MOST_SADDLES]
        y, x = y[chosen], x[chosen]
    a, b, c = (part[y, x].astype(np.float64) / 4 for part in (xx, xy, yy))
    # Newton's step to where the slope is zero. (Sobel's second derivatives are four times those of one pixel.)
    gx = (smooth[y, x + 1].astype(np.float64) - smooth[y, x - 1]) / 2
    gy = (smooth[y + 1, x].astype(np.float64) - smooth[y - 1, x]) / 2
    determinant = np.minimum(a * c - b * b, -1e-9)
    where = np.column_stack(
        [
            x - np.clip((c * gx - b * gy) / determinant, -1, 1),
            y - np.clip((a * gy - b * gx) / determinant, -1, 1),
        ]
    )
    middle, spread = (a + c) / 2, np.hypot((a - c) / 2, b)
    curved = (spread - np.abs(middle)) / np.maximum(spread + np.abs(middle), 1e-9) > _LEAST_RATIO
    where, sharp = where[curved], strength[y, x][curved]
    crossing = is_crossing(smooth, where, _RING)
    where, sharp = where[crossing], sharp[crossing]
    if not len(where):
        return where
    # Of paper and of JPEG there are faint ones everywhere: next to those of a board they would only mislead.
    strongest = np.sort(sharp)[-_STRONGEST:]
    return where[sharp > _FAINT * np.median(strongest)]


def is_crossing(smooth: NDArray[Any], where: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
    """(N,) True where brightness ``radius`` px around a point is alike on opposite sides, and changes four times."""
    if not len(where):
        return np.zeros(0, bool)
    x = (where[:, :1] + radius * np.cos(_ANGLES)).astype(np.float32)
    y = (where[:, 1:] + radius * np.sin(_ANGLES)).astype(np.float32)
    ring = cv2.remap(smooth, x, y, cv2.INTER_LINEAR).astype(np.float64)
    powers = np.abs(np.fft.rfft(ring, axis=1)[:, 1:]) ** 2  # of 1, 2, ... changes there and back
    total = powers.sum(1)
    even = powers[:, 1::2].sum(1)
    loud = np.sqrt(2 * total) / len(_ANGLES) > _LEAST_RING
    crossing: NDArray[np.bool_] = loud & (even > 0.7 * total) & (powers[:, 1] > 0.4 * total)
    return crossing


def copies(gray: NDArray[np.uint8], longest: tuple[int, ...]) -> list[tuple[NDArray[np.uint8], int]]:
    """Smaller copies of an image, about as long as asked, each size once, and how many pixels a side one of theirs is.

    Whole numbers, which OpenCV averages several times as fast as fractions.
    """
    height, width = gray.shape
    factors = dict.fromkeys(max(1, round(max(width, height) / side)) for side in longest)
    return [(_smaller(gray, factor), factor) for factor in factors]


def _smaller(gray: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    if factor == 1:
        return gray
    rows, columns = (side // factor for side in gray.shape)
    whole = gray[: rows * factor, : columns * factor]
    return cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def to_full(corners: Any, factor: int) -> NDArray[np.float64]:
    """(N, 2) pixels of a copy in the image: a copy's pixel is ``factor`` of the image's, centres at whole numbers."""
    return (np.asarray(corners, np.float64).reshape(-1, 2) + 0.5) * factor - 0.5


def other_size(gray: NDArray[np.uint8]) -> tuple[int, int] | None:
    """(columns, rows) of inner corners of any chessboard in view, for the message that the size given is wrong."""
    small, _ = copies(gray, (960,))[0]
    flags = cv2.CALIB_CB_LARGER | cv2.CALIB_CB_NORMALIZE_IMAGE
    found, _, meta = cv2.findChessboardCornersSBWithMeta(small, (3, 3), flags)
    if not found or meta is None:
        return None
    rows, columns = meta.shape[:2]
    return (int(max(columns, rows)), int(min(columns, rows)))


def _ordered(gray: NDArray[np.uint8], corners: Any, board: Board, scale: int) -> NDArray[np.float64] | None:
    """Numbered as `Board.points`: the square between the first four corners is dark. None: no dark and white squares,
    or dark all around, as where dark and white are exchanged."""
    grid = right_handed(to_full(corners, scale).reshape(board.rows, board.columns, 2))
    middles = (grid[:-1, :-1] + grid[1:, :-1] + grid[:-1, 1:] + grid[1:, 1:]) / 4
    levels = _levels(gray, middles)
    if not _is_checkered(levels) or _is_dark_around(gray, grid, levels):
        return None
    dark = [_first_is_dark(np.rot90(levels, k)) for k in range(4)]
    return upright(grid, np.array(dark))


def _levels(gray: NDArray[np.uint8], where: NDArray[np.float64]) -> NDArray[np.float64]:
    """(...,) grey levels at (..., 2) px."""
    x, y = np.moveaxis(where.reshape(-1, 1, 2), -1, 0).astype(np.float32)
    seen = cv2.remap(gray, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return seen.reshape(where.shape[:-1]).astype(np.float64)


def _is_checkered(levels: NDArray[np.float64]) -> bool:
    """Whether squares (rows, columns) are in turn darker and brighter than those beside them, but for a few (glare)."""
    parity = np.indices(levels.shape).sum(0) % 2 * 2 - 1
    down, across = np.diff(levels, axis=0) * parity[1:], np.diff(levels, axis=1) * parity[:, 1:]
    steps = np.concatenate([down.ravel(), across.ravel()])
    return bool(max((steps > 0).mean(), (steps < 0).mean()) >= 0.9)


def _is_dark_around(gray: NDArray[np.uint8], grid: NDArray[np.float64], levels: NDArray[np.float64]) -> bool:
    """Whether the outer dark squares go on into what is around the board: dark and white are exchanged.

    On white paper, be the margin as narrow as a tenth of a square, they end at something bright.
    """
    height, width = gray.shape
    beside = []
    for edge, inner in ((grid[0], grid[1]), (grid[-1], grid[-2]), (grid[:, 0], grid[:, 1]), (grid[:, -1], grid[:, -2])):
        along, out = (edge[1:] + edge[:-1]) / 2, (edge - inner)[1:] / 2 + (edge - inner)[:-1] / 2
        beside.append(along[:, None] + out[:, None] * _OUTWARDS[:, None])
    outer = np.concatenate(beside)
    outer = outer[((outer >= 0) & (outer <= [width - 1, height - 1])).all((1, 2))]
    seen, middle = _levels(gray, outer), (levels.min() + levels.max()) / 2
    seen = seen[seen[:, 0] < middle]
    return len(seen) >= _FEWEST_AROUND and bool((seen[:, 1:].max(1) > middle).mean() < 0.3)


def _first_is_dark(levels: NDArray[np.float64]) -> bool:
    """Of the squares' brightness (rows, columns): whether those like the first are the dark ones."""
    odd = np.indices(levels.shape).sum(0) % 2 == 1
    return bool(levels[~odd].mean() < levels[odd].mean())
