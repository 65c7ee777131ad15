"""What is written about the nodes is true: config/detect.yaml, config/rviz, docs/parameters.md, launch arguments."""

from __future__ import annotations

import dataclasses
import json
import subprocess

import pytest
import yaml
from ros_harness import executable

from edge_vision.cli.parameters import describe
from edge_vision.deployment import ARGUMENTS, NODES
from edge_vision.deployment.parameter_files import DEFAULTS_PATTERN
from edge_vision.paths import share_directory
from edge_vision.ros import registry

SHARE = share_directory()
DEFAULTS = yaml.safe_load((SHARE / "config" / "detect.yaml").read_text())


def command(*arguments: str) -> str:
    """The output of `edge_vision parameters ...`, in a process of its own as it starts nodes."""
    done = subprocess.run(
        [executable("edge_vision"), "parameters", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_node_has_its_entry_and_nothing_else_has():
    assert list(DEFAULTS) == [DEFAULTS_PATTERN + node for node in registry.NODES]


@pytest.mark.parametrize("node", NODES)
def test_the_file_holds_every_parameter_with_its_default(node: str):
    kind = registry.node_class(node).parameters_type
    declared = {field.name: field.default for field in dataclasses.fields(kind)}
    written = DEFAULTS[DEFAULTS_PATTERN + node]["ros__parameters"]
    assert written == declared
    assert {name: type(value) for name, value in written.items()} == {n: type(v) for n, v in declared.items()}
    assert list(written) == list(declared)


def test_launch_arguments_agree_with_the_parameters_that_they_set():
    arguments = {argument.name: argument for argument in ARGUMENTS}
    fields = {(node["name"], p["name"]): p for node in describe() for p in node["parameters"]}
    for node, name in [
        ("camera", "source"),
        *(("inference", n) for n in ("model", "hardware", "backend", "precision")),
    ]:
        field = fields[node, name]
        assert arguments[name].default == field["default"]
        if name == "hardware":  # the node also takes the path of a profile; the launch shows those that there are
            assert all(kind in field["description"] for kind in arguments[name].choices or ())
        else:
            assert list(arguments[name].choices or ()) == (field["choices"] or [])


@pytest.fixture(scope="module")
def topics() -> dict[str, dict]:
    return {node["name"]: node for node in json.loads(command("--topics", "--json"))}


def test_rviz_shows_topics_that_the_nodes_publish(topics: dict[str, dict]):
    config = yaml.safe_load((SHARE / "config" / "rviz" / "detect.rviz").read_text())
    published = {f"/{topic}": kind for node in topics.values() for topic, kind in node["publishes"]}
    expected = {
        "rviz_default_plugins/Image": "sensor_msgs/Image",
        "rviz_default_plugins/MarkerArray": "visualization_msgs/MarkerArray",
    }
    shown = {}
    for display in config["Visualization Manager"]["Displays"]:
        if "Topic" in display:
            topic = display["Topic"]["Value"]
            assert published[topic] == expected[display["Class"]]
            assert display["Topic"]["Reliability Policy"] in ("Reliable", "Best Effort")
            shown[topic] = display["Enabled"]
    assert shown == {"/overlay": True, "/markers": True, "/image_raw": False}
    camera = {p["name"]: p for p in topics["camera"]["parameters"]}
    assert config["Visualization Manager"]["Global Options"]["Fixed Frame"] == camera["frame_id"]["default"]


def test_nodes_say_truly_what_they_publish(topics: dict[str, dict]):
    assert ["image_raw", "sensor_msgs/Image"] in topics["camera"]["publishes"]
    assert ["detections", "vision_msgs/Detection2DArray"] in topics["inference"]["publishes"]
    assert ["tracks/state", "edge_vision/TrackArray"] in topics["tracking"]["publishes"]
    assert ["node_stats", "edge_vision/NodeStats"] in topics["monitor"]["subscribes"]
    assert all(["/diagnostics", "diagnostic_msgs/DiagnosticArray"] in node["publishes"] for node in topics.values())


def test_the_page_is_as_the_command_writes_it():
    page = SHARE / "docs" / "parameters.md"
    if not page.is_file():
        pytest.skip(f"{page} is not there: this is an installed package, not a clone")
    remedy = "run: edge_vision parameters --topics --markdown > docs/parameters.md"
    assert page.read_text() == command("--topics", "--markdown"), remedy


def test_one_node_as_text_and_an_unknown_one():
    text = command("monitor")
    assert text.startswith("monitor: ")
    assert "terminal = false  (bool, live)" in text
    assert "camera" not in text
    wrong = subprocess.run(
        [executable("edge_vision"), "parameters", "printer"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert wrong.returncode == 2
    assert "unknown node printer; there are camera, calibration" in wrong.stderr
