"""The calibration that a camera goes by: from its file at the start, then from whoever calibrates it; kept in the file.

store = CameraInfoStore(camera_info_path("", "front"), "front")
store.load()
outcome = store.set(calibration, size=(1280, 720))    # in the file, and read back from it, before this returns
store.choose(source.camera_info())
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_vision.calibration.camera_info_file import (
    CameraInfoError,
    check_distortion,
    read_camera_info,
    size_mismatch,
    write_camera_info,
)
from edge_vision.datatypes import CameraInfo, Outcome

_SAME = 1e-11  # relative: others write 12 digits


def is_calibrated(info: CameraInfo) -> bool:
    """ROS says with zeros in K that a camera is not calibrated (sensor_msgs/CameraInfo)."""
    return bool(info.K[0, 0] > 0 and info.K[1, 1] > 0)


def uncalibrated(width: int, height: int) -> CameraInfo:
    """What ROS's drivers publish for a camera that nobody has calibrated: its size, all else zero."""
    nothing = np.zeros((3, 3))
    return CameraInfo(width, height, nothing, np.zeros(0), nothing, np.zeros((3, 4)), "")


class CameraInfoStore:
    """The calibration of one camera and its file.

    path: the file. asked_for: the user named it, so that it comes before what a source knows of itself; otherwise it
    comes after. frame_id: of the calibration. Calls of `set` may come from another thread than those of `choose`.
    """

    def __init__(self, path: Path, camera_name: str, *, asked_for: bool = False, frame_id: str = "") -> None:
        self.path = path
        self.camera_name = camera_name
        self.problem: str | None = None
        self._asked_for = asked_for
        self._frame_id = frame_id
        self._file: CameraInfo | None = None
        self._given: CameraInfo | None = None
        self._kept = True

    def load(self) -> None:
        """Reads the file where there is one. `problem`: what is wrong with it. Raises CameraInfoError where the user
        named a file that cannot be used; one that is not there yet is waited for."""
        self._file, self.problem = None, None
        if not os.path.lexists(self.path):
            if self._asked_for:
                self.problem = (
                    f"no such camera_info file: {self.path}; calibrate the camera (set_camera_info writes the file) "
                    "or name the file that is there"
                )
            return
        try:
            self._file = read_camera_info(self.path, frame_id=self._frame_id)
        except CameraInfoError as error:
            if self._asked_for:
                raise
            self.problem = f"the calibration is not used: {error}; calibrate anew, or take the file away"

    def choose(self, of_source: CameraInfo | None) -> CameraInfo | None:
        """What holds: what was set since the start, the file that the user named, what the source knows, the file."""
        if self._given is not None:
            return self._given
        if self._asked_for:
            return self._file or of_source
        return of_source or self._file

    def origin(self, of_source: CameraInfo | None) -> str:
        """Where the calibration in force comes from, for people."""
        chosen = self.choose(of_source)
        if chosen is None:
            return "none"
        if chosen is self._given:
            return f"set, in {self.path}" if self._kept else "set, not saved"
        return str(self.path) if chosen is self._file else "the source's own"

    def set(self, info: CameraInfo, size: tuple[int, int] | None, source_knows: bool = False) -> Outcome:
        """Takes a calibration over, and writes it where the file does not hold it already; reads it back.

        size: (width, height) px of the camera's images now, None where there were none yet. A calibration that cannot
        be right is refused and changes nothing. One that is right but cannot be saved holds until the end, and the
        outcome is a failure all the same, as camera_info_manager has it.
        """
        try:
            info = self._checked(info, size)
        except CameraInfoError as error:
            return Outcome(False, f"refused: {error}")
        self._given = info  # camera_info_manager also goes by what it cannot save
        try:
            news = self._save(info)
        except CameraInfoError as error:
            self._kept = False
            self.problem = f"the calibration is not saved: {error}"
            return Outcome(
                False,
                f"not saved: {error}. The camera goes by the calibration until it ends; make room for the file or name "
                "another by the parameter camera_info, then set it again",
            )
        self._kept, self.problem = True, None
        if source_knows and not self._asked_for:
            news += (
                "; at the next start the source's own calibration comes first, unless the parameter camera_info names "
                "this file"
            )
        return Outcome(True, news)

    def _checked(self, info: CameraInfo, size: tuple[int, int] | None) -> CameraInfo:
        K, R, P = (np.asarray(matrix, np.float64) for matrix in (info.K, info.R, info.P))
        for name, matrix in (("K", K), ("R", R), ("P", P)):
            if not np.isfinite(matrix).all():
                raise CameraInfoError(f"{name} holds numbers that are not finite: calibrate anew")
        if not (K[0, 0] > 0 and K[1, 1] > 0 and K[2].tolist() == [0, 0, 1]):
            raise CameraInfoError(
                f"K is {K.tolist()}: it must be [fx, 0, cx], [0, fy, cy], [0, 0, 1] with fx and fy above 0 (zeros "
                "mean not calibrated)"
            )
        if info.width <= 0 or info.height <= 0:
            raise CameraInfoError(
                f"width x height is {info.width}x{info.height}: it must be the size of the images that were calibrated"
            )
        model, D = check_distortion(info.distortion_model, np.asarray(info.D, np.float64).ravel(), "the calibration")
        R = R if R.any() else np.eye(3)
        if np.abs(R @ R.T - np.eye(3)).max() > 1e-3:
            raise CameraInfoError("R is no rotation: give the identity for a camera by itself")
        P = P if P.any() else np.hstack([K, np.zeros((3, 1))])
        if P[0, 0] <= 0 or P[1, 1] <= 0:
            raise CameraInfoError("P has no focal lengths: give K with a column of zeros, or zeros alone")
        info = replace(
            info, K=K, D=D, R=R, P=P, distortion_model=model, camera_name=self.camera_name, frame_id=self._frame_id
        )
        mismatch = None if size is None else size_mismatch(info, *size)
        if mismatch:
            raise CameraInfoError(mismatch)
        return info

    def _save(self, info: CameraInfo) -> str:
        try:
            if _alike(read_camera_info(self.path), info):  # with what else its writer put into it
                return f"{self.path} holds it already"
        except CameraInfoError:
            pass  # not there, or of no use
        write_camera_info(self.path, info)
        if not _alike(read_camera_info(self.path), info):
            raise CameraInfoError(f"{self.path} was written, but gives other numbers back: look at its disk")
        return f"saved in {self.path}"


def _alike(a: CameraInfo, b: CameraInfo) -> bool:
    return (a.width, a.height, a.distortion_model, len(a.D)) == (
        b.width,
        b.height,
        b.distortion_model,
        len(b.D),
    ) and all(np.allclose(x, y, rtol=_SAME, atol=_SAME) for x, y in ((a.K, b.K), (a.D, b.D), (a.R, b.R), (a.P, b.P)))
