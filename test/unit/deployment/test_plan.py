"""From launch arguments to processes: nodes, parameters and their order of strength, remaps, environment, notes."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.deployment import NODES, DeploymentError, Plan, Process, executable_directory, plan
from edge_vision.inference.hardware import Hardware
from edge_vision.paths import share_directory

PI = Hardware("raspberry_pi", "Raspberry Pi 5", 4, 8 << 30, (), "the device tree names Raspberry Pi 5")


def only(decided: Plan) -> Process:
    assert len(decided.processes) == 1
    return decided.processes[0]


def parameters_of(process: Process) -> dict[str, dict]:
    """What the generated file says, by node."""
    content: dict = {}
    for file in process.generated:
        content |= yaml.safe_load(file.text)
    return {pattern.rpartition("/")[2]: entry["ros__parameters"] for pattern, entry in content.items()}


def test_nothing_given_is_the_default_pipeline_with_the_default_parameters():
    process = only(plan({}, environ={}))
    assert process.name == process.executable == "pipeline"
    assert process.nodes == process.arguments == ("camera", "inference", "tracking", "overlay", "monitor")
    assert process.parameter_files == (share_directory() / "config" / "detect.yaml",)
    assert process.ros_arguments == ("--params-file", str(share_directory() / "config" / "detect.yaml"))


def test_nodes_are_those_of_the_ros_room():
    registry = importlib.import_module("edge_vision.ros.registry")  # imports no ROS by itself
    assert tuple(registry.NODES) == NODES
    assert only(plan({})).nodes == registry.DEFAULT_PIPELINE


def test_separate_processes_are_named_after_their_nodes():
    decided = plan({"composed": "false", "source": "0", "backend": "openvino"})
    assert [process.executable for process in decided.processes] == [
        "camera", "inference", "tracking", "overlay", "monitor",
    ]  # fmt: skip
    assert all(process.arguments == () for process in decided.processes)
    parameters = {process.name: parameters_of(process) for process in decided.processes}
    assert parameters["camera"] == {"camera": {"source": "0"}}
    assert parameters["inference"] == {"inference": {"backend": "openvino"}}
    assert parameters["monitor"] == {}


@pytest.mark.parametrize(
    ("values", "nodes"),
    [
        ({"source": "none"}, ("inference", "tracking", "overlay", "monitor")),
        ({"source": ""}, ("inference", "tracking", "overlay", "monitor")),
        ({"image_topic": "/cam/image"}, ("inference", "tracking", "overlay", "monitor")),
        ({"image_topic": "/cam/image", "source": "0"}, ("camera", "inference", "tracking", "overlay", "monitor")),
        ({"tracking": "false"}, ("camera", "inference", "overlay", "monitor")),
        ({"overlay": "False"}, ("camera", "inference", "tracking", "monitor")),
    ],
)
def test_which_nodes_run(values: dict, nodes: tuple):
    assert only(plan(values)).nodes == nodes


def test_counters_start_the_counter_with_their_file(tmp_path: Path, monkeypatch):
    (tmp_path / "gate.yaml").write_text("lines: [{name: gate, start: [9, 9], end: [9, 0]}]")
    monkeypatch.chdir(tmp_path)
    process = only(plan({"counters": "gate.yaml"}))
    assert process.nodes == ("camera", "inference", "tracking", "counter", "overlay", "monitor")
    assert parameters_of(process) == {"counter": {"file": str(tmp_path / "gate.yaml")}}
    with pytest.raises(DeploymentError, match=r"counters:=none\.yaml: there is no such file; docs/counting\.md shows"):
        plan({"counters": "none.yaml"})
    with pytest.raises(DeploymentError, match="leave tracking:=true"):
        plan({"counters": "gate.yaml", "tracking": "false"})


def test_quality_joins_the_pipeline_or_runs_alone(tmp_path: Path, monkeypatch):
    (tmp_path / "good.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    given = {"quality": "true", "quality_rate": "2", "reference_image": "good.png"}
    process = only(plan(given))
    assert process.nodes == ("camera", "quality", "inference", "tracking", "overlay", "monitor")
    assert parameters_of(process) == {"quality": {"rate": 2.0, "reference_image": str(tmp_path / "good.png")}}
    alone = plan({"quality": "only", "quality_rate": "", "image_topic": "/theirs/image/compressed"})
    assert only(alone).nodes == ("quality", "monitor")
    assert parameters_of(only(alone)) == {"quality": {"image_transport": "compressed"}}
    assert ("image_raw", "/theirs/image") in only(alone).remaps
    assert not any("Backends" in note or "quality_rate" in note for note in alone.notes)
    assert only(plan({"quality": "only"})).nodes == ("quality", "monitor")
    assert only(plan({"quality": "only", "source": "0"})).nodes == ("camera", "quality", "monitor")
    with pytest.raises(DeploymentError, match=r"reference_image:=none\.png: there is no such file"):
        plan({"quality": "true", "reference_image": "none.png"})


def test_without_tracking_the_overlay_draws_detections():
    assert parameters_of(only(plan({"tracking": "false"}))) == {"overlay": {"objects": "detections"}}


def test_only_arguments_that_are_given_become_parameters():
    given = {"source": "sim://conveyor?seed=1", "model": "/m m/x.onnx", "hardware": "auto", "precision": "int8"}
    assert parameters_of(only(plan(given, machine=PI))) == {
        "camera": {"source": "sim://conveyor?seed=1"},
        "inference": {"model": "/m m/x.onnx", "hardware": "raspberry_pi", "precision": "int8"},
    }


def test_the_users_file_is_stronger_than_the_defaults_and_weaker_than_arguments(tmp_path: Path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("/**/inference: {ros__parameters: {backend: openvino}}")
    process = only(plan({"params_file": str(mine), "backend": "onnxruntime"}))
    assert process.parameter_files == (
        share_directory() / "config" / "detect.yaml",
        mine,
        process.generated[0].path,
    )
    assert parameters_of(process) == {"inference": {"backend": "onnxruntime"}}
    assert only(plan({"params_file": str(mine)})).parameter_files[-1] == mine


def test_a_users_entry_that_no_node_would_get_is_warned_of(tmp_path: Path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("inference: {ros__parameters: {backend: openvino}}")
    assert not [note for note in plan({"params_file": str(mine)}).notes if "warning" in note]
    (warning,) = [note for note in plan({"params_file": str(mine), "namespace": "front"}).notes if "warning" in note]
    assert "the entry /inference is for no node of this launch" in warning
    assert "/front/camera" in warning


def test_the_callers_parameters_are_the_strongest():
    decided = plan(
        {"source": "0", "use_sim_time": "true"},
        extra_nodes=("recorder",),
        parameters={"/**": {"input_mode": "every", "use_sim_time": False}, "camera": {"source": "1", "loop": True}},
    )
    process = only(decided)
    assert process.nodes[-1] == "recorder"
    parameters = parameters_of(process)
    assert parameters["camera"] == {"source": "1", "loop": True, "input_mode": "every", "use_sim_time": False}
    assert parameters["recorder"] == {"input_mode": "every", "use_sim_time": False}


def test_image_topic_moves_what_belongs_to_the_images():
    process = only(plan({"image_topic": "/cam/image"}))
    assert dict(process.remaps) == {
        "image_raw": "/cam/image",
        "image_raw/shared": "/cam/image/shared",
        "image_raw/compressed": "/cam/image/compressed",
        "camera_info": "/cam/camera_info",
        "set_camera_info": "/cam/set_camera_info",
        "image_rect": "/cam/image_rect",
        "image_rect/shared": "/cam/image_rect/shared",
    }
    assert dict(only(plan({"image_topic": "image"})).remaps).get("camera_info") is None
    assert dict(only(plan({"image_topic": "/image"})).remaps)["camera_info"] == "/camera_info"
    assert only(plan({"image_topic": "image_raw"})).remaps == ()


def test_a_compressed_topic_is_taken_as_such():
    process = only(plan({"image_topic": "/cam/image/compressed"}))
    assert dict(process.remaps)["image_raw/compressed"] == "/cam/image/compressed"
    parameters = parameters_of(process)
    assert parameters["inference"] == parameters["overlay"] == {"image_transport": "compressed"}
    with pytest.raises(DeploymentError, match=r"publishes images uncompressed.*source:=none"):
        plan({"image_topic": "/cam/image/compressed", "source": "0"})


def test_the_tracker_is_told_where_the_cameras_motion_comes_from():
    given = {"camera_motion": "imu", "imu_topic": "/imu/data", "odometry_topic": "odom"}
    process = only(plan(given))
    assert parameters_of(process) == {"tracking": {"camera_motion": "imu"}}
    assert process.remaps == (("imu", "/imu/data"),)  # odom is its name anyway
    assert dict(only(plan({"odometry_topic": "wheels/odom"})).remaps) == {"odom": "wheels/odom"}
    with pytest.raises(DeploymentError, match="imu_topic:=7up is no ROS topic name"):
        plan({"imu_topic": "7up"})
    with pytest.raises(DeploymentError, match="choose one of auto, off, imu, odometry, tf, flow"):
        plan({"camera_motion": "gps"})


@pytest.mark.parametrize(("namespace", "full"), [("front", "/front"), ("/a/b/", "/a/b"), ("", ""), ("/", "")])
def test_namespaces_are_made_absolute(namespace: str, full: str):
    process = only(plan({"namespace": namespace}))
    assert process.namespace == full
    assert ("-r", f"__ns:={full}") == process.ros_arguments[:2] if full else "__ns" not in str(process.ros_arguments)


def test_hardware_is_decided_from_the_machine_and_said_why():
    note = plan({}, machine=PI).notes[0]
    assert note.startswith("hardware raspberry_pi on Raspberry Pi 5, 4 cores: the device tree names Raspberry Pi 5.")
    assert "Backends to choose from: ncnn, litert, onnxruntime" in note
    assert "3 threads" in note
    asked = plan({"hardware": "intel"}, machine=PI)
    assert "as asked for; auto would say raspberry_pi" in asked.notes[0]
    assert parameters_of(only(asked)) == {"inference": {"hardware": "intel"}}


def test_the_fast_dds_profile_is_set_unless_the_user_has_one():
    decided = plan({}, environ={})
    assert Path(decided.environment["FASTDDS_DEFAULT_PROFILES_FILE"]).is_file()
    assert decided.environment["FASTRTPS_DEFAULT_PROFILES_FILE"] == decided.environment["FASTDDS_DEFAULT_PROFILES_FILE"]
    own = plan({}, environ={"FASTRTPS_DEFAULT_PROFILES_FILE": "/mine.xml"})
    assert own.environment == {}
    assert "/mine.xml" in " ".join(own.notes)


def test_log_levels():
    assert only(plan({"log_level": "info"})).log_arguments == ()
    assert only(plan({"log_level": "warn"})).log_arguments == ("--log-level", "warn")
    debug = only(plan({"log_level": "debug", "namespace": "/a/b"})).log_arguments
    assert debug[:2] == ("--log-level", "a.b.camera:=debug")
    assert debug[-1] == "edge_vision:=debug"


def test_rviz_moves_into_the_namespace():
    assert plan({}).rviz is None
    rviz = plan({"use_rviz": "true", "namespace": "front", "image_topic": "/cam/image"}).rviz
    assert rviz is not None
    assert rviz.arguments == ("-d", str(share_directory() / "config" / "rviz" / "detect.rviz"))
    assert rviz.namespace == "/front"
    assert dict(rviz.remaps)["/overlay"] == "overlay"
    assert dict(rviz.remaps)["/image_raw"] == "/cam/image"
    root = plan({"use_rviz": "true"}).rviz
    assert root is not None
    assert root.remaps == ()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"values": {"params_file": "/nope.yaml"}}, "params_file:=/nope.yaml: there is no such file"),
        ({"values": {"rviz_config": "/nope.rviz", "use_rviz": "true"}}, "rviz_config:=/nope.rviz: "),
        ({"values": {}, "extra_nodes": ("printer",)}, "unknown node printer; there are camera, calibration, "),
        ({"values": {}, "parameters": {"printer": {}}}, "parameters for unknown node printer; there are camera"),
        ({"values": {"model": 3}}, "model must be a text"),
    ],
)
def test_errors_name_what_is_wrong(arguments: dict, says: str):
    with pytest.raises(DeploymentError) as caught:
        plan(**arguments)
    assert says in str(caught.value)


CHOICES = {
    "source": ("none", "0", "sim://conveyor"),
    "image_topic": ("", "cam", "/cam/image_raw"),
    "namespace": ("", "front"),
    "composed": ("true", "false"),
    "tracking": ("true", "false"),
    "overlay": ("true", "false"),
}


@given(st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in CHOICES.items()}))
def test_every_node_runs_exactly_once_whatever_is_chosen(values: dict):
    decided = plan(values, machine=PI, environ={})
    nodes = [node for process in decided.processes for node in process.nodes]
    assert len(nodes) == len(set(nodes))
    assert nodes == [node for node in NODES if node in nodes]
    assert {"inference", "monitor"} <= set(nodes)
    assert ("camera" in nodes) == (values.get("source", "" if values.get("image_topic") else "sim") not in ("", "none"))
    assert ("tracking" in nodes) == (values.get("tracking") != "false")
    for process in decided.processes:
        assert set(parameters_of(process)) <= set(process.nodes)


def test_the_command_line_is_complete_and_its_files_are_there(tmp_path: Path):
    process = only(plan({"source": "/a b/0.mp4", "namespace": "front"}, environ={"TMPDIR": str(tmp_path)}))
    command = process.command(Path("/prefix/lib/edge_vision"))
    assert command[:7] == [
        "/prefix/lib/edge_vision/pipeline", "camera", "inference", "tracking", "overlay", "monitor", "--ros-args",
    ]  # fmt: skip
    files = [Path(command[i + 1]) for i, part in enumerate(command) if part == "--params-file"]
    assert len(files) == 2
    assert all(file.is_file() for file in files)
    assert "/a b/0.mp4" in files[-1].read_text()


def test_the_executables_are_found_by_the_prefix_path(tmp_path: Path):
    folder = tmp_path / "two" / "lib" / "edge_vision"
    folder.mkdir(parents=True)
    path = f"{tmp_path / 'one'}:{tmp_path / 'two'}"
    with pytest.raises(DeploymentError, match=r"not found \(under none of .*scripts/setup.sh.*env.sh"):
        executable_directory({"AMENT_PREFIX_PATH": path})
    with pytest.raises(DeploymentError, match="AMENT_PREFIX_PATH is empty"):
        executable_directory({})
    (folder / "pipeline").write_text("")
    assert executable_directory({"AMENT_PREFIX_PATH": path}) == folder


def test_detections_of_another_node_are_tracked_without_camera_and_model():
    process = only(plan({"detections_topic": "/detector/detections"}))
    assert process.nodes == ("tracking", "monitor")
    assert ("detections", "/detector/detections") in process.remaps
    assert only(plan({"detections_topic": "detections"})).remaps == ()
    drawn = only(plan({"detections_topic": "/detector/detections", "image_topic": "/camera/image_raw"}))
    assert drawn.nodes == ("tracking", "overlay", "monitor")
    assert "detections come from /detector/detections" in " ".join(
        plan({"detections_topic": "/detector/detections"}).notes
    )
    with pytest.raises(DeploymentError, match="exclude each other"):
        plan({"detections_topic": "/detector/detections", "source": "/dev/video0"})


# --- several cameras -------------------------------------------------------------------------------------------------

_HOMOGRAPHY = "{homography: [0.01, 0, 0, 0, 0.01, 0, 0, 0, 1], image_size: [640, 480]}"


@pytest.fixture
def rig(tmp_path: Path) -> Path:
    path = tmp_path / "rig.yaml"
    path.write_text(f"cameras: {{door: {_HOMOGRAPHY}, hall: {_HOMOGRAPHY}}}")
    return path


def test_a_rig_alone_is_the_joining_node_above_its_cameras(rig: Path):
    decided = plan({"rig": str(rig), "namespace": "shop"}, machine=PI, environ={})
    process = only(decided)
    assert (process.executable, process.nodes, process.namespace) == ("multi_camera", ("multi_camera",), "/shop")
    assert process.arguments == ()
    assert parameters_of(process) == {"multi_camera": {"rig": str(rig)}}
    assert "tracks expected from elsewhere: /shop/door/tracks/state, /shop/hall/tracks/state" in decided.notes


def test_cameras_of_a_rig_are_started_below_it_and_show_the_ids_of_all(rig: Path):
    decided = plan(
        {
            "rig": str(rig),
            "sources": "door=sim://conveyor?seed=1&shift=9 hall='gst://v4l2src ! videoconvert'",
            "model": "parts",
            "use_rviz": "true",
        },
        machine=PI,
        environ={},
    )
    joining, door, hall = decided.processes
    assert joining.namespace == ""
    assert [(p.executable, p.namespace) for p in (door, hall)] == [("pipeline", "/door"), ("pipeline", "/hall")]
    assert parameters_of(door) == {
        "camera": {"source": "sim://conveyor?seed=1&shift=9"},
        "inference": {"model": "parts"},
    }
    assert parameters_of(hall)["camera"] == {"source": "gst://v4l2src ! videoconvert"}
    assert all(("overlay:tracks", "tracks/global") in p.remaps for p in (door, hall))
    assert decided.rviz
    assert decided.rviz.arguments[1].endswith("multi_camera.rviz")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"sources": "door=0"}, "sources:=door=0: give rig:=FILE"),
        ({"rig": "nowhere.yaml"}, "rig:=nowhere.yaml: there is no such file"),
        ({"rig": "", "sources": "roof=0"}, "give rig:=FILE"),
        ({"rig": "RIG", "sources": "roof=0"}, "'roof=0' must be camera=source, once for each of door, hall"),
        ({"rig": "RIG", "sources": "door=0 door=1"}, "'door=1' must be camera=source, once for each"),
        ({"rig": "RIG", "sources": "door='0"}, "No closing quotation"),
        ({"rig": "RIG", "source": "0"}, "source:=0 is for one camera"),
        ({"rig": "RIG", "tracking": "false"}, "leave tracking:=true"),
        ({"rig": "RIG", "model": "parts"}, "model:=parts is for cameras that are started"),
        ({"rig": "BROKEN"}, "cameras: is missing or empty"),
        ({"rig": "SPACED"}, "the camera '2nd door' is no ROS namespace"),
    ],
)
def test_what_cannot_be_of_a_rig_is_said(rig: Path, tmp_path: Path, values: dict, says: str):
    (tmp_path / "broken.yaml").write_text("association: {}")
    (tmp_path / "spaced.yaml").write_text(f"cameras: {{2nd door: {_HOMOGRAPHY}}}")
    files = {"RIG": rig, "BROKEN": tmp_path / "broken.yaml", "SPACED": tmp_path / "spaced.yaml"}
    values = {name: str(files.get(value, value)) for name, value in values.items()}
    with pytest.raises(DeploymentError) as error:
        plan(values, machine=PI, environ={})
    assert says in str(error.value)


def test_with_enhance_results_are_of_the_enhanced_images():
    process = only(plan({"enhance": "true", "image_topic": "front/image"}))
    assert "enhance" in process.nodes
    remaps = list(process.remaps)
    for node in ("inference", "tracking", "overlay"):
        assert (f"{node}:image_raw", "image_enhanced") in remaps
        assert (f"{node}:camera_info", "image_enhanced/camera_info") in remaps
    # The first rule that fits wins: those of single nodes come before those of all.
    assert remaps.index(("inference:image_raw", "image_enhanced")) < remaps.index(("image_raw", "front/image"))


@pytest.mark.parametrize(
    "other", [{"detections_topic": "boxes", "image_topic": "image"}, {"image_topic": "image/compressed"}]
)
def test_enhance_needs_images_of_ours(other):
    with pytest.raises(DeploymentError, match="takes uncompressed images"):
        plan({"enhance": "true", **other})
