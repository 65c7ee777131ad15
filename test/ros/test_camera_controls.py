"""The camera node's exposure and gain are parameters that change while frames flow."""

from __future__ import annotations

import numpy as np
import pytest
from ros_harness import RELIABLE
from sensor_msgs.msg import Image


def mean(message: Image) -> float:
    return float(np.frombuffer(message.data, np.uint8).mean()) - 4.0  # less the black level


def newest_after(images, process, count: int = 3) -> float:
    """The brightness of a frame that was captured after now."""
    images.wait(count, process)
    return mean(images[-1])


def test_exposure_and_gain_change_live(observer, start) -> None:
    source = "sim://conveyor?seed=3&width=160&height=120&exposure=0.001"
    process = start("camera", parameters={"source": source, "gain": 2.0}, namespace="/lit")
    with observer.listen(Image, "/lit/image_raw", RELIABLE) as images:
        begun = newest_after(images, process)
        assert observer.set_parameter("/lit/camera", "exposure", 0.002) == (True, "")
        assert newest_after(images, process) == pytest.approx(2 * begun, rel=0.1)
        assert observer.set_parameter("/lit/camera", "gain", 1.0) == (True, "")
        assert newest_after(images, process) == pytest.approx(begun, rel=0.1)
        assert observer.fresh_values("lit/camera", process)["exposure"] == "0.002"
        refused, reason = observer.set_parameter("/lit/camera", "exposure", 100.0)
        assert not refused
        assert "'exposure' is 100" in reason
        assert observer.parameter("/lit/camera", "exposure") == 0.002
        assert observer.set_parameter("/lit/camera", "exposure", -1.0) == (True, "")
        assert newest_after(images, process) == pytest.approx(begun / 2, rel=0.1)


def test_a_source_without_controls_refuses_and_goes_on(observer, start, tmp_path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "grey.png"), np.full((48, 64, 3), 100, np.uint8))
    parameters = {"source": str(tmp_path / "grey.png"), "loop": True, "exposure": 0.01}
    process = start("camera", parameters=parameters, namespace="/still")
    process.wait_for_log("exposure cannot be changed")  # asked for at the start: said, and the images come
    with observer.listen(Image, "/still/image_raw", RELIABLE) as images:
        images.wait(3, process)
        refused, reason = observer.set_parameter("/still/camera", "gain", 2.0)
        assert not refused
        assert "gain cannot be changed while it plays" in reason
        images.wait(3, process)
