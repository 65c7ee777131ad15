"""Which initialisers of a graph are trained, how they are read, and how they are written back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from edge_vision.optimize.training.errors import TrainingError
from edge_vision.optimize.training.quantised import RANGES

WEIGHTED = {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (1,), "MatMul": (0, 1)}
"""Operators with weights, and which inputs these can be."""

_THROUGH = {
    "Identity",
    "Transpose",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Cast",
    "Sign",
    "Less",
    "Where",
    "Clip",
    "QuantizeLinear",
    "DequantizeLinear",
}
"""What may stand between an initialiser and the layer that it is the weight of."""

_TURNING = {"Identity", "Transpose", "Reshape", "QuantizeLinear", "DequantizeLinear"}
"""What may stand between a layer and the bias that is added to its result."""

_HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


@dataclass(frozen=True)
class Coding:
    """How integers stand for a parameter: value = (code - zero) * scale. scale, zero: one value, or one a slice of
    `axis` (a block of it where `block` > 0). scale_name: the scale's initialiser."""

    kind: int
    scale: NDArray[np.float32]
    zero: NDArray
    axis: int
    block: int
    scale_name: str

    @property
    def limits(self) -> tuple[int, int]:
        return RANGES[self.kind]

    def spread(self, values: NDArray, shape: tuple[int, ...]) -> NDArray:
        """Scales or zero points over a tensor of this shape."""
        if values.size == 1:
            return values.reshape(())
        if self.block:
            return np.take(np.repeat(values, self.block, self.axis), np.arange(shape[self.axis]), self.axis)
        return values.reshape([-1 if i == self.axis % len(shape) else 1 for i in range(len(shape))])

    def decode(self, codes: NDArray) -> NDArray[np.float32]:
        zero = self.spread(self.zero, codes.shape).astype(np.float32)
        return (codes.astype(np.float32) - zero) * self.spread(self.scale, codes.shape)

    def encode(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        codes = np.rint(values / self.spread(self.scale, values.shape)) + self.spread(self.zero, values.shape)
        return codes.clip(*self.limits).astype(np.int64)


@dataclass(frozen=True)
class Trained:
    """A parameter: `role` is weight, bias, norm, slope, threshold or running (statistics, not trained but written
    back). coding: None where the initialiser holds floats."""

    name: str
    role: str
    value: NDArray[np.float32]
    coding: Coding | None = None


class Parameters:
    """Parameters of a graph by the names of their initialisers (or of their Constant nodes' outputs).

    Weights and biases of Conv, ConvTranspose, Gemm and MatMul, also behind Q and DQ, transposes and the like;
    normalisations' scales and biases; per-channel additions and factors right after a weighted layer. Not trained are
    other constants, such as the grids, strides and bins in a detector's tail.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        graph = proto.graph
        self.initialisers = {i.name: i for i in graph.initializer}
        self.producers = {name: node for node in graph.node for name in node.output if name}
        self.found: dict[str, Trained] = {}
        for node in graph.node:
            self._look_at(node)

    def _look_at(self, node: onnx.NodeProto) -> None:
        kind = node.op_type
        if kind in WEIGHTED:
            for index in WEIGHTED[kind]:
                self._claim(node.input[index], "weight")
            if kind != "MatMul" and len(node.input) > 2:
                self._claim(node.input[2], "bias")
        elif kind in ("BatchNormalization", "InstanceNormalization", "LayerNormalization"):
            for name in node.input[1:3]:
                self._claim(name, "norm")
            for name in node.input[3:5]:
                self._claim(name, "running")
        elif kind == "PRelu":
            self._claim(node.input[1], "slope")
        elif kind == "Less" and not self.origins(node.input[0]):
            self._claim(node.input[1], "threshold", channels_only=True)
        elif kind in ("Add", "Mul"):
            for first, second in ((0, 1), (1, 0)):
                before = layer_before(self.producers, node.input[first])
                if before is not None and not self.origins(node.input[first]):
                    self._claim(node.input[second], "bias", channels_only=True)

    def origins(self, name: str) -> list[str]:
        """The constants that a tensor is made from, if it is made from constants alone by what `_THROUGH` names."""
        if name in self.initialisers:
            return [name]
        node = self.producers.get(name)
        if node is None:
            return []
        if node.op_type == "Constant":
            return [name]
        if node.op_type in _THROUGH:
            return self.origins(node.input[0])
        if node.op_type in ("Mul", "Add"):
            sides = [self.origins(side) for side in node.input]
            return [name for side in sides for name in side] if all(sides) else []
        return []

    def _claim(self, tensor: str, role: str, channels_only: bool = False) -> None:
        if not tensor:
            return
        for name in self.origins(tensor):
            if name in self.found:
                continue
            proto = self.constant(name)
            if proto is None:
                continue
            if channels_only and sum(d > 1 for d in proto.dims) != 1:
                continue
            if proto.data_type in _HALF:
                raise TrainingError(
                    f"'{name}' is held in half precision", "train before the pass `half`, or start from the fp32 model"
                )
            if role == "weight" and _is_counting(proto):
                continue
            if proto.data_type in (TensorProto.FLOAT, TensorProto.DOUBLE):
                self.found[name] = Trained(name, role, numpy_helper.to_array(proto).astype(np.float32))
            elif proto.data_type in RANGES and (coding := self._coding(name, proto.data_type)):
                codes = numpy_helper.to_array(proto)
                self.found[name] = Trained(name, role, coding.decode(codes), coding)

    def constant(self, name: str) -> onnx.TensorProto | None:
        if name in self.initialisers:
            return self.initialisers[name]
        node = self.producers.get(name)
        if node is not None and node.op_type == "Constant":
            return next((a.t for a in node.attribute if a.name == "value"), None)
        return None

    def _coding(self, name: str, kind: int) -> Coding | None:
        """Of an integer initialiser, from the DequantizeLinear that reads it."""
        node = next(
            (n for n in self.producers.values() if n.op_type == "DequantizeLinear" and n.input[0] == name), None
        )
        if node is None:
            return None
        scale = self.constant(node.input[1])
        if scale is None:
            return None
        values = numpy_helper.to_array(scale).astype(np.float32)
        zero = self.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        zeros = np.zeros_like(values) if zero is None else numpy_helper.to_array(zero).astype(np.float32)
        attributes = {a.name: a.i for a in node.attribute}
        return Coding(kind, values, zeros, attributes.get("axis", 1), attributes.get("block_size", 0), node.input[1])


def _is_counting(proto: onnx.TensorProto) -> bool:
    """Whether weights are 0, 1, 2, ...: the mean of a distribution over bins (Li et al. 2020, arXiv:2006.04388), which
    is no layer to train."""
    if proto.data_type != TensorProto.FLOAT or sum(d > 1 for d in proto.dims) != 1 or max(proto.dims) < 4:
        return False
    return np.array_equal(numpy_helper.to_array(proto).ravel(), np.arange(max(proto.dims)))


def layer_before(producers: Mapping[str, onnx.NodeProto], name: str) -> onnx.NodeProto | None:
    """The layer with weights whose result a tensor is, possibly turned or rounded; None where it is another's."""
    while (node := producers.get(name)) is not None and node.op_type in _TURNING:
        name = node.input[0]
    return node if node is not None and node.op_type in WEIGHTED else None


def write(proto: onnx.ModelProto, values: dict[str, NDArray[np.float32]], trained: dict[str, Trained]) -> None:
    """Put trained values into a graph's initialisers and Constant nodes, each in the type that it had."""
    for tensor in proto.graph.initializer:
        if tensor.name in values:
            _fill(tensor, values[tensor.name], trained[tensor.name])
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.output[0] in values:
            for attribute in node.attribute:
                if attribute.name == "value":
                    _fill(attribute.t, values[node.output[0]], trained[node.output[0]])


def _fill(tensor: onnx.TensorProto, value: NDArray[np.float32], trained: Trained) -> None:
    kind, name = tensor.data_type, tensor.name
    if trained.coding is None:
        tensor.CopyFrom(numpy_helper.from_array(value.astype(onnx.helper.tensor_dtype_to_np_dtype(kind)), name))
    else:
        codes = trained.coding.encode(value)
        tensor.CopyFrom(numpy_helper.from_array(codes.astype(onnx.helper.tensor_dtype_to_np_dtype(kind)), name))


def with_scale(coding: Coding, scale: NDArray[np.float32]) -> Coding:
    """The coding with other scales."""
    return replace(coding, scale=scale.astype(np.float32).reshape(coding.scale.shape))
