"""OpenCV's own network module (`cv2.dnn`): no package beyond the one that the pre-processing needs. Reads ONNX.

(The trailing underscore keeps the module's name apart from the package's.)
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.backends import SessionDescription, SessionOptions, missing_package, package_version
from edge_vision.inference.backends.shapes import filled_specs, output_order, require_precision
from edge_vision.inference.errors import BackendError, ModelError
from edge_vision.inference.onnx_header import TensorSpec, read_onnx_header

FORMATS = (".onnx",)
PRECISIONS = ("fp32", "fp16")
NEEDS = "OpenCV with its dnn module; for opencl, cuda, vulkan and npu a build of OpenCV with them"
REMEDY = "pip install opencv-python-headless"

_ENGINES = ("ENGINE_NEW", "ENGINE_CLASSIC")
"""OpenCV 5 has two implementations, of which either may be the faster: FastestDet took 13 against 39 ms, the bundled
detector 14.5 against 9 (one thread). ENGINE_ORT is ONNX Runtime, which is a backend of its own here."""
_TRIES = 5

_TARGETS = {
    # device: (backend, target in fp32, target in fp16), names in cv2.dnn
    "cpu": ("DNN_BACKEND_OPENCV", "DNN_TARGET_CPU", "DNN_TARGET_CPU_FP16"),
    "opencl": ("DNN_BACKEND_OPENCV", "DNN_TARGET_OPENCL", "DNN_TARGET_OPENCL_FP16"),
    "cuda": ("DNN_BACKEND_CUDA", "DNN_TARGET_CUDA", "DNN_TARGET_CUDA_FP16"),
    "vulkan": ("DNN_BACKEND_VKCOM", "DNN_TARGET_VULKAN", ""),
    "npu": ("DNN_BACKEND_TIMVX", "DNN_TARGET_NPU", ""),
}


def available() -> str | None:
    return missing_package("cv2")


def version() -> str:
    """Of the package where pip installed it, else of the module (a distribution's OpenCV is no Python package)."""
    names = ("opencv-python-headless", "opencv-contrib-python-headless", "opencv-python", "opencv-contrib-python")
    found = package_version(*names)
    if found or available() is not None:
        return found
    return _import().__version__


def _import() -> Any:
    try:
        import cv2
    except ImportError as error:  # opencv-python needs libGL, which a box without a screen lacks
        raise BackendError(f"OpenCV cannot be imported: {error}", REMEDY) from error
    if not hasattr(cv2, "dnn"):
        raise BackendError(f"OpenCV {cv2.__version__} was built without its dnn module", REMEDY)
    return cv2


def devices() -> tuple[str, ...]:
    cv2 = _import()
    return tuple(device for device in _TARGETS if _target(cv2, device, "fp32") is not None)


def _target(cv2: Any, device: str, precision: str) -> tuple[int, int] | None:
    """(backend, target) as cv2.dnn numbers them, None where this build has no such target."""
    if device not in _TARGETS:
        return None
    backend, *targets = _TARGETS[device]
    number = getattr(cv2.dnn, backend, None)
    target = getattr(cv2.dnn, targets[precision == "fp16"], None)
    if number is None or target is None or target not in cv2.dnn.getAvailableTargets(number):
        return None
    return number, target


def precisions_on(device: str) -> tuple[str, ...]:
    """Those that this build of OpenCV makes of an fp32 file on a device."""
    return tuple(precision for precision in PRECISIONS if _target(_import(), device, precision))


def open(path: Path, options: SessionOptions) -> OpenCvSession:
    """A session on an ONNX file.

    Raises BackendError (not installed, no such device or precision), ModelError (the file).
    """
    cv2 = _import()
    header = read_onnx_header(path)
    plain = _target(cv2, options.device, "fp32")
    if plain is None:
        raise BackendError(
            f"opencv has no device {options.device} here",
            f"use one of {', '.join(devices())}, or a build of OpenCV that has {options.device}",
        )
    require_precision("opencv", path, options, precisions_on(options.device))
    target = _target(cv2, options.device, options.precision) or plain  # a file in int8 on the plain one
    inputs = filled_specs(header.inputs, options.input_shapes)
    with _quiet(cv2):
        networks = _read(cv2, path, target)
    threads = _Threads.take(cv2, options.threads)
    try:
        sessions = []
        problem: Exception | None = None
        for network in networks:
            session = OpenCvSession(cv2, network, inputs, header.outputs, options, threads)
            try:
                with _quiet(cv2):
                    session.prepare()
            except cv2.error as error:
                problem = problem or error
            else:
                sessions.append(session)
        if not sessions:
            raise _cannot(cv2, path, "run", problem) from problem
        return _fastest(sessions)
    except Exception:
        threads.give_back()
        raise


def _fastest(sessions: list[OpenCvSession]) -> OpenCvSession:
    """The one with the shortest run of a few, in turns; the first where the sizes are not known."""
    if len(sessions) == 1 or sessions[0].sample is None:
        return sessions[0]
    shortest = dict.fromkeys(range(len(sessions)), float("inf"))
    for _ in range(_TRIES):
        for index, session in enumerate(sessions):
            start = time.perf_counter()
            session.run(session.sample or ())
            shortest[index] = min(shortest[index], time.perf_counter() - start)
    return sessions[min(shortest, key=shortest.__getitem__)]


def _read(cv2: Any, path: Path, target: tuple[int, int]) -> list[Any]:
    """The network, read by each engine that can."""
    engines: list[tuple[int, ...]] = [(getattr(cv2.dnn, name),) for name in _ENGINES if hasattr(cv2.dnn, name)]
    if target[1] != cv2.dnn.DNN_TARGET_CPU:  # the new engine knows the CPU in fp32 alone
        engines = engines[-1:]
    networks, problem = [], None
    for engine in engines or [()]:
        try:
            network = cv2.dnn.readNetFromONNX(os.fspath(path), *engine)
        except cv2.error as error:
            problem = problem or error
            continue
        if network.empty():  # so the new engine says that it lacks an operator
            continue
        network.setPreferableBackend(target[0])
        network.setPreferableTarget(target[1])
        networks.append(network)
    if not networks:
        raise _cannot(cv2, path, "read", problem) from problem
    return networks


def _cannot(cv2: Any, path: Path, what: str, error: Exception | None) -> ModelError:
    text = " ".join(str(error).split())
    operator = re.search(r"\[(\w+)(?:@[\w.]+)?\]:\(", text)
    place = f" at operator {operator.group(1)}" if operator else ""
    reason = re.sub(r"OpenCV\([^)]*\) \S+: error: ", "", text)
    return ModelError(
        path,
        f"opencv {cv2.__version__} cannot {what} it{place}: {reason[:300]}",
        "use backend onnxruntime, or export with a fixed size, opset 11 to 13 and simplified (onnxsim)",
    )


@contextlib.contextmanager
def _quiet(cv2: Any) -> Iterator[None]:
    """OpenCV prints what it also raises, and warnings about each fallback; not here."""
    logging = getattr(getattr(cv2, "utils", None), "logging", None)
    if logging is None:
        yield
        return
    before = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)


class _Threads:
    """OpenCV has one number of threads for the whole process, pre-processing and drawing included.

    While sessions are open it is that of the last one opened (setting it at each run would rebuild the pool of
    threads); when the last is closed it is again what it was before the first.
    """

    lock = threading.Lock()
    held = 0
    before = 0

    @classmethod
    def take(cls, cv2: Any, count: int) -> _Threads:
        with cls.lock:
            if cls.held == 0:
                cls.before = cv2.getNumThreads()
            cls.held += 1
            cv2.setNumThreads(count)
        return cls(cv2)

    def __init__(self, cv2: Any) -> None:
        self.cv2 = cv2
        self.mine = True

    def give_back(self) -> None:
        with self.lock:
            if self.mine:
                self.mine = False
                _Threads.held -= 1
                if _Threads.held == 0:
                    self.cv2.setNumThreads(_Threads.before)


class OpenCvSession:
    """See `Session`. The tensor is given as it is (`blobFromImage` would copy it again); results are new arrays."""

    def __init__(
        self,
        cv2: Any,
        network: Any,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        options: SessionOptions,
        threads: _Threads,
    ) -> None:
        self.cv2, self.network, self.options, self.threads = cv2, network, options, threads
        self.inputs = inputs
        self.outputs = tuple(outputs[i] for i in output_order([spec.name for spec in outputs], options.outputs))
        self.names = [spec.name for spec in self.outputs]
        self.given = [spec.name for spec in inputs] if len(inputs) > 1 else [""]
        self.sample: list[NDArray] | None = None
        """What the session was tried with."""

    def prepare(self) -> None:
        """Runs once where the shapes are known: to find the names of the outputs, and whether it can be run."""
        if any(None in spec.shape for spec in self.inputs):
            return
        self.sample = [np.zeros([size or 1 for size in spec.shape], spec.dtype) for spec in self.inputs]
        try:
            self.run(self.sample)
        except self.cv2.error:
            # Before OpenCV 4.7 some outputs have the name of their operator alone.
            names = list(self.network.getUnconnectedOutLayersNames())
            if self.options.outputs or len(names) != len(self.names):
                raise
            self.names = names
            self.run(self.sample)

    def run(self, inputs: Sequence[NDArray]) -> list[NDArray]:
        for name, array in zip(self.given, inputs, strict=True):
            self.network.setInput(array, name)
        return list(self.network.forward(self.names))

    def describe(self) -> SessionDescription:
        device, precision = self.options.device, self.options.precision
        return SessionDescription("opencv", version(), device, precision, self.options.threads)

    def close(self) -> None:
        self.network = None
        self.threads.give_back()
