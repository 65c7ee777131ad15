"""The guided capture, on the twin's source: what it takes can be measured, and what cannot be taken is said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_vision.quality.sensor import SensorDataError, SensorOptions, measure, read_descriptor
from edge_vision.quality.sensor.capture import CapturePlan, capture
from edge_vision.simulation.flat_field import FlatFieldOptions
from edge_vision.sources import SourceError, open_source


class SourceCamera:
    """A source of the twin as the camera of a capture."""

    def __init__(self, uri: str, longest: float = 1000.0) -> None:
        self._source = open_source(uri)
        self._longest = longest

    def expose(self, seconds: float) -> None:
        try:
            self._source.set_control("exposure", min(seconds, self._longest))
        except SourceError as error:
            raise SensorDataError(str(error)) from error

    def frames(self, count: int) -> Sequence[NDArray]:
        samples = [self._source.read() for _ in range(count)]
        return [sample.frame.image for sample in samples if sample is not None]


class Cap:
    """The twin's cap: a file that is there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls: list[bool] = []

    def __call__(self, dark: bool) -> None:
        self.calls.append(dark)
        self.path.touch() if dark else self.path.unlink()


@pytest.fixture
def cap(tmp_path: Path) -> Cap:
    return Cap(tmp_path / "cap")


SIZE = "width=96&height=80"
FINE = CapturePlan(steps=20, series=12, unit=1e-6)


@pytest.mark.parametrize("bits", [8, 12])
def test_what_is_captured_is_measured(bits: int, tmp_path: Path, cap: Cap) -> None:
    uri = f"sim://flat?{SIZE}&bits={bits}&gain={4 if bits == 8 else 1}&prnu=2&cap={cap.path}"
    options = FlatFieldOptions.from_uri(uri)
    light = SensorOptions(pixel_pitch=3.0, wavelength=525, irradiance=300)
    plan = CapturePlan(steps=20, series=12, unit=1e-6, options=light)
    told: list[tuple[int, int, str]] = []
    path = capture(SourceCamera(uri), tmp_path / "set", plan, cap, {"Camera": "twin"}, lambda *one: told.append(one))
    assert cap.calls == [True, False]
    descriptor = read_descriptor(path)
    assert descriptor.bits == bits
    assert descriptor.information == {"Camera": "twin"}
    assert sum(frames for frames, _, _ in told) == descriptor.images == told[-1][1]
    bright = [one for one in descriptor.sets if not one.dark and not one.spatial]
    assert 20 <= len(bright) <= 25
    steps = np.diff([one.exposure_ns for one in bright])
    assert steps == pytest.approx(steps[0])
    report = measure(descriptor)
    assert report.figures.system_gain == pytest.approx(options.sensor.K, rel=0.05)  # few and small images
    rate = 50.34 * 3.0**2 * 1e3 * 0.525 * 300
    assert report.figures.quantum_efficiency == pytest.approx(options.sensor.electrons_per_second / rate, rel=0.05)
    assert report.nonuniformity is not None
    assert report.nonuniformity.prnu["total"] == pytest.approx(2.0, rel=0.02)
    missed = {clause.requirement for clause in report.clauses if clause.met is False}
    assert missed == {
        "at least 50 steps from dark to saturation",
        "series of at least 50 images, as the working group's data sets have",
    }


@pytest.mark.parametrize(
    ("uri", "plan", "longest", "message"),
    [
        (f"sim://flat?{SIZE}&light=0", FINE, 1000, "at any exposure"),
        (f"sim://flat?{SIZE}&light=0.001", CapturePlan(20, 12, 1e-6, longest=0.5), 1000, "still grows at"),
        (f"sim://flat?{SIZE}&light=10", CapturePlan(20, 12, 1e-4), 1000, "less light"),
        (f"sim://flat?{SIZE}&light=0.1", CapturePlan(400, 12, 1e-4), 1000, "too soon for 400 steps"),
        (f"sim://flat?{SIZE}&gain=2", FINE, 0.001, "that is not saturation"),
    ],
)
def test_light_that_does_not_do(
    uri: str, plan: CapturePlan, longest: float, message: str, tmp_path: Path, cap: Cap
) -> None:
    with pytest.raises(SensorDataError, match=message):
        capture(SourceCamera(uri, longest), tmp_path / "set", plan, cap)


def test_a_cap_that_was_forgotten(tmp_path: Path, cap: Cap) -> None:
    with pytest.raises(SensorDataError, match="not dark"):
        capture(SourceCamera(f"sim://flat?{SIZE}"), tmp_path / "set", FINE, cap)
    assert cap.calls == [True, False]
    assert not (tmp_path / "set" / "descriptor.txt").exists()


def test_folders_in_use_are_left_alone(tmp_path: Path, cap: Cap) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SensorDataError, match="holds files"):
        capture(SourceCamera(f"sim://flat?{SIZE}"), tmp_path, FINE, cap)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("plan", [{"steps": 2}, {"series": 1}, {"unit": 0}, {"unit": 1.0}, {"longest": 1e-6}])
def test_plans_that_cannot_be(plan: dict) -> None:
    with pytest.raises(SensorDataError):
        CapturePlan(**plan)
