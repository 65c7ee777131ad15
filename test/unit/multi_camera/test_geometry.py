"""Pixels to the ground plane and back: against OpenCV's projection, plain formulas and Monte Carlo."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vision.datatypes import CameraInfo
from edge_vision.multi_camera import GroundPlane, JoinParameters, RigCamera, footprint
from edge_vision.multi_camera.rig import quaternion_matrix, rpy_matrix

K = np.array([[600.0, 0, 322.5], [0, 610.0, 236.0], [0, 0, 1]])
LENSES = {
    "none": ("plumb_bob", []),
    "plumb_bob": ("plumb_bob", [-0.2, 0.05, 0.001, -0.0007, 0.0]),
    "rational": ("rational_polynomial", [0.1, -0.05, 0.0005, 0.0002, 0.01, 0.05, 0.01, 0.002]),
    "equidistant": ("equidistant", [0.01, -0.004, 0.001, 0.0]),
}


def camera_info(lens: str = "plumb_bob") -> CameraInfo:
    model, D = LENSES[lens]
    return CameraInfo(640, 480, K, np.array(D), distortion_model=model)


def looking(position: tuple[float, float, float], yaw: float, down: float) -> np.ndarray:
    """plane_R_camera of a level camera that looks along ``yaw``, ``down`` rad below the horizon."""
    forward = np.array([np.cos(yaw) * np.cos(down), np.sin(yaw) * np.cos(down), -np.sin(down)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    return np.column_stack([right, np.cross(forward, right), forward])


poses = st.tuples(
    st.floats(-3, 3), st.floats(-3, 3), st.floats(1.5, 6), st.floats(-np.pi, np.pi), st.floats(0.35, np.pi / 2)
)


def projected(lens: str, position: np.ndarray, R: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """The image of ground points by OpenCV alone."""
    info = camera_info(lens)
    points = np.column_stack([ground, np.zeros(len(ground))])[:, None]
    rvec, tvec = cv2.Rodrigues(R.T)[0], -R.T @ position
    if lens == "equidistant":
        return cv2.fisheye.projectPoints(points, rvec, tvec, K, info.D)[0].reshape(-1, 2)
    return cv2.projectPoints(points, rvec, tvec, K, info.D if len(info.D) else None)[0].reshape(-1, 2)


@pytest.mark.parametrize("lens", LENSES)
@settings(max_examples=25, deadline=None)
@given(pose=poses)
def test_ground_points_projected_by_opencv_come_back(lens: str, pose: tuple[float, ...]) -> None:
    position, R = np.array(pose[:3]), looking(pose[:3], *pose[3:])
    plane = GroundPlane.from_pose(camera_info(lens), position, R)
    rays = np.array([[u, v, 1.0] for u in (-0.35, 0.0, 0.3) for v in (-0.1, 0.05, 0.25)]) @ R.T
    ground = position[:2] - position[2] * rays[:, :2] / rays[:, 2:]
    pixels = projected(lens, position, R, ground) + 0.5
    np.testing.assert_allclose(plane.to_plane(pixels), ground, atol=2e-3 * np.abs(ground - position[:2]).max())
    np.testing.assert_allclose(plane.to_image(ground), pixels, atol=1e-6)


def test_straight_down_by_hand() -> None:
    """3 m above the origin, image x along the plane's x: a pixel is 3 / f metres; image y goes against the plane's."""
    R = np.diag([1.0, -1.0, -1.0])
    plane = GroundPlane.from_pose(camera_info("none"), np.array([0, 0, 3.0]), R)
    found = plane.to_plane(np.array([[323.0, 236.5], [323.0 + 60, 236.5 + 122]]))
    np.testing.assert_allclose(found, [[0, 0], [60 / 600 * 3, -122 / 610 * 3]], atol=1e-12)


def test_above_the_horizon_is_nowhere() -> None:
    plane = GroundPlane.from_pose(camera_info("none"), np.array([0, 0, 2.0]), looking((0, 0, 2.0), 0.0, 0.2))
    horizon = 236.5 - 610 * np.tan(0.2)
    found = plane.to_plane(np.array([[320.0, horizon - 1], [320.0, horizon + 1], [320.0, -1e6], [np.nan, 3.0]]))
    assert np.isnan(found[[0, 2, 3]]).all()
    assert np.isfinite(found[1]).all()
    assert found[1, 0] > 500
    assert np.isnan(plane.to_image(np.array([[-5.0, 0.0]]))).all(), "behind the camera"


def test_pixels_outside_of_the_lens_model_are_nowhere() -> None:
    """A barrel of k1 = -0.2 alone folds back at r = 1.29: no point is imaged at the distorted radius of 1.2."""
    info = CameraInfo(640, 480, K, np.array([-0.2, 0.0, 0, 0, 0]))
    plane = GroundPlane.from_pose(info, np.array([0, 0, 3.0]), np.diag([1.0, -1.0, -1.0]))
    found = plane.to_plane(np.array([[322.5 + 600 * 1.2, 236.0], [400.0, 236.0]]))
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()


@settings(max_examples=25, deadline=None)
@given(pose=poses, scale=st.sampled_from([1.0, -3.0, 1e-3]))
def test_homography_is_the_pose_of_a_lens_without_distortion(pose: tuple[float, ...], scale: float) -> None:
    position, R = np.array(pose[:3]), looking(pose[:3], *pose[3:])
    for lens in ("none", "plumb_bob"):
        by_pose = GroundPlane.from_pose(camera_info(lens), position, R)
        matrix = scale * by_pose.matrix @ np.linalg.inv(K)  # scale, also negative: a homography has none of its own
        info = camera_info(lens)
        by_marks = GroundPlane.from_homography(matrix, (640, 480), info if lens != "none" else None)
        pixels = np.array([[320.0, 470], [100, 300], [600, 400.0]])
        np.testing.assert_allclose(by_marks.to_plane(pixels), by_pose.to_plane(pixels), rtol=1e-7, atol=1e-9)
        ground = by_pose.to_plane(pixels)
        np.testing.assert_allclose(by_marks.to_image(ground), pixels, atol=0.05)


@pytest.mark.parametrize("lens", ["none", "plumb_bob", "equidistant"])
def test_covariance_is_that_of_many_draws(lens: str) -> None:
    plane = GroundPlane.from_pose(camera_info(lens), np.array([0, 0, 4.0]), looking((0, 0, 4.0), 0.7, 0.6))
    point, spread = np.array([[420.0, 330.0]]), np.array([[[4.0, 1.5], [1.5, 2.0]]])
    _, covariance = plane.measure(point, spread)
    rng = np.random.default_rng(3)
    drawn = plane.to_plane(rng.multivariate_normal(point[0], spread[0], 40_000))
    np.testing.assert_allclose(covariance[0], np.cov(drawn.T), rtol=0.05, atol=0.02 * np.trace(covariance[0]))


def test_what_cannot_be_a_camera_is_refused() -> None:
    info = camera_info()
    with pytest.raises(ValueError, match="above the plane"):
        GroundPlane.from_pose(info, np.zeros(3), np.eye(3))
    with pytest.raises(ValueError, match="R R\\^T"):
        GroundPlane.from_pose(info, np.ones(3), 2 * np.eye(3))
    with pytest.raises(ValueError, match="mirrors"):
        GroundPlane.from_pose(info, np.ones(3), np.diag([1.0, 1, -1]))
    with pytest.raises(ValueError, match="singular"):
        GroundPlane.from_homography(np.ones((3, 3)), (640, 480))


@given(rpy=st.tuples(*[st.floats(-np.pi, np.pi)] * 3))
def test_rotations_are_turns_about_fixed_axes(rpy: tuple[float, float, float]) -> None:
    roll, pitch, yaw = (cv2.Rodrigues(angle * axis)[0] for angle, axis in zip(rpy, np.eye(3), strict=True))
    np.testing.assert_allclose(rpy_matrix(np.array(rpy)), yaw @ pitch @ roll, atol=1e-12)


@given(axis=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1), angle=st.floats(-3, 3))
def test_quaternions_are_turns_about_an_axis(axis: tuple[float, float, float], angle: float) -> None:
    unit = np.array(axis) / np.linalg.norm(axis)
    quaternion = 2.5 * np.append(np.sin(angle / 2) * unit, np.cos(angle / 2))
    np.testing.assert_allclose(quaternion_matrix(quaternion), cv2.Rodrigues(angle * unit)[0], atol=1e-12)


def test_a_footprint_ends_where_positions_get_too_vague() -> None:
    down = np.array([[1.0, 0, 0], [0, -np.sin(0.3), np.cos(0.3)], [0, -np.cos(0.3), -np.sin(0.3)]])  # 17 degrees down
    info = CameraInfo(640, 480, np.array([[500.0, 0, 319.5], [0, 500.0, 239.5], [0, 0, 1]]))
    camera = RigCamera("door", GroundPlane.from_pose(info, np.array([0, 0, 3.0]), down))
    near, far = (footprint(camera, JoinParameters(max_deviation=limit)) for limit in (0.5, 2.0))
    assert np.isfinite(far).all(), "the horizon is in the image, and not in the polygon"
    lower_edge = camera.plane.to_plane(np.array([[320.0, 480.0]]))[0, 1]
    assert near[:, 1].min() == pytest.approx(lower_edge, abs=0.05)
    assert lower_edge < near[:, 1].max() < far[:, 1].max() < 60.0
    assert np.abs(far[:, 0].sum()) < 1.0, "as much to the left as to the right"
    assert len(footprint(camera, JoinParameters(max_deviation=0.001))) == 0
