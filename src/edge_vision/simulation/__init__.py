"""The digital twin: a conveyor scene with ground truth, and the camera that sees it."""

from edge_vision.simulation.camera import Sensor, distort, expose, undistort
from edge_vision.simulation.conveyor import FRAME_ID, Conveyor, SimulatedFrame
from edge_vision.simulation.options import ConveyorOptions
from edge_vision.simulation.parts import LABELS

__all__ = [
    "FRAME_ID",
    "LABELS",
    "Conveyor",
    "ConveyorOptions",
    "Sensor",
    "SimulatedFrame",
    "distort",
    "expose",
    "undistort",
]
