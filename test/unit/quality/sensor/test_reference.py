"""The working group's data set 1: our figures are its reference code's."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_vision.quality.sensor import (
    ImageSet,
    PhotonTransfer,
    measure,
    open_measurement,
    pair_from_sums,
    photon_transfer,
)
from edge_vision.quality.sensor.measurement import temporal_series
from edge_vision.quality.sensor.photon_transfer import saturation_index
from edge_vision.quality.sensor.statistics import Pair

WITHIN = 1e-3


def by_reference_name(figures: PhotonTransfer) -> dict[str, float | None]:
    assert figures.quantum_efficiency is not None
    return {
        "R": figures.responsivity,
        "K": figures.system_gain,
        "QE": 100 * figures.quantum_efficiency,
        "sigma_y_dark": figures.dark_noise_dn,
        "sigma_d": figures.dark_noise_electrons,
        "u_p_min": figures.threshold_photons,
        "u_e_min": figures.threshold_electrons,
        "u_p_sat": figures.saturation_photons,
        "u_e_sat": figures.saturation_electrons,
        "SNR_max": figures.snr_max,
        "SNR_max_dB": figures.snr_max_db,
        "SNR_max_bit": figures.snr_max_bits,
        "DR": figures.dynamic_range,
        "DR_dB": figures.dynamic_range_db,
        "LE_min": figures.linearity_error_min,
        "LE_max": figures.linearity_error_max,
        "lin_slope": figures.linearity_slope,
        "lin_offset": figures.linearity_offset,
        "u_I_mean": figures.dark_current_mean,
        "u_I_var": figures.dark_current_variance,
        "index_u_ysat": figures.saturation,
        "index_sensitivity_max": figures.sensitivity_last,
        "index_linearity_min": figures.linearity_first,
        "index_linearity_max": figures.linearity_last,
    }


def check(figures: PhotonTransfer, reference: dict[str, Any]) -> None:
    ours = by_reference_name(figures)
    wrong = {
        name: (value, reference[name])
        for name, value in ours.items()
        if value != pytest.approx(reference[name], WITHIN)
    }
    assert not wrong


def test_crop_of_set_1(shared_data: Path) -> None:
    folder = shared_data / "sensor" / "set1_crop64"
    reference = json.loads((folder / "reference_results.json").read_text())["results"]
    read = []
    report = measure(open_measurement(folder), progress=read.append)
    assert sum(read) == 300
    check(report.figures, reference)
    spatial = report.nonuniformity
    assert spatial is not None
    for part, suffix in (("total", ""), ("row", "_row"), ("column", "_col"), ("pixel", "_pixel")):
        for kind, values in (("DSNU", spatial.dsnu), ("PRNU", spatial.prnu)):
            wanted = reference[f"{kind}1288{suffix}"]
            if math.isnan(wanted):  # below the measurement limit
                assert values[part] is None
                assert "below" in report.unknown[f"{kind.lower()}_{part}"]
            else:
                assert values[part] == pytest.approx(wanted, WITHIN)
    assert spatial.bright.total == pytest.approx(reference["s_2_y"], WITHIN)
    assert spatial.dark.total == pytest.approx(reference["s_2_y_dark"], WITHIN)


def test_full_frames_of_set_1_from_their_sums(shared_data: Path) -> None:
    data = json.loads((shared_data / "sensor" / "set1_fullframe_stats_and_reference_results.json").read_text())
    pixels = data["width"] * data["height"]
    bright, dark, lit, unlit = [], [], [], []
    for exposure, lights in sorted(data["raw_temporal"].items(), key=lambda item: float(item[0])):
        for photons, sums in lights.items():
            count = float(photons)
            sets, pairs = (dark, unlit) if count == 0 else (bright, lit)
            sets.append(ImageSet(float(exposure), count, (), dark=count == 0, spatial=False))
            # The reference's pvar is L (L sum of squares - square of sum), which for a pair is 2 sum (A - B)^2.
            pairs.append(Pair(*pair_from_sums(sums["sum"], sums["pvar"] / 2, sums["dmean"], pixels)))
    series = temporal_series(bright, lit, dark, unlit)
    assert series.variance == pytest.approx(data["temporal"]["s2_y"], WITHIN)
    figures = photon_transfer(series)
    check(figures, data["results"])
    # 20 log10; the reference's documentation prints 95.45 and 142.14, which are natural logarithms.
    assert figures.snr_max_db == pytest.approx(41.464, abs=1e-3)
    assert figures.dynamic_range_db == pytest.approx(61.734, abs=1e-3)


def test_saturation_is_searched_from_the_end() -> None:
    rising = np.linspace(1, 10, 20)
    assert saturation_index(np.concatenate([rising, [3, 0, 0]])) == 19
    early = rising.copy()
    early[9] = 50.0  # one step with something that moved in it
    assert saturation_index(np.concatenate([early, [3, 0, 0]])) == 19
    dip = rising.copy()
    dip[18] = 8.0
    dip[17] = 10.5
    assert saturation_index(np.concatenate([dip, [3, 0, 0]])) == 17
    assert saturation_index(np.array([3.0, 2.0, 1.0])) == 0
    assert saturation_index(np.array([1.0, 2.0, 3.0])) == 2
