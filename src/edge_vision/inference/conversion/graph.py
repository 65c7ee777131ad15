"""ONNX graphs made ready for the converters: sizes fixed, one image input, and the plain form of its head.

An export for cameras takes uint8 NHWC and begins with Cast and Transpose. Converters stumble over that: onnx2tf 2.6.7
swaps the axes once more ([1, 320, 3, 240]), pnnx 20261020 leaves a `Tensor.to` behind that ncnn does not know. So they
are given the graph behind that head, with a float32 NCHW input, and the file that they make is fed accordingly.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.conversion.contract import ConversionError
from edge_vision.inference.errors import ModelError
from edge_vision.inference.preprocess import InputSpec

LAYOUT = "nchw"
_HEAD = ("Cast", "Transpose", "Identity")


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise ConversionError(f"the Python package onnx cannot be imported: {error}", "pip install onnx") from error
    return onnx


def load(path: Path) -> Any:
    """The model at `path` as an `onnx.ModelProto`. Raises ModelError for a file that is none."""
    onnx = _onnx()
    try:
        return onnx.load(path)
    except Exception as error:  # protobuf's errors have a class that depends on its version
        raise ModelError(path, f"onnx cannot read it: {error}", "export or download the model again") from error


def save(model: Any, path: Path) -> Path:
    """Write the model, with the shapes of its inner tensors where they can be inferred."""
    onnx = _onnx()
    with contextlib.suppress(Exception):  # only a help to the converters, which infer for themselves too
        model = onnx.shape_inference.infer_shapes(model)
    onnx.save(model, path)
    return path


def simplify(path: Path) -> None:
    """Let ONNX Runtime compute what is constant in the model at `path`, now that its sizes are fixed, and fuse what it
    can say in standard ONNX; the file is replaced.

    Sizes computed inside the graph (Shape, Slice, Concat, Reshape) are gone then: TFLite would resize at every run.
    """
    import onnxruntime

    onnx = _onnx()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path.with_suffix(".simple.onnx"))
    options.log_severity_level = 3
    try:
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes
        problem = f"ONNX Runtime cannot simplify the graph: {(str(error).strip().splitlines() or ['?'])[0]}"
        raise ConversionError(problem, "export the model with an older opset (17 is read everywhere)") from error
    model = onnx.load(options.optimized_model_filepath)
    used = {node.domain for node in model.graph.node}
    kept = [entry for entry in model.opset_import if entry.domain in used | {""}]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    save(model, path)


def is_fixed(model: Any) -> bool:
    """Whether every size of the graph's inputs and outputs is stated, and there is one input."""
    known = {tensor.name for tensor in model.graph.initializer}
    images = [value for value in model.graph.input if value.name not in known]
    values = [*images, *model.graph.output]
    dimensions = [d for value in values for d in value.type.tensor_type.shape.dim]
    shaped = all(value.type.tensor_type.HasField("shape") for value in values)
    return len(images) == 1 and shaped and all(d.HasField("dim_value") and d.dim_value > 0 for d in dimensions)


def fix(model: Any, spec: InputSpec, constants: Mapping[str, NDArray], outputs: Mapping[str, tuple[int, ...]]) -> None:
    """Fix the sizes of `model`, in place.

    The input `spec.name` gets `spec.shape`, the outputs the shapes given (as a run found them); the further inputs are
    replaced by the `constants` of their names.
    """
    onnx = _onnx()
    graph = model.graph
    for value in list(graph.input):
        if value.name in constants:
            graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(constants[value.name]), value.name))
            graph.input.remove(value)
    shapes = {spec.name: spec.shape, **outputs}
    for value in [*graph.input, *graph.output]:
        if value.name in shapes:
            kind = value.type.tensor_type.elem_type
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, shapes[value.name]))
    # Sizes of inner tensors were written down for the open ones.
    del graph.value_info[:]


def make_plain(model: Any, spec: InputSpec) -> InputSpec:
    """Take Cast, Transpose and Identity off the head of a `fix`ed model, in place, so that its input is float32 NCHW.

    What the rest of the graph wants instead of that, if it does, is put in front of it. Returns how the model is fed
    now.
    """
    onnx = _onnx()
    graph = model.graph
    image = next(value for value in graph.input if value.name == spec.name)
    wanted = image.type.tensor_type.elem_type
    axes = list(spec.layout)
    results = {value.name for value in graph.output}
    tensor = spec.name
    while tensor not in results:
        consumers = [node for node in graph.node if tensor in node.input]
        if len(consumers) != 1 or consumers[0].op_type not in _HEAD:
            break
        node = consumers[0]
        if node.op_type == "Cast":
            wanted = next(attribute.i for attribute in node.attribute if attribute.name == "to")
        elif node.op_type == "Transpose":
            order = next(
                (list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"), [3, 2, 1, 0]
            )
            axes = [axes[index] for index in order]
        tensor = node.output[0]
        graph.node.remove(node)
    fed = replace(spec, layout=LAYOUT, dtype="float32")
    source = spec.name
    added = []
    if wanted != onnx.TensorProto.FLOAT:
        added.append(onnx.helper.make_node("Cast", [source], [f"{spec.name}/cast"], to=wanted))
        source = added[-1].output[0]
    if axes != list(LAYOUT):
        order = [LAYOUT.index(axis) for axis in axes]
        added.append(onnx.helper.make_node("Transpose", [source], [f"{spec.name}/transpose"], perm=order))
        source = added[-1].output[0]
    if added and tensor == spec.name:
        rename(graph, spec.name, source)
    elif tensor != spec.name:
        rename(graph, tensor, source)
    for index, node in enumerate(added):
        graph.node.insert(index, node)
    image.CopyFrom(onnx.helper.make_tensor_value_info(spec.name, onnx.TensorProto.FLOAT, fed.shape))
    del graph.value_info[:]
    return fed


def rename(graph: Any, old: str, new: str) -> None:
    """Let every node that reads tensor `old` read `new`."""
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new
