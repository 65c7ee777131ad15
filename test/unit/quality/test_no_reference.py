"""The report as a whole: exposure, verdicts, what takes time, and input that cannot be measured."""

from __future__ import annotations

import math
from dataclasses import fields
from functools import lru_cache

import cv2
import numpy as np
import pytest

from edge_vision.benchmarks.degradations import DEGRADATIONS
from edge_vision.benchmarks.quality_verdicts import TUNING_SEEDS, confusion_table, outcomes
from edge_vision.datatypes import Frame, QualityReport
from edge_vision.quality.artefacts import blockiness_of, colour_cast_of
from edge_vision.quality.errors import QualityError
from edge_vision.quality.exposure import exposure_of, grey_histogram, zone_means
from edge_vision.quality.no_reference import QualityAnalyser, QualityParameters, analyse
from edge_vision.quality.temporal import spots_share
from edge_vision.quality.verdicts import CAUSES, Thresholds
from edge_vision.simulation import Conveyor, ConveyorOptions

MS = 1_000_000


@lru_cache(maxsize=4)
def conveyor(seed: int = 3, fps: float = 30.0) -> Conveyor:
    return Conveyor(ConveyorOptions(seed=seed, fps=fps))


def test_exposure_figures_of_a_known_image() -> None:
    image = np.repeat(np.array([0, 50, 100, 255], np.uint8), 2500).reshape(100, 100)
    found = exposure_of(grey_histogram(image))
    assert found.mean == pytest.approx(101.25)
    assert (found.median, found.p1, found.p99) == (50.0, 0.0, 255.0)
    assert found.rms_contrast == pytest.approx(image.std())
    assert found.contrast == 1.0
    assert (found.clipped_dark, found.clipped_bright) == pytest.approx((0.25, 0.25))
    assert found.entropy == pytest.approx(2.0)
    assert found.mean_sample_value == pytest.approx((1 + 1 + 2 + 5) / 4)
    assert found.missing_levels == pytest.approx(252 / 256)


def test_zones_are_the_thirds() -> None:
    image = np.kron(np.arange(9, dtype=np.uint8).reshape(3, 3) * 20, np.ones((30, 40), np.uint8))
    assert zone_means(image) == pytest.approx(np.arange(9).reshape(3, 3) * 20.0)


def test_grid_is_found_wherever_the_image_was_cut() -> None:
    image = conveyor().render(0).frame.image
    coded = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 10])[1], cv2.IMREAD_GRAYSCALE)
    for left, top in ((0, 0), (3, 5)):
        assert blockiness_of(coded[top:, left:]) > 1.8
    assert blockiness_of(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)) < 1.15


def test_cast_is_what_grey_was_multiplied_with_and_a_lawn_has_none() -> None:
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.uniform(40, 180, (200, 300, 1)), 3, 2)
    size, red, blue = colour_cast_of((grey * [0.8, 1.0, 1.25]).round().astype(np.uint8), 1.0)
    assert (red, blue) == pytest.approx((math.log2(1.25), math.log2(0.8)), abs=0.03)
    assert size == pytest.approx(math.hypot(red, blue))
    lawn = (grey * [0.4, 1.0, 0.5]).round()
    lawn[:60] = rng.uniform(190, 230, (60, 300, 1)) * [1.05, 1.0, 0.98]  # under a white sky
    assert colour_cast_of(lawn.astype(np.uint8), 1.0)[0] < 0.15


@pytest.mark.parametrize("cause", DEGRADATIONS)
def test_each_cause_is_named(cause: str) -> None:
    for outcome in outcomes(len(DEGRADATIONS), 0, TUNING_SEEDS, only=cause):
        assert outcome.report.cause == cause, outcome.what
        verdict = outcome.report.verdict(cause)
        assert verdict.blamed
        assert verdict.severity >= 1


def test_clean_frames_are_not_blamed() -> None:
    results = list(outcomes(0, 6, TUNING_SEEDS))
    assert [outcome.report.cause for outcome in results] == ["ok"] * 6
    assert "0 of 6 clean frames are blamed" in confusion_table(results)


def test_photographs_are_not_blamed(shared_data) -> None:
    paths = [*sorted((shared_data / "images").glob("*.jpg")), shared_data / "quality/skimage_cc0/camera.png"]
    causes = {path.name: analyse(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)).cause for path in paths}
    assert set(causes.values()) == {"ok"}, causes


def test_every_cause_has_its_verdict_and_thresholds_can_be_set() -> None:
    image = conveyor().render(0).frame.image
    report = analyse(image)
    assert tuple(verdict.cause for verdict in report.verdicts) == CAUSES
    assert len(fields(Thresholds)) == len(CAUSES)
    assert report.cause == "ok"
    strict = analyse(image, QualityParameters(thresholds=Thresholds(noisy=0.1)))
    assert strict.cause == "noisy"
    assert strict.verdict("noisy").severity == pytest.approx(strict.noise_sigma / 0.1)
    with pytest.raises(KeyError, match="no verdict on 'hot'"):
        report.verdict("hot")


def test_a_frozen_picture_is_counted_and_thaws() -> None:
    image = conveyor().render(0).frame.image
    analyser = QualityAnalyser()
    for k in range(9):
        report = analyser.analyse(Frame(image.copy(), stamp=k * 33 * MS))
    assert (report.frozen_frames, report.cause) == (8, "frozen")
    assert report.frozen_s == pytest.approx(8 * 0.033)
    report = analyser.analyse(Frame(conveyor().render(1).frame.image, stamp=9 * 33 * MS))
    assert (report.frozen_frames, report.cause) == (0, "ok")


def test_mains_frequency_is_told_apart() -> None:
    base = cv2.cvtColor(conveyor().render(0).frame.image, cv2.COLOR_BGR2GRAY).astype(np.float32)
    rng = np.random.default_rng(0)
    for hz, fps in ((100.0, 30.0), (120.0, 25.0)):
        analyser = QualityAnalyser()
        for k in range(30):
            light = 1 + 0.1 * math.sin(2 * math.pi * hz * k / fps + 0.4)
            image = np.clip(base * light + rng.normal(0, 1, base.shape), 0, 255).astype(np.uint8)
            report = analyser.analyse(Frame(image, stamp=round(k / fps * 1e9)))
        assert report.flicker_hz == hz
        assert report.flicker == pytest.approx(0.1, rel=0.2)
        assert report.cause == "flicker"


def test_stripes_of_a_rolling_shutter() -> None:
    base = cv2.cvtColor(conveyor().render(0).frame.image, cv2.COLOR_BGR2GRAY).astype(np.float32)
    rng = np.random.default_rng(0)
    analyser = QualityAnalyser()
    rows = np.arange(480)[:, None] / 480 * 0.025
    for k in range(20):
        light = 1 + 0.1 * np.sin(2 * np.pi * 100 * (k / 30 + rows))
        image = np.clip(base * light + rng.normal(0, 1, base.shape), 0, 255).astype(np.uint8)
        report = analyser.analyse(Frame(image, stamp=round(k / 30 * 1e9)))
    assert report.row_banding > 0.05
    assert report.cause == "flicker"


def test_a_still_scene_tells_nothing_of_dirt_and_a_stopped_belt_is_no_dirt() -> None:
    rng = np.random.default_rng(0)
    image = conveyor().render(0).frame.image
    analyser = QualityAnalyser()
    for k in range(20):
        noisy = np.clip(image + rng.normal(0, 1, image.shape), 0, 255).astype(np.uint8)
        report = analyser.analyse(Frame(noisy, stamp=k * 100 * MS))
    assert math.isnan(report.occluded_share)
    assert report.moving_share < 0.05
    assert report.cause == "ok"


def spotted(image: np.ndarray) -> np.ndarray:
    """A drop of mud on the lens, out of focus."""
    height, width = image.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    distance = np.hypot(x - 0.55 * width, y - 0.45 * height) / (0.16 * height)
    cover = np.clip((1 - distance) / 0.25 + 0.5, 0, 1)[..., None]
    return (image * (1 - cover) + cover * [18, 22, 24]).round().astype(np.uint8)


@pytest.mark.parametrize("size", [(320, 240), (640, 480)])
def test_dirt_is_found_in_seconds_and_no_frame_of_a_clean_belt_is_blamed(size: tuple[int, int]) -> None:
    belt = Conveyor(ConveyorOptions(seed=3, fps=7.5, width=size[0], height=size[1]))
    rng = np.random.default_rng(0)
    clean, dirty, blurred = QualityAnalyser(), QualityAnalyser(), QualityAnalyser()
    causes: dict[str, list[str]] = {"clean": [], "dirty": [], "blurred": []}
    for k in range(60):
        frame = belt.render(k).frame
        noise = rng.normal(0, 0.8, frame.image.shape)
        mud = np.clip(spotted(frame.image) + noise, 0, 255).astype(np.uint8)
        causes["clean"].append(clean.analyse(frame).cause)
        causes["dirty"].append(dirty.analyse(Frame(mud, frame.stamp)).cause)
        soft = Frame(cv2.GaussianBlur(frame.image, (0, 0), 2.5), frame.stamp)
        report = blurred.analyse(soft)
        causes["blurred"].append(report.cause)
        assert math.isnan(report.occluded_share)
    assert set(causes["clean"]) == {"ok"}
    assert set(causes["blurred"]) == {"blurred"}
    assert causes["dirty"][:28] == ["ok"] * 28, "not before it has stayed"
    assert set(causes["dirty"][45:]) == {"occluded"}


def test_a_dark_belt_is_dark_for_long() -> None:
    belt = Conveyor(ConveyorOptions(seed=3, fps=10.0, width=320, height=240, exposure=0.0005))
    analyser = QualityAnalyser()
    reports = [analyser.analyse(belt.render(k).frame) for k in range(70)]
    assert {report.cause for report in reports} == {"dark"}
    assert all(math.isnan(report.occluded_share) for report in reports)


def test_spots_have_things_pass_on_all_sides_and_rails_lanes_and_walls_have_not() -> None:
    def share(top: int, bottom: int, left: int, right: int, passed: np.ndarray | None = None) -> float:
        dead = np.zeros((45, 60), bool)
        dead[top:bottom, left:right] = True
        return spots_share(dead, ~dead if passed is None else passed & ~dead)

    below = np.arange(45)[:, None] > np.full(60, 20)
    assert share(18, 26, 20, 30) == 80 / 2700
    assert share(18, 26, 0, 10) == 80 / 2700, "at the image's edge"
    assert share(0, 8, 0, 60) == 0, "a rail"
    assert share(20, 26, 0, 60) == 0, "a lane between parts"
    assert share(12, 21, 20, 40, below) == 0, "above which nothing moves"
    assert share(20, 22, 20, 23) == 0, "a speck"
    assert share(18, 26, 20, 30, np.zeros((45, 60), bool)) == 0, "nothing passed since"


def test_a_person_in_black_who_stands_still_is_no_dirt(shared_data) -> None:
    video = cv2.VideoCapture(str(shared_data / "video/one-by-one-person-detection.mp4"))
    analyser, blamed, frames = QualityAnalyser(), 0, 0
    for index in range(1000):
        assert video.grab()
        if index % 10 == 0:
            image = video.retrieve()[1]
            blamed += analyser.analyse(Frame(image, stamp=index * 100 * MS)).cause == "occluded"
            frames += 1
    assert frames == 100
    assert blamed == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (2, 3), (7, 9, 3), (1, 500), (500, 1, 3), (17, 40)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_size_gives_a_report(shape: tuple[int, ...], dtype: type) -> None:
    image = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    analyser = QualityAnalyser()
    for k in range(2):
        report = analyser.analyse(Frame(image, stamp=k))
    assert (report.height, report.width) == shape[:2]
    assert math.isfinite(report.mean)
    assert np.isfinite(report.zones).all()
    assert report.frozen_frames == 1


def test_all_black_and_all_white() -> None:
    black = analyse(np.zeros((480, 640, 3), np.uint8))
    assert (black.cause, black.mean, black.contrast, black.noise_sigma > 0) == ("black", 0.0, 0.0, False)
    white = analyse(np.full((480, 640), 255, np.uint8))
    assert (white.cause, white.clipped_bright) == ("clipped", 1.0)


def test_sizes_and_encodings_may_alternate() -> None:
    rng = np.random.default_rng(0)
    shapes = [(480, 640, 3), (480, 640), (240, 320, 3), (1080, 1920), (480, 640, 1)]
    analyser = QualityAnalyser()
    for k in range(15):
        dtype = np.uint16 if k % 4 == 3 else np.uint8
        report = analyser.analyse(Frame(rng.integers(0, 200, shapes[k % 5]).astype(dtype), stamp=k * MS))
        assert isinstance(report, QualityReport)
        assert math.isnan(report.moving_share) or report.moving_share > 0.5


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (np.full((9, 9), np.nan, np.float32), "NaN"),
        (np.zeros((9, 9)), "float64"),
        (np.zeros((9, 9, 4), np.uint8), "neither mono nor BGR"),
        (np.zeros((0, 9), np.uint8), "no pixels"),
        (np.zeros(9, np.uint8), "neither mono nor BGR"),
        (np.zeros((9, 9), np.int16), "int16"),
        ([[1, 2]], "list"),
    ],
)
def test_what_cannot_be_measured_is_said(image: np.ndarray, problem: str) -> None:
    analyser = QualityAnalyser()
    with pytest.raises(QualityError, match=problem) as error:
        analyser.analyse(Frame(image))
    assert error.value.remedy
    assert analyser.analyse(Frame(np.full((64, 64), 90, np.uint8))).mean == 90.0


def test_read_only_images_are_taken_and_left_as_they_are() -> None:
    image = conveyor().render(0).frame.image.copy()
    image.setflags(write=False)
    before = image.copy()
    analyse(image)
    assert (image == before).all()


def test_bits_must_make_sense() -> None:
    with pytest.raises(QualityError, match="8 to 16"):
        analyse(np.zeros((9, 9), np.uint16), QualityParameters(bits=7))
