"""Weights alone in few bits: the file shrinks, what is computed stays float.

A scale holds for a block of input channels (Dettmers & Zettlemoyer 2023, arXiv:2212.09720: small blocks lose least at 4
bits); it is the one, of some that clip the largest weights, with the least squared error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_vision.optimize.graphs.editing import drop_notes, replace_nodes
from edge_vision.optimize.graphs.view import Layer, View
from edge_vision.optimize.quantisation.placement import key
from edge_vision.optimize.quantisation.qdq import channel_axis
from edge_vision.optimize.quantisation.scales import is_clustered

OPSET, IR_VERSION = 21, 10
"""The first with 4-bit integers and scales by block."""

_CLIPPED = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)


@dataclass(frozen=True)
class Rounded:
    """Integers of a layer's weights, int8 with values of `bits`; scales: a float32 for each output channel and block,
    of the weights' number of dimensions; axis: the one that is cut into blocks of `block`; 0: into one."""

    integers: NDArray[np.int8]
    scales: NDArray[np.float32]
    bits: int
    axis: int
    block: int

    def values(self) -> NDArray[np.float32]:
        """The weights as they come back."""
        size = self.integers.shape[self.axis]
        scales = np.repeat(self.scales, self.block or size, axis=self.axis)
        return (self.integers * scales).astype(np.float32)


def rounded(weight: NDArray[np.float32], outputs: int, bits: int, block: int) -> Rounded:
    """Symmetric integers of weights. outputs: the axis of the output channels; block: input channels that share a
    scale at each place of the kernel. Where it is 0, or they are no multiple of it, an output channel has one."""
    axis = 0 if outputs else 1
    inputs = weight.shape[axis] if weight.ndim > 1 else 0
    if is_clustered(weight):
        return _one_scale(weight, bits, axis)
    if block and inputs > 1 and inputs % min(block, inputs) == 0:
        size = min(block, inputs)
        apart = weight.reshape(*weight.shape[:axis], inputs // size, size, *weight.shape[axis + 1 :])
        scales = _best_scales(apart, (axis + 1,), bits)
        integers = _integers(apart, scales, bits).reshape(weight.shape)
        return Rounded(integers, scales.squeeze(axis + 1), bits, axis, size)
    others = tuple(i for i in range(weight.ndim) if i != outputs)
    scales = _best_scales(weight, others, bits)
    return Rounded(_integers(weight, scales, bits), scales, bits, axis, 0)


def _one_scale(weight: NDArray[np.float32], bits: int, axis: int) -> Rounded:
    """Clustered weights keep their clusters: a value that is shared stays one value."""
    scales = _best_scales(weight, tuple(range(weight.ndim)), bits)
    return Rounded(_integers(weight, scales, bits), scales, bits, axis, 0)


def _best_scales(weight: NDArray[np.float32], axes: tuple[int, ...], bits: int) -> NDArray[np.float32]:
    largest = np.abs(weight).max(axis=axes, keepdims=True)
    largest = np.where(largest > np.finfo(np.float32).tiny * 256, largest, 1.0)
    best, least = largest, np.full(largest.shape, np.inf)
    for clipped in _CLIPPED:
        scales = largest * (clipped / (2 ** (bits - 1) - 1))
        error = np.square(_integers(weight, scales, bits) * scales - weight).sum(axis=axes, keepdims=True)
        best, least = np.where(error < least, scales, best), np.minimum(error, least)
    return best.astype(np.float32)


def _integers(weight: NDArray[np.float32], scales: NDArray, bits: int) -> NDArray[np.int8]:
    limit = 2 ** (bits - 1) - 1
    return np.clip(np.rint(weight / scales), -limit, limit).astype(np.int8)


def obstacle(view: View, layer: Layer) -> str:
    """Why a layer's weights cannot be stored in integers; "" where they can."""
    weight = view.constant(layer.name)
    if layer.kind not in ("Conv", "Gemm", "MatMul"):
        return f"{layer.kind} is not among the layers that are quantised"
    if weight is None or weight.dtype != np.float32:
        return f"its weights are {'no constant' if weight is None else weight.dtype}, not float32"
    if layer.node.input[1] != layer.name or (layer.kind == "MatMul" and weight.ndim != 2):
        return "its weights are not a constant right operand"
    if len(view.consumers[layer.name]) > 1:
        return "its weights are shared with another node"
    return ""


def write(proto: onnx.ModelProto, weights: Mapping[str, Rounded], form: str) -> onnx.ModelProto:
    """A copy of the graph with these layers' weights as integers. form: `dequantise`, a DequantizeLinear, or `cast`, a
    Cast and a product with the scales, both of them constant, so that runtimes compute them once."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    view = View(copy)
    by_node = {key(layer.node): layer for layer in view.layers}
    nodes: list[onnx.NodeProto] = []
    for node in copy.graph.node:
        layer = by_node.get(key(node))
        if layer is not None and layer.name in weights:
            made = _DEQUANTISED[form](copy, view, layer, weights[layer.name])
            nodes += made
            node.input[1] = made[-1].output[0]
        nodes.append(node)
    replace_nodes(copy, nodes)
    drop_notes(copy)
    copy.ir_version = max(copy.ir_version, IR_VERSION)
    return copy


def _dequantised(proto: onnx.ModelProto, view: View, layer: Layer, found: Rounded) -> list[onnx.NodeProto]:
    scales = found.scales
    _store(view.initialisers[layer.name], found.integers, found.bits, layer.name)
    attributes = {"axis": found.axis, "block_size": found.block}
    if not found.block:
        attributes = {"axis": channel_axis(layer.node)} if scales.size > 1 else {}
        scales = scales.reshape(-1) if scales.size > 1 else scales.reshape(())
    name = f"{layer.name}/scale"
    proto.graph.initializer.append(numpy_helper.from_array(scales, name))
    node = helper.make_node("DequantizeLinear", [layer.name, name], [f"{layer.name}/float"])
    node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
    return [node]


def _cast(proto: onnx.ModelProto, view: View, layer: Layer, found: Rounded) -> list[onnx.NodeProto]:
    integers, scales, shape = found.integers, found.scales, found.integers.shape
    if found.block:
        place = found.axis
        apart = (*shape[:place], shape[place] // found.block, found.block, *shape[place + 1 :])
        integers, scales = integers.reshape(apart), np.expand_dims(scales, place + 1)
    _store(view.initialisers[layer.name], integers, found.bits, layer.name)
    name, result = f"{layer.name}/scale", f"{layer.name}/float"
    proto.graph.initializer.append(numpy_helper.from_array(scales, name))
    floats, product = f"{layer.name}/cast", f"{layer.name}/apart" if found.block else result
    nodes = [
        helper.make_node("Cast", [layer.name], [floats], to=TensorProto.FLOAT),
        helper.make_node("Mul", [floats, name], [product]),
    ]
    if found.block:
        proto.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), f"{layer.name}/shape"))
        nodes.append(helper.make_node("Reshape", [product, f"{layer.name}/shape"], [result]))
    return nodes


_DEQUANTISED = {"dequantise": _dequantised, "cast": _cast}


def _store(tensor: onnx.TensorProto, integers: NDArray[np.int8], bits: int, name: str) -> None:
    if bits == 8:
        tensor.CopyFrom(numpy_helper.from_array(integers, name))
        return
    flat = integers.reshape(-1).astype(np.uint8) & 0x0F
    if flat.size % 2:
        flat = np.append(flat, np.uint8(0))
    stored = TensorProto(name=name, data_type=TensorProto.INT4, dims=integers.shape)
    stored.raw_data = (flat[::2] | (flat[1::2] << 4)).astype(np.uint8).tobytes()  # the first in the low bits
    tensor.CopyFrom(stored)
