"""Which output of a converted file is which of the model's, and how its axes must be turned: found by the values."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray


def error(result: NDArray, reference: NDArray) -> float:
    """max |result - reference| over the range (largest minus smallest value) of the reference; infinite where the
    result holds what is no number."""
    if not reference.size:
        return 0.0
    difference = float(np.abs(result.astype(np.float64) - reference.astype(np.float64)).max())
    spread = float(reference.max()) - float(reference.min())
    value = difference / (spread or max(abs(float(reference.max())), 1.0))
    return value if np.isfinite(value) else float("inf")


def match(results: Sequence[NDArray], references: Sequence[NDArray]) -> list[tuple[int, tuple[int, ...], float]] | None:
    """For each reference the result that is it: (index, order of axes, error). The order is () where none is needed.

    Results that are no reference's are left over. None where a reference fits no result's shape. Where several fit, the
    best is taken, and of equals the one with its axes as they are.
    """
    found: list[tuple[int, tuple[int, ...], float]] = []
    free = list(range(len(results)))
    for reference in references:
        candidates = []
        for index in free:
            result = results[index]
            if result.ndim != reference.ndim or sorted(result.shape) != sorted(reference.shape):
                continue
            for axes in permutations(range(result.ndim)):
                if tuple(result.shape[axis] for axis in axes) == reference.shape:
                    order = () if axes == tuple(range(result.ndim)) else axes
                    turned = result.transpose(axes)
                    candidates.append((error(turned, reference), bool(order), index, order))
        if not candidates:
            return None
        least, _, index, order = min(candidates, key=lambda candidate: candidate[:3])
        found.append((index, order, least))
        free.remove(index)
    return found
