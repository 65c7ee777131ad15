"""Which channels of a graph live and die together.

Every channel of every inner tensor is followed back to the layers that make it. A *unit* is a set of channels that can
only be removed together: those that an element-wise sum ties, a depthwise convolution's with its input's, the copies
of one channel after Flatten. Tensors hold units along one axis; what mixes channels in a way that no slice undoes, and
what reaches an output of the graph, fixes its units. A *group* is a set of units that lie in the same tensors, so that
any of them may be taken. (Same idea as the dependency groups of DepGraph, Fang et al. 2023, arXiv:2301.12900, here by
carrying labels through an ONNX graph with static sizes.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_vision.optimize.graphs.shapes import Shape
from edge_vision.optimize.graphs.view import View, attribute, integer, integers

FIXED = -1  # a channel that cannot be removed

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
REDUCTIONS = frozenset(("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare"))
RESHAPING = frozenset(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile", "Transpose", "DepthToSpace"))


@dataclass(frozen=True, eq=False)
class Lane:
    """Where a tensor has its units: units (length of the axis,) int64, `FIXED` for channels that stay."""

    axis: int
    units: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Slot:
    """A place of a layer's constant that has units along an axis.

    name: the initialiser; axis; units (length,) as of the lane that the node reads or makes; role: "output" (a row of a
    layer's weights makes the channel), "input" (a column reads it), "along" (a table with a value a channel).
    """

    name: str
    axis: int
    units: NDArray[np.int64]
    role: str
    node: onnx.NodeProto


@dataclass(frozen=True, eq=False)
class Group:
    """Units of which any may be removed, named by the layers that make them.

    units (N,) int64: roots as in `Channels.slots`; layers: names of the layers whose weights have them as outputs.
    """

    units: NDArray[np.int64]
    layers: tuple[str, ...]


@dataclass
class Channels:
    """The units of a graph.

    lanes: of every inner tensor that has units; slots: of every constant. In both, units are roots: equal numbers live
    and die together. groups: of what can be removed. refused: why layers' channels stay, a line each.
    """

    lanes: dict[str, Lane]
    slots: tuple[Slot, ...]
    groups: tuple[Group, ...]
    refused: tuple[str, ...] = ()
    shapes: Mapping[str, Shape] = field(default_factory=dict)


def find_channels(proto: onnx.ModelProto, shapes: Mapping[str, Shape]) -> Channels:
    """The units of a graph with constants folded (`folding.fold`) and static sizes (`shapes.static_shapes`)."""
    return _Follower(proto, shapes).result()


class _Follower:
    """Carries labels through a graph, node by node."""

    def __init__(self, proto: onnx.ModelProto, shapes: Mapping[str, Shape]) -> None:
        self.view = View(proto)
        self.shapes = shapes
        self.parents: list[int] = []
        self.fixed: dict[int, str] = {}
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
                    self._fix(slot.units, f"{node.op_type} ({node.name or node.output[0]}) is not followed")
                del self.slots[known:]
                for name in node.output:
                    self.lanes.pop(name, None)
        self._fix_shared()
        for name in self.view.outputs:
            if name in self.lanes:
                self._fix(self.lanes[name].units, "they are an output of the graph")

    # units -----------------------------------------------------------------------------------------------------------

    def _new(self, count: int) -> NDArray[np.int64]:
        first = len(self.parents)
        self.parents.extend(range(first, first + count))
        return np.arange(first, first + count, dtype=np.int64)

    def _root(self, unit: int) -> int:
        while self.parents[unit] != unit:
            self.parents[unit] = self.parents[self.parents[unit]]
            unit = self.parents[unit]
        return unit

    def _tie(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
        """Units of equal places become one; where one is fixed so is the other."""
        for one, other in zip(a.tolist(), b.tolist(), strict=True):
            if FIXED in (one, other):
                self._fix(np.array([one, other]), "they are tied to channels that have to stay")
            elif (first := self._root(one)) != (second := self._root(other)):
                self.parents[second] = first
                if second in self.fixed:
                    self.fixed.setdefault(first, self.fixed[second])
        return np.where(a == FIXED, FIXED, np.where(b == FIXED, FIXED, a))

    def _fix(self, units: NDArray[np.int64], reason: str) -> None:
        for unit in np.unique(units[units != FIXED]).tolist():
            self.fixed.setdefault(self._root(unit), reason)

    def _fix_inputs(self, node: onnx.NodeProto, reason: str) -> None:
        for name in node.input:
            if name in self.lanes:
                self._fix(self.lanes[name].units, reason)

    # nodes -----------------------------------------------------------------------------------------------------------

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
        if kind in SAME or (kind == "BatchNormalization" and integer(node, "training_mode", 0)):
            return kind in SAME and self._same(node)
        if kind in PER_CHANNEL:
            return self._tables(node)
        if kind in ELEMENTWISE:
            return self._elementwise(node)
        if kind in RESHAPING:
            return self._reshaped(node)
        special = {
            "Concat": self._concat,
            "Slice": self._slice,
            "Split": self._split,
            "Gather": self._gather,
            "Resize": self._resize,
            "Upsample": self._resize,
            "Pad": self._pad,
            "Softmax": self._softmax,
            "LogSoftmax": self._softmax,
        }
        if kind in REDUCTIONS:
            return self._reduce(node)
        return kind in special and special[kind](node)

    def _slot(self, name: str, axis: int, units: NDArray[np.int64], role: str, node: onnx.NodeProto) -> bool:
        if name not in self.view.initialisers:
            return False
        if self.readers[name] > 1:
            for slot in self.slots:
                if slot.name == name and slot.axis == axis:  # one table for several nodes: what goes, goes for all
                    self._tie(slot.units, units)
                    break
        self.slots.append(Slot(name, axis, units, role, node))
        return True

    def _fix_shared(self) -> None:
        """Constants that are also read where no units were found stay as they are."""
        for (name, axis), slots in self._slots_by_place().items():
            if len({slot.node.output[0] for slot in slots}) != self.readers[name]:
                for slot in slots:
                    self._fix(slot.units, f"{name} is read elsewhere too (axis {axis})")

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
            units = self._new(int(weight[axis_out]))
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
                self._fix(lane.units, "one of it is for all channels")
                continue
            if (found and found.axis != axis) or len(lane.units) != output[axis]:
                return False
            found = Lane(axis, lane.units if found is None else self._tie(found.units, lane.units))
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

    def _concat(self, node: onnx.NodeProto) -> bool:
        rank = len(self.shapes[node.output[0]])
        along = integer(node, "axis", 0) % rank
        axes = {self.lanes[name].axis for name in node.input if name in self.lanes}
        if len(axes) != 1 or any(name not in self.shapes for name in node.input):
            return False
        axis = axes.pop()
        parts = [
            self.lanes[name].units if name in self.lanes else np.full(self.shapes[name][axis], FIXED)
            for name in node.input
        ]
        if axis == along:
            # A constant part is no input that stays: it could be sliced, but nobody does that.
            units = np.concatenate(parts)
        else:
            units = parts[0]
            for part in parts[1:]:
                units = self._tie(units, part)
        self.lanes[node.output[0]] = Lane(axis, units)
        return True

    def _slice(self, node: onnx.NodeProto) -> bool:
        lane = self.lanes.get(node.input[0])
        found = slice_of(self.view, node, self.shapes[node.input[0]])
        if lane is None or found is None:
            return False
        chosen = found.get(lane.axis, slice(None))
        if chosen.step not in (None, 1):
            return False
        self.lanes[node.output[0]] = Lane(lane.axis, lane.units[chosen])
        return True

    def _split(self, node: onnx.NodeProto) -> bool:
        lane = self.lanes.get(node.input[0])
        if lane is None or any(name not in self.shapes for name in node.output):
            return False
        along = integer(node, "axis", 0) % len(self.shapes[node.input[0]])
        start = 0
        for name in node.output:
            stop = start + self.shapes[name][lane.axis]
            self.lanes[name] = Lane(lane.axis, lane.units[start:stop] if along == lane.axis else lane.units)
            start = stop
        # Without sizes the parts are equal ones: only where sizes are given can they be written anew.
        given = attribute(node, "split") is not None or (
            len(node.input) > 1 and node.input[1] in self.view.initialisers
        )
        return along != lane.axis or given

    def _gather(self, node: onnx.NodeProto) -> bool:
        lane = self.lanes.get(node.input[0])
        indices = self.view.constant(node.input[1])
        if lane is None or indices is None:
            return False
        along = integer(node, "axis", 0) % len(self.shapes[node.input[0]])
        if along != lane.axis:
            axis = lane.axis + (indices.ndim - 1 if along < lane.axis else 0)
            self.lanes[node.output[0]] = Lane(axis, lane.units)
            return True
        if indices.ndim != 1:
            return False
        self.lanes[node.output[0]] = Lane(lane.axis, lane.units[indices])
        return True

    def _resize(self, node: onnx.NodeProto) -> bool:
        lane = self.lanes.get(node.input[0])
        axes = attribute(node, "axes")
        if lane is None or axes is not None or attribute(node, "keep_aspect_ratio_policy", b"stretch") != b"stretch":
            return False
        before, after = self.shapes[node.input[0]], self.shapes[node.output[0]]
        if before[lane.axis] != after[lane.axis]:
            return False
        if any(name and name not in self.view.initialisers for name in node.input[1:]):
            return False
        self.lanes[node.output[0]] = lane
        return True

    def _pad(self, node: onnx.NodeProto) -> bool:
        lane = self.lanes.get(node.input[0])
        before, after = self.shapes[node.input[0]], self.shapes[node.output[0]]
        if lane is None or before[lane.axis] != after[lane.axis]:
            return False
        self.lanes[node.output[0]] = lane
        return True

    def _softmax(self, node: onnx.NodeProto) -> bool:
        lane = self.lanes.get(node.input[0])
        opset = next((item.version for item in self.view.proto.opset_import if item.domain in ("", "ai.onnx")), 13)
        axis = integer(node, "axis", -1 if opset >= 13 else 1) % len(self.shapes[node.input[0]])
        if lane is None or axis == lane.axis or (opset < 13 and axis <= lane.axis):
            return False
        self.lanes[node.output[0]] = lane
        return True

    def _reduce(self, node: onnx.NodeProto) -> bool:
        lane = self.lanes.get(node.input[0])
        rank = len(self.shapes[node.input[0]])
        axes: Sequence[int] | None = integers(node, "axes") or None
        if axes is None and len(node.input) > 1:
            table = self.view.constant(node.input[1])
            axes = None if table is None else table.tolist()
        if lane is None or not axes or lane.axis in {axis % rank for axis in axes}:
            return False
        gone = 0 if integer(node, "keepdims", 1) else sum(axis % rank < lane.axis for axis in axes)
        self.lanes[node.output[0]] = Lane(lane.axis - gone, lane.units)
        return True

    def _reshaped(self, node: onnx.NodeProto) -> bool:
        """Follows every element: the channels of the output are the axis along which units still differ."""
        lane = self.lanes.get(node.input[0])
        if lane is None or any(name and name not in self.view.initialisers for name in node.input[1:]):
            return False
        if node.op_type == "Squeeze" and len(node.input) < 2 and attribute(node, "axes") is None:
            return False
        before, after = self.shapes[node.input[0]], self.shapes[node.output[0]]
        along = [1] * len(before)
        along[lane.axis] = -1
        elements = np.broadcast_to(lane.units.reshape(along), before)
        if node.op_type == "Transpose":
            elements = elements.transpose(integers(node, "perm") or tuple(range(len(before)))[::-1])
        elif node.op_type == "Expand":
            if before[lane.axis] == 1:
                return False
            elements = np.broadcast_to(elements, after)
        elif node.op_type in ("Tile", "DepthToSpace"):
            return False
        else:
            elements = elements.reshape(after)
        found = self._one_axis(elements)
        if found is None:
            return False
        self.lanes[node.output[0]] = found
        return True

    def _one_axis(self, elements: NDArray[np.int64]) -> Lane | None:
        """The lane of a tensor given element by element. Where units differ along two axes (a channel shuffle's), those
        along the shorter one are tied. None where that leaves none to remove."""
        axes = [axis for axis in range(elements.ndim) if (elements != elements.take([0], axis)).any()]
        if not axes:
            return None
        corner = tuple(slice(None) if axis in axes else 0 for axis in range(elements.ndim))
        small = elements[corner]
        axis = max(range(small.ndim), key=lambda a: small.shape[a])
        rows = np.moveaxis(small, axis, 0).reshape(small.shape[axis], -1)
        units = rows[:, 0]
        for column in rows.T[1:]:
            units = self._tie(units, column)
        return Lane(axes[axis], units)

    # result ----------------------------------------------------------------------------------------------------------

    def result(self) -> Channels:
        roots = np.array([self._root(unit) for unit in range(len(self.parents))] + [FIXED], np.int64)
        fixed = {self._root(unit): reason for unit, reason in self.fixed.items()}
        for unit in fixed:
            roots[roots == unit] = FIXED
        lanes = {name: Lane(lane.axis, roots[lane.units]) for name, lane in self.lanes.items()}
        slots = tuple(Slot(s.name, s.axis, roots[s.units], s.role, s.node) for s in self.slots)
        where: dict[int, set[str]] = {}
        for name, lane in lanes.items():
            for unit in np.unique(lane.units).tolist():
                where.setdefault(unit, set()).add(name)
        where.pop(FIXED, None)
        alike: dict[frozenset[str], list[int]] = {}
        for unit, names in where.items():
            alike.setdefault(frozenset(names), []).append(unit)
        made: dict[int, list[str]] = {}
        for slot in slots:
            if slot.role == "output":
                for unit in np.unique(slot.units).tolist():
                    made.setdefault(unit, []).append(slot.name)
        groups = tuple(
            Group(np.array(sorted(units), np.int64), tuple(made.get(min(units), ()))) for units in alike.values()
        )
        return Channels(lanes, slots, groups, self._refusals(fixed), self.shapes)

    def _refusals(self, fixed: Mapping[int, str]) -> tuple[str, ...]:
        lines = []
        for slot in self.slots:
            if slot.role != "output":
                continue
            reasons = {fixed[root] for root in {self._root(u) for u in slot.units.tolist() if u >= 0} if root in fixed}
            if reasons:
                lines.append(f"{slot.name}: its channels stay, since {'; '.join(sorted(reasons))}")
        understood = {slot.name for slot in self.slots if slot.role == "output"}
        for layer in self.view.layers:
            if layer.name not in understood:
                what = (
                    "its weights are quantised" if layer.quantised else f"a {layer.kind} of this form is not followed"
                )
                lines.append(f"{layer.name}: its channels stay, since {what}")
        return tuple(lines)


def slice_of(view: View, node: onnx.NodeProto, shape: Shape) -> dict[int, slice] | None:
    """What a Slice takes, by axis, with bounds inside the tensor; None where it is not constant."""
    if len(node.input) > 1:
        tables = [view.constant(name) if name else None for name in node.input[1:]]
        if tables[0] is None or tables[1] is None:
            return None
        starts, ends = tables[0].tolist(), tables[1].tolist()
        if any(name and view.constant(name) is None for name in node.input[3:5]):
            return None
        axes = tables[2].tolist() if len(tables) > 2 and tables[2] is not None else list(range(len(starts)))
        steps = tables[3].tolist() if len(tables) > 3 and tables[3] is not None else [1] * len(starts)
    else:
        starts, ends = list(integers(node, "starts")), list(integers(node, "ends"))
        axes, steps = list(integers(node, "axes", tuple(range(len(starts))))), [1] * len(starts)
    found = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= len(shape)
        found[axis] = slice(*slice(start, end, step).indices(shape[axis])) if step > 0 else slice(None, None, step)
    return found
