"""The check of a calibration as a node: a reference by its service, a warning where the lens drifts, never without."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from ros_harness import RELIABLE, Observer, Process, image_message
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from edge_vision.calibration.camera_info_file import write_camera_info
from edge_vision.calibration.drift_features import read_reference
from edge_vision.datatypes import CameraInfo
from edge_vision.simulation import Conveyor, ConveyorOptions

SIZE = (960, 540)
K = np.array([[700.0, 0, 480], [0, 700, 270], [0, 0, 1]])


@pytest.fixture(scope="module")
def belt() -> list[np.ndarray]:
    scene = Conveyor(ConveyorOptions.from_uri(f"sim://conveyor?seed=3&width={SIZE[0]}&height={SIZE[1]}"))
    return [scene.render(index).frame.image for index in (0, 20, 40, 60, 80, 150)]


def longer(image: np.ndarray, by: float) -> np.ndarray:
    """As a longer focal length sees it."""
    H = K * [[1 + by, 1, 1], [1, 1 + by, 1], [1, 1, 1]] @ np.linalg.inv(K)
    return cv2.warpPerspective(image, H, SIZE, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


class Camera:
    """Publishes images whose stamps are a second apart until the node says of them what is expected."""

    def __init__(self, observer: Observer, process: Process, namespace: str) -> None:
        self.observer, self.process = observer, process
        self.name = f"{namespace[1:]}/calibration_check"
        self.images = observer.publisher(Image, f"{namespace}/image_raw", RELIABLE)
        self.stamp = 10**9
        observer.wait_for_subscriber(self.images, process)

    def show(self, image: np.ndarray) -> None:
        self.stamp += 10**9
        self.images.publish(image_message(image, self.stamp))
        self.observer.spin_for(0.3)

    def values(self) -> dict[str, str]:
        status = self.observer.diagnostics.get(self.name)
        return {} if status is None else {value.key: value.value for value in status.values}

    def until(self, image: np.ndarray, begins: str) -> None:
        """Shows an image until the diagnostics' verdict begins like that."""
        for _ in range(60):
            self.show(image)
            if self.values().get("calibration", "").startswith(begins):
                return
        raise AssertionError(f"{self.values()} does not begin with {begins}:\n{self.process.log}")


def test_a_reference_is_taken_and_a_drift_is_told_when_it_lasts(observer, start, tmp_path, belt) -> None:
    write_camera_info(tmp_path / "front.yaml", CameraInfo(*SIZE, K, np.zeros(5), P=np.hstack([K, np.zeros((3, 1))])))
    reference = tmp_path / "front.reference.npz"
    process = start(
        "calibration_check",
        parameters={
            "camera_info": str(tmp_path / "front.yaml"),
            "reference": str(reference),
            "camera_name": "front",
            "rate": 100.0,
            "hold": 3.0,
        },
        namespace="/bolted",
    )
    camera = Camera(observer, process, "/bolted")
    client = observer.node.create_client(Trigger, "/bolted/calibration_check/take_reference")
    observer.spin_until(client.service_is_ready, "the service", process)

    def take() -> Trigger.Response:
        future = client.call_async(Trigger.Request())
        observer.spin_until(future.done, "an answer", process)
        return future.result()

    refused = take()
    assert not refused.success
    assert "0 images were looked at so far, 3 are needed" in refused.message
    camera.until(belt[0], "unknown: there is no reference")
    for image in belt[:5]:
        camera.show(image)
    taken = take()
    assert taken.success, taken.message
    assert f"{len(read_reference(reference).points)} features" in taken.message
    camera.until(belt[5], "valid: the lens shift is")
    assert observer.diagnostics[camera.name].level == DiagnosticStatus.OK
    camera.until(np.zeros_like(belt[5]), "unknown: ")
    drifted = longer(belt[5], 0.01)
    camera.until(drifted, "drifted: the lens shift is")
    for _ in range(5):
        camera.show(drifted)
    observer.wait_for_status(camera.name, DiagnosticStatus.WARN, process)
    observer.spin_until(
        lambda: observer.diagnostics[camera.name].message.startswith("calibration drifted: the lens shift is"),
        "its words",
        process,
    )
    assert "calibrate again" in observer.diagnostics[camera.name].message
    # What is not told ends no alarm; a scene as it was does, after as long.
    camera.until(np.zeros_like(belt[5]), "unknown: ")
    assert "alarm" in camera.values()
    camera.until(belt[5], "valid: ")
    for _ in range(5):
        camera.show(belt[5])
    observer.wait_for_status(camera.name, DiagnosticStatus.OK, process)


def test_images_of_another_size_are_told_as_a_drift_of_the_size(observer, start, tmp_path, belt) -> None:
    write_camera_info(tmp_path / "cam.yaml", CameraInfo(*SIZE, K, np.zeros(5), P=np.hstack([K, np.zeros((3, 1))])))
    parameters = {"camera_info": str(tmp_path / "cam.yaml"), "rate": 100.0, "hold": 0.0}
    process = start(
        "calibration_check", parameters=parameters | {"reference": str(tmp_path / "no.npz")}, namespace="/small"
    )
    camera = Camera(observer, process, "/small")
    camera.until(belt[0][::2, ::2].copy(), "drifted: the image size differs")
    observer.wait_for_status(camera.name, DiagnosticStatus.WARN, process)
    assert "set the camera to the size it was calibrated at" in observer.diagnostics[camera.name].message
