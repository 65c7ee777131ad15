"""An ONNX graph as a module of PyTorch: run with gradients, trained, and written back as the same graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from edge_vision.optimize.training import quantised, shapes, spatial  # noqa: F401  (they register their operators)
from edge_vision.optimize.training.errors import TrainingError, title, unsupported
from edge_vision.optimize.training.node_view import NodeView, Shape
from edge_vision.optimize.training.operators import OPERATORS, binarised
from edge_vision.optimize.training.parameters import WEIGHTED, Coding, Parameters, Trained, with_scale, write

_OVERWRITTEN = {"Conv", "ConvTranspose", "BatchNormalization", "Add"}
"""Operators that need not their result for their gradient: what follows may write over it."""


@dataclass(frozen=True)
class Step:
    """One call of a function. inputs, outputs: names of tensors ("" for an output nobody has)."""

    node: onnx.NodeProto
    function: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class TorchGraph(nn.Module):
    """Runs an `onnx.ModelProto` for batches of any size; its float weights are parameters.

    Weights behind Q and DQ are trained as floats and stay what their codes can say: integer initialisers are read as
    (code - zero) * scale, and rounded again at every step, with a straight-through gradient. `train_scales` trains the
    scales of activations too. `freeze_statistics` keeps BatchNormalization to its running statistics.

    input_shape: the input's sizes, for those that the graph leaves open. Raises TrainingError, naming node and remedy,
    for what cannot be trained.
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        *,
        input_shape: Sequence[int] | None = None,
        train_scales: bool = False,
        freeze_statistics: bool = False,
    ) -> None:
        super().__init__()
        self.proto = proto
        self.freeze_statistics = freeze_statistics
        self.opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)
        known = Parameters(proto)
        self.trained: dict[str, Trained] = known.found
        self.initialisers = known.initialisers
        self.producers = known.producers
        self._origins = known.origins
        self.input = self._only_input()
        self.outputs = tuple(o.name for o in proto.graph.output)
        self._keys: dict[str, str] = {}
        for name, trained in self.trained.items():
            self._register(name, trained.value, trained.role)
        self._scales = self._register_scales() if train_scales else {}
        self._constants: dict[str, Tensor] = {}
        self.shapes: dict[str, Shape] = {}
        self._programmes: dict[tuple[str, ...], list[tuple[Step, tuple[str, ...]]]] = {}
        self._steps = self._prepare(self._reference_shape(input_shape))

    # -- parameters -------------------------------------------------------------------------------------------------

    def _register(self, name: str, value: np.ndarray, role: str) -> None:
        key = f"t{len(self._keys)}"
        self._keys[name] = key
        tensor = torch.from_numpy(np.array(value, order="C"))
        if role == "running":
            self.register_buffer(key, tensor)
        else:
            self.register_parameter(key, nn.Parameter(tensor))

    def _register_scales(self) -> dict[str, str]:
        """Scales of activations as parameters: name of the initialiser -> name of the parameter. Left as they are where
        constants that happen to be equal are one initialiser: a weight's scale, or the scale of two biases."""
        found: dict[str, str] = {}
        fixed = self._shared_scales()
        for node in self.proto.graph.node:
            if node.op_type != "QuantizeLinear" or node.input[0] in self._keys:
                continue
            name = node.input[1]
            if (
                name in self.initialisers
                and name not in found
                and name not in fixed
                and self.initialisers[name].data_type == 1
            ):
                value = numpy_helper.to_array(self.initialisers[name])
                if value.size == 1:
                    self._register(name, value, "scale")
                    found[name] = self._keys[name]
        return found

    def _shared_scales(self) -> set[str]:
        """Scales that cannot be changed for an activation alone."""
        coded = [
            n for n in self.proto.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in self.initialisers
        ]
        fixed = {node.input[1] for node in coded}
        uses: dict[str, int] = {}
        for node in coded:
            uses[node.input[1]] = uses.get(node.input[1], 0) + 1
        for node in self.proto.graph.node:
            sources = [self.producers.get(name) for name in node.input[:3]] if node.op_type in WEIGHTED else []
            if len(sources) == 3 and all(s is not None and s.op_type == "DequantizeLinear" for s in sources):
                x, _, bias = (s.input[1] for s in sources if s is not None)
                if uses.get(bias, 0) > 1:
                    fixed.add(x)
        return fixed

    def parameter(self, name: str) -> Tensor:
        """The parameter, or the running statistics, of an initialiser."""
        return getattr(self, self._keys[name])

    def parameters_by_name(self, *roles: str) -> dict[str, nn.Parameter]:
        """Parameters of these roles (weight, bias, norm, slope, threshold, scale; none named: all) by initialiser."""
        role_of = {name: t.role for name, t in self.trained.items()} | dict.fromkeys(self._scales, "scale")
        return {
            name: parameter
            for name in self._keys
            if isinstance(parameter := self.parameter(name), nn.Parameter) and (not roles or role_of[name] in roles)
        }

    def made_of(self, tensor: str) -> tuple[str, ...]:
        """The trained initialisers that a tensor is made from alone, such as a layer's weight."""
        return tuple(name for name in self._origins(tensor) if name in self.trained)

    def weights(self) -> dict[str, nn.Parameter]:
        """Weights of Conv, Gemm and MatMul by initialiser: what constraints are for."""
        return self.parameters_by_name("weight")

    # -- preparing --------------------------------------------------------------------------------------------------

    def _only_input(self) -> onnx.ValueInfoProto:
        inputs = [i for i in self.proto.graph.input if i.name not in self.initialisers]
        if len(inputs) != 1:
            raise TrainingError(f"the graph has {len(inputs)} inputs", "train models whose only input is the image")
        return inputs[0]

    def _reference_shape(self, given: Sequence[int] | None) -> Shape:
        """Of the run that prepares the graph: one image, where the graph says no other number."""
        name = self.input.name
        sizes = [d.dim_value for d in self.input.type.tensor_type.shape.dim]
        if given is not None:
            if len(given) != len(sizes) or any(s > 0 and s != g for s, g in zip(sizes[1:], given[1:], strict=False)):
                raise TrainingError(f"input '{name}' is {sizes} and not {list(given)}", "correct the bundle's `input`")
            sizes = [sizes[0], *given[1:]]
        if not sizes or any(s <= 0 for s in sizes[1:]):
            raise TrainingError(f"input '{name}' leaves its size open", "give it by the bundle's `input`")
        return (max(sizes[0], 1), *sizes[1:])

    def _prepare(self, shape: Shape) -> list[Step]:
        """Run the graph once at its own batch and once at twice of it: shapes, folded constants, functions."""
        kind = self.input.type.tensor_type.elem_type
        if kind not in (onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8):
            raise TrainingError(
                f"input '{self.input.name}' is neither float32 nor uint8", "train before the pass `half`"
            )
        dtype = torch.uint8 if kind == onnx.TensorProto.UINT8 else torch.float32
        twice = (2 * shape[0], *shape[1:])
        values: dict[str, tuple[Tensor, Tensor]] = {
            self.input.name: (torch.zeros(shape, dtype=dtype), torch.zeros(twice, dtype=dtype))
        }
        for name in self._keys:
            values[name] = (self.parameter(name).detach(), self.parameter(name).detach())
        for name, tensor in self.initialisers.items():
            if name not in values:
                self._keep(name, _tensor(tensor))
                values[name] = (self._constants[name], self._constants[name])
        steps: list[Step] = []
        uses = _last_uses(self.proto.graph.node, self.outputs)
        with torch.no_grad():
            for index, node in enumerate(self.proto.graph.node):
                steps += self._prepare_node(node, values)
                for name in uses.get(index, ()):
                    values.pop(name, None)
        return steps

    def _prepare_node(self, node: onnx.NodeProto, values: dict[str, tuple[Tensor, Tensor]]) -> list[Step]:
        if node.op_type == "Constant" and node.output[0] in self._keys:
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
            [self._constants.get(name) for name in node.input],
            [tuple(values[name][0].shape) if name else None for name in node.input],
            [tuple(values[name][1].shape) if name else None for name in node.input],
        )
        function, used = self._function(view)
        step = Step(node, function, used, tuple(node.output))
        try:
            results = [self._call(step, [values[name][i] for name in used]) for i in range(2)]
        except TrainingError:
            raise
        except Exception as error:  # whatever PyTorch says, with the node's name
            raise TrainingError(f"{title(node)}: {error}", "check the model with onnx.checker") from error
        fixed = all(name in self._constants for name in used)
        for place, name in enumerate(node.output):
            if not name:
                continue
            if fixed:
                self._keep(name, results[0][place])
                values[name] = (results[0][place], results[0][place])
            else:
                values[name] = (results[0][place], results[1][place])
                self.shapes[name] = tuple(results[0][place].shape)
        return [] if fixed else [step]

    def _keep(self, name: str, value: Tensor) -> None:
        self._constants[name] = value

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
        constants = [self._constants.get(n) for n in before.input]
        limits = quantised.limits_of(NodeView(before, self.opset, constants, view.shapes, view.doubled))
        axis, block = int(view.attribute("axis", 1)), int(view.attribute("block_size", 0))
        scale_name = before.input[1]
        known = self._constants.get(before.input[2]) if len(before.input) > 2 and before.input[2] else None
        if scale_name in self._scales:
            return (
                lambda x, s: quantised.rounded(
                    x, s.abs().clamp(min=1e-8), None if known is None else known.to(x.device), limits, axis
                )
            ), (before.input[0], scale_name)
        if scale_name not in self._constants or block:
            return None
        return quantised.fake_quantisation(self._constants[scale_name], known, limits, axis), (before.input[0],)

    def _signs(self, node: onnx.NodeProto) -> tuple[Callable[..., Any], tuple[str, ...]] | None:
        """Of a Where that chooses between -1 and +1 by a threshold: signs with a straight-through gradient."""
        below = self.producers.get(node.input[0])
        values = [self._constants.get(name) for name in node.input[1:]]
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
        a, b = self._constants.get(first), self._constants.get(second)
        return a is not None and b is not None and torch.equal(a, b)

    # -- running ----------------------------------------------------------------------------------------------------

    def _call(self, step: Step, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        if step.node.op_type == "BatchNormalization":
            training = self.training and not self.freeze_statistics and torch.is_grad_enabled()
            return (step.function(*inputs, training),)
        result = step.function(*inputs)
        return result if isinstance(result, (tuple, list)) else (result,)

    def _programme(self, wanted: tuple[str, ...]) -> list[tuple[Step, tuple[str, ...]]]:
        """The steps that these tensors need, each with the tensors that nobody needs after it."""
        if wanted in self._programmes:
            return self._programmes[wanted]
        needed = set(wanted)
        chosen: list[Step] = []
        for step in reversed(self._steps):
            if needed.intersection(step.outputs):
                chosen.append(step)
                needed.update(step.inputs)
        missing = [n for n in wanted if n not in self.shapes and n not in self._constants and n != self.input.name]
        if missing:
            raise TrainingError(f"the graph has no tensor '{missing[0]}'", "name the output of one of its nodes")
        chosen.reverse()
        readers: dict[str, int] = {}
        for step in chosen:
            for name in step.inputs:
                readers[name] = readers.get(name, 0) + 1
        kinds = {name: step.node.op_type for step in chosen for name in step.outputs}
        programme = []
        left = dict(readers)
        for step in chosen:
            name = step.inputs[0] if step.inputs else ""
            alone = readers.get(name) == 1 and name not in wanted and kinds.get(name) in _OVERWRITTEN
            if step.function is F.relu and alone:
                step = Step(step.node, torch.relu_, step.inputs, step.outputs)
            elif step.function is F.relu6 and alone:
                step = Step(step.node, lambda x: F.hardtanh_(x, 0.0, 6.0), step.inputs, step.outputs)
            gone = []
            for name in step.inputs:
                left[name] -= 1
                if not left[name] and name in kinds and name not in wanted:
                    gone.append(name)
            programme.append((step, tuple(dict.fromkeys(gone))))
        self._programmes[wanted] = programme
        return programme

    def forward(self, images: Tensor, wanted: Iterable[str] = ()) -> dict[str, Tensor]:
        """Outputs of the graph, and inner tensors that are `wanted`, by name. images: as the graph's input is, with any
        number of images (a multiple of the graph's own batch)."""
        names = tuple(dict.fromkeys((*self.outputs, *wanted)))
        return self.compute(images, names)

    def compute(self, images: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
        """These tensors alone; nodes that they do not need are not run."""
        values: dict[str, Tensor] = {self.input.name: images}
        for name in self._keys:
            values[name] = self.parameter(name)
        device = images.device
        for step, gone in self._programme(names):
            inputs = [
                values[name] if name in values else values.setdefault(name, self._constant(name, device))
                for name in step.inputs
            ]
            values.update(zip(step.outputs, self._call(step, inputs), strict=False))
            for name in gone:
                del values[name]
        return {name: values[name] if name in values else self._constant(name, device) for name in names}

    def _constant(self, name: str, device: torch.device) -> Tensor:
        value = self._constants[name]
        if value.device != device:
            value = self._constants[name] = value.to(device)
        return value

    # -- writing ----------------------------------------------------------------------------------------------------

    def write_back(self) -> onnx.ModelProto:
        """The graph with what was trained: floats as floats, codes as codes of the same type. Scales of biases follow
        those of their layer's input and weight, as kernels of integers want them."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        values = {name: self.parameter(name).detach().cpu().numpy() for name in self._keys}
        trained = dict(self.trained)
        for name in self._scales:
            values[name] = np.maximum(np.abs(values[name]), 1e-8)
            trained[name] = Trained(name, "scale", values[name])
        for name, scale in self._bias_scales(values).items():
            coding = trained[name].coding
            assert coding is not None
            trained[name] = Trained(name, "bias", trained[name].value, with_scale(coding, scale))
            values[coding.scale_name] = scale.reshape(coding.scale.shape)
            trained[coding.scale_name] = Trained(coding.scale_name, "scale", scale)
        write(proto, values, trained)
        return proto

    def _bias_scales(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Scales of int32 biases anew, where the scale of their layer's input has been trained."""
        found: dict[str, np.ndarray] = {}
        for node in self.proto.graph.node if self._scales else ():
            if node.op_type not in WEIGHTED or len(node.input) < 3:
                continue
            sources = [self.producers.get(name) for name in node.input[:3]]
            if any(s is None or s.op_type != "DequantizeLinear" for s in sources):
                continue
            x, w, b = (s.input for s in sources if s is not None)
            coding: Coding | None = self.trained[b[0]].coding if b[0] in self.trained else None
            if coding is None or x[1] not in values:
                continue
            weight = numpy_helper.to_array(self.initialisers[w[1]])
            if np.allclose(coding.scale, numpy_helper.to_array(self.initialisers[x[1]]) * weight, rtol=1e-4):
                found[b[0]] = (values[x[1]] * weight).astype(np.float32)
        return found


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
