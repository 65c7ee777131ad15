"""LiteRT (TensorFlow Lite): CPUs of any kind through XNNPACK, and Google's Edge TPU. Reads `.tflite`.

The small package tflite_runtime, its predecessor, serves where ai-edge-litert is not installed. (The trailing
underscore is in the manner of the module's siblings.)
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.backends import SessionDescription, SessionOptions, missing_package, package_version
from edge_vision.inference.errors import BackendError, ModelError
from edge_vision.inference.onnx_header import TensorSpec

FORMATS = (".tflite",)
PRECISIONS = ("fp32",)
NEEDS = "the Python package ai-edge-litert (or tflite-runtime); for edgetpu Google's libedgetpu"
REMEDY = "pip install ai-edge-litert"

EDGETPU_LIBRARY = "EDGE_VISION_EDGETPU_LIBRARY"
"""Environment variable that names the Edge TPU's library where it is not found by its usual name."""

_PACKAGES = ("ai_edge_litert", "tflite_runtime")
_IDENTIFIER = b"TFL3"  # bytes 4 to 8 of the file: the FlatBuffers identifier of the schema


def available() -> str | None:
    return None if any(missing_package(package) is None for package in _PACKAGES) else missing_package(_PACKAGES[0])


def version() -> str:
    return package_version("ai-edge-litert", "tflite-runtime")


def devices() -> tuple[str, ...]:
    """cpu, and edgetpu where its library is installed (whether a stick is plugged in shows when a model is opened)."""
    return ("cpu", "edgetpu") if _edgetpu_library() else ("cpu",)


def _edgetpu_library() -> str:
    named = os.environ.get(EDGETPU_LIBRARY)
    if named:
        return named if Path(named).is_file() else ""
    return ctypes.util.find_library("edgetpu") or ""


def _import() -> Any:
    reasons = []
    for package in _PACKAGES:
        try:
            return import_module(f"{package}.interpreter")
        except ImportError as error:
            reasons.append(str(error))
    raise BackendError(f"litert cannot be imported: {'; '.join(reasons)}", REMEDY)


def open(path: Path, options: SessionOptions) -> LiteRtSession:
    """A session on a TFLite file. Raises BackendError (not installed, no such device), ModelError (the file)."""
    device = options.device.lower()
    if device != "cpu" and device.split(":")[0] != "edgetpu":
        raise BackendError(f"litert has no device {options.device} here", f"choose one of {', '.join(devices())}")
    runtime = _import()
    _check(path)
    delegates = [] if device == "cpu" else [_edgetpu(runtime, device)]
    try:
        # The default resolver takes XNNPACK for whatever it can do.
        interpreter = runtime.Interpreter(
            os.fspath(path), num_threads=options.threads, experimental_delegates=delegates
        )
        _resize(interpreter, options.input_shapes)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        problem = f"litert {version()} cannot open it: {_first_line(error)}"
        remedy = "convert the model again, with fixed sizes and built-in operators"
        if "edgetpu" in str(error):
            remedy = "use device edgetpu, or the file from before edgetpu_compiler"
        raise ModelError(path, problem, remedy) from error
    return LiteRtSession(path, interpreter, options)


def _check(path: Path) -> None:
    """The runtime maps the file and follows the offsets in it: what is no such file must not get there."""
    try:
        with path.open("rb") as stream:
            start = stream.read(8)
    except OSError as error:
        raise ModelError(path, f"cannot be read: {error.strerror}", "check the path and its permissions") from error
    if start[4:8] != _IDENTIFIER:
        remedy = "convert or download the model again (`edge_vision convert MODEL --to litert`)"
        raise ModelError(path, f"is no TFLite file: it begins with {start!r}", remedy)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _edgetpu(runtime: Any, device: str) -> Any:
    """The delegate; device: `edgetpu` or `edgetpu:` and what libedgetpu calls it (0, usb:0, pci:1)."""
    library = _edgetpu_library()
    if not library:
        named = os.environ.get(EDGETPU_LIBRARY)
        where = f"{EDGETPU_LIBRARY} names {named}, which is not there" if named else "libedgetpu.so.1 is not installed"
        remedy = f"install libedgetpu1-std (coral.ai/software), or name the file in {EDGETPU_LIBRARY}"
        raise BackendError(f"litert cannot use the Edge TPU: {where}", remedy)
    _, _, which = device.partition(":")
    options = {"device": which if ":" in which or not which else f":{which}"} if which else {}
    try:
        ctypes.CDLL(
            library
        )  # a failure of this inside load_delegate would leave a half-made object that complains later
        return runtime.load_delegate(library, options)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split()) or "it does not say why"
        remedy = "check that the accelerator is plugged in and that you may use it (udev rule, group plugdev)"
        raise BackendError(f"the Edge TPU's library {library} refuses: {reason}", remedy) from error


def _resize(interpreter: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Sizes that the file leaves open, fixed."""
    for detail in interpreter.get_input_details():
        wanted = shapes.get(detail["name"], shapes.get("", ()))
        signature = detail.get("shape_signature", detail["shape"])
        if wanted and (np.asarray(signature) < 0).any():
            interpreter.resize_tensor_input(detail["index"], list(wanted), strict=True)


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor of the interpreter: `view()` gives an array on its memory, which must be gone before the next run.

    real value = scale * (stored value - zero); scale is 0 where nothing is quantised.
    """

    spec: TensorSpec
    stored: np.dtype
    view: Callable[[], NDArray]
    scale: float
    zero: int


def _tensor(interpreter: Any, detail: Mapping[str, Any], is_input: bool) -> _Tensor:
    stored = np.dtype(detail["dtype"])
    scale, zero = detail["quantization"]
    quantised = bool(scale) and stored.kind in "iu"
    dtype = stored.name
    if quantised and is_input and not (stored == np.uint8 or (stored == np.int8 and zero == -128)):
        dtype = "float32"  # quantised here
    elif quantised and is_input:
        dtype = "uint8"  # pixels as they are
    elif quantised:
        dtype = "float32"
    # A size that is computed at every run is -1 in the signature; that of an input has been given by now.
    signature = detail.get("shape_signature", detail["shape"])
    sizes = signature if signature.size and not is_input else detail["shape"]
    shape = tuple(int(size) if size > 0 else None for size in sizes)
    view = interpreter.tensor(detail["index"])
    return _Tensor(TensorSpec(detail["name"], shape, dtype), stored, view, float(scale) if quantised else 0.0, zero)


class LiteRtSession:
    """See `Session`. The image is written into the runtime's own tensor, the one copy that it asks for.

    Quantised models: a uint8 input takes pixels as they are, and so does an int8 one of zero point -128, which is those
    pixels minus 128; another integer input takes real values (float32), and so do the two when given float32. Quantised
    outputs come as float32 real values.

    Half-precision weights are unpacked by XNNPACK when the model is opened, and computed with in fp32.

    Results are copies: the runtime refuses to run while anybody holds a view of its memory, and 72 kB (1500 boxes of 7
    classes) take 5 us.
    """

    def __init__(self, path: Path, interpreter: Any, options: SessionOptions) -> None:
        self.options = options
        self.interpreter = interpreter
        found = interpreter.get_output_details()
        if options.outputs:
            by_name = {detail["name"]: detail for detail in found}
            unknown = [name for name in options.outputs if name not in by_name]
            if unknown:
                problem = f"has no output {unknown[0]!r}; it has {', '.join(by_name)}"
                raise ModelError(path, problem, "correct the variant's outputs", "outputs")
            found = [by_name[name] for name in options.outputs]
        self._sources = [_tensor(interpreter, detail, True) for detail in interpreter.get_input_details()]
        self._results = [_tensor(interpreter, detail, False) for detail in found]
        self.inputs = tuple(tensor.spec for tensor in self._sources)
        self.outputs = tuple(tensor.spec for tensor in self._results)

    def run(self, inputs: Sequence[NDArray]) -> list[NDArray]:
        for tensor, array in zip(self._sources, inputs, strict=True):
            if array.dtype == tensor.stored and array.shape == tensor.spec.shape:
                np.copyto(tensor.view(), array)
            else:
                _write(tensor, array)
        try:
            self.interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            problem = f"litert failed while running: {_first_line(error)}"
            raise BackendError(problem, "use another backend, or convert the model again") from error
        return [_read(tensor) for tensor in self._results]

    def describe(self) -> SessionDescription:
        options = self.options
        return SessionDescription("litert", version(), options.device, options.precision, options.threads)

    def close(self) -> None:
        self._sources, self._results = [], []
        self.interpreter = None


def _write(tensor: _Tensor, array: NDArray) -> None:
    """An array that is not of the tensor's own kind."""
    view = tensor.view()
    if array.shape != view.shape:
        problem = f"litert was given a tensor of shape {array.shape} for {tensor.spec}"
        raise BackendError(problem, "correct the input's size and layout in the bundle")
    if tensor.scale and array.dtype.kind == "f":
        info = np.iinfo(tensor.stored)
        real = np.rint(array * np.float32(1 / tensor.scale)) + tensor.zero
        np.copyto(view, np.clip(real, info.min, info.max), casting="unsafe")
    elif tensor.stored == np.int8 and array.dtype == np.uint8:
        np.bitwise_xor(array, 0x80, out=view.view(np.uint8))  # minus 128, in one pass
    else:
        np.copyto(view, array, casting="same_kind")


def _read(tensor: _Tensor) -> NDArray:
    view = tensor.view()
    if not tensor.scale:
        return view.copy()
    result = view.astype(np.float32)
    result -= tensor.zero
    result *= tensor.scale
    return result
