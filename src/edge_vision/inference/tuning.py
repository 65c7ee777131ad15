"""The fastest of several candidates, measured on this machine and remembered.

Each candidate runs in a process of its own (`worker.py`), with the threads that the pipeline will give it. It is first
compared with fp32 ONNX Runtime on two images, unless its precision was verified before; then it is timed, and those
near the fastest are timed again in turns, so that what else the machine does falls on all alike.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.backends import backend
from edge_vision.inference.bundle import Bundle
from edge_vision.inference.errors import BackendError, InferenceError
from edge_vision.inference.hardware import Hardware
from edge_vision.inference.opening import Choice, Timing
from edge_vision.inference.preprocess import InputSpec
from edge_vision.inference.worker import Worker
from edge_vision.paths import cache_directory

LARGEST_DIFFERENCE = 1e-3
"""Of raw outputs from ONNX Runtime's, as a share of the output's range, for fp32 to count as fp32."""

TIMEOUT = 90.0  # seconds for one candidate to open: a compiler may need a minute
FIRST_LOOK = 0.3  # seconds of runs, before it is known who is near the fastest
NEAR = 1.5  # times the fastest: who is measured again
ROUNDS, ROUND = 6, 0.15  # times that the near ones run in turns, seconds each
TIE = 1.03  # times the fastest: then the order of the profile decides


@dataclass(frozen=True, slots=True)
class Comparison:
    """order: candidates, the first to be used first; timings: of those measured, by rising p50; rejected: (candidate,
    why) of those that cannot be used; when: the date of measurement, or why there was none."""

    order: tuple[Choice, ...]
    timings: tuple[Timing, ...]
    rejected: tuple[tuple[str, str], ...]
    when: str


def compare(
    bundle: Bundle,
    choices: Sequence[Choice],
    machine: Hardware,
    log: Callable[[str], None] | None = None,
    cache: Path | None = None,
) -> Comparison:
    """Measure `choices` (two or more), or take what was measured of just these before.

    cache: the folder of earlier results; None for `cache_directory("tuning")`. Never raises: where nothing can be
    measured, the order is that of `choices`.
    """
    try:
        file = (cache or cache_directory("tuning")) / f"{_key(choices, machine)}.json"
    except OSError as error:
        file = None
        _tell(log, f"the result of measuring the backends cannot be kept: {error}")
    known = _read(file, choices) if file else None
    if known is not None:
        return known
    _tell(log, f"measuring {len(choices)} ways to run {bundle.name}, once for this machine and model ...")
    start = time.monotonic()
    found = _measure(bundle, choices, log)
    _tell(log, f"... done in {time.monotonic() - start:.0f} s")
    if file and found.timings:
        _write(file, found, machine)
    return found


def _measure(bundle: Bundle, choices: Sequence[Choice], log: Callable[[str], None] | None) -> Comparison:
    try:
        with ExitStack() as stack:
            return _in_turns(bundle, choices, log, stack)
    except OSError as error:  # no process can be started
        return Comparison(tuple(choices), (), (), f"first of the profile, not measured: {error}")


def _in_turns(
    bundle: Bundle, choices: Sequence[Choice], log: Callable[[str], None] | None, stack: ExitStack
) -> Comparison:
    rejected: list[tuple[str, str]] = []
    looks: dict[Choice, list[float]] = {}
    workers: dict[Choice, Worker] = {}
    plan = _reference_first(bundle, choices)
    reference: list[list[NDArray]] | None = None
    images = check_images(bundle.input)
    # The next process comes up while one is looked at: importing takes as long as measuring.
    upcoming = stack.enter_context(Worker(TIMEOUT))
    for index, choice in enumerate(plan):
        worker = upcoming
        if index + 1 < len(plan):
            upcoming = stack.enter_context(Worker(TIMEOUT))
        try:
            loaded = worker.open(bundle, choice)
            if loaded.description.precision != choice.precision:
                raise BackendError(f"computes in {loaded.description.precision} here, not in {choice.precision}")
            if choice.precision == "fp32":
                outputs = worker.raw(images)
                if index == 0 and _is_reference(choice):
                    reference = outputs
                elif reference is not None:
                    _check(reference, outputs, loaded.final)
            if choice in choices:  # the reference may be there for its outputs alone
                looks[choice] = _run_for(worker, FIRST_LOOK)
                workers[choice] = worker
        except InferenceError as error:
            if choice in choices:
                rejected.append((str(choice), error.problem))
        best = min((_median(times) for times in looks.values()), default=0.0)
        for other in [c for c in workers if _median(looks[c]) > NEAR * best]:
            workers.pop(other).close()
        if choice not in workers:
            worker.close()
    near: dict[Choice, list[float]] = {choice: [] for choice in workers}
    for _ in range(ROUNDS if len(near) > 1 else 0):
        for choice, worker in workers.items():
            if choice not in looks:
                continue
            try:
                near[choice] += _run_for(worker, ROUND)
            except InferenceError as error:
                rejected.append((str(choice), error.problem))
                del looks[choice]
    times = {choice: near.get(choice) or look for choice, look in looks.items()}
    ranked = sorted(times, key=lambda choice: _median(times[choice]))
    timings = tuple(_timing(choice, times[choice]) for choice in ranked)
    if ranked:
        limit = _median(times[ranked[0]]) * TIE
        first = min((c for c in ranked if _median(times[c]) <= limit), key=choices.index)
        ranked = [first, *(choice for choice in ranked if choice is not first)]
    return Comparison(tuple(ranked), timings, tuple(rejected), time.strftime("%Y-%m-%d"))


def _is_reference(choice: Choice) -> bool:
    fp32 = choice.precision == choice.variant.precision == "fp32"
    return fp32 and choice.backend == "onnxruntime" and choice.device == "cpu" and choice.variant.path.suffix == ".onnx"


def _reference_first(bundle: Bundle, choices: Sequence[Choice]) -> list[Choice]:
    """The choices with fp32 ONNX Runtime in front, added where it is none of them but could be run."""
    found = [choice for choice in choices if _is_reference(choice)]
    if not found and backend("onnxruntime").available() is None:
        fp32 = (v for v in bundle.variants if v.path.suffix == ".onnx" and v.precision == "fp32")
        found = [Choice("onnxruntime", "cpu", "fp32", choices[0].threads, variant) for variant in fp32][:1]
    return found[:1] + [choice for choice in choices if choice not in found[:1]]


def check_images(spec: InputSpec) -> list[NDArray[np.uint8]]:
    """Two images of the network's size, (H, W, 3) uint8, always the same: noise, and soft shapes with edges."""
    rng = np.random.default_rng(7)
    noise = rng.integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8)
    y, x = np.mgrid[: spec.height, : spec.width] / max(spec.width, spec.height)
    waves = 127 + 90 * np.sin(9 * x + 4 * y)[..., None] * np.array([1.0, 0.6, -0.8])
    waves[(x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.03] = (30, 60, 200)
    waves[(abs(x - 0.2) < 0.1) & (abs(y - 0.5) < 0.15)] = (230, 220, 40)
    return [noise, np.clip(waves, 0, 255).astype(np.uint8)]


def difference(reference: Sequence[NDArray], outputs: Sequence[NDArray], ordered: bool = True) -> float:
    """Largest difference of raw outputs, as a share of the range of each output of the reference.

    ordered: False for lists of detections (1, N, k), whose rows two runtimes may put in another order: then columns are
    compared by their sorted values. Raises BackendError where number or shapes differ.
    """
    found, expected = [o.shape for o in outputs], [r.shape for r in reference]
    if found != expected:
        raise BackendError(f"its outputs are of shape {found}, ONNX Runtime's of {expected}")
    worst = 0.0
    for ours, theirs in zip(outputs, reference, strict=True):
        a, b = ours.astype(np.float64), theirs.astype(np.float64)
        if not ordered and a.ndim >= 2:
            axis = 1 if a.ndim <= 3 else a.ndim - 2
            a, b = np.sort(a, axis), np.sort(b, axis)
        gap = np.abs(a - b).max(initial=0.0)
        span = np.ptp(b) if b.size else 0.0
        worst = max(worst, float(gap / max(span, 1e-6)) if np.isfinite(gap) else np.inf)
    return worst


def _check(reference: list[list[NDArray]], outputs: list[list[NDArray]], final: bool) -> None:
    gap = max(difference(r, o, not final) for r, o in zip(reference, outputs, strict=True))
    if gap > LARGEST_DIFFERENCE:
        raise BackendError(
            f"its outputs differ from ONNX Runtime's by {gap:.1e} of their range ({LARGEST_DIFFERENCE:.0e} allowed)"
        )


def _run_for(worker: Worker, seconds: float) -> list[float]:
    """Milliseconds of at least three runs, of as many as fit into `seconds`."""
    times = worker.times(3)
    more = int(seconds * 1e3 / max(_median(times), 1e-3)) - len(times)
    return times + worker.times(min(more, 300)) if more > 0 else times


def _median(times: Sequence[float]) -> float:
    return float(np.median(times))


def _timing(choice: Choice, times: Sequence[float]) -> Timing:
    p50, p95 = np.percentile(times, (50, 95))
    return Timing(str(choice), round(float(p50), 3), round(float(p95), 3))


def _key(choices: Sequence[Choice], machine: Hardware) -> str:
    """What a measurement holds for: these files on these runtimes in these versions, on this machine."""
    parts: list[object] = [machine.model, machine.cores, machine.flags]
    for choice in choices:
        variant = choice.variant
        parts.append((str(choice), choice.threads, backend(choice.backend).version(), variant.digest))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _read(file: Path, choices: Sequence[Choice]) -> Comparison | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        by_name = {str(choice): choice for choice in choices}
        order = tuple(by_name[name] for name in content["order"])
        timings = tuple(Timing(**timing) for timing in content["timings"])
        rejected = tuple((str(name), str(why)) for name, why in content["rejected"])
        return Comparison(order, timings, rejected, str(content["when"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there, or from another version: measured anew


def _write(file: Path, found: Comparison, machine: Hardware) -> None:
    content = {
        "machine": machine.model,
        "when": found.when,
        "order": [str(choice) for choice in found.order],
        "timings": [asdict(timing) for timing in found.timings],
        "rejected": found.rejected,
    }
    temporary = file.with_suffix(f".{os.getpid()}")
    try:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        temporary.replace(file)
    except OSError:
        with suppress(OSError):
            temporary.unlink()


def _tell(log: Callable[[str], None] | None, line: str) -> None:
    if log:
        log(line)
