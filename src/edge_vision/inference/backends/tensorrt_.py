"""TensorRT: NVIDIA GPUs, Jetson included. Builds an engine from ONNX once and keeps it, or takes one that is built.

The package `tensorrt` (JetPack's or PyPI's), or `tensorrt_rtx`, which has the same interface and is whole on PyPI.
(The trailing underscore keeps the module's name apart from the package's.)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.backends import SessionDescription, SessionOptions, missing_package, package_version
from edge_vision.inference.backends.cuda_buffers import Buffer, Gpu, find_driver, load_driver
from edge_vision.inference.backends.engine_cache import cache_entry, engine_folder
from edge_vision.inference.backends.shapes import output_order
from edge_vision.inference.backends.tensorrt_builder import (
    build_engine,
    collecting_logger,
    engine_facts,
    plan_mismatch,
    read_plan_header,
)
from edge_vision.inference.errors import BackendError, ModelError
from edge_vision.inference.onnx_header import TensorSpec

FORMATS = (".onnx", ".engine", ".plan")
PRECISIONS = ("fp32", "fp16")
NEEDS = "an NVIDIA GPU with its driver, and the Python package tensorrt or tensorrt_rtx"
REMEDY = "pip install tensorrt-rtx (on a Jetson: sudo apt install python3-libnvinfer)"

CUDA_GRAPH = "EDGE_VISION_CUDA_GRAPH"
"""Environment variable; 1: a run is recorded once and launched as a whole, which saves a few microseconds a kernel. Not
the default, since it was written without a GPU to try it on."""

REBUILD = "give the .onnx instead: it is built for this machine"

_FLAVOURS = ("tensorrt", "tensorrt_rtx")


def available() -> str | None:
    if all(missing_package(flavour) is not None for flavour in _FLAVOURS):
        return missing_package(_FLAVOURS[0])
    try:
        find_driver()
    except BackendError as error:
        return error.problem
    return None


def version() -> str:
    names = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-rtx", "tensorrt-cu13-bindings")
    return package_version(*names)


def import_runtime() -> Any:
    """tensorrt or tensorrt_rtx. Raises BackendError where neither can be imported."""
    problems = []
    for flavour in _FLAVOURS:
        if missing_package(flavour) is None:
            try:
                return import_module(flavour)
            except (ImportError, OSError) as error:  # libnvinfer of another version, or none
                problems.append(f"{flavour} cannot be imported: {error}")
    raise BackendError("; ".join(problems) or missing_package(_FLAVOURS[0]) or "", REMEDY)


def devices() -> tuple[str, ...]:
    """cuda, cuda:1, ...; asks the driver. Raises BackendError where there is none."""
    found: list[str] = []
    driver = load_driver()
    while True:
        try:
            gpu = Gpu(len(found), driver)
        except BackendError:
            return tuple(found)
        gpu.close()
        found.append(f"cuda:{len(found)}" if found else "cuda")


def device_index(device: str) -> int:
    """0 for `cuda`, the number of `cuda:N`. Raises BackendError for another name."""
    kind, _, number = device.partition(":")
    if kind != "cuda" or (number and not number.isdigit()):
        raise BackendError(f"tensorrt has no device {device!r}", "use cuda, or cuda:N for one of several")
    return int(number or 0)


def open(path: Path, options: SessionOptions) -> TensorRtSession:
    """A session on an ONNX file, built at the first time and taken from the cache later, or on a built engine.

    Raises BackendError (not installed, no GPU, a precision that it lacks), ModelError (the file, an engine of another
    version).
    """
    index = device_index(options.device)
    trt = import_runtime()
    gpu = Gpu(index)
    try:
        return TensorRtSession(trt, gpu, _engine(trt, gpu, path, options), options)
    except Exception:
        gpu.close()
        raise


def load_plan(path: Path, flavour: str, version: str) -> tuple[bytes, str | None]:
    """The plan in an engine file, and the version that built it where that is another than the installed one.

    Raises ModelError for a file that is none, or is of the other package (tensorrt and tensorrt_rtx cannot read each
    other's).
    """
    data = path.read_bytes()
    header = read_plan_header(data)
    if header is None:
        raise ModelError(path, "this is no TensorRT engine", "build it from the .onnx: give that instead")
    reason = plan_mismatch(header, flavour, version)
    if header.flavour != flavour:
        raise ModelError(path, f"TensorRT cannot run this engine: {reason}", REBUILD)
    return data[header.offset :], reason


def _engine(trt: Any, gpu: Gpu, path: Path, options: SessionOptions) -> tuple[Any, Any, Any]:
    """(runtime, engine, logger) of a file."""
    logger = collecting_logger(trt)
    runtime = trt.Runtime(logger)
    if path.suffix != ".onnx":
        plan, other = load_plan(path, trt.__name__, trt.__version__)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            reason = other or logger.reason("no reason given")
            raise ModelError(path, f"TensorRT cannot load this engine on {gpu.name}: {reason}", REBUILD)
        return runtime, engine, logger
    folder = engine_folder(options, "tensorrt")
    shapes = dict(options.input_shapes)
    facts = engine_facts(trt.__name__, trt.__version__, gpu.name, gpu.capability, options.precision, shapes)
    entry = cache_entry(folder, path, ".engine", facts)
    timing = None  # RTX times nothing: it compiles for the GPU when it loads
    if trt.__name__ == "tensorrt":
        timing = folder / f"timing-{trt.__version__}-sm{''.join(map(str, gpu.capability))}.cache"
    for _ in range(2):
        file = entry.find()
        if file is None:
            with entry.build() as new:
                new.write_bytes(build_engine(trt, logger, path, options.precision, shapes, timing))
            file = entry.file
        engine = runtime.deserialize_cuda_engine(file.read_bytes())
        if engine is not None:
            return runtime, engine, logger
        entry.drop()  # built anew once
    problem = f"TensorRT cannot load what it built on {gpu.name}: {logger.reason('no reason given')}"
    raise BackendError(problem, "use backend onnxruntime, and see that driver and TensorRT fit each other")


class TensorRtSession:
    """See `Session`. A run copies the inputs into pinned memory, puts copy, kernels and copy back into its own stream
    and waits for that; results are views of pinned memory, overwritten by the next run."""

    def __init__(self, trt: Any, gpu: Gpu, loaded: tuple[Any, Any, Any], options: SessionOptions) -> None:
        self.gpu, self.options = gpu, options
        self.runtime, self.engine, self.logger = loaded
        self.name = trt.__name__
        self.buffers: list[Buffer] = []
        self.context = self.engine.create_execution_context()
        if self.context is None:
            raise BackendError(f"TensorRT cannot run here: {self.logger.reason('out of memory')}", "free GPU memory")
        try:
            self._bind(trt)
        except Exception:
            self._free()
            raise

    def _bind(self, trt: Any) -> None:
        names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        modes = {name: self.engine.get_tensor_mode(name) for name in names}
        inputs = [name for name in names if modes[name] == trt.TensorIOMode.INPUT]
        outputs = [name for name in names if modes[name] == trt.TensorIOMode.OUTPUT]
        for name in inputs:
            if -1 in tuple(self.engine.get_tensor_shape(name)):  # built with one size: that
                self.context.set_input_shape(name, self.engine.get_tensor_profile_shape(name, 0)[1])
        bound = {name: self._buffer(trt, name) for name in inputs + outputs}
        order = output_order(outputs, self.options.outputs)
        self.inputs = tuple(_spec(name, bound[name]) for name in inputs)
        self.outputs = tuple(_spec(outputs[index], bound[outputs[index]]) for index in order)
        self.sources = [bound[name] for name in inputs]
        self.results = [bound[spec.name] for spec in self.outputs]
        self.recorded = False
        if os.environ.get(CUDA_GRAPH) == "1":
            self._enqueue()  # the first run allocates, which cannot be recorded
            self.gpu.wait()
            self.gpu.capture(self._enqueue)
            self.recorded = True

    def _buffer(self, trt: Any, name: str) -> Buffer:
        shape = tuple(self.context.get_tensor_shape(name))
        if -1 in shape:
            problem = f"the size of output {name} depends on the data"
            raise BackendError(problem, "export the model without its own NMS, or use backend onnxruntime")
        dtype = trt.nptype(self.engine.get_tensor_dtype(name))
        buffer = Buffer(self.gpu, shape, dtype)
        self.buffers.append(buffer)
        self.context.set_tensor_address(name, buffer.pointer)
        return buffer

    def _enqueue(self) -> None:
        for buffer in self.sources:
            buffer.upload()
        if not self.context.execute_async_v3(self.gpu.stream.value):
            raise BackendError(f"TensorRT failed: {self.logger.reason('no reason given')}", "load the model again")
        for buffer in self.results:
            buffer.download()

    def run(self, inputs: Sequence[NDArray]) -> list[NDArray]:
        self.gpu.enter()
        for buffer, array in zip(self.sources, inputs, strict=True):
            np.copyto(buffer.host, array, casting="no")
        if self.recorded:
            self.gpu.launch()
        else:
            self._enqueue()
        self.gpu.wait()
        return [buffer.host for buffer in self.results]

    def describe(self) -> SessionDescription:
        runtime = f"{version()} ({self.name}, {self.gpu.name})"
        return SessionDescription(
            "tensorrt", runtime, self.options.device, self.options.precision, self.options.threads
        )

    def _free(self) -> None:
        self.context = self.engine = self.runtime = None  # the context before its engine, both before their memory
        for buffer in self.buffers:
            buffer.close()
        self.buffers, self.sources, self.results = [], [], []

    def close(self) -> None:
        if self.gpu.context is not None:
            self.gpu.enter()
            self.gpu.wait()
            self._free()
            self.gpu.close()


def _spec(name: str, buffer: Buffer) -> TensorSpec:
    return TensorSpec(name, buffer.host.shape, buffer.host.dtype.name)
