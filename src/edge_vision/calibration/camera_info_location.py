"""Where a camera's calibration lies: the URLs of ROS's camera_info_manager <-> paths, and the name of a camera.

camera_info_path("", "front")                                 # ~/.ros/camera_info/front.yaml
camera_info_path("file://${ROS_HOME}/lenses/${NAME}.yaml", "front")
camera_info_path("package://my_robot/config/front.yaml", "front")
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from edge_vision.calibration.camera_info_file import CameraInfoError

DEFAULT_URL = "file://${ROS_HOME}/camera_info/${NAME}.yaml"
"""Where camera_info_manager keeps a calibration that nobody named a file for."""

_SUFFIXES = (".yaml", ".yml")
_NAME = re.compile(r"[\w.-]*\w[\w.-]*", re.ASCII)


def camera_name_of(camera_name: str, namespace: str) -> str:
    """The name that a camera's file goes by: the one given, else its namespace (/robot/front is robot_front), else
    "camera". Raises CameraInfoError for a name that is none for a file."""
    name = camera_name.strip() or namespace.strip("/").replace("/", "_") or "camera"
    if not _NAME.fullmatch(name):
        raise CameraInfoError(
            f"camera_name {name!r} is no name for a file: use letters, digits, _, - and ., such as front_left"
        )
    return name


def filled_in(text: str, camera_name: str, environ: Mapping[str, str] = os.environ) -> str:
    """The text with ``${NAME}`` and ``${ROS_HOME}`` ($ROS_HOME or ~/.ros) filled in, as camera_info_manager does."""
    home = environ.get("HOME") or os.path.expanduser("~")
    return text.replace("${NAME}", camera_name).replace(
        "${ROS_HOME}", environ.get("ROS_HOME") or os.path.join(home, ".ros")
    )


def camera_info_path(url: str, camera_name: str, environ: Mapping[str, str] = os.environ) -> Path:
    """The file that a URL means, absolute; whether it is there is not looked at. "" is `DEFAULT_URL`.

    Understood, as camera_info_manager has it: file:///path, package://name/path (the package's share folder, by
    AMENT_PREFIX_PATH), ${NAME} and ${ROS_HOME} ($ROS_HOME or ~/.ros); and plain paths with ~. Raises CameraInfoError,
    with the remedy, for what cannot be a calibration's file.
    """
    home = environ.get("HOME") or os.path.expanduser("~")
    text = filled_in(url.strip() or DEFAULT_URL, camera_name, environ)
    if unknown := re.search(r"\$\{\w*\}", text):
        raise CameraInfoError(f"camera_info {url}: {unknown[0]} is not known; there are ${{NAME}} and ${{ROS_HOME}}")
    scheme, separator, rest = text.partition("://")
    if not separator:
        path = Path(_at_home(text, home))
    elif scheme == "file":
        path = Path(_at_home(rest, home))
    elif scheme == "package":
        path = _in_package(rest, url, environ)
    else:
        raise CameraInfoError(
            f"camera_info {url}: {scheme}:// cannot be read; give a path, file:///path or package://name/path"
        )
    if path.suffix.lower() not in _SUFFIXES:
        raise CameraInfoError(
            f"camera_info {url}: a calibration is a .yaml file here (ROS tells the format by the ending); convert .ini "
            "by ros2 run camera_calibration_parsers convert"
        )
    return path.absolute()


def _at_home(path: str, home: str) -> str:
    return home + path[1:] if path == "~" or path.startswith("~/") else os.path.expanduser(path)


def _in_package(rest: str, url: str, environ: Mapping[str, str]) -> Path:
    package, _, inside = rest.partition("/")
    prefixes = [prefix for prefix in environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    for prefix in prefixes:  # what ament_index_python does, without ROS
        if package and Path(prefix, "share", "ament_index", "resource_index", "packages", package).is_file():
            return Path(prefix, "share", package, inside)
    raise CameraInfoError(
        f"camera_info {url}: the package {package!r} is not found under AMENT_PREFIX_PATH; source the workspace that "
        "has it, or give the path of the file"
    )
