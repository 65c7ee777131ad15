"""How boxes move: a constant-velocity Kalman filter over all tracks at once.

A box is four independent coordinates (centre x, centre y, width, height), each with a velocity. All noise is relative
to the size of the box, sqrt(width x height), as in SORT and its descendants; so in units of that size the four
coordinates of a track have one and the same covariance, three numbers a track, and no matrix is ever inverted.

The state of N tracks is one float64 array (N, 12):

    0..3   centre x, centre y, width, height (px)
    4..7   their velocities (px/s)
    8..10  variance of position (size²), covariance of position and velocity (size²/s), variance of velocity (size²/s²)
    11     one, so that a step of time, which is affine in the state, is a single product with a 12 x 12 matrix

Its columns lie together in memory (Fortran order), as each step works on whole columns; the functions here keep that
order, and take any.

Time is continuous: the process noise of a step of ``dt`` seconds is the integral of white noise on the velocity
(spectral density ``drift``²) and on the acceleration (``agility``²), so that two steps of dt/2 give exactly one step of
dt and irregular frame rates need no special case (Bar-Shalom, Li, Kirubarajan: Estimation with Applications to Tracking
and Navigation, 2001, section 6.2.2, continuous white-noise acceleration model). Where velocities fade (dancers turn
round, people who walk do not), the same holds with an Ornstein-Uhlenbeck process for the velocity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

POSITION = slice(0, 4)
CENTRE = slice(0, 2)
SIZE = slice(2, 4)
VELOCITY = slice(4, 8)
CENTRE_VELOCITY = slice(4, 6)
SIZE_VELOCITY = slice(6, 8)
VAR_POSITION, COVARIANCE, VAR_VELOCITY, ONE = 8, 9, 10, 11
COLUMNS = 12

MIN_SIZE = 1.0  # px: a shrinking box that nobody sees any more must not turn inside out

State = NDArray[np.float64]

_IDENTITY = np.eye(COLUMNS)
_POSITION_BY_VELOCITY = slice(
    4 * COLUMNS, 8 * COLUMNS, COLUMNS + 1
)  # of the flat matrix: (4, 0), (5, 1), (6, 2), (7, 3)
_VELOCITY_BY_VELOCITY = slice(4 * (COLUMNS + 1), 8 * (COLUMNS + 1), COLUMNS + 1)
_TO_CENTRE = np.array([[0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5], [-1, 0, 1, 0], [0, -1, 0, 1]])
_TO_CORNERS = np.array([[1.0, 0, -0.5, 0], [0, 1, 0, -0.5], [1, 0, 0.5, 0], [0, 1, 0, 0.5]])


@dataclass(frozen=True, slots=True)
class MotionNoise:
    """Standard deviations of the filter, all relative to the size of the box.

    measurement: of a detected coordinate (1);
    drift: random walk of the position (1/sqrt(s));
    agility: random walk of the velocity (1/s per sqrt(s));
    initial_velocity: of the velocity of a box seen once (1/s).

    fade is no deviation but a rate (1/s): unseen, a velocity falls to 1/e of itself in 1/fade seconds; 0: it lasts.
    """

    measurement: float = 0.05
    drift: float = 0.27
    agility: float = 1.0
    initial_velocity: float = 1.9
    fade: float = 0.0

    def __post_init__(self) -> None:
        for name in ("measurement", "drift", "agility", "initial_velocity", "fade"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"motion noise {name!r} must be zero or more, got {getattr(self, name)}")
        if self.measurement == 0:
            raise ValueError("motion noise 'measurement' must be more than zero: no detector is exact")


def to_centre(boxes: NDArray) -> NDArray[np.float64]:
    """(N, 4) xyxy -> (N, 4) float64 centre x, centre y, width, height, stored by columns as a state is."""
    return _TO_CENTRE.dot(boxes.T).T


def to_corners(centred: NDArray) -> NDArray[np.float64]:
    """(N, 4) centre x, centre y, width, height -> (N, 4) float64 xyxy, stored by columns."""
    return _TO_CORNERS.dot(centred.T).T


def size_squared(state: State) -> NDArray[np.float64]:
    """(N,) px²: the product of the sides, the square of the size that noise is relative to.

    One size for both axes, and none that an object's orientation decides: a long part lying along the belt is not
    more certain across it than along it.
    """
    return state[:, 2] * state[:, 3]


def initiate(centred: NDArray, noise: MotionNoise) -> State:
    """State of boxes (N, 4) seen for the first time: at rest, with a velocity that is hardly known."""
    state = np.zeros((COLUMNS, len(centred))).T
    state[:, POSITION] = centred
    np.maximum(state[:, SIZE], MIN_SIZE, out=state[:, SIZE])
    state[:, VAR_POSITION] = noise.measurement**2
    state[:, VAR_VELOCITY] = noise.initial_velocity**2
    state[:, ONE] = 1.0
    return state


def take(state: State, rows: NDArray[np.intp]) -> State:
    """A copy of these tracks."""
    return state.T.take(rows, 1).T


def join(first: State, second: State) -> State:
    """The tracks of both, one after the other."""
    return np.concatenate([first.T, second.T], axis=1).T


def transition(dt: float, noise: MotionNoise) -> NDArray[np.float64]:
    """(12, 12), read-only: ``state @ transition`` is the state ``dt`` seconds later."""
    return _transition(dt, noise.agility, noise.drift, noise.fade)


def reach(dt: float, fade: float) -> tuple[float, float]:
    """What is left of a velocity after ``dt`` seconds, and how far it led: (share, seconds at full speed)."""
    if not fade:
        return 1.0, dt
    return math.exp(-fade * dt), -math.expm1(-fade * dt) / fade


@lru_cache(maxsize=16)
def _transition(dt: float, agility: float, drift: float, fade: float) -> NDArray[np.float64]:
    left, far = reach(dt, fade)
    step = _IDENTITY.copy()
    flat = step.reshape(-1)
    flat[_POSITION_BY_VELOCITY] = far
    flat[_VELOCITY_BY_VELOCITY] = left
    step[COVARIANCE, VAR_POSITION] = 2.0 * far
    step[COVARIANCE, COVARIANCE] = left
    step[VAR_VELOCITY, VAR_POSITION] = far * far
    step[VAR_VELOCITY, COVARIANCE] = far * left
    step[VAR_VELOCITY, VAR_VELOCITY] = left * left
    # The integrals over the step of reach², reach x left and left²: white noise on the velocity, as it is at the end.
    short = fade * dt
    single = -math.expm1(-2.0 * short) / (2.0 * fade) if fade else dt
    if short > 1e-3:
        squared = (dt - 2.0 * far + single) / fade**2
    else:  # the same, without the difference of nearly equal numbers
        squared = dt**3 / 3.0 * (1.0 - 0.75 * short + 0.35 * short**2)
    step[ONE, VAR_POSITION] = drift * drift * dt + agility * agility * squared
    step[ONE, COVARIANCE] = agility * agility * far * far / 2.0
    step[ONE, VAR_VELOCITY] = agility * agility * single
    step.setflags(write=False)
    return step


def predict(state: State, dt: float, noise: MotionNoise) -> State:
    """All tracks ``dt`` >= 0 seconds later. A new array, or the same where no time has passed."""
    if dt == 0.0 or not len(state):
        return state
    columns = transition(dt, noise).T.dot(state.T)
    _keep_upright(columns)
    return columns.T


def _keep_upright(columns: NDArray[np.float64]) -> None:
    sides = columns[SIZE].reshape(-1)
    if sides[sides.argmin()] < MIN_SIZE:  # looking costs a fraction of doing it, and argmin of min
        sides = columns[SIZE]
        np.maximum(sides, MIN_SIZE, out=sides)


def correct(state: State, rows: NDArray[np.intp] | slice, centred: NDArray[np.float64], noise: MotionNoise) -> None:
    """Kalman update, in place, of the tracks ``rows`` (M,; distinct) with ``centred`` (M, 4) boxes."""
    if not len(centred):
        return
    columns = state.T
    part = columns[:, rows] if isinstance(rows, slice) else columns.take(rows, 1)
    var_position, covariance = part[VAR_POSITION], part[COVARIANCE]
    uncertain = var_position + noise.measurement**2
    gains = part[VAR_POSITION : COVARIANCE + 1] / uncertain  # of position and of velocity
    surprise = centred.T - part[POSITION]
    moments = part[: VELOCITY.stop].reshape(2, 4, -1)  # a view: position, velocity
    moments += gains[:, None] * surprise
    velocity_part = part[COVARIANCE : VAR_VELOCITY + 1]
    velocity_part -= gains * covariance
    var_position *= 1.0 - gains[0]
    _keep_upright(part)
    if not isinstance(rows, slice):
        columns[:, rows] = part


def warp(state: State, homography: NDArray[np.float64]) -> None:
    """Move all tracks, in place, as the image moved: ``homography`` (3, 3) maps pixels of the previous frame to this.

    Centres are mapped exactly, velocities and sizes by the map's derivative at each centre: sizes by the factors along
    x and y, without shear or rotation, so a box stays an upright box of its object's size (the enclosing box of
    a rotated one would grow at every frame). The covariance is relative to the size and moves with it.
    """
    if not len(state):
        return
    x, y = state[:, 0], state[:, 1]
    a, b, c = homography.tolist()
    depth = c[0] * x + c[1] * y + c[2]
    # Points on or behind the horizon of a homography have no image; leave such tracks where they are.
    sound = depth > 1e-6
    inverse = 1.0 / np.where(sound, depth, 1.0)
    u = (a[0] * x + a[1] * y + a[2]) * inverse
    v = (b[0] * x + b[1] * y + b[2]) * inverse
    xx, xy = (a[0] - c[0] * u) * inverse, (a[1] - c[1] * u) * inverse
    yx, yy = (b[0] - c[0] * v) * inverse, (b[1] - c[1] * v) * inverse
    moved = state.copy("K")
    moved[:, 0], moved[:, 1] = u, v
    moved[:, 4] = xx * state[:, 4] + xy * state[:, 5]
    moved[:, 5] = yx * state[:, 4] + yy * state[:, 5]
    # The length of the image of a unit step: the same scale for a camera that rolls.
    along_x, along_y = np.hypot(xx, yx), np.hypot(xy, yy)
    for column, factor in ((2, along_x), (3, along_y), (6, along_x), (7, along_y)):
        moved[:, column] *= factor
    np.maximum(moved[:, SIZE], MIN_SIZE, out=moved[:, SIZE])
    sound &= np.isfinite(moved).all(axis=1)
    np.copyto(state, moved, where=sound[:, None])


def centre_covariance(state: State) -> NDArray[np.float64]:
    """(N, 2, 2) px²: covariance of the centre (x, y), which is the same in all directions."""
    return (state[:, VAR_POSITION] * size_squared(state))[:, None, None] * np.eye(2)
