"""Binarised convolutions in ONNX graphs: how they are written, trained, stored and found again.

    x -> Less(threshold) -> Where(-1, +1) -> Pad(+1) -> Conv(signs) -> BatchNormalization -> y       while trained
    x -> Less(threshold) -> Where(-1, +1) -> Pad(+1) -> Conv(signs) -> Mul(scale) -> Add(shift) -> y   as shipped

A threshold for each channel is what makes signs of what a ReLU gives say anything (Liu et al. 2020, arXiv:2003.03488).
While it is trained, the signs of the weights come from float weights by another Less and Where; as shipped, from one
bit a weight by nodes that runtimes compute once, when they load the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_vision.optimize.binary.bits import packed_bytes, unpacked
from edge_vision.optimize.graphs.editing import replace_nodes

EPSILON = 1e-5
MARK = "/binary"
_PLUS, _MINUS = "binary/plus", "binary/minus"


@dataclass(frozen=True)
class Layer:
    """A binarised convolution of a graph as shipped. source: tensor before the threshold; output: of the convolution,
    before its scale; weights (O, C, kh, kw) +1 and -1; thresholds (C,); strides; pads: top, left, bottom, right."""

    source: str
    output: str
    weights: NDArray[np.float32]
    thresholds: NDArray[np.float32]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]


def attributes_of(node: onnx.NodeProto) -> tuple[tuple[int, int], tuple[int, int, int, int]] | None:
    """Strides and padding of a convolution that can be binarised; None for groups, dilations and automatic padding."""
    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if values.get("group", 1) != 1 or any(d != 1 for d in values.get("dilations", [1])):
        return None
    if values.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    strides, pads = values.get("strides", [1, 1]), values.get("pads", [0, 0, 0, 0])
    return (int(strides[0]), int(strides[1])), (int(pads[0]), int(pads[1]), int(pads[2]), int(pads[3]))


class Writer:
    """Puts binarised convolutions into a graph in the form in which they are trained."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = onnx.ModelProto()
        self.proto.CopyFrom(proto)
        self.nodes: list[onnx.NodeProto] = []
        self._values: dict[str, NDArray] = {}

    def constant(self, name: str, value: NDArray | np.generic) -> str:
        self._values[name] = np.asarray(value)
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], output, **attributes))
        return output

    def signs(self, source: str, threshold: str, output: str) -> str:
        """Nodes that give -1 below the threshold and +1 from it on."""
        plus = self.constant(_PLUS, np.float32(1))
        minus = self.constant(_MINUS, np.float32(-1))
        below = self.node("Less", [source, threshold], f"{output}/below")
        return self.node("Where", [below, minus, plus], output)

    def convolution(
        self,
        node: onnx.NodeProto,
        thresholds: NDArray[np.float32],
        statistics: dict[str, NDArray[np.float32]],
    ) -> None:
        """Instead of a Conv node of float weights: the same with signs, and a normalisation behind it."""
        attributes = attributes_of(node)
        assert attributes is not None
        strides, pads = attributes
        name = f"{node.output[0]}{MARK}"
        level = self.constant(f"{name}/threshold", thresholds.reshape(1, -1, 1, 1).astype(np.float32))
        x = self.signs(node.input[0], level, f"{name}/x")
        if any(pads):
            around = self.constant(f"{name}/pads", np.array([0, 0, *pads[:2], 0, 0, *pads[2:]], np.int64))
            x = self.node("Pad", [x, around, self.constant(_PLUS, np.float32(1))], f"{name}/padded")
        zero = self.constant("binary/zero", np.float32(0))
        weights = self.signs(node.input[1], zero, f"{name}/weights")
        made = self.node("Conv", [x, weights], f"{name}/sums", strides=list(strides))
        values = [self.constant(f"{name}/{key}", statistics[key]) for key in ("scale", "shift", "mean", "var")]
        self.node("BatchNormalization", [made, *values], node.output[0], epsilon=EPSILON)

    def finished(self) -> onnx.ModelProto:
        replace_nodes(self.proto, self.nodes)
        known = {tensor.name for tensor in self.proto.graph.initializer}
        for name, value in self._values.items():
            if name not in known:
                self.proto.graph.initializer.append(numpy_helper.from_array(value, name))
        return remove_unused(self.proto)


def shipped(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A trained graph with its weights as bits, and its normalisations as a factor and a summand."""
    writer = Writer(proto)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    makers = {name: node for node in proto.graph.node for name in node.output}
    for node in writer.proto.graph.node:
        before = makers.get(node.input[0]) if node.input else None
        if node.op_type == "Conv" and MARK in node.output[0] and node.output[0].endswith("/sums"):
            below = makers[makers[node.input[1]].input[0]]
            weights = values[below.input[0]]
            node.input[1] = _bits(writer, f"{node.output[0].removesuffix('/sums')}/bits", weights)
            writer.nodes.append(node)
        elif node.op_type == "BatchNormalization" and before is not None and before.output[0].endswith(f"{MARK}/sums"):
            scale, shift, mean, variance = (values[name] for name in node.input[1:])
            name = before.output[0].removesuffix("/sums")
            factor = scale / np.sqrt(variance + EPSILON)
            summand = shift - mean * factor
            a = writer.constant(f"{name}/factor", factor.reshape(1, -1, 1, 1).astype(np.float32))
            b = writer.constant(f"{name}/summand", summand.reshape(1, -1, 1, 1).astype(np.float32))
            scaled = writer.node("Mul", [before.output[0], a], f"{name}/scaled")
            writer.node("Add", [scaled, b], node.output[0])
        else:
            writer.nodes.append(node)
    return writer.finished()


def _bits(writer: Writer, name: str, weights: NDArray) -> str:
    """Nodes that make +1 and -1 of stored bits."""
    packed = writer.constant(name, packed_bytes(weights).reshape(-1, 1))
    shifts = writer.constant("binary/shifts", np.arange(7, -1, -1, dtype=np.uint8))
    two = writer.constant("binary/two", np.uint8(2))
    shifted = writer.node("BitShift", [packed, shifts], f"{name}/shifted", direction="RIGHT")
    bits = writer.node("Mod", [shifted, two], f"{name}/each")
    numbers = writer.node("Cast", [bits], f"{name}/numbers", to=TensorProto.FLOAT)
    double = writer.node("Mul", [numbers, writer.constant("binary/double", np.float32(2))], f"{name}/doubled")
    signs = writer.node("Sub", [double, writer.constant(_PLUS, np.float32(1))], f"{name}/signs")
    shape = writer.constant(f"{name}/shape", np.array(weights.shape, np.int64))
    return writer.node("Reshape", [signs, shape], f"{name}/weights")


def binary_layers(proto: onnx.ModelProto) -> list[Layer]:
    """The binarised convolutions of a graph as `shipped` writes it, in its order."""
    values = {tensor.name: tensor for tensor in proto.graph.initializer}
    makers = {name: node for node in proto.graph.node for name in node.output}
    found = []
    for node in proto.graph.node:
        if node.op_type != "Conv" or not node.output[0].endswith(f"{MARK}/sums"):
            continue
        name = node.output[0].removesuffix("/sums")
        content, shape = values.get(f"{name}/bits"), values.get(f"{name}/bits/shape")
        if content is None or shape is None:
            continue
        attributes = attributes_of(node)
        assert attributes is not None
        at, pads = makers[node.input[0]], (0, 0, 0, 0)
        if at.op_type == "Pad":
            around = numpy_helper.to_array(values[at.input[1]])
            pads = (int(around[2]), int(around[3]), int(around[6]), int(around[7]))
            at = makers[at.input[0]]
        below = makers[at.input[0]]
        sizes = tuple(int(n) for n in numpy_helper.to_array(shape))
        found.append(
            Layer(
                below.input[0],
                node.output[0],
                unpacked(numpy_helper.to_array(content).reshape(-1), sizes),
                numpy_helper.to_array(values[below.input[1]]).reshape(-1),
                attributes[0],
                pads,
            )
        )
    return found


def remove_unused(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Without initialisers and nodes that nothing reads; in place."""
    wanted = {output.name for output in proto.graph.output}
    nodes = []
    for node in reversed(proto.graph.node):
        if wanted.intersection(node.output):
            nodes.append(node)
            wanted.update(node.input)
    replace_nodes(proto, nodes[::-1])
    kept = [tensor for tensor in proto.graph.initializer if tensor.name in wanted]
    copies = []
    for tensor in kept:
        copy = onnx.TensorProto()
        copy.CopyFrom(tensor)
        copies.append(copy)
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(copies)
    return proto
