"""The process that `worker.Worker` starts: opens one candidate and does what it is asked, until its input ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Detections, Frame
from edge_vision.inference.bundle import Bundle
from edge_vision.inference.engine import Engine
from edge_vision.inference.errors import BackendError, InferenceError
from edge_vision.inference.opening import Choice, open_choice
from edge_vision.inference.worker import Loaded, Usage


def _serve(requests: Connection, answers: Connection) -> None:
    engine: Engine | None = None
    frame = Frame(np.zeros((1, 1, 3), np.uint8))
    while True:
        try:
            command, arguments = requests.recv()
        except EOFError:
            return
        answer: Any
        try:
            if command == "open":
                engine, frame, answer = _open(*arguments)
            elif command == "usage":
                answer = _usage()
            elif engine is None:
                raise BackendError("nothing is open")
            else:
                answer = _COMMANDS[command](engine, frame, *arguments)
            answers.send((True, answer))
        except InferenceError as error:
            answers.send((False, (error.problem, error.remedy, error.where)))
        except BrokenPipeError:
            return
        except Exception as error:  # a runtime's own: it is the candidate that failed, not the caller
            answers.send((False, (f"{type(error).__name__}: {error}", "", "")))


def _open(bundle: Bundle, choice: Choice) -> tuple[Engine, Frame, Loaded]:
    before = _usage()
    start = time.perf_counter()
    opened = open_choice(bundle, choice)
    load = time.perf_counter() - start
    spec = opened.input
    frame = Frame(np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8))
    tensor = np.zeros(spec.shape, spec.dtype)
    start = time.perf_counter()
    opened.run(tensor)
    first = (time.perf_counter() - start) * 1e3
    engine = Engine.open(bundle, opened)
    return engine, frame, Loaded(load, first, engine.final, before, engine.description)


def _times(engine: Engine, frame: Frame, count: int, whole: bool) -> list[float]:
    clock = time.perf_counter
    prepared = engine.preprocess(frame)
    taken = []
    for _ in range(count):
        start = clock()
        if whole:
            engine.infer(frame)
        else:
            engine.run(prepared)
        taken.append((clock() - start) * 1e3)
    return taken


def _raw(engine: Engine, _frame: Frame, images: Sequence[NDArray[np.uint8]]) -> list[list[NDArray]]:
    return [[array.copy() for array in engine.run(engine.preprocess(Frame(image)))] for image in images]


def _detect(engine: Engine, _frame: Frame, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
    return [engine.infer(Frame(image)) for image in images]


_COMMANDS: dict[str, Any] = {"times": _times, "raw": _raw, "detect": _detect}


def _usage() -> Usage:
    with Path("/proc/self/statm").open() as stream:
        pages = int(stream.read().split()[1])
    threads = len(list(Path("/proc/self/task").iterdir()))
    return Usage(pages * os.sysconf("SC_PAGE_SIZE"), time.process_time(), threads)


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1]), writable=False), Connection(int(sys.argv[2]), readable=False))
