"""ONNX Runtime on the CPU: light, runs every ONNX model, on x86-64 and ARM.

(The trailing underscore keeps the module's name apart from the package's.)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edge_vision.inference.backends import SessionDescription, SessionOptions, missing_package, package_version
from edge_vision.inference.errors import BackendError, ModelError
from edge_vision.inference.onnx_header import TensorSpec

FORMATS = (".onnx", ".ort")
PRECISIONS = ("fp32",)
REMEDY = "pip install onnxruntime"

_WARNING = 3  # log errors only: warnings are about graph details that a user cannot change


def available() -> str | None:
    return missing_package("onnxruntime")


def version() -> str:
    return package_version("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")


def devices() -> tuple[str, ...]:
    return ("cpu",)


def open(path: Path, options: SessionOptions) -> OnnxRuntimeSession:
    """A session on an ONNX file. Raises BackendError (not installed, unknown device), ModelError (the file)."""
    if options.device != "cpu":
        raise BackendError(f"onnxruntime runs on cpu here, not on {options.device}", "use device cpu")
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(f"onnxruntime cannot be imported: {error}", REMEDY) from error
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    settings.log_severity_level = _WARNING
    # Threads that spin between frames take the cores that the other nodes need: 7.7 instead of 3.3 ms a run, 0.85
    # instead of 0.09 core at 20 Hz on two cores.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Weights near zero make denormal numbers, which x86 computes 10 to 100 times slower. The runtime sets this for its
    # own threads and for the one that makes the process's first session, for good: hence a thread for that, so that the
    # arithmetic of the rest of the process stays as it is.
    settings.add_session_config_entry("session.set_denormal_as_zero", "1")
    make = partial(onnxruntime.InferenceSession, os.fspath(path), settings, providers=["CPUExecutionProvider"])
    try:
        with ThreadPoolExecutor(1) as maker:
            session = maker.submit(make).result()
    except Exception as error:  # onnxruntime raises classes of its own that derive from Exception alone
        raise ModelError(
            path, f"onnxruntime {version()} cannot open it: {_first_line(error)}", _remedy(error)
        ) from error
    return OnnxRuntimeSession(session, options)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _remedy(error: Exception) -> str:
    if "opset" in str(error) or "IR version" in str(error):
        return "export the model with an older opset (17 is read everywhere), or install a newer onnxruntime"
    return "export the model again, or check the file with onnx.checker"


class OnnxRuntimeSession:
    """See `Session`. A plain `run`: bound buffers gain nothing on the CPU (measured at 1.5 MB of input)."""

    def __init__(self, session: Any, options: SessionOptions) -> None:
        self.session = session
        self.options = options
        self.inputs = tuple(_spec(tensor) for tensor in session.get_inputs())
        self.outputs = tuple(_spec(tensor) for tensor in session.get_outputs())
        self.input_names = [spec.name for spec in self.inputs]
        self.output_names = [spec.name for spec in self.outputs]

    def run(self, inputs: Sequence[NDArray]) -> list[NDArray]:
        return self.session.run(self.output_names, dict(zip(self.input_names, inputs, strict=True)))

    def describe(self) -> SessionDescription:
        return SessionDescription("onnxruntime", version(), "cpu", self.options.precision, self.options.threads)

    def close(self) -> None:
        self.session = None


_TYPES = {"float": "float32", "double": "float64"}  # the rest is named as NumPy does


def _spec(tensor: Any) -> TensorSpec:
    kind = tensor.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in tensor.shape)
    return TensorSpec(tensor.name, shape, _TYPES.get(kind, kind))
