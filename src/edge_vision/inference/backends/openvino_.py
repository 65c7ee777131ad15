"""OpenVINO: Intel (and other x86-64 and ARM) CPUs, Intel graphics and NPUs. Reads its own IR, ONNX and TFLite.

(The trailing underscore keeps the module's name apart from the package's.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.backends import SessionDescription, SessionOptions, missing_package, package_version
from edge_vision.inference.backends.engine_cache import engine_folder
from edge_vision.inference.backends.shapes import filled_specs, output_order
from edge_vision.inference.errors import BackendError, ModelError
from edge_vision.inference.onnx_header import TensorSpec

FORMATS = (".xml", ".onnx", ".tflite")
PRECISIONS = ("fp32", "bf16", "fp16")
NEEDS = "the Python package openvino; for gpu and npu Intel's drivers"
REMEDY = "pip install openvino"

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


def available() -> str | None:
    return missing_package("openvino")


def version() -> str:
    return package_version("openvino")


def import_runtime() -> Any:
    """openvino. Raises BackendError where it cannot be imported."""
    try:
        import openvino
    except ImportError as error:
        raise BackendError(f"openvino cannot be imported: {error}", REMEDY) from error
    return openvino


def devices() -> tuple[str, ...]:
    """Device names in lower case, such as cpu, gpu, npu. Imports the runtime."""
    found = tuple(name.lower() for name in import_runtime().Core().available_devices)
    return (*found, "auto") if len(found) > 1 else found


def open(path: Path, options: SessionOptions) -> OpenVinoSession:
    """A session on an ONNX, IR or TFLite file.

    device: one of `devices()`, `gpu` for the first of several, `auto` (OpenVINO chooses), `auto:gpu,cpu` and
    `hetero:gpu,cpu` (the model is split). Raises BackendError (not installed, no such device), ModelError (the file).
    """
    openvino = import_runtime()
    core = openvino.Core()
    device = options.device.upper()
    found = core.available_devices
    _, _, members = device.partition(":")
    kinds = {name.split(".")[0] for name in found}
    asked = members.split(",") if members else [device]
    missing = [name for name in asked if name not in found and name not in kinds | {"AUTO"}]
    if missing or device.split(":")[0] not in {*found, *kinds, "AUTO", "HETERO"}:
        names = ", ".join([*(name.lower() for name in found), "auto"])
        raise BackendError(f"openvino has no device {options.device} here", f"choose one of {names}")
    # The precision is pinned: left alone, OpenVINO takes bf16 where the CPU has it, and scores change by up to 0.05.
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS.get(options.precision, "f32")}
    if device == "CPU":
        settings["INFERENCE_NUM_THREADS"] = str(options.threads)
    else:  # GPUs and NPUs compile for seconds to minutes; the CPU does not, and takes no less from a cache
        settings["CACHE_DIR"] = str(engine_folder(options, "openvino"))
    try:
        model = core.read_model(path)
        _fix_shapes(model, options)
        compiled = core.compile_model(model, device, settings)
    except RuntimeError as error:
        problem = f"openvino {version()} cannot open it: {_last_line(error)}"
        raise ModelError(path, problem, "export the model again, or use backend onnxruntime") from error
    return OpenVinoSession(openvino, compiled, options)


def _fix_shapes(model: Any, options: SessionOptions) -> None:
    """Give the inputs that leave sizes open those wanted: fixed ones are faster, and an NPU takes no others."""
    specs = tuple(_spec(port) for port in model.inputs)
    filled = filled_specs(specs, options.input_shapes)
    if filled != specs and not any(None in spec.shape for spec in filled):
        model.reshape({index: list(spec.shape) for index, spec in enumerate(filled)})


def _last_line(error: Exception) -> str:
    """OpenVINO's messages end with the reason, after a trail of source files."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


class OpenVinoSession:
    """See `Session`. One infer request is reused; input arrays are bound without a copy and results are views."""

    def __init__(self, openvino: Any, compiled: Any, options: SessionOptions) -> None:
        self.options = options
        self.precision = _real_precision(openvino, compiled, options.precision)
        self.compiled = compiled
        self.request = compiled.create_infer_request()
        self.make_tensor = openvino.Tensor
        self.inputs = tuple(_spec(port) for port in compiled.inputs)
        everything = tuple(_spec(port) for port in compiled.outputs)
        self.order = _find_outputs(compiled, options.outputs)
        self.outputs = tuple(everything[index] for index in self.order)
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
        return [self.request.get_output_tensor(index).data for index in self.order]

    def describe(self) -> SessionDescription:
        device = self.options.device
        if device.lower().startswith("auto"):
            with contextlib.suppress(RuntimeError):  # it may change to the GPU once that is compiled
                device = f"{device} ({', '.join(self.compiled.get_property('EXECUTION_DEVICES'))})".lower()
        return SessionDescription("openvino", version(), device, self.precision, self.options.threads)

    def close(self) -> None:
        self.request = self.compiled = None
        self.bound = [None] * len(self.inputs)


def _find_outputs(compiled: Any, wanted: Sequence[str]) -> list[int]:
    """Indices of the outputs wanted; one of OpenVINO's may have several names."""
    names = [{*port.get_names()} for port in compiled.outputs]
    firsts = [min(found) if found else "" for found in names]
    known = [
        next((name for name in wanted if name in found), first) for found, first in zip(names, firsts, strict=True)
    ]
    return output_order(known, wanted)


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
