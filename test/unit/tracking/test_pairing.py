"""Detections and the frames they are of, whatever the order of their coming."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.datatypes import Detections, Frame
from edge_vision.tracking.pairing import StampPairs

IMAGE = np.zeros((1, 1, 3), np.uint8)


class Log:
    def __init__(self, **options: int) -> None:
        self.delivered: list[tuple[int, int | None]] = []
        self.pairs = StampPairs(
            lambda d, f: self.delivered.append((d.stamp, None if f is None else f.stamp)), **options
        )

    def frame(self, *stamps: int) -> None:
        for stamp in stamps:
            self.pairs.add_frame(Frame(IMAGE, stamp))

    def found(self, *stamps: int) -> None:
        for stamp in stamps:
            self.pairs.add_detections(Detections(stamp=stamp))


def test_the_usual_order_is_delivered_at_once() -> None:
    log = Log()
    for stamp in range(5):
        log.frame(stamp)
        log.found(stamp)
        assert log.delivered[-1] == (stamp, stamp)
    assert log.pairs.missed == 0


def test_images_run_ahead_of_a_slow_detector() -> None:
    log = Log()
    log.frame(0, 1, 2)
    log.found(0)
    log.frame(3)
    log.found(1, 3)
    assert log.delivered == [(0, 0), (1, 1), (3, 3)]


def test_an_image_that_comes_late_is_waited_for() -> None:
    log = Log()
    log.found(7)
    assert log.delivered == []
    log.frame(7)
    assert log.delivered == [(7, 7)]


def test_a_lost_image_is_known_by_the_next_one_or_by_the_next_detections() -> None:
    log = Log()
    log.frame(1)
    log.found(1, 2)
    log.frame(3)
    assert log.delivered == [(1, 1), (2, None)]
    log.found(3, 4)
    log.found(5)
    assert log.delivered == [(1, 1), (2, None), (3, 3), (4, None)]
    assert log.pairs.missed == 2
    log.frame(5)
    assert log.delivered[-1] == (5, 5)


def test_without_any_images_nothing_waits_for_long() -> None:
    log = Log(patience=3)
    for stamp in range(10):
        log.found(stamp)
    assert [stamp for stamp, _ in log.delivered] == list(range(10))
    assert log.pairs.missed == 10
    log.frame(10)
    log.found(10)
    assert log.delivered[-1] == (10, 10)
    log.found(11)  # they flow again: it is worth waiting
    assert log.delivered[-1] == (10, 10)
    log.frame(11)
    assert log.delivered[-1] == (11, 11)


def test_only_the_newest_frames_are_kept() -> None:
    log = Log(depth=3)
    log.frame(*range(10))
    log.found(5, 8)
    assert log.delivered == [(5, None), (8, 8)]


def test_a_detector_that_is_slower_than_the_frames_kept_has_more_of_them_kept() -> None:
    log = Log(depth=4, most=16)
    for stamp in range(60):
        log.frame(stamp)
        if stamp >= 10:
            log.found(stamp - 10)
    images = [frame for _, frame in log.delivered]
    assert images[-40:] == list(range(10, 50))
    assert 0 < log.pairs.missed <= 10


def test_the_wait_of_the_last_ones_ends_when_somebody_says_so() -> None:
    log = Log()
    log.frame(1)
    log.found(1, 2)
    waiting = log.pairs.waiting
    assert waiting is not None
    assert waiting.stamp == 2
    log.pairs.give_up(waiting)
    log.pairs.give_up(waiting)  # no longer there
    assert log.delivered == [(1, 1), (2, None)]
    assert log.pairs.waiting is None
    log.frame(3)
    log.found(3, 4)
    log.pairs.give_up(waiting)  # another one waits
    assert log.delivered == [(1, 1), (2, None), (3, 3)]
    log.pairs.forget()
    assert log.delivered[-1] == (4, None)
    log.found(3)
    assert log.delivered[-1] == (4, None)  # its image was dropped: it may come again


def test_time_that_jumps_back_begins_anew() -> None:
    log = Log(depth=4)
    log.frame(100, 101)
    log.found(100, 101)
    log.frame(1)
    log.found(1)
    log.frame(2)
    log.found(2)
    assert log.delivered == [(100, 100), (101, 101), (1, 1), (2, 2)]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=60), st.integers(1, 5))
def test_detections_keep_their_order_and_at_most_one_waits(events: list[tuple[bool, int]], depth: int) -> None:
    log = Log(depth=depth)
    sent = []
    for is_frame, stamp in events:
        if is_frame:
            log.frame(stamp)
        else:
            log.found(stamp)
            sent.append(stamp)
        assert len(sent) - len(log.delivered) <= 1
    assert [stamp for stamp, _ in log.delivered] == sent[: len(log.delivered)]
    assert all(frame in (None, stamp) for stamp, frame in log.delivered)
    assert log.pairs.missed == sum(frame is None for _, frame in log.delivered)
