"""Projection of the three camera models against OpenCV's, its derivatives against differences, and its inverse."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vision.calibration.models import (
    bow_shape,
    bowed,
    matrix_of,
    parameters_of,
    project,
    project_with_jacobian,
    rotation_matrices,
    rotation_vectors,
    unproject,
)
from edge_vision.calibration.result import CalibrationError

CAMERAS = {
    "plumb_bob": [533.1, 530.2, 342.3, 233.9, -0.29, 0.10, 0.0011, -0.0013, 0.02],
    "rational_polynomial": [2072.7, 2076.2, 3004.6, 1997.1, 0.44, 0.021, 3e-4, -2e-4, 6e-5, 0.73, 0.082, 0.001],
    "equidistant": [285.4, 286.1, 319.2, 241.7, 0.041, -0.012, 0.003, -0.001],
}


def points(model: str, count: int = 200) -> np.ndarray:
    generator = np.random.default_rng(4)
    spread = 1.2 if model == "rational_polynomial" else 0.6
    xyz = generator.uniform(-spread, spread, (count, 3))
    xyz[:, 2] = generator.uniform(0.7, 2.0, count)
    return xyz


@pytest.mark.parametrize("model", CAMERAS)
def test_projects_as_opencv_does(model: str) -> None:
    parameters = np.array(CAMERAS[model])
    K, D = matrix_of(parameters), parameters[4:]
    xyz = points(model)
    none = np.zeros(3)
    if model == "equidistant":
        expected = cv2.fisheye.projectPoints(xyz.reshape(-1, 1, 3), none, none, K, D.reshape(4, 1))[0]
    else:
        expected = cv2.projectPoints(xyz, none, none, K, D)[0]
    np.testing.assert_allclose(project(model, parameters, xyz), expected.reshape(-1, 2), atol=1e-9)
    np.testing.assert_array_equal(parameters_of(model, K, D), parameters)


@pytest.mark.parametrize("model", CAMERAS)
def test_derivatives_are_those_of_differences(model: str) -> None:
    parameters = np.array(CAMERAS[model])
    xyz = points(model, 50).T
    _, by_parameters, by_points = project_with_jacobian(model, parameters, xyz)
    for index in range(len(parameters)):
        step = np.zeros(len(parameters))
        step[index] = 1e-6 * max(abs(parameters[index]), 1.0)
        high, *_ = project_with_jacobian(model, parameters + step, xyz)
        low, *_ = project_with_jacobian(model, parameters - step, xyz)
        difference = (high - low) / (2 * step[index])
        np.testing.assert_allclose(by_parameters[:, index], difference, rtol=1e-5, atol=1e-5)
    for axis in range(3):
        step = np.zeros((3, 1))
        step[axis] = 1e-6
        high, *_ = project_with_jacobian(model, parameters, xyz + step)
        low, *_ = project_with_jacobian(model, parameters, xyz - step)
        np.testing.assert_allclose(by_points[:, axis], (high - low) / 2e-6, rtol=1e-5, atol=1e-4)


@given(st.sampled_from(sorted(CAMERAS)), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(0.8, 5.0))
@settings(max_examples=60, deadline=None)
def test_a_ray_comes_back_from_its_pixel(model: str, x: float, y: float, z: float) -> None:
    parameters = np.array(CAMERAS[model])
    direction = np.array([[x, y, z]]) / np.linalg.norm([x, y, z])
    ray = unproject(model, parameters, project(model, parameters, direction))
    np.testing.assert_allclose(ray, direction, atol=1e-9)


def test_equidistant_sees_beyond_ninety_degrees_and_a_pinhole_does_not() -> None:
    angle = np.radians([0.0, 60.0, 89.9, 90.0, 100.0])
    rays = np.stack([np.sin(angle), np.zeros(5), np.cos(angle)], axis=1)
    ideal = np.array([200.0, 200.0, 320.0, 240.0, 0.0, 0.0, 0.0, 0.0])
    pixels = project("equidistant", ideal, rays)
    np.testing.assert_allclose(pixels[:, 0] - 320.0, 200.0 * angle, atol=1e-9)
    np.testing.assert_allclose(unproject("equidistant", ideal, pixels), rays, atol=1e-12)
    pinhole = project("plumb_bob", np.array(CAMERAS["plumb_bob"]), rays)
    assert np.isfinite(pinhole[:3]).all()
    assert np.isnan(pinhole[4]).all()


def test_a_pixel_that_no_ray_reaches_is_marked() -> None:
    # r (1 - 0.3 r^2) grows up to r = 1.054, where it is 0.703: beyond there is nothing.
    folding = np.array([100.0, 100.0, 0.0, 0.0, -0.3, 0.0, 0.0, 0.0, 0.0])
    rays = unproject("plumb_bob", folding, [[69.0, 0.0], [71.0, 0.0], [0.0, 500.0]])
    assert np.isfinite(rays[0]).all()
    assert rays[0, 0] / rays[0, 2] < 1.054
    assert np.isnan(rays[1:]).all()
    bent = np.array([100.0, 100.0, 0.0, 0.0, -0.1, 0.0, 0.0, 0.0])  # a - 0.1 a^3 grows up to 1.2172 at a = 1.8257
    rays = unproject("equidistant", bent, [[121.0, 0.0], [122.5, 0.0]])
    assert np.isfinite(rays[0]).all()
    assert np.isnan(rays[1]).all()


def test_opencv_s_longer_vector_is_taken_where_it_is_zero() -> None:
    K = matrix_of(np.array(CAMERAS["plumb_bob"]))
    assert len(parameters_of("plumb_bob", K, np.r_[-0.3, 0.1])) == 9
    assert len(parameters_of("rational_polynomial", K, np.r_[np.full(8, 0.1), np.zeros(6)])) == 12
    with pytest.raises(CalibrationError, match="5 coefficients, 8"):
        parameters_of("plumb_bob", K, np.full(8, 0.1))
    with pytest.raises(CalibrationError, match=r"unknown camera model 'fisheye'.*equidistant"):
        parameters_of("fisheye", K, np.zeros(4))


@given(st.lists(st.floats(-3.0, 3.0), min_size=3, max_size=3))
@settings(max_examples=80, deadline=None)
def test_rotations_there_and_back(vector: list[float]) -> None:
    matrix = rotation_matrices(vector)[0]
    np.testing.assert_allclose(matrix, cv2.Rodrigues(np.array(vector))[0], atol=1e-12)
    back = rotation_matrices(rotation_vectors(matrix)[0])[0]
    np.testing.assert_allclose(back, matrix, atol=1e-12)


def test_half_turns_have_a_vector() -> None:
    for axis in (*np.eye(3), np.array([0.6, 0.0, -0.8])):
        matrix = 2.0 * np.outer(axis, axis) - np.eye(3)
        vector = rotation_vectors(matrix)[0]
        assert np.linalg.norm(vector) == pytest.approx(np.pi, abs=1e-9)
        np.testing.assert_allclose(rotation_matrices(vector)[0], matrix, atol=1e-9)


def test_a_bow_bends_the_middle_and_leaves_the_corners() -> None:
    row, column = np.indices((5, 7)).reshape(2, -1)
    flat = np.stack([column * 0.03, row * 0.03, np.zeros(35)], axis=1)
    bent = bowed(flat, (0.001, -0.0004))
    np.testing.assert_allclose(bent[[0, 6, 28, 34], 2], 0.0, atol=1e-15)
    assert bent[17, 2] == pytest.approx(0.0006)
    assert bow_shape(flat).shape == (2, 35)
    np.testing.assert_array_equal(bent[:, :2], flat[:, :2])
