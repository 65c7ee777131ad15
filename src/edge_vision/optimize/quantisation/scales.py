"""From ranges and weights to scales and integers.

Quantised integer q stands for scale * (q - zero_point). Weights are symmetric, so that 0 stays exactly 0 and pruned
weights stay pruned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}
CLUSTERED = 64
"""A tensor of at most so many distinct values, over all channels, was clustered: it gets one scale, or a value that
many channels share would become another integer in each."""


@dataclass(frozen=True)
class Scale:
    """Of a tensor: scale float32, zero_point of dtype int8 or uint8."""

    scale: float
    zero_point: int
    dtype: str

    @property
    def low(self) -> float:
        """The value of the smallest integer."""
        return self.scale * (LIMITS[self.dtype][0] - self.zero_point)

    @property
    def high(self) -> float:
        """The value of the largest integer."""
        return self.scale * (LIMITS[self.dtype][1] - self.zero_point)


def activation_scale(low: float, high: float, dtype: str) -> Scale:
    """The scale that spans low..high, widened to hold 0 (which padding needs)."""
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    smallest, largest = LIMITS[dtype]
    scale = np.float32((high - low) / (largest - smallest))
    if not np.isfinite(scale) or scale < np.finfo(np.float32).tiny:
        return Scale(1.0, smallest if low == 0 else 0, dtype)
    zero_point = int(np.clip(round(smallest - low / float(scale)), smallest, largest))
    return Scale(float(scale), zero_point, dtype)


def is_clustered(weight: NDArray[np.float32]) -> bool:
    """Whether a layer's weights are few values that its channels share."""
    return weight.size > 4 * CLUSTERED and len(np.unique(weight)) <= CLUSTERED


def weight_scales(
    weight: NDArray[np.float32],
    axis: int | None,
    *,
    bits: int = 8,
    bias: NDArray[np.float32] | None = None,
    input_scale: float = 1.0,
) -> NDArray[np.float32]:
    """Symmetric scales of weights: (channels,) along `axis`, or () for None.

    bits: 7 leaves room for processors that add pairs of products in 16 bits. Where a channel's bias would not fit 32
    bits in steps of input_scale * scale, its scale is raised.
    """
    others = None if axis is None else tuple(i for i in range(weight.ndim) if i != axis)
    largest = np.abs(weight).max(axis=others) if weight.size else np.float32(0)
    scales = np.asarray(largest, np.float64) / (2 ** (bits - 1) - 1)
    if bias is not None:
        needed = np.abs(bias).astype(np.float64) / (input_scale * 2.0**30)
        scales = np.maximum(scales, needed.max() if axis is None else needed)
    return np.where(scales > np.finfo(np.float32).tiny, scales, 1.0).astype(np.float32)


def quantised(values: NDArray, scales: NDArray[np.float32], axis: int | None, dtype: str = "int8") -> NDArray:
    """Integers of weights (int8) or of a bias (int32), by symmetric scales."""
    shape = [1] * values.ndim
    if axis is not None:
        shape[axis] = -1
    steps = values.astype(np.float64) / scales.astype(np.float64).reshape(shape if axis is not None else ())
    limit = 127 if dtype == "int8" else 2**31 - 1
    return np.clip(np.rint(steps), -limit, limit).astype(dtype)
