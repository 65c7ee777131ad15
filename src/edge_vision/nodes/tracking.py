"""Detections in, tracks out: associates boxes over time."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge_vision.datatypes import Detections, LabelInfo, Tracks
from edge_vision.ros import adapters, qos
from edge_vision.ros.node import VisionNode
from edge_vision.ros.parameters import NodeParameters, parameter
from edge_vision.tracking import PRESETS, Tracker


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
    publish_lost: bool = parameter(False, "Also publish tracks that are not seen now, at their predicted place.")
    publish_tentative: bool = parameter(False, "Also publish tracks that are not confirmed yet.")


class TrackingNode(VisionNode[TrackingParameters]):
    """detections (anybody's) -> tracks, tracks/state."""

    parameters_type = TrackingParameters

    def configure(self) -> None:
        self.tracker = _tracker(self.parameters)
        self._labels: tuple[str, ...] = ()
        self.tracks = self.publisher(Tracks, "tracks")
        self.states = self.publisher(Tracks, "tracks/state", adapter=adapters.TRACK_ARRAY, counted=False)
        self.subscription(Detections, "detections", self.update, direct=True)
        self.subscription(LabelInfo, "label_info", self.learn_labels, profile=qos.LATCHED, counted=False)
        self._track, self._publish, self._total = self.stage("track"), self.stage("publish"), self.stage("latency")

    def learn_labels(self, info: LabelInfo) -> None:
        self._labels = info.labels

    def update(self, detections: Detections) -> None:
        if not detections.labels and self._labels:
            detections = replace(detections, labels=self._labels)
        with self._track:
            tracks = self.tracker.update(detections)
            tracks = replace(tracks, covariances=self.tracker.covariances())
        with self._publish:
            self.tracks.publish(tracks)
            self.states.publish(tracks)
        # From the camera's publish call where that was in this process, else from the header's time.
        age = self.bus.age_ns(tracks.stamp)
        self._total.add(max(0, self.now_ns() - tracks.stamp) if age is None else age)

    def reconfigure(self, new: TrackingParameters) -> None:
        changed = _tracker(new)  # refuses what does not fit together
        if hasattr(self, "tracker"):
            self.tracker.parameters = changed.parameters

    def status(self) -> dict[str, str]:
        if not hasattr(self, "tracker"):
            return {}
        return {"preset": self.parameters.preset, "boxes refused": str(self.tracker.rejected)}


def _tracker(p: TrackingParameters) -> Tracker:
    given = {name: getattr(p, name) for name in ("high_score", "low_score", "new_score", "lost_after")}
    overrides = {name: value for name, value in given.items() if value >= 0}
    return Tracker.from_preset(
        p.preset, publish_lost=p.publish_lost, publish_tentative=p.publish_tentative, **overrides
    )
