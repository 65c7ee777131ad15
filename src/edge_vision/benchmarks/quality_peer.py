"""scikit-image's figures, timed in an interpreter of its own that needs NumPy and scikit-image alone.

The child is started with one thread for whatever it computes with. It answers a request a line (JSON) and keeps the
pair of images, so that what is timed is the call.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.benchmarks import other_python
from edge_vision.benchmarks.other_python import OtherPython, PeerFailed

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class ScikitImage(OtherPython):
    """A child that has scikit-image. python: path of its interpreter. Raises PeerFailed where it has not."""

    def __init__(self, python: str) -> None:
        super().__init__(python, __name__, _ONE_THREAD)
        try:
            self.version: str = self.ask(do="version")["version"]
        except PeerFailed:
            self.close()
            raise

    def load(self, image: NDArray, reference: NDArray, data_range: float) -> None:
        """The pair that the calls that follow compare."""
        file = self.scratch / "pair.npz"
        np.savez(file, image=image, reference=reference)
        self.ask(do="load", file=str(file), data_range=data_range)

    def call(self, figure: str) -> tuple[float, int]:
        """Value and ns of one call. figure: `ssim`, with the settings of Wang 2004, or `psnr`."""
        answer = self.ask(do=figure)
        return answer["value"], answer["ns"]


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
    figures: dict[str, Any] = {}
    other_python.serve(lambda request: _answer(figures, request), _told)


def _told(error: Exception) -> str:
    return f"no scikit-image ({error})" if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"


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
