"""Exposure, contrast and clipping: what the histogram tells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

DARK_CLIP, BRIGHT_CLIP = 2, 253  # DN: what counts as clipped at either end, inclusive
_LEVELS = np.arange(256, dtype=np.float64)
# Mean sample value: five equal zones of the grey scale, numbered from 1 (Nourani-Vatani and Roberts 2007).
_ZONE_OF_LEVEL = np.minimum(_LEVELS * 5 // 256, 4) + 1
_SUMS = np.stack([np.ones(256), _LEVELS, np.square(_LEVELS), _ZONE_OF_LEVEL], 1)
_PERCENTILES = np.array([0.01, 0.5, 0.99, 0.999]) - 1e-9


@dataclass(frozen=True, slots=True)
class Exposure:
    """Figures of `edge_vision.datatypes.QualityReport` of the same names; p999 is the 99.9th percentile."""

    mean: float
    median: float
    p1: float
    p99: float
    p999: float
    rms_contrast: float
    contrast: float
    clipped_dark: float
    clipped_bright: float
    entropy: float
    mean_sample_value: float
    missing_levels: float


def exposure_of(histogram: NDArray) -> Exposure:
    """Exposure figures of a grey histogram, (256,) counts. Percentiles are those of the pixels, without
    interpolation."""
    counts = histogram.ravel().astype(np.float64)
    count, *sums = counts.dot(_SUMS).tolist()
    mean, square, sample_value = (value / count for value in sums)
    cumulated = np.add.accumulate(counts)
    p1, median, p99, p999 = cumulated.searchsorted(_PERCENTILES * count).tolist()
    used = float(np.count_nonzero(counts[p1 : p99 + 1])) / (p99 + 1 - p1)
    return Exposure(
        mean=mean,
        median=float(median),
        p1=float(p1),
        p99=float(p99),
        p999=float(p999),
        rms_contrast=math.sqrt(max(square - mean * mean, 0.0)),
        contrast=(p99 - p1) / (p99 + p1) if p99 else 0.0,
        clipped_dark=float(cumulated[DARK_CLIP]) / count,
        clipped_bright=1 - float(cumulated[BRIGHT_CLIP - 1]) / count,
        entropy=max(math.log2(count) - float(counts.dot(np.log2(np.maximum(counts, 1.0)))) / count, 0.0),
        mean_sample_value=sample_value,
        missing_levels=1 - used,
    )


_MOST_PIXELS = 110_000  # beyond that, every n-th row


def grey_histogram(grey: NDArray[np.uint8]) -> NDArray:
    """(256,) counts, of every n-th row in large images."""
    return cv2.calcHist([_thinned(grey, _MOST_PIXELS)], [0], None, [256], [0, 256]).ravel()


def zone_means(grey: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(3, 3) mean grey values of the image cut in thirds both ways; where a side has under 3 px, zones share pixels."""
    down, across, areas = _zones(*grey.shape)
    return down.dot(grey.astype(np.float32).dot(across)) / areas


@lru_cache(maxsize=8)
def _zones(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float64]]:
    """What sums up the thirds of (height, width) from the left, (3, height), and from the right, (width, 3); and how
    many pixels each of the nine zones has."""
    parts = []
    for length in (height, width):
        places, starts = np.arange(length), np.arange(3) * length // 3
        ends = np.maximum(np.arange(1, 4) * length // 3, starts + 1)
        parts.append((places >= starts[:, None]) & (places < ends[:, None]))
    areas = np.multiply.outer(*(part.sum(1) for part in parts))
    return parts[0].astype(np.float64), np.ascontiguousarray(parts[1].T, np.float32), areas.astype(np.float64)


def _thinned(grey: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
    return grey[:: -(-grey.size // most)] if grey.size > most and grey.shape[0] > 32 else grey
