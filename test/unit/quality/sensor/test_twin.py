"""The twin's camera, measured, gives back its own parameters."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import ndtr

from edge_vision.quality.sensor import SensorReport
from edge_vision.simulation.flat_field import FlatFieldOptions

WITHIN = 0.02


def variance_peak(options: FlatFieldOptions) -> float:
    """Electrons at which the variance of the twin's clipped noise is largest, by the moments of a clipped normal."""
    sensor = options.sensor
    end = min((1 << options.bits) - 1 - sensor.black_level, sensor.K * sensor.full_well)
    mean = np.linspace(0.8, 1.1, 3001) * end
    sigma = np.sqrt(sensor.K * mean + (sensor.K * sensor.read_noise) ** 2)
    a = (end - mean) / sigma
    pdf, below = np.exp(-(a**2) / 2) / math.sqrt(2 * math.pi), ndtr(a)
    first = -pdf + a * (1 - below)
    second = below - a * pdf + a**2 * (1 - below)
    return float(mean[np.argmax(sigma**2 * (second - first**2))] / sensor.K)


@pytest.mark.parametrize(
    "options",
    [
        FlatFieldOptions(gain=4, dsnu=4, prnu=1.5, seed=1),
        FlatFieldOptions(gain=6, read_noise=12, seed=2),
        FlatFieldOptions(bits=10, gain=2, full_well=6000, seed=3),
        FlatFieldOptions(bits=12, dsnu=10, prnu=0.6, dark_current=20_000, seed=4),
    ],
    ids=lambda options: f"{options.bits} bit, gain {options.gain:g}",
)
def test_its_own_parameters_come_back(options: FlatFieldOptions, twin: Callable[..., SensorReport]) -> None:
    report = twin(options, efficiency=0.62)
    figures, sensor = report.figures, options.sensor
    end = min(((1 << options.bits) - 1 - sensor.black_level) / sensor.K, sensor.full_well)
    assert figures.system_gain == pytest.approx(sensor.K, rel=WITHIN)
    assert figures.gain_with_offset == pytest.approx(sensor.K, rel=WITHIN)
    assert figures.dark_noise_electrons == pytest.approx(options.read_noise, rel=WITHIN)
    assert figures.quantum_efficiency == pytest.approx(0.62, rel=WITHIN)
    assert figures.ceiling_electrons == pytest.approx(end, rel=WITHIN)
    assert figures.saturation_electrons == pytest.approx(variance_peak(options), rel=WITHIN)
    assert figures.snr_max == pytest.approx(math.sqrt(variance_peak(options)), rel=WITHIN)
    assert not figures.dark_noise_is_limit
    assert report.images.temporal.dark_means[0] == pytest.approx(sensor.black_level, rel=WITHIN)
    assert report.nonuniformity is not None
    if options.dsnu:
        assert report.nonuniformity.dsnu["total"] == pytest.approx(options.dsnu, rel=WITHIN)
        assert report.nonuniformity.dsnu["pixel"] == pytest.approx(options.dsnu, rel=WITHIN)
        assert report.nonuniformity.prnu["total"] == pytest.approx(options.prnu, rel=WITHIN)
        assert report.nonuniformity.prnu["pixel"] == pytest.approx(options.prnu, rel=WITHIN)
    else:
        nothing = report.nonuniformity.dsnu["total"]
        assert nothing is None or nothing < report.nonuniformity.dsnu_limit
    if options.dark_current:
        assert figures.dark_current_mean == pytest.approx(options.dark_current, rel=WITHIN)
        assert figures.dark_current_variance == pytest.approx(options.dark_current, rel=5 * WITHIN)


def test_a_good_measurement_misses_no_clause_but_compliance(report: SensorReport) -> None:
    assert [clause for clause in report.clauses if clause.met is False] == []
    assert {clause.section for clause in report.clauses if clause.met is None} == {"6.4", "6.1", "6.2", "7.1", "2.1"}


def test_dark_noise_lost_in_quantisation_is_said(coarse: SensorReport) -> None:
    """K sigma_d is 0.19 DN: the standard's figures are limits or biased, and the report says which."""
    figures = coarse.figures
    assert figures.dark_noise_is_limit
    assert figures.dark_noise_dn == pytest.approx(math.sqrt(0.24))
    assert figures.dark_noise_electrons > 8.0  # a limit from above
    missed = [clause for clause in coarse.clauses if clause.met is False and "gain" in clause.requirement]
    assert len(missed) == 1
    assert "higher gain" in missed[0].found
    # The line with an offset needs no dark noise.
    assert figures.gain_with_offset == pytest.approx(0.0242, rel=WITHIN)
    assert abs(figures.system_gain / 0.0242 - 1) > WITHIN


def test_without_photons_only_what_needs_them_is_unknown(coarse: SensorReport) -> None:
    figures = coarse.figures
    assert figures.quantum_efficiency is figures.threshold_photons is figures.saturation_photons is None
    for name in ("quantum_efficiency", "threshold_photons", "saturation_photons"):
        assert "irradiance" in coarse.unknown[name]
    assert figures.saturation_electrons > 0
    assert figures.dynamic_range_db == pytest.approx(
        20 * math.log10(figures.saturation_electrons / figures.threshold_electrons)
    )
