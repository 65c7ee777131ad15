"""Quality of service: defaults by kind of topic, overrides, and a warning that names both ends of a mismatch."""

from __future__ import annotations

import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_harness import BEST_EFFORT, Observer, Process
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

OVERRIDES = """
/**:
  ros__parameters:
    qos_overrides:
      /eye/tracks:
        publisher: {reliability: best_effort, depth: 3}
      /eye/label_info:
        publisher: {durability: volatile}
      /eye/image_raw:
        subscription: {reliability: reliable, depth: 7}
"""


@pytest.fixture(scope="module")
def process(start_shared, model, tmp_path_factory) -> Process:
    file = tmp_path_factory.mktemp("qos") / "overrides.yaml"
    file.write_text(OVERRIDES)
    return start_shared(
        "pipeline",
        "inference",
        "tracking",
        parameters={"model": model},
        namespace="/eye",
        parameter_files=(file,),
    )


def profile(observer: Observer, process: Process, topic: str, publisher: bool) -> tuple[str, str]:
    """(reliability, durability) of the one end that our process has on the topic."""
    look = observer.node.get_publishers_info_by_topic if publisher else observer.node.get_subscriptions_info_by_topic
    observer.spin_until(lambda: len(look(topic)) >= 1, f"an end on {topic}", process)
    qos = look(topic)[0].qos_profile
    return qos.reliability.name, qos.durability.name


def test_defaults_and_overrides(observer, process) -> None:
    assert profile(observer, process, "/eye/detections", True) == ("RELIABLE", "VOLATILE")
    assert profile(observer, process, "/eye/tracks/state", True) == ("RELIABLE", "VOLATILE")
    assert profile(observer, process, "/eye/tracks", True) == ("BEST_EFFORT", "VOLATILE")
    assert profile(observer, process, "/eye/label_info", True) == ("RELIABLE", "VOLATILE")
    assert profile(observer, process, "/eye/image_raw", False) == ("RELIABLE", "VOLATILE")
    name = "qos_overrides./eye/image_raw.subscription"
    assert observer.parameter("/eye/inference", f"{name}.depth") == 7
    assert observer.parameter("/eye/inference", f"{name}.reliability") == "reliable"


def test_a_subscriber_that_does_not_fit_is_named(observer, process) -> None:
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    with observer.listen(Detection2DArray, "/eye/detections", latched):
        observer.spin_until(lambda: process.lines("QoS mismatch on /eye/detections"), "warning", process)
    (line,) = process.lines("QoS mismatch on /eye/detections")
    assert "[WARN]" in line
    assert "inference publishes it" in line
    assert "observer" in line
    assert "DURABILITY" in line
    assert "qos_overrides./eye/detections" in line


def test_a_publisher_that_does_not_fit_is_named(observer, process) -> None:
    publisher = observer.publisher(Image, "/eye/image_raw", BEST_EFFORT)
    observer.spin_until(lambda: process.lines("QoS mismatch on /eye/image_raw"), "warning", process)
    line = process.lines("QoS mismatch on /eye/image_raw")[0]
    assert "[WARN]" in line
    assert "inference subscribes it" in line
    assert "observer" in line
    assert "RELIABILITY" in line
    observer.node.destroy_publisher(publisher)


def test_without_overrides_images_are_taken_best_effort(observer, start, model) -> None:
    process = start("inference", parameters={"model": model}, namespace="/plain")
    assert profile(observer, process, "/plain/image_raw", False) == ("BEST_EFFORT", "VOLATILE")
    assert profile(observer, process, "/plain/label_info", True) == ("RELIABLE", "TRANSIENT_LOCAL")
