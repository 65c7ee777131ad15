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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one cause of a bad picture looks like in one frame.

    cause: one of `edge_vision.quality.verdicts.CAUSES`. figure: the measured number, threshold: its limit, both of the
    quantity ``name`` in ``unit``. severity: 0 where nothing is wrong, 1 at the threshold, above it the worse the
    larger; NaN where the cause cannot be judged (the figure is then NaN too: light that flickers, from one frame).
    """

    cause: str
    figure: float
    threshold: float
    severity: float
    name: str = ""
    unit: str = ""

    @property
    def blamed(self) -> bool:
        return self.severity >= 1.0


@dataclass(frozen=True, slots=True)
class QualityReport:
    """How good one image is without another to compare it with; definitions in docs/quality.md.

    Grey values are luma in DN of an 8-bit scale (0..255, fractions with more than 8 bits). NaN: not measurable in this
    image (no edges, one frame only, no colour). Times in s, angles in degrees, lengths in px of the source image.

    cause: the one primary cause of ``verdicts``, "ok" where none is blamed. verdicts: one of every cause.
    noise_sigma: DN, of the luma before rounding and clipping, mean over the image; noise_method: "single" or
        "two_frame"; noise_single, noise_two_frame: DN by either way; noise_channels: DN of B, G, R, or of the one
        channel, empty where not asked for.
    snr: dB, 20 log10(mean / noise_sigma). dynamic_range: dB, 20 log10(p99.9 / max(noise_sigma, 0.5)).
    sharpness: variance of the Laplacian less the noise's share, over the luma's variance less the noise's (no unit).
    blur_sigma: px, Gaussian equivalent of the edges' spread without the motion's part. motion_length: px, motion_angle:
        degrees in 0..180, clockwise from +x in the image, NaN where not motion-blurred. edges: how many were measured.
    mean, median, p1, p99, rms_contrast (standard deviation): DN. contrast: (p99 - p1) / (p99 + p1), 0..1.
    clipped_dark, clipped_bright: share of pixels at most 2 and at least 253. entropy: bits. zones (3, 3) float64: mean
        of the nine zones. mean_sample_value: of five equal zones of the histogram, 1..5, 2.5 is the target.
    cast_red, cast_blue: log2 of R/G and B/G of what should be grey; colour_cast: the size of that, 0 is neutral.
    blockiness: steps across the 8x8 grid over the steps inside. missing_levels: share of empty levels in p1..p99.
    frozen_frames: how many frames before this one were the same; frozen_s: for how long. moving_share: share of the
        image that changed since the frame before. occluded_share: share that stays put and blank amid motion.
    flicker: relative amplitude of the light's swing at ``flicker_hz`` (100 or 120) from frame to frame; row_banding:
        relative amplitude of its stripes over the rows.
    mse, psnr (dB), reference_snr (dB), ssim, ms_ssim: against a reference, where the image has one
        (`edge_vision.quality.full_reference`); inf dB where they are identical.
    """

    cause: str = "ok"
    verdicts: tuple[Verdict, ...] = ()
    width: int = 0
    height: int = 0
    channels: int = 1
    bits: int = 8
    noise_sigma: float = float("nan")
    noise_method: str = "single"
    noise_single: float = float("nan")
    noise_two_frame: float = float("nan")
    noise_channels: tuple[float, ...] = ()
    snr: float = float("nan")
    dynamic_range: float = float("nan")
    sharpness: float = float("nan")
    blur_sigma: float = float("nan")
    motion_length: float = float("nan")
    motion_angle: float = float("nan")
    edges: int = 0
    mean: float = float("nan")
    median: float = float("nan")
    p1: float = float("nan")
    p99: float = float("nan")
    rms_contrast: float = float("nan")
    contrast: float = float("nan")
    clipped_dark: float = float("nan")
    clipped_bright: float = float("nan")
    entropy: float = float("nan")
    zones: NDArray[np.float64] = field(default_factory=lambda: _empty(3, 3, dtype=np.float64))
    mean_sample_value: float = float("nan")
    cast_red: float = float("nan")
    cast_blue: float = float("nan")
    colour_cast: float = float("nan")
    blockiness: float = float("nan")
    missing_levels: float = float("nan")
    frozen_frames: int = 0
    frozen_s: float = 0.0
    moving_share: float = float("nan")
    occluded_share: float = float("nan")
    flicker: float = float("nan")
    flicker_hz: float = float("nan")
    row_banding: float = float("nan")
    stamp: int = 0
    frame_id: str = ""
    mse: float = float("nan")
    psnr: float = float("nan")
    reference_snr: float = float("nan")
    ssim: float = float("nan")
    ms_ssim: float = float("nan")

    def verdict(self, cause: str) -> Verdict:
        """The verdict on one cause. Raises KeyError where the report has none."""
        for verdict in self.verdicts:
            if verdict.cause == cause:
                return verdict
        raise KeyError(f"no verdict on '{cause}': known are {', '.join(v.cause for v in self.verdicts)}")


@dataclass(frozen=True, slots=True)
class CalibrationStatus:
    """How far the calibration of a camera is, and what to do next. NaN where not known yet.

    state: one of `CALIBRATION_STATES`. message: what happened last, for people. board: the board that is looked for.
    seen: whether the newest frame shows it; looked: what became of that frame ("kept", "adds too little", "blurred",
    "no board", ...); corners (N, 2) float32 px: what was found in it.
    views: how many are kept. width, height: px of the images.
    x, y, size, skew: 0..1, how much of each the views span, as ROS shows it. coverage: 0..1, share
    of the image inside the hull of all corners; cells (10, 10) bool: rows from the top, where a corner was seen.
    model: lens model of the newest solution, "" while there is none; rms: px; uncertainty_centre, uncertainty_corners:
    px, one sigma, the latter of the worst corner. verdict: "not yet", "usable" or "good"; reasons, remedies: what keeps
    it from good, the worst first, and what helps.
    next_view: the view to add, in words, "" where none is known; next_outline (M, 2) float32 px: where the board's edge
    should appear; next_rotation (3, 3), next_translation (3,) m: board to camera; next_gain: 0..1, the share by which
    the uncertainty would fall.
    committed: the camera has the newest solution. archive: folder of the images and corners, "" while there is none.
    """

    state: str = "idle"
    message: str = ""
    board: str = ""
    seen: bool = False
    looked: str = ""
    corners: NDArray[np.float32] = field(default_factory=lambda: _empty(0, 2))
    views: int = 0
    width: int = 0
    height: int = 0
    x: float = 0.0
    y: float = 0.0
    size: float = 0.0
    skew: float = 0.0
    coverage: float = 0.0
    cells: NDArray[np.bool_] = field(default_factory=lambda: _empty(10, 10, dtype=np.bool_))
    model: str = ""
    rms: float = float("nan")
    uncertainty_centre: float = float("nan")
    uncertainty_corners: float = float("nan")
    verdict: str = "not yet"
    reasons: tuple[str, ...] = ()
    remedies: tuple[str, ...] = ()
    next_view: str = ""
    next_outline: NDArray[np.float32] = field(default_factory=lambda: _empty(0, 2))
    next_rotation: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    next_translation: NDArray[np.float64] = field(default_factory=lambda: _empty(3, dtype=np.float64))
    next_gain: float = float("nan")
    committed: bool = False
    archive: str = ""
    stamp: int = 0
    frame_id: str = ""


CALIBRATION_STATES = ("idle", "collecting", "solving", "done")
"""idle: frames are not looked at; collecting: they are; solving: the last solution is being made; done: there it is."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request: whether it was done, and what to tell the user (where not: why, and what to do)."""

    success: bool
    message: str
