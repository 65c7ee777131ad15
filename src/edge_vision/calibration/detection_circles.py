"""Grids of circles: dark ellipses in a small copy of the image, of which `detection_grid` makes the board.

Their centres are biased: the middle of a circle's image is not the image of its middle. OpenCV's search thresholds the
image 17 times, and its grids differ with the version; here the image is thresholded once or twice.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import Board
from edge_vision.calibration.detection_chessboard import copies, to_full
from edge_vision.calibration.detection_grid import find_grid
from edge_vision.calibration.detection_lattice import right_handed, upright

WARNING = "circle centres are biased by tilt and lens, more the nearer they are; a chessboard or charuco board is not"
_SEARCH_SIDES = (800, 1600)
_WINDOWS = (0.25, 0.1)  # of the image's shorter side: over which brightness is averaged to tell dark from bright
_DARKER = 10.0  # grey levels than that average
_LEAST_AREA = 9  # px
_MOST_SPOTS = 1500  # more are noise
_ROUND = (0.85, 1.12)  # area over that of the ellipse with the same moments
_LEVELS = np.arange(256.0)
_LONGEST = 5.0  # of an ellipse, by its width: 72 degrees of tilt make 3.2


def find_circles(gray: NDArray[np.uint8], board: Board, *, thorough: bool) -> NDArray[np.float64] | None:
    """(rows, columns, 2) px of the image, right to about a pixel of the copy that was searched; None: not in view.

    ``thorough`` asks OpenCV's search too where no grid of dark ellipses is found.
    """
    sides = (*_SEARCH_SIDES, max(gray.shape)) if thorough else _SEARCH_SIDES
    for number, (small, scale) in enumerate(copies(gray, sides)):
        for share in _WINDOWS[1:] if number else _WINDOWS:  # what is large was seen in the smallest copy
            centres = dark_ellipses(small, share, board.columns * board.rows)
            places = find_grid(centres, board)
            if places is not None:
                return _turned(to_full(centres[places.ravel()], scale), board)
        if thorough and (seen := _asked_of_opencv(small, board)) is not None:
            return _turned(to_full(seen, scale), board)
    return None


def _turned(centres: NDArray[np.float64], board: Board) -> NDArray[np.float64]:
    grid = right_handed(centres.reshape(board.rows, board.columns, 2))
    return _shifted_right(grid) if board.kind == "acircles" else upright(grid)


def _asked_of_opencv(small: NDArray[np.uint8], board: Board) -> NDArray[np.float64] | None:
    flags = cv2.CALIB_CB_ASYMMETRIC_GRID if board.kind == "acircles" else cv2.CALIB_CB_SYMMETRIC_GRID
    for more in (0, cv2.CALIB_CB_CLUSTERING):
        found, centres = cv2.findCirclesGrid(small, (board.columns, board.rows), flags=flags | more)
        if found:
            return np.asarray(centres, np.float64).reshape(-1, 2)
    return None


def dark_ellipses(gray: NDArray[np.uint8], share: float, least: int = 1) -> NDArray[np.float64]:
    """(N, 2) px centres of dark spots of elliptic outline, none at the image's border.

    Dark is what is 10 grey levels under the mean of ``share`` of the image's shorter side around it. None where there
    are fewer spots than ``least``, or thousands of them.
    """
    height, width = gray.shape
    window = int(share * min(gray.shape)) | 1
    dark = cv2.adaptiveThreshold(gray, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY_INV, window, _DARKER)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(dark, connectivity=4, ltype=cv2.CV_32S)
    left, top, wide, high, area = stats.T
    kept = (area >= _LEAST_AREA) & (area > 0.35 * wide * high) & (np.maximum(wide, high) < 0.25 * min(gray.shape))
    kept &= (left > 0) & (top > 0) & (left + wide < width) & (top + high < height)
    kept[0] = False
    if not least <= kept.sum() <= _MOST_SPOTS:
        return np.zeros((0, 2))
    middles = []
    for index in np.flatnonzero(kept).tolist():
        x, y, w, h = left[index], top[index], wide[index], high[index]
        spot = labels[y : y + h, x : x + w] == index
        m = cv2.moments(spot.view(np.uint8), binaryImage=True)
        size = m["m00"]
        a, b, c = m["mu20"] / size + 1 / 12, m["mu11"] / size, m["mu02"] / size + 1 / 12
        spread = np.hypot((a - c) / 2, b)
        longest, shortest = (a + c) / 2 + spread, max((a + c) / 2 - spread, 1e-9)
        fill = size / (4 * np.pi * np.sqrt(longest * shortest))
        if _ROUND[0] < fill < _ROUND[1] and longest < _LONGEST**2 * shortest:
            middles.append((x + m["m10"] / size, y + m["m01"] / size))
    return np.array(middles, np.float64).reshape(-1, 2)


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
        column, line = round(x), round(y)
        column0, row0 = max(column - radius, 0), max(line - radius, 0)
        patch = gray[row0 : line + radius + 1, column0 : column + radius + 1]
        if not (0 <= column < width and 0 <= line < height):
            continue
        low, high = patch.size // 20, patch.size - 1 - patch.size // 20
        ranked = np.partition(patch, (low, high), axis=None)
        dark, bright = float(ranked[low]), float(ranked[high])
        # The weight of each grey level: 1 dark, 0 bright, and 0 for the noise of the paper.
        level = np.clip((bright - _LEVELS) / max(bright - dark, 1.0), 0, 1)
        weight = cv2.LUT(patch, np.where(level < 0.15, 0, level).astype(np.float32))
        parts, labels = cv2.connectedComponents((weight > 0).view(np.uint8), connectivity=4)
        middle = labels[line - row0, column - column0]
        if parts < 2 or middle == 0:
            continue
        if patch.shape != (2 * radius + 1, 2 * radius + 1):  # at the image's border: is the disc whole?
            at_border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
            if (at_border == middle).any():
                continue
        moments = cv2.moments(weight * (labels == middle))
        if moments["m00"] > 0:
            refined[row] = column0 + moments["m10"] / moments["m00"], row0 + moments["m01"] / moments["m00"]
    return refined
