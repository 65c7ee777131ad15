"""The launch files themselves, where `launch` is installed (apt has it, PyPI has not; docs/launch.md)."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

WHY = "launch and launch_ros are not installed: they come with ROS from apt, not from PyPI (docs/launch.md)"
pytest.importorskip("launch", reason=WHY)
pytest.importorskip("launch_ros", reason=WHY)

from edge_vision.msg import CalibrationStatus, GroundObjectArray, ImageQuality  # noqa: E402
from launch.launch_description_sources import get_launch_description_from_python_launch_file  # noqa: E402
from ros_harness import Observer, Process, Start, image_message, square, stamp_of  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose  # noqa: E402

from edge_vision.deployment import ARGUMENTS, CALIBRATION_ARGUMENTS  # noqa: E402
from edge_vision.paths import share_directory  # noqa: E402

FOLDER = share_directory() / "launch"
RUNNER = Path(__file__).parent / "launch_runner.py"


def launch(start: Start, file: Path, *arguments: str) -> Process:
    return start.script(RUNNER, str(file), *arguments)


def stop(process: Process) -> None:
    """Ctrl-C; every process that was started has ended well, and is gone."""
    pids = re.findall(r"process started with pid \[(\d+)\]", process.log)
    assert process.stop(signal.SIGINT) == 0, process.log
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
    assert len(process.lines("process has finished cleanly")) == len(pids), process.log


@pytest.fixture
def looped(tmp_path: Path) -> Path:
    """A parameter file that makes recordings go on for ever."""
    path = tmp_path / "looped.yaml"
    path.write_text("/**/camera: {ros__parameters: {loop: true, fps: 20.0}}\n")
    return path


@pytest.mark.parametrize(
    ("file", "arguments"), [("detect.launch.py", ARGUMENTS), ("calibrate.launch.py", CALIBRATION_ARGUMENTS)]
)
def test_every_argument_is_declared_at_the_top_with_description_and_choices(file: str, arguments: tuple):
    declared = get_launch_description_from_python_launch_file(str(FOLDER / file)).get_launch_arguments()
    assert [argument.name for argument in declared] == [argument.name for argument in arguments]
    for found, wanted in zip(declared, arguments, strict=True):
        assert "".join(part.text for part in found.default_value) == wanted.default
        assert found.description.startswith(wanted.description)
        assert set(wanted.choices or ()) <= set(found.choices or ())


def test_the_raspberry_pis_file_leaves_everything_but_the_hardware_open():
    file = FOLDER / "raspberry_pi.launch.py"
    names = {a.name for a in get_launch_description_from_python_launch_file(str(file)).get_launch_arguments()}
    assert "source" in names


@pytest.mark.parametrize(("composed", "processes"), [("true", 1), ("false", 5)])
def test_detections_and_tracks_come_and_ctrl_c_leaves_nothing(
    start: Start, observer: Observer, model: Path, square_images: Path, looped: Path, composed: str, processes: int
):
    process = launch(
        start,
        FOLDER / "detect.launch.py",
        f"source:={square_images}",
        f"model:={model}",
        f"params_file:={looped}",
        f"composed:={composed}",
        "namespace:=dock",
        "hardware:=auto",
    )
    with (
        observer.listen(Detection2DArray, "/dock/detections") as detections,
        observer.listen(Detection2DArray, "/dock/tracks") as tracks,
    ):
        observer.spin_until(lambda: any(m.detections for m in detections), "a detection", process)
        observer.spin_until(lambda: any(m.detections for m in tracks), "a track", process)
    assert process.lines(r"hardware \w+ on .*Backends to choose from")
    assert len(process.lines("process started with pid")) == processes
    stop(process)


def test_detections_of_another_node_are_tracked(start: Start, observer: Observer):
    process = launch(start, FOLDER / "track.launch.py", "detections_topic:=/theirs/found", "namespace:=borrowed")
    theirs = observer.publisher(Detection2DArray, "/theirs/found")
    with observer.listen(Detection2DArray, "/borrowed/tracks") as tracks:
        observer.wait_for_subscriber(theirs, process)
        for index in range(40):
            message = Detection2DArray()
            message.header.frame_id = "theirs"
            message.header.stamp.sec, message.header.stamp.nanosec = 100 + index // 20, index % 20 * 50_000_000
            detection = Detection2D(header=message.header)
            detection.bbox.center.position.x, detection.bbox.center.position.y = 100.0 + 2 * index, 80.0
            detection.bbox.size_x, detection.bbox.size_y = 40.0, 60.0
            detection.results.append(ObjectHypothesisWithPose())
            detection.results[0].hypothesis.class_id, detection.results[0].hypothesis.score = "7", 0.9
            message.detections.append(detection)
            theirs.publish(message)
            observer.spin_for(0.02)
        observer.spin_until(lambda: len([m for m in tracks if m.detections]) > 30, "tracks", process)
        assert len({d.id for m in tracks for d in m.detections}) == 1
        assert tracks[-1].header.frame_id == "theirs"
    assert len(process.lines("process started with pid")) == 1
    stop(process)


def test_somebodys_images_are_judged_with_no_model(start: Start, observer: Observer, square_images: Path):
    process = launch(
        start,
        FOLDER / "quality.launch.py",
        "image_topic:=/theirs/image",
        f"reference_image:={square_images / '010.png'}",
        "rate:=0",
        "namespace:=judge",
    )
    theirs = observer.publisher(Image, "/theirs/image")
    with observer.listen(ImageQuality, "/judge/image_quality") as reports:
        observer.wait_for_subscriber(theirs, process)
        picture, second = square((80, 60, 120, 100)), iter(range(100, 10_000))

        def told() -> bool:
            theirs.publish(image_message(picture, next(second) * 10**9))
            observer.spin_for(0.1)
            return len(reports) > 2

        observer.spin_until(told, "reports", process)
        assert reports[-1].header.frame_id == "dock"
        assert stamp_of(reports[-1]) >= 100 * 10**9
        assert (reports[-1].width, reports[-1].height, reports[-1].identical) == (256, 192, True)
    assert process.lines("nodes quality, monitor in one process; no camera node: images come from /theirs/image")
    assert not process.lines("Backends to choose from")
    assert observer.parameter("/judge/quality", "rate") == 0.0
    stop(process)


def test_the_pipeline_with_quality_and_its_gate(start: Start, observer: Observer, model: Path, tmp_path: Path):
    (tmp_path / "mine.yaml").write_text(
        "/**/inference: {ros__parameters: {quality_gate: skip, quality_gate_causes: dark}}\n"
    )
    process = launch(
        start,
        FOLDER / "detect.launch.py",
        "source:=sim://conveyor?seed=5&exposure=0.0005",
        f"model:={model}",
        "backend:=onnxruntime",
        "quality:=True",
        f"params_file:={tmp_path / 'mine.yaml'}",
        "namespace:=cellar",
    )
    with observer.listen(ImageQuality, "/cellar/image_quality") as reports:
        reports.wait(3, process)
        assert any(v.cause == "dark" and v.blamed for v in reports[-1].verdicts)
    values = observer.fresh_values("cellar/inference", process)
    assert int(values["frames skipped for their quality"]) > 0
    assert observer.parameter("/cellar/quality", "rate") == 6.0
    stop(process)


def test_a_rig_and_its_cameras_show_one_id_for_one_object(start: Start, observer: Observer, tmp_path: Path):
    """Two views of one place, a third camera that is not there."""
    view = "{homography: [0.01, 0, 0, 0, 0.01, 0, 0, 0, 1], image_size: [640, 480], anchor: centre}"
    rig = tmp_path / "rig.yaml"
    rig.write_text(f"cameras: {{door: {view}, hall: {view}, yard: {view}}}\n")
    tracker = "{ros__parameters: {new_score: 0.3}}"
    (tmp_path / "mine.yaml").write_text(
        f"/**/multi_camera: {{ros__parameters: {{frame_id: floor}}}}\n/**/tracking: {tracker}\n"
    )
    process = launch(
        start,
        FOLDER / "multi_camera.launch.py",
        f"rig:={rig}",
        "sources:=door=sim://conveyor?seed=2&fps=10 hall=sim://conveyor?seed=2&fps=10",
        f"params_file:={tmp_path / 'mine.yaml'}",
        "backend:=onnxruntime",
        "precision:=fp32",
        "namespace:=shop",
    )
    with (
        observer.listen(GroundObjectArray, "/shop/objects") as objects,
        observer.listen(Detection2DArray, "/shop/door/tracks/global") as door,
        observer.listen(Detection2DArray, "/shop/hall/tracks/global") as hall,
    ):
        for name, view in (("door", door), ("hall", hall)):
            observer.spin_until(lambda view=view: any(m.detections for m in view), f"ids of {name}", process, 80.0)
        observer.spin_until(
            lambda: any({m.camera for o in array.objects for m in o.members} == {"door", "hall"} for array in objects),
            "both cameras among the objects",
            process,
        )
        assert objects[-1].header.frame_id == "floor"
    assert process.lines("tracks expected from elsewhere: /shop/yard/tracks/state")
    process.wait_for_log(r"no tracks from camera yard \(/shop/yard/tracks/state\)")
    for name in ("door", "hall"):
        subscribers = observer.node.get_subscriptions_info_by_topic(f"/shop/{name}/tracks/global")
        assert "overlay" in {info.node_name for info in subscribers}, "pictures show the ids of all cameras"
    assert len(process.lines("process started with pid")) == 3
    stop(process)


@pytest.mark.parametrize("composed", ["false", "true"])
def test_the_twins_camera_is_calibrated(
    start: Start, observer: Observer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, composed: str
):
    """A hand shows views, the calibration keeps them; what it commits is what the camera goes by."""
    monkeypatch.setenv("ROS_HOME", str(tmp_path / "ros"))
    process = launch(
        start,
        FOLDER / "calibrate.launch.py",
        "source:=sim://board?fps=15",
        "board:=chessboard_9x6_25mm",
        "model:=plumb_bob",
        "namespace:=twin",
        f"composed:={composed}",
    )
    with (
        observer.listen(CalibrationStatus, "/twin/calibration_status") as told,
        observer.listen(CameraInfo, "/twin/camera_info") as infos,
    ):
        observer.spin_until(lambda: told and told[-1].views >= 5, "five views", process, timeout=100.0)
        assert "chessboard" in told[-1].board
        assert not any(infos[-1].k)
        done = observer.call(Trigger, "/twin/calibration/calibrate", Trigger.Request())
        assert done.success, done.message
        done = observer.call(Trigger, "/twin/calibration/commit", Trigger.Request())
        assert done.success, done.message
        observer.spin_until(lambda: any(infos[-1].k), "the calibration", process)
    assert (tmp_path / "ros" / "camera_info" / "twin.yaml").is_file()
    assert len(process.lines("process started with pid")) == (1 if composed == "true" else 3)
    stop(process)


def test_somebodys_camera_is_checked(start: Start, observer: Observer, square_images: Path):
    process = launch(
        start, FOLDER / "calibrate.launch.py", "mode:=check", "image_topic:=/theirs/image", "namespace:=tools"
    )
    theirs = observer.publisher(Image, "/theirs/image")
    observer.wait_for_subscriber(theirs, process)
    assert process.lines("nodes calibration_check in one process; no camera node: images come from /theirs/image")
    assert observer.state("/tools/calibration_check") == "active"
    stop(process)


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("hardware:=toaster", "'raspberry_pi'"),
        ("params_file:=/nope.yaml", "params_file:=/nope.yaml: there is no such file"),
        ("quality_rate:=5", "quality_rate:=5 is for the quality node: give quality:=true as well"),
        ("namespace:=2nd", "is no ROS namespace"),
        ("rig:=/nope.yaml", "rig:=/nope.yaml: there is no such file"),
    ],
)
def test_a_wrong_argument_ends_the_launch_with_its_reason(start: Start, argument: str, says: str):
    process = launch(start, FOLDER / "detect.launch.py", argument)
    assert process.wait() == 1
    assert process.lines("ERROR.*" + re.escape(says))


def test_a_wrong_argument_of_a_calibration_too(start: Start):
    process = launch(start, FOLDER / "calibrate.launch.py", "board:=nope.yaml")
    assert process.wait() == 1
    assert process.lines(r"ERROR.*board:=nope\.yaml: there is no such file; edge_vision calibrate board writes one")


def test_a_process_that_fails_is_reported_and_the_others_go_on(start: Start, observer: Observer, tmp_path: Path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("/**/tracking: {ros__parameters: {preset: fast}}\n")
    process = launch(start, FOLDER / "detect.launch.py", "composed:=false", f"params_file:={wrong}", "source:=none")
    process.wait_for_log(r"tracking-\d ended with exit code 1; its lines above say why")
    assert process.lines("preset must be one of")
    assert observer.state("/monitor") == "active"
    process.stop(signal.SIGINT)


def test_two_cameras_in_one_launch_keep_their_arguments_apart(start: Start, observer: Observer, tmp_path: Path):
    """Defaults of the first must not look given to the second, where they would beat its parameter file."""
    (tmp_path / "rear.yaml").write_text("/**/inference: {ros__parameters: {backend: openvino, autostart: false}}\n")
    (tmp_path / "front.yaml").write_text("/**/inference: {ros__parameters: {autostart: false}}\n")
    robot = tmp_path / "robot.launch.py"
    robot.write_text(
        f"""
from launch import LaunchDescription
from launch.actions import GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import PushRosNamespace

def camera(name):
    return IncludeLaunchDescription(
        PythonLaunchDescriptionSource({str(FOLDER / "detect.launch.py")!r}),
        launch_arguments={{"namespace": name, "params_file": {str(tmp_path)!r} + "/" + name + ".yaml"}}.items(),
    )

def generate_launch_description():
    return LaunchDescription([GroupAction([PushRosNamespace("robot"), camera("front"), camera("rear")])])
"""
    )
    process = launch(start, robot)
    assert observer.parameter("/robot/front/inference", "backend") == "auto"
    assert observer.parameter("/robot/rear/inference", "backend") == "openvino"
    assert observer.parameter("/robot/rear/camera", "source") == "sim://conveyor"
    stop(process)
