"""An ONNX graph as a module of PyTorch: run with gradients, trained, and written back as the same graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from edge_vision.optimize.training.errors import TrainingError
from edge_vision.optimize.training.node_view import Shape
from edge_vision.optimize.training.parameters import WEIGHTED, Coding, Parameters, Trained, with_scale, write
from edge_vision.optimize.training.preparing import Preparation
from edge_vision.optimize.training.steps import Programme, call, programme_of


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
        self._programmes: dict[tuple[str, ...], Programme] = {}
        values = {name: self.parameter(name).detach() for name in self._keys}
        prepared = Preparation(proto, known, values, self._scales)
        prepared.run(self.input, self._reference_shape(input_shape))
        self._steps, self._constants, self.shapes = prepared.steps, prepared.constants, prepared.shapes

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

    def _programme(self, wanted: tuple[str, ...]) -> Programme:
        if wanted not in self._programmes:
            known = (*self.shapes, *self._constants, self.input.name)
            missing = [name for name in wanted if name not in known]
            if missing:
                raise TrainingError(f"the graph has no tensor '{missing[0]}'", "name the output of one of its nodes")
            self._programmes[wanted] = programme_of(self._steps, wanted)
        return self._programmes[wanted]

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
        training = self.training and not self.freeze_statistics and torch.is_grad_enabled()
        for step, gone in self._programme(names):
            inputs = [
                values[name] if name in values else values.setdefault(name, self._constant(name, device))
                for name in step.inputs
            ]
            values.update(zip(step.outputs, call(step, inputs, training), strict=False))
            for name in gone:
                del values[name]
        return {name: values[name] if name in values else self._constant(name, device) for name in names}

    def _constant(self, name: str, device: torch.device) -> Tensor:
        value = self._constants[name]
        if value.device != device:
            value = self._constants[name] = value.to(device)
        return value

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
