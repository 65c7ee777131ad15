"""Thinner layers put in the place of one, in a graph and in a graph of that layer alone, to be timed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edge_vision.optimize.graphs.editing import fresh_name, remove_dead, replace_nodes
from edge_vision.optimize.graphs.running import session_of
from edge_vision.optimize.graphs.shapes import text
from edge_vision.optimize.graphs.view import View, integer, integers
from edge_vision.optimize.weights.factors import Factors
from edge_vision.optimize.weights.selection import Chosen


def four_axes(chosen: Chosen) -> NDArray[np.float32]:
    """The layer's weight as (O, I, kh, kw)."""
    if chosen.weight.ndim == 4:
        return chosen.weight
    matrix = chosen.weight if chosen.input_axis in (1, -1) else chosen.weight.T
    return matrix[..., None, None]


def cannot_replace(chosen: Chosen, view: View) -> str:
    """Why a layer has to stay as it is, "" for one that need not."""
    node = chosen.layer.node
    if len(view.consumers.get(chosen.name, ())) > 1:
        return "its weights are shared by several layers"
    if chosen.layer.quantised:
        return "its weights are quantised: put this step before the one that does"
    if node.op_type == "Conv":
        if chosen.layer.groups != 1:
            return "has groups"
        if chosen.weight.ndim != 4 or text(node, "auto_pad", "NOTSET") != "NOTSET":
            return "is no convolution of an image, or pads by name: run clean_up before"
        return ""
    if node.op_type == "Gemm" and not integer(node, "transA", 0) and chosen.weight.ndim == 2:
        return ""
    if node.op_type == "MatMul" and node.input[1] == chosen.name and chosen.weight.ndim == 2:
        return ""
    return f"{node.op_type} of this form has no thinner one here"


def has_bias(chosen: Chosen) -> bool:
    """Whether a bias can take up what the mean of the inputs makes."""
    return chosen.layer.kind in ("Conv", "Gemm")


def replace(proto: onnx.ModelProto, name: str, factors: Factors, shift: NDArray | None = None) -> None:
    """The layer with the weights `name` becomes the thinner ones, in place; the last has its bias and its output.

    shift (O,): what is added to the outputs (of a layer that `has_bias`)."""
    layer = View(proto).layer(name)
    node = layer.node
    if shift is not None:
        node = onnx.NodeProto()
        node.CopyFrom(layer.node)
        _add_to_bias(proto, node, name, shift)
    nodes, tensors = thinner_nodes(proto, node, name, factors)
    proto.graph.initializer.extend(tensors)
    made: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        made += nodes if node == layer.node and name in node.input else [node]
    replace_nodes(proto, made)
    remove_dead(proto)


def _add_to_bias(proto: onnx.ModelProto, node: onnx.NodeProto, name: str, shift: NDArray) -> None:
    """Gives `node` a bias of its own: what it had, and the shift."""
    old = View(proto).constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(len(shift))
    assert old is not None
    beta = _real(node, "beta") or 1.0
    title = fresh_name(proto, f"{name}.bias")
    value = (old.astype(np.float64) + shift / beta).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(value, title))
    read = [*node.input[:2], title]
    del node.input[:]
    node.input.extend(read)


def thinner_nodes(
    proto: onnx.ModelProto, node: onnx.NodeProto, name: str, factors: Factors
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes in the place of `node`, and their weights."""
    names = [fresh_name(proto, f"{name}.{factors.kind}{k}") for k in range(len(factors.weights))]
    between = [fresh_name(proto, f"{name}.{factors.kind}{k}_output") for k in range(len(names) - 1)]
    sources, outputs = [node.input[0], *between], [*between, node.output[0]]
    bias = list(node.input[2:3])
    nodes, tensors = [], []
    for k, weight in enumerate(factors.weights):
        last = k == len(names) - 1
        read = [sources[k], names[k], *(bias if last else [])]
        stored, attributes = weight, _attributes(node, factors, k)
        if node.op_type != "Conv":
            stored = weight[..., 0, 0].T
        if node.op_type == "Gemm":
            attributes = {"alpha": _real(node, "alpha")} if not last else {"beta": _real(node, "beta")}
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(stored), names[k]))
        title = f"{node.name or node.output[0]}/{factors.kind}{k}"
        nodes.append(helper.make_node(node.op_type, read, [outputs[k]], title, **attributes))
    return nodes, tensors


def _attributes(node: onnx.NodeProto, factors: Factors, index: int) -> dict[str, Any]:
    """Of the thinner convolution at `index`: what of strides, pads and dilations goes along with its kernel."""
    if node.op_type != "Conv":
        return {}
    top, left, bottom, right = integers(node, "pads", (0, 0, 0, 0))
    strides, dilations = integers(node, "strides", (1, 1)), integers(node, "dilations", (1, 1))
    kernel = factors.weights[index].shape[2:]
    vertical, horizontal = {"svd": (0, 0), "spatial": (0, 1), "tucker": (1, 1), "cp": (1, 2)}[factors.kind]
    rows, columns = index == vertical, index == horizontal
    found: dict[str, Any] = {
        "kernel_shape": list(kernel),
        "strides": [strides[0] if rows else 1, strides[1] if columns else 1],
        "dilations": [dilations[0] if rows else 1, dilations[1] if columns else 1],
        "pads": [top * rows, left * columns, bottom * rows, right * columns],
    }
    if factors.kind == "cp" and index in (1, 2):
        found["group"] = factors.ranks[0]
    return found


def _real(node: onnx.NodeProto, name: str) -> float:
    return next((item.f for item in node.attribute if item.name == name), 1.0)


def alone(node: onnx.NodeProto, tensors: Sequence[onnx.TensorProto], shape: Sequence[int]) -> onnx.ModelProto:
    """A graph of one layer and its activation-to-be, for an input of this shape."""
    image = helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, shape)
    result = helper.make_tensor_value_info("result", onnx.TensorProto.FLOAT, None)
    nodes = [node, helper.make_node("Relu", [node.output[0]], ["result"])]
    graph = helper.make_graph(nodes, "layer", [image], [result], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def timed_pair(
    chosen: Chosen, bias: NDArray | None, shape: Sequence[int], factors: Factors, *, threads: int = 1, rounds: int = 15
) -> tuple[float, float]:
    """Milliseconds in ONNX Runtime of the layer and of the thinner ones in its place, medians of runs in turns, with a
    ReLU behind."""
    tensors = [numpy_helper.from_array(chosen.weight, chosen.name)]
    if bias is not None and chosen.layer.bias:
        tensors.append(numpy_helper.from_array(bias, chosen.layer.bias))
    old = alone(chosen.layer.node, tensors, shape)
    new = onnx.ModelProto()
    new.CopyFrom(old)
    replace(new, chosen.name, factors)
    sessions = [session_of(proto, threads) for proto in (old, new)]
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    fed = {chosen.layer.node.input[0]: values}
    taken: list[list[float]] = [[], []]
    for _ in range(2 + rounds):
        for times, session in zip(taken, sessions, strict=True):
            begun = time.perf_counter()
            session.run(None, fed)
            times.append((time.perf_counter() - begun) * 1e3)
    before, after = (float(np.median(times[2:])) for times in taken)
    return before, after
