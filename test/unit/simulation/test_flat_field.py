"""The even scene: its frames are its sensor's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_vision.simulation.camera import expose
from edge_vision.simulation.flat_field import FlatField, FlatFieldOptions


def test_eight_bits_are_the_camera_s_own() -> None:
    options = FlatFieldOptions(width=40, height=30, exposure=0.001, seed=7)
    image = FlatField(options).image(5)
    assert image.dtype == np.uint8
    wanted = expose(np.ones((30, 40), np.float32), options.sensor, (7, 13, 5, False, 1_000_000))
    np.testing.assert_array_equal(image, wanted)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_mean_and_variance_at_any_depth(bits: int) -> None:
    options = FlatFieldOptions(bits=bits, exposure=0.001, gain=2, width=400, height=300)
    sensor, frame = options.sensor, FlatField(options).render(3)
    assert frame.encoding == ("mono8" if bits == 8 else "mono16")
    assert frame.stamp == 100_000_000
    mean = sensor.black_level + sensor.K * 2900
    assert frame.image.mean() == pytest.approx(mean, rel=1e-3)
    variance = sensor.K**2 * (2900 + options.read_noise**2) + 1 / 12
    assert frame.image.astype(float).var() == pytest.approx(variance, rel=0.02)


def test_patterns_stay_and_noise_does_not() -> None:
    scene = FlatField(FlatFieldOptions(bits=12, dsnu=40, prnu=3, exposure=0.0015, width=64, height=64))
    dark = [scene.image(n, True).astype(float) for n in range(2)]
    bright = [scene.image(n).astype(float) for n in range(2)]
    for a, b in (dark, bright):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.8
        assert (a != b).mean() > 0.5
    np.testing.assert_array_equal(scene.image(1), bright[1])  # pure


def test_the_cap(tmp_path: Path) -> None:
    cap = tmp_path / "cap"
    scene = FlatField(FlatFieldOptions.from_uri(f"sim://flat?width=8&height=8&cap={cap}"))
    assert scene.render(0).image.mean() > 50
    cap.touch()
    assert scene.covered
    assert scene.render(0).image.mean() < 6
    assert FlatField(FlatFieldOptions(covered=True)).render(0).image.mean() < 6


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("sim://flat?bits=9", "bits"),
        ("sim://flat?prnu=50", "prnu"),
        ("sim://flat?colour=red", "unknown option 'colour'"),
        ("sim://flat?covered=perhaps", "on or off"),
        ("sim://conveyor", "expected sim://flat"),
    ],
)
def test_options_that_cannot_be(uri: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FlatFieldOptions.from_uri(uri)
