"""The Image reader against what ROS itself writes, and against everything cut short."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from edge_vision.ros.adapters import BadMessage, frame_from_serialized
from edge_vision.ros.cdr import Truncated, parse_image

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)


@st.composite
def images(draw) -> Image:
    message = Image()
    message.header.stamp.sec = draw(st.integers(-(2**31), 2**31 - 1))
    message.header.stamp.nanosec = draw(st.integers(0, 10**9 - 1))
    message.header.frame_id = draw(texts)
    message.encoding = draw(texts)
    message.height, message.width, message.step = (draw(st.integers(0, 2**32 - 1)) for _ in range(3))
    message.is_bigendian = draw(st.integers(0, 255))
    message.data = draw(st.binary(max_size=40))
    return message


@given(images())
def test_reads_what_ros_writes(message: Image) -> None:
    parsed = parse_image(serialize_message(message))
    assert parsed.stamp == message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
    assert parsed.frame_id == message.header.frame_id
    assert (parsed.height, parsed.width, parsed.step) == (message.height, message.width, message.step)
    assert parsed.encoding == message.encoding
    assert parsed.is_bigendian == message.is_bigendian
    assert parsed.data.tobytes() == bytes(message.data)
    assert not parsed.data.flags.writeable


@settings(max_examples=30)
@given(images())
def test_every_shorter_message_is_truncated(message: Image) -> None:
    whole = serialize_message(message)
    end = len(whole)
    while end > 4:  # ROS pads the end to four bytes: those may go
        end -= 1
        try:
            parse_image(whole[:end])
        except Truncated:
            break
        assert len(whole) - end <= 3
    for length in range(4, end):
        with pytest.raises(Truncated, match=f"{length} bytes|bytes of pixels"):
            parse_image(whole[:length])


@given(st.binary(max_size=80))
def test_no_bytes_crash_it(data: bytes) -> None:
    """Noise after the right head: an error of ours, or a message whose pixels lie inside it."""
    message = b"\x00\x01\x00\x00" + data
    with contextlib.suppress(Truncated):
        assert len(parse_image(message).data) <= len(data)


def test_the_pixels_are_not_copied() -> None:
    message = serialize_message(Image(data=bytes(range(100))))
    parsed = parse_image(message)
    assert np.shares_memory(parsed.data, np.frombuffer(message, np.uint8))


def test_big_endian_senders_are_understood_too() -> None:
    """CDR of a big-endian machine: read by ROS itself, as nobody needs it fast."""
    pixels = np.arange(6, dtype=">u2").reshape(2, 3)
    head = struct.pack(">iI", 12, 34) + struct.pack(">I", 4) + b"cam\0" + struct.pack(">II", 2, 3)
    head += struct.pack(">I", 7) + b"mono16\0" + b"\x01"
    head += struct.pack(">II", 6, pixels.nbytes)
    assert len(head) % 4 == 0
    frame = frame_from_serialized(b"\x00\x00\x00\x00" + head + pixels.tobytes())
    assert (frame.stamp, frame.frame_id, frame.encoding) == (12 * 10**9 + 34, "cam", "mono16")
    np.testing.assert_array_equal(frame.image, np.arange(6).reshape(2, 3))


def test_an_unknown_encapsulation_is_no_message() -> None:
    with pytest.raises(ValueError, match="not little-endian CDR"):
        parse_image(b"\x00\x07\x00\x00" + bytes(40))


def test_a_truncated_message_is_a_bad_one() -> None:
    whole = serialize_message(Image(height=2, width=2, step=2, encoding="mono8", data=bytes(4)))
    with pytest.raises(BadMessage, match="truncated Image message"):
        frame_from_serialized(whole[:30])
    with pytest.raises(BadMessage):
        frame_from_serialized(b"")
    with pytest.raises(BadMessage):
        frame_from_serialized(b"\x00\x00\x00\x00\x01")
