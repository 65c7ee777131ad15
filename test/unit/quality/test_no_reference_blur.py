"""Blur and motion from edge profiles against what was done to the picture."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
import pytest

from edge_vision.benchmarks.degradations import motion_kernel
from edge_vision.quality.blur import Blur, blur_of
from edge_vision.quality.grey import pyramid_of
from edge_vision.quality.no_reference import analyse
from edge_vision.simulation import Conveyor, ConveyorOptions


@lru_cache(maxsize=4)
def twin(seed: int) -> np.ndarray:
    image = Conveyor(ConveyorOptions(seed=seed, noise=False)).render(20).frame.image
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)


def star(sigma: float) -> np.ndarray:
    """Straight edges in 24 directions, blurred by a Gaussian of ``sigma`` px, made at four times the size."""
    fine = 4
    image = np.zeros((480 * fine, 640 * fine), np.float32)
    y, x = np.mgrid[0 : 480 * fine, 0 : 640 * fine].astype(np.float32)
    for row in range(4):
        for column in range(6):
            angle = math.pi * (row * 6 + column) / 24
            u, v = x - (column * 100 + 70) * fine, y - (row * 110 + 75) * fine
            across = u * math.cos(angle) + v * math.sin(angle)
            along = v * math.cos(angle) - u * math.sin(angle)
            image[(np.abs(across) < 24 * fine) & (np.abs(along) < 40 * fine)] = 120
    image = cv2.GaussianBlur(image, (0, 0), sigma * fine)
    return cv2.resize(image, (640, 480), interpolation=cv2.INTER_AREA).round().astype(np.uint8) + 40


def blur(image: np.ndarray, noise: float = 0.3) -> Blur:
    return blur_of(pyramid_of(image), noise)


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0, 3.0, 4.0])
def test_sigma_of_straight_edges(sigma: float) -> None:
    assert blur(star(sigma)).sigma == pytest.approx(sigma, abs=0.25)


def test_noise_does_not_pass_for_sharpness() -> None:
    image = star(2.5)
    noisy = np.clip(image + np.random.default_rng(0).normal(0, 8, image.shape), 0, 255).astype(np.uint8)
    assert blur(noisy, 8.0).sigma == pytest.approx(blur(image).sigma, abs=0.5)
    sharp, soft = analyse(image), analyse(noisy)
    assert soft.sharpness == pytest.approx(sharp.sharpness, abs=0.02)


def test_blur_grows_and_sharpness_falls_on_the_twin() -> None:
    images = [twin(3), *(cv2.GaussianBlur(twin(3), (0, 0), s) for s in (1.0, 1.5, 2.5, 4.0))]
    reports = [analyse(image) for image in images]
    sigmas = [report.blur_sigma for report in reports]
    assert sigmas == sorted(sigmas)
    assert sigmas[2:] == pytest.approx([1.5, 2.5, 4.0], rel=0.3)
    sharpness = [report.sharpness for report in reports]
    assert sharpness == sorted(sharpness, reverse=True)


@pytest.mark.parametrize(("length", "angle"), [(8, 0), (10, 30), (12, 60), (15, 90), (12, 135)])
def test_length_and_direction_of_motion(length: float, angle: float) -> None:
    image = cv2.filter2D(twin(5), -1, motion_kernel(length, angle))
    found = blur(image)
    assert found.length == pytest.approx(length, rel=0.3)
    assert abs((found.angle - angle + 90) % 180 - 90) < 12
    assert analyse(image).cause == "motion_blurred"


def test_no_edges_no_blur() -> None:
    found = blur(np.full((240, 320), 90, np.uint8))
    assert math.isnan(found.sigma)
    assert found.edges == 0
    report = analyse(np.full((240, 320), 90, np.uint8))
    assert math.isnan(report.verdict("blurred").severity)


def test_a_photograph_that_is_known_to_be_moved(shared_data) -> None:
    image = cv2.imread(str(shared_data / "quality/skimage_cc0/clock_motion.png"), cv2.IMREAD_GRAYSCALE)
    report = analyse(image)
    assert report.cause == "motion_blurred"
    assert abs((report.motion_angle + 90) % 180 - 90) < 25  # along x
