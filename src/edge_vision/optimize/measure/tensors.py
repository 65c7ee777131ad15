"""Types, shapes and constants of an ONNX graph's tensors, as the measurements of this folder need them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

NAMES = {
    1: "fp32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "fp16",
    11: "fp64", 12: "uint32", 13: "uint64", 16: "bf16", 17: "fp8", 18: "fp8", 19: "fp8", 20: "fp8", 21: "uint4",
    22: "int4", 23: "fp4", 25: "uint2", 26: "int2",
}  # fmt: skip
"""TensorProto.DataType to the project's name."""
_BITS = {"fp32": 32, "fp16": 16, "bf16": 16, "fp64": 64, "fp8": 8, "fp4": 4, "bool": 8}


def bits_of(kind: str) -> int:
    """Bits of an element of a type of `NAMES` (`uint4`: 4)."""
    return _BITS.get(kind) or int("".join(c for c in kind if c.isdigit()) or 8)


@dataclass(frozen=True, slots=True)
class TensorType:
    """kind: one of `NAMES`."""

    kind: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Two 4-bit elements share a byte."""
        return (self.elements * bits_of(self.kind) + 7) // 8


def stored_constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Initialisers and tensors of Constant nodes, by the name that the graph reads them under.

    Raises ValueError for weights in a file of their own.
    """
    import onnx

    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "Constant":
            continue
        for attribute in node.attribute:
            if attribute.name == "value":
                found[node.output[0]] = attribute.t
            elif attribute.name in ("value_float", "value_floats", "value_int", "value_ints"):
                value = onnx.helper.get_attribute_value(attribute)
                kind = onnx.TensorProto.FLOAT if "float" in attribute.name else onnx.TensorProto.INT64
                values = value if isinstance(value, list) else [value]
                dims = [len(values)] if isinstance(value, list) else []
                found[node.output[0]] = onnx.helper.make_tensor(node.output[0], kind, dims, values)
    outside = [name for name, tensor in found.items() if tensor.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        raise ValueError(
            f"the weights of {outside[0]} are in a file of their own: load the model with them (onnx.load)"
        )
    return found


def type_of(tensor: onnx.TensorProto) -> TensorType:
    return TensorType(NAMES.get(tensor.data_type, "other"), tuple(tensor.dims))


def tensor_types(proto: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, TensorType]:
    """Type and shape of every tensor of the main graph, for a batch of 1 where the batch is open.

    shapes: of inputs that leave other sizes open. By ONNX's shape inference; what that cannot tell (operators of other
    domains, sizes that are computed) by a run on zeros in onnxruntime, where it is installed. A tensor that neither
    knows is left out. Raises ValueError for an input of open size.
    """
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(proto)
    if _fix_inputs(fixed.graph, shapes or {}):
        del fixed.graph.value_info[:]
        for output in fixed.graph.output:
            output.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError):
        inferred = fixed
    graph = inferred.graph
    found = {name: type_of(tensor) for name, tensor in stored_constants(graph).items()}
    for value in (*graph.input, *graph.value_info, *graph.output):
        known = _value_type(value)
        if known is not None:
            found[value.name] = known
    missing = [name for node in graph.node for name in node.output if name and name not in found]
    if missing:
        found |= _by_running(fixed, missing)
    return found


def _fix_inputs(graph: onnx.GraphProto, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Open sizes filled in. Whether there were any."""
    initialisers = {tensor.name for tensor in graph.initializer}
    changed = False
    for value in graph.input:
        if value.name in initialisers:
            continue
        dims = value.type.tensor_type.shape.dim
        for index, dim in enumerate(dims):
            if dim.WhichOneof("value") == "dim_value" and dim.dim_value > 0:
                continue
            wanted = shapes.get(value.name, ())
            size = wanted[index] if index < len(wanted) else (1 if index == 0 else 0)
            if size < 1:
                raise ValueError(
                    f"input {value.name} leaves the size of axis {index} open: give its shape, or fix it in the model"
                )
            dim.Clear()
            dim.dim_value = size
            changed = True
    return changed


def _value_type(value: onnx.ValueInfoProto) -> TensorType | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape") or tensor.elem_type not in NAMES:
        return None
    if any(dim.WhichOneof("value") != "dim_value" for dim in tensor.shape.dim):
        return None
    return TensorType(NAMES[tensor.elem_type], tuple(dim.dim_value for dim in tensor.shape.dim))


def _by_running(fixed: onnx.ModelProto, names: list[str]) -> dict[str, TensorType]:
    """Of these tensors in a run on zeros; nothing where onnxruntime is not installed or cannot run the model."""
    import numpy as np
    import onnx

    try:
        import onnxruntime
    except ImportError:
        return {}
    model = onnx.ModelProto()
    model.CopyFrom(fixed)
    there = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name not in there)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = 4
    settings.intra_op_num_threads = 1
    types = {value.name: value for value in model.graph.input}
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        feed = {}
        for given in session.get_inputs():
            kind = onnx.helper.tensor_dtype_to_np_dtype(types[given.name].type.tensor_type.elem_type)
            feed[given.name] = np.zeros(given.shape, kind)
        arrays = session.run(names, feed)
    except Exception:  # onnxruntime raises classes of its own that derive from Exception alone
        return {}
    found = {}
    for name, array in zip(names, arrays, strict=True):
        if isinstance(array, np.ndarray):
            known = NAMES.get(onnx.helper.np_dtype_to_tensor_dtype(array.dtype))
            if known:
                found[name] = TensorType(known, array.shape)
    return found


def made_of(graph: onnx.GraphProto, constants: Collection[str], name: str) -> tuple[list[onnx.NodeProto], set[str]]:
    """Nodes, in order, and constants that a tensor is computed of; none where it depends on an input."""
    makers = {output: node for node in graph.node for output in node.output if output}
    nodes: set[int] = set()
    roots: set[str] = set()
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one in constants:
            roots.add(one)
        elif one:
            maker = makers.get(one)
            if maker is None:
                return [], set()
            if id(maker) not in nodes:
                nodes.add(id(maker))
                waiting += maker.input
    return [node for node in graph.node if id(node) in nodes], roots


def evaluated(proto: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], name: str) -> NDArray | None:
    """What `nodes` make of constants; None where ONNX's reference does not know one of them."""
    import numpy as np
    import onnx
    from onnx.reference import ReferenceEvaluator

    read = {each for node in nodes for each in node.input}
    kept = [tensor for tensor in proto.graph.initializer if tensor.name in read]
    sources = [node for node in proto.graph.node if node.op_type == "Constant" and node.output[0] in read]
    graph = onnx.helper.make_graph([*sources, *nodes], "constants", [], [onnx.ValueInfoProto(name=name)], kept)
    opsets = list(proto.opset_import)
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=proto.ir_version)
    try:
        return np.asarray(cast(Any, ReferenceEvaluator(model).run(None, {}))[0])
    except Exception:  # what it raises for an operator of another domain differs from version to version
        return None
