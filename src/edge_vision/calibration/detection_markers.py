"""ChArUco boards and AprilGrids: markers say which part of the board is in view, and where its corners are about."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import DICTIONARIES, Board
from edge_vision.calibration.detection_chessboard import copies, to_full
from edge_vision.calibration.detection_lattice import lattice
from edge_vision.calibration.detection_settling import homographies_at_origin
from edge_vision.calibration.opencv_aruco import find_markers, knows, marker_cells

_SEARCH_SIDES = (1024, 2048)
_INVERTED_SIDE = 640
_LEAST_CELL = 1.9  # px of a copy: of the smallest marker that is looked for, a side of one of its cells
_FINE, _COARSE = (3,), (13,)  # windows of the threshold, px of a copy
_NEAREST = 4  # markers that place a corner together
_ALONG = np.linspace(0.2, 0.8, 7)  # where a tag's side is looked at: away from the squares at its corners
_ACROSS = np.linspace(-1.0, 1.0, 17)


def find_marked(
    gray: NDArray[np.uint8], board: Board, *, thorough: bool
) -> tuple[NDArray[np.int64], NDArray[np.float64], bool]:
    """(N,) ids ascending, (N, 2) px of the image, right to a pixel or two; whether the markers are inverted."""
    sides = (*_SEARCH_SIDES, max(gray.shape)) if thorough else _SEARCH_SIDES
    best: tuple[NDArray[np.int64], NDArray[np.float64], bool] = (np.zeros(0, np.int64), np.zeros((0, 4, 2)), False)
    for small, scale in copies(gray, sides):
        numbers, corners = _board_markers(small, board)
        if len(numbers) > len(best[0]):
            best = numbers, to_full(corners, scale).reshape(-1, 4, 2), False
        if len(numbers) >= min(6, max(1, len(_markers(board)) // 4)):
            break
    if not len(best[0]):
        small, scale = copies(gray, (_INVERTED_SIDE,))[0]
        numbers, corners = _named(board, *_found(255 - small, board, (13,)))
        best = numbers, to_full(corners, scale).reshape(-1, 4, 2), True
    numbers, corners, inverted = best
    if len(numbers) == 0:
        return np.zeros(0, np.int64), np.zeros((0, 2)), inverted
    if board.kind == "aprilgrid":
        corners = _between_sides(gray, corners, lattice(board).reach)
    ids, pixels = _placed(board, numbers, corners)
    if board.kind == "aprilgrid":  # a tag's own corners only: those of its neighbour may be covered
        own = np.isin(ids, _tag_points(board)[numbers])
        ids, pixels = ids[own], pixels[own]
    return ids, pixels, inverted


def _between_sides(gray: NDArray[np.uint8], corners: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """(N, 4, 2) tags' corners as the intersections of lines through their sides.

    The outline of a tag of an AprilGrid runs into the squares that touch its corners, and leaves its corners by some
    pixels; its sides do not. Along each, the step from white to black is looked for up to ``reach`` of its length away.
    """
    fit = np.linalg.pinv(np.column_stack([np.ones_like(_ALONG), _ALONG]))
    for _ in range(2):
        side = np.roll(corners, -1, 1) - corners
        length = np.linalg.norm(side, axis=2, keepdims=True)
        normal = side[..., ::-1] * [1, -1] / length  # (N, 4, 2)
        far = np.minimum(reach * length[..., 0], 8.0)
        points = corners[:, :, None] + side[:, :, None] * _ALONG[:, None]
        samples = points[:, :, :, None] + normal[:, :, None, None] * (far[..., None, None] * _ACROSS)[..., None]
        where = samples.astype(np.float32).reshape(-1, len(_ALONG) * len(_ACROSS), 2)
        levels = cv2.remap(gray, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        profile = levels.reshape(*far.shape, len(_ALONG), len(_ACROSS)).astype(np.float64)
        first, last = profile[..., :3].mean(-1, keepdims=True), profile[..., -3:].mean(-1, keepdims=True)
        clear = np.abs(last - first) > 10
        share = np.clip((profile - first) / np.where(clear, last - first, 1), 0, 1).mean(-1)
        # A step at t of -far to far leaves (far - t) / (2 far) of the profile behind it.
        offset = np.where(clear[..., 0], far[..., None] * (1 - 2 * share), 0.0)
        line = offset @ fit.T  # (N, 4, 2): at the side's begin, and its growth to the end
        begin = corners + normal * line[..., :1]
        course = side + normal * line[..., 1:]
        corners = _crossing(np.roll(begin, 1, 1), np.roll(course, 1, 1), begin, course)
    return corners


def _crossing(
    a: NDArray[np.float64], u: NDArray[np.float64], b: NDArray[np.float64], v: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Where the lines a + s u and b + t v cross, (..., 2)."""
    cross = u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]
    cross = np.where(np.abs(cross) < 1e-9, 1e-9, cross)
    along = ((b - a)[..., 0] * v[..., 1] - (b - a)[..., 1] * v[..., 0]) / cross
    return a + along[..., None] * u


def other_dictionary(gray: NDArray[np.uint8], board: Board) -> str | None:
    """A dictionary of which more markers are in view than of the board's, for the message that says so.

    Of dictionaries that begin alike (4X4_50, 4X4_100, ...) the smallest that has all that are in view.
    """
    small, _ = copies(gray, (1024,))[0]
    counts = {}
    for name in filter(knows, DICTIONARIES):
        if name.endswith("_250") or name.startswith(("DICT_APRILTAG_36h11", "DICT_ARUCO")):
            numbers, _ = find_markers(small, name, board.border, windows=(3, 13))
            smaller = name.replace("_250", "_50")
            least = smaller if len(numbers) and numbers.max() < 50 and smaller in DICTIONARIES else name
            counts[least] = len(numbers)
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] >= 3 and best != board.dictionary else None


def _board_markers(gray: NDArray[np.uint8], board: Board) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The board's markers: (N,) number from the first, (N, 4, 2) corners as the print shows them from its top left.

    First with the finest threshold, which alone finds nearly all of a sharp board and takes a third of the time of all
    three; then, where markers that should be in view are missing, in the board's part of the image with a coarser one;
    with all where it found hardly any.
    """
    first = _found(gray, board, _FINE)
    numbers, corners = _named(board, *first)
    part = _missing(gray, board, numbers, corners)
    if part is None:
        return numbers, corners
    x0, y0, x1, y1 = part
    windows = _COARSE if len(numbers) >= _NEAREST else (13, 23)
    # Of one board: the bits in its markers are smaller than half of its other markers.
    side = np.hypot(*(corners - np.roll(corners, 1, 1)).reshape(-1, 2).T)
    least = 0.5 * float(np.median(side)) if len(numbers) >= _NEAREST else 0.0
    more = _found(np.ascontiguousarray(gray[y0:y1, x0:x1]), board, windows, least)
    new = ~np.isin(more[0], numbers)
    return _named(board, np.append(first[0], more[0][new]), np.concatenate([first[1], more[1][new] + [x0, y0]]))


def _found(
    gray: NDArray[np.uint8], board: Board, windows: tuple[int, ...], least: float = 0.0
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    least = max(least, _LEAST_CELL * marker_cells(board.dictionary, board.first_marker, board.border).shape[0])
    return find_markers(gray, board.dictionary, board.border, board.first_marker, len(_markers(board)), windows, least)


@lru_cache(maxsize=16)
def _markers(board: Board) -> NDArray[np.float64]:
    """`Board.markers`, made once."""
    return board.markers


def _named(
    board: Board, numbers: NDArray[np.int64], corners: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Without markers that were seen twice or lie where they cannot; ascending, corners from the print's top left."""
    unique, places, counts = np.unique(numbers, return_index=True, return_counts=True)
    single, corners = unique[counts == 1], corners[places[counts == 1]]
    if board.kind == "aprilgrid":  # AprilTag's drawing is OpenCV's turned by half a turn
        corners = corners[:, [2, 3, 0, 1]]
    kept = _consistent(board, single, corners)
    return single[kept], corners[kept]


def _missing(
    gray: NDArray[np.uint8], board: Board, numbers: NDArray[np.int64], corners: NDArray[np.float64]
) -> tuple[int, int, int, int] | None:
    """(left, top, right, bottom) of the part of the image in which markers should be without which corners lack.

    By a homography through the markers that were found; the whole image where they are too few for one. None: nothing
    lacks. The corners of a ChArUco board touch two markers, of which one is enough.
    """
    height, width = gray.shape
    if len(numbers) < _NEAREST:
        return 0, 0, width, height
    H, _ = cv2.findHomography(_markers(board)[numbers, :, :2].reshape(-1, 2), corners.reshape(-1, 2), 0)
    order, distance = _by_distance(board)
    near = np.less_equal(distance, _farthest(board))
    touched = np.logical_and(near, np.isin(order, numbers)).any(1)
    others = np.unique(order[~touched][near[~touched]])
    if H is None or not len(others):
        return None
    plane = np.concatenate([_markers(board)[others, :, :2], np.ones((len(others), 4, 1))], 2)
    seen = plane @ H.T
    ahead = (seen[..., 2] * np.sign(H[2, 2]) > 1e-9).all(1)
    expected = seen[ahead, :, :2] / seen[ahead, :, 2:]
    inside = ((expected > 1) & (expected < [width - 2, height - 2])).all((1, 2))
    if not inside.any():
        return None
    # The board's part, not each marker's: a homography is wrong by some pixels where a lens bends.
    margin = 1.5 * float(np.hypot(*(expected[inside, 0] - expected[inside, 2]).T).max())
    low = np.maximum(expected[inside].min((0, 1)) - margin, 0).astype(int)
    high = np.minimum(expected[inside].max((0, 1)) + margin, [width, height]).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _consistent(board: Board, numbers: NDArray[np.int64], corners: NDArray[np.float64]) -> NDArray[np.bool_]:
    """True for markers that lie, as a whole, where the others say; a misread one elsewhere is left out.

    Compared with a homography through all of them, wide enough for a lens's distortion: half a board step, and a tenth
    of the markers' spread in the image.
    """
    if len(numbers) < 4:
        return np.ones(len(numbers), bool)
    plane = _markers(board)[numbers, :, :2].mean(1)
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
    """For each point: (M, markers) the markers from the nearest on, and the distances of their middles."""
    middles = _markers(board)[:, :, :2].mean(1)
    distance = np.linalg.norm(board.points[:, None, :2] - middles[None], axis=2)
    order = np.argsort(distance, 1, kind="stable")
    return order, np.take_along_axis(distance, order, 1)


def _farthest(board: Board) -> float:
    """m, from a point to the middles of the markers it touches: of the middle of its square it is 0.71 squares away."""
    return 0.75 * (board.spacing if board.kind == "charuco" else board.marker)


def _placed(
    board: Board, numbers: NDArray[np.int64], corners: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The points that touch a found marker, or its square; where the nearest four markers place them.

    By a homography through their 4 to 16 corners: so near, a lens's distortion matters little.
    """
    row = np.full(len(_markers(board)), -1)
    row[numbers] = np.arange(len(numbers))
    order, distance = _by_distance(board)
    there = row[order] >= 0
    ids = np.flatnonzero(np.where(there, distance, np.inf).min(1) <= _farthest(board))
    # The found ones first, each group still from the nearest on.
    nearest = np.take_along_axis(order[ids], np.argsort(~there[ids], 1, kind="stable")[:, :_NEAREST], 1)
    used = np.repeat(row[nearest] >= 0, 4, 1).astype(np.float64)
    source = (_markers(board)[nearest][..., :2] - board.points[ids, None, None, :2]) / board.spacing
    target = corners[row[nearest]].reshape(len(ids), -1, 2)
    return ids, homographies_at_origin(source.reshape(len(ids), -1, 2), target, used)
