"""The twin's camera: the lens against OpenCV's, the sensor against its own EMVA 1288 equations."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vision.simulation.camera import LENS, Sensor, distort, expose, intrinsics, undistort, undistortion_map
from edge_vision.simulation.conveyor import _box_kernel

FRAMES, SIDE = 24, 96


def flat_fields(sensor: Sensor, radiance: float) -> np.ndarray:
    scene = np.full((SIDE, SIDE, 3), radiance, np.float32)
    return np.stack([expose(scene, sensor, (1, index)) for index in range(FRAMES)]).astype(np.float64)


@given(st.floats(0, 639), st.floats(0, 479))
def test_distortion_is_opencvs(x: float, y: float) -> None:
    K = intrinsics(640, 480)
    ray = np.array([[(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], 1.0]])
    projected, _ = cv2.projectPoints(ray, np.zeros(3), np.zeros(3), K, LENS)
    np.testing.assert_allclose(distort(np.array([x, y]), K, LENS), projected[0, 0], atol=1e-9)


@given(st.floats(0, 1919), st.floats(0, 1079), st.floats(-1, 2))
def test_undistort_is_the_inverse(x: float, y: float, factor: float) -> None:
    K = intrinsics(1920, 1080)
    point = np.array([x, y])
    np.testing.assert_allclose(distort(undistort(point, K, factor * LENS), K, factor * LENS), point, atol=1e-3)


def test_undistortion_map_looks_where_the_lens_does() -> None:
    K = intrinsics(644, 483)
    seen = undistortion_map(644, 483, K, LENS)
    assert seen.shape == (483, 644, 2)
    y, x = np.mgrid[0:483, 0:644].astype(np.float64)
    exact = undistort(np.stack([x, y], -1), K, LENS)
    assert np.abs(seen - exact).max() < 0.02


@pytest.mark.parametrize("sensor", [Sensor(), Sensor(gain=2.5, read_noise=25.0), Sensor(exposure=0.001, gain=4.0)])
@pytest.mark.parametrize("radiance", [0.0, 0.1, 0.3])
def test_mean_and_variance_are_those_stated(sensor: Sensor, radiance: float) -> None:
    values = flat_fields(sensor, radiance)
    electrons = radiance * sensor.electrons_at_white
    mean = sensor.black_level + sensor.K * electrons
    variance = sensor.K**2 * (electrons + sensor.read_noise**2)
    assert mean + 5 * variance**0.5 < 255
    samples = values.size
    assert values.mean() == pytest.approx(mean, abs=4 * np.sqrt((variance + 1 / 12) / samples) + 0.01)
    # Rounding adds 1/12 DN^2 where the noise spans a step or more; below that its variance is no constant.
    if variance > 0.25:
        assert values.var() == pytest.approx(variance + 1 / 12, rel=0.015)


def test_photon_transfer_gives_the_gain_back() -> None:
    """EMVA 1288: K is the slope of temporal variance over mean above the dark ones."""
    sensor = Sensor(gain=1.7, read_noise=14.0)
    means, variances = [], []
    for radiance in np.linspace(0.02, 0.45, 12):
        pair = flat_fields(sensor, float(radiance))[:2]
        means.append(pair.mean())
        variances.append(((pair[0] - pair[1]) ** 2).mean() / 2)
    slope, offset = np.polyfit(np.array(means) - sensor.black_level, variances, 1)
    assert slope == pytest.approx(sensor.K, rel=0.02)
    assert offset == pytest.approx((sensor.K * sensor.read_noise) ** 2 + 1 / 12, rel=0.3)


def test_noise_is_independent_in_time_space_and_colour() -> None:
    values = flat_fields(Sensor(gain=3.0), 0.2)
    noise = (values - values.mean()) / values.std()
    for a, b in (
        (noise[:-1], noise[1:]),
        (noise[:, :-1], noise[:, 1:]),
        (noise[:, :, :-1], noise[:, :, 1:]),
        (noise[..., :-1], noise[..., 1:]),
    ):
        correlation = float((a * b).mean())
        assert abs(correlation) < 5 / np.sqrt(a.size)


def test_noise_is_normal() -> None:
    noise = flat_fields(Sensor(gain=8.0, exposure=0.001), 0.3)
    z = (noise - noise.mean()) / noise.std()
    assert abs(float((z**3).mean())) < 0.02
    assert float((z**4).mean()) == pytest.approx(3.0, abs=0.1)


def test_saturation_at_the_converter_and_at_the_full_well() -> None:
    assert flat_fields(Sensor(gain=4.0), 1.0).min() == 255
    small_well = Sensor(full_well=4000.0)
    ceiling = small_well.black_level + small_well.K * 4000
    assert flat_fields(small_well, 1.0).max() == round(ceiling) < 255


def test_without_a_key_there_is_no_noise() -> None:
    sensor = Sensor()
    radiance = np.linspace(0, 1, 300, dtype=np.float32).reshape(20, 15)
    expected = np.clip(np.rint(sensor.black_level + sensor.K * sensor.electrons_at_white * radiance), 0, 255)
    # The full well lies at 258 DN; ties in the rounding may go either way in float32.
    assert np.abs(expose(radiance, sensor).astype(int) - expected).max() <= 1
    assert (expose(radiance, sensor) == expected).mean() > 0.98


def test_uint8_and_float_radiance_agree() -> None:
    levels = np.arange(240, dtype=np.uint8).reshape(12, 20)
    np.testing.assert_array_equal(
        expose(levels, Sensor(), (4, 4)), expose(levels.astype(np.float32) / np.float32(255), Sensor(), (4, 4))
    )


def test_light_is_a_factor_number_or_image() -> None:
    scene = np.full((30, 40, 3), 0.6, np.float32)
    half = np.full_like(scene, 0.5)
    np.testing.assert_array_equal(expose(scene, Sensor(), None, half), expose(scene, Sensor(), None, 0.5))


@settings(max_examples=50)
@given(st.floats(0.2, 60))
def test_blur_kernel_is_a_box_of_that_length(length: float) -> None:
    kernel = _box_kernel(length)[0].astype(np.float64)
    assert kernel.sum() == pytest.approx(1.0, abs=1e-5)
    assert len(kernel) % 2 == 1
    np.testing.assert_allclose(kernel, kernel[::-1])
    assert (kernel > -1e-7).all()
    if length >= 1:
        assert kernel.max() == pytest.approx(1 / length, rel=1e-4)
        assert len(kernel) - 2 <= length <= len(kernel) + 1e-6
