"""Messages from objects and back, by what ROS itself serialises."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose, VisionClass
from vision_msgs.msg import LabelInfo as LabelInfoMessage

from edge_vision.datatypes import (
    CameraInfo,
    Counts,
    Detections,
    Frame,
    LabelInfo,
    NodeStats,
    Region,
    StageLatency,
    Tracks,
)
from edge_vision.ros import adapters
from edge_vision.ros.adapters import Adapter, BadMessage, frame_from_serialized, image_view

STAMP = 1_700_000_000_123_456_789


def there_and_back(adapter: Adapter, item: Any) -> Any:
    """As over DDS: message, bytes, message, object."""
    message = adapter.to_message(item)
    return adapter.from_message(deserialize_message(serialize_message(message), adapter.message_type))


def assert_same(left: Any, right: Any, *fields: str) -> None:
    for name in fields:
        np.testing.assert_allclose(getattr(left, name), getattr(right, name), rtol=1e-6, atol=1e-4, err_msg=name)
    assert (left.stamp, left.frame_id) == (right.stamp, right.frame_id)


corner = st.floats(-1000, 10000, width=32)


@given(st.lists(st.tuples(corner, corner, st.floats(0, 1000, width=32), st.floats(0, 1000, width=32)), max_size=5))
def test_boxes_come_back(rows: list) -> None:
    places = np.array(rows, np.float32).reshape(-1, 4)
    boxes = np.hstack((places[:, :2], places[:, :2] + places[:, 2:]))
    found = Detections(boxes, np.full(len(boxes), 0.5, np.float32), np.arange(len(boxes)), stamp=STAMP, frame_id="cam")
    message = adapters.detections_to_message(found)
    for box, element in zip(boxes.astype(float), message.detections, strict=True):
        assert element.bbox.center.position.x == pytest.approx((box[0] + box[2]) / 2)
        assert element.bbox.size_y == pytest.approx(box[3] - box[1])
        assert element.header == message.header
    back = there_and_back(adapters.DETECTIONS, found)
    np.testing.assert_allclose(back.boxes, boxes, atol=2e-3)
    assert back.boxes.dtype == np.float32
    assert_same(back, found, "scores", "class_ids")


TRACKS = Tracks(
    np.array([[0, 1, 10, 21], [5, 6, 7, 9]], np.float32),
    np.array([0.9, 0.25], np.float32),
    np.array([2, 0]),
    np.array([17, 123456789]),
    np.array([[3, -4], [0, 0]], np.float32),
    np.array([1.5, 0.0], np.float32),
    np.array([1, 0], np.uint8),
    ("nut", "bolt", "washer"),
    STAMP,
    "camera",
)


def test_tracks_come_back() -> None:
    back = there_and_back(adapters.TRACK_ARRAY, TRACKS)
    assert_same(back, TRACKS, "boxes", "scores", "class_ids", "ids", "velocities", "ages", "states")
    assert back.covariances is None
    known = np.arange(4.0 * len(TRACKS)).reshape(-1, 2, 2)
    message = adapters.TRACK_ARRAY.to_message(replace(TRACKS, covariances=known))
    np.testing.assert_array_equal(adapters.TRACK_ARRAY.from_message(message).covariances, known)
    for track, (x, y) in zip(message.tracks, TRACKS.velocities.tolist(), strict=True):
        assert track.speed == pytest.approx(math.hypot(x, y), rel=1e-5)
        assert (track.speed * math.cos(track.direction), track.speed * math.sin(track.direction)) == pytest.approx(
            (x, y), rel=1e-4, abs=1e-3
        )
    assert back.labels == ("nut", "", "washer"), "names of the classes that were there"
    back = there_and_back(adapters.TRACKS, TRACKS)
    assert_same(back, TRACKS, "boxes", "scores", "class_ids", "ids")


@pytest.mark.parametrize("adapter", [adapters.DETECTIONS, adapters.TRACKS, adapters.TRACK_ARRAY])
def test_nothing_comes_back_as_nothing(adapter) -> None:
    item = adapter.datatype(stamp=STAMP, frame_id="cam")
    back = there_and_back(adapter, item)
    assert len(back) == 0
    assert back.boxes.shape == (0, 4)
    assert back.boxes.dtype == np.float32
    assert (back.stamp, back.frame_id) == (STAMP, "cam")


def detection(*hypotheses: tuple[str, float], identity: str = "") -> Detection2D:
    message = Detection2D(id=identity)
    message.bbox.size_x = message.bbox.size_y = 2.0
    for class_id, score in hypotheses:
        result = ObjectHypothesisWithPose()
        result.hypothesis.class_id, result.hypothesis.score = class_id, score
        message.results.append(result)
    return message


def test_detections_of_others() -> None:
    """Several hypotheses, names for class ids, none at all, ids that are no numbers."""
    array = Detection2DArray(
        detections=[
            detection(("4", 0.2), ("7", 0.9), ("5", 0.3), identity="12"),
            detection(("pallet", 0.5), identity="c0ffee-uuid"),
            detection(),
            detection(("forklift", 0.5)),
            detection(("pallet", 0.4)),
        ]
    )
    found = adapters.detections_from_message(array)
    assert found.class_ids[0] == 7
    np.testing.assert_allclose(found.scores, [0.9, 0.5, 0, 0.5, 0.4])
    named = [found.labels[number] for number in found.class_ids[[1, 3, 4]]]
    assert named == ["pallet", "forklift", "pallet"]
    assert found.class_ids[2] == -1
    tracks = adapters.tracks_from_detection_array(array)
    assert tracks.ids[0] == 12


def test_labels() -> None:
    info = LabelInfo(("nut", "bolt"), 0.35)
    back = there_and_back(adapters.LABEL_INFO, info)
    assert back.labels == info.labels
    assert back.threshold == pytest.approx(0.35)
    others = LabelInfoMessage(
        class_map=[VisionClass(class_id=2, class_name="c"), VisionClass(class_id=0, class_name="a")]
    )
    assert adapters.label_info_from_message(others).labels == ("a", "", "c")
    assert adapters.label_info_from_message(LabelInfoMessage()).labels == ()


def test_statistics_and_camera_info() -> None:
    stats = NodeStats("camera", 1.5, 2.5, 3, 4, 5, 6, 0.5, (StageLatency("camera", "read", 9, 1.0, 2.0, 4.0),))
    assert there_and_back(adapters.NODE_STATS, stats) == stats
    info = CameraInfo(
        640,
        480,
        np.array([[500.0, 0, 320], [0, 501, 240], [0, 0, 1]]),
        np.array([0.1, -0.2, 0, 0, 0.3]),
        np.eye(3),
        np.arange(12.0).reshape(3, 4),
        "plumb_bob",
        stamp=STAMP,
        frame_id="cam",
    )
    back = there_and_back(adapters.CAMERA_INFO, info)
    assert_same(back, info, "K", "D", "R", "P", "width", "height")
    assert back.distortion_model == "plumb_bob"


# --- images ----------------------------------------------------------------------------------------------------------


def serialised(data: np.ndarray, encoding: str, **changes: Any) -> bytes:
    message = Image(height=data.shape[0], width=data.shape[1], encoding=encoding)
    message.step = data.nbytes // data.shape[0]
    message.data = np.ascontiguousarray(data).tobytes()
    for name, value in changes.items():
        setattr(message, name, value)
    return serialize_message(message)


@pytest.mark.parametrize(
    ("encoding", "shape", "kind", "becomes"),
    [
        ("bgr8", (5, 7, 3), np.uint8, "bgr8"),
        ("rgb8", (5, 7, 3), np.uint8, "rgb8"),
        ("8UC3", (5, 7, 3), np.uint8, "bgr8"),
        ("bgra8", (5, 7, 4), np.uint8, "bgra8"),
        ("rgba8", (5, 7, 4), np.uint8, "rgba8"),
        ("mono8", (5, 7), np.uint8, "mono8"),
        ("8UC1", (5, 7), np.uint8, "mono8"),
        ("mono16", (5, 7), np.uint16, "mono16"),
        ("16UC1", (5, 7), np.uint16, "mono16"),
    ],
)
def test_pixels_of_every_encoding(encoding, shape, kind, becomes) -> None:
    pixels = np.random.default_rng(3).integers(0, np.iinfo(kind).max, shape).astype(kind)
    frame = frame_from_serialized(serialised(pixels, encoding))
    np.testing.assert_array_equal(frame.image, pixels)
    assert frame.encoding == becomes
    assert frame.image.dtype == kind


def test_big_endian_pixels() -> None:
    pixels = np.arange(12, dtype=">u2").reshape(3, 4) + 250
    frame = frame_from_serialized(serialised(pixels.astype(">u2"), "mono16", is_bigendian=1))
    np.testing.assert_array_equal(frame.image, np.arange(12).reshape(3, 4) + 250)


@pytest.mark.parametrize(
    ("encoding", "first"),
    [("bayer_rggb8", "RG"), ("bayer_bggr8", "BG"), ("bayer_gbrg8", "GB"), ("bayer_grbg8", "GR")],
)
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_bayer_patterns_give_the_colour_that_was_there(encoding, first, channel) -> None:
    """A scene of one pure colour under each mosaic (ROS names a pattern by its first row)."""
    second = {"RG": "GB", "BG": "GR", "GB": "RG", "GR": "BG"}[first]
    mosaic = np.zeros((8, 8), np.uint8)
    for y, row in enumerate((first, second)):
        for x, name in enumerate(row):
            mosaic[y::2, x::2] = 200 * ("BGR".index(name) == channel)
    frame = frame_from_serialized(serialised(mosaic, encoding))
    assert frame.encoding == "bgr8"
    inside = frame.image[2:-2, 2:-2].reshape(-1, 3).mean(axis=0)
    assert inside.argmax() == channel
    assert inside[channel] == pytest.approx(200, abs=1)
    assert np.delete(inside, channel).max() == 0


@pytest.mark.parametrize(
    ("encoding", "order"), [("yuyv", "YUYV"), ("yuv422_yuy2", "YUYV"), ("uyvy", "UYVY"), ("yuv422", "UYVY")]
)
def test_packed_yuv(encoding, order) -> None:
    # ITU-R BT.601 limited range, pure red.
    parts = {"Y": 81, "U": 90, "V": 240}
    row = [parts[name] for name in order] * 4
    packed = np.array([row] * 4, np.uint8).reshape(4, 8, 2)
    frame = frame_from_serialized(serialised(packed, encoding))
    assert frame.image.shape == (4, 8, 3)
    np.testing.assert_allclose(frame.image.reshape(-1, 3), np.broadcast_to([0, 0, 255], (32, 3)), atol=3)


def test_packed_yuv_with_an_odd_width() -> None:
    with pytest.raises(BadMessage, match="width is even, not 7"):
        frame_from_serialized(serialised(np.zeros((4, 7, 2), np.uint8), "yuyv"))


sizes = st.integers(0, 9)


@given(
    sizes,
    sizes,
    st.integers(0, 60),
    st.integers(0, 400),
    st.sampled_from(["bgr8", "mono8", "mono16", "rgba8", "bayer_rggb8", "yuyv", "nonsense"]),
)
def test_no_sizes_lead_outside_the_data(height, width, step, length, encoding) -> None:
    """Either the error says what does not fit, or every pixel lies inside."""
    data = np.arange(length, dtype=np.uint8)
    try:
        view = image_view(data, height, width, step, encoding)
    except BadMessage:
        return
    assert view.shape[:2] == (height, width)
    begin = view.ctypes.data - data.ctypes.data
    last = begin + sum((n - 1) * stride for n, stride in zip(view.shape, view.strides, strict=True)) + view.itemsize
    assert 0 <= begin <= last <= length


def test_rows_with_padding_are_a_view() -> None:
    data = np.arange(5 * 16, dtype=np.uint8)
    view = image_view(data, 5, 4, 16, "bgr8")
    assert np.shares_memory(view, data)
    np.testing.assert_array_equal(view[2, 1], data[35:38])
    # The padding of the last row may be missing, as some drivers leave it away.
    np.testing.assert_array_equal(image_view(data[: 4 * 16 + 12], 5, 4, 16, "bgr8"), view)
    with pytest.raises(BadMessage, match="truncated"):
        image_view(data[: 4 * 16 + 11], 5, 4, 16, "bgr8")


def test_frames_go_out_as_they_came() -> None:
    image = np.random.default_rng(0).integers(0, 255, (6, 5, 3)).astype(np.uint8)
    message = adapters.image_from_frame(Frame(image, STAMP, "cam", 9, "rgb8"))
    frame = frame_from_serialized(serialize_message(message))
    np.testing.assert_array_equal(frame.image, image)
    assert (frame.stamp, frame.frame_id, frame.encoding) == (STAMP, "cam", "rgb8")


def compressed(data: bytes) -> CompressedImage:
    message = CompressedImage(format="png", data=data)
    message.header.stamp.sec = 5
    return message


@pytest.mark.parametrize(
    ("shape", "kind", "encoding", "result"),
    [
        ((9, 8), np.uint8, "mono8", np.uint8),
        ((9, 8), np.uint16, "mono16", np.uint16),
        ((9, 8, 3), np.uint8, "bgr8", np.uint8),
        ((9, 8, 4), np.uint8, "bgra8", np.uint8),
        ((9, 8, 3), np.uint16, "bgr8", np.uint8),
    ],
)
def test_compressed_pictures(shape, kind, encoding, result) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape).astype(kind)
    frame = adapters.frame_from_compressed(compressed(cv2.imencode(".png", pixels)[1].tobytes()))
    assert frame.encoding == encoding
    assert frame.image.dtype == result
    np.testing.assert_array_equal(frame.image, pixels if kind == result else pixels >> 8)
    assert frame.stamp == 5 * 10**9


@pytest.mark.parametrize("data", [b"", b"nothing like a picture", b"\xff\xd8\xff"])
def test_what_is_no_picture(data) -> None:
    with pytest.raises(BadMessage, match=f"{len(data)} bytes.*truncated or not a picture"):
        adapters.frame_from_compressed(compressed(data))


def test_compressing() -> None:
    image = np.full((20, 30, 3), (10, 200, 90), np.uint8)
    frame = adapters.frame_from_compressed(adapters.compressed_from_frame(Frame(image, STAMP, "cam")))
    np.testing.assert_allclose(frame.image.astype(int), image, atol=3)
    assert (frame.stamp, frame.frame_id) == (STAMP, "cam")


def test_counts_come_back() -> None:
    counts = Counts(
        (Region("gate", "line", ((320.0, 480.0), (320.5, 0.0))), Region("bin", "zone", ((0, 0), (9, 0), (9, 9)))),
        np.array([0, 2]),
        np.array([[3, 0], [1, 5]]),
        np.array([[0, 0], [1, 2]]),
        np.array([[0, 0], [0, 3]]),
        np.array([[0, 0], [1.5, 2.25]], np.float32),
        ("nut", "", "washer"),
        STAMP,
        "camera",
    )
    message = adapters.counts_to_message(counts)
    assert [(c.region, c.kind, c.class_name) for c in message.counts] == [
        ("gate", 0, "nut"),
        ("bin", 1, "nut"),
        ("bin", 1, "washer"),
    ]
    back = there_and_back(adapters.COUNTS, counts)
    assert_same(back, counts, "class_ids", "ins", "outs", "present", "dwell")
    assert (back.regions, back.labels) == (counts.regions, counts.labels)
    nothing = there_and_back(adapters.COUNTS, Counts(counts.regions))
    assert nothing.regions == counts.regions
    assert nothing.ins.shape == (2, 0)
    message.counts[0].region = "door"
    with pytest.raises(BadMessage, match="door"):
        adapters.counts_from_message(message)
