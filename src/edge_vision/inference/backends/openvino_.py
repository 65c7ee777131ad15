"""OpenVINO: Intel (and other x86-64 and ARM) CPUs, Intel graphics and NPUs. Reads ONNX and its own IR.

(The trailing underscore keeps the module's name apart from the package's.)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.backends import SessionDescription, SessionOptions, missing_package, package_version
from edge_vision.inference.errors import BackendError, ModelError
from edge_vision.inference.onnx_header import TensorSpec

FORMATS = (".onnx", ".xml")
PRECISIONS = ("fp32", "bf16", "fp16")
REMEDY = "pip install openvino"

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


def available() -> str | None:
    return missing_package("openvino")


def version() -> str:
    return package_version("openvino")


def _import() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise BackendError(f"openvino cannot be imported: {error}", REMEDY) from error
    return openvino


def devices() -> tuple[str, ...]:
    """Device names in lower case, such as cpu, gpu, npu. Imports the runtime."""
    return tuple(name.lower() for name in _import().Core().available_devices)


def open(path: Path, options: SessionOptions) -> OpenVinoSession:
    """A session on an ONNX or IR file. Raises BackendError (not installed, no such device), ModelError (the file)."""
    openvino = _import()
    core = openvino.Core()
    device = options.device.upper()
    found = core.available_devices
    if device not in found and device.split(".")[0] not in {name.split(".")[0] for name in found}:
        names = ", ".join(name.lower() for name in found)
        raise BackendError(f"openvino has no device {options.device} here", f"choose one of {names}")
    # The precision is pinned: left alone, OpenVINO takes bf16 where the CPU has it, and scores change by up to 0.05.
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS.get(options.precision, "f32")}
    if device.startswith("CPU"):
        settings["INFERENCE_NUM_THREADS"] = str(options.threads)
    try:
        compiled = core.compile_model(core.read_model(path), device, settings)
    except RuntimeError as error:
        problem = f"openvino {version()} cannot open it: {_last_line(error)}"
        raise ModelError(path, problem, "export the model again, or use backend onnxruntime") from error
    return OpenVinoSession(openvino, compiled, options)


def _last_line(error: Exception) -> str:
    """OpenVINO's messages end with the reason, after a trail of source files."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


class OpenVinoSession:
    """See `Session`. One infer request is reused; input arrays are bound without a copy and results are views."""

    def __init__(self, openvino: Any, compiled: Any, options: SessionOptions) -> None:
        self.options = options
        self.precision = _real_precision(openvino, compiled, options.precision)
        self.request = compiled.create_infer_request()
        self.make_tensor = openvino.Tensor
        self.inputs = tuple(_spec(port) for port in compiled.inputs)
        self.outputs = tuple(_spec(port) for port in compiled.outputs)
        self.bound: list[NDArray | None] = [None] * len(self.inputs)

    def run(self, inputs: Sequence[NDArray]) -> list[NDArray]:
        for index, array in enumerate(inputs):
            if self.bound[index] is not array:
                # A read-only or strided array cannot be shared; copied here, where it is seen.
                shareable = array if array.flags.writeable else array.copy()
                tensor = self.make_tensor(np.ascontiguousarray(shareable), shared_memory=True)
                self.request.set_input_tensor(index, tensor)
                self.bound[index] = array if shareable is array and array.flags.c_contiguous else None
        self.request.infer()
        return [self.request.get_output_tensor(index).data for index in range(len(self.outputs))]

    def describe(self) -> SessionDescription:
        return SessionDescription("openvino", version(), self.options.device, self.precision, self.options.threads)

    def close(self) -> None:
        self.request = None
        self.bound = [None] * len(self.inputs)


def _real_precision(openvino: Any, compiled: Any, asked: str) -> str:
    """What the device took: a CPU without half-precision arithmetic takes f32 instead of f16 without a word."""
    if asked not in PRECISIONS:
        return asked  # int8 is in the file, not in the hint
    try:
        taken = compiled.get_property("INFERENCE_PRECISION_HINT")
    except RuntimeError:
        return asked  # not every device tells
    names = {openvino.Type.f32: "fp32", openvino.Type.bf16: "bf16", openvino.Type.f16: "fp16"}
    return next((name for kind, name in names.items() if kind == taken), asked)


def _spec(port: Any) -> TensorSpec:
    shape = tuple(d.get_length() if d.is_static else None for d in port.partial_shape)
    names = port.get_names()
    return TensorSpec(min(names) if names else "", shape, np.dtype(port.element_type.to_dtype()).name)
