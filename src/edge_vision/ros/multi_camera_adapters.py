"""Objects on the ground plane as messages and back, and as rviz markers; tracks with the ids of their objects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from geometry_msgs.msg import Point, Vector3
from rclpy.duration import Duration
from visualization_msgs.msg import Marker, MarkerArray

from edge_vision.datatypes import Labels, Tracks, TrackState
from edge_vision.drawing.palette import colour_of
from edge_vision.msg import CameraTrack, GroundObject, GroundObjectArray
from edge_vision.multi_camera import GlobalTracks
from edge_vision.ros.adapters import Adapter, BadMessage, set_header, stamp_ns

_LIFETIME = Duration(seconds=1.0).to_msg()
_SLOW = 0.05  # diameters per second: an arrow for less would only tremble


def ground_objects_to_message(objects: GlobalTracks) -> GroundObjectArray:
    array = GroundObjectArray()
    set_header(array.header, objects)
    columns = zip(
        objects.ids.tolist(),
        objects.class_ids.tolist(),
        objects.positions.tolist(),
        objects.velocities.tolist(),
        objects.covariances.reshape(-1, 16),
        objects.ages.tolist(),
        objects.states.tolist(),
        objects.members.tolist(),
        strict=True,
    )
    for number, class_id, (x, y), (vx, vy), covariance, age, state, members in columns:
        message = GroundObject()
        message.id, message.class_id = str(number), str(class_id)
        message.class_name = name_of(class_id, objects.labels)
        message.position.x, message.position.y = x, y
        message.velocity.x, message.velocity.y = vx, vy
        message.covariance = covariance
        message.age, message.state = age, state
        message.members = [
            CameraTrack(camera=camera, id=str(track))
            for camera, track in zip(objects.cameras, members, strict=True)
            if track >= 0
        ]
        array.objects.append(message)
    return array


def ground_objects_from_message(array: GroundObjectArray) -> GlobalTracks:
    """`cameras` are those that are named, in the order of their coming. BadMessage for ids that are no numbers."""
    objects = array.objects
    cameras = tuple(dict.fromkeys(member.camera for o in objects for member in o.members))
    members = np.full((len(objects), len(cameras)), -1, np.int64)
    try:
        for row, message in enumerate(objects):
            for member in message.members:
                members[row, cameras.index(member.camera)] = int(member.id)
        ids = np.array([int(o.id) for o in objects], np.int64)
        class_ids = np.array([int(o.class_id) for o in objects], np.int64)
    except ValueError as error:
        raise BadMessage(f"GroundObjectArray with an id that is no number: {error}") from None
    names = {
        number: o.class_name for number, o in zip(class_ids.tolist(), objects, strict=True) if 0 <= number < 10_000
    }
    return GlobalTracks(
        ids,
        np.array([(o.position.x, o.position.y) for o in objects], np.float64).reshape(-1, 2),
        np.array([(o.velocity.x, o.velocity.y) for o in objects], np.float64).reshape(-1, 2),
        np.array([o.covariance for o in objects], np.float64).reshape(-1, 4, 4),
        class_ids,
        np.array([o.state for o in objects], np.uint8),
        np.array([o.age for o in objects], np.float64),
        members,
        cameras,
        tuple(names.get(index, "") for index in range(max(names, default=-1) + 1)),
        stamp_ns(array.header.stamp),
        array.header.frame_id,
    )


def with_global_ids(tracks: Tracks, ids: dict[int, int]) -> Tracks:
    """The tracks of one camera that have an object, with the object's id (``ids``: local track id -> global id)."""
    found = [ids.get(number, -1) for number in tracks.ids.tolist()]
    numbers = np.array(found, np.int64)
    has = numbers >= 0
    return replace(
        tracks,
        boxes=tracks.boxes[has],
        scores=tracks.scores[has],
        class_ids=tracks.class_ids[has],
        ids=numbers[has],
        velocities=tracks.velocities[has],
        ages=tracks.ages[has],
        states=tracks.states[has],
        covariances=None if tracks.covariances is None else tracks.covariances[has],
    )


def ground_markers(objects: GlobalTracks, diameter: float) -> MarkerArray:
    """A cylinder an object (m; half of it see-through where lost), its name, an arrow to where it is in a second."""
    array = MarkerArray()
    columns = zip(
        objects.ids.tolist(),
        objects.class_ids.tolist(),
        objects.positions.tolist(),
        objects.velocities.tolist(),
        (objects.states == TrackState.LOST).tolist(),
        strict=True,
    )
    for number, class_id, (x, y), (vx, vy), lost in columns:
        blue, green, red = (channel / 255.0 for channel in colour_of(number))
        body = _marker(objects, "objects", number, Marker.CYLINDER)
        body.pose.position.x, body.pose.position.y, body.pose.position.z = x, y, diameter / 2
        body.scale = Vector3(x=diameter, y=diameter, z=diameter)
        name = _marker(objects, "names", number, Marker.TEXT_VIEW_FACING)
        name.text = f"{name_of(class_id, objects.labels) or class_id} {number}"
        name.scale.z = diameter / 2
        name.pose.position.x, name.pose.position.y, name.pose.position.z = x, y, 1.5 * diameter
        markers = [body, name]
        if np.hypot(vx, vy) > _SLOW * diameter:
            arrow = _marker(objects, "velocities", number, Marker.ARROW)
            arrow.points = [Point(x=x, y=y, z=diameter / 2), Point(x=x + vx, y=y + vy, z=diameter / 2)]
            arrow.scale = Vector3(x=diameter / 6, y=diameter / 3, z=diameter / 3)
            markers.append(arrow)
        for marker in markers:
            marker.color.r, marker.color.g, marker.color.b, marker.color.a = red, green, blue, 0.5 if lost else 1.0
        array.markers.extend(markers)
    return array


def name_of(class_id: int, labels: Labels) -> str:
    """The class's name, "" where it has none."""
    return labels[class_id] if 0 <= class_id < len(labels) else ""


def markers_adapter(diameter: float) -> Adapter[GlobalTracks]:
    """Publishes objects as markers; diameter: m, of their cylinders."""
    return Adapter(GlobalTracks, MarkerArray, lambda objects: ground_markers(objects, diameter), _no_input)


def _no_input(_: MarkerArray) -> GlobalTracks:
    raise BadMessage("markers are published, not read")


def _marker(objects: GlobalTracks, namespace: str, number: int, kind: int) -> Marker:
    marker = Marker(ns=namespace, id=number % 2**31, type=kind, action=Marker.ADD, lifetime=_LIFETIME)
    set_header(marker.header, objects)
    marker.pose.orientation.w = 1.0
    return marker


GROUND_OBJECTS = Adapter(GlobalTracks, GroundObjectArray, ground_objects_to_message, ground_objects_from_message)
