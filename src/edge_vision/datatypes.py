"""What flows between the rooms and the nodes: immutable structs of NumPy arrays.

Conventions, everywhere in the project:

* stamps are integer nanoseconds of the source image's header time;
* boxes are ``xyxy`` float32 in **source-image pixels**, continuous coordinates in which
  pixel (0, 0) covers [0, 1) x [0, 1), so a box over the whole image is (0, 0, W, H);
* class ids index ``labels``;
* arrays of one object share their first dimension N (struct of arrays).

The arrays are not copied on construction: whoever hands one over must not write to it again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Labels = tuple[str, ...]

NS_PER_S = 1_000_000_000


def _empty(*shape: int, dtype: type = np.float32) -> NDArray:
    return np.zeros(shape, dtype)


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of a camera.

    image: (H, W, 3) uint8 BGR for encoding ``bgr8``; (H, W) uint8 or uint16 for ``mono8`` and
        ``mono16``. Possibly read-only: it may be a view of a received message.
    stamp: ns of header time; frame_id: the camera's optical frame; sequence: counts from 0 at the source.
    """

    image: NDArray
    stamp: int = 0
    frame_id: str = ""
    sequence: int = 0
    encoding: str = "bgr8"

    @property
    def width(self) -> int:
        return int(self.image.shape[1])

    @property
    def height(self) -> int:
        return int(self.image.shape[0])


@dataclass(frozen=True, slots=True)
class CameraInfo:
    """Intrinsics of a camera as `sensor_msgs/CameraInfo` (REP 104) has them.

    K (3, 3), R (3, 3), P (3, 4) float64, D (n,) float64, for images of ``width`` x ``height`` pixels.
    """

    width: int
    height: int
    K: NDArray[np.float64]
    D: NDArray[np.float64] = field(default_factory=lambda: _empty(0, dtype=np.float64))
    R: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    P: NDArray[np.float64] = field(default_factory=lambda: _empty(3, 4, dtype=np.float64))
    distortion_model: str = "plumb_bob"
    camera_name: str = "camera"
    stamp: int = 0
    frame_id: str = ""


@dataclass(frozen=True, slots=True)
class Detections:
    """Objects found in one image.

    boxes (N, 4) float32 xyxy in source pixels; scores (N,) float32 in 0..1; class_ids (N,) int64 into ``labels``;
    masks (N, H, W) bool or None.
    """

    boxes: NDArray[np.float32] = field(default_factory=lambda: _empty(0, 4))
    scores: NDArray[np.float32] = field(default_factory=lambda: _empty(0))
    class_ids: NDArray[np.int64] = field(default_factory=lambda: _empty(0, dtype=np.int64))
    labels: Labels = ()
    masks: NDArray[np.bool_] | None = None
    stamp: int = 0
    frame_id: str = ""

    def __len__(self) -> int:
        return len(self.boxes)


class TrackState(IntEnum):
    """Life of a track; the values are those of edge_vision/Track.msg."""

    TENTATIVE = 0
    CONFIRMED = 1
    LOST = 2


@dataclass(frozen=True, slots=True)
class Tracks:
    """Objects followed over time, at the moment ``stamp``.

    As `Detections`, and: ids (N,) int64 (never reused by one tracker), velocities (N, 2) float32 px/s of the box
    centre, ages (N,) float32 seconds since the track's first detection, states (N,) uint8 of `TrackState`, covariances
    (N, 2, 2) px² of the box centre, None where not known.
    """

    boxes: NDArray[np.float32] = field(default_factory=lambda: _empty(0, 4))
    scores: NDArray[np.float32] = field(default_factory=lambda: _empty(0))
    class_ids: NDArray[np.int64] = field(default_factory=lambda: _empty(0, dtype=np.int64))
    ids: NDArray[np.int64] = field(default_factory=lambda: _empty(0, dtype=np.int64))
    velocities: NDArray[np.float32] = field(default_factory=lambda: _empty(0, 2))
    ages: NDArray[np.float32] = field(default_factory=lambda: _empty(0))
    states: NDArray[np.uint8] = field(default_factory=lambda: _empty(0, dtype=np.uint8))
    labels: Labels = ()
    stamp: int = 0
    frame_id: str = ""
    covariances: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True, slots=True)
class LabelInfo:
    """The class table of a detector: `labels[class_id]`, and the score threshold it publishes with."""

    labels: Labels
    threshold: float = 0.0


@dataclass(frozen=True, slots=True)
class StageLatency:
    """Latency of one stage of one node over its newest samples, in milliseconds."""

    node: str
    stage: str
    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class NodeStats:
    """How one node fares: rates in Hz over the last second or so, counters since it was activated.

    newest_age_s: age of the newest input when the statistics were made, NaN where nothing has come yet.
    """

    node: str
    input_rate: float = 0.0
    output_rate: float = 0.0
    received: int = 0
    published: int = 0
    dropped: int = 0
    rejected: int = 0
    newest_age_s: float = float("nan")
    stages: tuple[StageLatency, ...] = ()
    stamp: int = 0
    frame_id: str = ""


@dataclass(frozen=True, slots=True)
class Region:
    """Where objects are counted. kind: "line" (points: its start and end) or "zone" (its corners), source pixels."""

    name: str
    kind: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """Totals of R regions by K classes up to ``stamp``, lines first.

    class_ids (K,) int64, ascending, into ``labels``: the classes met so far. ins, outs (R, K) int64: crossings of a
    line in its two directions (which is `in`: edge_vision.counting.Line), or who entered and left a zone; present
    (R, K) int64: who is in a zone now, entered less left; dwell (R, K) float32: mean seconds in it of those who left.
    """

    regions: tuple[Region, ...] = ()
    class_ids: NDArray[np.int64] = field(default_factory=lambda: _empty(0, dtype=np.int64))
    ins: NDArray[np.int64] = field(default_factory=lambda: _empty(0, 0, dtype=np.int64))
    outs: NDArray[np.int64] = field(default_factory=lambda: _empty(0, 0, dtype=np.int64))
    present: NDArray[np.int64] = field(default_factory=lambda: _empty(0, 0, dtype=np.int64))
    dwell: NDArray[np.float32] = field(default_factory=lambda: _empty(0, 0))
    labels: Labels = ()
    stamp: int = 0
    frame_id: str = ""
