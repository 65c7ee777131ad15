"""Each runtime called by hand, in the tightest way that its own documentation has: what `Engine.run` is measured
against.

One short function a library: a task in, a function out that takes the network's input and returns its raw outputs. They
share no code with the backends, so that a slip in those shows. Settings that change what is computed (precision,
threads) are those that the engine is given too.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Call = Callable[[NDArray], list[NDArray]]


@dataclass(frozen=True, slots=True)
class Task:
    """A file to run. shape, dtype: of its one input; outputs: names in the order wanted, () for all as the file has
    them."""

    path: Path
    shape: tuple[int, ...]
    dtype: str
    threads: int
    outputs: tuple[str, ...] = ()


def onnxruntime(task: Task) -> Call:
    """onnxruntime.ai/docs/performance/tune-performance/threading.html; `run` with the names asked for once."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = task.threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    session = ort.InferenceSession(str(task.path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    outputs = list(task.outputs) or [output.name for output in session.get_outputs()]
    return lambda tensor: session.run(outputs, {name: tensor})


def openvino(task: Task) -> Call:
    """docs.openvino.ai, "OpenVINO Inference Request" and "Optimizing for Latency": one request, the input shared,
    results as views."""
    import openvino as ov

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": str(task.threads),
    }
    compiled = ov.Core().compile_model(task.path, "CPU", settings)
    request = compiled.create_infer_request()
    places = [compiled.output(name) for name in task.outputs] or compiled.outputs
    results = [request.get_tensor(place) for place in places]
    shared: list[NDArray] = []

    def call(tensor: NDArray) -> list[NDArray]:
        if not shared or shared[0] is not tensor:
            shared[:] = [tensor]
            request.set_input_tensor(ov.Tensor(tensor, shared_memory=True))
        request.infer()
        return [result.data for result in results]

    return call


def litert(task: Task) -> Call:
    """ai.google.dev/edge/api/tflite/python/tf/lite/Interpreter#tensor: views of the runtime's memory, which are let go
    before the next `invoke`."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(task.path), num_threads=task.threads)
    interpreter.allocate_tensors()
    given = interpreter.tensor(interpreter.get_input_details()[0]["index"])
    by_name = {detail["name"]: detail["index"] for detail in interpreter.get_output_details()}
    views = [interpreter.tensor(by_name[name]) for name in task.outputs or by_name]

    def call(tensor: NDArray) -> list[NDArray]:
        given()[...] = tensor
        interpreter.invoke()
        return [view() for view in views]

    return call


def ncnn(task: Task) -> Call:
    """github.com/Tencent/ncnn, python/README.md: a Mat on the array, a new extractor each time, results without a
    copy."""
    import ncnn as runtime

    net = runtime.Net()
    net.opt.num_threads = task.threads
    net.opt.openmp_blocktime = 0
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.load_param(str(task.path))
    net.load_model(str(task.path.with_suffix(".bin")))
    name = net.input_names()[0]
    outputs = list(task.outputs) or list(net.output_names())

    def call(tensor: NDArray) -> list[NDArray]:
        extractor = net.create_extractor()
        image = runtime.Mat(tensor[0])
        extractor.input(name, image)
        return [np.array(extractor.extract(output)[1], copy=False)[None] for output in outputs]

    return call


def opencv(task: Task) -> Call:
    """docs.opencv.org, "Deep Neural Networks (dnn module)": setInput and forward, with what readNet takes by itself."""
    import cv2

    cv2.setNumThreads(task.threads)
    network = cv2.dnn.readNetFromONNX(str(task.path))
    outputs = list(task.outputs) or list(network.getUnconnectedOutLayersNames())

    def call(tensor: NDArray) -> list[NDArray]:
        network.setInput(tensor)
        return list(network.forward(outputs))

    return call


def tvm(task: Task) -> Call:
    """tvm.apache.org/docs, "Export and Load Executable": the library loaded, the input copied into a tensor of TVM's,
    results as views. Compiled as the engine does, so that the call alone is compared: `tvm.compile` by itself makes a
    library that took 300 ms instead of 9 (bundled detector, one thread)."""
    import os

    os.environ.setdefault("TVM_BIND_THREADS", "0")
    os.environ.setdefault("TVM_THREAD_POOL_SPIN_COUNT", "0")
    import tvm as runtime
    from tvm import relax

    machine = relax.VirtualMachine(_tvm_library(task.path, task.shape), runtime.cpu())
    runtime.get_global_func("runtime.config_threadpool")(1, task.threads)
    main = machine["main"]
    given = runtime.runtime.empty(task.shape, task.dtype)

    def call(tensor: NDArray) -> list[NDArray]:
        given.copyfrom(tensor)
        results = main(given)
        if isinstance(results, runtime.runtime.Tensor):
            return [np.from_dlpack(results)]
        return [np.from_dlpack(result) for result in results]

    return call


@functools.cache
def _tvm_library(path: Path, shape: tuple[int, ...]) -> Any:
    import tvm as runtime

    from edge_vision.inference.backends.tvm_ import compile_library

    if path.suffix == ".so":
        return runtime.runtime.load_module(str(path))
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "model.so"
        compile_library(path, library, {"": shape})
        return runtime.runtime.load_module(str(library))


def torch(task: Task) -> Call:
    """pytorch.org/docs, torch.export and AOTInductor: the program in inference mode, on the array's own memory."""
    import torch as runtime

    runtime.set_num_threads(task.threads)
    module = runtime.export.load(task.path).module()

    def call(tensor: NDArray) -> list[NDArray]:
        with runtime.inference_mode():
            results = module(runtime.from_numpy(tensor))
        several = results if isinstance(results, (list, tuple)) else [results]
        return [result.numpy() for result in several]

    return call


LIBRARIES: Mapping[str, Callable[[Task], Call]] = {
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "litert": litert,
    "ncnn": ncnn,
    "opencv": opencv,
    "tvm": tvm,
    "torch": torch,
}
