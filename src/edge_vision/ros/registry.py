"""The nodes there are, by name, in the order in which data flows through them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_vision.ros.node import VisionNode

# name: (module in edge_vision.nodes, class, one line for people)
NODES: dict[str, tuple[str, str, str]] = {
    "camera": ("camera", "CameraNode", "frames from a camera, stream, file or the simulation"),
    "calibration": ("calibration", "CalibrationNode", "calibrates the camera from views of a board, without a screen"),
    "calibration_check": (
        "calibration_check",
        "CalibrationCheckNode",
        "whether the stored calibration is still right, by a board or a scene that stands still",
    ),
    "board_hand": ("board_hand", "BoardHandNode", "moves the board of sim://board to the views asked for"),
    "quality": ("quality", "QualityNode", "how good the camera's picture is, and what spoils it"),
    "enhance": ("enhance", "EnhanceNode", "frames in, better frames out: brightness, sharpness, noise, distortion"),
    "inference": ("inference", "InferenceNode", "frames in, detections out"),
    "tracking": ("tracking", "TrackingNode", "detections in, tracks out"),
    "counter": ("counter", "CounterNode", "counts tracks that cross lines and stay in zones"),
    "multi_camera": ("multi_camera", "MultiCameraNode", "joins the tracks of several cameras on the ground plane"),
    "overlay": ("overlay", "OverlayNode", "draws results on the frames, and rviz markers"),
    "monitor": ("monitor", "MonitorNode", "statistics of all nodes under one namespace"),
    "recorder": ("recorder", "RecorderNode", "writes overlay.mp4, detections.json, tracks.csv and summary.json"),
}

DEFAULT_PIPELINE = ("camera", "inference", "tracking", "overlay", "monitor")


def node_class(name: str) -> type[VisionNode]:
    """The class of a node; imported only now, so that a process pays for the nodes that it runs."""
    module, class_name, _ = NODES[name]
    return getattr(import_module(f"edge_vision.nodes.{module}"), class_name)


def ordered(names: list[str] | tuple[str, ...]) -> list[str]:
    """The names in the order of the data. ValueError for one that is unknown."""
    unknown = [name for name in names if name not in NODES]
    if unknown:
        raise ValueError(f"unknown node {', '.join(unknown)}; there are {', '.join(NODES)}")
    return [name for name in NODES if name in names]
