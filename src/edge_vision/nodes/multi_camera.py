"""Tracks of several cameras in, objects on the ground plane out: one id an object in all views."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, fields, replace
from functools import partial

from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S, Frame, Tracks, TrackState
from edge_vision.drawing.ground import GroundView
from edge_vision.multi_camera import GlobalTracks, JoinParameters, MultiCamera, Rig, RigError, footprint, read_rig
from edge_vision.ros import adapters
from edge_vision.ros.multi_camera_adapters import GROUND_OBJECTS, markers_adapter, name_of, with_global_ids
from edge_vision.ros.node import Unusable, VisionNode
from edge_vision.ros.parameters import NodeParameters, parameter

_SILENT_AFTER_S = 3.0
_VIEWS_A_S = 10  # pictures of the plane per second of header time: for people
_TOPIC = re.compile(r"/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*")
_THE_RIGS = "-1: the rig file's."


@dataclass(frozen=True)
class MultiCameraParameters(NodeParameters):
    rig: str = parameter("", "YAML file of the cameras and where they are (docs/multi_camera.md).")
    topics: str = parameter(
        "",
        "Tracks that are elsewhere than on <camera>/tracks/state: camera=topic, separated by spaces.",
        read_only=True,
    )
    frame_id: str = parameter("map", "Frame of the ground plane: that of the poses in the rig file.")
    rate: float = parameter(
        0.0, "Objects published per second of header time at most, 0: with every image.", range=(0.0, 1000.0)
    )
    marker_size: float = parameter(0.5, "Diameter of rviz's cylinders, m.", range=(0.001, 100.0), read_only=True)
    alignment: float = parameter(
        -1.0, f"How well the calibrations agree on the plane, m. {_THE_RIGS}", range=(-1.0, 100.0)
    )
    gate: float = parameter(
        -1.0, f"Squared Mahalanobis distance up to which a track may join an object. {_THE_RIGS}", range=(-1.0, 1000.0)
    )
    keep_gate: float = parameter(
        -1.0, f"The same beyond which tracks of one object have drifted apart. {_THE_RIGS}", range=(-1.0, 1000.0)
    )
    agility: float = parameter(-1.0, f"Random walk of a velocity, m/s per sqrt(s). {_THE_RIGS}", range=(-1.0, 1000.0))
    lost_after: float = parameter(
        -1.0, f"Seconds of header time that an unseen object is carried on. {_THE_RIGS}", range=(-1.0, 3600.0)
    )


_ASSOCIATION = ("alignment", "gate", "keep_gate", "agility", "lost_after")


class MultiCameraNode(VisionNode[MultiCameraParameters]):
    """<camera>/tracks/state of the cameras -> objects, objects/markers, objects/view, <camera>/tracks/global."""

    parameters_type = MultiCameraParameters

    def configure(self) -> None:
        p = self.parameters
        rig = _rig(p)
        topics = _topics(rig, p.topics)
        self._joiner = MultiCamera(rig)
        self._next_rig: Rig | None = None
        self._newest: GlobalTracks | None = None
        self._published: int | None = None
        self._viewed: int | None = None
        self._plan: GroundView | None = None
        self._heard = dict.fromkeys(topics, 0.0)
        self._silent: tuple[str, ...] = ()
        self.objects = self.publisher(GlobalTracks, "objects", adapter=GROUND_OBJECTS)
        self.markers = self.publisher(
            GlobalTracks, "objects/markers", adapter=markers_adapter(p.marker_size), counted=False
        )
        self.view = self.publisher(Frame, "objects/view", counted=False)
        self.tracks = {}
        for camera, topic in topics.items():
            self.tracks[camera] = self.publisher(Tracks, f"{topic.removesuffix('/state')}/global", counted=False)
            self.subscription(Tracks, topic, partial(self.update, camera), adapter=adapters.TRACK_ARRAY)
        self._topics = topics
        self._join, self._publish, self._total = self.stage("join"), self.stage("publish"), self.stage("latency")

    def activate(self) -> None:
        self._heard = dict.fromkeys(self._heard, time.monotonic())
        self._silent = ()

    def cleanup(self) -> None:
        if hasattr(self, "_joiner"):
            del self._joiner

    def update(self, camera: str, tracks: Tracks) -> None:
        self._heard[camera] = time.monotonic()
        if (rig := self._next_rig) is not None:
            self._next_rig = None
            self._joiner.adopt(rig)
            self._plan = None
        with self._join:
            objects = replace(self._joiner.update(camera, tracks), frame_id=self.parameters.frame_id)
        with self._publish:
            self.tracks[camera].publish(with_global_ids(tracks, objects.of(camera)))
            if _due(self._published, objects.stamp, self.parameters.rate):
                self._published = objects.stamp
                self.objects.publish(objects)
                self.markers.publish(objects)
        if self.view.has_subscribers and _due(self._viewed, objects.stamp, _VIEWS_A_S):
            self._viewed = objects.stamp
            with self.stage("draw"):
                image = self._draw(objects)
            self.view.publish(Frame(image, objects.stamp, objects.frame_id))
        self._newest = objects
        self._total.add(max(0, self.now_ns() - tracks.stamp))

    def _draw(self, objects: GlobalTracks) -> NDArray:
        if self._plan is None:
            rig = self._joiner.rig
            self._plan = GroundView({camera.name: footprint(camera, rig.parameters) for camera in rig.cameras})
        names = [name_of(class_id, objects.labels) for class_id in objects.class_ids.tolist()]
        lost = (objects.states == TrackState.LOST).tolist()
        return self._plan.draw(objects.ids.tolist(), names, objects.positions, objects.velocities, lost)

    def reconfigure(self, new: MultiCameraParameters) -> None:
        """The rig may change live where its cameras stay; taken over with the next tracks."""
        if not hasattr(self, "_joiner"):
            return
        if any(getattr(new, name) != getattr(self.parameters, name) for name in ("rig", *_ASSOCIATION)):
            rig = _rig(new)
            names = tuple(camera.name for camera in rig.cameras)
            if names != self._joiner.cameras:
                raise ValueError(
                    f"{new.rig} has the cameras {', '.join(names)} instead of {', '.join(self._joiner.cameras)}: "
                    "bring the node to unconfigured (ros2 lifecycle set), set the rig, and configure it again"
                )
            self._next_rig = rig

    def every_second(self) -> None:
        now = time.monotonic()
        silent = tuple(camera for camera, at in self._heard.items() if now - at > _SILENT_AFTER_S)
        if silent == self._silent:
            return
        for camera in set(self._silent) - set(silent):
            self.get_logger().info(f"camera {camera} is back")
        self._silent = silent
        said = ", ".join(f"{camera} ({self.resolve_topic_name(self._topics[camera])})" for camera in silent)
        problem = f"no tracks from camera {said}: does its tracking node run, in the namespace of its name?"
        if silent:
            self.get_logger().warning(problem)
        self.set_problem(problem if silent else None)

    def status(self) -> dict[str, str]:
        joiner: MultiCamera | None = getattr(self, "_joiner", None)
        if joiner is None:
            return {}
        objects = self._newest
        seen_by = [] if objects is None else (objects.members >= 0).sum(axis=1)
        return {
            "cameras": ", ".join(joiner.cameras),
            "silent cameras": ", ".join(self._silent) or "none",
            "objects": str(len(seen_by)),
            "joined": str(sum(count > 1 for count in seen_by)),
            "unused tracks": str(joiner.unused),
            "repeated stamps": str(joiner.repeated),
        }


def _due(last: int | None, stamp: int, rate: float) -> bool:
    """Whether ``rate`` per second (0: no limit) allows one at this stamp; always where time was turned back."""
    return rate <= 0 or last is None or not last <= stamp < last + NS_PER_S / rate


def _rig(p: MultiCameraParameters) -> Rig:
    """The rig file with what the parameters change of its association."""
    if not p.rig:
        raise Unusable(
            "the parameter rig is empty: give the file that says where the cameras are (docs/multi_camera.md)"
        )
    try:
        rig = read_rig(p.rig)
    except RigError as error:
        raise Unusable(str(error)) from None
    given = {name: getattr(p, name) for name in _ASSOCIATION if getattr(p, name) >= 0}
    values = {field.name: getattr(rig.parameters, field.name) for field in fields(JoinParameters)}
    return Rig(rig.cameras, JoinParameters(**{**values, **given}))


def _topics(rig: Rig, given: str) -> dict[str, str]:
    """Camera -> topic of its tracks' state."""
    names = [camera.name for camera in rig.cameras]
    topics = {name: f"{name}/tracks/state" for name in names}
    for entry in given.split():
        name, separator, topic = entry.partition("=")
        if not separator or name not in topics:
            raise Unusable(
                f"topics: {entry!r} must be camera=topic, of the rig's cameras {', '.join(names)}; "
                "separate several by spaces"
            )
        topics[name] = topic
    for name, topic in topics.items():
        if not _TOPIC.fullmatch(topic):
            raise Unusable(
                f"{topic!r} of camera {name!r} is no ROS topic: name the camera in the rig as its namespace, "
                f"or set the parameter topics to {name}=TOPIC"
            )
    return topics
