"""From image files to a report: reading, and what is said about images that do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_vision.quality.sensor import SensorDataError, SensorOptions, measure, open_measurement, read_folder
from edge_vision.simulation.flat_field import FlatField, FlatFieldOptions

TWIN = FlatFieldOptions(width=48, height=40, bits=12, seed=3)


def write_measurement(folder: Path, options: FlatFieldOptions = TWIN, steps: int = 12, series: int = 4) -> Path:
    """A folder of well-named images of the twin."""
    scene = FlatField(options)
    end = (1 << options.bits) - 1 - options.sensor.black_level
    step_us = round(1.2e6 * end / options.sensor.K / options.sensor.electrons_per_second / steps)
    for step in range(1, steps + 1):
        scene.set_sensor(exposure=step * step_us * 1e-6)
        for n in (0, 1):
            cv2.imwrite(str(folder / f"bright_{step * step_us}us_{n}.png"), scene.image(2 * step + n))
            cv2.imwrite(str(folder / f"dark_{step * step_us}us_{n}.png"), scene.image(2 * step + n, True))
    half = round(step_us * steps / 1.2 * 0.48)
    scene.set_sensor(exposure=half * 1e-6)
    for n in range(series):
        cv2.imwrite(str(folder / f"bright_series_{half}us_{n}.png"), scene.image(100 + n))
        cv2.imwrite(str(folder / f"dark_series_{half}us_{n}.png"), scene.image(100 + n, True))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_measurement(tmp_path_factory.mktemp("measurement"))


def test_a_folder_is_measured(folder: Path) -> None:
    report = measure(open_measurement(folder), SensorOptions(bits=12, pixel_pitch=4.0, wavelength=530, irradiance=100))
    assert report.figures.system_gain == pytest.approx(TWIN.sensor.K, rel=0.1)  # small images: noisy
    rate = 50.34 * 4.0**2 * 1e3 * 0.53 * 100  # photons a pixel and second
    efficiency = TWIN.sensor.electrons_per_second / rate
    assert report.figures.quantum_efficiency == pytest.approx(efficiency, rel=0.1)
    assert report.photon_source == "irradiance of 100 µW/cm² at 530 nm"
    missed = {clause.requirement.split(",")[0] for clause in report.clauses if clause.met is False}
    assert any("50 steps" in one for one in missed)
    assert any("series of at least 50" in one for one in missed)


def test_the_bits_of_wide_images_must_be_said(folder: Path) -> None:
    with pytest.raises(SensorDataError, match="Give --bits"):
        measure(read_folder(folder))
    with pytest.raises(SensorDataError, match=r"more than 8 bits hold.*--bits 16"):
        measure(read_folder(folder), SensorOptions(bits=8))


def test_colour_images_are_measured_with_a_missed_clause(tmp_path: Path) -> None:
    write_measurement(tmp_path, FlatFieldOptions(width=48, height=40, gain=4), series=3)
    for path in tmp_path.glob("*.png"):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.dstack([image // 2, image, image // 4]))
    green = measure(read_folder(tmp_path))
    assert green.images.colour == "green"
    assert [clause for clause in green.clauses if clause.met is False and "Bayer" in clause.found]
    blue = measure(read_folder(tmp_path), SensorOptions(channel="blue"))
    assert blue.images.temporal.mean[-1] < 0.6 * green.images.temporal.mean[-1]
    for path in tmp_path.glob("*.png"):  # grey, written as colour
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., 1]
        cv2.imwrite(str(path), np.dstack([image] * 3))
    assert measure(read_folder(tmp_path)).images.colour == ""


def test_light_may_vary_instead_of_the_exposure(tmp_path: Path) -> None:
    lines = ["n 12 48 40"]
    end = (4095 - TWIN.sensor.black_level) / TWIN.sensor.K
    for step in range(13):
        light = step / 12 * 1.2 * end / TWIN.sensor.electrons_at_white
        scene = FlatField(replace(TWIN, light=light, seed=step))
        lines.append(f"b 2000000 {light * TWIN.sensor.electrons_at_white / 0.5}" if step else "d 2000000")
        for n in range(2):
            cv2.imwrite(str(tmp_path / f"{step}_{n}.png"), scene.image(n))
            lines.append(f"i {step}_{n}.png")
    report = measure(open_measurement(descriptor(tmp_path, "\n".join(lines))))
    assert report.figures.quantum_efficiency == pytest.approx(0.5, rel=0.1)
    assert report.figures.dark_noise_electrons == pytest.approx(8, rel=0.1)
    assert report.figures.dark_current_mean is report.nonuniformity is None
    assert "three or more" in report.unknown["dark_current_mean"]
    assert "series" in report.unknown["nonuniformity"]


def rewrite(folder: Path, image: np.ndarray, pattern: str) -> None:
    for path in folder.glob(pattern):
        cv2.imwrite(str(path), image)


def test_images_that_do_not_fit(tmp_path: Path) -> None:
    write_measurement(tmp_path, FlatFieldOptions(width=16, height=16), steps=4, series=3)
    bright = sorted(tmp_path.glob("bright_*_0.png"))[-1]
    good = bright.read_bytes()
    rewrite(tmp_path, np.zeros((8, 8), np.uint8), bright.name)
    with pytest.raises(SensorDataError, match=rf"{bright.name} is 8x8, not 16x16"):
        measure(read_folder(tmp_path))
    bright.write_bytes(good[: len(good) // 3])
    with pytest.raises(SensorDataError, match="no image of 8 or 16 bits"):
        measure(read_folder(tmp_path))
    bright.write_bytes(b"")
    with pytest.raises(SensorDataError, match="no image of 8 or 16 bits"):
        measure(read_folder(tmp_path))


def descriptor(folder: Path, text: str) -> Path:
    path = folder / "set.txt"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n 8 4 4\nb 1 1\ni a.png\ni b.png\n", "no dark pairs"),
        ("n 8 4 4\nd 1\ni a.png\ni b.png\n", "no bright pairs"),
        ("n 8 4 4\nb 1 1\ni a.png\ni b.png\nd 2\ni a.png\ni b.png\n", "line 2: no dark images of 1 ns"),
        (
            "n 8 4 4\nb 1 1\ni a.png\ni b.png\nb 2\ni a.png\ni b.png\nd 1\ni a.png\ni b.png\nd 2\ni a.png\ni b.png\n",
            "line 5: the bright images of 2 ns have no photon count",
        ),
        ("n 8 4 4\nb 1 1\ni a.png\ni b.png\nd 1\ni a.png\ni gone.png\n", r"line 5: no such image: .*gone\.png"),
        ("n 8 4 4\nb 1 1\ni a.png\ni b.png\nd 1\ni a.png\ni b.png\n", "1 bright steps"),
        (
            "n 8 4 4\n" + "".join(f"b {t} {t}\ni a.png\ni b.png\nd {t}\ni a.png\ni b.png\n" for t in (1, 2, 3)),
            "not brighter than dark",
        ),
        (
            "n 8 4 4\n" + "".join(f"{k} {t}\n" + "i a.png\n" * 3 for k in "bd" for t in (1, 2)),
            "no bright pairs",
        ),
    ],
)
def test_sets_that_make_no_measurement(text: str, message: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((4, 4), 7, np.uint8))
    with pytest.raises(SensorDataError, match=message):
        measure(open_measurement(descriptor(tmp_path, text)))


def test_one_frame_given_twice_has_no_noise(tmp_path: Path) -> None:
    lines = ["n 8 4 4"]
    for step in range(1, 9):
        cv2.imwrite(str(tmp_path / f"{step}.png"), np.full((4, 4), 10 * step, np.uint8))
        lines += [f"b {step} {step}", f"i {step}.png", f"i {step}.png", f"d {step}", "i 1.png", "i 1.png"]
    with pytest.raises(SensorDataError, match="noise does not grow"):
        measure(open_measurement(descriptor(tmp_path, "\n".join(lines))))
