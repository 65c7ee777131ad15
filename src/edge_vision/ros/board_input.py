"""`board_pose` -> where a simulated board is held (geometry_msgs/PoseStamped, in the camera's optical frame)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rclpy.qos import QoSProfile, ReliabilityPolicy

from edge_vision.ros.node import VisionNode

TOPIC = "board_pose"
Move = Callable[[NDArray[np.float64], NDArray[np.float64]], Any]


class BoardInput:
    """Hands poses on as rotation (3, 3) and translation (3,) m, board to camera; used on the executor's thread."""

    def __init__(self, node: VisionNode, move: Move) -> None:
        self._node, self._move = node, move
        profile = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)  # an older pose is of no use
        self._subscription: Any = node.create_subscription(PoseStamped, TOPIC, self._moved, profile)

    def close(self) -> None:
        self._node.destroy_subscription(self._subscription)

    def _moved(self, message: PoseStamped) -> None:
        position, turn = message.pose.position, message.pose.orientation
        quaternion = np.array([turn.w, turn.x, turn.y, turn.z])
        translation = np.array([position.x, position.y, position.z])
        length = float(np.linalg.norm(quaternion))
        if not (np.isfinite(length) and length > 0.5 and np.isfinite(translation).all()):
            self._node.reject(f"{TOPIC}: position or orientation is not finite, or the quaternion is zero")
            return
        try:
            self._move(rotation_matrix(quaternion / length), translation)
        except ValueError as error:
            self._node.reject(f"{TOPIC}: {error}")


def rotation_matrix(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) of a unit quaternion (w, x, y, z)."""
    w, x, y, z = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
