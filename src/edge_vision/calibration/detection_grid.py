"""A board's grid among points that were found in an image: which of them it is, and where each belongs.

From a point with neighbours on both sides in two directions the grid is grown, each next point looked for where the
ones before it say. What was grown has whole-numbered places up to a change of axes that keeps the lattice (a tilted
grid's shortest steps may be its diagonals); the change that makes it the board's is taken.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import Board

Floats = NDArray[np.float64]
Place = tuple[int, int]

_MOST_SEEDS = 12
_NEIGHBOURS = 12  # of a seed that are looked at for its two directions
_OFF = 0.3  # of a step: how far from where it is expected a point may be
_SLANT = 0.4  # sine of the least angle between the two shortest steps of a lattice (60 degrees, with perspective)
_MOST_PLACES = 60  # where a board may lie on what was grown; more: it is some other pattern


def find_grid(points: Floats, board: Board) -> NDArray[np.int64] | None:
    """(rows, columns) which of the points (N, 2) px is which of the board's, right-handed; None: it is not there.

    The board's points must all be among them, and there must be one place only where they fit. Which corner is the
    first is not known: a grid may be turned by what maps the board onto itself.
    """
    wanted = _places(board.kind == "acircles", board.columns, board.rows)
    if len(points) < len(wanted) or min(board.columns, board.rows) < 3:
        return None
    order = np.argsort(np.hypot(*(points - np.median(points, 0)).T), kind="stable")
    used = np.zeros(len(points), bool)
    seeds = 0
    for seed in order.tolist():
        if used[seed]:
            continue
        axes = _axes(points, seed)
        if axes is None:
            continue
        grown = _grow(points, seed, *axes)
        used[list(grown.values())] = True
        if len(grown) >= len(wanted):
            chosen = _fitted(grown, wanted)
            if chosen is not None:
                return chosen.reshape(board.rows, board.columns)
        seeds += len(grown) >= 9 or not seeds % 4
        if seeds >= _MOST_SEEDS:
            break
    return None


@lru_cache(maxsize=16)
def _places(shifted: bool, columns: int, rows: int) -> NDArray[np.int64]:
    """(M, 2) places of a board's points, row by row, on the lattice of its nearest neighbours, right-handed."""
    row, column = np.indices((rows, columns)).reshape(2, -1)
    if not shifted:
        return np.column_stack([column, row])
    x = 2 * column + row % 2
    return np.column_stack([(x + row) // 2, (row - x) // 2])


@lru_cache(maxsize=1)
def _changes() -> NDArray[np.int64]:
    """(K, 2, 2) whole-numbered changes of axes of determinant one, of small steps."""
    entries = np.array(list(product(range(-2, 3), repeat=4)), np.int64).reshape(-1, 2, 2)
    return entries[entries[:, 0, 0] * entries[:, 1, 1] - entries[:, 0, 1] * entries[:, 1, 0] == 1]


def _axes(points: Floats, seed: int) -> tuple[Floats, Floats] | None:
    """The two shortest steps (2,) from a point at which it has neighbours on both sides, right-handed."""
    steps = points - points[seed]
    lengths = np.hypot(*steps.T)
    near = np.argsort(lengths, kind="stable")[1 : _NEIGHBOURS + 1]
    steps, lengths = steps[near], lengths[near]
    opposite = np.hypot(*(steps[:, None] + steps[None]).transpose(2, 0, 1)).min(1) < _OFF * lengths
    steps, lengths = steps[opposite], lengths[opposite]
    if len(steps) < 2:
        return None
    across = steps[0, 0] * steps[:, 1] - steps[0, 1] * steps[:, 0]
    slanted = np.flatnonzero(np.abs(across) > _SLANT * lengths[0] * lengths)
    if not len(slanted):
        return None
    other = slanted[0]
    return steps[0], steps[other] * np.sign(across[other])


def _grow(points: Floats, seed: int, a: Floats, b: Floats) -> dict[Place, int]:
    """Places of points on the lattice that ``seed`` and its two steps begin."""
    grown: dict[Place, int] = {(0, 0): seed}
    at: dict[Place, tuple[float, float]] = {(0, 0): (float(points[seed, 0]), float(points[seed, 1]))}
    taken = {seed}
    steps = {(1, 0): a, (-1, 0): -a, (0, 1): b, (0, -1): -b}
    expected = {move: (at[0, 0][0] + step[0], at[0, 0][1] + step[1], np.hypot(*step)) for move, step in steps.items()}
    while expected:
        where = np.array([value[:2] for value in expected.values()])
        distance = np.hypot(*(where[:, None] - points[None]).transpose(2, 0, 1))
        nearest = distance.argmin(1)
        off = distance[np.arange(len(where)), nearest]
        new = []
        for (place, value), index, far in zip(expected.items(), nearest.tolist(), off.tolist(), strict=True):
            if far < _OFF * value[2] and index not in taken:
                taken.add(index)
                grown[place] = index
                at[place] = (float(points[index, 0]), float(points[index, 1]))
                new.append(place)
        expected = {}
        for i, j in new:  # also of the neighbours of what is new: more is known of their steps now
            for k, m in ((i, j), (i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
                if (k, m) in at:
                    _expect(at, k, m, expected)
    return grown


def _expect(
    at: dict[Place, tuple[float, float]], i: int, j: int, expected: dict[Place, tuple[float, float, float]]
) -> None:
    """Where the free neighbours of a point should be: as far on as it is from the opposite one, or as beside it."""
    x, y = at[i, j]
    for di, dj in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        place = (i + di, j + dj)
        if place in at:
            continue
        step = None
        if (i - di, j - dj) in at:
            other = at[i - di, j - dj]
            step = (x - other[0], y - other[1])
        elif place not in expected:
            for side in (1, -1):
                begin, end = (i + side * dj, j + side * di), (i + di + side * dj, j + dj + side * di)
                if begin in at and end in at:
                    step = (at[end][0] - at[begin][0], at[end][1] - at[begin][1])
                    break
        if step is not None:
            expected[place] = (x + step[0], y + step[1], float(np.hypot(*step)))


def _fitted(grown: dict[Place, int], wanted: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """(M,) which points the board's are; None where it fits nowhere, or at several places of a larger pattern."""
    found = np.array(list(grown), np.int64)
    indices = np.array(list(grown.values()), np.int64)
    turned = np.einsum("kij,nj->kni", _changes(), found)
    low, high = turned.min(1), turned.max(1)
    needed = wanted.max(0) - wanted.min(0)
    spare = high - low - needed
    possible = (spare >= 0).all(1) & ((spare + 1).prod(1) <= _MOST_PLACES)
    answers: dict[frozenset[int], NDArray[np.int64]] = {}
    for k in np.flatnonzero(possible).tolist():
        table = np.full(high[k] - low[k] + 1, -1)
        table[turned[k, :, 0] - low[k, 0], turned[k, :, 1] - low[k, 1]] = indices
        for shift in product(range(spare[k, 0] + 1), range(spare[k, 1] + 1)):
            at = wanted - wanted.min(0) + shift
            chosen = table[at[:, 0], at[:, 1]]
            if (chosen >= 0).all():
                if len(grown) == len(wanted):
                    return chosen
                answers.setdefault(frozenset(chosen.tolist()), chosen)
    return next(iter(answers.values())) if len(answers) == 1 else None
