"""What a runtime executes of a graph: steps in order, constants folded, quantised operators taken as such.

A QDQ graph says `DequantizeLinear -> Conv -> Relu -> QuantizeLinear` and a runtime runs one convolution on integers:
neither the two conversions nor the float tensors between them are there. This is what is assumed of every runtime:

* what depends on constants alone is computed when the model is opened;
* reshapes (Reshape, Flatten, Squeeze, Unsqueeze, Identity, Dropout) move nothing;
* a Relu or Clip behind the only convolution, matrix product or addition that feeds it is a part of that;
* integers that are dequantised and quantised again with the same scale stay what they are;
* an operator between DequantizeLinear and QuantizeLinear reads and writes integers; a convolution or matrix product
  does so also where its output stays float.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_vision.optimize.measure.tensors import TensorType, stored_constants

if TYPE_CHECKING:
    import onnx


def names(text: str) -> list[str]:
    """Operators, listed with spaces between them."""
    return text.split()


MAC_OPERATORS = frozenset(
    names(
        "Conv ConvTranspose Gemm MatMul QLinearConv ConvInteger QLinearMatMul MatMulInteger QGemm MatMulNBits "
        "FusedConv FusedMatMul FusedGemm"
    )
)
"""Operators whose multiply-accumulates are counted."""
_VIEWS = frozenset(names("Reshape Flatten Squeeze Unsqueeze Identity Dropout"))
_FUSED = frozenset(("Relu", "Clip"))
_FUSE_INTO = frozenset((*MAC_OPERATORS, "Add", "BatchNormalization"))


@dataclass(frozen=True)
class Step:
    """node: what is run; reads, writes: its activations, by the names of the buffers that hold them; integer: whether
    it computes on quantised numbers; fused: whether an earlier step does it on the way."""

    node: onnx.NodeProto
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    integer: bool = False
    fused: bool = False


@dataclass
class Execution:
    """steps: in order; types: of each buffer; inputs, outputs: buffers of the graph's own; constants: names of tensors
    that are none of them; unknown: tensors whose size nobody knows."""

    steps: list[Step]
    types: dict[str, TensorType]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: frozenset[str]
    unknown: list[str] = field(default_factory=list)


def execution(proto: onnx.ModelProto, types: Mapping[str, TensorType]) -> Execution:
    """types: of `tensor_types`."""
    return _Reader(proto.graph, types).read()


class _Reader:
    def __init__(self, graph: onnx.GraphProto, types: Mapping[str, TensorType]) -> None:
        self.graph = graph
        self.types = types
        self.outputs = {value.name for value in graph.output}
        self.producer = {name: node for node in graph.node for name in node.output if name}
        self.consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self.consumers[name].append(node)
        self.stored_constants = stored_constants(graph)
        self.constants = set(self.stored_constants)
        for node in graph.node:
            if node.op_type == "Constant" or self._is_constant(node):
                self.constants.update(node.output)
        self.buffer: dict[str, str] = {}  # tensor -> the one that it is stored as

    def _is_constant(self, node: onnx.NodeProto) -> bool:
        if node.op_type in ("Shape", "Size"):
            return node.input[0] in self.types
        given = [name for name in node.input if name]
        return bool(given) and all(name in self.constants for name in given) and not node.op_type.startswith("Random")

    def read(self) -> Execution:
        nodes = [node for node in self.graph.node if not all(name in self.constants for name in node.output if name)]
        integer = {id(node) for node in nodes if self._on_integers(node)}
        fused = {id(node) for node in nodes if self._is_fused(node)}
        unchanged = {id(node) for node in nodes if self._changes_nothing(node)}
        steps, unknown = [], []
        for node in nodes:
            activations = [name for name in dict.fromkeys(node.input) if name and name not in self.constants]
            written = [name for name in node.output if name]
            if node.op_type == "DequantizeLinear":
                users = self.consumers[written[0]]
                if users and all(id(u) in integer | unchanged for u in users) and written[0] not in self.outputs:
                    self.buffer[written[0]] = self._stored(activations[0])
                    continue
            elif id(node) in unchanged:
                self.buffer[written[0]] = self._stored(self._before_dequantising(activations[0]))
                continue
            elif node.op_type == "QuantizeLinear" and self._ends_unit(node, integer):
                self.buffer[self._stored(activations[0])] = written[0]  # of the tensor at the chain's beginning
                continue
            elif node.op_type in _VIEWS and activations:
                given = self._before_dequantising(activations[0]) if id(node) in integer else activations[0]
                self.buffer[written[0]] = self._stored(given)
                continue
            if id(node) in fused:
                self.buffer[written[0]] = self._stored(activations[0])
            if id(node) in integer:
                activations = [self._before_dequantising(name) for name in activations]
            steps.append(Step(node, tuple(activations), tuple(written), id(node) in integer, id(node) in fused))
        types = {}
        done = []
        for step in steps:
            reads = tuple(dict.fromkeys(self._stored(name) for name in step.reads))
            writes = tuple(dict.fromkeys(self._stored(name) for name in step.writes))
            done.append(Step(step.node, reads, writes, step.integer, step.fused))
            for name in (*reads, *writes):
                if name in self.types:
                    types[name] = self.types[name]
                elif name not in unknown:
                    unknown.append(name)
        inputs = tuple(value.name for value in self.graph.input if value.name not in self.constants)
        outputs = tuple(dict.fromkeys(self._stored(name) for name in self.outputs if name not in self.constants))
        types |= {name: self.types[name] for name in (*inputs, *outputs) if name in self.types}
        return Execution(done, types, inputs, outputs, frozenset(self.constants), unknown)

    def _stored(self, name: str) -> str:
        while name in self.buffer:
            name = self.buffer[name]
        return name

    def _before_dequantising(self, name: str) -> str:
        node = self.producer.get(name)
        return node.input[0] if node is not None and node.op_type == "DequantizeLinear" else name

    def _on_integers(self, node: onnx.NodeProto) -> bool:
        """Whether all that the node computes with was dequantised, and what it gives is quantised again."""
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            return False
        activations = [name for name in node.input if name and name not in self.constants]
        if not activations or not all(self._is_dequantised(name) for name in activations):
            return False
        if node.op_type in MAC_OPERATORS:
            return all(name not in self.constants or self._is_dequantised(name) for name in node.input[:2])
        return all(self._is_quantised(name) for name in node.output if name)

    def _changes_nothing(self, node: onnx.NodeProto) -> bool:
        """Whether a QuantizeLinear undoes the DequantizeLinear before it."""
        if node.op_type != "QuantizeLinear" or not self._is_dequantised(node.input[0]):
            return False
        before = self.producer[node.input[0]]
        same_type = self.types.get(before.input[0], 0) == self.types.get(node.output[0], 1)
        return (
            same_type
            and len(before.input) == len(node.input)
            and all(map(self._equal, before.input[1:], node.input[1:]))
        )

    def _equal(self, one: str, other: str) -> bool:
        from onnx import numpy_helper

        a, b = (self.stored_constants.get(name) for name in (one, other))
        if one == other or a is None or b is None:
            return one == other
        return a.dims == b.dims and bool((numpy_helper.to_array(a) == numpy_helper.to_array(b)).all())

    def _is_dequantised(self, name: str) -> bool:
        node = self.producer.get(name)
        return node is not None and node.op_type == "DequantizeLinear"

    def _is_quantised(self, name: str) -> bool:
        """Whether only a QuantizeLinear reads it, through a fused activation where there is one."""
        users = self.consumers[name]
        if len(users) != 1 or name in self.outputs:
            return False
        return users[0].op_type == "QuantizeLinear" or (
            self._is_fused(users[0]) and self._is_quantised(users[0].output[0])
        )

    def _is_fused(self, node: onnx.NodeProto) -> bool:
        if node.op_type not in _FUSED or not node.input or node.input[0] in self.outputs:
            return False
        before = self.producer.get(node.input[0])
        return before is not None and before.op_type in _FUSE_INTO and len(self.consumers[node.input[0]]) == 1

    def _ends_unit(self, node: onnx.NodeProto, integer: set[int]) -> bool:
        """Whether the quantised output of a node on integers is what this QuantizeLinear gives."""
        name = node.input[0]
        before = self.producer.get(name)
        if before is not None and self._is_fused(before):
            if not self._is_quantised(name):
                return False
            before = self.producer.get(before.input[0])
            return before is not None and id(before) in integer
        return before is not None and id(before) in integer and self._is_quantised(name)


def weight_of(node: onnx.NodeProto, constants: Collection[str], producer: Mapping[str, onnx.NodeProto]) -> str:
    """Name of the initialiser that holds a layer's weight, behind what is folded; "" where it has none."""
    places = (3,) if node.op_type in ("QLinearConv", "QLinearMatMul", "QGemm") else (1, 0)
    for place in places:
        name = node.input[place] if place < len(node.input) else ""
        if not name or name not in constants:
            continue
        while name in producer and producer[name].op_type != "Constant":
            name = producer[name].input[0]
        return name
    return ""
