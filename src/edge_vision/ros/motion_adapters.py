"""What tells how the camera turns, from its messages: Imu, Odometry, TFMessage, and CameraInfo with its region.

Read from their serialised form (see `cdr`): an IMU sends up to a thousand messages a second, and the message object of
one takes ten times as long as the seven numbers that are wanted.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo as CameraInfoMessage
from sensor_msgs.msg import Imu

from edge_vision.datatypes import NS_PER_S, CameraInfo
from edge_vision.ros.adapters import Adapter, BadMessage, camera_info_from_message, camera_info_to_message, stamp_ns
from edge_vision.ros.cdr import CDR_LITTLE_ENDIAN
from edge_vision.ros.transport import Subscription
from edge_vision.tracking.rotations import Quaternion, Vector, normalised
from edge_vision.tracking.transform_tree import Transform

if TYPE_CHECKING:
    from edge_vision.ros.node import VisionNode

T = TypeVar("T")

#: Best effort fits every publisher; deep enough for what comes at once after the executor was busy for 50 ms.
SENSOR = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT, history=HistoryPolicy.KEEP_LAST)
#: As tf2's listeners have them.
TF = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, history=HistoryPolicy.KEEP_LAST)
TF_STATIC = QoSProfile(
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
    history=HistoryPolicy.KEEP_LAST,
)
_FASTEST = 100.0  # rad/s; gyroscopes end at 35 to 70


@dataclass(frozen=True, slots=True)
class AngularVelocity:
    """A gyroscope's sample: rad/s about the axes of ``frame_id``."""

    stamp: int
    frame_id: str
    rate: Vector


@dataclass(frozen=True, slots=True)
class Orientation:
    """Odometry's: of ``child_frame_id`` in ``frame_id``."""

    stamp: int
    frame_id: str
    child_frame_id: str
    rotation: Quaternion


@dataclass(frozen=True, slots=True)
class Transforms:
    """The rotations of one TFMessage."""

    transforms: tuple[Transform, ...]

    @property
    def stamp(self) -> int:
        """Of the first."""
        return self.transforms[0].stamp if self.transforms else 0


class _Reader:
    """Fields of a little-endian CDR message, one after the other."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes):
        self._data = data
        self._at = 4

    def header(self) -> tuple[int, str]:
        at = 4 + -(-(self._at - 4) // 4) * 4
        sec, nanosec = struct.unpack_from("<iI", self._data, at)
        self._at = at + 8
        return sec * NS_PER_S + nanosec, self.string()

    def string(self) -> str:
        at = 4 + -(-(self._at - 4) // 4) * 4
        (size,) = struct.unpack_from("<I", self._data, at)
        self._at = end = at + 4 + size
        if end > len(self._data):
            raise IndexError
        return self._data[at + 4 : max(at + 4, end - 1)].decode()

    def count(self) -> int:
        at = 4 + -(-(self._at - 4) // 4) * 4
        self._at = at + 4
        return int(struct.unpack_from("<I", self._data, at)[0])

    def doubles(self, count: int) -> tuple[float, ...]:
        at = 4 + -(-(self._at - 4) // 8) * 8
        self._at = at + 8 * count
        return struct.unpack_from(f"<{count}d", self._data, at)


def _read(what: str, kind: type, read: Callable[[_Reader], T], read_message: Callable[[Any], T], data: bytes) -> T:
    try:
        if data[:2] == CDR_LITTLE_ENDIAN:
            return read(_Reader(data))
        return read_message(deserialize_message(data, kind))
    except (struct.error, IndexError, UnicodeDecodeError):
        raise BadMessage(f"truncated {what} message ({len(data)} bytes)") from None


# --- Imu -------------------------------------------------------------------------------------------------------------


def _imu(reader: _Reader) -> AngularVelocity:
    stamp, frame_id = reader.header()
    values = reader.doubles(4 + 9 + 3 + 1)  # orientation, its covariance, angular velocity, the first of its covariance
    return _angular_velocity(stamp, frame_id, (values[13], values[14], values[15]), values[16])


def _imu_message(m: Imu) -> AngularVelocity:
    w = m.angular_velocity
    return _angular_velocity(
        stamp_ns(m.header.stamp), m.header.frame_id, (w.x, w.y, w.z), m.angular_velocity_covariance[0]
    )


def _angular_velocity(stamp: int, frame_id: str, rate: Vector, covariance: float) -> AngularVelocity:
    if covariance == -1.0:
        raise BadMessage(
            "this Imu has no angular velocity, says the -1 in its angular_velocity_covariance; "
            "take one with a gyroscope"
        )
    x, y, z = rate
    if not x * x + y * y + z * z < _FASTEST * _FASTEST:  # NaN, too
        raise BadMessage(
            f"an angular velocity of {rate} rad/s: Imu.angular_velocity is in rad/s, not degrees, and no NaN"
        )
    return AngularVelocity(stamp, frame_id, rate)


def _imu_to_message(sample: AngularVelocity) -> Imu:
    message = Imu()
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(sample.stamp, NS_PER_S)
    message.header.frame_id = sample.frame_id
    w = message.angular_velocity
    w.x, w.y, w.z = sample.rate
    return message


# --- Odometry --------------------------------------------------------------------------------------------------------


def _orientation(reader: _Reader) -> Orientation:
    stamp, frame_id = reader.header()
    child = reader.string()
    _, _, _, x, y, z, w = reader.doubles(7)
    return _checked_orientation(stamp, frame_id, child, (x, y, z, w))


def _orientation_message(m: Odometry) -> Orientation:
    q = m.pose.pose.orientation
    return _checked_orientation(stamp_ns(m.header.stamp), m.header.frame_id, m.child_frame_id, (q.x, q.y, q.z, q.w))


def _checked_orientation(stamp: int, frame_id: str, child: str, rotation: Quaternion) -> Orientation:
    try:
        return Orientation(stamp, frame_id.lstrip("/"), child.lstrip("/"), normalised(rotation))
    except ValueError as error:
        raise BadMessage(f"Odometry without orientation: {error}") from None


def _orientation_to_message(sample: Orientation) -> Odometry:
    message = Odometry()
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(sample.stamp, NS_PER_S)
    message.header.frame_id, message.child_frame_id = sample.frame_id, sample.child_frame_id
    q = message.pose.pose.orientation
    q.x, q.y, q.z, q.w = sample.rotation
    return message


# --- tf --------------------------------------------------------------------------------------------------------------


def _transforms(reader: _Reader) -> Transforms:
    found = []
    for _ in range(reader.count()):
        stamp, parent = reader.header()
        child = reader.string()
        _, _, _, x, y, z, w = reader.doubles(7)
        found.append(_transform(parent, child, stamp, (x, y, z, w)))
    return Transforms(tuple(found))


def _transforms_message(message: Any) -> Transforms:
    rotations = [(t, t.transform.rotation) for t in message.transforms]
    return Transforms(
        tuple(
            _transform(t.header.frame_id, t.child_frame_id, stamp_ns(t.header.stamp), (q.x, q.y, q.z, q.w))
            for t, q in rotations
        )
    )


def _transform(parent: str, child: str, stamp: int, rotation: Quaternion) -> Transform:
    try:
        return Transform(parent.lstrip("/"), child.lstrip("/"), stamp, normalised(rotation))
    except ValueError as error:
        raise BadMessage(f"the transform from {parent!r} to {child!r}: {error}") from None


def transforms_adapter() -> Adapter[Transforms]:
    """Of tf2_msgs/TFMessage. ImportError where that package is not installed (ROS from PyPI has none)."""
    from tf2_msgs.msg import TFMessage

    def to_message(item: Transforms) -> Any:
        message = TFMessage()
        for transform in item.transforms:
            stamped = TransformStamped(child_frame_id=transform.child)
            stamped.header.frame_id = transform.parent
            stamped.header.stamp.sec, stamped.header.stamp.nanosec = divmod(transform.stamp, NS_PER_S)
            q = stamped.transform.rotation
            q.x, q.y, q.z, q.w = transform.rotation
            message.transforms.append(stamped)
        return message

    read = partial(_read, "TFMessage", TFMessage, _transforms, _transforms_message)
    return Adapter(Transforms, TFMessage, to_message, read, raw=True)


# --- CameraInfo ------------------------------------------------------------------------------------------------------


def _camera_info(message: CameraInfoMessage) -> CameraInfo:
    """As `adapters.camera_info_from_message`, but of the pixels that are sent: with region of interest and binning."""
    info = camera_info_from_message(message)
    roi = message.roi
    steps = max(1, message.binning_x), max(1, message.binning_y)
    if steps == (1, 1) and not (roi.x_offset or roi.y_offset or roi.width or roi.height):
        return info
    # The middle of a binned pixel is that of its block, half a pixel of which lies before the first one's middle.
    to_sent = np.diag([1 / steps[0], 1 / steps[1], 1.0])
    to_sent[:2, 2] = [
        -(offset + 0.5 * (step - 1)) / step for offset, step in zip((roi.x_offset, roi.y_offset), steps, strict=True)
    ]
    return dataclasses.replace(
        info,
        K=to_sent @ info.K,
        P=to_sent @ info.P,
        width=(roi.width or info.width) // steps[0],
        height=(roi.height or info.height) // steps[1],
    )


IMU = Adapter(AngularVelocity, Imu, _imu_to_message, partial(_read, "Imu", Imu, _imu, _imu_message), raw=True)
ODOMETRY = Adapter(
    Orientation,
    Odometry,
    _orientation_to_message,
    partial(_read, "Odometry", Odometry, _orientation, _orientation_message),
    raw=True,
)
CAMERA_INFO = Adapter(CameraInfo, CameraInfoMessage, camera_info_to_message, _camera_info)


# --- taken at once ---------------------------------------------------------------------------------------------------


class Prompt:
    """A mailbox in which nothing waits: the callback, short and safe to run beside the node's worker, is run at once by
    the thread that brings the item. Waking the worker for each of 200 samples a second would cost more than they do."""

    def __init__(self, node: VisionNode, callback: Callable[[Any], None]):
        self._node = node
        self.callback = callback
        self.dropped = 0

    def offer(self, item: Any, wait: bool = True) -> None:
        self._node._attempt(self.callback, item)

    def take(self) -> Any:
        raise AssertionError("nothing waits here")

    def done(self) -> None: ...

    def hold(self, depth: int) -> None: ...

    def release(self) -> None: ...

    def open(self) -> None: ...

    def close(self) -> None: ...

    def __len__(self) -> int:
        return 0


def subscribe_promptly(
    node: VisionNode, adapter: Adapter[T], topic: str, callback: Callable[[T], None], profile: QoSProfile
) -> Subscription[T]:
    """A subscription of the node whose callback is run at once (`Prompt`). Of an active node it is opened; such a call
    comes from the executor's thread."""
    mailbox: Any = Prompt(node, callback)
    subscription = Subscription(node, adapter, topic, profile, mailbox, node.bus, counted=False)
    node._subscriptions_.append(subscription)
    if node.active:
        subscription.open()
    return subscription
