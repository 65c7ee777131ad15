"""Kalibr's camchain and OpenCV's FileStorage <-> `CameraInfo`, and reading whichever of them, or ROS's, a file is.

Kalibr (github.com/ethz-asl/kalibr, wiki "Yaml formats"): `cam0: {camera_model: pinhole, intrinsics: [fu, fv, pu, pv],
distortion_model: radtan | equidistant | none, distortion_coeffs: [4], resolution: [w, h], T_cn_cnm1: 4 x 4}`. radtan is
plumb_bob without k3. OpenCV: the keys of its sample calibration.cpp, `fisheye_model: 1` for equidistant. Both keep the
intrinsics only: R and P are not theirs, P is [K | 0] when read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from edge_vision.calibration.camera_info_file import (
    CameraInfoError,
    check_distortion,
    format_camera_info,
    parse_camera_info,
)
from edge_vision.datatypes import CameraInfo

_KALIBR_MODELS = {"radtan": "plumb_bob", "equidistant": "equidistant", "equi": "equidistant", "none": "none"}


def read_calibration(path: str | os.PathLike[str], camera: str = "") -> CameraInfo:
    """The calibration in a ROS YAML, a Kalibr camchain (``camera``: cam0, cam1, ...; the first where not told) or an
    OpenCV FileStorage (YAML, XML or JSON), told by its content. Raises CameraInfoError."""
    name = os.path.expanduser(os.fspath(path).removeprefix("file://"))
    try:
        text = Path(name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CameraInfoError(f"no such calibration file: {name}; the current folder is {os.getcwd()}") from None
    except IsADirectoryError:
        raise CameraInfoError(f"{name} is a folder: name the calibration file in it") from None
    except UnicodeDecodeError:
        raise CameraInfoError(f"{name} is no text: give the YAML file that the calibration wrote") from None
    except OSError as error:
        raise CameraInfoError(f"cannot read the calibration file {name}: {error.strerror}") from error
    return parse_calibration(text, name, camera)


def parse_calibration(text: str, where: str = "the calibration", camera: str = "") -> CameraInfo:
    """As `read_calibration`, of a text; ``where`` names it in errors. Raises CameraInfoError."""
    if "opencv-matrix" in text or "<opencv_storage>" in text:
        return parse_opencv(text, where)
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        content = None  # the ROS reader says where it goes wrong
    if isinstance(content, dict) and any(_is_camera(entry) for entry in content.values()):
        return parse_kalibr(text, where, camera)
    if camera:
        raise CameraInfoError(f"{where} is no Kalibr camchain: it has no camera {camera} to choose")
    return parse_camera_info(text, where)


RECORD = "edge_vision_calibration"
"""The key under which our ROS files keep how good the calibration is; ROS's readers pass over it."""


def format_ros(info: CameraInfo, record: Mapping[str, Any] | None = None) -> str:
    """The YAML of ROS's camera_info, with a record of plain numbers, texts and lists under RECORD."""
    text = format_camera_info(info)
    if record:
        text += yaml.safe_dump({RECORD: dict(record)}, sort_keys=False, allow_unicode=True, width=110)
    return text


# Kalibr


def format_kalibr(
    cameras: Sequence[CameraInfo],
    transforms: Sequence[NDArray[np.float64]] = (),
    topics: Sequence[str] = (),
) -> str:
    """The camchain of one camera or a rig.

    transforms: for each camera but the first, (4, 4) T_cn_cnm1: takes points (m) of the camera before it into its own.
    topics: rostopic of each. Raises CameraInfoError where Kalibr has no such model (plumb_bob with k3, rational).
    """
    if len(transforms) != max(0, len(cameras) - 1):
        raise CameraInfoError(f"{len(cameras)} cameras need {len(cameras) - 1} transforms, there are {len(transforms)}")
    lines = []
    for index, info in enumerate(cameras):
        model, coefficients = _kalibr_distortion(info)
        K = np.asarray(info.K, np.float64)
        lines += [f"cam{index}:"]
        if index:
            lines += ["  T_cn_cnm1:"]
            lines += [f"  - {_list(row)}" for row in np.asarray(transforms[index - 1], np.float64).reshape(4, 4)]
        others = [other for other in range(len(cameras)) if other != index]
        lines += [
            f"  cam_overlaps: {others}",
            "  camera_model: pinhole",
            f"  distortion_coeffs: {_list(coefficients)}",
            f"  distortion_model: {model}",
            f"  intrinsics: {_list([K[0, 0], K[1, 1], K[0, 2], K[1, 2]])}",
            f"  resolution: [{info.width}, {info.height}]",
            f"  rostopic: {topics[index] if topics else f'/{info.camera_name}/image_raw'}",
        ]
    return "\n".join(lines) + "\n"


def _kalibr_distortion(info: CameraInfo) -> tuple[str, NDArray[np.float64]]:
    D = np.asarray(info.D, np.float64).ravel()
    if info.distortion_model == "equidistant":
        return "equidistant", D if len(D) else np.zeros(4)
    if not D.any():
        return "radtan", np.zeros(4)
    if D[4:].any():
        raise CameraInfoError(
            f"Kalibr has no model for {info.distortion_model} with {'k3' if len(D) == 5 else 'k3 to k6'}: its radtan "
            "is k1 k2 p1 p2; calibrate with --model plumb_bob and without k3, or use the ROS or OpenCV file"
        )
    return "radtan", D[:4]


def parse_kalibr(text: str, where: str = "the camchain", camera: str = "") -> CameraInfo:
    """One camera of a camchain, its name that of its rostopic. Raises CameraInfoError."""
    cameras = _chain(text, where)
    camera = camera or next(iter(cameras))
    if camera not in cameras:
        raise CameraInfoError(f"{where} has no camera {camera}: it has {', '.join(cameras)}")
    entry, at = cameras[camera], f"{where}: {camera}"
    if entry.get("camera_model") != "pinhole":
        raise CameraInfoError(
            f"{at}: camera_model {entry.get('camera_model')} has no camera_info: calibrate with pinhole-radtan or "
            "pinhole-equi"
        )
    told = str(entry.get("distortion_model"))
    if told not in _KALIBR_MODELS:
        raise CameraInfoError(f"{at}: distortion_model {told} has no camera_info: use radtan or equidistant")
    fx, fy, cx, cy = _floats(entry, "intrinsics", 4, at)
    width, height = (int(value) for value in _floats(entry, "resolution", 2, at))
    model = _KALIBR_MODELS[told]
    D = _floats(entry, "distortion_coeffs", 4, at) if model != "none" else np.zeros(0)
    if model == "plumb_bob":
        D = np.append(D, 0.0)
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    return _info(width, height, K, D, model, _name_of_topic(str(entry.get("rostopic") or "")) or camera, at)


def read_chain_transforms(text: str, where: str = "the camchain") -> tuple[NDArray[np.float64], ...]:
    """T_cn_cnm1 (4, 4) of each camera but the first. Raises CameraInfoError."""
    cameras = list(_chain(text, where).items())
    result = []
    for name, entry in cameras[1:]:
        try:
            result.append(np.array(entry["T_cn_cnm1"], np.float64).reshape(4, 4))
        except (KeyError, TypeError, ValueError):
            raise CameraInfoError(f"{where}: {name}: T_cn_cnm1 must be 4 rows of 4 numbers") from None
    return tuple(result)


def _chain(text: str, where: str) -> dict[str, Mapping[str, Any]]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CameraInfoError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from None
    cameras = {key: entry for key, entry in content.items() if _is_camera(entry)} if isinstance(content, dict) else {}
    if not cameras:
        raise CameraInfoError(f"{where} is no Kalibr camchain: it must have cam0 with camera_model, intrinsics, …")
    return cameras


def _is_camera(entry: Any) -> bool:
    return isinstance(entry, dict) and "camera_model" in entry and "intrinsics" in entry


def _name_of_topic(topic: str) -> str:
    parts = [part for part in topic.split("/") if part]
    return parts[-2] if len(parts) > 1 else ""


# OpenCV


def format_opencv(info: CameraInfo, rms: float | None = None) -> str:
    """The YAML text of a cv::FileStorage, numbers in full. rms: px, written as avg_reprojection_error."""
    model, D = check_distortion(info.distortion_model, np.asarray(info.D, np.float64).ravel(), "the calibration")
    lines = [
        "%YAML:1.0",
        "---",
        f"image_width: {info.width}",
        f"image_height: {info.height}",
        f"fisheye_model: {int(model == 'equidistant')}",
        *_opencv_matrix("camera_matrix", np.asarray(info.K, np.float64)),
        # OpenCV takes no empty vector for "no distortion" from a file.
        *_opencv_matrix("distortion_coefficients", (D if len(D) else np.zeros(4)).reshape(-1, 1)),
    ]
    if rms is not None:
        lines.append(f"avg_reprojection_error: {float(rms)!r}")
    return "\n".join(lines) + "\n"


def _opencv_matrix(name: str, matrix: NDArray[np.float64]) -> list[str]:
    rows, columns = matrix.shape
    return [
        f"{name}: !!opencv-matrix",
        f"   rows: {rows}",
        f"   cols: {columns}",
        "   dt: d",
        f"   data: {_list(matrix.ravel())}",
    ]


_K_NAMES = ("camera_matrix", "cameraMatrix", "Camera_Matrix", "K", "M1")
_D_NAMES = ("distortion_coefficients", "distCoeffs", "Distortion_Coefficients", "dist_coeffs", "D", "D1")


def parse_opencv(text: str, where: str = "the file") -> CameraInfo:
    """The camera in a FileStorage of OpenCV's samples (calibration, camera_calibration, interactive-calibration).

    Raises CameraInfoError.
    """
    import cv2

    try:
        storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
    except (cv2.error, SystemError) as error:
        raise CameraInfoError(f"{where} is not a whole OpenCV FileStorage: {' '.join(str(error).split())}") from None
    try:
        K = _first_matrix(storage, _K_NAMES)
        D = _first_matrix(storage, _D_NAMES)
        size = _opencv_size(storage)
        fisheye = storage.getNode("fisheye_model")
        is_fisheye = not fisheye.empty() and int(fisheye.real()) != 0
    finally:
        storage.release()
    if K is None or K.shape != (3, 3):
        raise CameraInfoError(f"{where} has no 3x3 matrix camera_matrix; known names: {', '.join(_K_NAMES)}")
    if size is None:
        raise CameraInfoError(f"{where} does not say the images' size: add image_width and image_height")
    D = np.zeros(0) if D is None else D.ravel()
    if is_fisheye:
        model = "equidistant"
    elif len(D) <= 5:
        model = "plumb_bob" if len(D) else "none"
    else:
        model, D = "rational_polynomial", (D if D[8:].any() else D[:8])
    return _info(size[0], size[1], K, D, model, "camera", where)


def _first_matrix(storage: Any, names: Sequence[str]) -> NDArray[np.float64] | None:
    for name in names:
        node = storage.getNode(name)
        if not node.empty() and node.isMap():
            matrix = node.mat()
            if matrix is not None:
                return np.asarray(matrix, np.float64)
    return None


def _opencv_size(storage: Any) -> tuple[int, int] | None:
    width, height = storage.getNode("image_width"), storage.getNode("image_height")
    if not width.empty() and not height.empty():
        return int(width.real()), int(height.real())
    for name in ("cameraResolution", "image_size", "imageSize"):
        node = storage.getNode(name)
        if not node.empty() and node.isSeq() and node.size() == 2:
            return int(node.at(0).real()), int(node.at(1).real())
    return None


# Both


def _info(width: int, height: int, K: NDArray, D: NDArray, model: str, name: str, where: str) -> CameraInfo:
    if width <= 0 or height <= 0:
        raise CameraInfoError(f"{where}: the image size {width}x{height} must be above 0")
    if not (np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0):
        raise CameraInfoError(f"{where}: the focal lengths {K[0, 0]:g}, {K[1, 1]:g} must be above 0")
    model, D = check_distortion(model, D, where)
    return CameraInfo(width, height, K, D, P=np.hstack([K, np.zeros((3, 1))]), distortion_model=model, camera_name=name)


def _floats(entry: Mapping[str, Any], key: str, count: int, where: str) -> NDArray[np.float64]:
    try:
        values = np.array([float(value) for value in entry[key]])
    except (KeyError, TypeError, ValueError):
        values = np.zeros(0)
    if len(values) != count or not np.isfinite(values).all():
        raise CameraInfoError(f"{where}: {key} must be {count} numbers, it is {entry.get(key)!r}")
    return values


def _list(values: Any) -> str:
    return "[" + ", ".join(_number(float(value)) for value in values) + "]"


def _number(value: float) -> str:
    """The shortest text that gives this double back, which YAML 1.1 also takes for a number."""
    text = repr(value)
    mantissa, exponent, power = text.partition("e")
    if exponent and "." not in mantissa:
        mantissa += ".0"
    return mantissa + exponent + power
