"""One object, one id over several calibrated cameras: their tracks joined by position on the ground plane."""

from edge_vision.multi_camera.geometry import GroundPlane
from edge_vision.multi_camera.joining import GlobalTracks, MultiCamera
from edge_vision.multi_camera.parameters import JoinParameters
from edge_vision.multi_camera.rig import Rig, RigCamera, RigError, parse_rig, read_rig
from edge_vision.multi_camera.views import footprint

__all__ = [
    "GlobalTracks",
    "GroundPlane",
    "JoinParameters",
    "MultiCamera",
    "Rig",
    "RigCamera",
    "RigError",
    "footprint",
    "parse_rig",
    "read_rig",
]
