"""From the arguments of calibrate.launch.py to processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from edge_vision.deployment import CALIBRATION_ARGUMENTS, DeploymentError, Plan, calibration_plan
from edge_vision.deployment.arguments import normal_form
from edge_vision.paths import share_directory
from edge_vision.simulation.options import named_options

NAMES = [
    *("source", "image_topic", "mode", "board", "model", "stop_at", "autocommit", "camera_name", "set_camera_info"),
    *("archive", "web", "web_host", "web_port", "hand", "namespace", "composed", "params_file", "use_sim_time"),
    "log_level",
]


def nodes_of(decided: Plan) -> list[str]:
    return [node for process in decided.processes for node in process.nodes]


def parameters_of(decided: Plan) -> dict[str, dict]:
    content: dict = {}
    for process in decided.processes:
        for file in process.generated:
            content |= yaml.safe_load(file.text)
    return {pattern.rpartition("/")[2]: entry["ros__parameters"] for pattern, entry in content.items()}


def test_every_argument_is_there_once_with_a_description_and_a_default_that_it_accepts() -> None:
    assert [argument.name for argument in CALIBRATION_ARGUMENTS] == NAMES
    for argument in CALIBRATION_ARGUMENTS:
        assert argument.description.endswith(".")
        assert normal_form({argument.name: argument.default}, CALIBRATION_ARGUMENTS) == {
            argument.name: argument.default
        }
        assert calibration_plan({argument.name: argument.default}).processes


def test_nothing_given_is_a_camera_and_the_node_that_calibrates_it() -> None:
    decided = calibration_plan({}, environ={})
    assert nodes_of(decided) == ["camera", "calibration"]
    assert [process.executable for process in decided.processes] == ["camera", "calibration"]
    assert parameters_of(decided) == {}  # the parameter files have the same defaults
    assert decided.processes[0].parameter_files == (share_directory() / "config" / "detect.yaml",)
    assert decided.environment["FASTRTPS_DEFAULT_PROFILES_FILE"].endswith("fastdds.xml")


@pytest.mark.parametrize(
    ("values", "nodes"),
    [
        ({"image_topic": "/cam/image"}, ["calibration"]),
        ({"image_topic": "/cam/image", "source": "0"}, ["camera", "calibration"]),
        ({"source": "none"}, ["calibration"]),
        ({"mode": "check"}, ["camera", "calibration_check"]),
        ({"source": "sim://board"}, ["camera", "calibration", "board_hand"]),
        ({"source": "sim://board?model=equidistant"}, ["camera", "calibration", "board_hand"]),
        ({"source": "sim://board", "hand": "False"}, ["camera", "calibration"]),
        ({"source": "sim://board", "mode": "check"}, ["camera", "calibration_check"]),
        ({"source": "sim://boardwalk"}, ["camera", "calibration"]),
    ],
)
def test_which_nodes_run(values: dict, nodes: list[str]) -> None:
    assert nodes_of(calibration_plan(values)) == nodes
    composed = calibration_plan({**values, "composed": "true"})
    assert [(process.executable, list(process.arguments)) for process in composed.processes] == [("pipeline", nodes)]


def test_arguments_reach_the_nodes_with_their_types() -> None:
    given = {
        "source": "0",
        "board": "chessboard_9x6_25mm",
        "model": "equidistant",
        "stop_at": "never",
        "autocommit": "True",
        "camera_name": "left",
        "set_camera_info": "/usb_cam/set_camera_info",
        "archive": "~/samples",
        "web": "true",
        "web_host": "0.0.0.0",
        "web_port": "0",
        "use_sim_time": "true",
    }
    assert parameters_of(calibration_plan(given)) == {
        "camera": {"source": "0", "camera_name": "left", "use_sim_time": True},
        "calibration": {
            "board": "chessboard_9x6_25mm",
            "model": "equidistant",
            "stop_at": "never",
            "autocommit": True,
            "camera_name": "left",
            "set_camera_info": "/usb_cam/set_camera_info",
            "archive": "~/samples",
            "web": True,
            "web_host": "0.0.0.0",
            "web_port": 0,
            "use_sim_time": True,
        },
    }


def test_the_twin_shows_the_board_that_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = tmp_path / "a board & b.yaml"
    board.write_text("kind: chessboard\n")
    monkeypatch.chdir(tmp_path)
    parameters = parameters_of(calibration_plan({"source": "sim://board?fps=15", "board": "./a board & b.yaml"}))
    assert parameters["calibration"]["board"] == parameters["board_hand"]["board"] == str(board)
    assert named_options(parameters["camera"]["source"]) == {"fps": "15", "board": str(board)}
    uri = "sim://board?board=acircles_4x11_20mm&model=equidistant"
    parameters = parameters_of(calibration_plan({"source": uri}))
    assert parameters == {
        "camera": {"source": uri},
        "calibration": {"board": "acircles_4x11_20mm"},
        "board_hand": {"board": "acircles_4x11_20mm", "model": "equidistant"},
    }
    # Two boards are a way to see what is said of a wrong one.
    parameters = parameters_of(calibration_plan({"source": uri, "board": "chessboard_9x6_25mm"}))
    assert parameters["camera"] == {"source": uri}
    assert parameters["calibration"] == {"board": "chessboard_9x6_25mm"}


def test_images_of_somebody_else_and_what_lies_beside_them() -> None:
    decided = calibration_plan({"image_topic": "/front/camera/image/compressed", "namespace": "tools"})
    process = decided.processes[0]
    assert process.namespace == "/tools"
    remaps = dict(process.remaps)
    assert remaps["image_raw/compressed"] == "/front/camera/image/compressed"
    assert remaps["camera_info"] == "/front/camera/camera_info"
    assert remaps["set_camera_info"] == "/front/camera/set_camera_info"
    assert parameters_of(decided) == {"calibration": {"image_transport": "compressed"}}
    assert decided.notes[0] == "nodes calibration in one process; no camera node: images come from /front/camera/image"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"board": "nope.yaml"}, r"board:=nope\.yaml: there is no such file; edge_vision calibrate board"),
        ({"stop_at": "perfect"}, "choose one of good, usable, never"),
        ({"web_port": "http"}, "web_port:=http must be a port"),
        ({"web_port": "70000"}, "web_port:=70000 must be a port"),
        ({"mode": "check", "autocommit": "true"}, "autocommit:=true is for calibrating"),
        ({"set_camera_info": "set camera"}, "is no ROS topic name"),
        ({"hardware": "auto"}, "unknown launch argument 'hardware'; there are source, image_topic, mode"),
        ({"source": "0", "image_topic": "/a/image/compressed"}, "publishes images uncompressed"),
        ({"params_file": "/nope.yaml"}, "params_file:=/nope.yaml: there is no such file"),
    ],
)
def test_what_cannot_be_says_what_would_be_right(values: dict, says: str) -> None:
    with pytest.raises(DeploymentError, match=says):
        calibration_plan(values)


def test_a_checks_defaults_may_be_given() -> None:
    assert nodes_of(calibration_plan({"mode": "check", "stop_at": "good", "web": "false"})) == [
        "camera",
        "calibration_check",
    ]
