"""Tracks in, counts out: who crossed which line and is in which zone, by class."""

from __future__ import annotations

from dataclasses import dataclass, replace

from std_srvs.srv import Trigger

from edge_vision.counting import ANCHORS, Counter, CountingError, Layout, read_layout
from edge_vision.datatypes import NS_PER_S, CameraInfo, Counts, LabelInfo, Tracks
from edge_vision.ros import qos
from edge_vision.ros.node import Unusable, VisionNode
from edge_vision.ros.parameters import NodeParameters, parameter


@dataclass(frozen=True)
class CounterParameters(NodeParameters):
    file: str = parameter("", "YAML file of lines and zones (docs/counting.md); empty: nothing is counted.")
    anchor: str = parameter(
        "bottom", "Point of a box that crosses: middle of its lower edge, or its centre.", choices=ANCHORS
    )
    band: float = parameter(
        0.1, "Share of an object's size by which it must be clear of a line to be counted.", range=(0.0, 10.0)
    )
    vanish_after: float = parameter(
        1.0, "Seconds of header time after which an unseen object has left its zones.", range=(0.0, 3600.0)
    )
    rate: float = parameter(
        0.0, "Counts published per second of header time at most, 0: with every image.", range=(0.0, 1000.0)
    )


class CounterNode(VisionNode[CounterParameters]):
    """tracks (anybody's) -> counts; the service `reset` begins anew at zero."""

    parameters_type = CounterParameters

    def configure(self) -> None:
        self._layout = _layout(self.parameters)
        self._size: tuple[int, int] | None = None
        self._labels: tuple[str, ...] = ()
        self._published: int | None = None
        self._counter = self._begin(self.parameters)
        self.counts = self.publisher(Counts, "counts")
        self.subscription(CameraInfo, "camera_info", self.learn_camera, counted=False)
        self.subscription(LabelInfo, "label_info", self.learn_labels, profile=qos.LATCHED, counted=False)
        self.subscription(Tracks, "tracks", self.update)
        self._reset = self.create_service(Trigger, "~/reset", self.reset)
        self._count = self.stage("count")

    def cleanup(self) -> None:
        if hasattr(self, "_reset"):
            self.destroy_service(self._reset)
            del self._reset

    def _begin(self, p: CounterParameters) -> Counter | None:
        """A counter at zero; None while the size of the image is not known and needed."""
        if self._layout.units == "fractions" and self._size is None:
            return None
        layout = self._layout.in_pixels(*(self._size or (0, 0)))
        return Counter(layout.lines, layout.zones, anchor=p.anchor, band=p.band, vanish_after=p.vanish_after)

    def learn_camera(self, info: CameraInfo) -> None:
        size = info.width, info.height
        if self._size != size and min(size) > 0:
            self._size = size
            if self._layout.units == "fractions":
                self._counter = self._begin(self.parameters)

    def learn_labels(self, info: LabelInfo) -> None:
        self._labels = info.labels

    def update(self, tracks: Tracks) -> None:
        counter = self._counter
        if counter is None:
            raise Unusable(
                f"{self.parameters.file} has `units: fractions`, and no camera_info has told the image's size yet; "
                "publish one, or give pixels"
            )
        if not tracks.labels and self._labels:
            tracks = replace(tracks, labels=self._labels)
        with self._count:
            counts = counter.update(tracks)
        if self._due(counts.stamp):
            self._published = counts.stamp
            self.counts.publish(counts)

    def _due(self, stamp: int) -> bool:
        rate, last = self.parameters.rate, self._published
        return rate <= 0 or last is None or not last <= stamp < last + NS_PER_S / rate

    def reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        # An update that goes on meanwhile ends with the counter that it began with.
        self._counter = self._begin(self.parameters)
        response.success = True
        response.message = "counts begin at zero"
        return response

    def reconfigure(self, new: CounterParameters) -> None:
        """Counts begin at zero where what is counted has changed."""
        layout = _layout(new)
        if not hasattr(self, "_layout"):
            return
        if replace(new, rate=self.parameters.rate) != self.parameters or layout != self._layout:
            self._layout = layout
            self._counter = self._begin(new)

    def status(self) -> dict[str, str]:
        counter: Counter | None = getattr(self, "_counter", None)
        if counter is None:
            return {}
        return {
            "lines": str(len(counter.lines)),
            "zones": str(len(counter.zones)),
            "tracks refused": str(counter.rejected),
        }


def _layout(p: CounterParameters) -> Layout:
    if not p.file:
        return Layout()
    try:
        return read_layout(p.file)
    except CountingError as error:
        raise Unusable(str(error)) from None
