"""Curves with noise: a robust smoothing, the size of the noise, the nearest falling curve, a robust slope."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]


def lowess(y: Curve, share: float = 0.2, least: int = 5, rounds: int = 2) -> Curve:
    """(N,) smoothed: a straight line through the nearest ``share`` of the points at each, tricube weights, outliers
    weighed down by bisquare in ``rounds`` more passes. Cleveland 1979, Robust Locally Weighted Regression."""
    n = len(y)
    k = min(n, max(least, round(share * n)))
    x = np.arange(n, dtype=np.float64)
    first = np.clip(np.arange(n) - k // 2, 0, n - k)
    window = first[:, None] + np.arange(k)
    d = np.abs(x[window] - x[:, None])
    near = (1 - (d / (d.max(1, keepdims=True) + 1)) ** 3) ** 3
    robust = np.ones(n)
    smooth = y
    for _ in range(rounds + 1):
        w = near * robust[window] + 1e-12
        dx = x[window] - x[:, None]
        s0, s1, s2 = w.sum(1), (w * dx).sum(1), (w * dx * dx).sum(1)
        t0, t1 = (w * y[window]).sum(1), (w * dx * y[window]).sum(1)
        smooth = (s2 * t0 - s1 * t1) / (s0 * s2 - s1 * s1)
        residual = np.abs(y - smooth)
        scale = 6 * np.median(residual)
        if scale <= 0:
            break
        robust = np.clip(1 - (residual / scale) ** 2, 0, None) ** 2
    return smooth


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
