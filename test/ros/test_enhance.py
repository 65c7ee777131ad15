"""The enhance node: better images under the same stamps, their camera_info, and an exposure that does not swing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ros_harness import RELIABLE, image_message, stamp_of
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray

SOURCE = "sim://conveyor?seed=3&width=320&height=240"


def median(message: Image) -> float:
    return float(np.median(np.frombuffer(message.data, np.uint8)))


def test_dark_images_come_out_bright_undistorted_and_with_their_stamps(observer, start) -> None:
    source = {"source": f"{SOURCE}&exposure=0.0004"}
    process = start("pipeline", "camera", "enhance", parameters=source, namespace="/night")
    with (
        observer.listen(Image, "/night/image_raw", RELIABLE) as raw,
        observer.listen(Image, "/night/image_enhanced", RELIABLE) as better,
        observer.listen(CameraInfo, "/night/image_enhanced/camera_info") as infos,
    ):
        better.wait(10, process)
        raw.wait(1, process)
        infos.wait(3, process)
        assert median(raw[-1]) < 15
        assert median(better[-1]) > 40
        assert {stamp_of(m) for m in better[3:8]} <= {stamp_of(m) for m in raw}
        assert better[-1].header.frame_id == raw[-1].header.frame_id
        assert not any(infos[-1].d)
        assert list(infos[-1].k) == pytest.approx([infos[-1].p[i] for i in (0, 1, 2, 4, 5, 6, 8, 9, 10)])
        assert "stretch" in observer.fresh_values("night/enhance", process)["applied"]
        assert observer.set_parameter("/night/enhance", "brightness", "off") == (True, "")
        assert observer.set_parameter("/night/enhance", "undistort", False) == (True, "")
        better.wait(6, process)
        assert median(better[-1]) < 15
        infos.wait(6, process)
        assert any(infos[-1].d)
        refused, reason = observer.set_parameter("/night/enhance", "sharpen", "magic")
        assert not refused
        assert "one of wiener" in reason


@pytest.mark.parametrize("light", [0.15, 5.0])
@pytest.mark.parametrize("together", [True, False], ids=["one_process", "two_processes"])
def test_the_cameras_exposure_settles_and_stays(observer, start, light, together) -> None:
    namespace = f"/light_{str(light).replace('.', '_')}_{'one' if together else 'two'}"
    source = {"source": f"{SOURCE}&light={light}"}
    wanted = {"brightness": "camera"}
    if together:
        process = start("pipeline", "camera", "enhance", parameters=source | wanted, namespace=namespace)
    else:
        process = start("enhance", parameters=wanted, namespace=namespace)
        start("camera", parameters=source, namespace=namespace)
    node = f"{namespace}/enhance".strip("/")
    with observer.listen(Image, f"{namespace}/image_raw", RELIABLE) as images:
        observer.spin_until(
            lambda: int(observer.values(node).get("exposure changes", "0")) >= 2, "two changes of exposure", process
        )
        images.wait(60, process)  # two seconds
        settled = int(observer.fresh_values(node, process)["exposure changes"])
        begin = len(images)
        images.wait(60, process)
        values = observer.fresh_values(node, process)
        assert int(values["exposure changes"]) <= settled + 1, "it swings"
        assert settled <= 10
        medians = [median(message) for message in images[begin:]]
        assert 30 < np.median(medians) < 75, "0.18 of a linear camera's full scale is 46"
        assert np.ptp(medians) < 25
        exposure = observer.parameter(f"{namespace}/camera", "exposure")
        assert exposure == pytest.approx(float(values["exposure"]), abs=1e-6)
        assert (exposure > 0.004) == (light < 1)


def test_a_camera_that_is_nobodys_is_said_and_the_images_go_on(observer, start) -> None:
    process = start("enhance", parameters={"brightness": "camera"}, namespace="/stranger")
    publisher = observer.publisher(Image, "/stranger/image_raw", RELIABLE)
    observer.wait_for_subscriber(publisher, process)
    image = np.full((48, 64, 3), 12, np.uint8)
    image[10:30, 10:40] = 20
    with observer.listen(Image, "/stranger/image_enhanced", RELIABLE) as better:
        stamps = itertools.count(10**9, 10**8)

        def come() -> bool:
            publisher.publish(image_message(image, next(stamps)))
            return len(better) >= 3

        observer.spin_until(come, "enhanced images", process)
        assert np.array_equal(np.frombuffer(better[-1].data, np.uint8).reshape(image.shape), image)
    process.wait_for_log("no node camera with parameters is there yet")


def test_detection_works_on_the_enhanced_images(observer, start) -> None:
    """As enhance:=true has it: the inference node's image_raw is image_enhanced."""
    dark = {"source": "sim://conveyor?seed=3&exposure=0.0002", "backend": "onnxruntime"}
    remaps = {"inference:image_raw": "image_enhanced", "inference:image_raw/shared": "image_enhanced/shared"}
    process = start("pipeline", "camera", "enhance", "inference", parameters=dark, remaps=remaps, namespace="/cellar")
    with observer.listen(Detection2DArray, "/cellar/detections") as found:
        found.wait(12, process)
        assert np.mean([len(message.detections) for message in found[4:]]) > 2, "in the dark it finds none"
