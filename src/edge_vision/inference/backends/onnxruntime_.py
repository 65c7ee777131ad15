"""ONNX Runtime: light, runs every ONNX model, on x86-64 and ARM; other hardware through its execution providers.

A device is an execution provider by its short name: cpu, cuda, tensorrt, openvino, coreml, xnnpack, qnn, ... (the table
is in `onnxruntime_providers`). (The trailing underscore keeps the module's name apart from the package's.)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.backends import SessionDescription, SessionOptions, missing_package, package_version
from edge_vision.inference.backends.onnxruntime_providers import (
    FAR_MEMORY,
    NO_DEVICE,
    PROVIDERS,
    Device,
    device_names,
    makes_fp16,
    parse_device,
    provider_list,
    why_not_loaded,
)
from edge_vision.inference.backends.shapes import output_order, require_precision
from edge_vision.inference.errors import BackendError, ModelError
from edge_vision.inference.onnx_header import TensorSpec

FORMATS = (".onnx", ".ort")
PRECISIONS = ("fp32", "fp16")
NEEDS = "the Python package onnxruntime, or a build of it with the execution provider wanted"
REMEDY = "pip install onnxruntime"

_WARNING = 3  # log errors only: warnings are about graph details that a user cannot change
_FATAL = 4


def available() -> str | None:
    return missing_package("onnxruntime")


def version() -> str:
    builds = ("", "-gpu", "-openvino", "-qnn", "-directml", "-migraphx", "-rocm", "-coreml")
    return package_version(*(f"onnxruntime{build}" for build in builds))


def devices() -> tuple[str, ...]:
    """Those that the installed build has, cpu first; whether a GPU is there shows when a model is opened."""
    return device_names(_import().get_available_providers())


def _import() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(f"onnxruntime cannot be imported: {error}", REMEDY) from error
    return onnxruntime


def precisions_on(device: str) -> tuple[str, ...]:
    """Those that a provider makes of an fp32 file: some compute in fp16, the CPU does not."""
    return PRECISIONS if makes_fp16(parse_device(device)) else ("fp32",)


def open(path: Path, options: SessionOptions) -> OnnxRuntimeSession:
    """A session on an ONNX file.

    Raises BackendError (not installed, a device or precision that it has not or that does not come up), ModelError (the
    file).
    """
    device = parse_device(options.device)
    onnxruntime = _import()
    providers = provider_list(device, options, onnxruntime.get_available_providers())
    require_precision("onnxruntime", path, options, precisions_on(options.device))
    settings = _settings(onnxruntime, device, options)
    file = os.fspath(path)
    # Its fallback prints, and opens another provider than the one wanted.
    make = partial(onnxruntime.InferenceSession, file, settings, providers=providers, enable_fallback=0)
    try:
        with ThreadPoolExecutor(1) as maker:
            session = maker.submit(make).result()
    except Exception as error:  # onnxruntime raises classes of its own that derive from Exception alone
        reason = why_not_loaded(device.kind, Path(onnxruntime.__file__).parent)
        if device.kind != "cpu" and reason != NO_DEVICE:
            raise _not_up(device, reason) from error
        problem = f"onnxruntime {version()} cannot open it on {options.device}: {_first_line(error)}"
        raise ModelError(path, problem, _remedy(error)) from error
    if PROVIDERS[device.kind] not in session.get_providers():  # left out without an error
        raise _not_up(device, why_not_loaded(device.kind, Path(onnxruntime.__file__).parent))
    return OnnxRuntimeSession(session, device, options)


def _not_up(device: Device, reason: str) -> BackendError:
    wanted = PROVIDERS[device.kind]
    remedy = f"install what {wanted} needs (onnxruntime's page about it lists the versions), or use device cpu"
    return BackendError(f"onnxruntime's {wanted} did not come up: {reason}", remedy)


def _settings(onnxruntime: Any, device: Device, options: SessionOptions) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1 if device.kind == "xnnpack" else options.threads  # it has a pool of its own
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
    if device.kind == "dml":
        settings.enable_mem_pattern = False  # which DirectML cannot do
    if device.kind != "cpu":
        onnxruntime.set_default_logger_severity(_FATAL)  # a provider that does not come up is said once, below
    return settings


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _remedy(error: Exception) -> str:
    if "opset" in str(error) or "IR version" in str(error):
        return "export the model with an older opset (17 is read everywhere), or install a newer onnxruntime"
    return "export the model again, or check the file with onnx.checker"


class OnnxRuntimeSession:
    """See `Session`. On the CPU a plain `run`: bound buffers gain nothing there (measured at 1.5 MB of input). On
    devices with memory of their own inputs are bound, and outputs to arrays that every run writes to."""

    def __init__(self, session: Any, device: Device, options: SessionOptions) -> None:
        self.session = session
        self.options = options
        self.inputs = tuple(_spec(tensor) for tensor in session.get_inputs())
        everything = tuple(_spec(tensor) for tensor in session.get_outputs())
        order = output_order([spec.name for spec in everything], options.outputs)
        self.outputs = tuple(everything[index] for index in order)
        self.input_names = [spec.name for spec in self.inputs]
        self.output_names = [spec.name for spec in self.outputs]
        self.binding: Any = session.io_binding() if device.kind in FAR_MEMORY else None
        self.results = self._bind_outputs() if self.binding else None

    def _bind_outputs(self) -> list[NDArray] | None:
        """Arrays that the runtime writes the outputs to, None where their sizes are not known."""
        if any(None in spec.shape for spec in self.outputs):
            return None
        results = [np.empty(_sizes(spec), spec.dtype) for spec in self.outputs]
        for spec, array in zip(self.outputs, results, strict=True):
            self.binding.bind_output(spec.name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        return results

    def run(self, inputs: Sequence[NDArray]) -> list[NDArray]:
        if self.binding is None:
            return self.session.run(self.output_names, dict(zip(self.input_names, inputs, strict=True)))
        for name, array in zip(self.input_names, inputs, strict=True):
            self.binding.bind_cpu_input(name, array)  # this is what copies it to the device
        if self.results is None:
            for name in self.output_names:
                self.binding.bind_output(name, "cpu")
        self.session.run_with_iobinding(self.binding)
        return self.binding.copy_outputs_to_cpu() if self.results is None else self.results

    def describe(self) -> SessionDescription:
        options = self.options
        return SessionDescription("onnxruntime", version(), options.device, options.precision, options.threads)

    def close(self) -> None:
        self.session = self.binding = None


_TYPES = {"float": "float32", "double": "float64"}  # the rest is named as NumPy does


def _spec(tensor: Any) -> TensorSpec:
    kind = tensor.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in tensor.shape)
    return TensorSpec(tensor.name, shape, _TYPES.get(kind, kind))


def _sizes(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(size for size in spec.shape if size is not None)
