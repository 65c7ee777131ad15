"""Orientations over time: as they are told, or integrated from a gyroscope; asked for at any stamp."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from enum import Enum

from edge_vision.datatypes import NS_PER_S
from edge_vision.tracking.rotations import IDENTITY, Quaternion, Vector, multiply, slerp, turn

MAX_GAP = NS_PER_S // 5  # between samples that are interpolated
MAX_AHEAD = NS_PER_S // 50  # beyond the newest sample, where the last rate is taken to go on
KEPT = 5 * NS_PER_S  # more than a tracker's longest step (3 s) and a detector's latency
REWOUND = NS_PER_S  # a step back by more is a bag that loops; by less, samples out of order


class Missing(Enum):
    """Why there is no orientation, and so no warp; the value says it to the user."""

    NOTHING = "nothing received yet"
    LATE = "newer samples than this image's had not come in time"
    EARLY = "samples do not reach back to the previous image"
    GAP = "a gap in the samples"
    MOUNT = "the rotation between sensor and camera is not known"
    FRAMES = "no transforms between the fixed frame and the camera"
    CALIBRATION = "no usable camera_info"
    PICTURE = "no image with this stamp"
    FEATURES = "too little to see in the images"
    TURNED = "the camera turned away"


class AttitudeHistory:
    """Orientations of one frame in another by stamp (ns), the last `KEPT`. Written by one thread, read by another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stamps: list[int] = []
        self._attitudes: list[Quaternion] = []

    def add(self, stamp: int, attitude: Quaternion) -> None:
        """attitude: of length one. A stamp that is there already is replaced, one that comes late finds its place."""
        with self._lock:
            if not self._stamps or stamp > self._stamps[-1]:
                self._append(stamp, attitude)
            elif stamp < self._stamps[-1] - REWOUND:
                self._clear()
                self._append(stamp, attitude)
            else:
                place = bisect_left(self._stamps, stamp)
                if self._stamps[place] == stamp:
                    self._attitudes[place] = attitude
                else:
                    self._stamps.insert(place, stamp)
                    self._attitudes.insert(place, attitude)

    def _append(self, stamp: int, attitude: Quaternion) -> None:
        self._stamps.append(stamp)
        self._attitudes.append(attitude)
        if stamp - self._stamps[0] > 2 * KEPT:  # in one piece now and then
            old = bisect_left(self._stamps, stamp - KEPT)
            del self._stamps[:old], self._attitudes[:old]

    def _clear(self) -> None:
        self._stamps.clear()
        self._attitudes.clear()

    @property
    def newest(self) -> int | None:
        """Stamp of the newest sample."""
        stamps = self._stamps
        return stamps[-1] if stamps else None

    def at(self, stamp: int) -> Quaternion | Missing:
        """The orientation at a stamp: between two samples by slerp, up to `MAX_AHEAD` beyond the newest at the last
        rate."""
        with self._lock:
            stamps = self._stamps
            after = bisect_right(stamps, stamp)
            if not stamps:
                return Missing.NOTHING
            if after == 0:
                return Missing.EARLY
            if stamps[after - 1] == stamp:
                return self._attitudes[after - 1]
            if after == len(stamps):
                return self._beyond(stamp - stamps[-1])
            return self._between(after - 1, stamp)

    def _between(self, before: int, stamp: int) -> Quaternion | Missing:
        begin, end = self._stamps[before : before + 2]
        if end - begin > MAX_GAP:
            return Missing.GAP
        a, b = self._attitudes[before : before + 2]
        return slerp(a, b, (stamp - begin) / (end - begin))

    def _beyond(self, ahead: int) -> Quaternion | Missing:
        if ahead > MAX_AHEAD or len(self._stamps) < 2:
            return Missing.LATE
        return self._between(len(self._stamps) - 2, self._stamps[-1] + ahead)


_REST_SPREAD = 0.04  # rad/s from peak to peak: noise of a MEMS gyroscope that nothing moves
_REST_RATE = 0.05  # rad/s: what a gyroscope at rest may show (3 degrees/s); more is a turn
_REST_TIME = NS_PER_S // 2
_REST_SAMPLES = 8
_BIAS_STEP = 0.5  # of what is left of the bias, taken over after each rest


class Gyroscope(AttitudeHistory):
    """Orientation against where it was at first, from angular velocities (trapezoidal rule).

    Only differences over a few seconds are asked for, so the drift of the whole does not matter. bias: rad/s, learnt
    while nothing moves: half a second within `_REST_SPREAD` about less than `_REST_RATE`. A steady turn that slow is
    taken for bias, too: it then goes to the tracks' own velocities, where a turn without a gyroscope goes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bias: Vector = (0.0, 0.0, 0.0)
        self.refused = 0  # samples that came out of order: too late for the integral
        self._rate: Vector = (0.0, 0.0, 0.0)
        self._begin_rest(0)

    def add_rate(self, stamp: int, rate: Vector) -> None:
        """One sample, rad/s. After more than `MAX_GAP` without any, the history begins anew."""
        self._watch_rest(stamp, rate)
        bx, by, bz = self.bias
        x, y, z = rate
        rate = (x - bx, y - by, z - bz)
        with self._lock:
            stamps = self._stamps
            if stamps:
                step = stamp - stamps[-1]
                if -REWOUND <= step <= 0:
                    self.refused += step < 0
                    return
                if 0 < step <= MAX_GAP:
                    ox, oy, oz = self._rate
                    mean = 0.5 * (ox + rate[0]), 0.5 * (oy + rate[1]), 0.5 * (oz + rate[2])
                    self._rate = rate
                    qx, qy, qz, qw = multiply(self._attitudes[-1], turn(mean, step / NS_PER_S))
                    # One Newton step: rounding must not add up over days.
                    scale = 1.5 - 0.5 * (qx * qx + qy * qy + qz * qz + qw * qw)
                    self._append(stamp, (qx * scale, qy * scale, qz * scale, qw * scale))
                    return
                self._clear()
            self._rate = rate
            self._append(stamp, IDENTITY)

    def _beyond(self, ahead: int) -> Quaternion | Missing:
        if ahead > MAX_AHEAD:
            return Missing.LATE
        return multiply(self._attitudes[-1], turn(self._rate, ahead / NS_PER_S))

    def _begin_rest(self, stamp: int) -> None:
        self._rest_since, self._rest_count = stamp, 0
        self._rest_sum = [0.0, 0.0, 0.0]
        self._low: Vector | None = None

    def _watch_rest(self, stamp: int, rate: Vector) -> None:
        x, y, z = rate
        if self._low is None or not 0 <= stamp - self._rest_since <= 4 * _REST_TIME:
            self._begin_rest(stamp)
            self._low = self._high = rate
        else:
            a, b, c = self._low
            d, e, f = self._high
            self._low = (x if x < a else a, y if y < b else b, z if z < c else c)
            self._high = (x if x > d else d, y if y > e else e, z if z > f else f)
        total = self._rest_sum
        total[0] += x
        total[1] += y
        total[2] += z
        self._rest_count += 1
        if stamp - self._rest_since >= _REST_TIME and self._rest_count >= _REST_SAMPLES:
            spread = max(high - low for high, low in zip(self._high, self._low, strict=True))
            mean = [value / self._rest_count for value in total]
            if spread < _REST_SPREAD and max(map(abs, mean)) < _REST_RATE:
                bx, by, bz = (b + _BIAS_STEP * (m - b) for b, m in zip(self.bias, mean, strict=True))
                self.bias = (bx, by, bz)
            self._low = None
