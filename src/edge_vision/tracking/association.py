"""Which box belongs to which track: overlap of every pair, and the best one-to-one choice among those above a gate."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Pairs = tuple[NDArray[np.intp], NDArray[np.intp]]

BLOCK = 16384  # pairs whose intermediate results fit in a second-level cache
SMALL = 2500  # pairs; up to here the solver is faster than finding out what it need not look at

_TINY = np.finfo(np.float32).tiny
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
    return overlap(a, b, size_a[0] * size_a[1], size_b[0] * size_b[1], grow)


def far_negated(boxes: NDArray) -> NDArray[np.float32]:
    """(N, 4) xyxy -> (4, N) float32 x1, y1, -x2, -y2: so one maximum gives both corners of an intersection."""
    turned = np.array(boxes.T, dtype=np.float32, order="C")
    np.negative(turned[2:], out=turned[2:])
    return turned


def overlap(a: NDArray, b: NDArray, area_a: NDArray, area_b: NDArray, grow: NDArray | float = 0.0) -> NDArray:
    """`iou_matrix` of boxes as `far_negated` has them, a (4, M) and b (4, N), with their areas (M, 1) and (N,)
    or (1, N) or (M, N).

    grow: px (2, M, 1) by which the intersections are larger; the areas given are those of the grown boxes.
    """
    count, other = a.shape[1], b.shape[1]
    if count * other > 2 * BLOCK and count > 1:  # in blocks that stay in the cache
        found = np.empty((count, other), np.float32)
        step = max(1, BLOCK // other)
        for k in range(0, count, step):
            rows = slice(k, k + step)
            part = grow if isinstance(grow, float) else grow[:, rows]
            area = area_b[rows] if area_b.ndim == 2 and len(area_b) == count else area_b
            found[rows] = overlap(a[:, rows], b, area_a[rows], area, part)
        return found
    shared = np.maximum(a[:, :, None], b[:, None, :])
    negative = np.add(shared[:2], shared[2:], out=shared[:2])  # minus the sides of the intersection
    if not isinstance(grow, float):
        negative -= grow
    np.minimum(negative, 0.0, out=negative)
    intersection = np.multiply(negative[0], negative[1], out=negative[0])
    union = area_a + area_b
    union -= intersection
    np.maximum(union, _TINY, out=union)  # boxes too small for float32 have no overlap, rather than NaN
    intersection /= union
    return intersection


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
    possible = similarity > gate
    if possible.size > SMALL:  # NumPy finds what is set in one dimension several times faster than in two
        rows, columns = np.divmod(possible.ravel().nonzero()[0], possible.shape[1])
    else:
        rows, columns = possible.nonzero()
    if not len(rows):
        return _NONE
    per_row = np.bincount(rows, minlength=similarity.shape[0])
    per_column = np.bincount(columns, minlength=similarity.shape[1])
    if per_row.max() == 1 and per_column.max() == 1:
        return rows, columns  # every candidate is the only one on both sides: nothing to decide
    if similarity.size <= SMALL:
        return _solve(similarity, gate)
    # Pairs without a rival are settled; only what shares a row or a column goes to the solver.
    contested = (per_row[rows] > 1) | (per_column[columns] > 1)
    settled = ~contested
    sub_rows = np.unique(rows[contested])
    sub_columns = np.unique(columns[contested])
    picked_rows, picked_columns = _solve(similarity[sub_rows[:, None], sub_columns], gate)
    paired = np.concatenate([rows[settled], sub_rows[picked_rows]])
    order = np.argsort(paired)
    return paired[order], np.concatenate([columns[settled], sub_columns[picked_columns]])[order]


def _solve(similarity: NDArray, gate: float) -> Pairs:
    gain = np.maximum(similarity - gate, 0.0)
    rows, columns = _solver()(gain, True)
    real = gain[rows, columns] > 0.0
    return rows[real], columns[real]
