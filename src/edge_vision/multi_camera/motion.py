"""Constant-velocity Kalman filter on the plane, over all objects at once.

State of N objects: mean (N, 4) x, y (m), vx, vy (m/s); covariance (N, 4, 4). Process noise is white noise on the
acceleration, integrated over the true step (Bar-Shalom, Li, Kirubarajan 2001, section 6.2.2), so that steps of any
length fit together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_EYE = np.eye(2)


def transition(dt: float) -> NDArray[np.float64]:
    """(4, 4): the state ``dt`` s later is ``F @ state``."""
    return np.block([[_EYE, dt * _EYE], [np.zeros((2, 2)), _EYE]])


def process_noise(dt: float, agility: float) -> NDArray[np.float64]:
    """Q (4, 4) of ``dt`` s; agility: m/s per sqrt(s)."""
    cross = 0.5 * dt * dt * _EYE
    return agility * agility * np.block([[dt**3 / 3.0 * _EYE, cross], [cross, dt * _EYE]])


def predict(mean: NDArray, covariance: NDArray, dt: float, agility: float) -> tuple[NDArray, NDArray]:
    """Mean (N, 4) and covariance (N, 4, 4) ``dt`` >= 0 s later."""
    F = transition(dt)
    return mean @ F.T, F @ covariance @ F.T + process_noise(dt, agility)


def at(mean: NDArray, covariance: NDArray, late: float, agility: float) -> tuple[NDArray, NDArray]:
    """Positions (N, 2) and their covariances (N, 2, 2) ``late`` >= 0 s before the state's time."""
    P, cross = covariance, covariance[:, :2, 2:]
    spread = P[:, :2, :2] - late * (cross + cross.transpose(0, 2, 1)) + late * late * P[:, 2:, 2:]
    return mean[:, :2] - late * mean[:, 2:], spread + process_noise(late, agility)[:2, :2]


def correct(
    mean: NDArray, covariance: NDArray, measured: NDArray, noise: NDArray, late: float, agility: float
) -> tuple[NDArray, NDArray]:
    """State after positions ``measured`` (N, 2) of covariance ``noise`` (N, 2, 2), ``late`` >= 0 s before its time.

    A late measurement tells of ``position - late x velocity``: H = [I, -late I]. What the object did at random since is
    added to the noise.
    """
    expected, spread = at(mean, covariance, late, agility)
    PH = covariance[:, :, :2] - late * covariance[:, :, 2:]  # P H^T
    gain = PH @ np.linalg.inv(spread + noise)
    mean = mean + (gain @ (measured - expected)[:, :, None])[:, :, 0]
    covariance = covariance - gain @ PH.transpose(0, 2, 1)
    return mean, 0.5 * (covariance + covariance.transpose(0, 2, 1))


def squared_distances(difference: NDArray, covariance: NDArray) -> tuple[NDArray, NDArray]:
    """Squared Mahalanobis distances and log determinants: (..., 2) and (..., 2, 2) -> (...), (...)."""
    a, b, d = covariance[..., 0, 0], covariance[..., 0, 1], covariance[..., 1, 1]
    determinant = a * d - b * b
    x, y = difference[..., 0], difference[..., 1]
    return (d * x * x - 2.0 * b * x * y + a * y * y) / determinant, np.log(determinant)
