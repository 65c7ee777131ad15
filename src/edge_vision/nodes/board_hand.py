"""A hand for the simulated board (`sim://board`): shows the camera the views that its calibration asks for."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType

from edge_vision.calibration.boards import Board, find_board
from edge_vision.calibration.models import matrix_of, rotation_vectors
from edge_vision.calibration.projection import Camera
from edge_vision.datatypes import CalibrationStatus
from edge_vision.ros.board_input import TOPIC
from edge_vision.ros.calibration_adapters import CALIBRATION_STATUS
from edge_vision.ros.node import VisionNode
from edge_vision.ros.parameters import NodeParameters, parameter
from edge_vision.simulation.lens import Lens
from edge_vision.simulation.movement import GuidedHand, Hand, Manner, Pose, shown_poses

_SIZE = 640, 480  # of the images, until the calibration has seen one


@dataclass(frozen=True)
class BoardHandParameters(NodeParameters):
    board: str = parameter(
        "charuco_9x7_25mm", "The board: a YAML file, or the name of one in config/boards.", read_only=True
    )
    model: str = parameter(
        "plumb_bob",
        "What the camera is taken for until it is calibrated: 60 degrees wide, or 120 (equidistant).",
        choices=("plumb_bob", "equidistant"),
        read_only=True,
    )
    frame_id: str = parameter("camera_optical_frame", "frame_id of the poses.", read_only=True)
    seed: int = parameter(0, "Of the hand's errors.", range=(0, 2**31 - 1), read_only=True)
    rate: float = parameter(30.0, "Poses published per second.", range=(1.0, 200.0), read_only=True)
    speed: float = parameter(Manner.speed, "Speed of the board in m/s, on average.", range=(0.01, 10.0))
    error_degrees: float = parameter(Manner.degrees, "Sigma of the hand's error in angle.", range=(0.0, 30.0))
    error_share: float = parameter(
        Manner.share, "Sigma of its error in place, as a share of the distance.", range=(0.0, 0.5)
    )
    hold: float = parameter(Manner.hold, "Seconds for which the board is held still.", range=(0.0, 60.0))
    patience: float = parameter(
        4.0,
        "Seconds after which a view that is still asked for is shown anew, with half the error.",
        range=(0.1, 600.0),
    )


class BoardHandNode(VisionNode[BoardHandParameters]):
    """calibration_status -> board_pose, which the camera node takes where its source is sim://board."""

    parameters_type = BoardHandParameters

    def configure(self) -> None:
        p = self.parameters
        self._board: Board = find_board(p.board)
        self._size = _SIZE
        self._status: CalibrationStatus | None = None
        hand = Hand(self._board.outline.mean(0), _manner(p), p.seed)
        self._guided = GuidedHand(hand, self._own_poses(), p.patience)
        self._poses: Any = self.create_publisher(PoseStamped, TOPIC, 10)
        self._clockwork: Any = None
        self.subscription(CalibrationStatus, "calibration_status", self.learn, adapter=CALIBRATION_STATUS)

    def activate(self) -> None:
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._clockwork = self.create_timer(1 / self.parameters.rate, self.move, clock=clock)

    def deactivate(self) -> None:
        if self._clockwork is not None:
            self.destroy_timer(self._clockwork)
            self._clockwork = None

    def cleanup(self) -> None:
        if hasattr(self, "_poses"):
            self.destroy_publisher(self._poses)
            del self._poses

    def learn(self, status: CalibrationStatus) -> None:
        self._status = status

    def move(self) -> None:
        """The executor's thread, `rate` times a second."""
        status = self._status
        asked = None
        if status is not None:
            if min(status.width, status.height) > 0 and (status.width, status.height) != self._size:
                self._size = status.width, status.height
                self._guided.own = self._own_poses()
            if status.next_view and np.any(status.next_translation):
                asked = Pose(status.next_rotation, status.next_translation)
        wanted = status is None or status.state == "collecting"
        pose = self._guided.pose(time.monotonic(), asked, wanted)
        if pose is not None:
            self._poses.publish(_message(pose, self.now_ns(), self.parameters.frame_id))
            self.output_rate.tick()

    def reconfigure(self, new: BoardHandParameters) -> None:
        if hasattr(self, "_guided"):
            self._guided.hand.manner = _manner(new)
            self._guided.patience = new.patience

    def status(self) -> dict[str, str]:
        status = getattr(self, "_status", None)
        return {"asked for": status.next_view or "nothing" if status is not None else "no calibration heard of"}

    def _own_poses(self) -> list[Pose]:
        camera = Camera.nominal(self._size, self.parameters.model)
        lens = Lens(camera.model, matrix_of(camera.parameters), camera.parameters[4:])
        return shown_poses(lens, *self._size, self._board.outline, self._board.kind == "aprilgrid")


def _manner(p: BoardHandParameters) -> Manner:
    return Manner(p.speed, p.error_degrees, p.error_share, p.hold)


def _message(pose: Pose, stamp: int, frame_id: str) -> PoseStamped:
    message = PoseStamped()
    message.header.frame_id = frame_id
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
    position, orientation = message.pose.position, message.pose.orientation
    position.x, position.y, position.z = map(float, pose.translation)
    turn: NDArray[np.float64] = rotation_vectors(pose.rotation[None])[0]
    angle = float(np.linalg.norm(turn))
    axis = turn / angle * np.sin(angle / 2) if angle else turn
    orientation.x, orientation.y, orientation.z = map(float, axis)
    orientation.w = float(np.cos(angle / 2))
    return message
