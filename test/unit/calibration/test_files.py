"""Kalibr's and OpenCV's files give back what was written, and tell what is wrong with them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.calibration.camera_info_file import CameraInfoError, format_camera_info
from edge_vision.calibration.files import (
    format_kalibr,
    format_opencv,
    parse_calibration,
    parse_kalibr,
    parse_opencv,
    read_calibration,
    read_chain_transforms,
)
from edge_vision.datatypes import CameraInfo
from edge_vision.whole_files import write_text

numbers = st.floats(-1e3, 1e3, allow_nan=False).map(lambda value: value / 997)


def camera(model: str = "plumb_bob", D: tuple[float, ...] = (-0.289, 0.103, 0.001, -0.0002), **others) -> CameraInfo:
    K = np.array([[533.0123456789012, 0, 341.59], [0, 533.15, 234.26], [0, 0, 1]])
    return CameraInfo(640, 480, K, np.array(D), P=np.hstack([K, np.zeros((3, 1))]), distortion_model=model, **others)


@given(st.lists(numbers, min_size=4, max_size=4), st.sampled_from(["plumb_bob", "equidistant"]))
def test_kalibr_gives_back_every_digit(D, model):
    text = format_kalibr([camera(model, tuple(D))])
    read = parse_calibration(text)
    np.testing.assert_array_equal(read.K, camera().K)
    np.testing.assert_array_equal(read.D[:4], D)
    assert not read.D[4:].any()
    assert read.distortion_model == model
    assert (read.width, read.height, read.camera_name) == (640, 480, "camera")


@given(st.sampled_from([("plumb_bob", 4), ("plumb_bob", 5), ("rational_polynomial", 8), ("equidistant", 4)]), st.data())
def test_opencv_gives_back_every_digit(model, data):
    name, count = model
    D = data.draw(st.lists(numbers, min_size=count, max_size=count))
    text = format_opencv(camera(name, tuple(D)), rms=0.183)
    read = parse_calibration(text)
    np.testing.assert_array_equal(read.K, camera().K)
    np.testing.assert_array_equal(read.D, D)
    assert read.distortion_model == name


def test_opencv_reads_what_opencv_writes(tmp_path):
    path = str(tmp_path / "camera.xml")
    storage = cv2.FileStorage(path, cv2.FILE_STORAGE_WRITE)
    storage.write("image_width", 1280)
    storage.write("image_height", 720)
    storage.write("camera_matrix", camera().K)
    storage.write("distortion_coefficients", np.array([[0.1], [0.2], [0.0], [0.0], [0.3]]))
    storage.release()
    read = read_calibration(path)
    assert (read.width, read.height, read.distortion_model) == (1280, 720, "plumb_bob")
    np.testing.assert_array_equal(read.D, [0.1, 0.2, 0, 0, 0.3])


def test_opencv_itself_reads_ours(tmp_path):
    path = tmp_path / "camera.yml"
    write_text(path, format_opencv(camera(), rms=0.2))
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
    np.testing.assert_array_equal(storage.getNode("camera_matrix").mat(), camera().K)
    assert storage.getNode("avg_reprojection_error").real() == 0.2
    storage.release()


def test_a_rig_keeps_its_transforms():
    T = np.eye(4)
    T[0, 3] = -0.0998
    text = format_kalibr([camera(camera_name="left"), camera(camera_name="right")], [T])
    assert parse_kalibr(text, camera="cam1").camera_name == "right"
    np.testing.assert_array_equal(read_chain_transforms(text)[0], T)
    assert yaml.safe_load(text)["cam0"]["cam_overlaps"] == [1]


def test_ros_files_are_read_too(tmp_path):
    path = tmp_path / "ost.yaml"
    path.write_text(format_camera_info(camera()))
    np.testing.assert_array_equal(read_calibration(path).D, camera().D)


def test_kalibr_has_no_k3():
    with pytest.raises(CameraInfoError, match="radtan is k1 k2 p1 p2"):
        format_kalibr([camera("plumb_bob", (0.1, 0.1, 0, 0, 0.2))])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cam0: {camera_model: omni, intrinsics: [1, 2, 3, 4]}", "pinhole-radtan"),
        ("cam0: {camera_model: pinhole, distortion_model: fov, intrinsics: [1, 2, 3, 4]}", "use radtan"),
        ("cam0: {camera_model: pinhole, distortion_model: radtan, intrinsics: [1, 2]}", "must be 4 numbers"),
        ("%YAML:1.0\n---\nx: !!opencv-matrix\n   rows: 1\n   cols: 1\n   dt: d\n   data: [1.]\n", "camera_matrix"),
        ("image_width: 3", "image_height is missing"),
    ],
)
def test_bad_files_are_told(text, message):
    with pytest.raises(CameraInfoError, match=message):
        parse_calibration(text, "it")


def test_a_missing_camera_and_file_are_told(tmp_path):
    with pytest.raises(CameraInfoError, match="it has cam0"):
        parse_kalibr(format_kalibr([camera()]), camera="cam7")
    with pytest.raises(CameraInfoError, match="no such calibration file"):
        read_calibration(tmp_path / "none.yaml")
    with pytest.raises(CameraInfoError, match="is a folder"):
        read_calibration(tmp_path)


def test_opencv_without_a_size_is_told():
    text = format_opencv(camera()).replace("image_width", "wide")
    with pytest.raises(CameraInfoError, match="add image_width"):
        parse_opencv(text)
