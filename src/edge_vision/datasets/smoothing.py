"""Curves with noise: a robust smoothing, the size of the noise, the nearest falling curve, a robust slope."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]


def smooth(y: Curve, share: float = 0.2) -> Curve:
    """(N,) smoothed: single outliers out by medians of three, then a straight line through the nearest points at each,
    with tricube weights (Cleveland 1979, Robust Locally Weighted Regression).

    The window grows from 3 points at the start, where losses fall fast, by 0.6 of an epoch to ``share`` of all.
    """
    n = len(y)
    if n < 3:
        return y.copy()
    calm = y.copy()
    calm[1:-1] = np.median([y[:-2], y[1:-1], y[2:]], axis=0)
    x = np.arange(n, dtype=np.float64)
    wanted = np.minimum(3 + 0.6 * x, max(5, share * n))
    # As many points at the end, where all of them are on one side.
    half = np.maximum(wanted / 2, wanted - (n - 1 - x)) + 0.5
    dx = x[None] - x[:, None]
    w = np.clip(1 - (np.abs(dx) / half[:, None]) ** 3, 0, None) ** 3
    s0, s1, s2 = w.sum(1), (w * dx).sum(1), (w * dx * dx).sum(1)
    t0, t1 = w @ calm, (w * dx) @ calm
    return (s2 * t0 - s1 * t1) / (s0 * s2 - s1 * s1)


def noise(y: Curve) -> float:
    """Deviation of what jumps from point to point, by the median of second differences; trends do not count."""
    if len(y) < 3:
        return 0.0
    return float(1.4826 * np.median(np.abs(np.diff(y, 2))) / np.sqrt(6))


def falling(y: Curve) -> Curve:
    """(N,) the non-increasing curve with the least squared distance: pool adjacent violators (Ayer et al. 1955)."""
    values: list[float] = []
    weights: list[int] = []
    for value in y.tolist():
        values.append(value)
        weights.append(1)
        while len(values) > 1 and values[-2] < values[-1]:
            total = weights[-2] + weights[-1]
            values[-2] = (values[-2] * weights[-2] + values[-1] * weights[-1]) / total
            weights[-2] = total
            values.pop()
            weights.pop()
    return np.repeat(values, weights)


def slope(y: Curve) -> float:
    """The median of the slopes of all pairs of points (Theil 1950, Sen 1968)."""
    i, j = np.triu_indices(len(y), 1)
    return float(np.median((y[j] - y[i]) / (j - i))) if len(i) else 0.0
