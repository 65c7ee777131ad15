"""How a board moves before a camera: poses worth showing, the way between two, a hand that is a little off."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.simulation.lens import Lens

Floats = NDArray[np.float64]

_MOST_TRIES = 3  # to show a view that is asked for again and again

# Where in the image (-1..1 of the room there is), the share of it that the board fills, its tilt in degrees about the
# vertical and the horizontal.
_SHOWN = (
    (0.0, 0.0, 0.60, 0, 0),
    (0.0, 0.0, 0.62, 30, 0),
    (-0.8, -0.7, 0.50, -22, 12),
    (0.8, -0.7, 0.50, 20, 15),
    (0.8, 0.7, 0.50, 15, -25),
    (-0.8, 0.7, 0.50, -15, -20),
    (0.0, 0.0, 0.62, 0, 32),
    (0.3, 0.0, 0.72, -30, 5),
    (-0.2, 0.2, 0.70, 5, -32),
)


@dataclass(frozen=True, eq=False)
class Pose:
    """Of the board in the camera's optical frame: x = rotation X + translation."""

    rotation: Floats
    """(3, 3)"""
    translation: Floats
    """(3,) m"""


def shown_poses(lens: Lens, width: int, height: int, outline: Floats, printed_up: bool = False) -> list[Pose]:
    """Poses from which a calibration may begin: facing the camera, tilted either way, at several places.

    outline: (N, 3) m, the board's edge in its own frame. printed_up: its z comes out of the printed side (AprilGrid),
    not into the board.
    """
    middle = (outline.min(0) + outline.max(0)) / 2
    size = np.ptp(outline, axis=0)[:2]
    own = np.diag([1.0, -1.0, -1.0]) if printed_up else np.eye(3)
    poses = []
    for x, y, fill, about_vertical, about_horizontal in _SHOWN:
        share = fill * min(width / size[0], height / size[1])  # pixels a metre
        room = (np.array([width, height]) - size * share) / 2
        ray = lens.unproject((np.array([width, height]) - 1) / 2 + room * [x, y])
        ray = ray / np.linalg.norm(ray) if np.isfinite(ray).all() else np.array([0.0, 0.0, 1.0])
        turn = cv2.Rodrigues(np.radians([about_horizontal, about_vertical, 0.0]))[0]
        rotation = np.asarray(_facing(ray) @ turn @ own)
        poses.append(Pose(rotation, ray * lens.K[0, 0] / share - rotation @ middle))
    return poses


def between(a: Pose, b: Pose, share: float, pivot: Floats) -> Pose:
    """The pose at a share (0..1) of the way from one to the other; ``pivot`` (3,) m of the board moves on a line."""
    turn = cv2.Rodrigues(b.rotation @ a.rotation.T)[0]
    rotation = np.asarray(cv2.Rodrigues(turn * share)[0]) @ a.rotation
    start, end = a.rotation @ pivot + a.translation, b.rotation @ pivot + b.translation
    return Pose(rotation, start + (end - start) * share - rotation @ pivot)


def way(a: Pose, b: Pose, pivot: Floats) -> float:
    """Metres that a hand moves from one pose to the other; a radian counts as 0.2 m."""
    turn = float(np.linalg.norm(cv2.Rodrigues(b.rotation @ a.rotation.T)[0]))
    step = np.linalg.norm(b.rotation @ pivot + b.translation - a.rotation @ pivot - a.translation)
    return max(float(step), 0.2 * turn)


def smooth(share: float) -> float:
    """The share of the way at a share of the time: of least jerk, at rest at both ends (Flash, Hogan 1985)."""
    s = min(max(share, 0.0), 1.0)
    return s**3 * (10 - 15 * s + 6 * s * s)


class Choreography:
    """A board that goes by itself from pose to pose, holds still at each, and begins anew. A function of time alone."""

    def __init__(self, poses: list[Pose], pivot: Floats, speed: float = 0.12, hold: float = 1.0):
        """speed: m/s on average; hold: s."""
        self._poses = [*poses, poses[0]]
        self._pivot = pivot
        self._hold = hold
        ways = [way(a, b, pivot) for a, b in zip(self._poses, self._poses[1:], strict=False)]
        self._durations = [max(each / speed, 0.2) for each in ways]
        self._starts = np.cumsum([0.0, *[duration + hold for duration in self._durations]])

    def pose(self, t: float) -> Pose:
        """At ``t`` seconds from the beginning."""
        t %= float(self._starts[-1])
        leg = min(int(np.searchsorted(self._starts, t, side="right")) - 1, len(self._durations) - 1)
        share = smooth((t - self._starts[leg] - self._hold) / self._durations[leg])
        return between(self._poses[leg], self._poses[leg + 1], share, self._pivot)


@dataclass(frozen=True)
class Manner:
    """How a hand moves a board. speed: m/s on average. degrees, share: sigma of its error in angle and, as a share of
    the distance, in place. hold: s that it then keeps still."""

    speed: float = 0.35
    degrees: float = 3.0
    share: float = 0.05
    hold: float = 1.0


class Hand:
    """Takes a board to poses: at a hand's speed, a little off, and still for a while. Times are seconds."""

    def __init__(self, pivot: Floats, manner: Manner | None = None, seed: int = 0) -> None:
        """pivot: (3,) m, the middle of the board in its own frame. ``manner`` may be exchanged at any time."""
        self._pivot = np.asarray(pivot, np.float64)
        self.manner = manner or Manner()
        self._rng = np.random.default_rng([seed, 0x4A4D])
        self._from: Pose | None = None
        self._to: Pose | None = None
        self._begun = self._arrival = -math.inf

    def aim(self, pose: Pose, t: float, care: float = 1.0) -> None:
        """Sets out for a pose from where the board is; the first time it is there at once. care: factor on the error"""
        missed = self._missed(pose, care)
        now = self.pose(t)
        self._from, self._to = now or missed, missed
        self._begun = t
        self._arrival = t if now is None else t + way(now, missed, self._pivot) / self.manner.speed

    def pose(self, t: float) -> Pose | None:
        """Where the board is; None before the first aim."""
        if self._from is None or self._to is None:
            return None
        if t >= self._arrival:
            return self._to
        share = smooth((t - self._begun) / (self._arrival - self._begun))
        return between(self._from, self._to, share, self._pivot)

    @property
    def arrival(self) -> float:
        """When the board is, or was, where it was last taken; minus infinity before the first aim."""
        return self._arrival

    def rested(self, t: float) -> float:
        """Seconds since the board has been held for as long as it should; negative before, infinite with no aim yet."""
        return t - self._arrival - self.manner.hold

    def _missed(self, pose: Pose, care: float) -> Pose:
        turn = self._rng.normal(size=3) / math.sqrt(3) * math.radians(self.manner.degrees) * care
        rotation = np.asarray(cv2.Rodrigues(turn)[0]) @ pose.rotation
        middle = pose.rotation @ self._pivot + pose.translation
        step = self._rng.normal(size=3) / math.sqrt(3) * self.manner.share * care
        return Pose(rotation, middle + step * np.linalg.norm(middle) - rotation @ self._pivot)


class GuidedHand:
    """A hand that does what it is told: the next view; poses of its own while there is none; and where a view is not
    taken, the same once more with more care, in the end another."""

    def __init__(self, hand: Hand, own: list[Pose], patience: float) -> None:
        """own: shown in turn while nobody asks for a view. patience: s to wait for a view to be taken."""
        self.hand, self.own, self.patience = hand, own, patience
        self._next_own = 0
        self._asked: Pose | None = None  # what the board was last taken to, as asked
        self._tries = 0

    def pose(self, t: float, asked: Pose | None, wanted: bool = True) -> Pose | None:
        """Where the board is at ``t``. asked: the next view, None where none is known; wanted: views are looked at."""
        rested = self.hand.rested(t)
        if rested >= 0 and (wanted or self.hand.pose(t) is None):
            if asked is None:
                self._show_own(t)
            elif self._asked is None or not _same(asked, self._asked):
                self._asked, self._tries = asked, 0
                self.hand.aim(asked, t)
            elif rested >= self.patience:
                self._tries += 1
                if self._tries > _MOST_TRIES:
                    self._show_own(t)
                else:
                    self.hand.aim(asked, t, care=0.5**self._tries)
        return self.hand.pose(t)

    def _show_own(self, t: float) -> None:
        self._asked = None
        self.hand.aim(self.own[self._next_own % len(self.own)], t)
        self._next_own += 1


def _same(a: Pose, b: Pose) -> bool:
    return np.allclose(a.translation, b.translation, atol=1e-3) and np.allclose(a.rotation, b.rotation, atol=1e-2)


def _facing(ray: Floats) -> Floats:
    """(3, 3) the smallest rotation that takes the optical axis to a unit ray."""
    axis = np.cross([0.0, 0.0, 1.0], ray)
    sine = float(np.linalg.norm(axis))
    if sine < 1e-12:
        return np.eye(3)
    return np.asarray(cv2.Rodrigues(axis / sine * math.atan2(sine, float(ray[2])))[0])
