"""Sums against the definitions, written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vision.quality.sensor import (
    SensorDataError,
    SensorOptions,
    Stack,
    nonuniformity,
    pair_statistics,
    photons,
    stack_statistics,
)
from edge_vision.quality.sensor.spatial import spatial_variance


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), wide=st.booleans(), height=st.integers(1, 20), width=st.integers(1, 20))
def test_pair(seed: int, wide: bool, height: int, width: int) -> None:
    most = 65535 if wide else 255
    a, b = np.random.default_rng(seed).integers(0, most + 1, (2, height, width)).astype(np.uint16 if wide else np.uint8)
    found = pair_statistics(a, b, most)
    x, y = a.astype(float), b.astype(float)
    assert found.mean == pytest.approx((x.mean() + y.mean()) / 2)
    assert found.variance == pytest.approx(np.var(x - y) / 2, abs=1e-6 * most)
    assert found.zero_share == pytest.approx((np.sum(a == 0) + np.sum(b == 0)) / (2 * a.size))
    assert found.full_share == pytest.approx((np.sum(a == most) + np.sum(b == most)) / (2 * a.size))


def test_light_that_changed_between_two_frames_is_no_noise() -> None:
    a = np.random.default_rng(0).normal(100, 5, (200, 200)).round().astype(np.uint8)
    b = np.random.default_rng(1).normal(100, 5, (200, 200)).round().astype(np.uint8)
    assert pair_statistics(a, b + 10).variance == pytest.approx(pair_statistics(a, b).variance, rel=0.01)


@settings(deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(2, 9))
def test_stack(seed: int, count: int) -> None:
    frames = np.random.default_rng(seed).integers(0, 4096, (count, 6, 5)).astype(np.uint16)
    found = stack_statistics(iter(frames))
    assert found.count == count
    np.testing.assert_allclose(found.average, frames.mean(0))
    assert found.temporal_variance == pytest.approx(frames.var(0, ddof=1).mean())


def test_a_series_of_one_frame_is_none() -> None:
    with pytest.raises(ValueError, match="two frames"):
        stack_statistics([np.zeros((3, 3), np.uint8)])


def test_rows_columns_and_pixels_are_told_apart() -> None:
    rng = np.random.default_rng(5)

    def pattern(*shape: int) -> np.ndarray:
        z = rng.normal(size=shape)
        return (z - z.mean()) / z.std()

    average = 500 + 3 * pattern(300, 1) + 2 * pattern(1, 400) + 5 * pattern(300, 400)
    found = spatial_variance(Stack(50, average, 0.0))
    assert found.row == pytest.approx(9, rel=0.03)
    assert found.column == pytest.approx(4, rel=0.03)
    assert found.pixel == pytest.approx(25, rel=0.03)
    assert found.total == pytest.approx(38, rel=0.03)


def test_temporal_noise_is_no_nonuniformity() -> None:
    rng = np.random.default_rng(6)
    series = stack_statistics(rng.normal(800, 9, (40, 100, 120)).round().astype(np.uint16))
    found = spatial_variance(series)
    assert abs(found.total) < 2 * found.limit


def test_nonuniformity_needs_light() -> None:
    flat = Stack(10, np.full((8, 8), 100.0), 1.0)
    with pytest.raises(SensorDataError, match="not brighter"):
        nonuniformity(flat, flat, 0.5)


def test_tiny_images_have_no_rows_and_columns() -> None:
    with pytest.raises(SensorDataError, match="at least 3x3"):
        spatial_variance(Stack(10, np.zeros((1, 50)), 1.0))


def test_photons_of_an_irradiance() -> None:
    """mu_p = 50.34 A[um^2] t[ms] lambda[um] E[uW/cm^2]."""
    assert photons(0.002, 30.25, 530, 1.5) == pytest.approx(50.34 * 30.25 * 2 * 0.53 * 1.5, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"irradiance": 1.0}, "pixel pitch"),
        ({"irradiance": 1.0, "pixel_pitch": 5.0}, "wavelength"),
        ({"pixel_pitch": -2.0}, "more than 0"),
        ({"bits": 24}, "24 bits"),
        ({"channel": "infrared"}, "infrared"),
    ],
)
def test_options_that_cannot_be(options: dict, message: str) -> None:
    with pytest.raises(SensorDataError, match=message):
        SensorOptions(**options)
