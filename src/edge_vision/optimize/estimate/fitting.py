"""A machine's constants from published measurements, and how far off they are for what they were not fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vision.optimize.estimate.roofline import Constants, Error, Work, seconds

RATIO_WEIGHT, MEMORY_WEIGHT, CALL_WEIGHT = 0.3, 0.5, 0.2
"""How firmly the prior is held to, against a weight of 1 of a point's error: what the points say little about (the rate
of a kind that few of them have, a bandwidth that only fully connected layers feel) stays near it."""


@dataclass(frozen=True, slots=True)
class Prior:
    """ratios: rates of `COMPUTE_KINDS` relative to each other; their level comes from the points alone. bandwidth in
    bytes a second, call in seconds."""

    ratios: tuple[float, float, float, float]
    bandwidth: float
    call: float


def fit(points: Sequence[tuple[Work, float]], prior: Prior) -> Constants:
    """Constants with the least squares of log(estimate / measured) and of the distance from the prior, in logarithms.

    points: work and measured seconds. Needs scipy.
    """
    from scipy.optimize import least_squares

    works = np.array([done for done, _ in points])
    measured = np.log([time for _, time in points])
    ratios = np.log(prior.ratios)
    level = np.median(np.log(works[:, :4] @ (1 / np.exp(ratios)) + 1) - measured)
    start = np.concatenate([ratios + level, [np.log(prior.bandwidth), np.log(prior.call)]])

    def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        times = works[:, :5] @ np.exp(-logs[:5]) + works[:, 5] * np.exp(logs[5])
        away = logs - start
        apart = RATIO_WEIGHT * (away[:4] - away[:4].mean())
        return np.concatenate(
            [np.log(times) - measured, apart, [MEMORY_WEIGHT * away[4], CALL_WEIGHT * away[5], 0.02 * away[:4].mean()]]
        )

    return Constants(*np.exp(least_squares(residuals, start).x).tolist())


def left_out(points: Sequence[tuple[Work, float]], prior: Prior, groups: Sequence[str] = ()) -> NDArray[np.float64]:
    """(N,) estimate / measured of every point by constants fitted without it, and without others of its group (the same
    network at another size is no independent proof). groups: a name a point."""
    names = list(groups) or [str(index) for index in range(len(points))]
    found = np.empty(len(points))
    for index, (done, time) in enumerate(points):
        others = [point for point, name in zip(points, names, strict=True) if name != names[index]]
        found[index] = seconds(done, fit(others, prior)) / time
    return found


def error_of(ratios: NDArray[np.float64]) -> Error:
    return Error(float(np.sqrt(np.mean(np.log(ratios) ** 2))), len(ratios))
