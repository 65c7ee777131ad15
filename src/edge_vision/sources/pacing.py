"""Recorded frames in real time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from edge_vision.datatypes import NS_PER_S


class Waitable(Protocol):
    """As much of threading.Event as a pacer needs."""

    def wait(self, timeout: float) -> bool: ...

    def is_set(self) -> bool: ...


class Pacer:
    """Holds recorded frames back until their time: by their stamps, on the monotonic clock, ``rate`` times as fast.

    Every frame is due at a fixed time after the first, so that errors of single waits do not add up. After a stall of
    more than ``tolerance`` seconds the time-table starts anew from there, instead of a burst of what was missed;
    so it does where stamps step back or leap by more than ``longest_gap`` seconds.
    """

    def __init__(
        self,
        rate: float = 1.0,
        *,
        stop: Waitable | None = None,
        tolerance: float = 0.1,
        longest_gap: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stop = stop if stop is not None else threading.Event()
        self._tolerance = tolerance
        self._longest_gap = longest_gap
        self._clock = clock
        self._origin: tuple[float, int] | None = None  # clock, stamp
        self._last = 0
        self.stalls = 0
        self.rate = rate

    @property
    def rate(self) -> float:
        """1.0: real time; 2.0: twice as fast. Setting it takes effect with the next frame."""
        return self._rate

    @rate.setter
    def rate(self, value: float) -> None:
        if not 0 < value < float("inf"):
            raise ValueError(f"the rate of playing is {value}: it must be above 0 (1.0 is real time)")
        self._rate = float(value)
        self._origin = None

    def resync(self) -> None:
        """Start the time-table anew with the next frame, as after a pause."""
        self._origin = None

    def wait(self, stamp: int) -> bool:
        """Returns when the frame of ``stamp`` (ns) is due: True, or False at once when stopped."""
        now = self._clock()
        if self._origin is not None and not 0 <= stamp - self._last <= self._longest_gap * NS_PER_S:
            self._origin = None
        self._last = stamp
        if self._origin is None:
            self._origin = now, stamp
        start, first = self._origin
        delay = start + (stamp - first) / NS_PER_S / self._rate - now
        if delay > 0:
            return not self._stop.wait(delay)
        if delay < -self._tolerance:
            self.stalls += 1
            self._origin = now, stamp
        return not self._stop.is_set()
