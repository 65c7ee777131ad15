"""Sizes of every tensor of a graph, and how much there is to compute."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx

from edge_vision.optimize.graphs.editing import drop_notes
from edge_vision.optimize.graphs.view import View, attribute, integer

Shape = tuple[int, ...]


class DynamicShape(Exception):
    """The sizes of a tensor are not known before the graph runs."""


def set_input_shape(proto: onnx.ModelProto, shape: Sequence[int | str], name: str = "") -> None:
    """States the size of an input (the only one, or that of this name), and forgets what was stated of other tensors
    and of the outputs' sizes. Text is an open size."""
    initialisers = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in initialisers]
    value = next((v for v in inputs if v.name == name), inputs[0])
    _state(value, shape)
    del proto.graph.value_info[:]
    for output in proto.graph.output:
        dims = output.type.tensor_type.shape.dim
        for index, dim in enumerate(dims):
            dim.Clear()
            dim.dim_param = f"{output.name}_{index}"


def _state(value: onnx.ValueInfoProto, shape: Sequence[int | str]) -> None:
    stated = onnx.TensorShapeProto()
    for size in shape:
        dim = stated.dim.add()
        if isinstance(size, str):
            dim.dim_param = size
        else:
            dim.dim_value = size
    value.type.tensor_type.shape.CopyFrom(stated)


def input_shape(proto: onnx.ModelProto) -> tuple[int | str, ...]:
    """The stated size of the first input; text for what is open."""
    initialisers = {tensor.name for tensor in proto.graph.initializer}
    value = next(value for value in proto.graph.input if value.name not in initialisers)
    return tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in value.type.tensor_type.shape.dim
    )


def static_shapes(proto: onnx.ModelProto, batch: int = 1) -> dict[str, Shape]:
    """The size of every tensor whose size is known, constants too, with open first axes of the inputs set to `batch`.
    Where the graph computes sizes as it runs, `folding.fold` it first."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    initialisers = {tensor.name for tensor in copy.graph.initializer}
    shape = input_shape(copy)
    if shape and isinstance(shape[0], str):
        drop_notes(copy)
        set_input_shape(copy, (batch, *shape[1:]))
    del copy.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(copy, data_prop=True)
    graph = inferred.graph
    shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.name in initialisers or not value.type.tensor_type.HasField("shape"):
            continue
        dims = value.type.tensor_type.shape.dim
        if all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    return shapes


def stated_outputs(proto: onnx.ModelProto) -> None:
    """Writes the outputs' sizes as inference finds them; open ones stay open."""
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    for mine, found in zip(proto.graph.output, inferred.graph.output, strict=True):
        mine.CopyFrom(found)


def multiply_accumulates(proto: onnx.ModelProto, shapes: Mapping[str, Shape] | None = None) -> dict[str, int]:
    """Multiply-accumulates of each weighted layer, by its name, for one image. Raises DynamicShape."""
    shapes = static_shapes(proto) if shapes is None else shapes
    view = View(proto)
    found: dict[str, int] = {}
    for layer in view.layers:
        node = layer.node
        output = shapes.get(node.output[0])
        weight = shapes.get(node.input[1])
        if weight is None:
            weight = shapes.get(layer.name)
        source = shapes.get(node.input[0])
        if output is None or weight is None or source is None:
            raise DynamicShape(f"the sizes at {node.name or node.output[0]} ({node.op_type}) are not known")
        found[layer.name] = found.get(layer.name, 0) + node_macs(node, source, weight, output)
    return found


def node_macs(node: onnx.NodeProto, source: Shape, weight: Shape, output: Shape) -> int:
    """Multiply-accumulates of a weighted node from the sizes of its input, weights and output."""
    if node.op_type == "Conv":
        return math.prod(output) * math.prod(weight[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(source) * math.prod(weight[1:])
    if node.op_type == "Gemm":
        inner = weight[1] if integer(node, "transB", 0) else weight[0]
        return math.prod(output) * inner
    return math.prod(output) * source[-1]


def text(node: onnx.NodeProto, name: str, default: str) -> str:
    """A node's attribute that is text."""
    value = attribute(node, name)
    return value.decode() if isinstance(value, bytes) else default
