"""Which points of a board are neighbours, and what follows for a view: spacing, tilt, order, misplaced corners."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import Board

_BITS = {"DICT_APRILTAG_16h5": 4, "DICT_APRILTAG_25h9": 5, "DICT_ARUCO_ORIGINAL": 5} | {
    f"DICT_{n}X{n}_{count}": n for n in (4, 5, 7) for count in (50, 100, 250, 1000)
}  # cells a side of a marker, without its border, where they are not 6


class Lattice(NamedTuple):
    """Neighbours on a board, as rows of point ids."""

    pairs: NDArray[np.int64]
    """(P, 2) nearest neighbours"""
    edges: NDArray[np.int64]
    """(E, 2) pairs that an edge from black to white joins; none on circles"""
    triples: NDArray[np.int64]
    """(T, 3) three on a line with equal distances, the second in the middle"""
    reach: float
    """how far from the middle of an edge nothing else is, as a share of its length"""
    window: float
    """half window of the refinement, as a share of the least spacing of neighbours"""


@lru_cache(maxsize=16)
def lattice(board: Board) -> Lattice:
    ids = np.arange(board.point_rows * board.point_columns).reshape(board.point_rows, board.point_columns)

    def along(first: NDArray[np.int64], *others: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.column_stack([part.ravel() for part in (first, *others)])

    across, down = along(ids[:, :-1], ids[:, 1:]), along(ids[:-1], ids[1:])
    lines = np.vstack([along(ids[:, :-2], ids[:, 1:-1], ids[:, 2:]), along(ids[:-2], ids[1:-1], ids[2:])])
    square = np.vstack([across, down])
    none = np.zeros((0, 2), np.int64)
    if board.kind == "aprilgrid":  # edges are the sides of tags; lines of equal steps go from tag to tag
        sides = np.vstack([along(ids[:, 0::2], ids[:, 1::2]), along(ids[0::2], ids[1::2])])
        steps = np.vstack([along(ids[:, :-4], ids[:, 2:-2], ids[:, 4:]), along(ids[:-4], ids[2:-2], ids[4:])])
        cell = board.marker / (_BITS.get(board.dictionary, 6) + 2 * board.border)
        gap, black = board.spacing - board.marker, board.border * cell
        # The next corner is a whole gap away, not half a square: 0.4 of it halves the error of 0.25.
        return Lattice(square, sides, steps, 0.8 * min(gap, black) / board.marker, min(0.4, 0.7 * black / gap))
    if board.kind == "charuco":
        free = (board.spacing - board.marker) / 2 / board.spacing
        return Lattice(square, square, lines, 0.8 * free, min(0.25, 0.7 * free))
    if board.kind == "acircles":
        shifted = [along(ids[0:-1:2], ids[1::2]), along(ids[1:-1:2, :], ids[2::2, :])]
        shifted += [along(ids[0:-1:2, 1:], ids[1::2, :-1]), along(ids[1:-1:2, :-1], ids[2::2, 1:])]
        rows = np.vstack([along(ids[:, :-2], ids[:, 1:-1], ids[:, 2:]), along(ids[:-4], ids[2:-2], ids[4:])])
        return Lattice(np.vstack([part for part in shifted if len(part)]), none, rows, 0.0, 0.25)
    return Lattice(square, square if board.kind == "chessboard" else none, lines, 0.4, 0.25)


def spread(board: Board, ids: NDArray[np.int64], pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M, 2) all the board's points, NaN where the view lacks one."""
    full = np.full((board.point_rows * board.point_columns, 2), np.nan)
    full[ids] = pixels
    return full


def least_spacing(board: Board, ids: NDArray[np.int64], pixels: NDArray[np.float64]) -> float:
    """px: the least distance of two neighbours; 0 where no two are in view.

    By all neighbours that are in view: of an AprilGrid's tags that stand alone, a side tells the gap to the next.
    """
    a, b = lattice(board).pairs.T
    full = spread(board, ids, pixels)
    length = np.hypot(*(board.points[a, :2] - board.points[b, :2]).T)
    distances = np.hypot(*(full[a] - full[b]).T) * (length.min() / length)
    distances = distances[np.isfinite(distances)]
    return float(distances.min()) if len(distances) else 0.0


def misplaced(board: Board, ids: NDArray[np.int64], pixels: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) True for points farther than a quarter step from the middle of both neighbours of a line.

    A lens and perspective change a step little from one point to the next; a glare or a finger moves one corner.
    """
    first, middle, last = lattice(board).triples.T
    full = spread(board, ids, pixels)
    deviation = np.hypot(*((full[first] + full[last]) / 2 - full[middle]).T)
    step = np.hypot(*(full[last] - full[first]).T) / 2
    wrong = np.zeros(len(full), bool)
    wrong[middle[deviation > 0.25 * step]] = True
    return wrong[ids]


def tilt(board: Board, ids: NDArray[np.int64], pixels: NDArray[np.float64]) -> float:
    """degrees between the line of sight and the board's normal, by the foreshortening in the middle of the points.

    The cosine of the angle is the ratio of the singular values of the map from board to image there (weak perspective);
    a wide lens adds some degrees near its border.
    """
    plane = board.points[ids, :2]
    centre = plane.mean(0)
    scale = float(np.abs(plane - centre).max()) or 1.0
    H, _ = cv2.findHomography((plane - centre) / scale, pixels, 0)
    if H is None:
        return 0.0
    # d(u/w) at the origin: (H's first columns - u * (last row)) / w
    jacobian = (H[:2, :2] - np.outer(H[:2, 2], H[2, :2]) / H[2, 2]) / H[2, 2]
    longest, shortest = np.linalg.svd(jacobian, compute_uv=False)
    return float(np.degrees(np.arccos(np.clip(shortest / longest, 0, 1)))) if longest > 0 else 0.0


def upright(grid: NDArray[np.float64], same: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """A grid of points (rows, columns, 2) in the order that a board's ids have, from a detector's any order.

    The grid is `right_handed`. Of its turns by 0, 90, 180 and 270 degrees that have its shape, and for which ``same``
    is set where it is given, the one whose top is most up.
    """
    turns = [np.rot90(grid, k) for k in range(4)]
    allowed = [
        candidate for k, candidate in enumerate(turns) if candidate.shape == grid.shape and (same is None or same[k])
    ] or [grid]
    return max(allowed, key=lambda candidate: float((candidate[:, -1] - candidate[:, 0]).sum(0)[0]))


def right_handed(grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """The grid (rows, columns, 2), its columns reversed where it would be seen from behind."""
    across = (grid[:, -1] - grid[:, 0]).sum(0)
    down = (grid[-1] - grid[0]).sum(0)
    return grid[:, ::-1] if across[0] * down[1] - across[1] * down[0] < 0 else grid
