"""Tracks as rviz markers: each box in 3D on the plane one metre before the camera, with its name above it."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Point
from rclpy.duration import Duration
from visualization_msgs.msg import Marker, MarkerArray

from edge_vision.datatypes import CameraInfo, Tracks
from edge_vision.drawing.palette import colour_of
from edge_vision.ros.adapters import set_header

_LIFETIME = Duration(seconds=0.5).to_msg()


def to_markers(tracks: Tracks, info: CameraInfo) -> MarkerArray:
    """Boxes (line strips) and texts in the image's optical frame (z forward). Pinhole: distortion is not undone."""
    array = MarkerArray()
    K = info.K
    scale = np.array([1.0 / K[0, 0], 1.0 / K[1, 1]] * 2)
    centre = np.array([K[0, 2], K[1, 2]] * 2)
    corners = ((tracks.boxes - centre) * scale).tolist()
    labels = tracks.labels
    for (x1, y1, x2, y2), track_id, class_id in zip(
        corners, tracks.ids.tolist(), tracks.class_ids.tolist(), strict=True
    ):
        blue, green, red = (channel / 255.0 for channel in colour_of(track_id))
        outline = _marker(tracks, "boxes", track_id, Marker.LINE_STRIP)
        outline.scale.x = 0.004
        outline.points = [Point(x=x, y=y, z=1.0) for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1))]
        text = _marker(tracks, "names", track_id, Marker.TEXT_VIEW_FACING)
        text.text = f"{labels[class_id] if 0 <= class_id < len(labels) else class_id} {track_id}"
        text.scale.z = 0.03
        text.pose.position.x, text.pose.position.y, text.pose.position.z = (x1 + x2) / 2, y1 - 0.02, 1.0
        for marker in (outline, text):
            marker.color.r, marker.color.g, marker.color.b, marker.color.a = red, green, blue, 1.0
            array.markers.append(marker)
    return array


def _marker(tracks: Tracks, namespace: str, number: int, kind: int) -> Marker:
    marker = Marker(ns=namespace, id=number % 2**31, type=kind, action=Marker.ADD, lifetime=_LIFETIME)
    set_header(marker.header, tracks)
    marker.pose.orientation.w = 1.0
    return marker
