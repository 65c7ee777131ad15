"""scikit-image's figures, timed in an interpreter of its own that needs NumPy and scikit-image alone.

The child is started with one thread for whatever it computes with. It answers a request a line (JSON) and keeps the
pair of images, so that what is timed is the call.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edge_vision

_CODE = """
import sys, types
package = types.ModuleType("edge_vision")
package.__path__ = [sys.argv[1]]
sys.modules["edge_vision"] = package
from edge_vision.benchmarks.quality_peer import serve
serve()
"""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class PeerFailed(RuntimeError):
    """An interpreter cannot be used for scikit-image, or has ended; the text says which and why."""


class ScikitImage:
    """A child that has scikit-image. python: path of its interpreter. Raises PeerFailed where it has not."""

    def __init__(self, python: str) -> None:
        self.python = python
        folder = str(Path(edge_vision.__path__[0]).resolve())
        self._scratch = tempfile.TemporaryDirectory(prefix="edge_vision_peer_")
        try:
            self._process = subprocess.Popen(
                [python, "-c", _CODE, folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | _ONE_THREAD,
            )
        except OSError as error:
            self._scratch.cleanup()
            raise PeerFailed(f"{python} cannot be started: {error.strerror}; give the path of a Python") from None
        try:
            self.version: str = self._ask(do="version")["version"]
        except PeerFailed:
            self.close()
            raise

    def __enter__(self) -> ScikitImage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def load(self, image: NDArray, reference: NDArray, data_range: float) -> None:
        """The pair that the calls that follow compare."""
        file = Path(self._scratch.name, "pair.npz")
        np.savez(file, image=image, reference=reference)
        self._ask(do="load", file=str(file), data_range=data_range)

    def call(self, figure: str) -> tuple[float, int]:
        """Value and ns of one call. figure: `ssim`, with the settings of Wang 2004, or `psnr`."""
        answer = self._ask(do=figure)
        return answer["value"], answer["ns"]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._scratch.cleanup()

    def _ask(self, **request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):  # it has ended; the empty answer tells
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise PeerFailed(f"{self.python} has ended (exit code {code}); its messages above say why")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerFailed(f"{self.python}: {answer['error']}")
        return answer


def find(pythons: Sequence[str]) -> tuple[ScikitImage | None, list[str]]:
    """The first of the interpreters that has scikit-image, ours before all, and why those before it have not."""
    reasons: list[str] = []
    for python in (sys.executable, *pythons):
        try:
            return ScikitImage(python), reasons
        except PeerFailed as error:
            reasons.append(str(error))
    return None, reasons


def serve() -> None:
    """The child's main."""
    answers, sys.stdout = sys.stdout, sys.stderr  # prints of libraries are no answers
    figures: dict[str, Any] = {}
    for line in sys.stdin:
        try:
            answer = _answer(figures, json.loads(line))
        except ImportError as error:
            answer = {"error": f"no scikit-image ({error})"}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answer(figures: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "version":
        import skimage

        return {"version": skimage.__version__}
    if request["do"] == "load":
        from skimage.metrics import peak_signal_noise_ratio, structural_similarity

        with np.load(request["file"]) as data:
            image, reference = data["image"], data["reference"]
        span = request["data_range"]
        wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": span}
        figures["ssim"] = lambda: structural_similarity(image, reference, **wang)
        figures["psnr"] = lambda: peak_signal_noise_ratio(reference, image, data_range=span)
        return {}
    start = time.perf_counter_ns()
    value = figures[request["do"]]()
    return {"ns": time.perf_counter_ns() - start, "value": float(value)}
