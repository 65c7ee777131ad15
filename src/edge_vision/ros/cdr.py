"""Reads the serialised form of sensor_msgs/Image without building the message.

rclpy turns `uint8[] data` into an `array.array` through two more copies of the image; a raw subscription hands over the
bytes as they came, and the pixels are a view of them. Format: OMG DDS-XTypes 1.3, 7.4.1 (XCDR version 1, plain CDR): a
4-byte encapsulation header, then each field aligned to its own size, counted from the end of that header.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CDR_LITTLE_ENDIAN = b"\x00\x01"


class SerializedImage(NamedTuple):
    """The fields of sensor_msgs/Image; data (n,) uint8 is a read-only view of the message."""

    stamp: int
    frame_id: str
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: NDArray[np.uint8]


class Truncated(ValueError):
    """The bytes end before the message does."""


def parse_image(message: bytes) -> SerializedImage:
    """Splits a serialised sensor_msgs/Image. Raises Truncated, or ValueError for another encapsulation."""
    if message[:2] != CDR_LITTLE_ENDIAN:
        raise ValueError(f"encapsulation {message[:2]!r} is not little-endian CDR")
    try:
        sec, nanosec = struct.unpack_from("<iI", message, 4)
        frame_id, at = _string(message, 12)
        at = _aligned(at)
        height, width = struct.unpack_from("<II", message, at)
        encoding, at = _string(message, at + 8)
        is_bigendian = message[at]
        at = _aligned(at + 1)
        step, size = struct.unpack_from("<II", message, at)
    except (struct.error, IndexError, UnicodeDecodeError):
        raise Truncated(f"the message of {len(message)} bytes ends inside its header") from None
    at += 8
    if at + size > len(message):
        raise Truncated(f"the message says {size} bytes of pixels, {len(message) - at} came")
    data = np.frombuffer(message, np.uint8, size, at)
    return SerializedImage(sec * 1_000_000_000 + nanosec, frame_id, height, width, encoding, is_bigendian, step, data)


def _aligned(at: int) -> int:
    """The next offset that a 4-byte field may start at."""
    return 4 + -(-(at - 4) // 4) * 4


def _string(message: bytes, at: int) -> tuple[str, int]:
    """A string (length with its terminating zero, then the bytes) and where it ends."""
    (size,) = struct.unpack_from("<I", message, at)
    start, end = at + 4, at + 4 + size
    if end > len(message):
        raise IndexError
    return message[start : max(start, end - 1)].decode(), end
