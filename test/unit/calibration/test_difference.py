"""Two calibrations differ by what a turn of the camera cannot undo."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vision.calibration.camera_info_file import CameraInfoError
from edge_vision.calibration.difference import difference, image_grid
from edge_vision.calibration.models import rotation_matrices
from edge_vision.calibration.projection import Camera

PLUMB_BOB = Camera("plumb_bob", (1280, 720), np.array([900.0, 905, 650, 350, -0.3, 0.1, 1e-3, -1e-3, 0]))
FISHEYE = Camera("equidistant", (1280, 720), np.array([420.0, 420, 640, 360, 0.02, -0.01, 0.001, 0]))


def moved(camera: Camera, **changes: float) -> Camera:
    parameters = camera.parameters.copy()
    for name, change in changes.items():
        parameters[camera.parameter_names.index(name)] += change
    return replace(camera, parameters=parameters)


@pytest.mark.parametrize("camera", [PLUMB_BOB, FISHEYE])
def test_a_calibration_differs_from_itself_by_nothing(camera):
    found = difference(camera, camera)
    assert found.largest < 1e-6
    assert found.turn_degrees < 1e-8


def test_a_shifted_principal_point_is_a_turn_of_the_camera():
    shifted = moved(PLUMB_BOB, cx=10.0)
    as_it_is = difference(PLUMB_BOB, shifted, compensate=False)
    np.testing.assert_allclose(as_it_is.vectors.reshape(-1, 2), np.tile([10.0, 0.0], (31 * 23, 1)), atol=1e-6)
    turned = difference(PLUMB_BOB, shifted)
    assert turned.centre < 0.5
    assert turned.turn_degrees == pytest.approx(np.degrees(10 / 900), rel=0.1)


def test_a_longer_focal_length_is_no_turn():
    found = difference(PLUMB_BOB, moved(PLUMB_BOB, fx=9.0, fy=9.05))
    assert found.centre < 0.2
    assert min(found.corners) > 4
    outward = found.vectors[0, 0]
    assert outward[0] < 0
    assert outward[1] < 0


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-0.03, 0.03), min_size=3, max_size=3))
def test_the_turn_that_is_fitted_is_the_one_between_the_cameras(turn):
    """What A sees through a turned mount is fitted by the turn: the residual of its definition is zero."""
    rays = FISHEYE.unproject(image_grid(FISHEYE.image_size, 9, 7).reshape(-1, 2))
    seen = FISHEYE.project(rays @ rotation_matrices(np.array(turn))[0].T)
    assert np.isfinite(seen).all()

    class Turned(Camera):
        def project_with_jacobians(self, points):
            R = rotation_matrices(np.array(turn))[0]
            pixels, by_parameters, by_points = super().project_with_jacobians(points @ R.T)
            return pixels, by_parameters, by_points @ R

        def project(self, points):
            return super().project(points @ rotation_matrices(np.array(turn))[0].T)

    found = difference(FISHEYE, Turned(FISHEYE.model, FISHEYE.image_size, FISHEYE.parameters))
    assert found.largest < 1e-5
    np.testing.assert_allclose(found.rotation, -np.array(turn), atol=1e-6)


def test_at_a_distance_a_shift_is_taken_out_too():
    longer = moved(PLUMB_BOB, fx=9.0, fy=9.05)
    far, near = difference(PLUMB_BOB, longer), difference(PLUMB_BOB, longer, distance=1.0)
    assert near.rms < far.rms / 4  # one per cent of focal length is one per cent of the distance, here
    assert near.translation[2] == pytest.approx(-0.01, abs=0.003) or near.translation[2] == pytest.approx(
        0.01, abs=0.003
    )


def test_models_may_differ():
    pinhole = Camera("plumb_bob", (640, 480), np.array([500.0, 500, 320, 240, 0, 0, 0, 0, 0]))
    rational = Camera("rational_polynomial", (640, 480), np.array([500.0, 500, 320, 240, *np.zeros(8)]))
    assert difference(pinhole, rational).largest < 1e-6


def test_images_of_another_size_cannot_be_compared():
    with pytest.raises(CameraInfoError, match="1280x720 and 640x480"):
        difference(PLUMB_BOB, replace(PLUMB_BOB, image_size=(640, 480)))
