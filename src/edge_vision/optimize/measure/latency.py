"""Latency of several models side by side with the original: all open in one process, taking turns in random order.

A machine does other things meanwhile, and its clock goes up and down. Turns of some 30 ms let that fall on all models
alike, and ratios are taken within a round of turns: the figure to trust is the ratio with its interval, not the
milliseconds.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Frame
from edge_vision.inference.bundle import Bundle
from edge_vision.inference.errors import InferenceError
from edge_vision.inference.opening import Choice, Opened, open_choice
from edge_vision.inference.preprocess import Preprocessor
from edge_vision.inference.tuning import check_images
from edge_vision.optimize.measure.apart import choice_of, run_apart

ORIGINAL = "original"
_TURN = 0.03  # seconds
_LEAST_ROUNDS, _MOST_ROUNDS = 8, 400
_LOADS, _LOADING = 3, 20.0  # times that each is opened, seconds after which once is enough
_DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Latency:
    """One model on one backend. Milliseconds of the backend's call: p50, p95 over `runs` calls; first: of the first.

    ratio: of the median to the original's, 1 for the original itself: the median over rounds of turns, with its 95 %
    bootstrap interval low, high; None where the original does not run there. load_s: to open it, median.
    problem: why there are no figures, "" where there are.
    """

    model: str
    backend: str
    version: str = ""
    precision: str = ""
    threads: int = 0
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    first_ms: float = 0.0
    load_s: float = 0.0
    runs: int = 0
    rounds: int = 0
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    problem: str = ""

    @property
    def speedup(self) -> float | None:
        """How many times faster than the original."""
        return 1 / self.ratio if self.ratio else None


@dataclass(frozen=True)
class LatencyRun:
    """rows: a model a backend, the original first; load_average: of the machine over the last minute, before and after:
    about `threads` where it has nothing else to do."""

    rows: tuple[Latency, ...]
    cores: int
    load_average: tuple[float, float]
    seconds: float

    def of(self, model: str, backend: str) -> Latency | None:
        return next((row for row in self.rows if (row.model, row.backend) == (model, backend)), None)


def measure_latency(
    original: Bundle,
    models: Mapping[str, Bundle],
    backends: Sequence[str] = ("onnxruntime", "openvino"),
    *,
    device: str = "cpu",
    threads: int = 1,
    seconds: float = 5.0,
    seed: int = 0,
    timeout: float = 300.0,
    step: Callable[[str], object] = lambda backend: None,
) -> LatencyRun:
    """The latency of models by backend, in one run with the original.

    seconds: of measuring for each model on each backend; timeout: for a backend with all its models; step: is told each
    backend before it is measured. What cannot be run is a row with its problem; nothing is raised for it.
    """
    before, begun = os.getloadavg()[0], time.monotonic()
    rows: list[Latency] = []
    named = {ORIGINAL: original, **models}
    for name in backends:
        step(name)
        rows += _on_backend(name, named, (device, threads), seconds, seed, timeout)
    load = (round(before, 2), round(os.getloadavg()[0], 2))
    return LatencyRun(tuple(rows), os.cpu_count() or 1, load, time.monotonic() - begun)


@dataclass(frozen=True)
class _Job:
    models: tuple[tuple[str, Bundle, Choice], ...]
    seconds: float
    seed: int


@dataclass
class _Contender:
    opened: Opened
    tensor: NDArray
    loads: list[float]
    first: float = 0.0
    runs: int = 1
    blocks: list[list[float]] = field(default_factory=list)

    def block(self, count: int) -> list[float]:
        """Milliseconds of `count` calls behind one that brings the model back into the caches."""
        run, tensor, clock = self.opened.run, self.tensor, time.perf_counter_ns
        run(tensor)
        taken = []
        for _ in range(count):
            start = clock()
            run(tensor)
            taken.append((clock() - start) * 1e-6)
        return taken


def _on_backend(
    name: str, models: Mapping[str, Bundle], where: tuple[str, int], seconds: float, seed: int, timeout: float
) -> list[Latency]:
    jobs: list[tuple[str, Bundle, Choice]] = []
    problems: dict[str, str] = {}
    for label, bundle in models.items():
        try:
            jobs.append((label, bundle, choice_of(bundle, name, *where)))
        except InferenceError as error:
            problems[label] = error.problem
    rows: dict[str, Latency] = {}
    if jobs:
        try:
            job = _Job(tuple(jobs), seconds, seed)
            rows = run_apart(f"{__name__}.side_by_side", job, timeout)
        except InferenceError as error:
            problems |= {label: error.problem for label, _, _ in jobs}
    failed = {label: Latency(label, name, threads=where[1], problem=why) for label, why in problems.items()}
    return [rows.get(label) or failed[label] for label in models]


def side_by_side(job: _Job) -> dict[str, Latency]:
    """The rows of all models of one backend, by label; runs in a process of its own."""
    contenders: dict[str, _Contender] = {}
    rows: dict[str, Latency] = {}
    _, first_bundle, first_choice = job.models[0]
    with suppress(InferenceError):  # is met again below
        open_choice(first_bundle, first_choice).session.close()  # imports the runtime, fills its caches
    for label, bundle, choice in job.models:
        try:
            contenders[label] = _open(bundle, choice)
        except InferenceError as error:
            rows[label] = Latency(label, choice.backend, threads=choice.threads, problem=error.problem)
    order = np.random.default_rng(job.seed)
    blocks = _rounds(list(contenders.values()), job.seconds, order)
    base = blocks[0] if ORIGINAL in contenders else None
    for index, (label, contender) in enumerate(contenders.items()):
        rows[label] = _row(label, contender, blocks[index], base, label == ORIGINAL, order)
    return rows


def _open(bundle: Bundle, choice: Choice) -> _Contender:
    loads: list[float] = []
    while True:
        start = time.perf_counter()
        opened = open_choice(bundle, choice)
        loads.append(time.perf_counter() - start)
        if len(loads) == _LOADS or sum(loads) > _LOADING:
            break
        opened.session.close()
    tensor = Preprocessor(opened.input)(Frame(check_images(opened.input)[1]))[0]
    contender = _Contender(opened, tensor, loads)
    start = time.perf_counter()
    opened.run(tensor)
    contender.first = (time.perf_counter() - start) * 1e3
    return contender


def _rounds(contenders: list[_Contender], seconds: float, order: np.random.Generator) -> NDArray[np.float64]:
    """Median of each block (models, rounds), after a warm-up that also tells how many calls make a turn."""
    for contender in contenders:
        taken = contender.block(3)
        while sum(taken) < 100 and len(taken) < 200:
            taken += contender.block(3)
        contender.runs = int(np.clip(np.ceil(_TURN * 1e3 / max(np.median(taken), 1e-3)), 2, 300))
    whole = sum(np.median(contender.block(2)) * (contender.runs + 1) for contender in contenders) / 1e3
    wanted = seconds * len(contenders) / max(whole, 1e-6)
    rounds = int(np.clip(wanted, _LEAST_ROUNDS, _MOST_ROUNDS))
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for index in order.permutation(len(contenders)):
                contenders[index].blocks.append(contenders[index].block(contenders[index].runs))
    finally:
        gc.enable()
    return np.array([[np.median(block) for block in contender.blocks] for contender in contenders])


def _row(
    label: str,
    contender: _Contender,
    blocks: NDArray[np.float64],
    base: NDArray[np.float64] | None,
    is_original: bool,
    draws: np.random.Generator,
) -> Latency:
    times = np.concatenate(contender.blocks)
    real = contender.opened.session.describe()
    ratio: tuple[float, ...] = (1.0, 1.0, 1.0)
    if base is not None and not is_original:
        ratio = paired_ratio(blocks, base, draws)
    values: dict[str, Any] = {}
    if base is not None:
        values = dict(zip(("ratio", "low", "high"), (round(value, 4) for value in ratio), strict=True))
    p50, p95 = np.percentile(times, (50, 95))
    return Latency(
        model=label,
        backend=real.backend,
        version=real.runtime_version,
        precision=real.precision,
        threads=real.threads,
        p50_ms=round(float(p50), 4),
        p95_ms=round(float(p95), 4),
        first_ms=round(contender.first, 3),
        load_s=round(float(np.median(contender.loads)), 4),
        runs=len(times),
        rounds=len(blocks),
        **values,
    )


def paired_ratio(
    blocks: NDArray[np.float64], base: NDArray[np.float64], draws: np.random.Generator
) -> tuple[float, float, float]:
    """Median over rounds of `blocks` / `base`, with the 95 % percentile bootstrap interval over rounds."""
    ratios = blocks / base
    chosen = ratios[draws.integers(0, len(ratios), (_DRAWS, len(ratios)))]
    low, high = np.percentile(np.median(chosen, axis=1), (2.5, 97.5))
    return float(np.median(ratios)), float(low), float(high)
