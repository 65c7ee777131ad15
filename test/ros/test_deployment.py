"""The processes of a plan, run for real: parameters of every kind arrive, in namespaces too, in the right order."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from edge_vision.msg import PipelineStats
from ros_harness import Observer, Process, Start, image_message, square, stamp_of
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from edge_vision.deployment import executable_directory, plan

STOPPED = {"autostart": False}


def run(start: Start, values: dict[str, str], **more: Any) -> list[Process]:
    decided = plan(values, **more)
    folder = executable_directory()
    return [start.command(p.command(folder), p.name, decided.environment) for p in decided.processes]


@pytest.mark.parametrize("namespace", ["", "robot/front"])
def test_values_of_every_kind_arrive(start: Start, observer: Observer, namespace: str):
    prefix = f"/{namespace}" if namespace else ""
    given = {
        "camera": {"camera_info": "", "fps": 5, "duration": 1e-07, "loop": True, "frame_id": "true"},
        "inference": {"classes": "0", "model": "a: b # 'c' \"d\" ü, [e]"},
        "recorder": {"output": "/no such folder/50 %"},
        "/**": STOPPED,
    }
    run(start, {"source": "0", "namespace": namespace}, extra_nodes=("recorder",), parameters=given)
    assert observer.parameter(f"{prefix}/camera", "source") == "0"  # the text, not the number
    for node, values in given.items():
        for name, value in values.items() if node != "/**" else ():
            found = observer.parameter(f"{prefix}/{node}", name)
            assert found == value
    assert observer.state(f"{prefix}/recorder") == "unconfigured"


def test_defaults_then_the_users_file_then_arguments(start: Start, observer: Observer, tmp_path: Path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "/**:\n  ros__parameters: {autostart: false, image_transport: compressed, trail: 2.5}\n"
        "/**/overlay:\n  ros__parameters: {trail: 3.5}\n"
        "/front/inference:\n  ros__parameters: {backend: openvino, threads: 2, precision: fp16}\n"
    )
    run(start, {"params_file": str(mine), "namespace": "front", "backend": "onnxruntime", "precision": "auto"})

    def inference(name: str) -> Any:
        return observer.parameter("/front/inference", name)

    assert inference("max_detections") == 0  # nobody's but the defaults'
    assert inference("image_transport") == "compressed"  # the user's, over config/detect.yaml
    assert inference("threads") == 2
    assert inference("backend") == "onnxruntime"  # given as argument, over the user's file
    assert inference("precision") == "auto"  # given, though it is the default
    assert observer.parameter("/front/overlay", "trail") == 3.5  # the nearer entry of the user's file


def test_one_process_a_node_delivers_what_one_process_does(
    start: Start, observer: Observer, model: Path, square_images: Path
):
    processes = run(
        start,
        {"composed": "false", "namespace": "rear", "source": str(square_images), "model": str(model)},
        parameters={"camera": {"loop": True, "fps": 20.0}, "inference": {"score_threshold": 0.1}},
    )
    assert len(processes) == 5
    inference = processes[1]
    with (
        observer.listen(Detection2DArray, "/rear/detections") as detections,
        observer.listen(Detection2DArray, "/rear/tracks") as tracks,
        observer.listen(PipelineStats, "/rear/pipeline_stats") as statistics,
    ):
        observer.spin_until(lambda: any(m.detections for m in detections), "a detection", inference)
        observer.spin_until(lambda: any(m.detections for m in tracks), "a track", processes[2])
        # The subscriptions found their publishers at different times: the first of each may be of different frames.
        observer.spin_until(
            lambda: {stamp_of(m) for m in tracks} & {stamp_of(m) for m in detections},
            "tracks and detections of the same frame",
            processes[2],
        )
        # The monitor hears the nodes of the other processes, not only of its own.
        expected = {"camera", "inference", "tracking", "overlay", "monitor"}
        observer.spin_until(
            lambda: statistics and expected <= {n.node.rpartition("/")[2] for n in statistics[-1].nodes},
            "statistics of all nodes",
            processes[4],
        )
    assert [process.stop() for process in processes] == [0] * 5


def test_without_camera_images_come_from_the_topic(start: Start, observer: Observer, model: Path):
    (process,) = run(start, {"image_topic": "/dock/image", "model": str(model), "log_level": "debug"})
    publisher = observer.publisher(Image, "/dock/image")
    with observer.listen(Detection2DArray, "/detections") as detections:
        observer.wait_for_subscriber(publisher, process, count=2)  # inference and overlay

        def found() -> bool:
            publisher.publish(image_message(square((40, 60, 80, 100)), observer.node.get_clock().now().nanoseconds))
            observer.spin_for(0.05)
            return bool(detections and detections[-1].detections)

        observer.spin_until(found, "a detection", process)
        assert detections[-1].header.frame_id == "dock"
    observer.node.destroy_publisher(publisher)


def test_ctrl_c_and_the_launchs_own_signal_are_one_request(start: Start, observer: Observer, model: Path):
    (process,) = run(start, {"model": str(model)})
    with observer.listen(Detection2DArray, "/detections") as detections:
        detections.wait(1, process)
    process.send(signal.SIGINT)
    time.sleep(0.05)
    assert process.stop(signal.SIGINT) == 0
    assert process.lines("ending: SIGINT received")
