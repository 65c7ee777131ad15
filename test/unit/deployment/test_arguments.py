"""Launch arguments: names and defaults are complete, values are checked with errors that help."""

from __future__ import annotations

import pytest

from edge_vision.deployment import ARGUMENTS, DeploymentError
from edge_vision.deployment.arguments import checked

# docs/launch.md lists them; this is the public interface, so a change here is a change for users.
NAMES = [
    *(
        "source",
        "model",
        "hardware",
        "backend",
        "precision",
        "bundle_policy",
        "trusted_keys",
        "bundle_key",
        "image_topic",
        "detections_topic",
        "rig",
        "sources",
        "namespace",
        "composed",
        "tracking",
    ),
    *("camera_motion", "imu_topic", "odometry_topic"),
    *(
        "counters",
        "quality",
        "quality_rate",
        "reference_image",
        "enhance",
        "overlay",
        "use_rviz",
        "rviz_config",
        "params_file",
        "use_sim_time",
        "log_level",
    ),
]


def test_every_argument_is_there_once_with_a_description_and_a_default_that_it_accepts():
    assert [argument.name for argument in ARGUMENTS] == NAMES
    for argument in ARGUMENTS:
        assert argument.description.endswith(".")
        assert checked({argument.name: argument.default}) == {argument.name: argument.default}


def test_only_what_is_given_is_returned():
    assert checked({}) == {}
    assert checked({"backend": "openvino"}) == {"backend": "openvino"}


@pytest.mark.parametrize(("given", "meant"), [("True", "true"), ("FALSE", "false"), (" true ", "true")])
def test_booleans_in_any_case(given: str, meant: str):
    assert checked({"composed": given}) == {"composed": meant}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("hardware", "toaster", "hardware:=toaster is not possible; choose one of auto, cpu, intel, intel_gpu"),
        ("backend", "", "choose one of auto, onnxruntime"),
        ("precision", "fp8", "choose one of auto, fp32, fp16, bf16, int8"),
        ("composed", "yes", "composed:=yes is not possible; choose one of true, false"),
        ("log_level", "verbose", "choose one of debug, info, warn, error, fatal"),
        ("namespace", "2nd", "namespace:=2nd is no ROS namespace; use letters"),
        ("namespace", "front//left", "is no ROS namespace"),
        ("image_topic", "front image", "is no ROS topic name"),
        ("image_topic", "/", "is no ROS topic name"),
        ("quality", "maybe", "quality:=maybe is not possible; choose one of true, false, only"),
        ("quality_rate", "5", "quality_rate:=5 is for the quality node: give quality:=true as well"),
        ("reference_image", "a.png", "reference_image:=a.png is for the quality node: give quality:=true as well"),
        ("modle", "x", "unknown launch argument 'modle'; there are source, model"),
    ],
)
def test_a_wrong_value_is_named_with_the_right_ones(name: str, value: str, says: str):
    with pytest.raises(DeploymentError) as caught:
        checked({name: value})
    assert says in str(caught.value)


@pytest.mark.parametrize("value", ["", "/", "front", "/front", "robot_1/front", "/robot_1/front/"])
def test_namespaces_that_ros_takes(value: str):
    assert checked({"namespace": value}) == {"namespace": value}


def test_a_value_that_is_no_text_is_refused():
    with pytest.raises(DeploymentError, match="composed must be a text, got True"):
        checked({"composed": True})  # type: ignore[dict-item]


@pytest.mark.parametrize("rate", ["often", "-1", "1001", "nan"])
def test_a_quality_rate_is_a_number_in_its_range(rate: str):
    with pytest.raises(DeploymentError, match="must be a number from 0"):
        checked({"quality": "True", "quality_rate": rate})


def test_quality_alone_takes_nothing_that_is_for_other_nodes():
    assert checked({"quality": "only", "counters": "", "image_topic": "a"})["quality"] == "only"
    with pytest.raises(DeploymentError, match="model:=x is for other nodes than quality:=only starts"):
        checked({"quality": "only", "model": "x"})
