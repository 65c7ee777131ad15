"""Frames between processes of one machine through shared memory.

Beside an image topic T its publisher offers T/shared with `edge_vision/SharedFrame`: where in a file of /dev/shm the
pixels lie. A ring of slots is written in turn; each begins with a generation word that is 0 while the slot is being
written and the frame's own number afterwards. A reader copies the pixels out and looks at the word again: had the
writer come round meanwhile, the frame counts as dropped and is never delivered torn. Cost: two copies and one small
message, where a sensor_msgs/Image takes several copies in rclpy and Fast DDS, and as many allocations.

Readers that cannot open the segment (another machine, container or user) keep to the Image topic.
"""

from __future__ import annotations

import errno
import mmap
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Frame
from edge_vision.msg import SharedFrame
from edge_vision.ros import qos
from edge_vision.ros.adapters import BadMessage, image_view, set_header, stamp_ns
from edge_vision.ros.audience import create_publisher

if TYPE_CHECKING:
    from edge_vision.ros.node import VisionNode

FOLDER = Path("/dev/shm")
PREFIX = "edge_vision_"
SLOTS = 6
_WORD = 64  # a cache line for the generation word
SUFFIX = "/shared"


class Segment:
    """A ring of slots in a file of /dev/shm, made by its writer."""

    def __init__(self, capacity: int, slots: int = SLOTS):
        """capacity: bytes of pixels a slot. OSError where there is no shared memory or not enough of it."""
        self.capacity = capacity
        self._stride = _WORD + -(-capacity // 64) * 64
        self._slots = slots
        self.name = f"{PREFIX}{os.getpid()}_{secrets.token_hex(4)}"
        descriptor = os.open(FOLDER / self.name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            # Reserved now: a full tmpfs (Docker gives 64 MB) must be an error here, not a SIGBUS at the first write.
            os.posix_fallocate(descriptor, 0, self._stride * slots)
            self._map = mmap.mmap(descriptor, self._stride * slots)
        except OSError:
            os.unlink(FOLDER / self.name)
            raise
        finally:
            os.close(descriptor)
        self._bytes = np.frombuffer(self._map, np.uint8)
        self._generation = 0

    def write(self, image: NDArray) -> tuple[int, int]:
        """Copies the pixels into the next slot; returns (offset of the slot, generation)."""
        self._generation += 1
        offset = (self._generation % self._slots) * self._stride
        word = self._bytes[offset : offset + 8].view(np.uint64)
        word[0] = 0
        target = self._bytes[offset + _WORD : offset + _WORD + image.nbytes].view(image.dtype).reshape(image.shape)
        np.copyto(target, image)
        word[0] = self._generation
        return offset, self._generation

    def close(self) -> None:
        (FOLDER / self.name).unlink(missing_ok=True)
        # The mapping goes with its last view.


def read_slot(segment: NDArray[np.uint8], offset: int, generation: int, size: int) -> NDArray[np.uint8] | None:
    """A copy of the slot's pixels, None where the writer has overwritten them or is about to."""
    if offset + _WORD + size > len(segment):
        return None
    word = segment[offset : offset + 8].view(np.uint64)
    if word[0] != generation:
        return None
    pixels = segment[offset + _WORD : offset + _WORD + size].copy()
    return pixels if word[0] == generation else None


def remove_stale_segments() -> int:
    """Removes what killed processes left in /dev/shm; returns how many files."""
    removed = 0
    for path in FOLDER.glob(PREFIX + "*_*") if FOLDER.is_dir() else ():
        pid = path.name[len(PREFIX) :].split("_")[0]
        try:
            if pid.isdigit() and not Path(f"/proc/{pid}").exists():
                path.unlink()
                removed += 1
        except OSError:
            continue  # somebody else's
    return removed


class SharedFrameOutput:
    """The writing side, beside one image publisher."""

    def __init__(self, node: VisionNode, topic: str):
        self._node = node
        self._publisher, self._audience = create_publisher(node, SharedFrame, topic + SUFFIX, qos.IMAGE_OUTPUT)
        self._segment: Segment | None = None
        self._usable = FOLDER.is_dir()

    @property
    def has_subscribers(self) -> bool:
        return self._usable and self._audience.present()

    def publish(self, frame: Frame) -> None:
        if not self.has_subscribers:
            return
        image = frame.image
        try:
            if self._segment is None or self._segment.capacity < image.nbytes:
                self._replace(image.nbytes)
            assert self._segment is not None
        except OSError as error:
            self._usable = False
            why = "too little room" if error.errno == errno.ENOSPC else str(error)
            self._node.get_logger().warning(
                f"no shared memory for frames ({FOLDER}: {why}): other processes get them as Image messages, slower. "
                "In Docker: --shm-size=256m or --ipc=host"
            )
            return
        offset, generation = self._segment.write(image)
        message = SharedFrame()
        set_header(message.header, frame)
        message.segment = self._segment.name
        message.offset = offset
        message.generation = generation
        message.sequence = frame.sequence
        message.height, message.width = image.shape[:2]
        message.step = image.nbytes // image.shape[0]
        message.encoding = frame.encoding
        self._publisher.publish(message)

    def _replace(self, capacity: int) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None
        self._segment = Segment(capacity)

    def close(self) -> None:
        if self._segment is not None:
            self._segment.close()
        self._node.destroy_publisher(self._publisher)


class SharedFrameInput:
    """The reading side, beside one image subscription."""

    def __init__(self, node: VisionNode, topic: str, deliver: Callable[[Frame], None]):
        self._node = node
        self._deliver = deliver
        self._topic = node.resolve_topic_name(topic + SUFFIX)
        self._segments: dict[str, NDArray[np.uint8]] = {}
        self._unusable = False
        self._last_stamp = -1
        self._subscription = node.create_subscription(SharedFrame, topic + SUFFIX, self._read, qos.EVERY_IMAGE_INPUT)

    def alive(self) -> bool:
        """Whether frames can still come this way."""
        return not self._unusable and self._node.count_publishers(self._topic) > 0

    def has_delivered(self, stamp: int) -> bool:
        return stamp == self._last_stamp

    def _read(self, message: SharedFrame) -> None:
        if self._unusable:
            return
        segment = self._map(message.segment)
        if segment is None:
            return
        pixels = read_slot(segment, message.offset, message.generation, message.step * message.height)
        if pixels is None:
            self._node.count_drop()
            return
        try:
            image = image_view(pixels, message.height, message.width, message.step, message.encoding)
        except BadMessage as error:
            self._node.reject(f"{self._topic}: {error}")
            return
        self._last_stamp = stamp_ns(message.header.stamp)
        self._deliver(Frame(image, self._last_stamp, message.header.frame_id, message.sequence, message.encoding))

    def _map(self, name: str) -> NDArray[np.uint8] | None:
        known = self._segments.get(name)
        if known is not None:
            return known
        try:
            if "/" in name or not name.startswith(PREFIX):
                raise FileNotFoundError(errno.ENOENT, "not the name of a segment", name)
            with open(FOLDER / name, "rb") as file:
                mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        except OSError as error:
            self._unusable = True
            self._node.get_logger().info(
                f"{self._topic}: segment not reachable ({error.strerror}), using Image messages"
            )
            return None
        self._segments = {name: mapped}  # a publisher has one at a time; older ones may go
        return mapped

    def close(self) -> None:
        self._node.destroy_subscription(self._subscription)
        self._segments.clear()
