"""Brightness: by tables where it is needed, and by the camera's exposure in a closed loop with the twin."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import replace

import cv2
import numpy as np
import pytest

from edge_vision.datatypes import Frame, QualityReport
from edge_vision.enhance import EnhanceParameters, Enhancer, ExposureController, ExposureLimits, Setting
from edge_vision.enhance.brightness import ToneFollower, equalised, gamma_for, needed_tone, stretched
from edge_vision.quality.exposure import exposure_of, grey_histogram
from edge_vision.quality.full_reference import psnr, ssim
from edge_vision.simulation import Conveyor, ConveyorOptions
from edge_vision.sources import open_source


def figures(image: np.ndarray, stamp: int = 0) -> QualityReport:
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    e = exposure_of(grey_histogram(grey))
    return QualityReport(p1=e.p1, p99=e.p99, median=e.median, clipped_bright=e.clipped_bright, stamp=stamp)


def test_a_stretch_takes_the_percentiles_to_the_targets() -> None:
    tone = stretched(100, 140)
    assert (tone.table[100], tone.table[140]) == (18, 180)
    assert tone.gain == pytest.approx(162 / 40)
    assert np.all(np.diff(tone.table.astype(int)) >= 0)


def test_a_gamma_takes_the_median_to_its_goal() -> None:
    tone = gamma_for(30, 60)
    assert tone.table[30] == 60
    assert (tone.table[0], tone.table[255]) == (0, 255)
    assert tone.gain == pytest.approx((int(tone.table[31]) - int(tone.table[29])) / 2, abs=0.5)


@pytest.mark.parametrize("exposure", [0.0002, 0.0004, 0.001])
def test_dark_frames_come_nearer_to_the_well_exposed_one(exposure) -> None:
    good = Conveyor(ConveyorOptions(seed=1)).render(5).frame.image
    dark = Conveyor(ConveyorOptions(seed=1, exposure=exposure)).render(5).frame
    enhancer = Enhancer()
    result = enhancer.enhance(dark).image
    assert enhancer.applied[0] == "stretch"
    assert psnr(result, good, colour=True) > psnr(dark.image, good, colour=True) + 4
    assert ssim(result, good) > ssim(dark.image, good) + 0.2


def test_foggy_frames_come_nearer_to_the_clear_one() -> None:
    clear = Conveyor(ConveyorOptions(seed=1)).render(5).frame.image
    fog = np.clip(clear * 0.2 + 110, 0, 255).astype(np.uint8)
    result = Enhancer().enhance(Frame(fog)).image
    assert psnr(result, clear) > psnr(fog, clear) + 8
    assert ssim(result, clear) > ssim(fog, clear) + 0.2


@pytest.mark.parametrize("level", [0, 3, 90, 255])
def test_a_flat_picture_has_nothing_to_bring_out(level) -> None:
    image = np.full((48, 64, 3), level, np.uint8)
    assert needed_tone(figures(image)) is None
    frame = Frame(image)
    assert Enhancer().enhance(frame) is frame


def test_a_scene_near_the_limit_is_not_switched_to_and_fro() -> None:
    follower = ToneFollower()
    spans = 80 + 3 * np.sin(np.arange(120) / 2)  # about the limit of 80
    on = [
        follower.update(QualityReport(p1=20, median=60, p99=20 + span, stamp=i * 33_000_000)) is not None
        for i, span in enumerate(spans)
    ]
    assert sum(a != b for a, b in itertools.pairwise(on)) <= 1


def test_the_tone_follows_smoothly_and_a_switched_light_at_once() -> None:
    follower = ToneFollower()

    def gain(span: float, stamp: int) -> float:
        return follower.update(QualityReport(p1=10, median=20, p99=10 + span, stamp=stamp)).gain

    first = gain(30.0, 0)
    assert first < gain(27.0, 33_000_000) < first * 1.02
    assert gain(10.0, 66_000_000) == pytest.approx(16.2)


def test_clahe_of_colour_keeps_the_hue() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 2] = np.arange(64) + 30
    result = equalised(image)
    assert result[..., 2].std() > image[..., 2].std()
    assert (result[..., 2] >= result[..., 0]).all()


def srgb(image: np.ndarray) -> np.ndarray:
    light = np.clip(np.arange(256) - 4.0, 0, None) / 251
    return cv2.LUT(image, np.rint(255 * light ** (1 / 2.2)).astype(np.uint8))


@pytest.mark.parametrize("light", [0.1, 0.5, 1.0, 4.0, 10.0])
@pytest.mark.parametrize("delay", [1, 2, 3])
@pytest.mark.parametrize("curve", [None, srgb])
def test_exposure_settles_at_the_target_and_stays(light, delay, curve) -> None:
    """In a closed loop with the twin: a change shows ``delay`` frames after it was asked for."""
    with open_source(f"sim://conveyor?width=160&height=120&seed=3&light={light}") as source:
        controller = ExposureController(Setting(0.004, 1.0))
        under_way: deque[tuple[int, Setting]] = deque()
        changes, medians = [], []
        for index in range(60):
            while under_way and under_way[0][0] <= index:
                setting = under_way.popleft()[1]
                source.set_control("exposure", setting.exposure)
                source.set_control("gain", setting.gain)
            image = source.read().frame.image
            seen = figures(curve(image) if curve else image)
            medians.append(seen.median)
            wanted = controller.update(seen.median, seen.clipped_bright)
            if wanted is not None:
                under_way.append((index + delay, wanted))
                controller.answered(True)
                changes.append(index)
    goal = 118 if curve else 46
    assert len(changes) <= 8, (changes, medians)
    assert not [index for index in changes if index > 35], (changes, medians)
    # The light: within the band in which it is content, and what the belt's parts and the response leave open.
    assert abs(np.median(medians[-15:]) - goal) < 0.4 * goal, medians
    assert np.ptp(medians[-15:]) < 0.2 * goal, medians


def test_noise_is_the_last_resort() -> None:
    controller = ExposureController(Setting(0.015, 1.0), ExposureLimits((1e-4, 0.02), (1.0, 4.0)), response=1.0)
    brighter = controller.update(23.0, 0.0)  # half of the target
    assert brighter.exposure == 0.02
    assert brighter.gain == pytest.approx(2 * 0.015 / 0.02, rel=0.01)
    controller.answered(True)
    for _ in range(4):
        assert controller.update(100.0, 0.0) is None  # frames under way
    darker = controller.update(92.0, 0.0)
    assert darker.gain == 1.0  # first
    assert darker.exposure < 0.02


def test_what_the_camera_refuses_is_its_limit() -> None:
    controller = ExposureController(Setting(0.01, 1.0), ExposureLimits((1e-4, 0.1), (1.0, 1.0)), response=1.0)
    assert controller.update(20.0, 0.0).exposure == 0.02
    assert controller.waiting
    assert controller.update(20.0, 0.0) is None  # asked already
    controller.answered(False)
    assert controller.setting == Setting(0.01, 1.0)
    assert controller.update(20.0, 0.0) is None


def test_clipped_pictures_are_not_made_brighter() -> None:
    for clipped, factor in ((0.0, 2.0), (0.02, None), (0.2, 1 / 1.3)):
        controller = ExposureController(Setting(0.01, 1.0), response=1.0)
        wanted = controller.update(15.0, clipped)
        assert (wanted is None) == (factor is None)
        if factor:
            assert wanted.exposure == pytest.approx(0.01 * factor)


def test_limits_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="the smaller first"):
        ExposureLimits((0.1, 0.01))
    with pytest.raises(ValueError, match="linear light"):
        ExposureController(Setting(0.01, 1.0), target=2.0)
    with pytest.raises(ValueError, match="there are auto, off"):
        EnhanceParameters(brightness="bright")


def test_the_report_of_the_quality_node_is_used() -> None:
    frame = Conveyor(ConveyorOptions(seed=1)).render(5).frame
    enhancer = Enhancer()
    enhancer.enhance(frame, replace(QualityReport(), noise_sigma=9.0, noise_channels=(9.0, 9.0, 9.0), edges=0))
    assert enhancer.figures.noise == 9.0
    assert enhancer.applied == ("guided",)
