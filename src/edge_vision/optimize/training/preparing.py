"""A graph made ready to run in PyTorch: functions of its nodes, constants, shapes; by a run with an empty image."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional as F

from edge_vision.optimize.training import quantised, shapes, spatial  # noqa: F401  (they register their operators)
from edge_vision.optimize.training.errors import TrainingError, title, unsupported
from edge_vision.optimize.training.node_view import NodeView, Shape
from edge_vision.optimize.training.operators import OPERATORS, binarised
from edge_vision.optimize.training.parameters import Parameters
from edge_vision.optimize.training.steps import Step, call


class Preparation:
    """steps: in the order of the graph. constants: tensors that depend on no parameter and no image; what the graph
    works out from the input's size is one of them, for the reference batch. shapes: of all others, at that batch.

    parameters: values of what is trained, and of running statistics. scales: those parameters that are scales.
    """

    def __init__(
        self, proto: onnx.ModelProto, known: Parameters, parameters: Mapping[str, Tensor], scales: Collection[str]
    ) -> None:
        self.proto, self.parameters, self.scales = proto, parameters, scales
        self.opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)
        self.trained, self.initialisers, self.producers = known.found, known.initialisers, known.producers
        self.outputs = tuple(output.name for output in proto.graph.output)
        self.constants: dict[str, Tensor] = {}
        self.shapes: dict[str, Shape] = {}
        self.steps: list[Step] = []

    def run(self, graph_input: onnx.ValueInfoProto, shape: Shape) -> None:
        """Run the graph once at its own batch and once at twice of it: shapes, folded constants, functions."""
        kind = graph_input.type.tensor_type.elem_type
        if kind not in (onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8):
            raise TrainingError(
                f"input '{graph_input.name}' is neither float32 nor uint8", "train before the pass `half`"
            )
        dtype = torch.uint8 if kind == onnx.TensorProto.UINT8 else torch.float32
        twice = (2 * shape[0], *shape[1:])
        values: dict[str, tuple[Tensor, Tensor]] = {
            graph_input.name: (torch.zeros(shape, dtype=dtype), torch.zeros(twice, dtype=dtype))
        }
        values.update({name: (value, value) for name, value in self.parameters.items()})
        for name, tensor in self.initialisers.items():
            if name not in values:
                self.constants[name] = _tensor(tensor)
                values[name] = (self.constants[name], self.constants[name])
        uses = _last_uses(self.proto.graph.node, self.outputs)
        with torch.no_grad():
            for index, node in enumerate(self.proto.graph.node):
                self.steps += self._prepare_node(node, values)
                for name in uses.get(index, ()):
                    values.pop(name, None)

    def _prepare_node(self, node: onnx.NodeProto, values: dict[str, tuple[Tensor, Tensor]]) -> list[Step]:
        if node.op_type == "Constant" and node.output[0] in self.parameters:
            return []
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            domain = f" of domain {node.domain}" if node.domain else ""
            raise unsupported(node, f"training does not know this operator{domain}")
        missing = [name for name in node.input if name and name not in values]
        if missing:
            raise unsupported(node, f"reads '{missing[0]}', which nothing before it makes", "check the model")
        view = NodeView(
            node,
            self.opset,
            [self.constants.get(name) for name in node.input],
            [tuple(values[name][0].shape) if name else None for name in node.input],
            [tuple(values[name][1].shape) if name else None for name in node.input],
        )
        function, used = self._function(view)
        step = Step(node, function, used, tuple(node.output))
        try:
            results = [call(step, [values[name][i] for name in used]) for i in range(2)]
        except TrainingError:
            raise
        except Exception as error:  # whatever PyTorch says, with the node's name
            raise TrainingError(f"{title(node)}: {error}", "check the model with onnx.checker") from error
        fixed = all(name in self.constants for name in used)
        for place, name in enumerate(node.output):
            if not name:
                continue
            if fixed:
                self.constants[name] = results[0][place]
                values[name] = (results[0][place], results[0][place])
            else:
                values[name] = (results[0][place], results[1][place])
                self.shapes[name] = tuple(results[0][place].shape)
        return [] if fixed else [step]

    def _function(self, view: NodeView) -> tuple[Callable[..., Any], tuple[str, ...]]:
        """What computes a node, and the tensors that it is called with: pairs that belong together become one."""
        node, inputs = view.proto, tuple(view.proto.input)
        if node.op_type == "DequantizeLinear":
            fused = self._fake_quantisation(view)
            if fused is not None:
                return fused
        if node.op_type == "Where" and (signs := self._signs(node)) is not None:
            return signs
        if node.op_type == "Mul":
            for x, gate in (inputs, inputs[::-1]):
                before = self.producers.get(gate)
                if before is None or not before.input or before.input[0] != x:
                    continue
                if before.op_type == "Sigmoid":
                    return F.silu, (x,)
                if before.op_type == "HardSigmoid" and _hard_swish(before):
                    return F.hardswish, (x,)
        function = OPERATORS[node.op_type](view)
        return function, tuple(inputs[i] for i in view.used)

    def _fake_quantisation(self, view: NodeView) -> tuple[Callable[..., Any], tuple[str, ...]] | None:
        """Of a DequantizeLinear: after its QuantizeLinear, or of a parameter that is held as codes."""
        node = view.proto
        name = node.input[0]
        coded = self.trained.get(name)
        if coded is not None and coded.coding is not None:
            coding = coded.coding
            if coding.kind == onnx.TensorProto.INT32:  # steps so fine that rounding a bias says nothing
                return (lambda value: value), (name,)
            scale, zero = torch.from_numpy(coding.scale.copy()), torch.from_numpy(coding.zero.copy())
            if coding.block:
                limits, axis, block = coding.limits, coding.axis, coding.block
                return (lambda value: quantised.rounded(value, scale.to(value), zero.to(value), limits, axis, block)), (
                    name,
                )
            return quantised.fake_quantisation(scale, zero, coding.limits, coding.axis), (name,)
        before = self.producers.get(name)
        if before is None or before.op_type != "QuantizeLinear" or name in self.outputs:
            return None
        if not all(self._same(a, b) for a, b in zip(before.input[1:], node.input[1:], strict=False)):
            return None
        constants = [self.constants.get(n) for n in before.input]
        limits = quantised.limits_of(NodeView(before, self.opset, constants, view.shapes, view.doubled))
        axis, block = int(view.attribute("axis", 1)), int(view.attribute("block_size", 0))
        scale_name = before.input[1]
        known = self.constants.get(before.input[2]) if len(before.input) > 2 and before.input[2] else None
        if scale_name in self.scales:
            return (
                lambda x, s: quantised.rounded(
                    x, s.abs().clamp(min=1e-8), None if known is None else known.to(x.device), limits, axis
                )
            ), (before.input[0], scale_name)
        if scale_name not in self.constants or block:
            return None
        return quantised.fake_quantisation(self.constants[scale_name], known, limits, axis), (before.input[0],)

    def _signs(self, node: onnx.NodeProto) -> tuple[Callable[..., Any], tuple[str, ...]] | None:
        """Of a Where that chooses between -1 and +1 by a threshold: signs with a straight-through gradient."""
        below = self.producers.get(node.input[0])
        values = [self.constants.get(name) for name in node.input[1:]]
        if below is None or below.op_type != "Less" or any(v is None or v.numel() != 1 for v in values):
            return None
        if [float(v) for v in values if v is not None] != [-1.0, 1.0]:
            return None
        x, threshold = below.input
        latent = x in self.trained
        return (lambda a, b: binarised(a, b, clipped=not latent)), (x, threshold)

    def _same(self, first: str, second: str) -> bool:
        if first == second:
            return True
        a, b = self.constants.get(first), self.constants.get(second)
        return a is not None and b is not None and torch.equal(a, b)


def _tensor(proto: onnx.TensorProto) -> Tensor:
    array = numpy_helper.to_array(proto)
    if array.dtype in (np.float64, np.float16):
        array = array.astype(np.float32)
    return torch.from_numpy(np.array(array))


def _hard_swish(node: onnx.NodeProto) -> bool:
    attributes = {a.name: a.f for a in node.attribute}
    return math.isclose(attributes.get("alpha", 0.2), 1 / 6, rel_tol=1e-4) and attributes.get("beta", 0.5) == 0.5


def _last_uses(nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> dict[int, list[str]]:
    """After which node each tensor made by a node is needed no more."""
    makers = {n: node for node in nodes if node.op_type in ("QuantizeLinear", "Less") for n in node.output}
    last: dict[str, int] = {}
    for index, node in enumerate(nodes):
        # A DequantizeLinear becomes one with the QuantizeLinear before it, a Where with the Less.
        before = makers.get(node.input[0]) if node.op_type in ("DequantizeLinear", "Where") else None
        for name in (*node.input, *node.output, *(before.input if before is not None else ())):
            last[name] = index
    found: dict[int, list[str]] = {}
    for name, index in last.items():
        if name and name not in outputs:
            found.setdefault(index, []).append(name)
    return found
