"""ChArUco boards and AprilGrids: markers say which part of the board is in view, and where its corners are about."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import DICTIONARIES, Board
from edge_vision.calibration.detection_chessboard import copies, to_full
from edge_vision.calibration.opencv_aruco import find_markers

_SEARCH_SIDES = (1024, 2048)
_NEAREST = 4  # markers that place a corner together


def find_marked(
    gray: NDArray[np.uint8], board: Board, *, thorough: bool
) -> tuple[NDArray[np.int64], NDArray[np.float64], bool]:
    """(N,) ids ascending, (N, 2) px of the image, right to a pixel or two; whether the markers are inverted."""
    sides = (*_SEARCH_SIDES, max(gray.shape)) if thorough else _SEARCH_SIDES
    best: tuple[NDArray[np.int64], NDArray[np.float64], bool] = (np.zeros(0, np.int64), np.zeros((0, 4, 2)), False)
    for small, scale in copies(gray, sides):
        numbers, corners, inverted = _board_markers(small, board)
        if len(numbers) > len(best[0]):
            best = numbers, to_full(corners, scale).reshape(-1, 4, 2), inverted
        if len(numbers) >= min(6, max(1, len(board.markers) // 4)):
            break
    numbers, corners, inverted = best
    if len(numbers) == 0:
        return np.zeros(0, np.int64), np.zeros((0, 2)), inverted
    if board.kind == "aprilgrid":
        ids = _tag_points(board)[numbers]
        order = np.argsort(ids.ravel())
        return ids.ravel()[order], corners.reshape(-1, 2)[order], inverted
    ids, pixels = _square_corners(board, numbers, corners)
    return ids, pixels, inverted


def other_dictionary(gray: NDArray[np.uint8], board: Board) -> str | None:
    """A dictionary of which more markers are in view than of the board's, for the message that says so."""
    small, _ = copies(gray, (1024,))[0]
    counts = {}
    for name in DICTIONARIES:
        if name.endswith(("_50", "_250")) or name.startswith(("DICT_APRILTAG_36h11", "DICT_ARUCO")):
            counts[name] = len(find_markers(small, name, board.border)[0])
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] >= 3 and best != board.dictionary else None


def _board_markers(gray: NDArray[np.uint8], board: Board) -> tuple[NDArray[np.int64], NDArray[np.float64], bool]:
    """The board's markers: (N,) number from the first, (N, 4, 2) corners as the print shows them from its top left."""
    ids, corners, inverted = find_markers(gray, board.dictionary, board.border)
    numbers = ids - board.first_marker
    unique, counts = np.unique(numbers, return_counts=True)
    single = unique[(counts == 1) & (unique >= 0) & (unique < len(board.markers))]
    places = np.array([int(np.flatnonzero(numbers == number)[0]) for number in single], np.int64)
    corners = corners[places]
    if board.kind == "aprilgrid":  # AprilTag's drawing is OpenCV's turned by half a turn
        corners = corners[:, [2, 3, 0, 1]]
    kept = _consistent(board, single, corners)
    return single[kept], corners[kept], inverted


def _consistent(board: Board, numbers: NDArray[np.int64], corners: NDArray[np.float64]) -> NDArray[np.bool_]:
    """True for markers that lie, as a whole, where the others say; a misread one elsewhere is left out.

    Compared with a homography through all of them, wide enough for a lens's distortion: half a board step, and a tenth
    of the markers' spread in the image.
    """
    if len(numbers) < 4:
        return np.ones(len(numbers), bool)
    plane = board.markers[numbers, :, :2].mean(1)
    middles = corners.mean(1)
    sides = np.hypot(*(corners - np.roll(corners, 1, 1)).reshape(-1, 2).T).reshape(-1, 4).mean(1)
    allowed = float(np.median(sides)) + 0.1 * float(np.ptp(middles, 0).max())
    H, inside = cv2.findHomography(plane, middles, cv2.RANSAC, allowed)
    return np.ones(len(numbers), bool) if H is None else inside.ravel() > 0


@lru_cache(maxsize=16)
def _tag_points(board: Board) -> NDArray[np.int64]:
    """(tags, 4) ids of a tag's corners, clockwise from the top left of the print; rows count from the bottom."""
    row, column = (grid.ravel() for grid in np.indices((board.rows, board.columns)))
    across = board.point_columns
    low = 2 * row * across + 2 * column
    return np.column_stack([low + across, low + across + 1, low + 1, low])


@lru_cache(maxsize=16)
def _by_distance(board: Board) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each point of a charuco board: (M, markers) the markers from the nearest on, and their distances."""
    middles = board.markers[:, :, :2].mean(1)
    distance = np.linalg.norm(board.points[:, None, :2] - middles[None], axis=2)
    order = np.argsort(distance, 1, kind="stable")
    return order, np.take_along_axis(distance, order, 1)


def _square_corners(
    board: Board, numbers: NDArray[np.int64], corners: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The chess corners that touch a square whose marker was found, by the homography of the nearest markers."""
    row = np.full(len(board.markers), -1)
    row[numbers] = np.arange(len(numbers))
    order, distance = _by_distance(board)
    plane = board.markers[:, :, :2]
    ids, pixels = [], []
    for point in range(len(order)):
        found = row[order[point]] >= 0
        nearest, far = order[point][found][:_NEAREST], distance[point][found]
        if len(nearest) == 0 or far[0] > 0.75 * board.spacing:  # the middle of a square that it touches is 0.71 away
            continue
        here = board.points[point, :2]
        source = (plane[nearest].reshape(-1, 2) - here) / board.spacing
        H, _ = cv2.findHomography(source, corners[row[nearest]].reshape(-1, 2), 0)
        if H is None or abs(H[2, 2]) < 1e-9:
            continue
        ids.append(point)
        pixels.append(H[:2, 2] / H[2, 2])
    return np.array(ids, np.int64), np.array(pixels, np.float64).reshape(-1, 2)
