"""The rig file: which cameras look at the plane, with what calibration, from where."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from edge_vision.calibration.camera_info_file import CameraInfoError, read_camera_info
from edge_vision.datatypes import CameraInfo
from edge_vision.multi_camera.geometry import GroundPlane
from edge_vision.multi_camera.parameters import JoinParameters

ANCHORS = ("bottom", "centre")
_CAMERA_KEYS = ("camera_info", "pose", "homography", "image_size", "anchor")


class RigError(ValueError):
    """A rig file cannot be used; the message says which file and key, what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class RigCamera:
    """One camera of a rig. anchor: the point of a box that lies on the plane, ``bottom`` (middle of the lower edge: an
    oblique view of what stands on the floor) or ``centre`` (a view from straight above)."""

    name: str
    plane: GroundPlane
    anchor: str = "bottom"


@dataclass(frozen=True, slots=True)
class Rig:
    """Cameras that look at one ground plane, and how their tracks are joined."""

    cameras: tuple[RigCamera, ...]
    parameters: JoinParameters = field(default_factory=JoinParameters)

    def __post_init__(self) -> None:
        names = [camera.name for camera in self.cameras]
        if not names or len(set(names)) != len(names):
            raise RigError(f"a rig has one or more cameras of different names, got {names}")


def read_rig(path: str | os.PathLike[str]) -> Rig:
    """The rig in a YAML file; camera_info files in it are relative to its folder. Raises RigError."""
    file = Path(os.path.expanduser(os.fspath(path).removeprefix("file://")))
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RigError(f"no such rig file: {file}; the current folder is {os.getcwd()}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RigError(f"cannot read the rig file {file}: {error}") from None
    return parse_rig(text, str(file), file.parent)


def parse_rig(text: str, where: str = "rig", folder: Path | None = None) -> Rig:
    """The rig in a YAML text; ``where`` names it in errors, ``folder`` is where its camera_info files lie."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RigError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not isinstance(content.get("cameras"), dict) or not content["cameras"]:
        raise RigError(
            f"{where}: cameras: is missing or empty: give a mapping from each camera's name to its calibration"
        )
    _known(content, ("cameras", "association"), where)
    cameras = tuple(
        _camera(str(name), entry, f"{where}: cameras.{name}", folder or Path())
        for name, entry in content["cameras"].items()
    )
    return Rig(cameras, _parameters(content.get("association"), f"{where}: association"))


def quaternion_matrix(quaternion: NDArray) -> NDArray[np.float64]:
    """Rotation matrix (3, 3) of x, y, z, w (ROS's order), normalised. ValueError for a zero one."""
    length = float(np.linalg.norm(quaternion))
    if not 1e-9 < length < np.inf:
        raise ValueError("the quaternion is zero or not finite")
    x, y, z, w = np.asarray(quaternion, np.float64) / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def rpy_matrix(rpy: NDArray) -> NDArray[np.float64]:
    """Rotation matrix (3, 3) of roll, pitch, yaw in rad about fixed axes (REP 103): Rz(yaw) Ry(pitch) Rx(roll)."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def _camera(name: str, entry: Any, where: str, folder: Path) -> RigCamera:
    if not isinstance(entry, dict):
        raise RigError(f"{where} must be a mapping with camera_info and pose, or homography")
    _known(entry, _CAMERA_KEYS, where)
    anchor = entry.get("anchor", "bottom")
    if anchor not in ANCHORS:
        raise RigError(f"{where}.anchor is {anchor!r}: it must be one of {', '.join(ANCHORS)}")
    if ("pose" in entry) == ("homography" in entry):
        found = "both" if "pose" in entry else "neither"
        raise RigError(f"{where} has {found} of pose and homography: give one (pose needs camera_info as well)")
    info = _info(entry.get("camera_info"), f"{where}.camera_info", folder)
    key = "pose" if "pose" in entry else "homography"
    try:
        if key == "pose":
            if info is None:
                raise RigError(f"{where}.camera_info is missing: a pose needs the camera's calibration file")
            plane = GroundPlane.from_pose(info, *_pose(entry["pose"], f"{where}.pose"))
        else:
            size = (info.width, info.height) if info else _size(entry.get("image_size"), f"{where}.image_size")
            matrix = _numbers(entry["homography"], 9, f"{where}.homography").reshape(3, 3)
            plane = GroundPlane.from_homography(matrix, size, info)
    except RigError:
        raise
    except ValueError as error:
        raise RigError(f"{where}.{key}: {error}") from None
    return RigCamera(name, plane, anchor)


def _info(value: Any, where: str, folder: Path) -> CameraInfo | None:
    if value is None:
        return None
    if not isinstance(value, str) or "://" in value.removeprefix("file://"):
        raise RigError(f"{where} is {value!r}: give a path (relative to the rig file) or a file:// address")
    path = folder / os.path.expanduser(value.removeprefix("file://"))
    try:
        return read_camera_info(path)
    except CameraInfoError as error:
        raise RigError(f"{where}: {error}") from None


def _pose(entry: Any, where: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not isinstance(entry, dict) or "xyz" not in entry or ("rpy" in entry) == ("quaternion" in entry):
        raise RigError(f"{where} must have xyz (m) and either quaternion [x, y, z, w] or rpy (rad)")
    _known(entry, ("xyz", "quaternion", "rpy"), where)
    position = _numbers(entry["xyz"], 3, f"{where}.xyz")
    if "rpy" in entry:
        return position, rpy_matrix(_numbers(entry["rpy"], 3, f"{where}.rpy"))
    return position, quaternion_matrix(_numbers(entry["quaternion"], 4, f"{where}.quaternion"))


def _size(value: Any, where: str) -> tuple[int, int]:
    if value is None:
        raise RigError(f"{where} is missing: give [width, height] in pixels, or camera_info")
    width, height = _numbers(value, 2, where).tolist()
    if not (width >= 1 and height >= 1 and width % 1 == 0 and height % 1 == 0):
        raise RigError(f"{where} is {value}: it must be two whole numbers of pixels")
    return int(width), int(height)


def _numbers(value: Any, count: int, where: str) -> NDArray[np.float64]:
    """``count`` finite numbers of a list, or of a list of rows."""
    try:
        flat = [item for row in value for item in (row if isinstance(row, list) else [row])]
        if any(isinstance(item, bool) for item in flat):
            raise TypeError
        numbers = np.array([float(item) for item in flat])  # YAML 1.1 takes 1e-05 for a text
    except (TypeError, ValueError):
        raise RigError(f"{where} is {value!r}: it must be {count} numbers") from None
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise RigError(f"{where} is {value!r}: it must be {count} finite numbers")
    return numbers


def _parameters(entry: Any, where: str) -> JoinParameters:
    if entry is None:
        return JoinParameters()
    if not isinstance(entry, dict):
        raise RigError(f"{where} must be a mapping of parameters to numbers")
    _known(entry, tuple(item.name for item in fields(JoinParameters)), where)
    try:
        return JoinParameters(**entry)
    except ValueError as error:
        raise RigError(f"{where}: {error}") from None


def _known(entry: dict[Any, Any], keys: tuple[str, ...], where: str) -> None:
    unknown = [str(key) for key in entry if key not in keys]
    if unknown:
        raise RigError(f"{where} has the unknown key {unknown[0]!r}; known: {', '.join(keys)}")
