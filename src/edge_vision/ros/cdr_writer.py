"""Writes messages in serialised form straight from the arrays, as rclpy's publishers also take them.

A Detection2D is a tree of nine Python objects, each checked field by field, turned into C and then serialised: 30 us an
object, while the interpreter does nothing else. Written at once it is one `struct` call of 2 us. An image is copied
once instead of three times. The format is plain CDR as in `edge_vision.ros.cdr`; `adapters.outgoing` compares what is
written here with what ROS reads from it before it is used.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S, Detections, Frame, Tracks

_HEAD = b"\x00\x01\x00\x00"  # plain CDR, little-endian; offsets count from its end
# geometry_msgs/PoseWithCovariance as it comes: at the origin, not turned (w = 1), no covariance.
_POSE = Struct("<43d").pack(*[0.0] * 6, 1.0, *[0.0] * 36)


class _Layout:
    """Puts a `struct` format together, with the padding that CDR asks for, from an offset on."""

    def __init__(self, offset: int) -> None:
        self._at = offset
        self._format = ["<"]

    def field(self, code: str, size: int, count: int = 1) -> _Layout:
        pad = -self._at % size
        self._format.append(f"{pad}x{count}{code}")
        self._at += pad + size * count
        return self

    def text(self, length: int) -> _Layout:
        """Two values: the length with the terminating zero, and the bytes (`struct` adds the zero)."""
        self.field("I", 4)
        self._format.append(f"{length + 1}s")
        self._at += length + 1
        return self

    def bytes(self, length: int, size: int) -> _Layout:
        """Bytes whose fields are of `size` each."""
        pad = -self._at % size
        self._format.append(f"{pad}x{length}s")
        self._at += pad + length
        return self

    def struct(self) -> Struct:
        return Struct("".join(self._format))


@lru_cache(maxsize=64)
def _array_head(frame_id: int) -> Struct:
    """std_msgs/Header and the length of a sequence."""
    return _Layout(0).field("i", 4).field("I", 4).text(frame_id).field("I", 4).struct()


@lru_cache(maxsize=1024)
def _detection(offset: int, frame_id: int, class_id: int, identity: int) -> Struct:
    """vision_msgs/Detection2D with one hypothesis, by the lengths of its texts; offset: modulo 8."""
    layout = _Layout(offset).field("i", 4).field("I", 4).text(frame_id).field("I", 4)
    layout.text(class_id).field("d", 8).bytes(len(_POSE), 8).field("d", 8, 5)
    return layout.text(identity).struct()


@lru_cache(maxsize=1024)
def _track(offset: int, identity: int, class_id: int, class_name: int) -> Struct:
    """edge_vision/Track by the lengths of its texts; offset: modulo 8."""
    layout = _Layout(offset).text(identity).text(class_id).text(class_name)
    return layout.field("f", 4).field("d", 8, 5).field("f", 4, 9).field("B", 1).struct()


@lru_cache(maxsize=64)
def _image_head(frame_id: int, encoding: int) -> Struct:
    """sensor_msgs/Image up to its pixels."""
    layout = _Layout(0).field("i", 4).field("I", 4).text(frame_id).field("I", 4, 2).text(encoding)
    return layout.field("B", 1).field("I", 4, 2).struct()


def write_image(frame: Frame) -> bytes:
    """sensor_msgs/Image."""
    image = np.ascontiguousarray(frame.image)
    frame_id, encoding = frame.frame_id.encode(), frame.encoding.encode()
    sec, nanosec = divmod(frame.stamp, NS_PER_S)
    head = _image_head(len(frame_id), len(encoding)).pack(
        sec,
        nanosec,
        len(frame_id) + 1,
        frame_id,
        *image.shape[:2],
        len(encoding) + 1,
        encoding,
        0,
        image.nbytes // image.shape[0],
        image.nbytes,
    )
    return b"".join((_HEAD, head, image.reshape(-1).view(np.uint8).data))


def write_detections(detections: Detections) -> bytes:
    """vision_msgs/Detection2DArray; boxes become centre and size."""
    return _detection_array(detections, [b""] * len(detections))


def write_tracks(tracks: Tracks) -> bytes:
    """vision_msgs/Detection2DArray with the tracks' ids."""
    return _detection_array(tracks, [b"%d" % number for number in tracks.ids.tolist()])


def _detection_array(items: Detections | Tracks, identities: list[bytes]) -> bytes:
    frame_id = items.frame_id.encode()
    sec, nanosec = divmod(items.stamp, NS_PER_S)
    name = len(frame_id)
    head = _array_head(name).pack(sec, nanosec, name + 1, frame_id, len(items))
    parts = [_HEAD, head]
    at = len(head)
    columns = zip(
        centres_and_sizes(items.boxes), items.class_ids.tolist(), items.scores.tolist(), identities, strict=True
    )
    for (x, y, width, height), class_id, score, identity in columns:
        kind = b"%d" % class_id
        struct = _detection(at % 8, name, len(kind), len(identity))
        parts.append(
            struct.pack(
                sec,
                nanosec,
                name + 1,
                frame_id,
                1,
                len(kind) + 1,
                kind,
                score,
                _POSE,
                x,
                y,
                0.0,
                width,
                height,
                len(identity) + 1,
                identity,
            )
        )
        at += struct.size
    return b"".join(parts)


def write_track_array(tracks: Tracks) -> bytes:
    """edge_vision/TrackArray."""
    frame_id = tracks.frame_id.encode()
    sec, nanosec = divmod(tracks.stamp, NS_PER_S)
    head = _array_head(len(frame_id)).pack(sec, nanosec, len(frame_id) + 1, frame_id, len(tracks))
    parts = [_HEAD, head]
    at = len(head)
    labels = tracks.labels
    rest = motion_columns(tracks)
    columns = zip(
        centres_and_sizes(tracks.boxes),
        tracks.ids.tolist(),
        tracks.class_ids.tolist(),
        tracks.scores.tolist(),
        rest.tolist(),
        tracks.ages.tolist(),
        tracks.states.tolist(),
        strict=True,
    )
    for (x, y, width, height), track_id, class_id, score, motion, age, state in columns:
        identity, kind = b"%d" % track_id, b"%d" % class_id
        label = labels[class_id].encode() if 0 <= class_id < len(labels) else b""
        struct = _track(at % 8, len(identity), len(kind), len(label))
        parts.append(
            struct.pack(
                len(identity) + 1,
                identity,
                len(kind) + 1,
                kind,
                len(label) + 1,
                label,
                score,
                x,
                y,
                0.0,
                width,
                height,
                *motion,
                age,
                state,
            )
        )
        at += struct.size
    return b"".join(parts)


def motion_columns(tracks: Tracks) -> NDArray[np.float32]:
    """(N, 8) velocity x and y, speed, direction, and the covariance of the place, row-major (-1 first where not known,
    as in sensor_msgs)."""
    columns = np.zeros((len(tracks), 8), np.float32)
    columns[:, 4] = -1.0
    x, y = tracks.velocities.T
    columns[:, 0], columns[:, 1] = x, y
    np.hypot(x, y, out=columns[:, 2])
    np.arctan2(y, x, out=columns[:, 3])
    if tracks.covariances is not None:
        columns[:, 4:] = tracks.covariances.reshape(-1, 4)
    return columns


def centres_and_sizes(boxes: NDArray[np.float32]) -> list[list[float]]:
    """(N, 4) corners as N lists of centre x, centre y, width, height: one conversion an array, not one a number."""
    corners = boxes.astype(np.float64)
    return np.hstack(((corners[:, :2] + corners[:, 2:]) * 0.5, corners[:, 2:] - corners[:, :2])).tolist()
