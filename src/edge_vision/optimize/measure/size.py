"""What a model weighs: its file, the same zipped and packed, and the numbers in it."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_vision.optimize.measure.steps import MAC_OPERATORS
from edge_vision.optimize.measure.tensors import bits_of, evaluated, made_of, stored_constants, type_of

if TYPE_CHECKING:
    import onnx

WEIGHT, BIAS, OTHER = "weight", "bias", "other"


@dataclass(frozen=True, slots=True)
class TensorSize:
    """A tensor of parameters.

    name: of its initialiser; role: `weight` or `bias` of a convolution or matrix product, else `other`; op: of the
    operator that reads it; kind: what its numbers are computed with (`int8` where they are dequantised, also where the
    file has them in float); bytes: in the file, of type `stored`. non_zeros and distinct are of the quantised numbers
    where it is quantised (an integer at its zero point is a zero).
    """

    name: str
    role: str
    op: str
    kind: str
    stored: str
    shape: tuple[int, ...]
    elements: int
    non_zeros: int
    distinct: int
    bytes: int


@dataclass(frozen=True)
class Sizes:
    """file: bytes of the ONNX file; zipped: the same deflated in a zip archive (what TFMOT's tables state); packed: by
    `optimize.packing`, None where it was not asked for; tensors: of parameters, in the file's order; distinct: values
    of all weights together (floats, and the integers of quantised weights whatever their scales); by_kind: bytes of all
    constants by type as stored; graph: what is left of the file, names and operators."""

    file: int
    zipped: int
    packed: int | None
    tensors: tuple[TensorSize, ...]
    distinct: int
    by_kind: Mapping[str, int]
    graph: int

    @property
    def weights(self) -> tuple[TensorSize, ...]:
        """Weights of convolutions and matrix products."""
        return tuple(tensor for tensor in self.tensors if tensor.role == WEIGHT)

    @property
    def parameters(self) -> int:
        """All numbers that were trained; scales, zero points, shapes and the like are none."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def non_zeros(self) -> int:
        return sum(tensor.non_zeros for tensor in self.tensors)

    @property
    def sparsity(self) -> float:
        """Share of zeros among the weights of convolutions and matrix products."""
        elements = sum(tensor.elements for tensor in self.weights)
        return 1 - sum(tensor.non_zeros for tensor in self.weights) / elements if elements else 0.0

    @property
    def distinct_most(self) -> int:
        """Distinct numbers of the weight tensor that has most."""
        return max((tensor.distinct for tensor in self.weights), default=0)


def measure_size(proto: onnx.ModelProto, *, packed: bool = True) -> Sizes:
    """packed: also by `optimize.packing`. Raises ValueError for weights in a file of their own."""
    reader = _Reader(proto.graph)
    content = proto.SerializeToString()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("model.onnx", content)
    by_kind: dict[str, int] = {}
    for tensor in reader.constants.values():
        kind = type_of(tensor)
        by_kind[kind.kind] = by_kind.get(kind.kind, 0) + kind.bytes
    tensors = (*reader.tensors(), *reader.computed(proto))
    return Sizes(
        file=len(content),
        zipped=len(target.getvalue()),
        packed=_packed(proto) if packed else None,
        tensors=tensors,
        distinct=sum(len(values) for values in reader.values.values()),
        by_kind=dict(sorted(by_kind.items(), key=lambda item: -item[1])),
        graph=max(len(content) - sum(by_kind.values()), 0),
    )


def _packed(proto: onnx.ModelProto) -> int | None:
    if importlib.util.find_spec("edge_vision.optimize.packing") is None:
        return None
    from edge_vision.optimize.packing import pack

    return len(pack(proto))


_PASSED = ("QuantizeLinear", "DequantizeLinear", "Identity", "Cast", "Transpose")
"""Operators between a tensor of parameters and what computes with it."""
_CODES = ("int8", "uint8", "int4", "uint4", "int2", "uint2")


class _Reader:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.constants = stored_constants(graph)
        self.readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        for node in graph.node:
            for place, name in enumerate(node.input):
                self.readers.setdefault(name, []).append((node, place))
        self.values: dict[str, set] = {"float": set(), "codes": set()}

    def tensors(self) -> Iterator[TensorSize]:
        for name, tensor in self.constants.items():
            use = self._use(name)
            if use is None:
                continue
            role, node, path = use
            stored = type_of(tensor)
            zero: NDArray | int = 0
            if node.op_type == "MatMulNBits" and role == WEIGHT:
                numbers, zero, kind = self._packed_bits(tensor, node)
            else:
                numbers, kind = self._numbers(tensor, path)
                zero = self._zero(path, numbers.shape) if path else 0
            known = np.unique(numbers)
            if role == WEIGHT:
                self.values["float" if kind.startswith(("fp", "bf")) else "codes"].update(known.tolist())
            yield TensorSize(
                name=name,
                role=role,
                op=node.op_type,
                kind=kind,
                stored=stored.kind,
                shape=numbers.shape,
                elements=numbers.size,
                non_zeros=int(np.count_nonzero(numbers != zero)),
                distinct=len(known),
                bytes=stored.bytes,
            )

    def computed(self, proto: onnx.ModelProto) -> Iterator[TensorSize]:
        """Weights that nodes make of constants when the graph is loaded: unpacked bits, entries of a table."""
        for node in self.graph.node:
            for place in (1, 0) if node.op_type in MAC_OPERATORS and _role(node, 1) == WEIGHT else ():
                name = node.input[place]
                needed, roots = made_of(self.graph, self.constants, name)
                if _role(node, place) != WEIGHT or not roots or self._passes_through(needed):
                    continue
                numbers = evaluated(proto, needed, name)
                if numbers is None:
                    continue
                root = max((self.constants[root] for root in roots), key=lambda tensor: type_of(tensor).bytes)
                stored = type_of(root)
                # A number for each weight, which is scaled when the graph is loaded: codes, as behind DequantizeLinear.
                scaled = all(step.op_type in (*_PASSED, "Mul", "Sub", "Reshape") for step in needed)
                coded = scaled and stored.kind in _CODES and stored.elements == numbers.size
                known = np.unique(self._numbers(root, ())[0] if coded else numbers)
                self.values["codes" if coded else "float"].update(known.tolist())
                bits = len(known) <= 2 and stored.bytes <= (numbers.size + 7) // 8
                yield TensorSize(
                    name=root.name,
                    role=WEIGHT,
                    op=node.op_type,
                    kind="binary" if bits else stored.kind if coded else "fp32",
                    stored=stored.kind,
                    shape=numbers.shape,
                    elements=numbers.size,
                    non_zeros=int(np.count_nonzero(numbers)),
                    distinct=len(known),
                    bytes=stored.bytes,
                )

    @staticmethod
    def _passes_through(nodes: list[onnx.NodeProto]) -> bool:
        """Whether the tensor is one of `tensors` already."""
        return all(node.op_type in _PASSED for node in nodes)

    def _use(self, name: str) -> tuple[str, onnx.NodeProto, tuple[onnx.NodeProto, ...]] | None:
        """(role, reader, the QuantizeLinear and DequantizeLinear that it passes) of a tensor of parameters; None for
        scales, zero points, shapes and what nobody reads."""
        path: list[onnx.NodeProto] = []
        reads = self.readers.get(name, [])
        while reads and reads[0][0].op_type in _PASSED:
            node, place = reads[0]
            if place > 0:
                return None
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                path.append(node)
            reads = self.readers.get(node.output[0], [])
        if not reads:
            return None
        node, place = reads[0]
        kind = type_of(self.constants[name]).kind
        if not path and not kind.startswith(("fp", "bf")) and node.op_type not in MAC_OPERATORS:
            return None
        role = _role(node, place)
        return (role, node, tuple(path)) if role else None

    def _numbers(self, tensor: onnx.TensorProto, path: tuple[onnx.NodeProto, ...]) -> tuple[NDArray, str]:
        """The numbers as they are computed with, and their type: floats, or integers where they are dequantised."""
        from onnx import numpy_helper

        kind = type_of(tensor).kind
        array = np.asarray(numpy_helper.to_array(tensor))
        if kind.startswith(("fp", "bf")):
            array = array.astype(np.float64 if kind == "fp64" else np.float32)
        elif bits_of(kind) < 8:
            array = array.astype(np.int8)
        if not path or path[0].op_type != "QuantizeLinear":
            return array, kind
        scale, zero = (self._spread(path[0], place, array.shape) for place in (1, 2))
        zero_type = self.constants.get(path[0].input[2]) if len(path[0].input) > 2 else None
        kind = type_of(zero_type).kind if zero_type is not None else "uint8"
        bits = bits_of(kind)
        low, high = (0, 2**bits - 1) if kind.startswith("uint") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return np.clip(np.rint(array / scale) + zero, low, high).astype(np.int32), kind

    def _packed_bits(self, tensor: onnx.TensorProto, node: onnx.NodeProto) -> tuple[NDArray, NDArray | int, str]:
        """(N, K) weights of onnxruntime's MatMulNBits, packed in bytes, lowest bits first; their zeros; their type."""
        from onnx import numpy_helper

        given = {attribute.name: attribute.i for attribute in node.attribute}
        bits, rows, columns = given.get("bits", 4), given["N"], given["K"]

        def unpacked(array: NDArray) -> NDArray:
            parts = [(array[..., None] >> shift) & (2**bits - 1) for shift in range(0, 8, bits)]
            return np.concatenate(parts, -1).reshape(rows, -1)

        numbers = unpacked(numpy_helper.to_array(tensor))[:, :columns]
        points = self.constants.get(node.input[3]) if len(node.input) > 3 else None
        zero: NDArray | int = 2 ** (bits - 1)
        if points is not None and type_of(points).kind == "uint8":
            each = unpacked(numpy_helper.to_array(points).reshape(rows, -1))
            zero = np.repeat(each, given["block_size"], 1)[:, :columns]
        return numbers, zero, f"uint{bits}"

    def _zero(self, path: tuple[onnx.NodeProto, ...], shape: tuple[int, ...]) -> NDArray:
        return self._spread(path[-1], 2, shape)

    def _spread(self, node: onnx.NodeProto, place: int, shape: tuple[int, ...]) -> NDArray:
        """A scale (place 1) or zero point (2) of a conversion, to be broadcast over its tensor."""
        from onnx import numpy_helper

        name = node.input[place] if place < len(node.input) else ""
        tensor = self.constants.get(name)
        if tensor is None:
            return np.array(1.0 if place == 1 else 0)
        value = np.asarray(numpy_helper.to_array(tensor))
        value = value.astype(np.float32 if place == 1 else np.int64)
        if value.size == 1:
            return value.reshape(())
        given = {attribute.name: attribute.i for attribute in node.attribute}
        axis = given.get("axis", 1) % len(shape)
        if value.ndim == 1:
            return value.reshape([-1 if index == axis else 1 for index in range(len(shape))])
        blocks = np.repeat(value, given.get("block_size", 0) or -(-shape[axis] // value.shape[axis]), axis)
        return np.take(blocks, range(shape[axis]), axis)


def _role(node: onnx.NodeProto, place: int) -> str:
    """ "" for what is no parameter."""
    op = node.op_type
    if op in ("QLinearConv", "QLinearMatMul", "QGemm"):
        return {3: WEIGHT, 8: BIAS}.get(place, "") if op != "QGemm" else {3: WEIGHT, 6: BIAS}.get(place, "")
    if op == "MatMulNBits":
        return {1: WEIGHT, 5: BIAS}.get(place, "")
    if op in ("ConvInteger", "MatMulInteger"):
        return WEIGHT if place < 2 else ""
    if op in MAC_OPERATORS:
        return WEIGHT if place == 1 or (place == 0 and "MatMul" in op) else BIAS
    if op in ("Resize", "Upsample", "Clip", "Pad", "Pow", "ConstantOfShape", "NonMaxSuppression"):
        return ""
    return OTHER
