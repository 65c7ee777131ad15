"""Detections in, tracks out: associates boxes over time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Detections, LabelInfo, Tracks
from edge_vision.inference.backends import BACKENDS
from edge_vision.inference.security import POLICIES
from edge_vision.ros import adapters, qos
from edge_vision.ros.motion_inputs import WAYS, CameraMotion
from edge_vision.ros.node import VisionNode
from edge_vision.ros.parameters import NodeParameters, parameter
from edge_vision.tracking import PRESETS, Tracker
from edge_vision.tracking.attitude import Missing

if TYPE_CHECKING:
    from edge_vision.ros.appearance_inputs import AppearanceInputs


# Parameters of the tracker, -1 for the preset's.
_OVERRIDES = (
    "high_score",
    "low_score",
    "new_score",
    "lost_after",
    "coast",
    "appearance_weight",
    "appearance_gate",
    "remembered_for",
)


@dataclass(frozen=True)
class TrackingParameters(NodeParameters):
    preset: str = parameter(
        "edge_vision",
        "Set of tracker parameters to begin with.",
        choices=tuple(PRESETS),
        read_only=True,
    )
    high_score: float = parameter(
        -1.0, "Score from which detections are matched first, -1 for the preset's.", range=(-1.0, 1.0)
    )
    low_score: float = parameter(
        -1.0, "Score below which detections are ignored, -1 for the preset's.", range=(-1.0, 1.0)
    )
    new_score: float = parameter(-1.0, "Score that a new track needs, -1 for the preset's.", range=(-1.0, 1.0))
    lost_after: float = parameter(
        -1.0, "Seconds of header time after which an unseen track ends, -1 for the preset's.", range=(-1.0, 3600.0)
    )
    coast: float = parameter(
        -1.0,
        "Chance that an unseen object is where it is predicted down to which its track is still published, as lost; "
        "1 never, -1 for the preset's.",
        range=(-1.0, 1.0),
    )
    publish_lost: bool = parameter(False, "Also publish tracks that are not seen now, at their predicted place.")
    publish_tentative: bool = parameter(False, "Also publish tracks that are not confirmed yet.")
    camera_motion: str = parameter(
        "auto",
        "What tells how the camera turns (docs/camera_motion.md): imu, odometry, tf, the images (flow); auto: imu or "
        "odom where somebody publishes it.",
        choices=WAYS,
        read_only=True,
    )
    camera_rotation: str = parameter(
        "",
        "Orientation of the camera's optical frame in the frame of imu or odom: roll pitch yaw (rad), a quaternion x y "
        "z w, forward or same; empty: from /tf_static.",
        read_only=True,
    )
    fixed_frame: str = parameter("odom", "Frame that stands still in the world, for camera_motion tf.", read_only=True)
    motion_patience: float = parameter(
        0.005, "Seconds that an update waits at most for a sample of the camera's motion.", range=(0.0, 1.0)
    )
    motion_offset: float = parameter(
        0.0, "Seconds added to an image's stamp to have the motion sensor's time.", range=(-1.0, 1.0)
    )
    rectified: bool = parameter(False, "Detections are of rectified images (image_rect): P counts.", read_only=True)
    appearance_model: str = parameter(
        "",
        "Re-identification bundle (docs/appearance.md), or .onnx file: objects are told apart by their looks, too, on "
        "image_raw; empty: off.",
        read_only=True,
    )
    appearance_backend: str = parameter(
        "auto", "Backend of appearance_model, as of the inference node.", choices=("auto", *BACKENDS), read_only=True
    )
    appearance_crops: int = parameter(8, "Most crops embedded a frame.", range=(1, 256), read_only=True)
    appearance_every: int = parameter(
        5,
        "Frames after which a track is looked at again although its box leaves no doubt.",
        range=(1, 1000),
        read_only=True,
    )
    bundle_policy: str = parameter(
        "any", "As of the inference node, for appearance_model.", choices=POLICIES, read_only=True
    )
    trusted_keys: str = parameter("", "As of the inference node, for appearance_model.", read_only=True)
    bundle_key: str = parameter("", "As of the inference node, for appearance_model.", read_only=True)
    appearance_weight: float = parameter(
        -1.0, "How much looks count beside overlap, 0 not at all, -1 for the preset's.", range=(-1.0, 1.0)
    )
    appearance_gate: float = parameter(
        -1.0,
        "How sure a look must be for a lost or ended track to be found again by it alone, 1 never, "
        "-1 for the preset's.",
        range=(-1.0, 1.0),
    )
    remembered_for: float = parameter(
        -1.0,
        "Seconds for which a track that has ended is found again by its looks, -1 for the preset's.",
        range=(-1.0, 3600.0),
    )
    image_transport: str = parameter("raw", "As of the inference node.", choices=("raw", "compressed"), read_only=True)


class TrackingNode(VisionNode[TrackingParameters]):
    """detections (anybody's) -> tracks, tracks/state."""

    parameters_type = TrackingParameters

    def configure(self) -> None:
        p = self.parameters
        self.tracker = _tracker(p)
        self._labels: tuple[str, ...] = ()
        self._tracks = Tracks()
        self._refused = 0
        self.tracks = self.publisher(Tracks, "tracks")
        self.states = self.publisher(Tracks, "tracks/state", adapter=adapters.TRACK_ARRAY, counted=False)
        self.looks = self._looks() if p.appearance_model else None
        if self.looks is None:
            # Flow takes too long for the inference node's thread to do it.
            self.subscription(Detections, "detections", self.update, direct=p.camera_motion != "flow")
        self.subscription(LabelInfo, "label_info", self.learn_labels, profile=qos.LATCHED, counted=False)
        self._track, self._publish, self._total = self.stage("track"), self.stage("publish"), self.stage("latency")
        self.motion = CameraMotion(self, p)

    def learn_labels(self, info: LabelInfo) -> None:
        self._labels = info.labels

    def _looks(self) -> AppearanceInputs:
        from edge_vision.ros.appearance_inputs import AppearanceInputs

        return AppearanceInputs(self, self.parameters, self.update)

    def deactivate(self) -> None:
        if self.looks is not None:
            self.looks.stop()

    def cleanup(self) -> None:
        looks: AppearanceInputs | None = getattr(self, "looks", None)
        if looks is not None:
            looks.close()

    def update(self, detections: Detections, features: NDArray[np.float32] | None = None) -> None:
        if not detections.labels and self._labels:
            detections = replace(detections, labels=self._labels)
        warp = None
        if self.motion.feed is not None:
            with self.stage("camera motion"):
                found = self.motion.warp(detections, self._tracks.boxes)
            if found is Missing.TURNED:  # none of what was seen is in this image
                self.tracker.reset()
            warp = None if isinstance(found, Missing) else found
        with self._track:
            tracks = self.tracker.update(detections, warp, features)
            told = tracks
            if self.states.has_subscribers:
                told = replace(tracks, covariances=self.tracker.covariances())
        if self.tracker.rejected != self._refused:
            self._refused = self.tracker.rejected
            self.warn_once(
                "detections with boxes that are none (not finite, without area, or beyond 1e6 px) or scores that are "
                "no numbers: these are left out, the others are tracked; the diagnostics count them as boxes refused"
            )
        with self._publish:
            self.tracks.publish(tracks)
            self.states.publish(told)
        self._tracks = tracks
        if self.looks is not None:
            self.looks.tracks = tracks
        # From the camera's publish call where that was in this process, else from the header's time.
        age = self.bus.age_ns(tracks.stamp)
        self._total.add(max(0, self.now_ns() - tracks.stamp) if age is None else age)

    def reconfigure(self, new: TrackingParameters) -> None:
        changed = _tracker(new)  # refuses what does not fit together
        if hasattr(self, "tracker"):
            self.tracker.parameters = changed.parameters
        if hasattr(self, "motion"):
            self.motion.reconfigure(new)

    def every_second(self) -> None:
        self.motion.every_second()
        if self.looks is not None:
            self.looks.every_second()

    def status(self) -> dict[str, str]:
        if not hasattr(self, "tracker"):
            return {}
        found = {"preset": self.parameters.preset, "boxes refused": str(self.tracker.rejected)}
        looks: AppearanceInputs | None = getattr(self, "looks", None)
        if looks is not None:
            found |= looks.status()
        return found | self.motion.status() if hasattr(self, "motion") else found


def _tracker(p: TrackingParameters) -> Tracker:
    given = {name: getattr(p, name) for name in _OVERRIDES}
    overrides = {name: value for name, value in given.items() if value >= 0}
    if "high_score" in overrides:
        overrides["score_reach"] = 0.0  # who names the border means that one, not one near it
    return Tracker.from_preset(
        p.preset, publish_lost=p.publish_lost, publish_tentative=p.publish_tentative, **overrides
    )
