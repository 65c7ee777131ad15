"""The service `set_camera_info` of a camera: its calibration from whoever calibrates it, as camera_info_manager has it,
but in its file before it answers (image_common #131)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sensor_msgs.msg import CameraInfo as CameraInfoMessage
from sensor_msgs.srv import SetCameraInfo

from edge_vision.calibration.camera_info_store import CameraInfoStore
from edge_vision.datatypes import CameraInfo, Outcome
from edge_vision.ros.adapters import camera_info_from_message
from edge_vision.ros.node import VisionNode

NAME = "set_camera_info"


@dataclass(frozen=True)
class CameraState:
    """What the camera knows when it is asked. size: (width, height) px of its images, None before the first; knows:
    whether its source has a calibration of its own."""

    size: tuple[int, int] | None
    knows: bool


class CameraInfoService:
    """Serves `set_camera_info` beside camera_info; to be made, used and closed on the executor's thread."""

    def __init__(
        self,
        node: VisionNode,
        store: CameraInfoStore,
        state: Callable[[], CameraState],
        changed: Callable[[CameraInfo], None],
    ) -> None:
        """changed: called with the calibration that holds from now on, before the answer goes out."""
        self._node, self._store, self._state, self._changed = node, store, state, changed
        self._service: Any = node.create_service(SetCameraInfo, NAME, self._serve)

    def close(self) -> None:
        self._node.destroy_service(self._service)

    def _serve(self, request: SetCameraInfo.Request, response: SetCameraInfo.Response) -> SetCameraInfo.Response:
        try:
            outcome = self._take(request.camera_info)
        except Exception as error:  # rclpy would end the process
            outcome = Outcome(False, f"failed: {type(error).__name__}: {error}")
        if outcome.success:
            self._node.get_logger().info(f"{NAME}: {outcome.message}")
        else:
            self._node.get_logger().error(f"{NAME}: {outcome.message}")
        response.success, response.status_message = outcome.success, outcome.message
        return response

    def _take(self, message: CameraInfoMessage) -> Outcome:
        partly = _part_of_the_sensor(message)
        if partly:
            return Outcome(False, f"refused: {partly}")
        before, state = self._store.choose(None), self._state()
        outcome = self._store.set(camera_info_from_message(message), state.size, state.knows)
        now = self._store.choose(None)
        if now is not None and now is not before:
            self._changed(now)
        return outcome


def _part_of_the_sensor(message: CameraInfoMessage) -> str | None:
    """What cannot be kept: the file has no place for it, and the images are whole."""
    roi = message.roi
    if message.binning_x > 1 or message.binning_y > 1:
        return f"binning {message.binning_x}x{message.binning_y}: calibrate at the size of the images, with binning 0"
    region = (roi.x_offset, roi.y_offset, roi.width, roi.height)
    if region not in ((0, 0, 0, 0), (0, 0, message.width, message.height)):
        return f"a region of interest {region}: calibrate whole images, with a roi of zeros"
    return None
