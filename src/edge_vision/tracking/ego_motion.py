"""How the camera turned between the images of two updates of a tracker, from what the robot's sensors say.

A source (a gyroscope, odometry, tf) tells the rotation of the camera's optical frame between any two stamps;
`EgoMotion` asks it for the true interval since the tracker's last update, whatever frames were dropped between, and
makes the warp. Turns are ``current_R_previous`` of the optical frame (x right, y down, z forward; REP 103). A
translation moves near things more than far ones, which no warp of the image as a whole can say; it is left to the
tracks' own velocities.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S, CameraInfo, Frame
from edge_vision.tracking.attitude import AttitudeHistory, Missing
from edge_vision.tracking.lens import Lens
from edge_vision.tracking.rotations import (
    IDENTITY,
    Quaternion,
    from_rpy,
    inverse,
    multiply,
    normalised,
    rotate,
)
from edge_vision.tracking.transform_tree import TransformTree
from edge_vision.tracking.warps import Homography

if TYPE_CHECKING:
    from edge_vision.tracking.camera_motion import SparseFlow

T = TypeVar("T")

LONGEST = 4 * NS_PER_S  # between two updates; a tracker starts anew after 3 s
MAX_TURN_COSINE = 0.5  # of the optical axis, 60 degrees: nothing of the last image is in this one
_IN_VAIN = 3  # waits without success, after which only now and then one is tried
_TRIED_EVERY = 50
_FRAME_BYTES = 64 << 20


class Source(Protocol):
    """Rotations of the optical frame over time."""

    def turn(self, previous: int, current: int) -> Quaternion | Missing:
        """current_R_previous between two stamps (ns)."""

    def newest(self) -> int | None:
        """Stamp up to which it is told."""


class BodySource:
    """A gyroscope or odometry on the same rigid body as the camera.

    mount: orientation of the optical frame in the sensor's frame; None: from the static transforms of ``tree``, between
    ``body_frame`` and ``optical_frame``, whose names are learnt from messages.
    """

    def __init__(
        self, history: AttitudeHistory, mount: Quaternion | None = None, tree: TransformTree | None = None
    ) -> None:
        self.history = history
        self.tree = tree
        self._given = mount
        self._mount = mount
        self._frames = ("", "")

    def learn_frames(self, body_frame: str | None = None, optical_frame: str | None = None) -> None:
        """Names of the frames as they come with messages."""
        frames = (
            self._frames[0] if body_frame is None else body_frame,
            self._frames[1] if optical_frame is None else optical_frame,
        )
        if frames != self._frames:
            self._frames = frames
            self._mount = self._given

    @property
    def frames(self) -> tuple[str, str]:
        """Sensor's and camera's."""
        return self._frames

    def turn(self, previous: int, current: int) -> Quaternion | Missing:
        mount = self._mount
        if mount is None:
            body, optical = self._frames
            if body and body == optical:
                mount = IDENTITY
            elif self.tree is None or not (body and optical):
                return Missing.MOUNT
            else:
                found = self.tree.static_rotation(body, optical)
                if isinstance(found, Missing):
                    return found
                mount = found
            self._mount = mount
        end = self.history.at(current)  # first what is more likely to be missing
        if isinstance(end, Missing):
            return end
        begin = self.history.at(previous)
        if isinstance(begin, Missing):
            return begin
        x, y, z, w = multiply(inverse(end), begin)
        return *rotate(inverse(mount), (x, y, z)), w  # the same turn, seen from the optical frame

    def newest(self) -> int | None:
        return self.history.newest


class TreeSource:
    """tf: orientation of the optical frame in a frame that stands still in the world (odom, map)."""

    def __init__(self, tree: TransformTree, fixed_frame: str) -> None:
        self.tree = tree
        self.fixed_frame = fixed_frame
        self._optical = ""

    def learn_frames(self, body_frame: str | None = None, optical_frame: str | None = None) -> None:
        """Only the camera's frame matters."""
        if optical_frame is not None:
            self._optical = optical_frame

    @property
    def frames(self) -> tuple[str, str]:
        return self.fixed_frame, self._optical

    def turn(self, previous: int, current: int) -> Quaternion | Missing:
        end = self.tree.rotation(self.fixed_frame, self._optical, current)
        if isinstance(end, Missing):
            return end
        begin = self.tree.rotation(self.fixed_frame, self._optical, previous)
        return begin if isinstance(begin, Missing) else multiply(inverse(end), begin)

    def newest(self) -> int | None:
        return self.tree.newest(self.fixed_frame, self._optical)


class WarpFeed:
    """What the ways to a warp have in common: the interval, waiting, counting.

    given: warps so far; missing: updates that had none, by reason. Neither counts the first update and those whose
    stamp does not lie after the last one's: there is no interval then.
    patience: s that an update waits, at most, for what reaches its stamp; after `_IN_VAIN` waits without success it
    does so only at every `_TRIED_EVERY`-th, so a source that always lags costs nothing.
    """

    def __init__(self, patience: float = 0.005) -> None:
        self.patience = patience
        self.given = 0
        self.missing: Counter[Missing] = Counter()
        self._previous: int | None = None
        self._in_vain = 0
        self._waiting = False
        self._news = threading.Condition()

    def arrived(self) -> None:
        """There is something new; called by whoever brought it, on another thread."""
        if self._waiting:
            with self._news:
                self._news.notify_all()

    def _interval(self, stamp: int) -> tuple[int, int] | None:
        previous, self._previous = self._previous, stamp
        if previous is None or not 0 < stamp - previous <= LONGEST:
            return None
        return previous, stamp

    def _wait(self, ask: Callable[[], T | Missing], not_yet: Missing) -> T | Missing:
        """What `ask` answers, as soon as that is not ``not_yet``."""
        answer: T | Missing = not_yet
        if self._in_vain >= _IN_VAIN:
            self._in_vain += 1
            if self._in_vain % _TRIED_EVERY:
                return answer
        deadline = time.monotonic() + self.patience
        with self._news:
            self._waiting = True
            try:
                while answer is not_yet and (left := deadline - time.monotonic()) > 0:
                    answer = ask()  # at first for what came just before the wait
                    if answer is not_yet:
                        self._news.wait(left)
            finally:
                self._waiting = False
        self._in_vain = self._in_vain + 1 if answer is not_yet else 0
        return answer

    def _count(self, warp: Homography | Missing) -> Homography | Missing:
        if isinstance(warp, Missing):
            self.missing[warp] += 1
        else:
            self.given += 1
        return warp


class EgoMotion(WarpFeed):
    """Warps from a source of rotations.

    offset: s that are added to an image's stamp to have the sensor's time (Kalibr's timeshift_cam_imu).
    """

    def __init__(self, source: Source, patience: float = 0.005, offset: float = 0.0, rectified: bool = False) -> None:
        super().__init__(patience)
        self.source = source
        self.offset = offset
        self.lens: Lens | None = None
        self._rectified = rectified
        self._calibration: tuple[object, ...] = ()

    def learn_camera(self, info: CameraInfo, size: tuple[int, int] | None = None) -> None:
        """A camera's calibration, and the size of its images where known. ValueError where it cannot serve."""
        key = (info.width, info.height, info.distortion_model, size, *(a.tobytes() for a in (info.K, info.D, info.P)))
        if key != self._calibration:
            self._calibration = key
            self.lens = None
            self.lens = Lens(info, size, self._rectified)

    def warp(self, stamp: int) -> Homography | Missing | None:
        """From the image of the last call to the one with this stamp; None where there is no interval."""
        interval = self._interval(stamp)
        return None if interval is None else self._count(self._warp(*interval))

    def _warp(self, previous: int, current: int) -> Homography | Missing:
        lens = self.lens
        if lens is None:
            return Missing.CALIBRATION
        shift = round(self.offset * NS_PER_S)
        ask = partial(self.source.turn, previous + shift, current + shift)
        turn = ask()
        if turn is Missing.LATE:
            turn = self._wait(ask, Missing.LATE)
        if isinstance(turn, Missing):
            return turn
        x, y, _, _ = turn
        if 1.0 - 2.0 * (x * x + y * y) < MAX_TURN_COSINE:  # the last element of the rotation matrix
            return Missing.TURNED
        return lens.homography(turn)


class FlowFeed(WarpFeed):
    """Warps from the images, of those that were tracked: frames wait here for the detections found in them.

    `keep` is called by the thread that brings frames, `warp` by the one that tracks.
    """

    def __init__(self, flow: SparseFlow | None = None, patience: float = 0.005) -> None:
        super().__init__(patience)
        if flow is None:
            from edge_vision.tracking.camera_motion import SparseFlow  # OpenCV, only where images are looked at

            flow = SparseFlow()
        self.flow = flow
        self._at: int | None = None  # stamp of the image that the flow knows
        self._lock = threading.Lock()
        self._frames: OrderedDict[int, Frame] = OrderedDict()
        self._bytes = 0

    def keep(self, frame: Frame) -> None:
        """A frame that detections may come for; the oldest go beyond 64 MiB, but for the newest three."""
        with self._lock:
            if self._frames and frame.stamp < next(reversed(self._frames)):
                self._frames.clear()  # the source began anew
                self._bytes = 0
            if frame.stamp not in self._frames:
                self._frames[frame.stamp] = frame
                self._bytes += frame.image.nbytes
            while self._bytes > _FRAME_BYTES and len(self._frames) > 3:
                self._bytes -= self._frames.popitem(last=False)[1].image.nbytes
        self.arrived()

    def _take(self, stamp: int) -> Frame | Missing:
        """Missing.LATE where it may still come."""
        with self._lock:
            while self._frames and next(iter(self._frames)) < stamp:  # detections come in the order of their images
                self._bytes -= self._frames.popitem(last=False)[1].image.nbytes
            return self._frames.get(stamp, Missing.PICTURE if self._frames else Missing.LATE)

    def warp(self, stamp: int, boxes: NDArray | None = None) -> Homography | Missing | None:
        """As `EgoMotion.warp`; boxes (N, 4): the tracks of the last update, which move by themselves."""
        interval = self._interval(stamp)
        frame = self._take(stamp)
        if frame is Missing.LATE:
            frame = self._wait(partial(self._take, stamp), Missing.LATE)
        known, self._at = self._at, None
        if interval is None or known != interval[0]:
            self.flow.reset()
        warp: Homography | Missing = Missing.PICTURE
        if not isinstance(frame, Missing):
            self._at = stamp
            found = self.flow.update(frame.image, boxes)
            if interval is not None and known == interval[0]:
                warp = Missing.FEATURES if found is None else found
        return None if interval is None else self._count(warp)


FORWARD: Quaternion = from_rpy(-1.5707963267948966, 0.0, -1.5707963267948966)
"""Of an optical frame in a body frame (x forward, y left, z up; REP 103) of a camera that looks forward."""


def parse_mount(text: str) -> Quaternion | None:
    """Orientation of the optical frame in the sensor's: "" (None: from tf), "same", "forward", "roll pitch yaw" (rad,
    as in a URDF) or a quaternion "x y z w". ValueError for anything else."""
    text = text.strip().lower()
    named: dict[str, Quaternion | None] = {"": None, "same": IDENTITY, "forward": FORWARD}
    if text in named:
        return named[text]
    try:
        numbers = [float(part) for part in text.replace(",", " ").split()]
        if len(numbers) == 3:
            return from_rpy(*numbers)
        if len(numbers) == 4:
            return normalised((numbers[0], numbers[1], numbers[2], numbers[3]))
    except ValueError:
        pass
    raise ValueError(
        f"camera_rotation {text!r} is neither empty (from /tf_static), `same`, `forward`, three angles `roll pitch "
        "yaw` in rad, nor a quaternion `x y z w`"
    )
