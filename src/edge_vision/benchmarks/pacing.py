"""Frames at an even rate, the same way for every contender."""

from __future__ import annotations

import time


class Ticker:
    """Sleeps until each tick is due. A late tick comes at once and the time-table goes on from there."""

    def __init__(self, rate: float) -> None:
        self._period = 1.0 / rate if rate else 0.0
        self._due = time.perf_counter()

    def wait(self) -> None:
        delay = self._due - time.perf_counter()
        if delay > 0:
            time.sleep(delay)
        else:
            self._due -= delay
        self._due += self._period
