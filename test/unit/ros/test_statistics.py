"""Counting, timing and what diagnostics make of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from edge_vision import health
from edge_vision.datatypes import NodeStats, StageLatency
from edge_vision.ros import diagnostics
from edge_vision.ros import statistics as module
from edge_vision.ros.statistics import WINDOW, Rate, Stage


@pytest.mark.parametrize("count", [1, 3, WINDOW, WINDOW + 100, 3 * WINDOW + 7])
def test_percentiles_are_of_the_newest_samples(count: int) -> None:
    samples = np.random.default_rng(count).integers(1000, 10**8, count)
    stage = Stage("run")
    for sample in samples.tolist():
        stage.add(sample)
    latency = stage.latency("inference")
    assert latency is not None
    assert (latency.node, latency.stage, latency.count) == ("inference", "run", count)
    expected = np.percentile(samples[-WINDOW:], (50, 95, 99)) / 1e6
    np.testing.assert_allclose((latency.p50_ms, latency.p95_ms, latency.p99_ms), expected)
    np.testing.assert_array_equal(stage.newest(5), samples[-5:])
    assert stage.count == count


def test_a_stage_without_samples_has_no_latency() -> None:
    assert Stage("run").latency("inference") is None


def test_a_stage_times_what_is_inside_it_also_when_it_fails() -> None:
    stage = Stage("run")
    with stage:
        pass
    with pytest.raises(ZeroDivisionError), stage:
        _ = 1 / 0
    assert stage.count == 2
    assert (stage.newest(2) > 0).all()


class FakeTime:
    """The clock that `Rate` reads, to be set."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_rate(monkeypatch) -> None:
    clock = FakeTime()
    monkeypatch.setattr(module, "time", clock)
    rate = Rate()
    assert rate.value() == 0
    for _ in range(100):
        clock.now += 0.04
        rate.tick()
    assert rate.value() == pytest.approx(25)
    assert rate.total == 100
    clock.now += 0.9
    assert rate.value() == pytest.approx(25), "a hiccup"
    clock.now += 0.2
    assert rate.value() == 0, "nothing comes any more"
    assert rate.silent_s() == pytest.approx(1.1)
    slow = Rate()
    for _ in range(3):
        clock.now += 5
        slow.tick()
    clock.now += 6
    assert slow.value() == pytest.approx(0.2), "slow is not silent"


STATS = NodeStats("inference", 10.0, 9.5, 100, 95, 4, 1, 0.25, (StageLatency("inference", "run", 95, 3.0, 4.5, 6.0),))


def test_diagnostics_name_every_figure() -> None:
    array = diagnostics.make("/cell/inference", STATS, {"model": "parts"}, None, False, True)
    (status,) = array.status
    values = {pair.key: pair.value for pair in status.values}
    assert status.name == "cell/inference"
    assert status.level == DiagnosticStatus.OK
    assert (
        values
        | {
            "input rate [Hz]": "10.0",
            "output rate [Hz]": "9.5",
            "received": "100",
            "published": "95",
            "dropped": "4",
            "rejected": "1",
            "age of newest input [s]": "0.250",
            "run p50 [ms]": "3.00",
            "run p95 [ms]": "4.50",
            "model": "parts",
        }
        == values
    )


@pytest.mark.parametrize(
    ("problem", "waiting", "active", "level", "message"),
    [
        ("no model", True, False, DiagnosticStatus.ERROR, "no model"),
        (None, False, False, DiagnosticStatus.WARN, "not active"),
        (None, True, True, DiagnosticStatus.WARN, "no input for some seconds"),
        (None, False, True, DiagnosticStatus.OK, "running"),
    ],
)
def test_levels(problem, waiting, active, level, message) -> None:
    (status,) = diagnostics.make("/inference", STATS, {}, problem, waiting, active).status
    assert (status.level, status.message) == (level, message)


def test_an_input_that_never_came_has_no_age() -> None:
    values = diagnostics.values(NodeStats("tracking", newest_age_s=math.nan), {})
    assert values["age of newest input [s]"] == "none yet"


@pytest.mark.parametrize(
    ("text", "told", "level"),
    [
        ("0x0", "no", DiagnosticStatus.OK),
        ("50005", "under-voltage, throttled", DiagnosticStatus.WARN),
        ("50000", "no", DiagnosticStatus.OK),  # since boot, not now
    ],
)
def test_a_raspberry_pi_that_slows_down(tmp_path, monkeypatch, text, told, level) -> None:
    file = tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled"
    file.parent.mkdir(parents=True)
    file.write_text(text + "\n")
    monkeypatch.setattr(diagnostics, "throttled", lambda: health.throttled(tmp_path))
    assert diagnostics.values(STATS, {})["throttled"] == told
    (status,) = diagnostics.make("/inference", STATS, {}, None, False, True).status
    assert status.level == level


def test_temperature_is_shown_where_the_system_tells_it(monkeypatch) -> None:
    monkeypatch.setattr(diagnostics, "temperature_c", lambda: 63.25)
    assert diagnostics.values(STATS, {})["temperature [C]"] == "63.2"
    monkeypatch.setattr(diagnostics, "temperature_c", lambda: None)
    assert "temperature [C]" not in diagnostics.values(STATS, {})
