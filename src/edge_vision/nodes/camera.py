"""Frames from a source, at their own pace or as fast as the consumers take them; with the camera's calibration."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from edge_vision.datatypes import NS_PER_S, Frame, Tracks
from edge_vision.ros.board_input import BoardInput
from edge_vision.ros.camera_calibration import CameraCalibration
from edge_vision.ros.node import VisionNode
from edge_vision.ros.parameters import NodeParameters, parameter
from edge_vision.sources import AUTOMATIC, Pacer, Reconnecting, Sample, Source, SourceError, open_source


@dataclass(frozen=True)
class CameraParameters(NodeParameters):
    source: str = parameter(
        "sim://conveyor",
        "Where frames come from: sim://conveyor?..., a video file, an image folder or glob, /dev/video0, "
        "rtsp:// or http:// URL, gst:// pipeline.",
        read_only=True,
    )
    width: int = parameter(
        0, "Width of the frames in pixels, 0 for the source's own.", range=(0, 16384), read_only=True
    )
    height: int = parameter(
        0, "Height of the frames in pixels, 0 for the source's own.", range=(0, 16384), read_only=True
    )
    fps: float = parameter(0.0, "Frames per second, 0 for the source's own rate.", range=(0.0, 1000.0), read_only=True)
    frame_id: str = parameter("camera_optical_frame", "frame_id of the images (REP 103).", read_only=True)
    camera_info: str = parameter(
        "",
        "camera_info YAML of the camera: a path, file:// or package:// URL; ${ROS_HOME} and ${NAME} are understood. "
        "set_camera_info writes it. Empty: what the source knows, else ~/.ros/camera_info/<camera_name>.yaml.",
        read_only=True,
    )
    camera_name: str = parameter(
        "", "Name of the camera in its calibration and of that file; empty: its namespace, or camera.", read_only=True
    )
    pace: str = parameter(
        "real_time",
        "Recorded sources: real_time by their stamps, or fast as consumers take them (which need input_mode every).",
        choices=("real_time", "fast"),
        read_only=True,
    )
    loop: bool = parameter(False, "Begin recorded sources anew at their end.", read_only=True)
    duration: float = parameter(
        0.0, "Stop after this many seconds of header time, 0 for never.", range=(0.0, 1e9), read_only=True
    )
    exposure: float = parameter(
        AUTOMATIC,
        "Exposure time in seconds, -1: left to the camera (its automatic; the simulation: what its URI says). "
        "For sim:// and V4L2 cameras.",
        range=(-1.0, 1e3),
    )
    gain: float = parameter(
        AUTOMATIC,
        "Gain, -1: left to the camera. sim://: a factor; V4L2: in the driver's own unit (v4l2-ctl --list-ctrls).",
        range=(-1.0, 1e6),
    )
    exit_at_end: bool = parameter(False, "End the process when the source ends.", read_only=True)


class CameraNode(VisionNode[CameraParameters]):
    """source -> image_raw, camera_info, image_rect and, from the simulation, ground_truth; set_camera_info."""

    parameters_type = CameraParameters
    expected_errors = (*VisionNode.expected_errors, SourceError)

    def configure(self) -> None:
        p = self.parameters
        self._thread: threading.Thread | None = None
        self._asked = self._controls_of(p)  # what the source has been asked for, again whenever it is opened
        self._capturing = False
        self._opened: Any = None
        self._board: BoardInput | None = None
        self._connect()
        self.frames = self.publisher(Frame, "image_raw")
        self.truth = self.publisher(Tracks, "ground_truth", counted=False)
        self._calibration = CameraCalibration(
            self, p.camera_info, p.camera_name, p.frame_id, lambda: self._source.camera_info()
        )
        if hasattr(self._opened, "move_board"):  # a simulated one
            self._board = BoardInput(self, lambda *pose: self._opened.move_board(*pose))

    def _connect(self) -> None:
        self._stopping = threading.Event()
        self._source = Reconnecting(self._open, on_event=self._on_event, stop=self._stopping)
        self._source.connect()  # what no retry can mend ends here

    def activate(self) -> None:
        if self._stopping.is_set():  # active before
            self._connect()
        self._source_warnings = 0
        self._capturing = True
        self._thread = threading.Thread(target=self._capture, name="capture", daemon=True)
        self._thread.start()

    def deactivate(self) -> None:
        self._stopping.set()
        self._source.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=6.0)

    def cleanup(self) -> None:
        self._source.close()
        if hasattr(self, "_calibration"):
            self._calibration.close()
            del self._calibration
        if self._board is not None:
            self._board.close()

    def idle(self) -> bool:
        # A source has nothing to finish, but its last frame may be on its way to image_rect.
        return getattr(self, "_capturing", False) or super().idle()

    def status(self) -> dict[str, str]:
        if not hasattr(self, "_source"):
            return {}
        controls = {name: f"{value:g}" for name, value in self._source.controls().items()}
        said = {"source": self._source.description, "times lost": str(self._source.losses)} | controls
        return said | (self._calibration.status() if hasattr(self, "_calibration") else {})

    def warning(self) -> str | None:
        return self._calibration.warning()

    def prepare(self, new: CameraParameters) -> Callable[[], None] | None:
        """A driver may take a frame's time to answer: not on the executor's thread."""
        if not hasattr(self, "_source") or self._controls_of(new) == self._asked:
            return None
        return lambda: self._set_controls(new)

    def reconfigure(self, new: CameraParameters) -> None:
        if hasattr(self, "_source"):
            self._set_controls(new)  # nothing, where it was prepared

    @staticmethod
    def _controls_of(p: CameraParameters) -> dict[str, float]:
        return {"exposure": p.exposure, "gain": p.gain}

    def _set_controls(self, new: CameraParameters) -> None:
        """Asks the source for what has changed, all or nothing. Raises SourceError."""
        before = dict(self._asked)
        try:
            for name, value in self._controls_of(new).items():
                if value != self._asked[name]:
                    self._source.set_control(name, value)
                    self._asked[name] = value
        except SourceError:
            for name, value in before.items():
                if value != self._asked[name]:
                    self._source.set_control(name, value)
            self._asked = before
            raise

    def _open(self) -> Source:
        p = self.parameters
        source = open_source(
            p.source, width=p.width, height=p.height, fps=p.fps, loop=p.loop, frame_id=p.frame_id, start_stamp=0
        )
        self._opened = source
        for name, value in self._asked.items():
            if value != AUTOMATIC:
                try:
                    source.set_control(name, value)
                except SourceError as error:  # it plays all the same
                    source.warnings.append(str(error))
        return source

    def _on_event(self, level: str, message: str) -> None:
        # rclpy ties a severity to the line of code that logs, so each needs its own.
        if level == "warning":
            self.get_logger().warning(message)
            self.set_problem(message)
        else:
            self.get_logger().info(message)
            self.set_problem(None)

    def _capture(self) -> None:
        """The capture thread."""
        why = "the source has ended"
        code = 0
        try:
            why = self._play() or why
        except SourceError as error:
            self.get_logger().error(str(error))
            self.set_problem(str(error))
            why, code = "the source has failed", 1
        except Exception as error:
            self.get_logger().error(f"capture failed: {type(error).__name__}: {error}\n{traceback.format_exc()}")
            self.set_problem(str(error))
            why, code = "capture has failed", 1
        self._log_warnings()
        self._capturing = False
        if not self._stopping.is_set():
            self.get_logger().info(why)
            if self.parameters.exit_at_end:
                self.container.finish(why, code)

    def _play(self) -> str | None:
        p = self.parameters
        pacer = Pacer(stop=self._stopping) if p.pace == "real_time" else None
        offset = first = None
        while not self._stopping.is_set():
            with self.stage("read"):
                sample = self._source.read()
            if sample is None:
                return None
            live = self._source.live
            if not live:
                if pacer is not None and not pacer.wait(sample.frame.stamp):
                    return None
                # Recordings have stamps of their own from 0 on: they begin now.
                offset = self.now_ns() - sample.frame.stamp if offset is None else offset
                sample = _shifted(sample, offset)
            first = sample.frame.stamp if first is None else first
            if p.duration and sample.frame.stamp - first >= p.duration * NS_PER_S:
                return f"{p.duration:g} s are over"
            self._publish(sample)
        return None

    def _publish(self, sample: Sample) -> None:
        frame = sample.frame
        self.input_rate.tick()
        with self.stage("publish"):
            if sample.truth is not None:
                self.truth.publish(sample.truth)
            self.frames.publish(frame)
            self._calibration.publish(frame)
        self._newest_stamp = frame.stamp
        self._log_warnings()

    def _log_warnings(self) -> None:
        warnings = self._source.warnings
        for text in warnings[self._source_warnings :]:
            self.get_logger().warning(text)
        self._source_warnings = len(warnings)


def _shifted(sample: Sample, offset: int) -> Sample:
    stamp = sample.frame.stamp + offset
    truth = None if sample.truth is None else replace(sample.truth, stamp=stamp)
    return Sample(replace(sample.frame, stamp=stamp), truth)
