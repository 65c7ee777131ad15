"""From the datatypes to ROS messages and back (what REP 2007's type adaptation is in rclcpp).

Boxes: ours are xyxy corners in continuous source pixels, vision_msgs has centre and full size in the same coordinates.
cv_bridge is not needed: an image is a NumPy view of the message's bytes, and one copy on the way out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo as CameraInfoMessage
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import (
    Detection2D,
    Detection2DArray,
    ObjectHypothesisWithPose,
    Point2D,
    VisionClass,
)
from vision_msgs.msg import LabelInfo as LabelInfoMessage

from edge_vision.datatypes import (
    NS_PER_S,
    CameraInfo,
    Counts,
    Detections,
    Frame,
    LabelInfo,
    NodeStats,
    Region,
    StageLatency,
    Tracks,
    TrackState,
)
from edge_vision.msg import CountedRegion, ObjectCount, ObjectCounts, Track, TrackArray
from edge_vision.msg import NodeStats as NodeStatsMessage
from edge_vision.msg import StageLatency as StageLatencyMessage
from edge_vision.ros import cdr_writer
from edge_vision.ros.cdr import CDR_LITTLE_ENDIAN, SerializedImage, Truncated, parse_image

T = TypeVar("T")


class BadMessage(ValueError):
    """A message that cannot be used; the text says what is wrong and what to do."""


@dataclass(frozen=True)
class Adapter(Generic[T]):
    """How one datatype travels: its message type, the two functions, and whether the subscription is raw.

    suffix is added to the topic's name on the subscribing side; shareable: frames also come through shared memory;
    gathered: nodes of many processes publish on one topic, which is why it is always taken from ROS;
    to_bytes: writes the message in serialised form at once, and sample: what `outgoing` tries that with.
    """

    datatype: type[T]
    message_type: type
    to_message: Callable[[T], Any]
    from_message: Callable[[Any], T]
    raw: bool = False
    suffix: str = ""
    shareable: bool = False
    gathered: bool = False
    to_bytes: Callable[[T], bytes] | None = None
    sample: T | None = None

    def outgoing(self) -> Callable[[T], Any]:
        """What makes an item ready for a publisher: `to_bytes` where ROS reads the same message out of its bytes.

        Definitions of messages belong to others and may change; then the message itself is built, which takes longer.
        """
        if self.to_bytes is None or self.sample is None:
            return self.to_message
        try:
            same = deserialize_message(self.to_bytes(self.sample), self.message_type) == self.to_message(self.sample)
        except Exception:  # whatever ROS has against the bytes
            same = False
        return self.to_bytes if same else self.to_message


# --- headers ---------------------------------------------------------------------------------------------------------


def stamp_ns(stamp: Any) -> int:
    """builtin_interfaces/Time as integer nanoseconds."""
    return stamp.sec * NS_PER_S + stamp.nanosec


def set_header(header: Any, item: Any) -> None:
    """The item's stamp and frame_id into a std_msgs/Header."""
    header.stamp.sec, header.stamp.nanosec = divmod(item.stamp, NS_PER_S)
    header.frame_id = item.frame_id


# --- images ----------------------------------------------------------------------------------------------------------

# encoding: (NumPy type, channels)
_ENCODINGS: dict[str, tuple[type, int]] = {
    "bgr8": (np.uint8, 3),
    "rgb8": (np.uint8, 3),
    "bgra8": (np.uint8, 4),
    "rgba8": (np.uint8, 4),
    "mono8": (np.uint8, 1),
    "8UC1": (np.uint8, 1),
    "8UC3": (np.uint8, 3),
    "mono16": (np.uint16, 1),
    "16UC1": (np.uint16, 1),
}
# Packed and mosaiced encodings become BGR on the way in. OpenCV names a Bayer pattern by its second row and column.
_CONVERTED: dict[str, tuple[int, int]] = {
    "yuv422": (2, cv2.COLOR_YUV2BGR_UYVY),
    "uyvy": (2, cv2.COLOR_YUV2BGR_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2BGR_YUY2),
    "yuyv": (2, cv2.COLOR_YUV2BGR_YUY2),
    "bayer_rggb8": (1, cv2.COLOR_BayerBG2BGR),
    "bayer_bggr8": (1, cv2.COLOR_BayerRG2BGR),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGR2BGR),
    "bayer_grbg8": (1, cv2.COLOR_BayerGB2BGR),
}
_ALIASES = {"8UC1": "mono8", "8UC3": "bgr8", "16UC1": "mono16"}


def image_view(data: NDArray[np.uint8], height: int, width: int, step: int, encoding: str) -> NDArray:
    """The pixels of an Image message as (H, W) or (H, W, C) without a copy; rows may be padded.

    Raises BadMessage for an unknown encoding and for sizes that do not fit together.
    """
    if encoding not in _ENCODINGS:
        known = ", ".join([*_ENCODINGS, *_CONVERTED])
        raise BadMessage(
            f"unknown image encoding {encoding!r} (known: {known}). Convert it at its source, or with image_proc"
        )
    dtype, channels = _ENCODINGS[encoding]
    return _shaped(data, height, width, step, np.dtype(dtype), channels, encoding)


def _shaped(
    data: NDArray[np.uint8], height: int, width: int, step: int, dtype: np.dtype, channels: int, encoding: str
) -> NDArray:
    row = width * channels * dtype.itemsize
    if height == 0 or width == 0:
        raise BadMessage(f"empty image ({width} x {height})")
    if step < row or step % dtype.itemsize:
        raise BadMessage(
            f"step {step} does not fit {width} pixels of {encoding}, which are {row} bytes. The publisher must set "
            "Image.step to the bytes of a whole row, padding included"
        )
    if len(data) < step * (height - 1) + row:
        raise BadMessage(
            f"{len(data)} bytes of pixels for {width} x {height} {encoding} with step {step}, which need "
            f"{step * height}: the image is truncated"
        )
    shape = (height, width) if channels == 1 else (height, width, channels)
    strides = (step, dtype.itemsize) if channels == 1 else (step, channels * dtype.itemsize, dtype.itemsize)
    return np.ndarray(shape, dtype, data.data, 0, strides)


def frame_from_serialized(message: bytes) -> Frame:
    """A serialised sensor_msgs/Image as a Frame whose image is a read-only view of the message."""
    if message[:2] == CDR_LITTLE_ENDIAN:
        try:
            image = parse_image(message)
        except Truncated as error:
            raise BadMessage(f"truncated Image message: {error}") from None
    else:
        image = _deserialized(message)
    return _frame(image)


def _deserialized(message: bytes) -> SerializedImage:
    try:
        m = deserialize_message(message, Image)
    except Exception as error:  # of the middleware's own kind, which rclpy does not name
        raise BadMessage(f"truncated Image message ({len(message)} bytes): {error}") from None
    data = np.frombuffer(m.data, np.uint8)
    return SerializedImage(
        stamp_ns(m.header.stamp), m.header.frame_id, m.height, m.width, m.encoding, m.is_bigendian, m.step, data
    )


def _frame(image: SerializedImage) -> Frame:
    encoding = image.encoding
    if encoding in _CONVERTED:
        channels, code = _CONVERTED[encoding]
        if channels == 2 and image.width % 2:
            raise BadMessage(f"{encoding} has two pixels in four bytes, so its width is even, not {image.width}")
        packed = _shaped(image.data, image.height, image.width, image.step, np.dtype(np.uint8), channels, encoding)
        return Frame(cv2.cvtColor(np.ascontiguousarray(packed), code), image.stamp, image.frame_id)
    pixels = image_view(image.data, image.height, image.width, image.step, encoding)
    if pixels.dtype == np.uint16 and image.is_bigendian:
        pixels = pixels.byteswap()
    return Frame(pixels, image.stamp, image.frame_id, encoding=_ALIASES.get(encoding, encoding))


def image_from_frame(frame: Frame) -> Image:
    message = Image()
    set_header(message.header, frame)
    image = frame.image
    message.height, message.width = image.shape[:2]
    message.encoding = frame.encoding
    message.step = image.nbytes // image.shape[0]
    # Faster than array.array.frombytes here: `edge_vision bench transport` measures both.
    message.data = image.tobytes()
    return message


def frame_from_compressed(message: CompressedImage) -> Frame:
    """A JPEG or PNG message, decoded: BGR, or mono where the picture is."""
    data = np.frombuffer(message.data, np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    except cv2.error:
        image = None
    if image is None:
        raise BadMessage(
            f"CompressedImage ({message.format!r}, {len(data)} bytes) cannot be decoded: truncated or not a picture"
        )
    mono = image.ndim == 2
    wide = image.dtype == np.uint16
    if wide and not mono:
        image, wide = np.right_shift(image, 8).astype(np.uint8), False
    encoding = ("mono16" if wide else "mono8") if mono else "bgra8" if image.shape[2] == 4 else "bgr8"
    return Frame(image, stamp_ns(message.header.stamp), message.header.frame_id, encoding=encoding)


def compressed_from_frame(frame: Frame, quality: int = 90) -> CompressedImage:
    message = CompressedImage()
    set_header(message.header, frame)
    message.format = f"{frame.encoding}; jpeg compressed {frame.encoding}"
    message.data = cv2.imencode(".jpg", frame.image, (cv2.IMWRITE_JPEG_QUALITY, quality))[1].tobytes()
    return message


# --- camera info -----------------------------------------------------------------------------------------------------


def camera_info_to_message(info: CameraInfo) -> CameraInfoMessage:
    message = CameraInfoMessage()
    set_header(message.header, info)
    message.width, message.height = info.width, info.height
    message.distortion_model = info.distortion_model
    # rclpy aborts the process over an int in a float field.
    message.d = info.D.astype(np.float64).tolist()
    message.k = info.K.astype(np.float64).ravel().tolist()
    message.r = info.R.astype(np.float64).ravel().tolist()
    message.p = info.P.astype(np.float64).ravel().tolist()
    return message


def camera_info_from_message(message: CameraInfoMessage) -> CameraInfo:
    return CameraInfo(
        message.width,
        message.height,
        np.array(message.k).reshape(3, 3),
        np.array(message.d, np.float64),
        np.array(message.r).reshape(3, 3),
        np.array(message.p).reshape(3, 4),
        message.distortion_model,
        stamp=stamp_ns(message.header.stamp),
        frame_id=message.header.frame_id,
    )


# --- detections and tracks -------------------------------------------------------------------------------------------


def _set_box(box: Any, place: list[float]) -> None:
    """place: centre and size."""
    position = box.center.position
    position.x, position.y, box.size_x, box.size_y = place


def _detection2d(stamp: Any, frame_id: str, place: list[float], class_id: int, score: float) -> Detection2D:
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = str(class_id)
    hypothesis.hypothesis.score = score
    message = Detection2D()
    message.header.stamp = stamp
    message.header.frame_id = frame_id
    message.results = [hypothesis]
    _set_box(message.bbox, place)
    return message


def detections_to_message(detections: Detections | Tracks) -> Detection2DArray:
    array = Detection2DArray()
    set_header(array.header, detections)
    places = cdr_writer.centres_and_sizes(detections.boxes)
    make = partial(_detection2d, array.header.stamp, detections.frame_id)
    array.detections = list(map(make, places, detections.class_ids.tolist(), detections.scores.tolist()))
    return array


def tracks_to_message(tracks: Tracks) -> Detection2DArray:
    array = detections_to_message(tracks)
    for message, track_id in zip(array.detections, tracks.ids.tolist(), strict=True):
        message.id = str(track_id)
    return array


def _boxes(items: list) -> NDArray[np.float32]:
    rows = [(b.center.position.x, b.center.position.y, b.size_x, b.size_y) for b in (item.bbox for item in items)]
    boxes = np.array(rows, np.float64).reshape(-1, 4)
    half = boxes[:, 2:] * 0.5
    return np.hstack((boxes[:, :2] - half, boxes[:, :2] + half)).astype(np.float32)


# Class names met as class ids, numbered in the order of their coming, for as long as the process lives.
_named_classes: dict[str, int] = {}


def _class_number(text: str) -> int:
    """Class ids are texts in vision_msgs: a number stands for itself, any other text gets the next free one."""
    try:
        return int(text)
    except ValueError:
        return _named_classes.setdefault(text, len(_named_classes))


def _best(detection: Detection2D) -> tuple[str, float]:
    if not detection.results:
        return "-1", 0.0
    best = max(detection.results, key=lambda result: result.hypothesis.score).hypothesis
    return best.class_id, best.score


def detections_from_message(array: Detection2DArray) -> Detections:
    """Boxes, each with its best hypothesis. Class ids that are texts become numbers, and the texts the labels."""
    best = [_best(detection) for detection in array.detections]
    class_ids = np.array([_class_number(name) for name, _ in best], np.int64)
    return Detections(
        _boxes(array.detections),
        np.array([score for _, score in best], np.float32),
        class_ids,
        tuple(_named_classes),
        stamp=stamp_ns(array.header.stamp),
        frame_id=array.header.frame_id,
    )


def _track_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return -1


def tracks_from_detection_array(array: Detection2DArray) -> Tracks:
    detections = detections_from_message(array)
    count = len(detections)
    return Tracks(
        detections.boxes,
        detections.scores,
        detections.class_ids,
        np.array([_track_number(d.id) for d in array.detections], np.int64),
        np.zeros((count, 2), np.float32),
        np.zeros(count, np.float32),
        np.full(count, TrackState.CONFIRMED, np.uint8),
        detections.labels,
        detections.stamp,
        detections.frame_id,
    )


def track_array_to_message(tracks: Tracks) -> TrackArray:
    array = TrackArray()
    set_header(array.header, tracks)
    labels = tracks.labels
    motion = cdr_writer.motion_columns(tracks)
    columns = zip(
        cdr_writer.centres_and_sizes(tracks.boxes),
        tracks.ids.tolist(),
        tracks.class_ids.tolist(),
        tracks.scores.tolist(),
        motion[:, :4].tolist(),
        motion[:, 4:],
        tracks.ages.tolist(),
        tracks.states.tolist(),
        strict=True,
    )
    for place, track_id, class_id, score, moves, covariance, age, state in columns:
        track = Track()
        track.id = str(track_id)
        track.class_id = str(class_id)
        track.class_name = labels[class_id] if 0 <= class_id < len(labels) else ""
        track.score = score
        _set_box(track.bbox, place)
        track.velocity_x, track.velocity_y, track.speed, track.direction = moves
        track.position_covariance = covariance
        track.age = age
        track.state = state
        array.tracks.append(track)
    return array


def track_array_from_message(array: TrackArray) -> Tracks:
    tracks = array.tracks
    covariances = np.array([t.position_covariance for t in tracks], np.float64).reshape(-1, 2, 2)
    names = {int(t.class_id): t.class_name for t in tracks if t.class_id.isdigit() and t.class_name}
    return Tracks(
        _boxes(tracks),
        np.array([t.score for t in tracks], np.float32),
        np.array([_class_number(t.class_id) for t in tracks], np.int64),
        np.array([_track_number(t.id) for t in tracks], np.int64),
        np.array([(t.velocity_x, t.velocity_y) for t in tracks], np.float32).reshape(-1, 2),
        np.array([t.age for t in tracks], np.float32),
        np.array([t.state for t in tracks], np.uint8),
        tuple(names.get(index, "") for index in range(max(names, default=-1) + 1)),
        stamp_ns(array.header.stamp),
        array.header.frame_id,
        None if (covariances[:, 0, 0] < 0).any() else covariances,
    )


# --- labels and statistics -------------------------------------------------------------------------------------------


def label_info_to_message(info: LabelInfo) -> LabelInfoMessage:
    message = LabelInfoMessage()
    message.threshold = float(info.threshold)
    message.class_map = [VisionClass(class_id=index, class_name=name) for index, name in enumerate(info.labels)]
    return message


def label_info_from_message(message: LabelInfoMessage) -> LabelInfo:
    names = {entry.class_id: entry.class_name for entry in message.class_map}
    return LabelInfo(tuple(names.get(index, "") for index in range(max(names, default=-1) + 1)), message.threshold)


def node_stats_to_message(stats: NodeStats) -> NodeStatsMessage:
    message = NodeStatsMessage()
    message.node = stats.node
    message.input_rate, message.output_rate = stats.input_rate, stats.output_rate
    message.received, message.published = stats.received, stats.published
    message.dropped, message.rejected = stats.dropped, stats.rejected
    message.newest_age = stats.newest_age_s
    message.stages = [
        StageLatencyMessage(
            node=s.node, stage=s.stage, count=s.count, p50_ms=s.p50_ms, p95_ms=s.p95_ms, p99_ms=s.p99_ms
        )
        for s in stats.stages
    ]
    return message


def node_stats_from_message(message: NodeStatsMessage) -> NodeStats:
    return NodeStats(
        message.node,
        message.input_rate,
        message.output_rate,
        message.received,
        message.published,
        message.dropped,
        message.rejected,
        message.newest_age,
        tuple(StageLatency(s.node, s.stage, s.count, s.p50_ms, s.p95_ms, s.p99_ms) for s in message.stages),
    )


# --- counts ----------------------------------------------------------------------------------------------------------

_REGION_KINDS = {"line": CountedRegion.LINE, "zone": CountedRegion.ZONE}
_KIND_NAMES = {number: name for name, number in _REGION_KINDS.items()}


def counts_to_message(counts: Counts) -> ObjectCounts:
    """Of every region and class one entry where anything was counted."""
    message = ObjectCounts()
    set_header(message.header, counts)
    for region in counts.regions:
        points = [Point2D(x=float(x), y=float(y)) for x, y in region.points]
        message.regions.append(CountedRegion(name=region.name, kind=_REGION_KINDS[region.kind], points=points))
    rows, columns = np.nonzero((counts.ins != 0) | (counts.outs != 0))
    labels = counts.labels
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        class_id = int(counts.class_ids[column])
        region = message.regions[row]
        message.counts.append(
            ObjectCount(
                region=region.name,
                kind=region.kind,
                class_id=str(class_id),
                class_name=labels[class_id] if 0 <= class_id < len(labels) else "",
                count_in=int(counts.ins[row, column]),
                count_out=int(counts.outs[row, column]),
                present=int(counts.present[row, column]),
                dwell=float(counts.dwell[row, column]),
            )
        )
    return message


def counts_from_message(message: ObjectCounts) -> Counts:
    try:
        regions = tuple(
            Region(region.name, _KIND_NAMES[region.kind], tuple((p.x, p.y) for p in region.points))
            for region in message.regions
        )
        row_of = {region.name: row for row, region in enumerate(regions)}
        rows = [row_of[count.region] for count in message.counts]
    except KeyError as error:
        raise BadMessage(f"ObjectCounts with an unknown kind or region {error}: fill in CountedRegion") from None
    numbers = [_class_number(count.class_id) for count in message.counts]
    class_ids = np.unique(np.array(numbers, np.int64))
    places = rows, np.searchsorted(class_ids, np.array(numbers, np.int64))
    shape = len(regions), len(class_ids)
    ins, outs, present = (np.zeros(shape, np.int64) for _ in range(3))
    dwell = np.zeros(shape, np.float32)
    for table, name in ((ins, "count_in"), (outs, "count_out"), (present, "present"), (dwell, "dwell")):
        table[places] = [getattr(count, name) for count in message.counts]
    names = {n: c.class_name for n, c in zip(numbers, message.counts, strict=True) if 0 <= n < 10_000}
    labels = tuple(names.get(index, "") for index in range(max(names, default=-1) + 1))
    stamp, frame_id = stamp_ns(message.header.stamp), message.header.frame_id
    return Counts(regions, class_ids, ins, outs, present, dwell, labels, stamp, frame_id)


# --- the table -------------------------------------------------------------------------------------------------------

_SAMPLE_TRACKS = Tracks(
    np.array([[0, 1, 4, 7], [10.5, 20.25, 640, 480], [-3, 2, 5, 9]], np.float32),
    np.array([0.5, 0.25, 0.125], np.float32),
    np.array([0, 12, 1]),
    np.array([7, 123456, 42]),
    np.array([[1.5, -2], [0, 0.5], [3, 4]], np.float32),
    np.array([0.25, 12, 3], np.float32),
    np.array([0, 1, 2], np.uint8),
    ("nut", "hex bolt"),
    1_700_000_000_123_456_789,
    "camera_optical_frame",
)
_SAMPLE_DETECTIONS = Detections(
    _SAMPLE_TRACKS.boxes,
    _SAMPLE_TRACKS.scores,
    _SAMPLE_TRACKS.class_ids,
    stamp=_SAMPLE_TRACKS.stamp,
    frame_id=_SAMPLE_TRACKS.frame_id,
)
_SAMPLE_FRAME = Frame(np.arange(45, dtype=np.uint8).reshape(3, 5, 3), _SAMPLE_TRACKS.stamp, "camera", 3)

IMAGE = Adapter(
    Frame,
    Image,
    image_from_frame,
    frame_from_serialized,
    raw=True,
    shareable=True,
    to_bytes=cdr_writer.write_image,
    sample=_SAMPLE_FRAME,
)
COMPRESSED_IMAGE = Adapter(Frame, CompressedImage, compressed_from_frame, frame_from_compressed, suffix="/compressed")
CAMERA_INFO = Adapter(CameraInfo, CameraInfoMessage, camera_info_to_message, camera_info_from_message)
DETECTIONS = Adapter(
    Detections,
    Detection2DArray,
    detections_to_message,
    detections_from_message,
    to_bytes=cdr_writer.write_detections,
    sample=_SAMPLE_DETECTIONS,
)
TRACKS = Adapter(
    Tracks,
    Detection2DArray,
    tracks_to_message,
    tracks_from_detection_array,
    to_bytes=cdr_writer.write_tracks,
    sample=_SAMPLE_TRACKS,
)
TRACK_ARRAY = Adapter(
    Tracks,
    TrackArray,
    track_array_to_message,
    track_array_from_message,
    to_bytes=cdr_writer.write_track_array,
    sample=_SAMPLE_TRACKS,
)
LABEL_INFO = Adapter(LabelInfo, LabelInfoMessage, label_info_to_message, label_info_from_message)
NODE_STATS = Adapter(NodeStats, NodeStatsMessage, node_stats_to_message, node_stats_from_message, gathered=True)
COUNTS = Adapter(Counts, ObjectCounts, counts_to_message, counts_from_message)

# The message that a datatype travels as unless a topic says otherwise.
DEFAULT: dict[type, Adapter] = {
    adapter.datatype: adapter for adapter in (IMAGE, CAMERA_INFO, DETECTIONS, TRACKS, LABEL_INFO, NODE_STATS, COUNTS)
}
