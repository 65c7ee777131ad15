"""A measurement of the twin's sensor, from frames of its even scene."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edge_vision.quality.sensor import Images, ImageSet, SensorOptions, SensorReport, evaluate
from edge_vision.quality.sensor.measurement import temporal_series
from edge_vision.quality.sensor.statistics import pair_statistics, stack_statistics
from edge_vision.simulation.flat_field import FlatField, FlatFieldOptions


def end_of_signal(options: FlatFieldOptions) -> float:
    """Electrons at which the twin's signal stays: full well, or the end of the converter."""
    sensor = options.sensor
    return min(((1 << options.bits) - 1 - sensor.black_level) / sensor.K, sensor.full_well)


def exposures(options: FlatFieldOptions, steps: int = 60, beyond: float = 1.15) -> np.ndarray:
    """Equal steps in seconds up to a little beyond saturation."""
    whole = end_of_signal(options) / options.sensor.electrons_per_second
    return np.arange(1, steps + 1) / steps * beyond * whole


def measure_twin(options: FlatFieldOptions, efficiency: float | None = None, series: int = 50) -> SensorReport:
    """efficiency: of photons that the light is said to have; None: nobody counted them."""
    scene = FlatField(options)
    rate = options.sensor.electrons_per_second
    bright, dark, lit, unlit = [], [], [], []
    for step, exposure in enumerate(exposures(options)):
        scene.set_sensor(exposure=float(exposure))
        photons = None if efficiency is None else exposure * rate / efficiency
        bright.append(ImageSet(exposure * 1e9, photons, (), dark=False, spatial=False))
        dark.append(ImageSet(exposure * 1e9, 0.0, (), dark=True, spatial=False))
        lit.append(pair_statistics(scene.image(2 * step), scene.image(2 * step + 1)))
        unlit.append(pair_statistics(scene.image(2 * step, True), scene.image(2 * step + 1, True)))
    half = end_of_signal(options) / rate / 2
    scene = FlatField(replace(options, exposure=half))
    images = Images(
        bits=options.bits,
        width=options.width,
        height=options.height,
        temporal=temporal_series(bright, lit, dark, unlit),
        dark=stack_statistics(scene.image(1000 + index, True) for index in range(series)),
        bright=stack_statistics(scene.image(1000 + index) for index in range(series)),
        dark_series_exposure=half,
        bright_series_exposure=half,
    )
    return evaluate(images, SensorOptions())


@pytest.fixture(scope="session")
def twin() -> Callable[..., SensorReport]:
    return measure_twin


@pytest.fixture(scope="session")
def report() -> SensorReport:
    """Of a twin of 12 bits that meets the protocol."""
    return measure_twin(FlatFieldOptions(bits=12, prnu=1.0, dsnu=5.0, dark_current=20_000.0), efficiency=0.45)


@pytest.fixture(scope="session")
def coarse() -> SensorReport:
    """Of the twin's camera as it is: 8 bits at a gain that hides the dark noise in the converter's steps."""
    return measure_twin(FlatFieldOptions())
