"""Warps from rotations and from images, and what they do to tracking."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.datatypes import Detections
from edge_vision.tracking import PRESETS, Tracker
from edge_vision.tracking.camera_motion import (
    SparseFlow,
    angular_velocity_rotation,
    as_homography,
    compose,
    rotation_homography,
)

K = np.array([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]])


@given(st.integers(0, 2**32 - 1))
def test_a_rotation_moves_pixels_as_the_camera_model_says(seed: int) -> None:
    """Project a far point through the camera before and after its turn."""
    rng = np.random.default_rng(seed)
    point = np.array([*rng.uniform(-5, 5, 2), 20.0])
    rotation = cv2.Rodrigues(rng.normal(0, 0.1, 3))[0]
    warp = rotation_homography(K, rotation)
    before, after = K @ point, K @ (rotation @ point)
    mapped = warp @ (before / before[2])
    np.testing.assert_allclose(mapped[:2] / mapped[2], after[:2] / after[2], rtol=1e-7, atol=1e-6)


def test_a_camera_that_pans_right_sees_the_world_go_left() -> None:
    """Right-handed, y down: a turn to the right is positive about y."""
    warp = rotation_homography(K, angular_velocity_rotation(np.array([0.0, 0.3, 0.0]), 0.1))
    x, y, w = warp @ [320.0, 240.0, 1.0]
    assert x / w == pytest.approx(320 - 500 * np.tan(0.03))
    assert y / w == pytest.approx(240)


def test_composition_is_one_warp_after_the_other() -> None:
    rng = np.random.default_rng(1)
    warps = [np.hstack([np.eye(2) + rng.normal(0, 0.05, (2, 2)), rng.normal(0, 20, (2, 1))]) for _ in range(4)]
    point = np.array([100.0, 50.0])
    for affine in warps:
        point = affine[:, :2] @ point + affine[:, 2]
    np.testing.assert_allclose((compose(warps) @ [100, 50, 1])[:2], point)
    assert (compose([]) == np.eye(3)).all()


def test_what_is_no_warp_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got an array of shape \(2, 2\)"):
        as_homography(np.eye(2))
    with pytest.raises(ValueError, match="pass None for a frame"):
        as_homography(np.full((2, 3), np.nan))
    with pytest.raises(ValueError, match="uncalibrated camera"):
        rotation_homography(np.zeros((3, 3)), np.eye(3))
    with pytest.raises(ValueError, match="no rotation matrix"):
        rotation_homography(K, 2 * np.eye(3))
    with pytest.raises(ValueError, match="2 x 3 affine"):
        Tracker().update(Detections(), np.zeros(6))


def scene(shift: tuple[float, float], angle: float = 0.0, size: tuple[int, int] = (640, 480)) -> np.ndarray:
    """A textured world, seen by a camera that has moved: blurred noise, and squares."""
    rng = np.random.default_rng(7)
    world = cv2.GaussianBlur(rng.integers(0, 255, (size[1] + 200, size[0] + 200), dtype=np.uint8), (0, 0), 2.0)
    world = cv2.normalize(world, None, 0, 255, cv2.NORM_MINMAX)
    for x, y in rng.integers(50, 600, (60, 2)).tolist():
        cv2.rectangle(world, (x, y), (x + 12, y + 9), int(rng.integers(0, 255)), -1)
    middle = (world.shape[1] / 2, world.shape[0] / 2)
    matrix = cv2.getRotationMatrix2D(middle, angle, 1.0)
    matrix[:, 2] += np.array(shift) - 100
    return cv2.warpAffine(world, matrix, size)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("width", [640, 320])
def test_flow_finds_the_motion_of_the_camera(width: int, colour: bool) -> None:
    flow = SparseFlow(max_width=width)
    first, second = scene((0, 0)), scene((9.0, -5.0), 1.5)
    if colour:
        first, second = cv2.cvtColor(first, cv2.COLOR_GRAY2BGR), cv2.cvtColor(second, cv2.COLOR_GRAY2BGR)
    assert flow.update(first) is None
    warp = flow.update(second)
    assert warp is not None
    assert flow.milliseconds > 0
    # The same world point in both views, corner coordinates (half a pixel from OpenCV's).
    middle = (420.0, 340.0)
    turn = cv2.getRotationMatrix2D(middle, 1.5, 1.0)
    for x, y in ((100.0, 100.0), (500.0, 400.0), (320.0, 240.0)):
        world = np.array([x - 0.5 + 100, y - 0.5 + 100, 1.0])
        expected = turn @ world + np.array([9.0, -5.0]) - 100 + 0.5
        np.testing.assert_allclose((warp @ [x, y, 1.0])[:2], expected, atol=0.6)


def test_flow_leaves_out_what_moves_by_itself() -> None:
    """Most of the image is one large thing that moves; with its box left out, the camera stands still."""
    first = scene((0, 0))
    second = first.copy()
    second[60:460, 60:580] = scene((12.0, 0.0))[60:460, 60:580]
    flow = SparseFlow(max_width=640)
    flow.update(first)
    warp = flow.update(second, np.array([[48.0, 48.0, 592.0, 472.0]]))
    assert warp is not None
    np.testing.assert_allclose(warp, np.eye(3), atol=0.1)


def test_flow_without_anything_to_see() -> None:
    flow = SparseFlow()
    blank = np.zeros((480, 640), np.uint8)
    assert flow.update(blank) is None
    assert flow.update(blank) is None
    assert flow.update(scene((0, 0))) is None, "nothing in the previous image"
    assert flow.update(scene((0, 0), size=(320, 240))) is None, "another size"
    assert flow.update(scene((2, 0), size=(320, 240))) is not None
    flow.reset()
    assert flow.update(scene((0, 0), size=(320, 240))) is None
    deep = scene((3.0, 0.0)).astype(np.uint16) * 257
    assert flow.update(deep) is None
    warp = flow.update(deep)
    assert warp is not None
    np.testing.assert_allclose(warp, np.eye(3), atol=0.05)


def pan(rate: float, warped: bool, preset: str) -> list[int]:
    """Three people, 60 px apart, stand still while the camera swings: ids after two seconds."""
    tracker = Tracker.from_preset(preset)
    at, last = 0.0, 0.0
    for step in range(round(2 * rate)):
        t = step / rate
        at = 200.0 * np.sin(3.0 * t)
        centres = np.array([[300.0 + 60 * k + at, 200.0] for k in range(3)])
        boxes = np.hstack([centres - [20, 40], centres + [20, 40]]).astype(np.float32)
        found = Detections(boxes, np.full(3, 0.9, np.float32), np.zeros(3, np.int64), ("person",), stamp=round(t * 1e9))
        warp = np.array([[1.0, 0, at - last], [0, 1, 0]]) if warped else None
        last = at
        tracks = tracker.update(found, warp)
    return tracks.ids.tolist()


@pytest.mark.parametrize("rate", [5, 30])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_warp_keeps_ids_while_the_camera_pans(preset: str, rate: float) -> None:
    assert pan(rate, True, preset) == [1, 2, 3]


def test_without_the_warp_a_panning_camera_at_a_low_rate_loses_them() -> None:
    """What the warp is for: at 5 frames/s the people jump by more than the gap between them."""
    assert pan(5, False, "bytetrack") != [1, 2, 3]
