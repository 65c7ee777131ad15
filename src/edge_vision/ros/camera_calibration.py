"""The calibrated side of the camera node: camera_info, set_camera_info and image_rect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edge_vision.calibration.camera_info_file import size_mismatch
from edge_vision.calibration.camera_info_location import camera_info_path, camera_name_of
from edge_vision.calibration.camera_info_store import CameraInfoStore, is_calibrated, uncalibrated
from edge_vision.calibration.rectification import Rectifier
from edge_vision.datatypes import CameraInfo, Frame
from edge_vision.ros.camera_info_service import CameraInfoService, CameraState
from edge_vision.ros.node import VisionNode


class CameraCalibration:
    """Made when the camera node is configured, after `image_raw` has its publisher.

    image_rect is made by the node's worker from the frames that the capture thread publishes, so that thread goes on.
    """

    def __init__(
        self,
        node: VisionNode,
        url: str,
        camera_name: str,
        frame_id: str,
        of_source: Callable[[], CameraInfo | None],
    ) -> None:
        """url, camera_name: the parameters. of_source: what the source knows of its camera. Raises CameraInfoError."""
        self._node, self._of_source = node, of_source
        name = camera_name_of(camera_name, node.get_namespace())
        self._store = CameraInfoStore(camera_info_path(url, name), name, asked_for=bool(url), frame_id=frame_id)
        self._store.load()
        if self._store.problem:
            node.get_logger().warning(self._store.problem)
        self._newest: tuple[int, int, int, str] | None = None  # width, height, stamp, frame_id
        self._maps: tuple[CameraInfo, Rectifier] | None = None
        self._infos = node.publisher(CameraInfo, "camera_info", counted=False)
        self._rectified = node.publisher(Frame, "image_rect", counted=False)
        self._frames = node.subscription(
            Frame, "image_raw", self._rectify, counted=False, needed=lambda: self._rectified.has_subscribers
        )
        self._rectifying = node.stage("rectify")
        self._service = CameraInfoService(node, self._store, self._state, self._announce)

    def close(self) -> None:
        self._service.close()

    def publish(self, frame: Frame) -> None:
        """camera_info of a frame; called by the capture thread."""
        self._newest = frame.width, frame.height, frame.stamp, frame.frame_id
        if self._infos.has_subscribers:
            self._infos.publish(
                replace(self._info_for(frame.width, frame.height), stamp=frame.stamp, frame_id=frame.frame_id)
            )

    def status(self) -> dict[str, str]:
        """For the diagnostics."""
        said = {"calibration": self._store.origin(self._of_source())}
        if self._frames.mailbox.dropped:
            said["frames not rectified"] = str(self._frames.mailbox.dropped)
        return said

    def warning(self) -> str | None:
        return self._store.problem

    def _info_for(self, width: int, height: int) -> CameraInfo:
        """Of images of that size; without a calibration that fits them, what ROS says of uncalibrated cameras."""
        info = self._store.choose(self._of_source())
        if info is None:
            return uncalibrated(width, height)
        mismatch = size_mismatch(info, width, height)
        if mismatch:
            self._node.warn_once(f"camera_info says uncalibrated: {mismatch}")
            return uncalibrated(width, height)
        return info

    def _rectify(self, frame: Frame) -> None:
        """On the node's worker thread."""
        info = self._info_for(frame.width, frame.height)
        if not is_calibrated(info):
            self._node.warn_once(
                "image_rect is not published: the camera is not calibrated (docs/calibration_camera.md)"
            )
            return
        if self._maps is None or self._maps[0] is not info:
            self._maps = info, Rectifier(info)
        with self._rectifying:
            image = self._maps[1](frame.image)
        self._rectified.publish(replace(frame, image=image))

    def _state(self) -> CameraState:
        newest = self._newest
        return CameraState(None if newest is None else newest[:2], self._of_source() is not None)

    def _announce(self, _calibration: CameraInfo) -> None:
        """The next frame may be far away, or never come."""
        newest = self._newest
        if newest is not None and self._infos.has_subscribers:
            width, height, stamp, frame_id = newest
            self._infos.publish(replace(self._info_for(width, height), stamp=stamp, frame_id=frame_id))
