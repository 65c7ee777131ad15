"""The camera's calibration over ROS: set_camera_info and its file, camera_info of the uncalibrated, image_rect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from edge_vision.msg import NodeStats
from ros_harness import RELIABLE, Observer, Process, Received, Start, stamp_of
from sensor_msgs.msg import CameraInfo, Image
from sensor_msgs.srv import SetCameraInfo

from edge_vision.calibration.camera_info_file import read_camera_info, write_camera_info
from edge_vision.datatypes import CameraInfo as Calibration

WIDTH, HEIGHT = 160, 120
K = [151.25, 0.0, 80.123456789012, 0.0, 150.5, 59.9, 0.0, 0.0, 1.0]
LENSES = {
    "plumb_bob": [-0.28, 0.09, 0.001, -0.0007, 0.0],
    "rational_polynomial": [0.4, -0.2, 4e-4, -3e-4, 0.02, 0.7, -0.1, 0.01],
    "equidistant": [-0.03, 0.012, -0.004, 0.0006],
}


def calibration(model: str = "plumb_bob", **changes) -> CameraInfo:
    message = CameraInfo(width=WIDTH, height=HEIGHT, distortion_model=model, d=LENSES.get(model, [0.0] * 5), k=K)
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [140.0, 0.0, 80.0, 0.0, 0.0, 141.0, 60.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of a smooth picture in colour, grey and 16 bits: a camera that knows nothing of its lens."""
    folder = tmp_path_factory.mktemp("pictures")
    noise = cv2.GaussianBlur(np.random.default_rng(1).random((HEIGHT, WIDTH, 3)).astype(np.float32), (0, 0), 2)
    noise = cv2.normalize(noise, None, 0, 1, cv2.NORM_MINMAX)
    for name, image in {
        "bgr8": (noise * 255).astype(np.uint8),
        "mono8": (noise[..., 0] * 255).astype(np.uint8),
        "mono16": (noise[..., 1] * 65535).astype(np.uint16),
    }.items():
        (folder / name).mkdir()
        cv2.imwrite(str(folder / name / "1.png"), image)
    return folder


@pytest.fixture
def camera(start: Start, pictures: Path, tmp_path: Path) -> Callable[..., Process]:
    """Starts a camera of those pictures, with a home for ROS of its own."""

    def begin(namespace: str, encoding: str = "bgr8", **more) -> Process:
        parameters = {"source": str(pictures / encoding), "loop": True, "fps": 20.0, **more.pop("parameters", {})}
        environment = {"ROS_HOME": str(tmp_path / "ros")}
        return start("camera", parameters=parameters, namespace=namespace, environment=environment, **more)

    return begin


def give(observer: Observer, namespace: str, message: CameraInfo) -> tuple[bool, str]:
    answer = observer.call(SetCameraInfo, f"{namespace}/set_camera_info", SetCameraInfo.Request(camera_info=message))
    return answer.success, answer.status_message


def newest(infos: Received, process: Process) -> CameraInfo:
    infos.wait(2, process)
    return infos[-1]


def test_a_calibration_is_kept_published_and_there_after_a_restart(
    observer: Observer, camera: Callable[..., Process], tmp_path: Path
) -> None:
    process = camera("/robot/front")
    file = tmp_path / "ros" / "camera_info" / "robot_front.yaml"
    with observer.listen(CameraInfo, "/robot/front/camera_info") as infos:
        before = newest(infos, process)
        assert (before.width, before.height) == (WIDTH, HEIGHT)
        assert not any(before.k)
        assert not any(before.p)
        assert observer.fresh_values("robot/front/camera", process)["calibration"] == "none"
        success, said = give(observer, "/robot/front", calibration())
        assert (success, said) == (True, f"saved in {file}")
        assert file.is_file()
        after = newest(infos, process)
        assert after.header.frame_id == "camera_optical_frame"
        for name in ("k", "d", "r", "p", "distortion_model", "width", "height"):
            assert np.array_equal(getattr(after, name), getattr(calibration(), name)), name
        assert give(observer, "/robot/front", calibration()) == (True, f"{file} holds it already")
        assert observer.fresh_values("robot/front/camera", process)["calibration"] == f"set, in {file}"
    assert process.stop() == 0
    kept = read_camera_info(file)
    assert kept.camera_name == "robot_front"
    assert kept.K.ravel().tolist() == K
    again = camera("/robot/front")
    with observer.listen(CameraInfo, "/robot/front/camera_info") as infos:
        assert newest(infos, again).k.tolist() == K
    assert observer.fresh_values("robot/front/camera", again)["calibration"] == str(file)


def test_it_is_published_at_once(observer: Observer, camera: Callable[..., Process]) -> None:
    """Also between frames that are far apart: with the stamp of the newest."""
    process = camera("/slow", parameters={"fps": 0.2})
    with (
        observer.listen(CameraInfo, "/slow/camera_info") as infos,
        observer.listen(Image, "/slow/image_raw", RELIABLE) as images,
    ):
        images.wait(1, process)
        observer.spin_until(lambda: infos, "camera_info", process)
        count = len(images)
        assert give(observer, "/slow", calibration())[0]
        observer.spin_until(lambda: any(infos[-1].k), "the calibration", process)
        assert stamp_of(infos[-1]) == stamp_of(images[count - 1])


REFUSED = [
    (calibration(width=320), "is for 320x120, the images are 160x120"),
    (calibration("thin_prism"), "unknown distortion_model 'thin_prism'"),
    (calibration(k=[0.0] * 9), "fx and fy above 0"),
    (calibration(k=[float("nan")] + K[1:]), "K holds numbers that are not finite"),
    (calibration(d=[0.1] * 3), "has 3 numbers"),
    (calibration(binning_x=2), "binning 2x0"),
]


def test_what_cannot_be_right_is_refused(observer: Observer, camera: Callable[..., Process], tmp_path: Path) -> None:
    process = camera("/strict", parameters={"camera_name": "left"})
    with observer.listen(CameraInfo, "/strict/camera_info") as infos:
        newest(infos, process)
        for message, says in REFUSED:
            success, said = give(observer, "/strict", message)
            assert not success
            assert said.startswith("refused: ")
            assert says in said
        assert not any(newest(infos, process).k)
    assert not (tmp_path / "ros").exists()
    assert len(process.lines(r"\[ERROR\].*set_camera_info: refused")) == len(REFUSED)


def test_what_cannot_be_saved_is_told_and_used(
    observer: Observer, camera: Callable[..., Process], tmp_path: Path
) -> None:
    (tmp_path / "ros").write_text("a file where the folder should be")
    process = camera("/full", parameters={"camera_name": "left"})
    with observer.listen(CameraInfo, "/full/camera_info") as infos:
        newest(infos, process)
        success, said = give(observer, "/full", calibration())
        assert not success
        assert said.startswith("not saved: cannot write the camera_info file")
        assert newest(infos, process).k.tolist() == K
    status = observer.wait_for_status("full/camera", DiagnosticStatus.WARN, process)
    assert "the calibration is not saved" in status.message
    (tmp_path / "ros").unlink()
    assert give(observer, "/full", calibration()) == (True, f"saved in {tmp_path}/ros/camera_info/left.yaml")
    observer.wait_for_status("full/camera", DiagnosticStatus.OK, process)


def test_a_named_file_may_be_made_by_the_first_calibration(
    observer: Observer, camera: Callable[..., Process], tmp_path: Path
) -> None:
    process = camera("/named", parameters={"camera_info": "file://${ROS_HOME}/lens/${NAME}.yaml"})
    process.wait_for_log(r"no such camera_info file: .*/lens/named\.yaml; calibrate the camera")
    assert give(observer, "/named", calibration()) == (True, f"saved in {tmp_path}/ros/lens/named.yaml")


def test_a_calibration_of_another_size_says_uncalibrated(
    observer: Observer, camera: Callable[..., Process], tmp_path: Path
) -> None:
    file = tmp_path / "big.yaml"
    write_camera_info(file, Calibration(2 * WIDTH, 2 * HEIGHT, np.array(K).reshape(3, 3), np.zeros(5)))
    process = camera("/small", parameters={"camera_info": str(file)})
    with observer.listen(CameraInfo, "/small/camera_info") as infos:
        info = newest(infos, process)
    assert (info.width, info.height, any(info.k)) == (WIDTH, HEIGHT, False)
    process.wait_for_log("is for 320x240, the images are 160x120.*K and P would have to be scaled by 0.5")


def expected(image: np.ndarray, model: str) -> np.ndarray:
    """The library's own."""
    camera, D, new = np.array(K).reshape(3, 3), np.array(LENSES[model]), np.array(calibration().p).reshape(3, 4)[:, :3]
    if model == "equidistant":
        return cv2.fisheye.undistortImage(image, camera, D, None, new)
    return cv2.undistort(image, camera, D, None, new)


@pytest.mark.parametrize(
    ("encoding", "model"), [("bgr8", "plumb_bob"), ("mono8", "equidistant"), ("mono16", "rational_polynomial")]
)
def test_image_rect_is_made_while_somebody_looks(
    observer: Observer, camera: Callable[..., Process], pictures: Path, encoding: str, model: str
) -> None:
    process = camera("/straight", encoding)
    with observer.listen(Image, "/straight/image_raw", RELIABLE) as images:
        images.wait(1, process)
        assert give(observer, "/straight", calibration(model))[0]
        assert "rectify p50 ms" not in observer.fresh_values("straight/camera", process)
        with observer.listen(Image, "/straight/image_rect", RELIABLE) as straight:
            straight.wait(5, process)
            images.wait(1, process)
        assert {stamp_of(m) for m in straight} <= {stamp_of(m) for m in images}
        found = straight[-1]
        assert (found.encoding, found.width, found.height) == (encoding, WIDTH, HEIGHT)
        assert found.header.frame_id == "camera_optical_frame"
        original = cv2.imread(str(pictures / encoding / "1.png"), cv2.IMREAD_UNCHANGED)
        pixels = np.frombuffer(found.data, original.dtype).reshape(original.shape)
        wanted = expected(original, model)
        assert np.abs(pixels.astype(float) - wanted).max() <= 0.015 * np.iinfo(original.dtype).max
        assert not np.array_equal(pixels, original)
        values = observer.fresh_values("straight/camera", process)
        assert any("rectify" in name for name in values), values
        count = len(straight)
        images.wait(5, process)
        assert len(straight) == count


def test_without_a_calibration_there_is_no_image_rect(observer: Observer, camera: Callable[..., Process]) -> None:
    process = camera("/blind")
    with (
        observer.listen(Image, "/blind/image_rect", RELIABLE) as straight,
        observer.listen(CameraInfo, "/blind/camera_info") as infos,
    ):
        process.wait_for_log("image_rect is not published: the camera is not calibrated")
        assert not straight
        assert give(observer, "/blind", calibration())[0]
        straight.wait(2, process)
        assert any(newest(infos, process).k)


def test_others_take_zeros_for_not_known(observer: Observer, start: Start, pictures: Path, tmp_path: Path) -> None:
    """The enhancer and the tracker behind an uncalibrated camera: nothing is refused, and a calibration is taken up."""
    process = start(
        "pipeline",
        "camera",
        "enhance",
        parameters={"source": str(pictures / "bgr8"), "loop": True, "fps": 10.0},
        namespace="/late",
        environment={"ROS_HOME": str(tmp_path / "ros")},
    )
    with (
        observer.listen(Image, "/late/image_enhanced", RELIABLE) as images,
        observer.listen(CameraInfo, "/late/image_enhanced/camera_info") as infos,
        observer.listen(NodeStats, "/late/node_stats") as stats,
    ):
        images.wait(5, process)
        assert (infos[-1].width, any(infos[-1].k)) == (WIDTH, False)
        assert "undistort" not in observer.fresh_values("late/enhance", process)["applied"]
        assert give(observer, "/late", calibration())[0]
        observer.spin_until(lambda: any(infos[-1].k), "the calibration", process)
        assert list(infos[-1].k) == list(np.array(calibration().p).reshape(3, 4)[:, :3].ravel())  # without distortion
        assert "undistort" in observer.fresh_values("late/enhance", process)["applied"]
        newest_of = {message.node: message for message in stats}
        assert {name: message.rejected for name, message in newest_of.items()} == {"camera": 0, "enhance": 0}
