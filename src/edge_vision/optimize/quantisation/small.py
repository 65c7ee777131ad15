"""Quantised graphs made ready to ship: weights as integers, and nothing in the file that nobody reads."""

from __future__ import annotations

import itertools
import string
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edge_vision.optimize.graphs.editing import (
    constants_to_initialisers,
    drop_notes,
    merge_duplicates,
    remove_dead,
    replace_nodes,
)
from edge_vision.optimize.graphs.view import View, attribute, integer
from edge_vision.optimize.quantisation.scales import quantised


def finish(proto: onnx.ModelProto, keep: Collection[str] = ()) -> onnx.ModelProto:
    """A copy of a QDQ graph as it is shipped.

    Weights that pass a QuantizeLinear become integers (what was trained is rounded as it was in training), biases of
    layers that compute in integers int32 in steps of input scale * weight scale; alike constants are one; tensors have
    short names and nodes none. Names of inputs, outputs, weights and biases stay, and those
    in `keep`.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    constants_to_initialisers(copy)
    _integer_weights(copy)
    _integer_biases(copy)
    drop_notes(copy)
    remove_dead(copy)
    merge_duplicates(copy)
    short_names(copy, keep)
    return copy


def short_names(proto: onnx.ModelProto, keep: Collection[str] = ()) -> None:
    """Gives inner tensors the shortest names there are, and takes those of nodes, in place."""
    graph = proto.graph
    kept = {item.name for item in (*graph.input, *graph.output)} | set(keep)
    for layer in View(proto).layers:
        kept |= {layer.name, layer.bias}
    names = (name for name in _names() if name not in kept)
    short = {name: name for name in kept} | {"": ""}
    for tensor in graph.initializer:
        if tensor.name not in short:
            short[tensor.name] = next(names)
        tensor.name = short[tensor.name]
    for node in graph.node:
        node.name = ""
        for field in (node.input, node.output):
            for place, name in enumerate(field):
                if name not in short:
                    short[name] = next(names)
                field[place] = short[name]
    del graph.value_info[:]
    graph.name = "g"
    del proto.metadata_props[:]
    proto.producer_name = proto.producer_version = proto.domain = ""


def _names() -> Iterator[str]:
    letters = string.ascii_letters
    for length in itertools.count(1):
        for parts in itertools.product(letters, repeat=length):
            yield "".join(parts)


def _integer_weights(proto: onnx.ModelProto) -> None:
    """QuantizeLinear nodes on initialisers go; the initialisers hold what they gave."""
    view = View(proto)
    gone: dict[str, str] = {}
    for node in proto.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] not in view.initialisers:
            continue
        name = node.input[0]
        value, scale = view.constant(name), view.constant(node.input[1])
        zero = view.constant(node.input[2]) if len(node.input) > 2 else np.uint8(0)
        if value is None or scale is None or zero is None or np.any(zero):
            continue
        axis = None if scale.size == 1 else integer(node, "axis", 1) % value.ndim
        integers = quantised(value, np.abs(scale).astype(np.float32).reshape(() if axis is None else -1), axis)
        view.initialisers[name].CopyFrom(numpy_helper.from_array(integers.astype(zero.dtype), name))
        gone[node.output[0]] = name
    kept = [node for node in proto.graph.node if node.output[0] not in gone]
    for node in kept:
        for place, name in enumerate(node.input):
            node.input[place] = gone.get(name, name)
    replace_nodes(proto, kept)


def _integer_biases(proto: onnx.ModelProto) -> None:
    """Float biases of layers with quantised input, weights and output become int32."""
    view = View(proto)
    nodes: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        found = _bias(view, node)
        if found:
            bias, steps = found
            name, scale = node.input[2], f"{node.input[2]}/scale"
            axis = None if steps.ndim == 0 else 0
            view.initialisers[name].CopyFrom(numpy_helper.from_array(quantised(bias, steps, axis, "int32"), name))
            proto.graph.initializer.append(numpy_helper.from_array(steps, scale))
            attributes: dict[str, Any] = {} if axis is None else {"axis": 0}
            nodes.append(helper.make_node("DequantizeLinear", [name, scale], [f"{name}/dq"], **attributes))
            node.input[2] = f"{name}/dq"
        nodes.append(node)
    replace_nodes(proto, nodes)


def _bias(view: View, node: onnx.NodeProto) -> tuple[NDArray, NDArray[np.float32]] | None:
    """(bias, its steps) of a layer that computes in integers with a float bias."""
    if node.op_type not in ("Conv", "Gemm") or len(node.input) < 3 or node.input[2] not in view.initialisers:
        return None
    readers = view.consumers.get(node.output[0], [])
    if len(readers) == 1 and readers[0].op_type in ("Relu", "Clip"):
        readers = view.consumers.get(readers[0].output[0], [])
    makers = [view.producers.get(name) for name in node.input[:2]]
    if node.op_type == "Conv" and (not readers or any(r.op_type != "QuantizeLinear" for r in readers)):
        return None
    scales = [view.constant(m.input[1]) if m is not None and m.op_type == "DequantizeLinear" else None for m in makers]
    bias = view.constant(node.input[2])
    if bias is None or bias.dtype != np.float32 or scales[0] is None or scales[1] is None:
        return None
    if len(view.consumers[node.input[2]]) > 1 or attribute(node, "beta", 1.0) != 1.0:
        return None
    steps = (scales[0].reshape(()) * scales[1]).astype(np.float32)
    steps = steps.reshape(()) if steps.size == 1 else steps.reshape(-1)
    if np.abs(bias.astype(np.float64) / steps).max(initial=0.0) >= 2.0**31:
        return None
    return bias, steps
