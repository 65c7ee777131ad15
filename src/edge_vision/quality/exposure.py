"""Exposure, contrast and clipping: what the histogram tells."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

DARK_CLIP, BRIGHT_CLIP = 2, 253  # DN: what counts as clipped at either end, inclusive
_LEVELS = np.arange(256, dtype=np.float64)
_SQUARES = np.square(_LEVELS)
# Mean sample value: five equal zones of the grey scale, numbered from 1 (Nourani-Vatani and Roberts 2007).
_ZONE_OF_LEVEL = np.minimum(_LEVELS * 5 // 256, 4) + 1


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
    counts = np.asarray(histogram, np.float64).ravel()
    share = counts / counts.sum()
    mean = float(share @ _LEVELS)
    spread = float(np.sqrt(max(share @ _SQUARES - mean * mean, 0.0)))
    cumulated = np.cumsum(share)
    p1, median, p99, p999 = np.searchsorted(cumulated, (0.01 - 1e-9, 0.5 - 1e-9, 0.99 - 1e-9, 0.999 - 1e-9)).tolist()
    used = share[share > 0]
    inside = counts[p1 : p99 + 1]
    return Exposure(
        mean=mean,
        median=float(median),
        p1=float(p1),
        p99=float(p99),
        p999=float(p999),
        rms_contrast=spread,
        contrast=(p99 - p1) / (p99 + p1) if p99 else 0.0,
        clipped_dark=float(cumulated[DARK_CLIP]),
        clipped_bright=float(1 - cumulated[BRIGHT_CLIP - 1]),
        entropy=float(-(used @ np.log2(used))),
        mean_sample_value=float(share @ _ZONE_OF_LEVEL),
        missing_levels=float(np.count_nonzero(inside == 0) / len(inside)),
    )


_MOST_PIXELS = 110_000  # beyond that, every n-th row


def grey_histogram(grey: NDArray[np.uint8]) -> NDArray:
    """(256,) counts, of every n-th row in large images."""
    return cv2.calcHist([_thinned(grey, _MOST_PIXELS)], [0], None, [256], [0, 256]).ravel()


def zone_means(grey: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(3, 3) mean grey values of the image cut in thirds both ways, of every n-th row in large images; where a side has
    under 3 px, zones share pixels."""
    grey = _thinned(grey, _MOST_PIXELS // 2)
    rows, columns = ([(n * i // 3, max(n * (i + 1) // 3, n * i // 3 + 1)) for i in range(3)] for n in grey.shape[:2])
    return np.array([[cv2.mean(grey[top:bottom, left:right])[0] for left, right in columns] for top, bottom in rows])


def _thinned(grey: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
    return grey[:: -(-grey.size // most)] if grey.size > most and grey.shape[0] > 32 else grey
