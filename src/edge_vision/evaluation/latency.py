"""Percentiles of measured durations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Summary of ``count`` durations, all figures in milliseconds; NaN where there were none."""

    count: int
    p50: float
    p95: float
    p99: float
    mean: float
    max: float


def summarize(samples_ns: Sequence[int] | NDArray) -> Percentiles:
    """Percentiles of durations in ns (linear interpolation between order statistics, NumPy's default)."""
    samples = np.asarray(samples_ns, dtype=np.float64).ravel()
    if not samples.size:
        nan = float("nan")
        return Percentiles(0, nan, nan, nan, nan, nan)
    p50, p95, p99 = np.percentile(samples, (50, 95, 99)) * 1e-6
    return Percentiles(
        samples.size, float(p50), float(p95), float(p99), float(samples.mean() * 1e-6), float(samples.max() * 1e-6)
    )
