"""The twin's lenses against OpenCV's, which share no code with them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vision.simulation.lens import COEFFICIENTS, FOCAL, Lens

MODELS = tuple(COEFFICIENTS)


def lens_of(model: str, width: int = 320, height: int = 240) -> Lens:
    f = FOCAL[model] * width
    return Lens(model, np.array([[f, 0, width / 2 + 2], [0, 1.01 * f, height / 2 - 3], [0, 0, 1.0]]),
                np.array(COEFFICIENTS[model]))  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_projects_as_opencv_does(model: str) -> None:
    lens = lens_of(model)
    points = np.random.default_rng(0).uniform([-0.5, -0.4, 0.8], [0.5, 0.4, 1.5], (200, 3))
    zero = np.zeros(3)
    if model == "equidistant":
        expected = cv2.fisheye.projectPoints(points[:, None], zero, zero, lens.K, lens.D)[0][:, 0]
    else:
        expected = cv2.projectPoints(points[:, None], zero, zero, lens.K, lens.D)[0][:, 0]
    np.testing.assert_allclose(lens.project(points), expected, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(MODELS), st.floats(0, 319), st.floats(0, 239))
def test_the_ray_of_a_pixel_leads_back_to_it(model: str, x: float, y: float) -> None:
    lens = lens_of(model)
    pixel = np.array([x, y])
    np.testing.assert_allclose(lens.project(3.7 * lens.unproject(pixel)), pixel, atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_rays_of_all_pixels_are_good_to_a_hundredth_of_a_pixel(model: str) -> None:
    lens = lens_of(model)
    rays, seen = lens.rays(320, 240, 1)
    assert rays.shape == (242, 322, 3)
    assert seen.all()
    x, y = np.meshgrid(np.arange(-1, 321), np.arange(-1, 241))
    np.testing.assert_allclose(lens.project(rays.astype(np.float64)), np.stack([x, y], -1), atol=0.02)


def test_where_a_lens_sees_nothing_there_is_no_ray() -> None:
    circle = Lens("equidistant", np.array([[60.0, 0, 159.5], [0, 60.0, 119.5], [0, 0, 1]]), np.zeros(4))
    assert np.isfinite(circle.unproject(np.array([159.5 + 60 * 3.1, 119.5]))).all()
    assert np.isnan(circle.unproject(np.array([159.5 + 60 * 3.2, 119.5]))).all()  # beyond half a turn
    folded = Lens("plumb_bob", circle.K, np.array([-0.3, 0, 0, 0, 0.0]))
    rays, seen = folded.rays(320, 240)
    assert seen[120, 160]
    assert not seen[0, 0]
    assert rays[0, 0].tolist() == [0, 0, -1]
    with np.errstate(all="raise"):
        assert np.isnan(folded.project(np.array([[0.1, 0.1, -1.0]]))).all()  # behind
