"""PyTorch and its runtime for edge devices, ExecuTorch: `.pt2` of torch.export, plain or compiled (AOTInductor),
`.pte`, and TorchScript.

(The trailing underscore keeps the module's name apart from the package's.)
"""

from __future__ import annotations

import contextlib
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.backends import SessionDescription, SessionOptions, missing_package, package_version
from edge_vision.inference.backends.shapes import output_order
from edge_vision.inference.errors import BackendError, ModelError
from edge_vision.inference.onnx_header import TensorSpec

FORMATS = (".pt2", ".pte", ".torchscript")
PRECISIONS = ("fp32",)
NEEDS = "the Python package torch; for .pte executorch too"
REMEDY = "pip install torch"

Call = Callable[[Sequence[Any]], Any]


def available() -> str | None:
    return missing_package("torch")


def version() -> str:
    return package_version("torch")


def devices() -> tuple[str, ...]:
    return ("cpu",)


def open(path: Path, options: SessionOptions) -> TorchSession:
    """A session on an exported program. Raises BackendError (not installed, another device), ModelError (the file)."""
    if options.device != "cpu":
        raise BackendError(f"torch runs on cpu here, not on {options.device}", "use device cpu")
    torch = _import("torch")
    # One number for the whole process: nothing else of this one uses torch.
    torch.set_num_threads(options.threads)
    try:
        with _quiet():
            if path.suffix == ".pte":
                return TorchSession(torch, *_executorch(torch, path), options)
            kind = _kind(path)
            if kind == "compiled":
                return TorchSession(torch, *_compiled(torch, path, options), options)
            if kind == "script":
                return TorchSession(torch, *_script(torch, path, options), options)
            return TorchSession(torch, *_exported(torch, path), options)
    except (BackendError, ModelError):
        raise
    except Exception as error:  # torch raises whatever the reader of the day does
        lines = str(error).strip().splitlines() or [type(error).__name__]
        problem = f"torch {version()} cannot open it: {lines[0][:300]}"
        raise ModelError(path, problem, "export it again with the version of torch that is installed here") from error


def _import(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except (ImportError, OSError) as error:  # a library that is missing, or of another version of torch
        package = name.split(".")[0]
        remedy = REMEDY if package == "torch" else "pip install executorch, of the release that fits torch"
        raise BackendError(f"{package} cannot be imported: {error}", remedy) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():  # of torch about itself
        warnings.simplefilter("ignore")
        yield


def _kind(path: Path) -> str:
    """`compiled`, `script` or `exported`, from the names in the archive. Raises ModelError for another file."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise ModelError(path, f"this is no file of torch.export: {error}", _EXPORT) from error
    if any("aotinductor/" in name for name in names):
        return "compiled"
    if any(name.endswith("/constants.pkl") for name in names):
        return "script"
    if any("serialized_exported_program" in name or name.split("/")[-1] in ("model.json",) for name in names):
        return "exported"
    # A checkpoint of torch.save holds Python objects: loading one runs whatever is in it.
    raise ModelError(path, "this is no exported program (weights, or a checkpoint of training)", _EXPORT)


_EXPORT = "write one with torch.export.save(torch.export.export(model.eval(), (example,)), 'model.pt2')"


def _exported(torch: Any, path: Path) -> tuple[Call, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    program = torch.export.load(path)
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    inputs = tuple(_spec(name, values[name]) for name in program.graph_signature.user_inputs)
    outputs = tuple(_spec(name, values[name]) for name in program.graph_signature.user_outputs)
    module = program.module()
    return lambda tensors: module(*tensors), inputs, outputs


def _compiled(
    torch: Any, path: Path, options: SessionOptions
) -> tuple[Call, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    from torch._inductor import aoti_load_package  # public by documentation, not by name

    model = aoti_load_package(os.fspath(path))
    return lambda tensors: model(*tensors), _asked(options), ()


def _script(
    torch: Any, path: Path, options: SessionOptions
) -> tuple[Call, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    module = torch.jit.optimize_for_inference(torch.jit.load(path, "cpu").eval())
    return lambda tensors: module(*tensors), _asked(options), ()


def _asked(options: SessionOptions) -> tuple[TensorSpec, ...]:
    """Inputs of a file that does not tell them."""
    shapes = options.input_shapes or {"": ()}
    return tuple(TensorSpec(name, tuple(shape), "float32") for name, shape in shapes.items())


def _executorch(torch: Any, path: Path) -> tuple[Call, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    runtime = _import("executorch.runtime").Runtime.get()
    method = runtime.load_program(path).load_method("forward")
    card = method.metadata
    kinds = {number: torch_type for torch_type, number in _SCALAR_TYPES.items()}

    def spec(index: int, meta: Any, prefix: str) -> TensorSpec:
        return TensorSpec(f"{prefix}{index}", tuple(meta.sizes()), kinds.get(int(meta.dtype()), "float32"))

    inputs = tuple(spec(index, card.input_tensor_meta(index), "input") for index in range(card.num_inputs()))
    outputs = tuple(spec(index, card.output_tensor_meta(index), "output") for index in range(card.num_outputs()))
    return method.execute, inputs, outputs


_SCALAR_TYPES = {"uint8": 0, "int8": 1, "int32": 3, "int64": 4, "float16": 5, "float32": 6, "float64": 7, "bool": 11}
"""c10::ScalarType by NumPy's name."""


def _spec(name: str, value: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorSpec(name, shape, str(value.dtype).removeprefix("torch."))


class TorchSession:
    """See `Session`. Inputs and results share their memory with torch's tensors; nothing is kept for gradients."""

    def __init__(
        self,
        torch: Any,
        call: Call,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        options: SessionOptions,
    ) -> None:
        self.torch, self.options = torch, options
        self.call: Call | None = call
        self.inputs = inputs
        if not outputs:  # known after a run only
            outputs = self._find_outputs(call, inputs)
        self.order = output_order([spec.name for spec in outputs], options.outputs)
        self.outputs = tuple(outputs[index] for index in self.order)

    def _find_outputs(self, call: Call, inputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        shapes = [tuple(size or 1 for size in spec.shape) for spec in inputs]
        zeros = [np.zeros(shape, spec.dtype) for shape, spec in zip(shapes, inputs, strict=True)]
        results = self._results(call, zeros)
        return tuple(TensorSpec(f"output{i}", array.shape, array.dtype.name) for i, array in enumerate(results))

    def _results(self, call: Call, inputs: Sequence[NDArray]) -> list[NDArray]:
        with self.torch.inference_mode():
            results = call([self.torch.from_numpy(array) for array in inputs])
        if isinstance(results, self.torch.Tensor):
            results = (results,)
        return [result.detach().numpy() for result in results]

    def run(self, inputs: Sequence[NDArray]) -> list[NDArray]:
        if self.call is None:
            raise BackendError("the session is closed", "open the model again")
        results = self._results(self.call, inputs)
        return [results[index] for index in self.order]

    def describe(self) -> SessionDescription:
        return SessionDescription("torch", version(), "cpu", self.options.precision, self.options.threads)

    def close(self) -> None:
        self.call = None
