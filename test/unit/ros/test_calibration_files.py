"""The files of the calibration node: where they lie, what is written, what counts as the same."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.calibration.boards import BoardError, find_board
from edge_vision.calibration.camera_info_file import CameraInfoError, read_camera_info
from edge_vision.calibration.camera_info_location import filled_in
from edge_vision.datatypes import CameraInfo
from edge_vision.ros.calibration_files import (
    difference,
    holds_already,
    write_camera_info_file,
)

K = np.array([[533.0123456789012, 0, 341.9], [0, 533.7, 234.1], [0, 0, 1.0]])
INFO = CameraInfo(
    640, 480, K, np.array([-0.28123456789, 0.1, 1e-4, -3e-5, 0.2]), np.eye(3), np.hstack([K, np.zeros((3, 1))])
)


def test_folders_are_filled_in_as_ros_has_them(monkeypatch) -> None:
    monkeypatch.setenv("ROS_HOME", "/data/ros")
    assert filled_in("${ROS_HOME}/calibration/${NAME}", "left") == "/data/ros/calibration/left"
    monkeypatch.delenv("ROS_HOME")
    assert filled_in("${ROS_HOME}/calibration", "left") == os.path.expanduser("~/.ros/calibration")
    assert filled_in("", "left") == ""


def test_what_is_written_reads_back_and_other_readers_pass_over_the_record(tmp_path) -> None:
    path = tmp_path / "deep" / "c.yaml"
    record = {"verdict": "good", "rms": 0.21, "sigmas": {"fx": 0.1}}
    write_camera_info_file(path, INFO, record)
    assert difference(INFO, read_camera_info(path)) == ""
    content = yaml.safe_load(path.read_text())
    assert content["edge_vision_calibration"] == record
    assert content["camera_matrix"]["data"][0] == K[0, 0], "all digits"
    assert holds_already(path, INFO, record)
    assert not holds_already(path, INFO)
    assert not holds_already(path, replace(INFO, K=K + np.eye(3) * [1e-9, 0, 0]), record)
    assert not holds_already(tmp_path / "none.yaml", INFO)
    assert [file.name for file in path.parent.iterdir()] == ["c.yaml"], "nothing is left beside it"


def test_a_file_that_cannot_be_written_is_named_and_the_old_one_stays(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CameraInfoError, match=r"cannot write .*file/c\.yaml"):
        write_camera_info_file(tmp_path / "file" / "c.yaml", INFO)
    path = tmp_path / "c.yaml"
    write_camera_info_file(path, INFO)
    with pytest.raises(CameraInfoError, match="not finite"):
        write_camera_info_file(path, replace(INFO, D=np.array([np.nan, 0, 0, 0, 0])))
    assert holds_already(path, INFO)


@given(st.sampled_from(["K", "R", "P", "D"]), st.integers(0, 4), st.sampled_from([1e-7, 0.1, np.nan]))
def test_a_number_that_differs_is_named(name: str, index: int, by: float) -> None:
    array = getattr(INFO, name).copy()
    array.ravel()[index] += by * max(1.0, abs(array.ravel()[index]))
    assert difference(INFO, replace(INFO, **{name: array})).startswith(f"{name}[{index}] ")


def test_what_is_the_same_in_other_words_is_the_same() -> None:
    assert difference(INFO, replace(INFO, camera_name="other", frame_id="x", K=K + np.eye(3) * [1e-10, 0, 0])) == ""
    short = replace(INFO, D=np.array([-0.2, 0.1, 0.0, 0.0]))
    assert difference(short, replace(short, D=np.array([-0.2, 0.1, 0, 0, 0]))) == ""
    assert difference(short, replace(short, D=np.array([-0.2, 0.1, 0, 0, 0.3]))) == "D[4] 0.3 instead of 0"
    assert difference(INFO, replace(INFO, width=320)) == "images of 320x480 instead of 640x480"
    assert "distortion_model (none)" in difference(INFO, replace(INFO, distortion_model=""))


def test_boards_by_file_and_by_name(tmp_path) -> None:
    assert find_board("charuco_9x7_25mm").kind == "charuco"
    own = tmp_path / "own.yaml"
    own.write_text("kind: chessboard\ncolumns: 7\nrows: 5\nspacing: 0.03\n")
    assert find_board(str(own)).columns == 7
    with pytest.raises(ValueError, match=r"no board 'carucho'; give a YAML file .*charuco_9x7_25mm"):
        find_board("carucho")
    with pytest.raises(ValueError, match="no board ''"):
        find_board("")
    with pytest.raises(BoardError, match="no such board file"):
        find_board(str(tmp_path / "none.yaml"))
