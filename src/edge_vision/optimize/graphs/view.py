"""A graph's nodes by the tensors that they make and read, its constants and its layers with weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

QUANTISED = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Layer:
    """A node with constant weights: `Conv`, `ConvTranspose`, `Gemm`, or `MatMul` with a constant operand.

    name: of the weights' initialiser, behind a QuantizeLinear and DequantizeLinear where there are such. bias: name of
    the bias' initialiser, "" for none. quantised: the weights pass a DequantizeLinear.
    """

    node: onnx.NodeProto
    name: str
    bias: str
    quantised: bool

    @property
    def kind(self) -> str:
        """The node's operator."""
        return self.node.op_type

    @property
    def groups(self) -> int:
        """Of a convolution; 1 for others."""
        return integer(self.node, "group", 1)


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """The value of a node's attribute (text as bytes, as ONNX has it), or the default."""
    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default


def integers(node: onnx.NodeProto, name: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
    """An attribute that is a list of integers."""
    value = attribute(node, name)
    return default if value is None else tuple(int(v) for v in value)  # type: ignore[attr-defined]


def integer(node: onnx.NodeProto, name: str, default: int) -> int:
    """An attribute that is an integer."""
    return int(attribute(node, name, default))  # type: ignore[call-overload]


class View:
    """Indexes of a graph as it is now: make a new one after the graph was changed.

    proto: the model. producers: the node that makes a tensor, absent for inputs and initialisers. consumers: the nodes
    that read a tensor, once for each place that they read it at.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = proto
        graph = proto.graph
        self.initialisers: dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs: tuple[str, ...] = tuple(i.name for i in graph.input if i.name not in self.initialisers)
        self.outputs: tuple[str, ...] = tuple(output.name for output in graph.output)
        self.producers: dict[str, onnx.NodeProto] = {}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.output:
                if name:
                    self.producers[name] = node
            for name in node.input:
                if name:
                    self.consumers.setdefault(name, []).append(node)

    def constant(self, name: str) -> NDArray | None:
        """The value of a tensor that is an initialiser or comes from a Constant node (through Identity), or None."""
        if name in self.initialisers:
            return numpy_helper.to_array(self.initialisers[name])
        node = self.producers.get(name)
        if node is None:
            return None
        if node.op_type == "Identity":
            return self.constant(node.input[0])
        return constant_value(node) if node.op_type == "Constant" else None

    def sole_consumer(self, name: str) -> onnx.NodeProto | None:
        """The only reader of a tensor that is no output of the graph, or None."""
        readers = self.consumers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Layers with constant weights, in the graph's order."""
        return tuple(self._layers())

    def layer(self, name: str) -> Layer:
        """The layer with these weights. Raises KeyError."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    def _layers(self) -> Iterator[Layer]:
        for node in self.proto.graph.node:
            if node.domain not in ("", "ai.onnx"):
                continue
            candidates: tuple[int, ...]
            if node.op_type in ("Conv", "ConvTranspose", "Gemm"):
                candidates = (1,)
            elif node.op_type == "MatMul":
                candidates = (1, 0)
            else:
                continue
            for index in candidates:
                name, quantised = self.source(node.input[index])
                if name:
                    bias = node.input[2] if len(node.input) > 2 and node.op_type != "MatMul" else ""
                    yield Layer(node, name, self.source(bias)[0] if bias else "", quantised)
                    break

    def source(self, name: str) -> tuple[str, bool]:
        """The initialiser (or Constant's output) that a tensor comes from, through casts and quantisation, and whether
        there was any of the latter; "" where it is no constant."""
        quantised = False
        while True:
            if name in self.initialisers:
                return name, quantised
            node = self.producers.get(name)
            if node is None:
                return "", False
            if node.op_type == "Constant":
                return name, quantised
            if node.op_type in QUANTISED:
                quantised = True
            elif node.op_type not in ("Identity", "Cast"):
                return "", False
            name = node.input[0]


def constant_value(node: onnx.NodeProto) -> NDArray | None:
    """What a Constant node gives, None for text and sparse tensors."""
    for item in node.attribute:
        value = onnx.helper.get_attribute_value(item)
        if item.name == "value":
            return numpy_helper.to_array(value)
        if item.name in ("value_float", "value_floats"):
            return np.array(value, np.float32)
        if item.name in ("value_int", "value_ints"):
            return np.array(value, np.int64)
    return None


def weighted_layers(proto: onnx.ModelProto) -> tuple[Layer, ...]:
    """Layers with constant weights, in the graph's order."""
    return View(proto).layers
