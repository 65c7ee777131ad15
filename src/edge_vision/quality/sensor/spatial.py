"""Spatial nonuniformity: EMVA 1288 release 4.0 Linear, sections 4 and 8.

Of the average image <y> of L frames of M rows and N columns, with sigma^2 the frames' mean temporal variance::

    s^2      = var(<y>, ddof 1) - sigma^2 / L                      the temporal noise that is left is taken off
    s^2.cav  = var(means of columns) - sigma^2 / (L M)
    s^2.rav  = var(means of rows) - sigma^2 / (L N)
    s^2.col  = [(MN - M) s^2.cav - N (s^2 - s^2.rav)] / (MN - M - N)
    s^2.row  = [(MN - N) s^2.rav - M (s^2 - s^2.cav)] / (MN - M - N)
    s^2.pix  = MN (s^2 - s^2.cav - s^2.rav) / (MN - M - N)

    DSNU = s.dark / K in e-,  PRNU = sqrt(s.50^2 - s.dark^2) / (mu.50 - mu.dark), each for all four.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edge_vision.quality.sensor.errors import SensorDataError
from edge_vision.quality.sensor.statistics import Stack

PARTS = ("total", "row", "column", "pixel")


@dataclass(frozen=True, slots=True)
class SpatialVariance:
    """s² of an average image in DN², and how it splits. Negative: below what the series can measure.

    limit: DN², two standard deviations of s² where there is no nonuniformity at all.
    """

    total: float
    row: float
    column: float
    pixel: float
    limit: float


@dataclass(frozen=True, slots=True)
class Nonuniformity:
    """dsnu in e- and prnu in % by `PARTS`; None where below the measurement limit.

    dsnu_limit (e-), prnu_limit (%): what could just be told from none, by the series' length.
    dark, bright: their variances; bright_signal: DN above dark of the bright series.
    """

    dsnu: dict[str, float | None]
    prnu: dict[str, float | None]
    dsnu_limit: float
    prnu_limit: float
    dark: SpatialVariance
    bright: SpatialVariance
    bright_signal: float


def spatial_variance(stack: Stack) -> SpatialVariance:
    """Spatial variance of a series, total and split."""
    average, noise, L = stack.average, stack.temporal_variance, stack.count
    M, N = average.shape
    if M < 2 or N < 2 or M * N - M - N <= 0:
        raise SensorDataError(f"images of {N}x{M} pixels", "spatial figures need at least 3x3 pixels")
    total = float(average.var(ddof=1)) - noise / L
    cav = float(average.mean(0).var()) - noise / (L * M)
    rav = float(average.mean(1).var()) - noise / (L * N)
    rest = M * N - M - N
    return SpatialVariance(
        total=total,
        row=((M * N - N) * rav - M * (total - cav)) / rest,
        column=((M * N - M) * cav - N * (total - rav)) / rest,
        pixel=M * N * (total - cav - rav) / rest,
        limit=2 * math.sqrt(2 / (M * N - 1)) * noise / L,
    )


def nonuniformity(dark: Stack, bright: Stack, system_gain: float) -> Nonuniformity:
    """DSNU and PRNU of a dark series and one at half of saturation. system_gain: K in DN/e-."""
    if dark.average.shape != bright.average.shape:
        raise SensorDataError("dark and bright series differ in size")
    in_dark, in_bright = spatial_variance(dark), spatial_variance(bright)
    signal = bright.mean - dark.mean
    if signal <= 0:
        raise SensorDataError("the bright series is not brighter than the dark one", "check which is which")
    difference = {part: getattr(in_bright, part) - getattr(in_dark, part) for part in PARTS}
    return Nonuniformity(
        dsnu={part: _root(getattr(in_dark, part), 1 / system_gain) for part in PARTS},
        prnu={part: _root(difference[part], 100 / signal) for part in PARTS},
        dsnu_limit=math.sqrt(in_dark.limit) / system_gain,
        prnu_limit=100 * math.sqrt(np.hypot(in_bright.limit, in_dark.limit)) / signal,
        dark=in_dark,
        bright=in_bright,
        bright_signal=signal,
    )


def _root(variance: float, scale: float) -> float | None:
    return math.sqrt(variance) * scale if variance >= 0 else None
