"""The machine while something is measured on it: temperature, throttling, clock, power and energy, sampled aside."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_vision import health
from edge_vision.benchmarks.power import NvidiaSmi, Source, find_sources, headline

PERIOD = 0.1  # seconds between samples; the slowest of the monitors renews its figures about as often


@dataclass(frozen=True, slots=True)
class Sample:
    """The machine at one moment; None for what it does not tell. at: seconds of `time.monotonic`; joules: since the
    monitor began, by source; see `health` for the others."""

    at: float
    temperature_c: float | None
    throttled: str | None
    throttle_events: int | None
    frequency_share: float | None
    joules: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Span:
    """What the machine did for a while; None and {} for what it does not tell.

    temperature_c: the highest; throttled: `no`, or in words what slowed it down at any time; frequency_share: the
    lowest clock of the samples, as a share of the highest possible; joules: by source; energy_j: of those that together
    are the machine's (`power.headline`); power_w: their mean power.
    """

    seconds: float
    temperature_c: float | None = None
    throttled: str | None = None
    frequency_share: float | None = None
    joules: Mapping[str, float] | None = None
    energy_j: float | None = None

    @property
    def power_w(self) -> float | None:
        return None if self.energy_j is None or self.seconds <= 0 else self.energy_j / self.seconds


class Monitor:
    """Samples the machine ten times a second in a thread, where there is anything to sample.

    `mark()` before and `since(mark)` after what is measured. Use as a context manager.
    """

    def __init__(
        self, root: str | Path = "/", *, period: float = PERIOD, sources: Sequence[Source] | None = None
    ) -> None:
        """root: below which /sys lies; another than `/` leaves nvidia-smi and vcgencmd alone. sources: instead of those
        found there."""
        self.root = Path(root)
        own = self.root == Path("/")
        self._smi = NvidiaSmi() if own and sources is None else None
        self.closed: list[str] = []
        """Sources of power that are there but cannot be read, with what would open them."""
        if sources is None:
            sources, self.closed = find_sources(self.root)
            sources = [*sources, *(self._smi.sources() if self._smi else ())]
        self.sources = tuple(sources)
        self.headline = tuple(headline(self.sources))
        self._vcgencmd = shutil.which("vcgencmd") if own and health.throttled(self.root) is None else None
        self._lock = threading.Lock()
        self._joules = dict.fromkeys((source.name for source in self.sources), 0.0)
        self._last: dict[str, tuple[float, float]] = {}
        self._samples: list[Sample] = []
        self._stop = threading.Event()
        first = self._sample()
        told = (first.temperature_c, first.throttled, first.throttle_events, first.frequency_share)
        self.empty = not self.sources and all(value is None for value in told)
        self._thread = threading.Thread(target=self._run, args=(period,), daemon=True)
        if not self.empty:
            self._thread.start()

    def mark(self) -> Sample:
        """The machine now."""
        return self._sample()

    def since(self, start: Sample) -> Span:
        """What happened from `start` until now."""
        end = self._sample()
        with self._lock:
            samples = [sample for sample in self._samples if sample.at >= start.at]
        joules = {name: end.joules[name] - start.joules[name] for name in end.joules}
        return Span(
            seconds=end.at - start.at,
            temperature_c=max((s.temperature_c for s in samples if s.temperature_c is not None), default=None),
            throttled=_throttled(samples, start, end),
            frequency_share=min((s.frequency_share for s in samples if s.frequency_share is not None), default=None),
            joules=joules,
            energy_j=sum(joules[name] for name in self.headline) if self.headline else None,
        )

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._smi:
            self._smi.close()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, period: float) -> None:
        while not self._stop.wait(period):
            self._sample()

    def _sample(self) -> Sample:
        with self._lock:
            for source in self.sources:
                self._count(source)
            gpu = self._smi.temperature_c() if self._smi else None
            readings = [value for value in (health.temperature_c(self.root), gpu) if value is not None]
            sample = Sample(
                at=time.monotonic(),
                temperature_c=max(readings, default=None),
                throttled=self._throttled(),
                throttle_events=health.throttle_events(self.root),
                frequency_share=health.frequency_share(self.root),
                joules=dict(self._joules),
            )
            self._samples.append(sample)
            return sample

    def _count(self, source: Source) -> None:
        """Add what a source gave off since it was last looked at."""
        value = source.joules() if source.joules else source.watts() if source.watts else None
        if value is None:
            return
        now = time.monotonic()
        before, last = self._last.get(source.name, (now, value))
        if source.joules:
            gone = value - last
            self._joules[source.name] += gone + source.wraps_at if gone < 0 else gone
        else:
            self._joules[source.name] += (value + last) / 2 * (now - before)
        self._last[source.name] = now, value

    def _throttled(self) -> str | None:
        if self._vcgencmd is None:
            return health.throttled(self.root)
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run([self._vcgencmd, "get_throttled"], capture_output=True, text=True, timeout=2)
            return health.throttled_bits(done.stdout)
        return None


def _throttled(samples: Sequence[Sample], start: Sample, end: Sample) -> str | None:
    """In words, of all the samples; None where none tells."""
    words = [sample.throttled for sample in samples if sample.throttled is not None]
    found = list(dict.fromkeys(part for text in words if text != "no" for part in text.split(", ")))
    events = None
    if start.throttle_events is not None and end.throttle_events is not None:
        events = end.throttle_events - start.throttle_events
        if events > 0:
            found.append(f"slowed down by heat {events} times")
    return ", ".join(found) or ("no" if words or events is not None else None)
