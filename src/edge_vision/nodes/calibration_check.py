"""Is the camera's calibration still right: looks at an image now and then, warns where it has drifted."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from std_srvs.srv import Trigger

from edge_vision.calibration.boards import find_board
from edge_vision.calibration.camera_info_location import camera_info_path, camera_name_of, filled_in
from edge_vision.calibration.detection import to_gray
from edge_vision.calibration.drift import Limits, Stored, read_stored
from edge_vision.calibration.drift_features import read_reference, write_reference
from edge_vision.calibration.drift_watching import Watcher
from edge_vision.datatypes import CameraInfo, Frame, Outcome
from edge_vision.ros import adapters
from edge_vision.ros.calibration_files import difference
from edge_vision.ros.node import VisionNode
from edge_vision.ros.parameters import NodeParameters, parameter
from edge_vision.ros.quality_adapters import mono_or_bgr
from edge_vision.ros.slow_services import SlowService


@dataclass(frozen=True)
class CalibrationCheckParameters(NodeParameters):
    camera_info: str = parameter(
        "", "File of the calibration to check; empty: what comes on the topic camera_info.", read_only=True
    )
    camera_name: str = parameter("", "Name of the camera; empty: as the namespace, or camera.", read_only=True)
    board: str = parameter(
        "",
        "A board that may be shown: a YAML file, or the name of one in config/boards; empty: none is looked for.",
        read_only=True,
    )
    reference: str = parameter(
        "${ROS_HOME}/camera_info/${NAME}.reference.npz",
        "File of the scene as it was when the camera was mounted, written by ~/take_reference (ROS_HOME: ~/.ros where "
        "not set; NAME: camera_name).",
        read_only=True,
    )
    rate: float = parameter(0.5, "Images looked at per second at most.", range=(0.001, 1000.0))
    limit_lens: float = parameter(
        Limits.lens,
        "Pixels (RMS over the image) of drift that the lens explains; doubtful from half of it.",
        range=(0.01, 1e6),
    )
    limit_mount: float = parameter(
        Limits.mount, "Pixels (RMS over the image) of drift that a turn of the camera explains.", range=(0.01, 1e6)
    )
    hold: float = parameter(10.0, "Seconds that a drift must last to be told, or be over.", range=(0.0, 1e6))
    image_transport: str = parameter("raw", "As of the inference node.", choices=("raw", "compressed"), read_only=True)


class CalibrationCheckNode(VisionNode[CalibrationCheckParameters]):
    """image_raw, camera_info -> /diagnostics; service ~/take_reference."""

    parameters_type = CalibrationCheckParameters

    def configure(self) -> None:
        p = self.parameters
        self._camera_name = camera_name_of(p.camera_name, self.get_namespace())
        self._watcher = Watcher(find_board(p.board) if p.board else None, _limits(p), p.hold)
        self._file = camera_info_path(p.camera_info, self._camera_name) if p.camera_info else None
        self._written = 0
        self._due_at = 0.0
        if self._file is not None:
            self._read_file()
        else:
            self.subscription(CameraInfo, "camera_info", self.learn_camera, counted=False)
        self._reference = Path(filled_in(p.reference, self._camera_name)).expanduser() if p.reference else None
        if self._reference is not None and self._reference.exists():
            self._watcher.use(reference=read_reference(self._reference))
        adapter = adapters.COMPRESSED_IMAGE if p.image_transport == "compressed" else adapters.IMAGE
        self.subscription(Frame, "image_raw", self.look, adapter=adapter, needed=self._due)
        self._service = SlowService(
            self, Trigger, "~/take_reference", lambda _: self._take_reference(), self.container.call_soon
        )
        self._check = self.stage("check")

    def cleanup(self) -> None:
        service = self.__dict__.pop("_service", None)
        if service is not None:
            service.close()

    # --- inputs ------------------------------------------------------------------------------------------------------

    def learn_camera(self, info: CameraInfo) -> None:
        if info.K[0, 0] <= 0:  # not calibrated, as ROS writes it
            return
        stored = self._watcher.stored
        if stored is None or difference(stored.info, info):
            self._watcher.use(Stored.of(info))

    def _read_file(self) -> None:
        """Anew where it was written since: a new calibration begins with a clean slate."""
        assert self._file is not None
        written = self._file.stat().st_mtime_ns if self._file.exists() else 0
        if written != self._written:
            self._watcher.use(read_stored(self._file))
            self._written = written

    def _due(self) -> bool:
        """Asked by the threads that bring frames, so that none wakes this node in vain."""
        return time.monotonic() >= self._due_at

    def look(self, frame: Frame) -> None:
        now = time.monotonic()
        if now < self._due_at:
            return
        self._due_at = max(self._due_at + 1.0 / self.parameters.rate, now)
        if self._file is not None:
            self._read_file()
        with self._check:
            # A copy where the frame is grey: it is kept, and its bytes may be a slot of shared memory.
            image = mono_or_bgr(frame).image
            gray = to_gray(image)
            self._watcher.look(gray.copy() if gray is image or gray.base is not None else gray, frame.stamp)

    def _take_reference(self) -> Outcome:
        """On a thread of its own."""
        if self._reference is None:
            return Outcome(False, "the parameter reference is empty: name the file to write")
        try:
            reference = self._watcher.take_reference(self._camera_name)
            write_reference(self._reference, reference)
        except ValueError as error:
            return Outcome(False, str(error))
        except OSError as error:
            return Outcome(False, f"cannot write {self._reference}: {error.strerror}; name another file (reference)")
        self._watcher.use(reference=reference)
        return Outcome(True, f"{self._reference}: {len(reference.points)} features, noise {reference.noise:.2f} px")

    # --- parameters and diagnostics ----------------------------------------------------------------------------------

    def reconfigure(self, new: CalibrationCheckParameters) -> None:
        if hasattr(self, "_watcher"):
            self._watcher.limit(_limits(new), new.hold)
        self._due_at = 0.0

    def warning(self) -> str | None:
        watcher: Watcher | None = getattr(self, "_watcher", None)
        alarm = watcher.alarm if watcher is not None else None
        return None if alarm is None else f"calibration {alarm.text}"

    def status(self) -> dict[str, str]:
        watcher: Watcher | None = getattr(self, "_watcher", None)
        newest = watcher.newest if watcher is not None else None
        if newest is None:
            return {"calibration": "not checked yet"}
        alarm = {"alarm": watcher.alarm.text} if watcher is not None and watcher.alarm is not None else {}
        return {"calibration": newest.text} | alarm | {figure.name: figure.text for figure in newest.figures}


def _limits(p: CalibrationCheckParameters) -> Limits:
    return Limits(p.limit_lens, p.limit_mount)
