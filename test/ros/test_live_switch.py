"""A running node changes its model and backend while frames come in: the new one is loaded beside the old one."""

from __future__ import annotations

import itertools
from functools import partial

import cv2
import pytest
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import QoSProfile
from ros_harness import square, stamp_of
from vision_msgs.msg import Detection2DArray

from edge_vision.inference.backends import backend

PERIOD_MS = 40
ATTEMPTS = 5  # a switch that loses frames does so each time; a machine that stands still for a moment does not
BAD_KINDS = ("text", "missing", "misfit")


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Ten minutes' worth by looping: 100 images (320 x 240, 25 per second) of a square that moves."""
    path = tmp_path_factory.mktemp("switch") / "square.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 1e3 / PERIOD_MS, (320, 240))
    assert writer.isOpened()
    for index in range(100):
        writer.write(square((index, 60, index + 40, 100), 0, 320, 240))
    writer.release()
    return path


def missing(stamps: list[int]) -> int:
    """Frames of which there is no result between the first and the last stamp."""
    return sum(round((later - earlier) / (PERIOD_MS * 1e6)) - 1 for earlier, later in itertools.pairwise(stamps))


@pytest.mark.skipif(bool(backend("openvino").available()), reason="openvino, the backend to switch to, is not here")
@pytest.mark.parametrize("together", [True, False], ids=["one_process", "two_processes"])
def test_no_frame_is_lost_by_a_switch(observer, start, model, other_model, bad_models, recording, together) -> None:
    namespace = "/together" if together else "/apart"
    source = {"source": recording, "loop": True}
    wanted = {"model": model, "backend": "onnxruntime"}
    if together:
        process = start("pipeline", "camera", "inference", parameters=source | wanted, namespace=namespace)
    else:
        process = start("inference", parameters=wanted, namespace=namespace)
        start("camera", parameters=source, namespace=namespace)
    node = f"{namespace}/inference"
    with observer.listen(Detection2DArray, f"{namespace}/detections", QoSProfile(depth=200)) as found:
        found.wait(25, process)
        for name, old, new, shown in (
            ("model", str(model), str(other_model), ("model", "other")),
            ("backend", "onnxruntime", "openvino", ("backend", "openvino")),
            ("score_threshold", -1.0, 0.4, ("model", "other")),
            ("model", str(other_model), str(model), ("model", "brightest")),
        ):
            change = partial(observer.set_parameter, node, name)
            losses = losses_by(partial(change, new), partial(change, old), found, observer, node, process)
            assert min(losses) <= 1, f"frames lost while {name} became {new}: {losses}"
            assert observer.fresh_values(node.strip("/"), process)[shown[0]].startswith(shown[1])
        refused = partial(all_refused, observer, node, bad_models)
        losses = losses_by(refused, refused, found, observer, node, process)
        assert min(losses) <= 1, f"frames lost while models were refused: {losses}"
        assert observer.fresh_values(node.strip("/"), process)["model"] == "brightest"


def losses_by(change, back, found, observer, node, process) -> list[int]:
    """Frames lost by each attempt at a change, until one loses none to speak of; `back` undoes it in between."""
    losses = [lost_by(change, found, observer, node, process)]
    while losses[-1] > 1 and len(losses) < ATTEMPTS:
        assert back() == (True, "")
        losses.append(lost_by(change, found, observer, node, process))
    return losses


def lost_by(change, found, observer, node, process) -> int:
    """Frames that got no result from just before a change until some results after it."""
    observer.fresh_values(node.strip("/"), process)
    begin = len(found)
    assert change() == (True, "")
    found.wait(12, process)
    return missing([stamp_of(message) for message in found[max(begin - 5, 0) :]])


def all_refused(observer, node, bad_models) -> tuple[bool, str]:
    answers = [observer.set_parameter(node, "model", str(getattr(bad_models, kind))) for kind in BAD_KINDS]
    return all(not successful and reason for successful, reason in answers), ""


def test_two_switches_at_once(observer, start, model, other_model) -> None:
    """The second is refused while the first is under way; what the node says it runs is what its parameter says."""
    node = "/twice/inference"
    process = start("inference", parameters={"model": model, "backend": "onnxruntime"}, namespace="/twice")
    observer.fresh_values(node.strip("/"), process)
    client = observer.node.create_client(SetParameters, f"{node}/set_parameters")
    observer.spin_until(client.service_is_ready, "the parameter service", process)
    both = Parameter(name="model", value=text(other_model)), Parameter(name="backend", value=text("opencv"))
    answers = [client.call_async(SetParameters.Request(parameters=[parameter])) for parameter in both]
    observer.spin_until(lambda: all(answer.done() for answer in answers), "both answers", process)
    first, second = (answer.result().results[0] for answer in answers)
    assert first.successful, first.reason
    if not second.successful:
        assert "another change of the kind is being made" in second.reason
    values = observer.fresh_values(node.strip("/"), process)
    assert values["model"] == "other"
    assert values["backend"].split()[0] == observer.parameter(node, "backend")
    observer.node.destroy_client(client)


def text(value: object) -> ParameterValue:
    return ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=str(value))
