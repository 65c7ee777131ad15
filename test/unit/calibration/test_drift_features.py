"""A reference of the twin's fixed surround while the belt moves: found again in other light, after a turn, or not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge_vision.benchmarks.drift import info_of
from edge_vision.calibration.drift import Limits, Stored
from edge_vision.calibration.drift_features import (
    Reference,
    SceneCheck,
    normalised,
    read_reference,
    take_reference,
    write_reference,
)
from edge_vision.calibration.drift_picture import draw_check
from edge_vision.calibration.drift_watching import Watcher
from edge_vision.calibration.models import rotation_matrices
from edge_vision.calibration.projection import Camera
from edge_vision.calibration.result import CalibrationError
from edge_vision.datatypes import NS_PER_S
from edge_vision.simulation import Conveyor, ConveyorOptions

SIZE = (960, 540)
CAMERA = Camera("plumb_bob", SIZE, np.array([700.0, 700, 480, 270, 0, 0, 0, 0, 0]))
STORED = Stored.of(info_of(CAMERA))


@pytest.fixture(scope="module")
def belt() -> list[np.ndarray]:
    scene = Conveyor(ConveyorOptions.from_uri(f"sim://conveyor?seed=3&width={SIZE[0]}&height={SIZE[1]}"))
    return [cv2.cvtColor(scene.render(i).frame.image, cv2.COLOR_BGR2GRAY) for i in (0, 20, 40, 60, 80, 150, 200)]


@pytest.fixture(scope="module")
def reference(belt) -> Reference:
    return take_reference(belt[:5], camera="front", stamp=7)


def seen(image: np.ndarray, f: float = 0.0, turn: float = 0.0) -> np.ndarray:
    """As the camera would see it with a longer focal length, turned by degrees about y."""
    K = STORED.info.K
    longer = K * [[1 + f, 1, 1], [1, 1 + f, 1], [1, 1, 1]]
    H = longer @ rotation_matrices([0, np.radians(turn), 0])[0] @ np.linalg.inv(K)
    return cv2.warpPerspective(image, H, SIZE, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def test_features_are_of_what_stays_not_of_the_belt(reference):
    rows = reference.points[:, 1]
    assert len(reference.points) >= 30
    assert ((rows < 80) | (rows > 460)).all()
    assert reference.noise < 0.1


@pytest.mark.parametrize("light", [1.0, 0.4, "gradient"])
def test_another_light_changes_nothing(belt, reference, light):
    share = np.linspace(0.4, 1.3, SIZE[0]) if light == "gradient" else light
    check = SceneCheck(STORED, reference).check(np.clip(belt[5] * share, 0, 255).astype(np.uint8))
    assert check.verdict == "valid", check.text
    assert check.figure("scene shift").value < 0.3


@pytest.mark.parametrize(
    ("change", "verdict", "cause"),
    [
        ({"f": 0.01}, "drifted", "lens"),
        ({"turn": 0.3}, "drifted", "mount"),
        ({"turn": 1.0}, "drifted", "mount"),
    ],
)
def test_a_drift_in_rendered_images_is_found(belt, reference, change, verdict, cause):
    check = SceneCheck(STORED, reference).check(seen(belt[5], **change), seen(belt[6], **change))
    assert (check.verdict, check.cause) == (verdict, cause), check.text
    if "turn" in change:
        assert abs(check.figure("rotation about y").value - change["turn"]) < 0.02
    else:
        assert abs(check.figure("shift of fx").value - 7) < 0.7


def test_a_camera_turned_farther_than_features_are_followed_is_turned_back_first():
    rng = np.random.default_rng(4)
    wall = cv2.GaussianBlur(rng.integers(0, 255, (SIZE[1], SIZE[0])).astype(np.uint8), (0, 0), 3)
    wall = cv2.normalize(wall, None, 0, 255, cv2.NORM_MINMAX)
    check = SceneCheck(STORED, take_reference([wall])).check(seen(wall, turn=7.0))
    assert (check.verdict, check.cause) == ("drifted", "mount"), check.text
    assert abs(check.figure("rotation about y").value - 7) < 0.05


def test_the_dark_and_another_place_are_unknown_and_another_size_is_told(belt, reference):
    scene = SceneCheck(STORED, reference)
    rng = np.random.default_rng(0)
    for image in (np.zeros(SIZE[::-1], np.uint8), rng.integers(0, 255, SIZE[::-1]).astype(np.uint8)):
        check = scene.check(image)
        assert check.verdict == "unknown"
        assert check.remedy
    assert scene.check(belt[0][::2, ::2].copy()).cause == "size"
    with pytest.raises(CalibrationError, match="the reference is of 480x270 px, the calibration of 960x540 px"):
        SceneCheck(STORED, take_reference([belt[0][::2, ::2].copy()]))


def test_a_reference_survives_its_file_and_other_files_are_refused(tmp_path, reference):
    path = tmp_path / "new folder" / "front.npz"
    write_reference(path, reference)
    again = read_reference(path)
    assert np.array_equal(again.image, reference.image)
    assert np.array_equal(again.points, reference.points)
    assert (again.noise, again.camera, again.stamp) == (reference.noise, "front", 7)
    for name, content in (("no.npz", b"text"), ("half.npz", path.read_bytes()[:5000])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CalibrationError, match=f"{name} is no reference|cannot read"):
            read_reference(tmp_path / name)
    with pytest.raises(CalibrationError, match=r"there is no reference .*Take one with"):
        read_reference(tmp_path / "none.npz")


def test_a_scene_without_features_gives_no_reference(belt):
    with pytest.raises(CalibrationError, match=r"only 0 features that stay where they are.*check with a board"):
        take_reference([np.full(SIZE[::-1], 90, np.uint8)] * 3)
    with pytest.raises(CalibrationError, match="images of one size"):
        take_reference([belt[0], belt[0][::2]])


def test_local_light_is_taken_out():
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(60, 180, (200, 300)).astype(np.uint8), (0, 0), 2)
    darker = np.clip(image * np.linspace(0.5, 1.2, 300), 0, 255).astype(np.uint8)
    assert np.corrcoef(normalised(image).ravel(), normalised(darker).ravel())[0, 1] > 0.9


def test_the_watcher_takes_a_reference_and_raises_an_alarm_that_lasts(belt):
    watcher = Watcher(limits=Limits(), hold=2.0)
    assert watcher.look(belt[0], 0).reason == "there is no calibration to check"
    watcher.use(STORED)
    assert watcher.look(belt[0], 0).reason == "there is no reference"
    with pytest.raises(CalibrationError, match="1 images were looked at so far, 3 are needed"):
        watcher.take_reference()
    for second in range(1, 5):
        watcher.look(belt[second], second * NS_PER_S)
    watcher.use(reference=watcher.take_reference("front"))
    assert watcher.look(belt[5], 10 * NS_PER_S).verdict == "valid"
    drifted = seen(belt[6], f=0.01)
    assert watcher.look(drifted, 11 * NS_PER_S).verdict == "drifted"
    assert watcher.alarm is None
    watcher.look(drifted, 13 * NS_PER_S)
    assert watcher.alarm is not None
    watcher.limit(Limits(lens=100.0, mount=100.0), 0.0)
    assert watcher.look(drifted, 14 * NS_PER_S).verdict == "valid"
    assert watcher.alarm is None


def test_the_picture_shows_arrows_and_words(belt, reference):
    for image in (seen(belt[5], f=0.01), np.zeros(SIZE[::-1], np.uint8)):
        check = SceneCheck(STORED, reference).check(image)
        picture = draw_check(image, check)
        assert picture.shape[1:] == (1280, 3)
        assert picture.shape[0] > 720
        yellow = (picture[:720] == (0, 220, 255)).all(axis=2).sum()
        assert (yellow > 500) == (check.verdict == "drifted")
        assert picture[720:].max() > 200
