"""Pacing on a clock that the tests turn."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.sources import Pacer

S = 1_000_000_000


class Time:
    """A clock and an event in one: waiting turns the clock, oversleeping by ``late`` seconds."""

    def __init__(self, late: float = 0.0) -> None:
        self.now = 100.0
        self.late = late
        self.stopped = False

    def __call__(self) -> float:
        return self.now

    def wait(self, timeout: float) -> bool:
        if not self.stopped:
            self.now += timeout + self.late
        return self.stopped

    def is_set(self) -> bool:
        return self.stopped


def passed(stamps: list[int], time: Time, pacer: Pacer, work: float = 0.0) -> list[float]:
    """When each frame was let through, seconds after the start; ``work``: what the reader spends on each."""
    times = []
    for stamp in stamps:
        assert pacer.wait(stamp)
        times.append(time.now - 100)
        time.now += work
    return times


@given(st.lists(st.integers(1, 2 * S), min_size=1, max_size=50), st.floats(0.1, 10), st.floats(0, 0.01))
def test_errors_of_single_waits_do_not_add_up(gaps: list[int], rate: float, late: float) -> None:
    time = Time(late)
    stamps = [7]
    for gap in gaps:
        stamps.append(stamps[-1] + gap)
    times = passed(stamps, time, Pacer(rate, stop=time, clock=time))
    for stamp, at in zip(stamps, times, strict=True):
        due = (stamp - 7) / S / rate
        assert due - 1e-6 <= at <= due + late + 1e-6


def test_a_reader_that_is_slow_now_and_then_catches_up() -> None:
    time = Time()
    pacer = Pacer(stop=time, clock=time)
    assert pacer.wait(0)
    time.now += 0.15  # at 10 fps one frame late by 0.05 s, within the tolerance
    assert pacer.wait(S // 10)
    assert pacer.wait(S // 5)
    assert time.now == pytest.approx(100.2)
    assert pacer.stalls == 0


def test_after_a_stall_no_burst() -> None:
    time = Time()
    pacer = Pacer(stop=time, clock=time)
    stamps = [n * S // 10 for n in range(20)]
    passed(stamps[:5], time, pacer)
    time.now += 3
    times = passed(stamps[5:10], time, pacer)
    assert times == pytest.approx([3.4, 3.5, 3.6, 3.7, 3.8])
    assert pacer.stalls == 1


def test_a_reader_that_never_keeps_up_is_never_held_back() -> None:
    time = Time()
    pacer = Pacer(stop=time, clock=time)
    times = passed([n * S // 10 for n in range(10)], time, pacer, work=0.25)
    assert times == pytest.approx([0.25 * n for n in range(10)])
    assert pacer.stalls > 0


@pytest.mark.parametrize("leap", [-3600 * S, 3600 * S])
def test_stamps_that_leap_start_anew_instead_of_waiting_for_hours(leap: int) -> None:
    time = Time()
    pacer = Pacer(stop=time, clock=time)
    times = passed([3600 * S, 3601 * S, 3601 * S + leap, 3602 * S + leap], time, pacer)
    assert times == pytest.approx([0, 1, 1, 2])


def test_rate_and_resync_while_playing() -> None:
    time = Time()
    pacer = Pacer(2.0, stop=time, clock=time)
    assert passed([0, S], time, pacer) == pytest.approx([0, 0.5])
    pacer.rate = 0.5
    assert passed([2 * S, 3 * S], time, pacer) == pytest.approx([0.5, 2.5])
    time.now += 60
    pacer.resync()
    assert passed([4 * S, 5 * S], time, pacer) == pytest.approx([62.5, 64.5])
    assert pacer.stalls == 0


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_rates(rate: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        Pacer(rate)


def test_a_real_event_ends_a_wait_and_every_later_one() -> None:
    stop = threading.Event()
    pacer = Pacer(stop=stop)
    assert pacer.wait(0)
    outcome: list[bool] = []
    thread = threading.Thread(target=lambda: outcome.append(pacer.wait(50 * S)))
    thread.start()
    stop.set()
    thread.join(20)
    assert outcome == [False]
    assert not pacer.wait(100 * S)
