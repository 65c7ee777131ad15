"""Means and variances of the images of a measurement, exact sums first and one division at the end.

Temporal, of the N pixels of a pair A, B (EMVA 1288 release 4.0 Linear, section 6.6)::

    mu = (mean A + mean B) / 2
    sigma^2 = sum (A - B)^2 / (2 N) - (mean A - mean B)^2 / 2

The last term came with release 4.0: light that changed between the two frames is no noise.

Spatial, of a series of L frames (section 8): the average image, and the mean over its pixels of each pixel's temporal
variance, with L - 1 in the divisor.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Pair:
    """Temporal statistics of two frames in DN. zero_share, full_share: pixels at 0 and at the largest value, 0..1."""

    mean: float
    variance: float
    zero_share: float = 0.0
    full_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Stack:
    """A series of ``count`` frames: average (H, W) float64 in DN, temporal_variance in DN², mean over the pixels."""

    count: int
    average: NDArray[np.float64]
    temporal_variance: float

    @property
    def mean(self) -> float:
        return float(self.average.mean())


@dataclass(frozen=True, slots=True)
class Temporal:
    """The photon transfer series, one element a bright step, sorted by light; the dark values are of its exposure.

    exposure: s. photons: mean a pixel, None where not known. mean, dark_mean: DN. variance, dark_variance: DN².
    dark_exposures, dark_means, dark_variances: the dark series, one element an exposure, sorted.
    dark_zero_share: largest share of the dark frames' pixels at 0, 0..1, None where not known.
    """

    exposure: NDArray[np.float64]
    photons: NDArray[np.float64] | None
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    dark_mean: NDArray[np.float64]
    dark_variance: NDArray[np.float64]
    dark_exposures: NDArray[np.float64]
    dark_means: NDArray[np.float64]
    dark_variances: NDArray[np.float64]
    dark_zero_share: float | None = None

    @property
    def signal(self) -> NDArray[np.float64]:
        """mean - dark mean, DN."""
        return self.mean - self.dark_mean

    @property
    def light(self) -> NDArray[np.float64]:
        """What the light is told by: photons a pixel, where not known the exposure in s."""
        return self.exposure if self.photons is None else self.photons


def pair_from_sums(total: float, squared_difference: float, mean_difference: float, pixels: int) -> tuple[float, float]:
    """Mean and temporal variance of a pair from the sum of all values, sum (A - B)² and mean A - mean B."""
    return total / (2 * pixels), squared_difference / (2 * pixels) - mean_difference**2 / 2


def pair_statistics(first: NDArray, second: NDArray, largest: int | None = None) -> Pair:
    """Statistics of two (H, W) frames, uint8 or uint16. largest: the value of a full pixel, None: not counted."""
    sums = cv2.sumElems(first)[0], cv2.sumElems(second)[0]  # float64, exact for any image
    squared = cv2.norm(first, second, cv2.NORM_L2SQR)
    mean, variance = pair_from_sums(sum(sums), squared, (sums[0] - sums[1]) / first.size, first.size)
    zeros = 1.0 - (cv2.countNonZero(first) + cv2.countNonZero(second)) / (2 * first.size)
    full = 0.0
    if largest is not None:
        full = (np.count_nonzero(first >= largest) + np.count_nonzero(second >= largest)) / (2 * first.size)
    return Pair(mean, variance, zeros, full)


def stack_statistics(frames: Iterable[NDArray]) -> Stack:
    """Statistics of a series of two or more (H, W) frames, uint8 or uint16; they are read one after another.

    Raises ValueError for fewer.
    """
    total: NDArray[np.float64] | None = None
    squares: NDArray[np.float64] | None = None
    count = 0
    for frame in frames:
        if total is None or squares is None:
            total, squares = np.zeros((2, *frame.shape))
        cv2.accumulate(frame, total)
        cv2.accumulateSquare(frame, squares)
        count += 1
    if total is None or squares is None or count < 2:
        raise ValueError(f"a series needs two frames or more, there are {count}")
    # sum of squares - (sum)^2 / L, in whole numbers below 2^53, so that nothing is lost to cancellation.
    variance = float((count * squares - total * total).mean()) / (count * (count - 1))
    return Stack(count, total / count, variance)
