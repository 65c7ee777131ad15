"""Grids of circles. Their centres are biased: the middle of a circle's image is not the image of its middle."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import Board
from edge_vision.calibration.detection_chessboard import copies, to_full
from edge_vision.calibration.detection_lattice import right_handed, upright

WARNING = "circle centres are biased by tilt and lens, more the nearer they are; a chessboard or charuco board is not"
_SEARCH_SIDES = (800, 1600)


def find_circles(gray: NDArray[np.uint8], board: Board, *, thorough: bool) -> NDArray[np.float64] | None:
    """(rows, columns, 2) px of the image, right to about a pixel of the copy that was searched; None: not in view."""
    flags = cv2.CALIB_CB_ASYMMETRIC_GRID if board.kind == "acircles" else cv2.CALIB_CB_SYMMETRIC_GRID
    sides = (*_SEARCH_SIDES, max(gray.shape)) if thorough else _SEARCH_SIDES
    for small, scale in copies(gray, sides):
        for more in (0, cv2.CALIB_CB_CLUSTERING) if thorough else (0,):
            found, centres = cv2.findCirclesGrid(small, (board.columns, board.rows), flags=flags | more)
            if found:
                grid = right_handed(to_full(centres, scale).reshape(board.rows, board.columns, 2))
                return _shifted_right(grid) if board.kind == "acircles" else upright(grid)
    return None


def _shifted_right(grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the two half turns, those in which the second row is to the right of the first; if both, the one upright."""
    turns = [grid, grid[::-1, ::-1]]
    across = [(turn[:, -1] - turn[:, 0]).mean(0) for turn in turns]
    right = [
        bool(((turn[1] - turn[0]).mean(0) - _down(turn)) @ step > 0) for turn, step in zip(turns, across, strict=True)
    ]
    allowed = [turn for turn, good in zip(turns, right, strict=True) if good] or turns
    return max(allowed, key=lambda turn: float((turn[:, -1] - turn[:, 0]).sum(0)[0]))


def _down(grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """The step from a row to the next, without the shift of every other one."""
    return (grid[2::2] - grid[:-2:2]).mean((0, 1)) / 2 if len(grid) > 2 else np.zeros(2)


def refine_circles(gray: NDArray[np.uint8], pixels: NDArray[np.float64], spacing: float) -> NDArray[np.float64]:
    """(N, 2) centres of mass of the dark discs, within 0.45 of the least spacing around where they were found."""
    radius = int(max(3, 0.45 * spacing))
    height, width = gray.shape
    refined = pixels.copy()
    for row, (x, y) in enumerate(pixels):
        column0, row0 = round(x) - radius, round(y) - radius
        if column0 < 0 or row0 < 0 or column0 + 2 * radius >= width or row0 + 2 * radius >= height:
            continue
        patch = gray[row0 : row0 + 2 * radius + 1, column0 : column0 + 2 * radius + 1].astype(np.float32)
        dark, bright = np.percentile(patch, (5, 95))
        weight = np.clip((bright - patch) / max(bright - dark, 1.0), 0, 1)
        weight = np.where(weight < 0.15, 0, weight)  # noise of the paper
        parts, labels = cv2.connectedComponents((weight > 0).astype(np.uint8), connectivity=4)
        middle = labels[radius, radius]
        if parts < 2 or middle == 0:
            continue
        moments = cv2.moments(np.where(labels == middle, weight, 0).astype(np.float32))
        if moments["m00"] > 0:
            refined[row] = column0 + moments["m10"] / moments["m00"], row0 + moments["m01"] / moments["m00"]
    return refined
