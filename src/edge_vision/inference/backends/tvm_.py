"""Apache TVM: compiles an ONNX model to a shared library for this processor, and runs that. Reads ONNX and such `.so`.

(The trailing underscore keeps the module's name apart from the package's.)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.backends import SessionDescription, SessionOptions, missing_package, package_version
from edge_vision.inference.backends.engine_cache import cache_entry, engine_folder
from edge_vision.inference.backends.shapes import output_order, require_precision
from edge_vision.inference.errors import BackendError, ModelError
from edge_vision.inference.onnx_header import TensorSpec

FORMATS = (".onnx", ".so")
PRECISIONS = ("fp32",)
NEEDS = "the Python packages apache-tvm and onnx, and a C++ compiler to link what TVM compiles"
REMEDY = "pip install apache-tvm onnx; sudo apt install g++"

_UNUSABLE = (RuntimeError, OSError, AttributeError, ValueError, KeyError)
"""What comes of a library that is none, or not ours."""

COMPILE_SECONDS = 1800
"""A compilation that takes longer is given up."""


def available() -> str | None:
    return missing_package("tvm")


def version() -> str:
    return package_version("apache-tvm")


def devices() -> tuple[str, ...]:
    return ("cpu",)


def open(path: Path, options: SessionOptions) -> TvmSession:
    """A session on an ONNX file, compiled at the first time and taken from the cache later, or on a compiled library.

    Raises BackendError (not installed, no compiler, another device), ModelError (the file).
    """
    if options.device != "cpu":
        raise BackendError(f"tvm runs on cpu here, not on {options.device}", "use device cpu")
    tvm = import_runtime()
    if path.suffix == ".so":
        try:
            return TvmSession(tvm, path, options)
        except _UNUSABLE as error:
            problem = f"this is no library that tvm {version()} can run: {_last_line(error)}"
            raise ModelError(path, problem, "compile it again on this machine, or use the .onnx") from error
    require_precision("tvm", path, options, ("fp32",))
    facts = {"backend": "tvm", "format": "4", "version": version(), "target": json.dumps(host_target(tvm))}
    facts["shapes"] = json.dumps({name: list(shape) for name, shape in sorted(options.input_shapes.items())})
    entry = cache_entry(engine_folder(options, "tvm"), path, ".so", facts)
    for _ in range(2):
        library = entry.find()
        if library is None:
            with entry.build() as new:
                compile_library(path, new, options.input_shapes)
            library = entry.file
        try:
            return TvmSession(tvm, library, options)
        except _UNUSABLE as error:
            entry.drop()  # built anew once
            problem = f"tvm {version()} cannot load what it compiled: {_last_line(error)}"
            failure = ModelError(path, problem, "use backend onnxruntime")
    raise failure


def import_runtime() -> Any:
    """tvm, its threads told to be quiet. Raises BackendError where it cannot be imported."""
    # TVM's threads are pinned to cores and spin between runs unless told otherwise when its pool begins.
    os.environ.setdefault("TVM_BIND_THREADS", "0")
    os.environ.setdefault("TVM_THREAD_POOL_SPIN_COUNT", "0")
    try:
        import tvm
        import tvm.relax
    except (ImportError, OSError, RuntimeError) as error:  # a shared library that is missing is an OSError
        raise BackendError(f"tvm cannot be imported: {_last_line(error)}", REMEDY) from error
    return tvm


def host_target(tvm: Any) -> dict[str, str]:
    """The target that this machine's processor is, as TVM writes it."""
    from tvm.target import codegen

    return {
        "kind": "llvm",
        "mcpu": str(codegen.llvm_get_system_cpu()),
        "mtriple": str(codegen.llvm_get_system_triple()),
    }


def compile_library(model: Path, library: Path, input_shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Compile the ONNX file `model` for this processor into the shared library `library`.

    In a process of its own: the compiler prints to stderr from C++, and keeps some hundred megabytes. input_shapes: as
    in `SessionOptions`. Raises ModelError (what TVM cannot compile), BackendError (no compiler, out of time).
    """
    job = {
        "model": os.fspath(model),
        "library": os.fspath(library),
        "shapes": {k: list(v) for k, v in input_shapes.items()},
    }
    command = [sys.executable, "-m", "edge_vision.inference.backends.tvm_compiler", json.dumps(job)]
    source = os.fspath(Path(__file__).parents[3])
    search = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": search},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMPILE_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise BackendError(f"tvm did not compile {model.name} in {COMPILE_SECONDS} s", "use another backend") from error
    if done.returncode == 0 and library.is_file():
        return
    reason = _last_line(done.stderr) or f"the compiler ended with {done.returncode}"
    if "onnx" in reason and "No module" in reason:
        raise BackendError(f"tvm cannot read ONNX: {reason}", "pip install onnx")
    if "compiler" in reason.lower() or "g++" in reason or "gcc" in reason:
        raise BackendError(f"tvm has compiled {model.name}, but it cannot be linked: {reason}", "sudo apt install g++")
    raise ModelError(model, f"tvm {version()} cannot compile it: {reason}", "use backend onnxruntime")


def _last_line(error: Exception | str) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else ("" if isinstance(error, str) else type(error).__name__)


class TvmSession:
    """See `Session`. Inputs are copied into tensors of TVM, aligned as its vector loads need; results are views."""

    def __init__(self, tvm: Any, library: Path, options: SessionOptions) -> None:
        machine = tvm.relax.VirtualMachine(tvm.runtime.load_module(os.fspath(library)), tvm.cpu())
        card = json.loads(bytes(machine["signature"]().numpy()).decode("utf-8"))
        mine = {"version": version(), "target": host_target(tvm)}
        if card["made_for"] != mine:  # an instruction that this processor lacks would end the process
            raise ValueError(f"it was compiled for {card['made_for']}, and this is {mine}")
        self.loops: str = card["loops"]
        """ordered, or plain where `tvm_schedule` does not fit the installed TVM."""
        self.inputs = tuple(_spec(item) for item in card["inputs"])
        everything = tuple(_spec(item) for item in card["outputs"])
        names = [spec.name for spec in everything]
        self.order = output_order(names, options.outputs)
        self.outputs = tuple(everything[index] for index in self.order)
        self.options = options
        self.machine, self.main = machine, machine["main"]
        self.tensors = [tvm.runtime.empty(spec.shape, spec.dtype) for spec in self.inputs]
        self.buffers = [np.from_dlpack(tensor) for tensor in self.tensors]
        self.single = len(names) == 1
        tvm.get_global_func("runtime.config_threadpool")(1, options.threads)

    def run(self, inputs: Sequence[NDArray]) -> list[NDArray]:
        for buffer, array in zip(self.buffers, inputs, strict=True):
            np.copyto(buffer, array, casting="no")
        results = self.main(*self.tensors)
        if self.single and not isinstance(results, Sequence):
            return [np.from_dlpack(results)]
        return [np.from_dlpack(results[index]) for index in self.order]

    def describe(self) -> SessionDescription:
        return SessionDescription("tvm", version(), "cpu", self.options.precision, self.options.threads)

    def close(self) -> None:
        self.main = self.machine = None
        self.tensors, self.buffers = [], []


def _spec(item: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(item["name"], tuple(item["shape"]), item["dtype"])
