"""Which operators of a model a microcontroller's runtime has: fast kernels, slow ones, or none, and what to do then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from edge_vision.inference.errors import ModelError
from edge_vision.inference.schema import Section, read_yaml
from edge_vision.optimize.measure.steps import execution
from edge_vision.optimize.measure.tensors import tensor_types
from edge_vision.paths import share_directory

if TYPE_CHECKING:
    import onnx

STATES = ("fast", "slow", "missing")


@dataclass(frozen=True, slots=True)
class OperatorTable:
    """onnx: ONNX operator -> TFLite's, "" for what a converter removes; there: TFLite operators that TFLite Micro has;
    fast: library -> those with kernels of its own; advice: ONNX operator -> what to do."""

    onnx: Mapping[str, str]
    there: frozenset[str]
    fast: Mapping[str, frozenset[str]]
    advice: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """A node that does not run on fast int8 kernels. state: of `STATES`; why and what to do, for people."""

    node: str
    operator: str
    state: str
    why: str
    remedy: str


@lru_cache(maxsize=1)
def operator_table() -> OperatorTable:
    """config/microcontroller_operators.yaml. Raises ModelError where it is wrong."""
    return _read(share_directory() / "config" / "microcontroller_operators.yaml")


def _read(path: Path) -> OperatorTable:
    head = Section(read_yaml(path), path)
    head.take("format", int)
    head.take("sources", dict)
    table = OperatorTable(
        onnx={str(key): str(value or "") for key, value in head.take("onnx", dict).items()},
        there=frozenset(head.take("tflite_micro", str).split()),
        fast={str(key): frozenset(str(value).split()) for key, value in head.take("fast", dict).items()},
        advice={str(key): str(value) for key, value in head.take("advice", dict).items()},
    )
    head.finish()
    unknown = {name for name in table.onnx.values() if name} - table.there
    if unknown:
        raise ModelError(path, f"{', '.join(sorted(unknown))} of `onnx` are not in `tflite_micro`", "add them there")
    return table


def unsupported(proto: onnx.ModelProto, library: str, table: OperatorTable | None = None) -> tuple[Finding, ...]:
    """The steps of a graph that TFLite Micro with `library` (a key of `OperatorTable.fast`) has only slow kernels for,
    or none. Steps that a converter computes beforehand or folds are none. Raises ValueError for open sizes."""
    known = table or operator_table()
    fast = known.fast[library]
    found = []
    for step in execution(proto, tensor_types(proto)).steps:
        node = step.node
        operator = node.op_type
        if step.fused:
            continue
        name = node.name or node.output[0]
        advice = known.advice.get(operator, "")
        if operator not in known.onnx or (node.domain not in ("", "ai.onnx") and not operator.startswith("QLinear")):
            remedy = advice or "cut the model before it and compute it in C, or replace it by operators of the table"
            found.append(Finding(name, operator, "missing", "TFLite Micro has no such operator", remedy))
            continue
        group = _group(node)
        if operator == "Conv" and 1 < group < _channels(node, proto, group):
            why = "a convolution of groups becomes one convolution a group, with Split and Concat"
            found.append(Finding(name, operator, "slow", why, "use depthwise or whole convolutions"))
            continue
        target = known.onnx[operator]
        if target and target not in fast:
            why = f"{target} has the reference kernel alone"
            found.append(Finding(name, operator, "slow", why, advice or "fine while it is a small part of the work"))
    return tuple(found)


def float_layers(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Names of convolutions and products that compute in float: they have to be int8 for the fast kernels."""
    steps: Iterable = execution(proto, tensor_types(proto)).steps
    return tuple(
        step.node.name or step.node.output[0]
        for step in steps
        if step.node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul") and not step.integer
    )


def _group(node: onnx.NodeProto) -> int:
    return next((item.i for item in node.attribute if item.name == "group"), 1)


def _channels(node: onnx.NodeProto, proto: onnx.ModelProto, group: int) -> int:
    """Input channels of a convolution, where its weights are in the file; else as many as groups."""
    weights = next((tensor for tensor in proto.graph.initializer if tensor.name == node.input[1]), None)
    return int(weights.dims[1]) * group if weights is not None else group
