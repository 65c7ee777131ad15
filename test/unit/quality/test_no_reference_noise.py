"""Noise of one and of two frames against what was added."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
import pytest

from edge_vision.datatypes import Frame
from edge_vision.quality.exposure import exposure_of, grey_histogram
from edge_vision.quality.grey import grey_of
from edge_vision.quality.no_reference import QualityAnalyser, QualityParameters, analyse
from edge_vision.quality.noise import Noise, blocks_of, noise_of
from edge_vision.simulation import Conveyor, ConveyorOptions

SIGMAS = (1.0, 2.0, 3.0, 5.0, 10.0, 20.0)


@lru_cache(maxsize=8)
def twin(seed: int, noise: bool = False, **options: float) -> np.ndarray:
    return Conveyor(ConveyorOptions(seed=seed, noise=noise, **options)).render(20).frame.image


def with_noise(image: np.ndarray, sigma: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def measured(image: np.ndarray) -> Noise:
    grey = grey_of(image)
    return noise_of(blocks_of(grey.grey), grey.rounding, exposure_of(grey_histogram(grey.grey)).mean)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_noise_on_the_twin_is_within_three_percent(sigma: float) -> None:
    for seed in (3, 5):
        clean = cv2.cvtColor(twin(seed), cv2.COLOR_BGR2GRAY)
        found = [measured(with_noise(clean, sigma, k)).sigma for k in range(3)]
        assert np.mean(found) == pytest.approx(sigma, rel=0.03)
        assert found == pytest.approx([sigma] * 3, rel=0.05)  # one image's own chance is 1.2 %


@pytest.mark.parametrize("sigma", SIGMAS)
def test_noise_on_camera_png_is_within_three_percent(shared_data, sigma: float) -> None:
    clean = cv2.imread(str(shared_data / "quality/skimage_cc0/camera.png"), cv2.IMREAD_GRAYSCALE)
    own = measured(clean).sigma  # the photograph has noise by itself, rounded as well
    truth = math.sqrt(sigma**2 + own**2 + 1 / 12)
    assert own < 0.45
    found = [measured(with_noise(clean, sigma, k)).sigma for k in range(3)]
    assert np.mean(found) == pytest.approx(truth, rel=0.03)


@pytest.mark.parametrize(("exposure", "gain"), [(0.004, 1.0), (0.001, 4.0), (0.00025, 16.0)])
def test_shot_and_read_noise_of_the_twins_sensor(exposure: float, gain: float) -> None:
    conveyor = Conveyor(ConveyorOptions(seed=3, exposure=exposure, gain=gain))
    frame = conveyor.render(20, clean=True)
    sensor = conveyor.sensor
    assert frame.clean is not None
    electrons = np.clip(frame.clean.astype(float) - sensor.black_level, 0, None) / sensor.K
    variance = sensor.K**2 * (electrons + sensor.read_noise**2)  # the linear model, EMVA 1288
    luma = math.sqrt((variance * np.square([0.114, 0.587, 0.299])).sum(2).mean())
    assert analyse(frame.frame.image).noise_sigma == pytest.approx(luma, rel=0.05)
    channels = analyse(frame.frame.image, QualityParameters(channels=True)).noise_channels
    assert channels == pytest.approx(np.sqrt(variance.mean((0, 1))), rel=0.15)


def test_sixteen_bits_resolve_noise_below_a_step_of_eight() -> None:
    y, x = np.mgrid[0:240, 0:320]
    clean = 1600 + 900 * np.sin(x / 40) * np.cos(y / 30)
    image = np.rint(clean + np.random.default_rng(1).normal(0, 3.0, clean.shape)).astype(np.uint16)
    report = analyse(image, QualityParameters(bits=12))
    assert report.bits == 12
    assert report.noise_sigma == pytest.approx(3.0 * 255 / 4095, rel=0.05)
    assert report.mean == pytest.approx(clean.mean() * 255 / 4095, abs=0.5)


def test_two_frames_of_a_still_scene_are_exact() -> None:
    clean = cv2.cvtColor(twin(3), cv2.COLOR_BGR2GRAY)
    analyser = QualityAnalyser()
    for k in range(3):
        report = analyser.analyse(Frame(with_noise(clean, 4.0, k), stamp=k * 33_000_000))
    assert report.noise_method == "two_frame"
    assert report.noise_two_frame == pytest.approx(4.0, rel=0.02)
    assert report.noise_sigma == report.noise_two_frame


def test_two_frames_of_a_moving_scene_are_not_used() -> None:
    conveyor = Conveyor(ConveyorOptions(seed=3))
    analyser = QualityAnalyser()
    for k in range(3):
        report = analyser.analyse(conveyor.render(k).frame)
    assert report.noise_method == "single"
    assert math.isnan(report.noise_two_frame)


def test_a_brighter_second_frame_is_no_noise() -> None:
    clean = cv2.cvtColor(twin(3), cv2.COLOR_BGR2GRAY)
    analyser = QualityAnalyser()
    analyser.analyse(Frame(with_noise(clean, 2.0, 0)))
    report = analyser.analyse(Frame(with_noise(clean, 2.0, 1) + np.uint8(3), stamp=1))
    assert not report.noise_two_frame > 2.1


def test_a_constant_image_has_no_noise_and_a_flat_one_its_own() -> None:
    assert analyse(np.full((240, 320), 100, np.uint8)).noise_sigma == 0.0
    flat = np.full((240, 320), 100, np.uint8)
    assert analyse(with_noise(flat, 5.0, 0)).noise_sigma == pytest.approx(5.0, rel=0.03)
    dark = np.full((240, 320), 4, np.uint8)  # clipped at 0 for one value in five
    assert analyse(with_noise(dark, 5.0, 0)).noise_sigma == pytest.approx(5.0, rel=0.15)
