"""How boxes move: a constant-velocity Kalman filter over all tracks at once.

A box is four independent coordinates (centre x, centre y, width, height). Each has a position and a velocity of its
own, so the covariance of a track is four 2 x 2 blocks and no matrix is ever inverted: the whole filter is elementwise
arithmetic on arrays of shape (N, 4), whatever N.

The state of N tracks is one float64 array (5, N, 4), indexed by the names below. Positions in px, velocities in px/s.

Time is continuous: the process noise of a step of ``dt`` seconds is the integral of white noise on the velocity
(spectral density ``drift``²) and on the acceleration (``agility``²), so that two steps of dt/2 give exactly one step of
dt and irregular frame rates need no special case (Bar-Shalom, Li, Kirubarajan: Estimation with Applications to Tracking
and Navigation, 2001, section 6.2.2, continuous white-noise acceleration model). As in SORT and its descendants, every
noise is proportional to the size of the box.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

POSITION, VELOCITY, VAR_POSITION, COVARIANCE, VAR_VELOCITY = range(5)

MIN_SIZE = 1.0  # px: a shrinking box that nobody sees any more must not turn inside out


@dataclass(frozen=True, slots=True)
class MotionNoise:
    """Standard deviations of the filter, all relative to the size of the box.

    measurement: of a detected coordinate (1);
    drift: random walk of the position (1/sqrt(s));
    agility: random walk of the velocity (1/s per sqrt(s));
    initial_velocity: of the velocity of a box seen once (1/s).
    """

    measurement: float = 0.05
    drift: float = 0.27
    agility: float = 1.0
    initial_velocity: float = 1.9

    def __post_init__(self) -> None:
        for name in ("measurement", "drift", "agility", "initial_velocity"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"motion noise {name!r} must be zero or more, got {getattr(self, name)}")
        if self.measurement == 0:
            raise ValueError("motion noise 'measurement' must be more than zero: no detector is exact")


def to_centre(boxes: NDArray) -> NDArray[np.float64]:
    """(N, 4) xyxy -> (N, 4) float64 centre x, centre y, width, height."""
    low, high = boxes[:, :2], boxes[:, 2:]
    out = np.empty((len(boxes), 4))
    np.add(low, high, out=out[:, :2])
    out[:, :2] *= 0.5
    np.subtract(high, low, out=out[:, 2:])
    return out


def to_corners(centred: NDArray) -> NDArray[np.float64]:
    """(N, 4) centre x, centre y, width, height -> (N, 4) float64 xyxy."""
    half = centred[:, 2:] * 0.5
    out = np.empty((len(centred), 4))
    np.subtract(centred[:, :2], half, out=out[:, :2])
    np.add(centred[:, :2], half, out=out[:, 2:])
    return out


def _variance(centred: NDArray) -> NDArray[np.float64]:
    """(N, 4) centred boxes -> (N, 1) px²: the product of the sides, the square of the size that noise is relative to.

    One size for both axes, and none that an object's orientation decides: a long part lying along the belt is not
    more certain across it than along it.
    """
    return centred[:, 2:3] * centred[:, 3:4]


def initiate(centred: NDArray, noise: MotionNoise) -> NDArray[np.float64]:
    """State (5, N, 4) of boxes (N, 4) seen for the first time: at rest, with a velocity that is hardly known."""
    state = np.zeros((5, len(centred), 4))
    variance = _variance(centred)
    state[POSITION] = centred
    state[VAR_POSITION] = noise.measurement**2 * variance
    state[VAR_VELOCITY] = noise.initial_velocity**2 * variance
    return state


def predict(state: NDArray[np.float64], dt: float, noise: MotionNoise) -> None:
    """Advance all tracks by ``dt`` >= 0 seconds, in place."""
    if dt == 0.0 or state.shape[1] == 0:
        return
    position, velocity, var_position, covariance, var_velocity = state
    variance = _variance(position)
    agility = noise.agility * noise.agility * dt
    drift = noise.drift * noise.drift * dt
    position += velocity * dt
    np.maximum(position[:, 2:], MIN_SIZE, out=position[:, 2:])
    carried = var_velocity * dt
    var_position += (2.0 * covariance + carried) * dt + variance * (drift + agility * dt * dt / 3.0)
    covariance += carried + variance * (agility * dt / 2.0)
    var_velocity += variance * agility


def correct(
    state: NDArray[np.float64], rows: NDArray[np.intp], centred: NDArray[np.float64], noise: MotionNoise
) -> None:
    """Kalman update, in place, of the tracks ``rows`` (M,), distinct and ascending, with ``centred`` (M, 4) boxes."""
    if not len(rows):
        return
    every = len(rows) == state.shape[1]  # being distinct and ascending, all tracks: no need to gather and scatter
    part = state if every else state[:, rows]
    position, velocity, var_position, covariance, var_velocity = part
    surprise = centred - position
    uncertain = 1.0 / (var_position + noise.measurement**2 * _variance(position))
    gain = var_position * uncertain
    velocity_gain = covariance * uncertain
    position += gain * surprise
    velocity += velocity_gain * surprise
    var_velocity -= velocity_gain * covariance
    np.subtract(1.0, gain, out=gain)
    covariance *= gain
    var_position *= gain
    sides = position[:, 2:]
    np.maximum(sides, MIN_SIZE, out=sides)
    if not every:
        state[:, rows] = part
