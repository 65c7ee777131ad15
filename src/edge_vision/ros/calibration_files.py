"""The files of the calibration node: the camera's camera_info, written and proved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_vision.calibration.camera_info_file import CameraInfoError, read_camera_info
from edge_vision.calibration.files import format_ros
from edge_vision.datatypes import CameraInfo
from edge_vision.whole_files import write_text

_SAME = 1e-9  # relative; files of 12 digits pass
_SMALLEST = 1e-3  # what is less than this is compared with it


def difference(wanted: CameraInfo, found: CameraInfo) -> str:
    """What differs first between two camera infos beyond 9 digits, in words; "" where nothing does."""
    if (wanted.width, wanted.height) != (found.width, found.height):
        return f"images of {found.width}x{found.height} instead of {wanted.width}x{wanted.height}"
    if wanted.distortion_model != found.distortion_model:
        return f"distortion_model {found.distortion_model or '(none)'} instead of {wanted.distortion_model}"
    for name in ("K", "D", "R", "P"):
        a, b = (np.asarray(getattr(info, name), np.float64).ravel() for info in (wanted, found))
        if name == "D":  # ROS leaves trailing zeros out, or puts them in
            a, b = (np.pad(each, (0, max(len(a), len(b)) - len(each))) for each in (a, b))
        wrong = np.flatnonzero(~(np.abs(a - b) <= _SAME * np.maximum(np.abs(a), _SMALLEST)))
        if len(wrong):
            return f"{name}[{wrong[0]}] {b[wrong[0]]:.12g} instead of {a[wrong[0]]:.12g}"
    return ""


def write_camera_info_file(path: Path, info: CameraInfo, record: Mapping[str, Any] | None = None) -> None:
    """The YAML that ROS's drivers read, whole or not at all, then read back and compared. Raises CameraInfoError.

    record: figures for people, which ROS's readers pass over.
    """
    try:
        write_text(path, format_ros(info, record))
    except OSError as error:
        raise CameraInfoError(f"cannot write {path}: {error.strerror}") from error
    wrong = difference(info, read_camera_info(path))
    if wrong:
        raise CameraInfoError(f"{path} was written but holds {wrong}: is the disk sound?")


def holds_already(path: Path, info: CameraInfo, record: Mapping[str, Any] | None = None) -> bool:
    """Whether the file has just this in it."""
    try:
        return path.read_text(encoding="utf-8") == format_ros(info, record)
    except (OSError, UnicodeDecodeError):
        return False
