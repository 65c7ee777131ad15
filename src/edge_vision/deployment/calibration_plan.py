"""calibrate.launch.py: the camera that is calibrated, the node that does it, and for the twin a hand with a board."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

from edge_vision.deployment.arguments import ARGUMENTS, BOOLEAN, Argument, DeploymentError, normal_form
from edge_vision.deployment.parameter_files import Scalar
from edge_vision.deployment.parts import (
    Parameters,
    Plan,
    absolute,
    camera_wanted,
    check_transport,
    environment_of,
    image_remaps,
    image_topic_of,
    parameters_note,
    processes_of,
    user_file_of,
    warnings_of,
)

_OF_ALL = {argument.name: argument for argument in ARGUMENTS}
_TWIN = "sim://board"

CALIBRATION_ARGUMENTS: tuple[Argument, ...] = (
    Argument(
        "source",
        "/dev/video0",
        "Where frames come from, as of detect.launch.py; sim://board: the simulated one (docs/simulation.md); none: no "
        "camera node. With image_topic alone there is none either.",
    ),
    _OF_ALL["image_topic"],
    Argument(
        "mode",
        "calibrate",
        "calibrate: collect views and solve; check: tell whether the calibration that the camera has is still right.",
        ("calibrate", "check"),
    ),
    Argument(
        "board",
        "charuco_9x7_25mm",
        "Calibration board: its YAML file, or the name of one in config/boards (docs/calibration_boards.md). With "
        "mode:=check one is looked for only where this is given.",
    ),
    Argument(
        "model",
        "auto",
        "Lens model; auto: by hold-out error.",
        ("auto", "plumb_bob", "rational_polynomial", "equidistant"),
    ),
    Argument("stop_at", "good", "Verdict at which collecting ends by itself.", ("good", "usable", "never")),
    Argument("autocommit", "false", "Give the camera its calibration as soon as collecting has ended.", BOOLEAN),
    Argument(
        "camera_name",
        "",
        "Name of the camera in its calibration, and of the file ~/.ros/camera_info/<camera_name>.yaml; empty: the "
        "namespace, or camera.",
    ),
    Argument(
        "set_camera_info",
        "set_camera_info",
        "The camera's service that takes its calibration, such as /usb_cam/set_camera_info; its own name: beside "
        "camera_info.",
    ),
    Argument(
        "archive",
        "${ROS_HOME}/calibration",
        "Folder in which the images and corners of the views are kept (ROS_HOME: ~/.ros where not set).",
    ),
    Argument("web", "false", "Serve a page with preview and buttons.", BOOLEAN),
    Argument("web_host", "127.0.0.1", "Address that the page is served on; 0.0.0.0: to the network, with a token."),
    Argument("web_port", "8088", "Port of the page, 0: any that is free."),
    Argument("hand", "true", "With sim://board: a hand shows the board as the calibration asks.", BOOLEAN),
    _OF_ALL["namespace"],
    replace(_OF_ALL["composed"], default="false"),
    _OF_ALL["params_file"],
    _OF_ALL["use_sim_time"],
    _OF_ALL["log_level"],
)

# Arguments that a node takes as its parameters of the same names.
_PARAMETERS = {
    "camera": ("source", "camera_name"),
    "calibration": (
        *("board", "model", "stop_at", "autocommit", "camera_name", "set_camera_info", "archive"),
        *("web", "web_host", "web_port"),
    ),
    "calibration_check": ("board", "camera_name"),
    "board_hand": ("board",),
}
_OF_CALIBRATING = ("model", "stop_at", "autocommit", "set_camera_info", "archive", "web", "web_host", "web_port")


def calibration_plan(values: Mapping[str, str], *, environ: Mapping[str, str] = os.environ) -> Plan:
    """Decides what to start; starts and writes nothing.

    values: the launch arguments that were *given*, of `CALIBRATION_ARGUMENTS`; the others leave it to the parameter
    files. Raises DeploymentError.
    """
    given = normal_form(values, CALIBRATION_ARGUMENTS)
    value = {argument.name: argument.default for argument in CALIBRATION_ARGUMENTS} | given
    _check(given, value)
    if "board" in given:
        given["board"] = _board(given["board"])
    topic, compressed = image_topic_of(value["image_topic"])
    has_camera = camera_wanted(given, value, elsewhere=bool(topic))
    check_transport(value["image_topic"], has_camera)
    twin = _twin_options(value["source"]) if has_camera else None
    if twin is not None:
        given = _with_one_board(given, value, twin)
    working = "calibration" if value["mode"] == "calibrate" else "calibration_check"
    hand = twin is not None and value["hand"] == "true" and working == "calibration"
    nodes = (*(("camera",) if has_camera else ()), working, *(("board_hand",) if hand else ()))
    parameters = _parameters(given, nodes, compressed)
    if hand and twin and twin.get("model") == "equidistant":
        parameters["board_hand"]["model"] = "equidistant"
    namespace, user_file = absolute(value["namespace"]), user_file_of(value["params_file"])
    groups = {"pipeline": nodes} if value["composed"] == "true" else {node: (node,) for node in nodes}
    remaps = image_remaps(topic)
    processes = processes_of(groups, parameters, namespace, user_file, remaps, value["log_level"], environ)
    environment, environment_note = environment_of(environ)
    carried = [name for name in given if any(name in values for values in parameters.values())]
    notes = [
        _nodes_note(nodes, len(groups), has_camera, topic),
        parameters_note(user_file, carried),
        environment_note,
        *warnings_of(user_file, [namespace]),
    ]
    return Plan(processes, environment, tuple(notes))


def _check(given: Mapping[str, str], value: Mapping[str, str]) -> None:
    port = value["web_port"]
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise DeploymentError(f"web_port:={port} must be a port, 0 (any that is free) to 65535")
    if value["mode"] == "check":
        defaults = {argument.name: argument.default for argument in CALIBRATION_ARGUMENTS}
        for name in _OF_CALIBRATING:
            if given.get(name, defaults[name]) != defaults[name]:
                raise DeploymentError(f"{name}:={given[name]} is for calibrating: leave it away, or mode:=calibrate")


def _board(name: str) -> str:
    """A bundled board's name as it is, a file's path absolute. DeploymentError for a file that is not there."""
    if "/" not in name and not name.endswith((".yaml", ".yml")):
        return name
    path = Path(name).expanduser().absolute()
    if not path.is_file():
        raise DeploymentError(
            f"board:={name}: there is no such file; edge_vision calibrate board writes one, config/boards has some"
        )
    return str(path)


def _twin_options(source: str) -> dict[str, str] | None:
    """The options of the simulated board; None for another source."""
    if source != _TWIN and not source.startswith(_TWIN + "?"):
        return None
    return dict(parse_qsl(urlsplit(source).query, keep_blank_values=True))


def _with_one_board(given: Mapping[str, str], value: Mapping[str, str], twin: Mapping[str, str]) -> dict[str, str]:
    """The twin shows the board that the calibration looks for, whichever of the two names it."""
    if "board" in twin:
        return {**given, "board": given.get("board", twin["board"])}
    if "board" not in given:
        return dict(given)  # both have the same default, or what a parameter file says of the calibration
    source = value["source"] + ("&" if "?" in value["source"] else "?") + f"board={quote(given['board'], safe='/~')}"
    return {**given, "source": source}


def _parameters(given: Mapping[str, str], nodes: tuple[str, ...], compressed: bool) -> Parameters:
    result: Parameters = {}
    for node in nodes:
        own: dict[str, Scalar] = {name: _typed(name, given[name]) for name in _PARAMETERS[node] if name in given}
        if compressed and node.startswith("calibration"):
            own["image_transport"] = "compressed"
        if "use_sim_time" in given:
            own["use_sim_time"] = given["use_sim_time"] == "true"
        result[node] = own
    return result


def _typed(name: str, text: str) -> Scalar:
    if name == "web_port":
        return int(text)
    argument = next(argument for argument in CALIBRATION_ARGUMENTS if argument.name == name)
    return text == "true" if argument.boolean else text


def _nodes_note(nodes: tuple[str, ...], processes: int, has_camera: bool, topic: str) -> str:
    place = "one process" if processes == 1 else f"{processes} processes"
    note = f"nodes {', '.join(nodes)} in {place}"
    return note if has_camera else f"{note}; no camera node: images come from {topic or 'image_raw'}"
