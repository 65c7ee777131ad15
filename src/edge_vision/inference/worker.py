"""A candidate in a process of its own: opened, run, timed and compared without touching the process that asks.

A runtime that crashes, hangs or leaves threads spinning takes its own process with it, memory and CPU time are the
candidate's alone, and what was only tried leaves nothing behind. The other end is `worker_process.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Detections
from edge_vision.inference.bundle import Bundle
from edge_vision.inference.errors import BackendError
from edge_vision.inference.opening import Choice, EngineDescription


@dataclass(frozen=True, slots=True)
class Usage:
    """rss: resident bytes of the process; cpu: seconds of CPU time since its start; threads: alive."""

    rss: int
    cpu: float
    threads: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """load: seconds to open the model; first: of the first inference, in milliseconds; final: whether the outputs are
    lists of detections, without non-maximum suppression to come; before: use of memory and CPU with the libraries of
    this package loaded and no runtime."""

    load: float
    first: float
    final: bool
    before: Usage
    description: EngineDescription


class Worker:
    """A candidate in its own process. Every method raises InferenceError: the candidate's own, or one that says how the
    process ended. `timeout` in seconds bounds each call; a process that is late is killed."""

    def __init__(self, timeout: float = 120.0) -> None:
        self.timeout = timeout
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-m", "edge_vision.inference.worker_process", str(theirs_in), str(theirs_out)]
        # What a runtime prints stays out of the caller's output; it is kept for the message should the process die.
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._printed,
            stderr=self._printed,
            pass_fds=(theirs_in, theirs_out),
            env=environment,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._to, self._from = Connection(ours_out, readable=False), Connection(ours_in, writable=False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def open(self, bundle: Bundle, choice: Choice) -> Loaded:
        """Open the model and run it once."""
        return self._ask("open", bundle, choice)

    def times(self, count: int, whole: bool = False) -> list[float]:
        """Milliseconds of `count` runs on one frame, one after the other: of the backend's call, or of all of
        `infer`."""
        return self._ask("times", count, whole)

    def raw(self, images: Sequence[NDArray[np.uint8]]) -> list[list[NDArray]]:
        """Raw outputs of each image (H, W, 3) BGR, as the decoder reads them."""
        return self._ask("raw", list(images))

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Detections of each image (H, W, 3) BGR, at the bundle's thresholds."""
        return self._ask("detect", list(images))

    def usage(self) -> Usage:
        """Memory and CPU time of the process now."""
        return self._ask("usage")

    def close(self) -> None:
        """End the process. May be called twice."""
        for end in (self._to, self._from):
            if not end.closed:
                end.close()  # the other side sees the end of its input and leaves
        self._printed.close()
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, command: str, *arguments: Any) -> Any:
        try:
            self._to.send((command, arguments))
            if not self._from.poll(self.timeout):
                self._process.kill()
                raise BackendError(f"no answer within {self.timeout:.0f} s", "choose another backend")
            good, answer = self._from.recv()
        except (EOFError, OSError) as error:
            code = self._process.wait()
            ended = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
            self._printed.seek(0)
            printed = self._printed.read().decode("utf-8", "replace").strip().splitlines()
            ended += f" ({printed[-1].strip()[:200]})" if printed else ""
            raise BackendError(f"the process that tried it {ended}", "choose another backend, or update it") from error
        if good:
            return answer
        raise BackendError(*answer)
