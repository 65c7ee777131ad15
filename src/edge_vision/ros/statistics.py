"""Counting and timing inside a node, cheap enough for every frame."""

from __future__ import annotations

import time
from collections import deque

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import StageLatency

WINDOW = 512  # newest samples the percentiles are made from


class Stage:
    """Times one stage of a node: ``with stage: ...``. Used by one thread at a time, read by another."""

    __slots__ = ("_count", "_samples", "_start", "name")

    def __init__(self, name: str):
        self.name = name
        self._samples = np.zeros(WINDOW, np.int64)
        self._count = 0
        self._start = 0

    def __enter__(self) -> Stage:
        self._start = time.perf_counter_ns()
        return self

    def __exit__(self, *_) -> None:
        self.add(time.perf_counter_ns() - self._start)

    def add(self, nanoseconds: int) -> None:
        self._samples[self._count % WINDOW] = nanoseconds
        self._count += 1

    @property
    def count(self) -> int:
        """Samples since the beginning."""
        return self._count

    def newest(self, count: int) -> NDArray[np.int64]:
        """The newest samples in ns, oldest first: `count` of them, or as many as there are (512 at most)."""
        count = min(count, self._count, WINDOW)
        return self._samples[np.arange(self._count - count, self._count) % WINDOW]

    def latency(self, node: str) -> StageLatency | None:
        """Percentiles of the newest samples, None before the first."""
        count = min(self._count, WINDOW)
        if not count:
            return None
        p50, p95, p99 = np.percentile(self._samples[:count], (50, 95, 99)) * 1e-6
        return StageLatency(node, self.name, self._count, float(p50), float(p95), float(p99))


class Rate:
    """Events per second over the last few seconds."""

    __slots__ = ("_last", "_times", "total")

    def __init__(self, keep: int = 64):
        self._times: deque[float] = deque(maxlen=keep)
        self._last = time.monotonic()
        self.total = 0

    def silent_s(self) -> float:
        """Seconds since the last event (or since this was made)."""
        return time.monotonic() - self._last

    def tick(self) -> None:
        self._last = time.monotonic()
        self._times.append(self._last)
        self.total += 1

    def value(self) -> float:
        """Hz; 0 where less than two events are known or the last is so old that nothing comes any more."""
        times = tuple(self._times)
        if len(times) < 2:
            return 0.0
        span = times[-1] - times[0]
        silence = time.monotonic() - times[-1]
        if span <= 0:
            return 0.0
        rate = (len(times) - 1) / span
        return rate if silence < max(1.0, 3.0 / rate) else 0.0
