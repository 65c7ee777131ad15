"""Chessboards: the search in a small copy of the image, and the numbering of what it finds."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import Board
from edge_vision.calibration.detection_lattice import right_handed, upright

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


def _ordered(gray: NDArray[np.uint8], corners: Any, board: Board, scale: int) -> NDArray[np.float64]:
    """Numbered as `Board.points`: the square between the first four corners is dark."""
    grid = right_handed(to_full(corners, scale).reshape(board.rows, board.columns, 2))
    dark = [_first_is_dark(gray, np.rot90(grid, k)) for k in range(4)]
    return upright(grid, np.array(dark))


def _first_is_dark(gray: NDArray[np.uint8], grid: NDArray[np.float64]) -> bool:
    middles = (grid[:-1, :-1] + grid[1:, :-1] + grid[:-1, 1:] + grid[1:, 1:]) / 4
    x, y = np.moveaxis(middles, -1, 0).astype(np.float32)
    levels = cv2.remap(gray, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float64)
    odd = np.indices(levels.shape).sum(0) % 2 == 1
    return bool(levels[~odd].mean() < levels[odd].mean())
