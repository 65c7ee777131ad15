"""Measuring the ways to run a model: each in a process of its own, in turns, so that what else the machine does falls
on all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_vision.benchmarks import usage
from edge_vision.benchmarks.backends import DIFFERS, EQUAL, UNVERIFIED, Row, Settings
from edge_vision.benchmarks.pacing import Ticker
from edge_vision.benchmarks.system import Monitor
from edge_vision.inference.backends import backend
from edge_vision.inference.bundle import Bundle
from edge_vision.inference.errors import InferenceError
from edge_vision.inference.opening import Choice
from edge_vision.inference.tuning import LARGEST_DIFFERENCE, check_images, difference
from edge_vision.inference.worker import Loaded, Worker
from edge_vision.system_files import number, read_text, value_of

_OPENING = 600.0  # seconds: compilers of engines take minutes
_SLOW_LOAD = 3.0  # seconds of opening, above which it is looked whether the second time is faster
_PACED = (0.5, 2.0)  # least and most seconds at an even rate
_SHARE = 0.75  # of a candidate's time spent in runs one after the other
_TURN = 0.25  # seconds of a turn: shorter than what else a machine does lasts, so that it falls on all alike
_MOST_ROUNDS, _LEAST_TURNS = 40, 3
_LEAST_RUNS, _MOST_RUNS = 2, 2000  # a turn
_MEGABYTE = 1 << 20
_MEMINFO = Path("/proc/meminfo")

Progress = Callable[[str], object]
"""Is told what comes next, once a step; see `steps`."""


@dataclass
class _Contender:
    """A candidate that is open, and what its turns gave so far."""

    row: Row
    worker: Worker
    loaded: Loaded
    build_s: float | None = None
    calls: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    paced: list[float] = field(default_factory=list)
    every: int = 1  # takes part in every n-th round: a slow one has fewer turns
    busy: tuple[float, float] = (0.0, 0.0)  # CPU seconds, seconds
    paced_busy: tuple[float, float] = (0.0, 0.0)
    idle: tuple[float, float] = (0.0, 0.0)
    left_at: tuple[float, float] | None = None  # CPU seconds and time at the end of the last turn
    temperatures: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    throttled: list[str] = field(default_factory=list)
    joules: dict[str, float] = field(default_factory=dict)
    energy: tuple[float, float] | None = None  # joules, seconds


def steps(count: int, settings: Settings) -> int:
    """How often the progress is told, for `count` candidates."""
    return count * (_rounds_of(settings, count) + 2)


def _rounds_of(settings: Settings, count: int) -> int:
    share = settings.seconds / max(count, 1) * _SHARE
    return settings.rounds or min(max(round(share / _TURN), _LEAST_TURNS), _MOST_ROUNDS)


def measure(
    bundle: Bundle,
    found: Sequence[tuple[Choice, Row]],
    settings: Settings,
    monitor: Monitor,
    progress: Progress = lambda what: None,
) -> list[Row]:
    """The rows with figures, in their order; one that failed has the reason instead."""
    rows: dict[int, Row] = {}
    reference = _Reference(bundle)
    pending = list(enumerate(found))
    share = settings.seconds / max(len(pending), 1)
    while pending:
        contenders: dict[int, _Contender] = {}
        try:
            while pending and _room(contenders.values()):
                index, (choice, row) = pending.pop(0)
                progress(f"opening {row.name}")
                try:
                    contenders[index] = _open(bundle, choice, row, reference)
                except InferenceError as error:
                    rows[index] = replace(row, reason=error.problem)
            _rounds(contenders, settings, _rounds_of(settings, len(found)), share, monitor, progress, rows)
        finally:
            for contender in contenders.values():
                contender.worker.close()
    return [rows[index] for index in sorted(rows)]


# --- opening ---------------------------------------------------------------------------------------------------------


class _Reference:
    """Raw outputs of fp32 ONNX Runtime on two images, computed when first asked for."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.images = check_images(bundle.input)
        self._raw: list[list[NDArray]] | None = None
        self._asked = False

    def raw(self) -> list[list[NDArray]] | None:
        """None where the bundle has no such file or the runtime is not here."""
        if not self._asked:
            self._asked = True
            variants = self.bundle.variants
            variant = next((v for v in variants if v.path.suffix == ".onnx" and v.precision == "fp32"), None)
            if variant is not None and backend("onnxruntime").available() is None:
                with Worker(_OPENING) as worker:
                    try:
                        worker.open(self.bundle, Choice("onnxruntime", "cpu", "fp32", 1, variant))
                        self._raw = worker.raw(self.images)
                    except InferenceError:
                        self._raw = None
        return self._raw


def _open(bundle: Bundle, choice: Choice, row: Row, reference: _Reference) -> _Contender:
    worker = Worker(_OPENING)
    try:
        loaded = worker.open(bundle, choice)
        real = loaded.description.precision
        if real != choice.precision:
            raise InferenceError(f"computes in {real} here, not in {choice.precision}: see {real}")
        build_s = None
        if loaded.load > _SLOW_LOAD:
            worker.close()
            build_s = loaded.load
            worker = Worker(_OPENING)
            loaded = worker.open(bundle, choice)
        if row.proof == UNVERIFIED and choice.precision == "fp32":
            row = _compared(row, worker, loaded, reference)
    except BaseException:
        worker.close()
        raise
    version = loaded.description.runtime_version or row.version
    row = replace(row, version=version, threads=loaded.description.threads, load_s=loaded.load, first_ms=loaded.first)
    return _Contender(replace(row, build_s=build_s), worker, loaded)


def _compared(row: Row, worker: Worker, loaded: Loaded, reference: _Reference) -> Row:
    """The row with the proof that `auto` asks of fp32."""
    expected = reference.raw()
    if expected is None:
        return row
    try:
        pairs = zip(expected, worker.raw(reference.images), strict=True)
        gap = max(difference(theirs, ours, not loaded.final) for theirs, ours in pairs)
    except InferenceError as error:
        return replace(row, proof=DIFFERS, proof_note=error.problem)
    note = f"raw outputs within {gap:.0e} of ONNX Runtime's, as a share of their range"
    return replace(row, proof=EQUAL if gap <= LARGEST_DIFFERENCE else DIFFERS, proof_note=note)


def _room(open_now: Iterable[_Contender]) -> bool:
    """Whether one more candidate fits into memory beside those that are open."""
    largest = max((contender.worker.usage().rss for contender in open_now), default=0)
    text = read_text(_MEMINFO)
    free, total = (_bytes(text, key) for key in ("MemAvailable", "MemTotal"))
    return not largest or not total or free > 2 * largest + 0.1 * total


def _bytes(text: str, key: str) -> int:
    words = value_of(text, key).split()
    return (number(words[0]) or 0) * 1024 if words else 0


# --- running ---------------------------------------------------------------------------------------------------------


def _rounds(
    contenders: dict[int, _Contender],
    settings: Settings,
    rounds: int,
    share: float,
    monitor: Monitor,
    progress: Progress,
    rows: dict[int, Row],
) -> None:
    """Turns of all, then each at an even rate; the rows of all."""
    turn = share * _SHARE / rounds
    paced = min(max(share * (1 - _SHARE), _PACED[0]), _PACED[1])
    for number_ in range(rounds):
        for index in _order(contenders, number_):
            progress(f"round {number_ + 1} of {rounds}: {contenders[index].row.name}")
            if number_ % contenders[index].every == 0:
                _try(contenders, index, rows, lambda one: _turn(one, turn, monitor))
            if number_ == 0 and index in contenders:
                # Eight runs fill a turn; whoever is slower has longer ones, in return for fewer.
                typical = float(np.median(contenders[index].calls)) * 1e-3
                contenders[index].every = max(1, min(round(8 * typical / turn), rounds // _LEAST_TURNS))
    for index in list(contenders):
        progress(f"at {settings.rate:g} Hz: {contenders[index].row.name}")
        _try(contenders, index, rows, lambda one: _pace(one, settings.rate, paced))
    for index, contender in contenders.items():
        rows[index] = _row(contender, settings)


def _order(contenders: dict[int, _Contender], number_: int) -> list[int]:
    """There and back, so that nobody always follows the same neighbour."""
    return sorted(contenders, reverse=bool(number_ % 2))


def _try(
    contenders: dict[int, _Contender], index: int, rows: dict[int, Row], do: Callable[[_Contender], object]
) -> None:
    """Do it; a candidate that fails is out, with the reason, and the others go on."""
    try:
        do(contenders[index])
    except (InferenceError, ProcessLookupError) as error:
        contender = contenders.pop(index)
        contender.worker.close()
        rows[index] = replace(contender.row, reason=getattr(error, "problem", str(error)))


def _turn(contender: _Contender, seconds: float, monitor: Monitor) -> None:
    """Runs for about `seconds`: two thirds the backend's call, one third all of `infer`."""
    worker = contender.worker
    _end_idle(contender)
    warm = worker.times(1)[-1]  # the others have taken the caches
    typical = max(float(np.median(contender.calls)) if contender.calls else warm, 1e-3)
    count = min(max(int(seconds * contender.every * 667 / typical), _LEAST_RUNS), _MOST_RUNS)
    mark = monitor.mark()
    before, start = worker.usage().cpu, time.perf_counter()
    contender.calls += worker.times(count)
    wall = time.perf_counter() - start
    spent = worker.usage().cpu - before
    span = monitor.since(mark)
    contender.busy = contender.busy[0] + spent, contender.busy[1] + wall
    if span.temperature_c is not None:
        contender.temperatures.append(span.temperature_c)
    if span.frequency_share is not None:
        contender.shares.append(span.frequency_share)
    if span.throttled is not None:
        contender.throttled.append(span.throttled)
    if span.energy_j is not None:
        joules, total = contender.energy or (0.0, 0.0)
        contender.energy = joules + span.energy_j, total + span.seconds
        for name, value in (span.joules or {}).items():
            contender.joules[name] = contender.joules.get(name, 0.0) + value
    contender.whole += worker.times(max(count // 2, 1), True)
    _begin_idle(contender)


def _begin_idle(contender: _Contender) -> None:
    contender.left_at = contender.worker.usage().cpu, time.perf_counter()


def _end_idle(contender: _Contender) -> None:
    if contender.left_at is not None:
        cpu, at = contender.left_at
        spent, wall = contender.worker.usage().cpu - cpu, time.perf_counter() - at
        contender.idle = contender.idle[0] + spent, contender.idle[1] + wall
        contender.left_at = None


def _pace(contender: _Contender, rate: float, seconds: float) -> None:
    """A frame every 1 / rate seconds; nothing for a candidate that cannot keep up."""
    _end_idle(contender)
    if float(np.median(contender.whole)) * rate > 900:
        return
    worker, ticker = contender.worker, Ticker(rate)
    worker.times(1)
    before, start = worker.usage().cpu, time.perf_counter()
    for _ in range(max(int(seconds * rate), 2)):
        ticker.wait()
        contender.paced += worker.times(1)
    ticker.wait()
    wall = time.perf_counter() - start
    contender.paced_busy = worker.usage().cpu - before, wall


def _row(contender: _Contender, settings: Settings) -> Row:
    calls, whole = np.array(contender.calls), np.array(contender.whole)
    p50, p95, p99 = (float(value) for value in np.percentile(calls, (50, 95, 99)))
    memory = usage.usage(contender.worker.pid)
    slow = [text for text in contender.throttled if text != "no"]
    energy, paced = contender.energy, contender.paced
    return replace(
        contender.row,
        runs=len(calls),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        mean_ms=float(calls.mean()),
        max_ms=float(calls.max()),
        infer_p50_ms=float(np.median(whole)),
        infer_p95_ms=float(np.percentile(whole, 95)),
        runs_per_s=1e3 / float(calls.mean()),
        frames_per_s=1e3 / float(whole.mean()),
        rss_mib=memory.rss_mb,
        peak_mib=memory.peak_mb,
        growth_mib=memory.rss_mb - contender.loaded.before.rss / _MEGABYTE,
        cores=_cores(contender.busy),
        cores_idle=_cores(contender.idle),
        cores_paced=_cores(contender.paced_busy),
        paced_rate=settings.rate if paced else None,
        paced_p50_ms=float(np.median(paced)) if paced else None,
        temperature_c=max(contender.temperatures, default=None),
        frequency_share=min(contender.shares, default=None),
        throttled=(", ".join(dict.fromkeys(slow)) or "no") if contender.throttled else None,
        power_w=energy[0] / energy[1] if energy and energy[1] else None,
        energy_mj=energy[0] * 1e3 / len(calls) if energy else None,
        joules=dict(contender.joules),
    )


def _cores(busy: tuple[float, float]) -> float | None:
    return busy[0] / busy[1] if busy[1] > 0 else None
