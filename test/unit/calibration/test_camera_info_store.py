"""Where a camera's calibration lies and what becomes of one that is set: kept, read back, refused, not saved."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.calibration.camera_info_file import CameraInfoError, read_camera_info, write_camera_info
from edge_vision.calibration.camera_info_location import camera_info_path, camera_name_of
from edge_vision.calibration.camera_info_store import CameraInfoStore, is_calibrated, uncalibrated
from edge_vision.calibration.files import format_ros
from edge_vision.datatypes import CameraInfo

HOME = {"HOME": "/home/me"}
K = np.array([[533.123456789012, 0, 320.1], [0, 534.2, 240.7], [0, 0, 1]])
D = np.array([-0.28, 0.09, 1.23456789012e-3, -7e-4, -0.01])
GOOD = CameraInfo(640, 480, K, D)
SIZE = (640, 480)


@pytest.mark.parametrize(
    ("url", "environ", "path"),
    [
        ("", HOME, "/home/me/.ros/camera_info/front.yaml"),
        ("", HOME | {"ROS_HOME": "/var/ros"}, "/var/ros/camera_info/front.yaml"),
        ("file://${ROS_HOME}/x/${NAME}.yml", HOME, "/home/me/.ros/x/front.yml"),
        ("file:///etc/cameras/a.yaml", HOME, "/etc/cameras/a.yaml"),
        ("~/a.yaml", HOME, "/home/me/a.yaml"),
        ("file://~/a.yaml", HOME, "/home/me/a.yaml"),
        ("/a b/c.YAML", HOME, "/a b/c.YAML"),
    ],
)
def test_urls_mean_what_they_mean_to_camera_info_manager(url: str, environ: dict, path: str) -> None:
    assert camera_info_path(url, "front", environ) == Path(path)


def test_a_package_is_found_by_the_ament_index(tmp_path: Path) -> None:
    index = tmp_path / "two" / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "my_robot").touch()
    environ = HOME | {"AMENT_PREFIX_PATH": f"{tmp_path / 'one'}:{tmp_path / 'two'}"}
    found = camera_info_path("package://my_robot/config/front.yaml", "x", environ)
    assert found == tmp_path / "two" / "share" / "my_robot" / "config" / "front.yaml"
    with pytest.raises(CameraInfoError, match="'your_robot' is not found under AMENT_PREFIX_PATH"):
        camera_info_path("package://your_robot/a.yaml", "x", environ)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("flash:///x.yaml", "flash:// cannot be read; give a path"),
        ("/a/b.ini", r"convert \.ini"),
        ("/a/${CAMERA}.yaml", r"\$\{CAMERA\} is not known"),
        ("/a/folder", r"a calibration is a \.yaml file"),
    ],
)
def test_a_url_that_cannot_be_says_why(url: str, says: str) -> None:
    with pytest.raises(CameraInfoError, match=says):
        camera_info_path(url, "front", HOME)


@pytest.mark.parametrize(
    ("given_name", "namespace", "name"),
    [("left", "/robot", "left"), ("", "/robot/front", "robot_front"), ("", "/", "camera"), (" ", "", "camera")],
)
def test_the_name_of_a_camera(given_name: str, namespace: str, name: str) -> None:
    assert camera_name_of(given_name, namespace) == name


@given(st.text(min_size=1, max_size=12))
def test_no_name_leads_out_of_the_folder(text: str) -> None:
    try:
        name = camera_name_of(text, "")
    except CameraInfoError:
        return
    assert camera_info_path("", name, HOME).parent == Path("/home/me/.ros/camera_info")


def test_what_is_set_is_in_the_file_and_comes_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "front.yaml"
    store = CameraInfoStore(path, "front")
    store.load()
    assert store.problem is None
    assert store.choose(None) is None
    assert store.origin(None) == "none"
    outcome = store.set(replace(GOOD, camera_name="theirs", frame_id="theirs"), SIZE)
    assert outcome.success
    assert outcome.message == f"saved in {path}"
    assert store.origin(None) == f"set, in {path}"
    again = CameraInfoStore(path, "front", frame_id="optical")
    again.load()
    kept = again.choose(None)
    assert kept is not None
    assert again.origin(None) == str(path)
    assert (kept.camera_name, kept.frame_id, kept.distortion_model) == ("front", "optical", "plumb_bob")
    assert np.array_equal(kept.K, K)
    assert np.array_equal(kept.D, D)
    assert np.array_equal(kept.P[:, :3], K)  # zeros were given: of a camera by itself


def test_a_file_that_holds_it_already_keeps_what_its_writer_added(tmp_path: Path) -> None:
    path = tmp_path / "front.yaml"
    path.write_text(format_ros(replace(GOOD, P=np.hstack([K, np.zeros((3, 1))])), {"rms": 0.2}))
    near = K.copy()
    near[0, 0] *= 1 + 1e-13
    outcome = CameraInfoStore(path, "front").set(replace(GOOD, K=near, P=np.hstack([K, np.zeros((3, 1))])), SIZE)
    assert outcome.success
    assert outcome.message == f"{path} holds it already"
    assert yaml.safe_load(path.read_text())["edge_vision_calibration"] == {"rms": 0.2}


def test_what_holds_before_what(tmp_path: Path) -> None:
    path, of_source, other = tmp_path / "a.yaml", replace(GOOD, width=1), replace(GOOD, K=K * [[2], [2], [1]])
    write_camera_info(path, other)
    for asked_for in (True, False):
        store = CameraInfoStore(path, "a", asked_for=asked_for)
        store.load()
        chosen = store.choose(of_source)
        assert chosen is not None
        assert (chosen is of_source) != asked_for
        assert store.choose(None) is not None
        outcome = store.set(GOOD, SIZE, source_knows=True)
        assert ("the source's own calibration comes first" in outcome.message) != asked_for
        chosen = store.choose(of_source)
        assert chosen is not None
        assert np.array_equal(chosen.K, K)
        write_camera_info(path, other)


NAN = np.where(np.eye(3) > 0, np.nan, 0.0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"width": 320}, "is for 320x480, the images are 640x480"),
        ({"width": 0}, "width x height is 0x480"),
        ({"distortion_model": "thin_prism"}, "unknown distortion_model 'thin_prism'"),
        ({"D": np.zeros(3)}, "has 3 numbers, but distortion_model plumb_bob has 4 or 5"),
        ({"D": np.full(5, np.inf)}, "not finite"),
        ({"K": np.zeros((3, 3))}, r"fx and fy above 0 \(zeros mean not calibrated\)"),
        ({"K": NAN}, "K holds numbers that are not finite"),
        ({"K": -K}, "fx and fy above 0"),
        ({"R": NAN}, "R holds numbers that are not finite"),
        ({"R": np.eye(3) * 2}, "R is no rotation"),
        ({"P": np.full((3, 4), np.nan)}, "P holds numbers that are not finite"),
        ({"P": np.full((3, 4), -1.0)}, "P has no focal lengths"),
    ],
)
def test_what_cannot_be_right_is_refused_and_changes_nothing(tmp_path: Path, change: dict, says: str) -> None:
    path = tmp_path / "a.yaml"
    store = CameraInfoStore(path, "a")
    assert store.set(GOOD, SIZE).success
    before, text = store.choose(None), path.read_text()
    outcome = store.set(replace(GOOD, **change), SIZE)
    assert not outcome.success
    assert outcome.message.startswith("refused: ")
    assert re.search(says, outcome.message)
    assert store.choose(None) is before
    assert path.read_text() == text


def test_what_cannot_be_saved_holds_until_the_end(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file where the folder should be")
    store = CameraInfoStore(tmp_path / "blocked" / "a.yaml", "a")
    store.load()
    outcome = store.set(GOOD, SIZE)
    assert not outcome.success
    assert outcome.message.startswith("not saved: cannot write the camera_info file")
    assert store.choose(None) is not None
    assert store.origin(None) == "set, not saved"
    assert store.problem is not None
    (tmp_path / "blocked").unlink()
    assert store.set(GOOD, SIZE).success
    assert store.problem is None
    assert np.array_equal(read_camera_info(store.path).K, K)


def test_a_named_file_that_is_not_there_is_waited_for_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    store = CameraInfoStore(tmp_path / "a.yaml", "a", asked_for=True)
    store.load()
    assert "no such camera_info file" in (store.problem or "")
    assert store.set(GOOD, None).success
    assert store.problem is None
    store.path.write_text("image_width: many")
    with pytest.raises(CameraInfoError, match="image_width is 'many'"):
        store.load()
    unnamed = CameraInfoStore(store.path, "a")
    unnamed.load()
    assert "the calibration is not used" in (unnamed.problem or "")
    assert unnamed.choose(None) is None


def test_uncalibrated_is_the_size_and_zeros() -> None:
    info = uncalibrated(640, 480)
    assert (info.width, info.height) == (640, 480)
    assert not is_calibrated(info)
    assert not info.K.any()
    assert not info.P.any()
    assert is_calibrated(GOOD)
