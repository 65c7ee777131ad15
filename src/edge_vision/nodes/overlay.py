"""Draws tracks (or detections) on their frames, and as rviz markers; only while somebody looks."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from visualization_msgs.msg import MarkerArray

from edge_vision.calibration.camera_info_store import is_calibrated
from edge_vision.datatypes import (
    NS_PER_S,
    CameraInfo,
    Counts,
    Detections,
    Frame,
    LabelInfo,
    NodeStats,
    QualityReport,
    Tracks,
)
from edge_vision.drawing import OverlayOptions, OverlayRenderer, draw_counts
from edge_vision.ros import adapters, qos
from edge_vision.ros.markers import to_markers
from edge_vision.ros.node import Unusable, VisionNode
from edge_vision.ros.parameters import NodeParameters, parameter
from edge_vision.ros.quality_adapters import IMAGE_QUALITY

_FRAMES_KEPT = 8  # frames that wait for their results; more would only cost memory
_VERDICT_LIFE_S = 2.0  # an image_quality older than that is not shown


@dataclass(frozen=True)
class OverlayParameters(NodeParameters):
    objects: str = parameter("tracks", "What is drawn.", choices=("tracks", "detections"), read_only=True)
    trail: float = parameter(1.5, "Seconds of a track's path that are drawn, 0 for none.", range=(0.0, 60.0))
    scale: float = parameter(1.0, "Size of lines and letters.", range=(0.2, 5.0))
    status: bool = parameter(True, "Draw a line with rate and latency.")
    image_transport: str = parameter("raw", "As of the inference node.", choices=("raw", "compressed"), read_only=True)


class OverlayNode(VisionNode[OverlayParameters]):
    """image_raw + tracks (+ counts) -> overlay, markers."""

    parameters_type = OverlayParameters

    def configure(self) -> None:
        p = self.parameters
        self._renderer = OverlayRenderer(OverlayOptions(trail=p.trail, scale=p.scale))
        self._frames: OrderedDict[int, Frame] = OrderedDict()
        self._labels: tuple[str, ...] = ()
        self._info: CameraInfo | None = None
        self._counts: Counts | None = None
        self._quality: QualityReport | None = None
        self._latencies: dict[str, tuple[float, float]] = {}
        self.overlay = self.publisher(Frame, "overlay")
        markers = adapters.Adapter(Tracks, MarkerArray, self._to_markers, _no_input)
        self.markers = self.publisher(Tracks, "markers", adapter=markers, counted=False)
        adapter = adapters.COMPRESSED_IMAGE if p.image_transport == "compressed" else adapters.IMAGE
        self._images = self.subscription(
            Frame, "image_raw", self.keep, adapter=adapter, every=True, needed=self._looked_at
        )
        self.subscription(CameraInfo, "camera_info", self.learn_camera, counted=False, needed=self._info_needed)
        self.subscription(LabelInfo, "label_info", self.learn_labels, profile=qos.LATCHED, counted=False)
        self.subscription(NodeStats, "node_stats", self.learn_stats, counted=False)
        self.subscription(Counts, "counts", self.learn_counts, counted=False, needed=self._looked_at)
        self.subscription(
            QualityReport,
            "image_quality",
            self.learn_quality,
            adapter=IMAGE_QUALITY,
            counted=False,
            needed=self._looked_at,
        )
        kind: type = Tracks if p.objects == "tracks" else Detections
        self.subscription(kind, p.objects, self.draw, counted=False, needed=self._drawing_needed)
        self._draw, self._publish = self.stage("draw"), self.stage("publish")

    def activate(self) -> None:
        self._frames.clear()

    def _looked_at(self) -> bool:
        return bool(self._frames) or self.overlay.has_subscribers  # frames left over are let go by `keep`

    def _info_needed(self) -> bool:
        return self._info is None or self.markers.has_subscribers

    def _drawing_needed(self) -> bool:
        return self._looked_at() or self.markers.has_subscribers

    def keep(self, frame: Frame) -> None:
        if not self.overlay.has_subscribers:
            self._frames.clear()
            return
        self._frames[frame.stamp] = frame
        if len(self._frames) > _FRAMES_KEPT:
            self._frames.popitem(last=False)
            self.count_drop()

    def learn_camera(self, info: CameraInfo) -> None:
        self._info = info

    def learn_labels(self, info: LabelInfo) -> None:
        self._labels = info.labels

    def learn_stats(self, stats: NodeStats) -> None:
        for stage in stats.stages:
            if stage.stage == "latency":
                self._latencies[stats.node] = stage.p50_ms, stage.p95_ms

    def learn_counts(self, counts: Counts) -> None:
        self._counts = counts

    def learn_quality(self, report: QualityReport) -> None:
        self._quality = report

    def draw(self, objects: Tracks | Detections) -> None:
        if not objects.labels and self._labels:
            objects = replace(objects, labels=self._labels)  # which messages do not carry
        if isinstance(objects, Tracks) and self._info is not None and self.markers.has_subscribers:
            if is_calibrated(self._info):
                self.markers.publish(objects)
            else:
                self.warn_once("no markers: the camera is not calibrated (K of its camera_info is zero)")
        frame = self._frames.pop(objects.stamp, None)
        if frame is None:
            return  # nobody looks, or the frame has not come this way
        while self._frames and next(iter(self._frames)) < objects.stamp:  # passed over by the inference node
            self._frames.popitem(last=False)
        with self._draw:
            image = self._renderer.draw(frame.image, objects, lines=self._lines(objects.stamp))
            if self._counts is not None:
                draw_counts(image, self._counts, scale=self.parameters.scale)
        with self._publish:
            self.overlay.publish(Frame(image, frame.stamp, frame.frame_id, frame.sequence, "bgr8"))

    def reconfigure(self, new: OverlayParameters) -> None:
        if hasattr(self, "_renderer"):
            self._renderer = OverlayRenderer(OverlayOptions(trail=new.trail, scale=new.scale))

    def _lines(self, stamp: int) -> tuple[str, ...]:
        if not self.parameters.status:
            return ()
        line = f"{self.output_rate.value():.0f} fps"
        for p50, p95 in self._latencies.values():
            line += f"   latency {p50:.1f} ms (p95 {p95:.1f})"
        quality = self._quality
        if quality is not None and abs(stamp - quality.stamp) <= _VERDICT_LIFE_S * NS_PER_S:
            line += f"   picture {quality.cause.replace('_', ' ')}"
        return (line,)

    def _to_markers(self, tracks: Tracks) -> MarkerArray:
        if self._info is None:
            raise Unusable("markers need camera_info")
        return to_markers(tracks, self._info)


def _no_input(_: MarkerArray) -> Tracks:
    raise Unusable("markers are published, not read")
