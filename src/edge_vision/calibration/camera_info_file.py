"""The YAML file of ROS's camera_info_manager and camera_calibration <-> `CameraInfo`.

The keys are those of camera_calibration_parsers (image_common): image_width, image_height, camera_name, camera_matrix,
distortion_model, distortion_coefficients, rectification_matrix, projection_matrix; a matrix is {rows, cols, data}.
Other keys (binning, roi, one's own) are read over.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from edge_vision.datatypes import CameraInfo
from edge_vision.whole_files import write_text

COEFFICIENTS = {
    "plumb_bob": (4, 5),
    "rational_polynomial": (8, 12, 14),
    "equidistant": (4,),
    "none": (0,),
}
"""How many distortion coefficients each model of sensor_msgs has: the lengths of OpenCV's vectors for it."""

_ALIASES = {"fisheye": "equidistant", "": "none"}  # camera_calibration wrote "fisheye", usb_cam an empty one


class CameraInfoError(ValueError):
    """A camera_info file cannot be used; the message says which, what is wrong with it and what to do."""


def read_camera_info(path: str | os.PathLike[str], *, frame_id: str = "") -> CameraInfo:
    """The calibration in a file (``file://`` and ``~`` are understood). Raises CameraInfoError."""
    name = os.path.expanduser(os.fspath(path).removeprefix("file://"))
    try:
        text = Path(name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CameraInfoError(f"no such camera_info file: {name}; the current folder is {os.getcwd()}") from None
    except UnicodeDecodeError:
        raise CameraInfoError(f"{name} is no text: give the YAML file that the calibration wrote") from None
    except OSError as error:
        raise CameraInfoError(f"cannot read the camera_info file {name}: {error.strerror}") from error
    return parse_camera_info(text, name, frame_id=frame_id)


def parse_camera_info(text: str, where: str = "camera_info", *, frame_id: str = "") -> CameraInfo:
    """The calibration in a YAML text; ``where`` names it in errors. Raises CameraInfoError.

    As ROS does: a missing model is plumb_bob, a missing name "unknown", a missing rectification the identity, and
    a missing projection the camera matrix.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        hint = " (an OpenCV FileStorage file?)" if "opencv-matrix" in text else ""
        raise CameraInfoError(f"{where} is not valid YAML{hint}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise CameraInfoError(f"{where} is no camera_info file: it must have image_width, camera_matrix, … at its top")
    width, height = (_pixels(content, key, where) for key in ("image_width", "image_height"))
    K = _matrix(content, "camera_matrix", 3, 3, where)
    assert K is not None
    _check_intrinsics(K, where)
    R = _matrix(content, "rectification_matrix", 3, 3, where, optional=True)
    P = _matrix(content, "projection_matrix", 3, 4, where, optional=True)
    model = str(content.get("distortion_model") or "plumb_bob")
    D = _coefficients(content, where)
    model, D = check_distortion(model, D, where)
    return CameraInfo(
        width=width,
        height=height,
        K=K,
        D=D,
        R=np.eye(3) if R is None else R,
        P=np.hstack([K, np.zeros((3, 1))]) if P is None else P,
        distortion_model=model,
        camera_name=str(content.get("camera_name") or "unknown"),
        frame_id=frame_id,
    )


def format_camera_info(info: CameraInfo) -> str:
    """The YAML text of a calibration: numbers in full (17 digits where needed), so that reading gives the same back.

    Raises CameraInfoError where ROS's reader would refuse it, or numbers are not finite.
    """
    model, D = check_distortion(info.distortion_model, np.asarray(info.D, np.float64).ravel(), "the calibration")
    _check_intrinsics(np.asarray(info.K, np.float64), "the calibration")
    lines = [
        f"image_width: {info.width}",
        f"image_height: {info.height}",
        f"camera_name: {_quoted(info.camera_name)}",
        *_matrix_lines("camera_matrix", info.K, (3, 3)),
        f"distortion_model: {model}",
        *_matrix_lines("distortion_coefficients", D.reshape(1, -1), (1, len(D))),
        *_matrix_lines("rectification_matrix", info.R, (3, 3)),
        *_matrix_lines("projection_matrix", info.P, (3, 4)),
    ]
    return "\n".join(lines) + "\n"


def write_camera_info(path: str | os.PathLike[str], info: CameraInfo) -> None:
    """Writes the file whole or not at all: readers never see half of it, and a full disk leaves the old one.

    Makes the folder. Raises CameraInfoError.
    """
    target = Path(os.path.expanduser(os.fspath(path).removeprefix("file://")))
    try:
        write_text(target, format_camera_info(info))
    except OSError as error:
        raise CameraInfoError(f"cannot write the camera_info file {target}: {error.strerror}") from error


def size_mismatch(info: CameraInfo, width: int, height: int) -> str | None:
    """None where the calibration fits images of this size, else a sentence that says so and what to do."""
    if (info.width, info.height) == (width, height):
        return None
    same_shape = info.width * height == info.height * width
    scale = (
        f"; at the same field of view K and P would have to be scaled by {width / info.width:g}" if same_shape else ""
    )
    return (
        f"the calibration of camera '{info.camera_name}' is for {info.width}x{info.height}, the images are "
        f"{width}x{height}: set the camera to the size it was calibrated at or calibrate at this one{scale}"
    )


def check_distortion(model: str, D: NDArray[np.float64], where: str) -> tuple[str, NDArray[np.float64]]:
    """The model under its ROS name and the coefficients, which must be as many as the model has and finite."""
    model = _ALIASES.get(model, model)
    if model not in COEFFICIENTS:
        raise CameraInfoError(f"{where}: unknown distortion_model '{model}'; known: {', '.join(COEFFICIENTS)}")
    # No coefficients at all is how ROS writes a lens without distortion, whatever the model.
    if len(D) and len(D) not in COEFFICIENTS[model]:
        wanted = " or ".join(map(str, COEFFICIENTS[model]))
        raise CameraInfoError(
            f"{where}: distortion_coefficients has {len(D)} numbers, but distortion_model {model} has {wanted}"
        )
    if not np.isfinite(D).all():
        raise CameraInfoError(f"{where}: distortion_coefficients holds numbers that are not finite")
    return model, D


def _check_intrinsics(K: NDArray[np.float64], where: str) -> None:
    if not (K.shape == (3, 3) and K[0, 0] > 0 and K[1, 1] > 0 and K[2, 2] == 1):
        raise CameraInfoError(
            f"{where}: camera_matrix is {K.tolist()}: it must be [fx, 0, cx], [0, fy, cy], [0, 0, 1] with fx and fy "
            "above 0; a camera that is not calibrated needs no file"
        )


def _pixels(content: dict[str, Any], key: str, where: str) -> int:
    value = content.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        found = "is missing" if value is None else f"is {value!r}"
        raise CameraInfoError(f"{where}: {key} {found}: it must be the calibrated images' size in pixels")
    return value


def _matrix(
    content: dict[str, Any], key: str, rows: int, columns: int, where: str, *, optional: bool = False
) -> NDArray[np.float64] | None:
    entry = content.get(key)
    if entry is None:
        if optional:
            return None
        raise CameraInfoError(f"{where}: {key} is missing: it must have rows: {rows}, cols: {columns} and data")
    values = _numbers(entry, key, where)
    told = entry.get("rows", rows), entry.get("cols", columns)
    if told != (rows, columns) or len(values) != rows * columns:
        raise CameraInfoError(
            f"{where}: {key} has rows: {told[0]}, cols: {told[1]} and {len(values)} numbers; "
            f"it must have rows: {rows}, cols: {columns} and {rows * columns} numbers"
        )
    if not np.isfinite(values).all():
        raise CameraInfoError(f"{where}: {key} holds numbers that are not finite")
    return values.reshape(rows, columns)


def _coefficients(content: dict[str, Any], where: str) -> NDArray[np.float64]:
    entry = content.get("distortion_coefficients")
    if entry is None:
        return np.zeros(0)
    values = _numbers(entry, "distortion_coefficients", where)
    rows, columns = entry.get("rows", 1), entry.get("cols", len(values))
    if not (isinstance(rows, int) and isinstance(columns, int) and rows * columns == len(values)):
        raise CameraInfoError(
            f"{where}: distortion_coefficients has rows: {rows}, cols: {columns}, but {len(values)} numbers"
        )
    return values


def _numbers(entry: Any, key: str, where: str) -> NDArray[np.float64]:
    if not isinstance(entry, dict) or not isinstance(entry.get("data"), list):
        raise CameraInfoError(f"{where}: {key} must have rows, cols and data: [numbers]")
    try:
        # Through str: YAML 1.1 takes 1e-05, which others write, for a text.
        values = [float(value) for value in entry["data"] if not isinstance(value, bool)]
    except (TypeError, ValueError):
        values = []
    if len(values) != len(entry["data"]):
        raise CameraInfoError(f"{where}: the data of {key} must be numbers")
    return np.array(values, np.float64)


def _matrix_lines(key: str, matrix: NDArray, shape: tuple[int, int]) -> list[str]:
    matrix = np.asarray(matrix, np.float64)
    if matrix.shape != shape:
        raise CameraInfoError(f"the calibration's {key} has the shape {matrix.shape}, it must be {shape}")
    if not np.isfinite(matrix).all():
        raise CameraInfoError(f"the calibration's {key} holds numbers that are not finite")
    numbers = ", ".join(_number(value) for value in matrix.ravel().tolist())
    return [f"{key}:", f"  rows: {shape[0]}", f"  cols: {shape[1]}", f"  data: [{numbers}]"]


def _number(value: float) -> str:
    """The shortest text that gives this double back, with the point that YAML 1.1 wants before an exponent."""
    text = repr(value)
    mantissa, exponent, power = text.partition("e")
    if exponent and "." not in mantissa:
        mantissa += ".0"
    return mantissa + exponent + power


def _quoted(name: str) -> str:
    """A name as YAML on one line: plain where YAML reads it as the same text, else quoted."""
    if re.fullmatch(r"[A-Za-z][\w/.-]*", name, re.ASCII) and yaml.safe_load(name) == name:
        return name
    return yaml.safe_dump(name, default_style='"', allow_unicode=True, width=float("inf")).strip()
