"""CalibrationStatus as edge_vision/CalibrationStatus and back."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from geometry_msgs.msg import Point32

from edge_vision.calibration.models import rotation_matrices, rotation_vectors
from edge_vision.datatypes import CalibrationStatus
from edge_vision.msg import CalibrationStatus as CalibrationStatusMessage
from edge_vision.ros.adapters import Adapter, set_header, stamp_ns

# Fields that need more than an assignment.
_APART = (
    "corners", "cells", "reasons", "remedies", "next_outline", "next_rotation", "next_translation", "stamp", "frame_id",
)  # fmt: skip
_PLAIN = tuple(field.name for field in fields(CalibrationStatus) if field.name not in _APART)
_FLOATS = {field.name for field in fields(CalibrationStatus) if field.type == "float"}


def status_to_message(status: CalibrationStatus) -> CalibrationStatusMessage:
    """The corners of the newest frame stay behind: they are drawn into the preview."""
    message = CalibrationStatusMessage()
    set_header(message.header, status)
    for name in _PLAIN:
        value = getattr(status, name)
        setattr(message, name, float(value) if name in _FLOATS else value)  # rclpy aborts over an int in a float field
    message.cells = [bool(cell) for cell in status.cells.ravel()]
    message.reasons, message.remedies = list(status.reasons), list(status.remedies)
    message.next_outline = [Point32(x=float(x), y=float(y)) for x, y in status.next_outline]
    turn = rotation_vectors(status.next_rotation[None])[0]
    angle = float(np.linalg.norm(turn))
    axis = turn * (np.sin(angle / 2) / angle) if angle else turn
    orientation, position = message.next_pose.orientation, message.next_pose.position
    orientation.x, orientation.y, orientation.z = map(float, axis)
    orientation.w = float(np.cos(angle / 2))
    position.x, position.y, position.z = map(float, status.next_translation)
    return message


def status_from_message(message: CalibrationStatusMessage) -> CalibrationStatus:
    orientation, position = message.next_pose.orientation, message.next_pose.position
    axis = np.array([orientation.x, orientation.y, orientation.z])
    length = float(np.linalg.norm(axis))
    turn = axis * (2 * np.arctan2(length, orientation.w) / length) if length else axis
    return CalibrationStatus(
        **{name: getattr(message, name) for name in _PLAIN},
        cells=np.array(message.cells, bool).reshape(10, 10),
        reasons=tuple(message.reasons),
        remedies=tuple(message.remedies),
        next_outline=np.array([(p.x, p.y) for p in message.next_outline], np.float32).reshape(-1, 2),
        next_rotation=rotation_matrices(turn[None])[0],
        next_translation=np.array([position.x, position.y, position.z]),
        stamp=stamp_ns(message.header.stamp),
        frame_id=message.header.frame_id,
    )


CALIBRATION_STATUS = Adapter(CalibrationStatus, CalibrationStatusMessage, status_to_message, status_from_message)
