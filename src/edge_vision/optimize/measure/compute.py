"""Arithmetic and activation memory of an ONNX graph, without running it: what a table of a paper states.

Counted by the rules of `steps.py`. A multiply-accumulate (MAC) is one multiplication with its addition; padding counts
as data, biases and the conversions between float and integer that a runtime folds count nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_vision.optimize.measure.steps import MAC_OPERATORS, Execution, Step, execution, names, weight_of
from edge_vision.optimize.measure.tensors import TensorType, tensor_types

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Layer:
    """One step of a run.

    name: of the weight's initialiser, else of the node; op: operator; kind: of its arithmetic (`int8`, `fp32`, `fp16`,
    ...); macs; operations: other arithmetic, elementwise and of pools; weight_bytes: of its constants as they are
    computed with; read_bytes, written_bytes: of activations, 0 where an earlier step does this one on the way;
    output: shape; kernel, groups: of a convolution.
    """

    name: str
    op: str
    kind: str
    macs: int
    operations: int
    weight_bytes: int
    read_bytes: int
    written_bytes: int
    output: tuple[int, ...]
    kernel: tuple[int, ...] = ()
    groups: int = 1

    @property
    def depthwise(self) -> bool:
        """A convolution of every channel with itself alone."""
        return self.groups > 1 and len(self.output) > 1 and self.groups == self.output[1]


@dataclass(frozen=True, slots=True)
class OperatorCost:
    """The layers of one operator and kind together; figures as in `Layer`."""

    op: str
    kind: str
    count: int
    macs: int
    operations: int
    weight_bytes: int
    read_bytes: int
    written_bytes: int


@dataclass(frozen=True)
class Compute:
    """layers: in order; peak_bytes: most activations alive at once, the graph's inputs and outputs included, while
    `peak_at` (a layer's name) runs, `peak_tensors` being what is alive then; uncounted: operators whose arithmetic is
    not known, with their number; unknown: tensors whose size is not known (their bytes count 0)."""

    layers: tuple[Layer, ...]
    peak_bytes: int
    peak_at: str
    peak_tensors: tuple[tuple[str, int], ...]
    uncounted: Mapping[str, int]
    unknown: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def macs_by_kind(self) -> dict[str, int]:
        """By the kind of arithmetic: `int8`, `fp32`, ..."""
        found: dict[str, int] = {}
        for layer in self.layers:
            if layer.macs:
                found[layer.kind] = found.get(layer.kind, 0) + layer.macs
        return found

    @property
    def operations(self) -> int:
        return sum(layer.operations for layer in self.layers)

    @property
    def by_operator(self) -> tuple[OperatorCost, ...]:
        """The table of operators, the most MACs first."""
        groups: dict[tuple[str, str], list[Layer]] = {}
        for layer in self.layers:
            groups.setdefault((layer.op, layer.kind), []).append(layer)
        rows = (OperatorCost(op, kind, len(layers), *_sums(layers)) for (op, kind), layers in groups.items())
        return tuple(sorted(rows, key=lambda row: (-row.macs, -row.operations, row.op)))


def _sums(layers: Iterable[Layer]) -> tuple[int, int, int, int, int]:
    rows = [(a.macs, a.operations, a.weight_bytes, a.read_bytes, a.written_bytes) for a in layers]
    macs, operations, weights, read, written = (sum(column) for column in zip(*rows, strict=True))
    return macs, operations, weights, read, written


def measure_compute(proto: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Compute:
    """MACs, other operations and activations of one run, at a batch of 1 where the batch is open.

    shapes: of inputs that leave other sizes open. In place is what surely can be: an elementwise operator over an
    input that nobody reads afterwards, of its output's bytes and not the graph's own. Not counted are a kernel's own
    work space (im2col, padding) and the rounding up of an allocator. Raises ValueError for open sizes.
    """
    types = tensor_types(proto, shapes)
    run = execution(proto, types)
    costs = _Costs(proto, types, run)
    layers = tuple(costs.layer(step) for step in run.steps)
    peak, at, alive = _peak(run, layers)
    return Compute(layers, peak, at, alive, costs.uncounted, tuple(run.unknown))


def _peak(run: Execution, layers: tuple[Layer, ...]) -> tuple[int, str, tuple[tuple[str, int], ...]]:
    """Liveness in the order of the file: most bytes at once, the layer that runs then, what is alive."""
    sizes = {name: kind.bytes for name, kind in run.types.items()}
    last = {name: index for index, step in enumerate(run.steps) for name in (*step.reads, *step.writes)}
    last |= dict.fromkeys(run.outputs, len(run.steps))
    alive = {name: sizes.get(name, 0) for name in run.inputs}
    peak, at, most = sum(alive.values()), "", dict(alive)
    for index, (step, layer) in enumerate(zip(run.steps, layers, strict=True)):
        for name in step.writes:
            if name in alive:  # fused into the step that made it
                continue
            spare = [
                read
                for read in step.reads
                if read in alive and last[read] == index and alive[read] == sizes.get(name, 0)
            ]
            if step.node.op_type in _ELEMENTWISE and spare and spare[0] not in run.inputs:
                del alive[spare[0]]
            alive[name] = sizes.get(name, 0)
        total = sum(alive.values())
        if total > peak:
            peak, at, most = total, layer.name, dict(alive)
        alive = {name: size for name, size in alive.items() if last.get(name, -1) > index}
    return peak, at, tuple(sorted(most.items(), key=lambda item: -item[1]))


_ELEMENTWISE: Mapping[str, int] = dict.fromkeys(
    names(
        "Abs Add And Ceil Clip Cos Div Elu Equal Erf Exp Floor Greater GreaterOrEqual HardSigmoid LeakyRelu Less "
        "LessOrEqual Log Max Min Mul Neg Not Or PRelu Pow QLinearAdd QLinearMul QLinearSigmoid QLinearLeakyRelu "
        "Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt Sub Tanh Where Xor Sum Mod BitShift "
        "QuantizeLinear DequantizeLinear DynamicQuantizeLinear Cast"
    ),
    1,
) | {"BatchNormalization": 2, "HardSwish": 3, "Gelu": 3, "Mish": 3, "Swish": 2, "QuickGelu": 2}
"""Operations an element of the output."""
_AN_ELEMENT_READ: Mapping[str, int] = dict.fromkeys(
    names(
        "GlobalAveragePool GlobalMaxPool QLinearGlobalAveragePool ReduceMean ReduceSum ReduceMax ReduceMin ReduceL2 "
        "ReduceL1 ReduceProd ReduceSumSquare ArgMax ArgMin CumSum TopK"
    ),
    1,
) | {
    "Softmax": 3,
    "LogSoftmax": 3,
    "QLinearSoftmax": 3,
    "LayerNormalization": 7,
    "InstanceNormalization": 7,
    "GroupNormalization": 7,
    "LRN": 3,
}
_POOLS = frozenset(("MaxPool", "AveragePool", "LpPool", "QLinearAveragePool"))
_MOVES = frozenset(
    names(
        "Concat QLinearConcat Constant ConstantOfShape DepthToSpace Expand Flatten Gather GatherElements GatherND "
        "Identity OneHot Pad Range Reshape Scatter ScatterElements ScatterND Shape Size Slice SpaceToDepth Split "
        "Squeeze Tile Transpose Unsqueeze NonZero Dropout"
    )
)
"""Operators that compute nothing."""


class _Costs:
    def __init__(self, proto: onnx.ModelProto, types: Mapping[str, TensorType], run: Execution) -> None:
        self.types = types
        self.run = run
        self.producer = {name: node for node in proto.graph.node for name in node.output if name}
        self.uncounted: dict[str, int] = {}

    def layer(self, step: Step) -> Layer:
        node = step.node
        attributes = _attributes(node)
        output = self.types.get(node.output[0], TensorType("other", ()))
        macs = self._macs(node, attributes, output)
        given = next((self.types[n] for n in node.input if n in self.types and n not in self.run.constants), output)
        kernel: tuple[int, ...] = ()
        if "Conv" in node.op_type:
            kernel = self._weight_type(node).shape[2:]
        name = weight_of(node, self.run.constants, self.producer) if node.op_type in MAC_OPERATORS else ""
        return Layer(
            name=name or node.name or node.output[0],
            op=node.op_type,
            kind=self._kind(step, output),
            macs=macs,
            operations=self._operations(node, attributes, given, output),
            weight_bytes=sum(self._constant_bytes(name) for name in dict.fromkeys(node.input) if name),
            read_bytes=0 if step.fused else sum(self._bytes(name) for name in step.reads),
            written_bytes=0 if step.fused else sum(self._bytes(name) for name in step.writes),
            output=output.shape,
            kernel=kernel,
            groups=int(attributes.get("group", 1)),
        )

    def _bytes(self, name: str) -> int:
        return self.run.types[name].bytes if name in self.run.types else 0

    def _kind(self, step: Step, output: TensorType) -> str:
        node = step.node
        if node.op_type in ("ConvInteger", "MatMulInteger") or node.op_type.startswith("QLinear"):
            return "int8"
        held = self.run.types.get(step.reads[0] if step.integer and step.reads else step.writes[0], output).kind
        if not step.integer and not step.fused:
            held = output.kind
        return "int8" if held == "uint8" and (step.integer or step.fused) else held

    def _constant_bytes(self, name: str) -> int:
        """As it is computed with: the integers where it is dequantised."""
        if name not in self.run.constants or name not in self.types:
            return 0
        node = self.producer.get(name)
        if node is not None and node.op_type == "DequantizeLinear" and node.input[0] in self.types:
            return self.types[node.input[0]].bytes
        return self.types[name].bytes

    def _weight_type(self, node: onnx.NodeProto) -> TensorType:
        place = 3 if node.op_type == "QLinearConv" else 1
        return self.types.get(node.input[place], TensorType("other", ()))

    def _macs(self, node: onnx.NodeProto, attributes: Mapping[str, Any], output: TensorType) -> int:
        """Convolution: every output element takes kernel x channels of its group. Transposed: every input element gives
        as many. Matrix products: every output element takes the length of the inner axis."""
        op = node.op_type
        if op in ("Conv", "FusedConv", "ConvInteger", "QLinearConv"):
            return output.elements * math.prod(self._weight_type(node).shape[1:])
        if op == "ConvTranspose":
            given = self.types.get(node.input[0], TensorType("other", ()))
            return given.elements * math.prod(self._weight_type(node).shape[1:])
        if op == "MatMulNBits":
            return output.elements * int(attributes["K"])
        if op in MAC_OPERATORS:
            shape = self.types.get(node.input[0], TensorType("other", (0,))).shape
            return output.elements * (shape[0 if attributes.get("transA") else -1] if shape else 0)
        return 0

    def _operations(
        self, node: onnx.NodeProto, attributes: Mapping[str, Any], given: TensorType, output: TensorType
    ) -> int:
        op = node.op_type
        if op in MAC_OPERATORS or op in _MOVES:
            return 0
        if op in ("Sum", "Max", "Min"):
            return output.elements * max(len(node.input) - 1, 1)
        if op in _ELEMENTWISE:
            return output.elements * _ELEMENTWISE[op]
        if op in _AN_ELEMENT_READ:
            return given.elements * _AN_ELEMENT_READ[op]
        if op in _POOLS:
            return output.elements * math.prod(attributes.get("kernel_shape", ()))
        if op in ("Resize", "Upsample"):
            mode = attributes.get("mode", b"nearest")
            spatial = sum(a != b for a, b in zip(given.shape, output.shape, strict=False))
            return output.elements * {b"linear": 2, b"cubic": 4}.get(mode, 0) ** max(spatial, 1)
        self.uncounted[op] = self.uncounted.get(op, 0) + 1
        return 0


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    import onnx

    kinds = onnx.AttributeProto
    return {
        attribute.name: onnx.helper.get_attribute_value(attribute)
        for attribute in node.attribute
        if attribute.type in (kinds.INT, kinds.INTS, kinds.STRING, kinds.FLOAT)
    }
