"""What is written as bytes at once is the message that ROS reads, field by field."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message

from edge_vision.datatypes import Detections, Frame, Tracks
from edge_vision.ros import adapters, cdr_writer

ADAPTERS = [adapters.IMAGE, adapters.DETECTIONS, adapters.TRACKS, adapters.TRACK_ARRAY]
texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=9)
stamps = st.integers(0, 2**31 * 10**9 - 1)


@st.composite
def tracks(draw) -> Tracks:
    ids = draw(st.lists(st.integers(0, 10**12), max_size=6))
    count = len(ids)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return Tracks(
        rng.uniform(-100, 5000, (count, 4)).astype(np.float32),
        rng.random(count, np.float32),
        rng.choice([-1, 0, 1, 9, 10, 99, 100, 79], count),
        np.array(ids, np.int64),
        rng.normal(0, 100, (count, 2)).astype(np.float32),
        rng.uniform(0, 1e4, count).astype(np.float32),
        rng.integers(0, 3, count).astype(np.uint8),
        tuple(draw(st.lists(texts, max_size=3))),
        draw(stamps),
        draw(texts),
    )


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.message_type.__name__)
def test_publishers_are_given_bytes_here(adapter) -> None:
    assert adapter.outgoing() is adapter.to_bytes


def test_a_message_that_ros_reads_otherwise_is_built_as_a_message() -> None:
    wrong = replace(adapters.TRACKS, to_bytes=lambda item: cdr_writer.write_tracks(replace(item, stamp=5)))
    broken = replace(adapters.TRACKS, to_bytes=lambda item: cdr_writer.write_tracks(item)[:-40])
    assert wrong.outgoing() is adapters.tracks_to_message
    assert broken.outgoing() is adapters.tracks_to_message


@settings(max_examples=60, deadline=None)
@given(tracks())
def test_tracks_and_detections_are_written_as_the_messages_are(found: Tracks) -> None:
    detections = Detections(found.boxes, found.scores, found.class_ids, stamp=found.stamp, frame_id=found.frame_id)
    for adapter, item in (
        (adapters.DETECTIONS, detections),
        (adapters.TRACKS, found),
        (adapters.TRACK_ARRAY, found),
    ):
        assert deserialize_message(adapter.to_bytes(item), adapter.message_type) == adapter.to_message(item)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(["bgr8", "mono8", "mono16"]), texts, stamps)
def test_images_are_written_as_the_messages_are(height, width, encoding, frame_id, stamp) -> None:
    shape = (height, width, 3) if encoding == "bgr8" else (height, width)
    kind = np.uint16 if encoding == "mono16" else np.uint8
    image = np.random.default_rng(stamp).integers(0, 255, shape).astype(kind)
    for pixels in (image, image[::-1], np.repeat(image, 2, 1)[:, ::2]):  # rows upside down, columns apart
        frame = Frame(pixels, stamp, frame_id, 1, encoding)
        written = deserialize_message(adapters.IMAGE.to_bytes(frame), adapters.IMAGE.message_type)
        assert written == adapters.image_from_frame(frame)
