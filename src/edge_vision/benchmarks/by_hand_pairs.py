"""The engine against the same library called by hand: both open in one process, run in turns on the same image.

Each library has a process of its own (this module run as a program), since two runtimes in one would share OpenMP,
thread pools and OpenCV's number of threads.
"""

from __future__ import annotations

import os
import pickle
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.benchmarks.by_hand import LIBRARIES, Task
from edge_vision.benchmarks.by_hand_loops import Found, loop_for
from edge_vision.datatypes import Detections, Frame
from edge_vision.inference.bundle import Bundle
from edge_vision.inference.engine import Engine
from edge_vision.inference.errors import BackendError, InferenceError
from edge_vision.inference.opening import Choice, open_choice

SHARE, OFFSET_MS = 1.05, 0.1
"""The engine may take this much more than the call by hand: 5 % and 0.1 ms."""

_TIMEOUT = 600.0
_OPENINGS = 2  # where memory happens to lie can change a runtime's time by some percent: both are opened twice
_ENOUGH = 30  # undisturbed runs, for the others to be left out
_PATIENCE = 3  # times the seconds given, more, while there are too few of those
_BLOCK_MS, _BLOCK = 25.0, (2, 20)  # milliseconds, and least and most calls, before it is the other's turn


@dataclass(frozen=True, slots=True)
class Pair:
    """One library. Milliseconds, p50: of the call on the network's input (run), and from an image to detections (infer,
    None where no loop is written for the model's family). runs, infer_runs: how many of each are behind that;
    interrupted: the share of all runs in which another process took the processor;
    those are left out, and where too few others remain nothing can be said (busy).

    raw_gap: largest difference of raw outputs, as a share of their range; detections: (engine's, by hand's, how many
    of the engine's have one by hand at IoU 0.9 of the same class); reason: why it was not measured.
    """

    backend: str
    version: str = ""
    threads: int = 0
    file: str = ""
    run_ms: float | None = None
    run_by_hand_ms: float | None = None
    runs: int = 0
    infer_ms: float | None = None
    infer_by_hand_ms: float | None = None
    infer_runs: int = 0
    interrupted: float = 0.0
    busy: bool = False
    raw_gap: float | None = None
    detections: tuple[int, int, int] | None = None
    note: str = ""
    reason: str = ""

    @property
    def run_within(self) -> bool | None:
        return None if self.busy else within(self.run_ms, self.run_by_hand_ms)

    @property
    def infer_within(self) -> bool | None:
        return None if self.busy else within(self.infer_ms, self.infer_by_hand_ms)


def within(ours: float | None, by_hand: float | None) -> bool | None:
    """Whether the engine keeps to its limit; None where one of the two is not known."""
    return None if ours is None or by_hand is None else ours <= by_hand * SHARE + OFFSET_MS


def pair_from(values: Mapping[str, Any]) -> Pair:
    """A pair read back from JSON."""
    known = {item.name for item in fields(Pair)}
    found = {key: value for key, value in values.items() if key in known}
    if found.get("detections") is not None:
        found["detections"] = tuple(found["detections"])
    return Pair(**found)


def compare(bundle: Bundle, choice: Choice, image: NDArray[np.uint8], seconds: float) -> Pair:
    """Measure one library for about `seconds`, in a process of its own. image: (H, W, 3) BGR. Never raises."""
    job = pickle.dumps((bundle, choice, image, seconds))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    name, file = choice.backend, choice.variant.path.name
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edge_vision.benchmarks.by_hand_pairs"],
            input=job,
            capture_output=True,
            timeout=_TIMEOUT + seconds,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Pair(name, file=file, threads=choice.threads, reason=str(error))
    if done.returncode or not done.stdout:
        printed = done.stderr.decode("utf-8", "replace").strip().splitlines()
        ended = f"its process ended with {done.returncode}" + (f": {printed[-1][:200]}" if printed else "")
        return Pair(name, file=file, threads=choice.threads, reason=ended)
    answer: Pair = pickle.loads(done.stdout)
    return answer


# --- in the process of the pair --------------------------------------------------------------------------------------


def measure(bundle: Bundle, choice: Choice, image: NDArray[np.uint8], seconds: float) -> Pair:
    """Both in this process. Raises InferenceError where the backend fails, what the library raises where it does."""
    variant = choice.variant
    spec = variant.input or bundle.input
    if choice.backend not in LIBRARIES:
        raise BackendError(f"no call by hand is written for {choice.backend}")
    outputs = tuple(output.name for output in variant.outputs)
    task = Task(variant.path, spec.shape, spec.dtype, choice.threads, outputs)
    height, width = image.shape[:2]
    axes = [output.transpose or None for output in variant.outputs]
    frame = Frame(image)
    share = seconds / (2 * _OPENINGS)
    run = _Times(), _Times()
    infer = _Times(), _Times()
    gap = 0.0
    detections, version = None, ""
    for opening in range(_OPENINGS):
        # Whoever opens first gets the better of the memory.
        if opening % 2:
            by_hand = LIBRARIES[choice.backend](task)
        engine = Engine.open(bundle, open_choice(bundle, choice))
        if not opening % 2:
            by_hand = LIBRARIES[choice.backend](task)
        with engine:
            version = engine.description.runtime_version
            prepared = engine.preprocess(frame)
            tensor = prepared.tensor
            expected = [array.copy() for array in engine.run(prepared)]
            gap = max(gap, _gap(expected, _turned(by_hand(tensor), axes)))
            _turns(run, (lambda: engine.run(prepared), lambda: by_hand(tensor)), share)  # noqa: B023 (called now)
            loop = loop_for(bundle, spec, width, height)
            if loop is None:
                continue

            def whole(loop: Any = loop, call: Any = by_hand) -> Found:
                return loop.finish(_turned(call(loop.prepare(image)), axes))

            detections = _matched(engine.infer(frame), whole(), width, height)
            _turns(infer, (lambda: engine.infer(frame), whole), share)  # noqa: B023 (called now)
    (ours, by_hands), (ours_whole, by_hands_whole) = _counting(run), _counting(infer)
    return Pair(
        choice.backend,
        version,
        choice.threads,
        variant.path.name,
        run_ms=_p50(ours),
        run_by_hand_ms=_p50(by_hands),
        runs=len(ours),
        infer_ms=_p50(ours_whole),
        infer_by_hand_ms=_p50(by_hands_whole),
        infer_runs=len(ours_whole),
        interrupted=float(np.mean([cut for times in (*run, *infer) for cut in times.interrupted])),
        busy=not (_decided(run) and _decided(infer)),
        raw_gap=gap,
        detections=detections,
        note="" if ours_whole else f"no loop by hand is written for decoder {bundle.decoder} with this input",
    )


class _Times:
    """Milliseconds of calls, and whether another process took the processor during each (getrusage(2), involuntary
    context switches of all threads)."""

    def __init__(self) -> None:
        self.all: list[float] = []
        self.interrupted: list[bool] = []

    def run(self, call: Callable[[], object], count: int) -> None:
        clock = time.perf_counter
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        for _ in range(count):
            start = clock()
            call()
            self.all.append((clock() - start) * 1e3)
            now = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
            self.interrupted.append(now > switches)
            switches = now

    @property
    def undisturbed(self) -> list[float]:
        return [taken for taken, cut in zip(self.all, self.interrupted, strict=True) if not cut]


def _decided(pair: tuple[_Times, _Times]) -> bool:
    """Whether there are enough undisturbed runs, or hardly any that were disturbed."""
    quiet = min(len(times.undisturbed) for times in pair)
    return quiet >= min(_ENOUGH, 0.7 * min(len(times.all) for times in pair))


def _counting(pair: tuple[_Times, _Times]) -> list[list[float]]:
    """The runs of both that count: the undisturbed ones, or all where too few of either are that."""
    return [times.undisturbed if _decided(pair) else times.all for times in pair]


def _p50(taken: Sequence[float]) -> float | None:
    return float(np.median(taken)) if taken else None


def _turns(times: tuple[_Times, _Times], calls: tuple[Callable[[], object], ...], seconds: float) -> None:
    """Blocks of calls in turns for `seconds`, each going first as often as the other."""
    for call in calls:
        call()
    trial = _Times()
    trial.run(calls[0], 3)
    count = int(np.clip(_BLOCK_MS / max(min(trial.all), 1e-3), *_BLOCK))
    end, turn = time.perf_counter() + seconds, 0
    latest = end + _PATIENCE * seconds
    while turn < 2 or (now := time.perf_counter()) < end or (now < latest and not _decided(times)):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            times[which].run(calls[which], count)
        turn += 1


def _turned(outputs: list[NDArray], axes: Sequence[tuple[int, ...] | None]) -> list[NDArray]:
    """Raw outputs in the order of axes that the bundle states for this file."""
    return [o.transpose(a) if a else o for o, a in zip(outputs, axes, strict=True)] if any(axes) else outputs


def _gap(expected: Sequence[NDArray], found: Sequence[NDArray]) -> float:
    worst = 0.0
    for ours, theirs in zip(expected, found, strict=True):
        span = float(np.ptp(ours)) if ours.size else 0.0
        worst = max(worst, float(np.abs(ours.astype(np.float64) - theirs).max(initial=0.0)) / max(span, 1e-6))
    return worst


def _matched(ours: Detections, by_hand: Found, width: int, height: int) -> tuple[int, int, int]:
    """Numbers of both, and how many of ours have one of the same class by hand at IoU 0.9 within the image."""
    boxes, _, ids = by_hand
    corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]).clip(0, (width, height, width, height))
    boxes = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    matched = 0
    for box, class_id in zip(ours.boxes, ours.class_ids, strict=True):
        same = boxes[ids == class_id]
        corner = np.minimum(same[:, :2] + same[:, 2:], box[2:])
        shared = np.clip(corner - np.maximum(same[:, :2], box[:2]), 0, None).prod(1)
        areas = same[:, 2:].prod(1) + float((box[2:] - box[:2]).prod()) - shared
        matched += bool((shared > 0.9 * areas).any())
    return len(ours.scores), len(boxes), matched


def _main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a runtime prints is no answer
    bundle, choice, image, seconds = pickle.load(sys.stdin.buffer)
    try:
        pair = measure(bundle, choice, image, seconds)
    except InferenceError as error:
        pair = Pair(choice.backend, threads=choice.threads, file=choice.variant.path.name, reason=error.problem)
    except Exception as error:  # the library by hand raises its own
        reason = f"by hand: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        pair = Pair(choice.backend, threads=choice.threads, file=choice.variant.path.name, reason=reason)
    answers.write(pickle.dumps(pair))
    answers.flush()
    os._exit(0)  # a runtime that crashes while it is taken down has done its work


if __name__ == "__main__":
    from edge_vision.benchmarks import by_hand_pairs  # pickled under its own name, not as __main__

    by_hand_pairs._main()
