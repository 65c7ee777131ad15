"""Chessboards: the search in a small copy of the image, and the numbering of what it finds."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import Board
from edge_vision.calibration.detection_lattice import right_handed, turned, upright

_FLAGS = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_FAST_CHECK
_SEARCH_SIDES = (640, 1280)  # px, the longer side of the copies that are searched, one after the other


def find_chessboard(gray: NDArray[np.uint8], board: Board, *, thorough: bool) -> NDArray[np.float64] | None:
    """(rows, columns, 2) px of the image, right to about a pixel of the copy that was searched; None: not in view.

    ``thorough`` goes on to the full size and to the sector-based detector (slow, but finds blurred and small boards).
    """
    pattern = (board.columns, board.rows)
    for small, scale in copies(gray, (*_SEARCH_SIDES, max(gray.shape)) if thorough else _SEARCH_SIDES):
        found, corners = cv2.findChessboardCorners(small, pattern, flags=_FLAGS)
        if found:
            return _ordered(gray, corners, board, scale)
    if thorough:
        small, scale = copies(gray, (1920,))[0]
        found, corners = cv2.findChessboardCornersSB(small, pattern, flags=cv2.CALIB_CB_NORMALIZE_IMAGE)
        if found:
            return _ordered(gray, corners, board, scale)
    return None


def copies(gray: NDArray[np.uint8], longest: tuple[int, ...]) -> list[tuple[NDArray[np.uint8], NDArray[np.float64]]]:
    """Smaller copies of an image, each size once, and the (2,) px of the image that a pixel of the copy is."""
    height, width = gray.shape
    made: dict[tuple[int, int], NDArray[np.uint8]] = {}
    for side in longest:
        ratio = min(1.0, side / max(width, height))
        size = (round(width * ratio), round(height * ratio))
        if size not in made:
            made[size] = gray if ratio == 1 else cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return [(small, np.array([width / size[0], height / size[1]])) for size, small in made.items()]


def to_full(corners: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels of a copy in the image: a copy's pixel covers ``scale`` of the image's, centres at whole numbers."""
    return (np.asarray(corners, np.float64).reshape(-1, 2) + 0.5) * scale - 0.5


def other_size(gray: NDArray[np.uint8]) -> tuple[int, int] | None:
    """(columns, rows) of inner corners of any chessboard in view, for the message that the size given is wrong."""
    small, _ = copies(gray, (960,))[0]
    flags = cv2.CALIB_CB_LARGER | cv2.CALIB_CB_NORMALIZE_IMAGE
    found, _, meta = cv2.findChessboardCornersSBWithMeta(small, (3, 3), flags)
    if not found or meta is None:
        return None
    rows, columns = meta.shape[:2]
    return (int(max(columns, rows)), int(min(columns, rows)))


def _ordered(
    gray: NDArray[np.uint8], corners: NDArray[np.float64], board: Board, scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Numbered as `Board.points`: the square between the first four corners is dark."""
    grid = right_handed(to_full(corners, scale).reshape(board.rows, board.columns, 2))
    dark = [_first_is_dark(gray, turned(grid, k)) for k in range(4)]
    return upright(grid, np.array(dark))


def _first_is_dark(gray: NDArray[np.uint8], grid: NDArray[np.float64]) -> bool:
    middles = (grid[:-1, :-1] + grid[1:, :-1] + grid[:-1, 1:] + grid[1:, 1:]) / 4
    x, y = np.moveaxis(middles, -1, 0).astype(np.float32)
    levels = cv2.remap(gray, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float64)
    odd = np.indices(levels.shape).sum(0) % 2 == 1
    return bool(levels[~odd].mean() < levels[odd].mean())
