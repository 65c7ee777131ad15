"""Carries the units of channels through a graph, node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_vision.optimize.graphs.rearranging import RULES
from edge_vision.optimize.graphs.shapes import Shape
from edge_vision.optimize.graphs.units import Lane, Slot, Units
from edge_vision.optimize.graphs.view import View, integer

# fmt: off
SAME = frozenset((
    "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Mish",
    "Gelu", "Softplus", "Softsign", "ThresholdedRelu", "Tanh", "Clip", "Abs", "Neg", "Exp", "Log", "Sqrt",
    "Reciprocal", "Floor", "Ceil", "Round", "Sign", "Erf", "Identity", "Dropout", "Cast", "MaxPool",
    "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "GlobalLpPool",
))
"""Operators whose output channel c comes from input channel c alone (the first input's)."""

ELEMENTWISE = frozenset((
    "Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Mean", "PRelu", "Where",
))
"""Operators that take inputs of like sizes apart element by element, with broadcasting."""
# fmt: on

PER_CHANNEL = frozenset(("BatchNormalization", "InstanceNormalization"))


class Follower:
    """After it was made: lanes of every inner tensor that has units, slots of every constant, units."""

    def __init__(self, proto: onnx.ModelProto, shapes: Mapping[str, Shape]) -> None:
        self.view = View(proto)
        self.shapes = shapes
        self.units = Units()
        self.lanes: dict[str, Lane] = {}
        self.slots: list[Slot] = []
        self.layers = {layer.node.output[0]: layer for layer in self.view.layers}
        self.readers: dict[str, int] = {}
        for node in proto.graph.node:
            for name in {name for name in node.input if name in self.view.initialisers}:
                self.readers[name] = self.readers.get(name, 0) + 1
        for node in proto.graph.node:
            known = len(self.slots)
            if not self._follow(node):
                self._fix_inputs(node, f"{node.op_type} ({node.name or node.output[0]}) mixes or counts channels")
                for slot in self.slots[known:]:
                    self.units.fix(slot.units, f"{node.op_type} ({node.name or node.output[0]}) is not followed")
                del self.slots[known:]
                for name in node.output:
                    self.lanes.pop(name, None)
        self._fix_shared()
        for name in self.view.outputs:
            if name in self.lanes:
                self.units.fix(self.lanes[name].units, "they are an output of the graph")

    def _fix_inputs(self, node: onnx.NodeProto, reason: str) -> None:
        for name in node.input:
            if name in self.lanes:
                self.units.fix(self.lanes[name].units, reason)

    def _follow(self, node: onnx.NodeProto) -> bool:
        """Whether the node is understood; its lanes and slots are then noted."""
        kind = node.op_type
        if node.domain not in ("", "ai.onnx") or any(item.g.node or item.graphs for item in node.attribute):
            return False
        if node.output[0] in self.layers:
            return self._layer(node)
        if not any(name in self.lanes for name in node.input):
            return True  # nothing that could be removed comes in
        if any(name and name not in self.shapes for name in (*node.input[:1], *node.output[:1])):
            return False
        if kind in SAME:
            return self._same(node)
        if kind in PER_CHANNEL:
            return not integer(node, "training_mode", 0) and self._tables(node)
        if kind in ELEMENTWISE:
            return self._elementwise(node)
        return kind in RULES and RULES[kind](self, node)

    def _slot(self, name: str, axis: int, units: NDArray[np.int64], role: str, node: onnx.NodeProto) -> bool:
        if name not in self.view.initialisers:
            return False
        if self.readers[name] > 1:
            for slot in self.slots:
                if slot.name == name and slot.axis == axis:  # one table for several nodes: what goes, goes for all
                    self.units.tie(slot.units, units)
                    break
        self.slots.append(Slot(name, axis, units, role, node))
        return True

    def _fix_shared(self) -> None:
        """Constants that are also read where no units were found stay as they are."""
        for (name, axis), slots in self._slots_by_place().items():
            if len({slot.node.output[0] for slot in slots}) != self.readers[name]:
                for slot in slots:
                    self.units.fix(slot.units, f"{name} is read elsewhere too (axis {axis})")

    def _slots_by_place(self) -> dict[tuple[str, int], list[Slot]]:
        places: dict[tuple[str, int], list[Slot]] = {}
        for slot in self.slots:
            places.setdefault((slot.name, slot.axis), []).append(slot)
        return places

    def _layer(self, node: onnx.NodeProto) -> bool:
        layer = self.layers[node.output[0]]
        source, output = node.input[0], node.output[0]
        if layer.quantised or output not in self.shapes or layer.name != node.input[1]:
            return False
        weight, rank = self.view.initialisers[layer.name].dims, len(self.shapes[output])
        lane = self.lanes.get(source)
        axis_out, axis_in, place = 0, 1, 1
        if layer.kind == "ConvTranspose":
            axis_out, axis_in = 1, 0
        elif layer.kind == "Gemm":
            if integer(node, "transA", 0):
                return False
            axis_out, axis_in = (0, 1) if integer(node, "transB", 0) else (1, 0)
        elif layer.kind == "MatMul":
            axis_out, axis_in, place = 1, 0, rank - 1
            if len(weight) != 2:
                return False
        if lane is not None and lane.axis != place:
            return False
        if layer.groups > 1:
            units = self._grouped(node, layer.groups, tuple(weight), lane)
            if units is None:
                return False
        else:
            if lane is not None:
                self._slot(layer.name, axis_in, lane.units, "input", node)
            units = self.units.new(int(weight[axis_out]))
        self._slot(layer.name, axis_out, units, "output", node)
        if layer.bias:
            size = self.view.initialisers[layer.bias].dims
            if size and size[-1] == len(units):
                self._slot(layer.bias, len(size) - 1, units, "along", node)
            elif any(dim != 1 for dim in size):
                return False
        elif len(node.input) > 2 and node.input[2]:
            return False  # a bias that is computed
        self.lanes[output] = Lane(place, units)
        return True

    def _grouped(
        self, node: onnx.NodeProto, groups: int, weight: Sequence[int], lane: Lane | None
    ) -> NDArray[np.int64] | None:
        """Output units of a depthwise convolution, with any multiplier; None for other grouped ones."""
        if node.op_type != "Conv" or weight[1] != 1 or weight[0] % groups:
            return None
        if lane is None or len(lane.units) != groups:
            return None  # of the image's own channels, or of what cannot be removed
        return lane.units.repeat(weight[0] // groups)

    def _same(self, node: onnx.NodeProto) -> bool:
        if len([name for name in node.output if name]) > 1 and node.op_type == "MaxPool":
            return False  # indices count elements
        lane = self.lanes.get(node.input[0])
        if lane is None:
            return False
        if "Pool" in node.op_type and lane.axis != 1:
            return False
        self.lanes[node.output[0]] = lane
        return True

    def _tables(self, node: onnx.NodeProto) -> bool:
        lane = self.lanes.get(node.input[0])
        if lane is None or lane.axis != 1 or any(name not in self.view.initialisers for name in node.input[1:] if name):
            return False
        for name in node.input[1:]:
            self._slot(name, 0, lane.units, "along", node)
        self.lanes[node.output[0]] = lane
        return True

    def _elementwise(self, node: onnx.NodeProto) -> bool:
        output = self.shapes[node.output[0]]
        rank = len(output)
        found: Lane | None = None
        for name in node.input:
            lane = self.lanes.get(name)
            if lane is None:
                continue
            axis = lane.axis + rank - len(self.shapes[name])
            if len(lane.units) == 1 != output[axis]:  # one for all channels, such as a mask over places
                self.units.fix(lane.units, "one of it is for all channels")
                continue
            if (found and found.axis != axis) or len(lane.units) != output[axis]:
                return False
            found = Lane(axis, lane.units if found is None else self.units.tie(found.units, lane.units))
        if found is None:
            return False
        for name in node.input:
            if not name or name in self.lanes:
                continue
            shape = self.shapes.get(name)
            if shape is None:
                return False
            axis = found.axis - (rank - len(shape))
            if axis < 0 or shape[axis] == 1:
                continue  # the same for all channels
            if not self._slot(name, axis, found.units, "along", node):
                return False  # a tensor of channels that stay
        self.lanes[node.output[0]] = found
        return True
