"""camera_info YAML files: what ROS writes is read, what is written is read back, what is wrong is told."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.calibration import camera_info_file
from edge_vision.calibration.camera_info_file import (
    COEFFICIENTS,
    CameraInfoError,
    format_camera_info,
    parse_camera_info,
    read_camera_info,
    size_mismatch,
    write_camera_info,
)
from edge_vision.datatypes import CameraInfo

# In the layout in which camera_calibration writes it.
FROM_ROS = """\
image_width: 640
image_height: 480
camera_name: narrow_stereo/left
camera_matrix:
  rows: 3
  cols: 3
  data: [533.00371, 0.     , 341.58556,
           0.     , 533.15260, 234.25908,
           0.     , 0.     , 1.     ]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.288, 0.1, 1.2e-3, -1e-05, 0]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1., 0., 0.,
         0., 1., 0.,
         0., 0., 1.]
projection_matrix:
  rows: 3
  cols: 4
  data: [502.0, 0., 340.0, 0.,
         0., 510.0, 235.0, 0.,
         0., 0., 1., 0.]
"""

finite = st.floats(-1e6, 1e6)
focal = st.floats(1e-3, 1e6)


@st.composite
def calibrations(draw: st.DrawFn) -> CameraInfo:
    model = draw(st.sampled_from(sorted(COEFFICIENTS)))
    count = draw(st.sampled_from((0, *COEFFICIENTS[model])))
    K = np.array([[draw(focal), draw(finite), draw(finite)], [0, draw(focal), draw(finite)], [0, 0, 1]])

    def numbers(n: int) -> np.ndarray:
        return np.array(draw(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=n, max_size=n)))

    return CameraInfo(
        width=draw(st.integers(1, 20000)),
        height=draw(st.integers(1, 20000)),
        K=K,
        D=numbers(count),
        R=numbers(9).reshape(3, 3),
        P=numbers(12).reshape(3, 4),
        distortion_model=model,
        camera_name=draw(st.text(st.characters(exclude_categories=["Cs"]), min_size=1)),
    )


def assert_equal(a: CameraInfo, b: CameraInfo) -> None:
    assert (a.width, a.height, a.distortion_model, a.camera_name) == (
        b.width,
        b.height,
        b.distortion_model,
        b.camera_name,
    )
    for name in "KDRP":
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@given(calibrations())
def test_every_number_and_name_survives_the_file(info: CameraInfo) -> None:
    assert_equal(parse_camera_info(format_camera_info(info)), info)


@given(calibrations())
def test_other_yaml_readers_see_numbers_with_point_before_the_exponent(info: CameraInfo) -> None:
    data = yaml.safe_load(format_camera_info(info))["projection_matrix"]["data"]
    assert all(isinstance(value, float) for value in data)


def test_a_file_of_the_ros_calibrator() -> None:
    info = parse_camera_info(FROM_ROS, frame_id="left_optical")
    assert (info.width, info.height, info.camera_name, info.frame_id) == (
        640,
        480,
        "narrow_stereo/left",
        "left_optical",
    )
    np.testing.assert_array_equal(info.K, [[533.00371, 0, 341.58556], [0, 533.1526, 234.25908], [0, 0, 1]])
    np.testing.assert_array_equal(info.D, [-0.288, 0.1, 1.2e-3, -1e-5, 0])
    np.testing.assert_array_equal(info.R, np.eye(3))
    assert info.P[0, 0] == 502.0
    assert info.P.shape == (3, 4)


def test_what_ros_may_leave_out() -> None:
    content = yaml.safe_load(FROM_ROS)
    for key in ("camera_name", "distortion_model", "rectification_matrix", "projection_matrix"):
        del content[key]
    info = parse_camera_info(yaml.safe_dump(content | {"binning_x": 2, "report": {"rms": 0.2}}))
    assert (info.camera_name, info.distortion_model) == ("unknown", "plumb_bob")
    np.testing.assert_array_equal(info.R, np.eye(3))
    np.testing.assert_array_equal(info.P, np.hstack([info.K, np.zeros((3, 1))]))


def test_fisheye_is_read_under_its_ros_name() -> None:
    content = yaml.safe_load(FROM_ROS) | {
        "distortion_model": "fisheye",
        "distortion_coefficients": {"rows": 4, "cols": 1, "data": [0.1, 0.2, 0.3, 0.4]},
    }
    assert parse_camera_info(yaml.safe_dump(content)).distortion_model == "equidistant"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image_width": None}, r"image_width is missing"),
        ({"image_height": "480 px"}, r"image_height is '480 px'"),
        ({"camera_matrix": None}, r"camera_matrix is missing"),
        ({"camera_matrix": [1, 2]}, r"camera_matrix must have rows, cols and data"),
        (
            {"camera_matrix": {"rows": 3, "cols": 3, "data": [1.0] * 8}},
            r"camera_matrix has .* 8 numbers; it must have .*9",
        ),
        ({"camera_matrix": {"rows": 3, "cols": 3, "data": [0.0] * 9}}, r"fx and fy above 0"),
        ({"camera_matrix": {"rows": 3, "cols": 3, "data": ["a"] * 9}}, r"data of camera_matrix must be numbers"),
        ({"projection_matrix": {"rows": 3, "cols": 3, "data": [1.0] * 9}}, r"projection_matrix .* cols: 4 and 12"),
        ({"rectification_matrix": {"rows": 3, "cols": 3, "data": [float("nan")] * 9}}, r"not finite"),
        ({"distortion_model": "brown"}, r"unknown distortion_model 'brown'; known: plumb_bob, "),
        ({"distortion_model": "equidistant"}, r"has 5 numbers, but distortion_model equidistant has 4"),
        ({"distortion_coefficients": {"rows": 1, "cols": 5, "data": [0.0] * 4}}, r"cols: 5, but 4 numbers"),
    ],
)
def test_errors_name_file_key_and_what_it_must_be(tmp_path: Path, change: dict, told: str) -> None:
    path = tmp_path / "left.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(FROM_ROS) | change))
    with pytest.raises(CameraInfoError, match=told) as error:
        read_camera_info(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no camera_info file"),
        ("[1, 2]", "no camera_info file"),
        ("a: [1", "not valid YAML"),
        ("%YAML:1.0\n---\nK: !!opencv-matrix\n  rows: 3", "OpenCV FileStorage"),
    ],
)
def test_files_of_another_kind(text: str, told: str) -> None:
    with pytest.raises(CameraInfoError, match=told):
        parse_camera_info(text)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(CameraInfoError, match="no such camera_info file"):
        read_camera_info(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    with pytest.raises(CameraInfoError, match="is no text"):
        read_camera_info(tmp_path / "binary.yaml")
    with pytest.raises(CameraInfoError, match="cannot read"):
        read_camera_info(tmp_path)


def test_write_makes_the_folder_and_leaves_nothing_else(tmp_path: Path) -> None:
    info = parse_camera_info(FROM_ROS)
    path = tmp_path / "camera_info" / "left.yaml"
    write_camera_info(f"file://{path}", info)
    write_camera_info(path, info)
    assert_equal(read_camera_info(f"file://{path}"), info)
    assert os.listdir(path.parent) == ["left.yaml"]


def test_a_failing_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "left.yaml"
    write_camera_info(path, parse_camera_info(FROM_ROS))
    before = path.read_text()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(camera_info_file.os, "fsync", full_disk)
    with pytest.raises(CameraInfoError, match="No space left"):
        write_camera_info(path, parse_camera_info(FROM_ROS.replace("640", "320")))
    assert path.read_text() == before
    assert os.listdir(tmp_path) == ["left.yaml"]


def test_what_cannot_be_read_back_is_not_written(tmp_path: Path) -> None:
    good = parse_camera_info(FROM_ROS)
    for bad, told in (
        (CameraInfo(640, 480, good.K, np.zeros(3)), "has 3 numbers"),
        (CameraInfo(640, 480, np.zeros((3, 3))), "not calibrated"),
        (CameraInfo(640, 480, good.K, R=np.full((3, 3), np.nan)), "not finite"),
        (CameraInfo(640, 480, good.K, P=np.zeros((3, 3))), "shape"),
    ):
        with pytest.raises(CameraInfoError, match=told):
            write_camera_info(tmp_path / "bad.yaml", bad)
    assert os.listdir(tmp_path) == []


def test_size_mismatch_says_what_to_do() -> None:
    info = parse_camera_info(FROM_ROS)
    assert size_mismatch(info, 640, 480) is None
    assert "scaled by 2" in str(size_mismatch(info, 1280, 960))
    message = str(size_mismatch(info, 1280, 720))
    assert "640x480" in message
    assert "1280x720" in message
    assert "scaled" not in message
