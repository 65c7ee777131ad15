"""Which box belongs to which track: the pairs that overlap, and the best one-to-one choice among those above a gate."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Pairs = tuple[NDArray[np.intp], NDArray[np.intp]]
Candidates = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]
"""Rows (K,), ascending, and columns (K,) of pairs, each pair once, and what they are worth (K,)."""

BLOCK = 16384  # pairs whose intermediate results fit in a second-level cache
SMALL = 2500  # pairs; up to here the solver is faster than finding out what it need not look at
SWEPT = 6000  # pairs from which on a sweep that finds the near ones is faster than looking at all
FEW = 24  # candidates that Python counts faster than NumPy

_TINY = np.finfo(np.float32).tiny
_ZERO = np.zeros((), np.float32)
_FAR_SIGN = np.array([[1], [1], [-1], [-1]], np.float32)
_NONE: Pairs = (np.zeros(0, np.intp), np.zeros(0, np.intp))


def iou_matrix(first: NDArray, second: NDArray, margin: NDArray | None = None) -> NDArray[np.float32]:
    """Intersection over union of every pair of boxes.

    first (M, 4), second (N, 4): xyxy of positive width and height; margin (M, 2): px by which *both* boxes of a pair
    are grown in x and in y on each side before they are compared, one margin for each of ``first``. Returns (M, N)
    float32 in 0..1.

    Growing the boxes lets pairs that no longer touch compete by how near they are (Yang et al., Hard to Track Objects
    with Irregular Motions and Similar Appearances? Make It Easier by Buffering the Matching Space, WACV 2023).
    """
    a, b = far_negated(first), far_negated(second)
    grow = 0.0 if margin is None else np.asarray(2.0 * margin.T, dtype=np.float32)[:, :, None]
    size_a, size_b = (-a[:2] - a[2:])[:, :, None] + grow, (-b[:2] - b[2:])[:, None, :] + grow
    return overlap(a[:, :, None], b[:, None], size_a[0] * size_a[1], size_b[0] * size_b[1], grow)


def far_negated(boxes: NDArray) -> NDArray[np.float32]:
    """(N, 4) xyxy -> (4, N) float32 x1, y1, -x2, -y2: so one maximum gives both corners of an intersection."""
    return np.multiply(boxes.T, _FAR_SIGN, dtype=np.float32, order="C")


def overlap(a: NDArray, b: NDArray, area_a: NDArray, area_b: NDArray, grow: NDArray | float = 0.0) -> NDArray:
    """IoU of boxes as `far_negated` has them, with their areas, under NumPy's broadcasting: a (4, M, 1), b (4, 1, N)
    and areas (M, 1), (N,) or (M, N) give the (M, N) matrix, a (4, K) and b (4, K) with areas (K,) give K pairs.

    grow: px (2, M, 1) by which the intersections are larger; the areas given are those of the grown boxes.
    """
    shared = np.maximum(a, b)
    negative = np.add(shared[:2], shared[2:], out=shared[:2])  # minus the sides of the intersection
    if not isinstance(grow, float):
        negative -= grow
    np.minimum(negative, _ZERO, out=negative)
    intersection = np.multiply(negative[0], negative[1], out=negative[0])
    union = area_a + area_b
    union -= intersection
    np.maximum(union, _TINY, out=union)  # boxes too small for float32 have no overlap, rather than NaN
    intersection /= union
    return intersection


def overlapping(a: NDArray, b: NDArray, area_a: NDArray, area_b: NDArray) -> Candidates:
    """The pairs that overlap at all, with their IoU: a (4, M) and b (4, N) as `far_negated` has them, areas (M,), (N,).

    All pairs are looked at where there are few, or many of them near each other; else those that share a strip of x.
    """
    count, other = a.shape[1], b.shape[1]
    if count * other >= SWEPT:
        near = _sharing_x(a, b, count * other // 8)
        if near is not None:
            rows, columns = near
            found = overlap(a.take(rows, 1), b.take(columns, 1), area_a.take(rows), area_b.take(columns))
            kept = found.nonzero()[0]
            return rows.take(kept), columns.take(kept), found.take(kept)
    if count * other <= 2 * BLOCK:
        return listed(overlap_matrix(a, b, area_a, area_b))
    a, area_a = a[:, :, None], area_a[:, None]
    b = b[:, None]
    found = np.empty((count, other), np.float32)
    step = max(1, BLOCK // other)
    for k in range(0, count, step):  # in blocks that stay in the cache
        part = slice(k, k + step)
        found[part] = overlap(a[:, part], b, area_a[part], area_b)
    return listed(found)


def overlap_matrix(a: NDArray, b: NDArray, area_a: NDArray, area_b: NDArray) -> NDArray[np.float32]:
    """(M, N) IoU of all pairs, of what `overlapping` takes."""
    return overlap(a[:, :, None], b[:, None], area_a[:, None], area_b)


def touching(first: NDArray, second: NDArray) -> Candidates:
    """The pairs of boxes (M, 4) and (N, 4) xyxy that overlap, with their IoU."""
    a, b = far_negated(first), far_negated(second)
    sides_a, sides_b = a[:2] + a[2:], b[:2] + b[2:]
    return overlapping(a, b, sides_a[0] * sides_a[1], sides_b[0] * sides_b[1])


def listed(matrix: NDArray[np.float32]) -> Candidates:
    """What is not zero in a matrix (M, N)."""
    if matrix.size <= SMALL:
        rows, columns = matrix.nonzero()
        return rows, columns, matrix[rows, columns]
    flat = matrix.reshape(-1)
    kept = flat.nonzero()[0]  # NumPy finds what is set in one dimension several times faster than in two
    rows, columns = np.divmod(kept, matrix.shape[1])
    return rows, columns, flat.take(kept)


def _sharing_x(a: NDArray, b: NDArray, most: int) -> Pairs | None:
    """The pairs of a and b that may overlap, from what they cover of x alone; None where they are more than ``most``.

    A sweep over b in the order of its left edges: those that matter to one of a begin before it ends, and not farther
    left of it than the widest of b is wide.
    """
    order = np.argsort(b[0])
    left = b[0].take(order)
    widest = -np.minimum.reduce(b[0] + b[2])
    first = np.searchsorted(left, a[0] - (widest + 1.0))  # a pixel more than exact, for rounding
    counts = np.searchsorted(left, -a[2]) - first
    ends = np.cumsum(counts)
    if ends[-1] > most:
        return None
    rows = np.repeat(np.arange(len(counts)), counts)
    return rows, order.take(np.arange(ends[-1]) + np.repeat(first + counts - ends, counts))


@lru_cache(maxsize=1)
def _solver() -> Callable[[NDArray, bool], Pairs]:
    """SciPy's `linear_sum_assignment` (Crouse, On implementing 2D rectangular assignment algorithms, 2016).

    Taken from its own extension module where possible: importing all of `scipy.optimize` for one function costs
    half a second and 45 MB on a small machine, the extension alone 15 ms and 2 MB.
    """
    import importlib.util
    from importlib.machinery import PathFinder
    from pathlib import Path

    import scipy

    spec = PathFinder.find_spec("_lsap", [str(Path(scipy.__file__).parent / "optimize")])
    if spec is not None and spec.loader is not None and spec.origin and not spec.origin.endswith(".py"):
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        solve = getattr(module, "linear_sum_assignment", None)
        if solve is not None:
            return solve
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment


def load_solver() -> None:
    """Load the assignment solver now, so that no frame has to wait for it."""
    _solver()


def assign(similarity: NDArray, gate: float) -> Pairs:
    """One-to-one pairs (rows, columns) that maximise the sum of ``similarity - gate`` over pairs above the gate.

    similarity (M, N). The gate takes part in the optimisation (as in ``lapjv(cost_limit=...)``): a pair below it is
    worth nothing, so no good pair is given up to make a full assignment possible. Returns two (K,) arrays, rows
    ascending; exact.
    """
    rows, columns = (similarity > gate).nonzero()
    return choose((rows, columns, similarity[rows, columns]), gate, similarity.shape)


def choose(candidates: Candidates, gate: float, shape: tuple[int, ...]) -> Pairs:
    """`assign` of a matrix of this shape of which only the candidates are above zero (or above the gate)."""
    rows, columns, worth = candidates
    kept = (worth > gate).nonzero()[0]
    if len(kept) < len(rows):
        rows, columns, worth = rows.take(kept), columns.take(kept), worth.take(kept)
    count = len(rows)
    if count <= FEW:
        if len(set(columns.tolist())) == count == len(set(rows.tolist())):
            return rows, columns  # every candidate is the only one on both sides: nothing to decide
        return _solve(rows, columns, worth - gate, shape)
    rival = (np.bincount(rows) > 1).take(rows)
    rival |= (np.bincount(columns) > 1).take(columns)
    contested = rival.nonzero()[0]
    if not len(contested):
        return rows, columns
    # Pairs without a rival are settled; only what shares a row or a column goes to the solver.
    settled = (~rival).nonzero()[0]
    sub_rows, at_row = _numbered(rows.take(contested), shape[0])
    sub_columns, at_column = _numbered(columns.take(contested), shape[1])
    picked_rows, picked_columns = _solve(
        at_row, at_column, worth.take(contested) - gate, (len(sub_rows), len(sub_columns))
    )
    paired = np.concatenate([rows.take(settled), sub_rows.take(picked_rows)])
    order = paired.argsort()
    return paired.take(order), np.concatenate([columns.take(settled), sub_columns.take(picked_columns)]).take(order)


def _numbered(indices: NDArray[np.intp], count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """`np.unique` with its inverse, of indices below ``count``, without sorting."""
    there = np.zeros(count, bool)
    there[indices] = True
    unique = there.nonzero()[0]
    number = np.zeros(count, np.intp)
    number[unique] = np.arange(len(unique))
    return unique, number.take(indices)


def _solve(rows: NDArray, columns: NDArray, gains: NDArray, shape: tuple[int, ...]) -> Pairs:
    gain = np.zeros(shape)
    gain[rows, columns] = gains
    rows, columns = _solver()(gain, True)
    real = gain[rows, columns].nonzero()[0]
    return rows.take(real), columns.take(real)
