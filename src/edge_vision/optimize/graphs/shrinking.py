"""A graph without some of its channels: tensors really smaller, the sizes written in it adjusted."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edge_vision.inference.preprocess import InputSpec
from edge_vision.optimize.graphs.channels import Channels, find_channels
from edge_vision.optimize.graphs.editing import (
    constants_to_initialisers,
    drop_notes,
    fresh_name,
    remove_dead,
    set_initialisers,
)
from edge_vision.optimize.graphs.folding import fold
from edge_vision.optimize.graphs.rearranging import slice_of
from edge_vision.optimize.graphs.shapes import (
    Shape,
    input_shape,
    node_macs,
    set_input_shape,
    stated_outputs,
    static_shapes,
)
from edge_vision.optimize.graphs.units import Lane
from edge_vision.optimize.graphs.view import QUANTISED, View, attribute, integer

SIZES = frozenset(("Shape", "Size", "ConstantOfShape", "Range", "NonZero"))


def prepared(proto: onnx.ModelProto, spec: InputSpec) -> onnx.ModelProto:
    """A copy with the input's size stated (an open number of images stays open), constants as initialisers and sizes
    folded: what `find_channels` reads. Raises CannotRun where ONNX Runtime does not take the graph."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    stated = input_shape(copy)
    sizes: list[int | str] = list(spec.shape)
    if stated and isinstance(stated[0], str):
        sizes[0] = stated[0]
    set_input_shape(copy, sizes, spec.name)
    constants_to_initialisers(copy)
    shapes = static_shapes(copy)
    computed = any(node.op_type in SIZES for node in copy.graph.node)
    unknown = any(name and name not in shapes for node in copy.graph.node for name in node.output)
    if computed or unknown:
        copy = fold(copy, fuse=False)
        constants_to_initialisers(copy)
    remove_dead(copy)
    return copy


def is_quantised(proto: onnx.ModelProto) -> bool:
    """Whether integers stand in the graph already, whose scales would not fit other channels."""
    return any(node.op_type in QUANTISED or "Integer" in node.op_type for node in proto.graph.node)


def channels_of(proto: onnx.ModelProto) -> Channels:
    """The units of a `prepared` graph."""
    return find_channels(proto, static_shapes(proto))


class Costs:
    """Multiply-accumulates of a graph without some units, from the sizes alone."""

    def __init__(self, proto: onnx.ModelProto, channels: Channels) -> None:
        self.slots: dict[str, list[NDArray[np.int64]]] = {}
        for slot in channels.slots:
            if slot.role in ("output", "input"):
                self.slots.setdefault(slot.node.output[0], []).append(slot.units)
        self.macs: list[tuple[int, str]] = []
        for layer in View(proto).layers:
            node, shapes = layer.node, channels.shapes
            sizes = [shapes.get(name) for name in (node.input[0], node.input[1], node.output[0])]
            if any(size is None for size in sizes):
                continue
            source, weight, output = (size for size in sizes if size is not None)
            self.macs.append((node_macs(node, source, weight, output), node.output[0]))

        # All slots in one row, so that a choice is weighed in one go.
        rows = [units for slots in self.slots.values() for units in slots]
        self._units = np.concatenate(rows) if rows else np.zeros(1, np.int64)
        self._sizes = np.array([len(row) for row in rows])
        self._starts = np.cumsum([0, *self._sizes[:-1]])
        self._places: dict[str, list[int]] = {}
        place = 0
        for key, slots in self.slots.items():
            self._places[key] = list(range(place, place + len(slots)))
            place += len(slots)

    def total(self, removed: NDArray[np.int64] | None = None) -> int:
        """Multiply-accumulates an image, with these units (roots) gone."""
        if removed is None or not len(removed):
            return sum(macs for macs, _ in self.macs)
        gone = np.zeros(self._units.max() + 2, bool)  # the last element stands for FIXED (-1)
        gone[removed] = True
        parts = 1 - np.add.reduceat(gone[self._units], self._starts) / self._sizes
        kept = {key: math.prod(parts[place] for place in places) for key, places in self._places.items()}
        return round(sum(macs * kept.get(key, 1.0) for macs, key in self.macs))

    def of_units(self) -> dict[int, float]:
        """What removing each unit alone saves, in multiply-accumulates."""
        saved: dict[int, float] = {}
        for macs, key in self.macs:
            for units in self.slots.get(key, ()):
                for unit, count in zip(*np.unique(units, return_counts=True), strict=True):
                    saved[int(unit)] = saved.get(int(unit), 0.0) + macs * int(count) / len(units)
        return saved


def shrink(proto: onnx.ModelProto, channels: Channels, removed: NDArray[np.int64]) -> onnx.ModelProto:
    """A copy of a `prepared` graph without the units `removed` (roots, of `channels.groups`)."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    tables = {tensor.name: numpy_helper.to_array(tensor) for tensor in copy.graph.initializer}
    changed: dict[str, NDArray] = {}
    done: set[tuple[str, int]] = set()
    for slot in channels.slots:
        keep = ~np.isin(slot.units, removed)
        if keep.all() or (slot.name, slot.axis) in done:
            continue
        done.add((slot.name, slot.axis))
        changed[slot.name] = np.compress(keep, changed.get(slot.name, tables[slot.name]), slot.axis)
    lanes = {name: lane for name, lane in channels.lanes.items() if np.isin(lane.units, removed).any()}
    view = View(proto)
    for node in copy.graph.node:
        _adjust(copy, view, node, lanes, channels.shapes, removed)
    set_initialisers(copy, changed)
    remove_dead(copy)
    drop_notes(copy)
    stated_outputs(copy)
    return copy


def _adjust(
    proto: onnx.ModelProto,
    view: View,
    node: onnx.NodeProto,
    lanes: Mapping[str, Lane],
    shapes: Mapping[str, Shape],
    removed: NDArray[np.int64],
) -> None:
    """Rewrites the sizes, ranges and indices that a node states of its channels."""
    source = lanes.get(node.input[0]) if node.input else None
    if source is None:
        return
    keep = ~np.isin(source.units, removed)
    output = lanes.get(node.output[0])
    kind = node.op_type
    if kind == "Conv" and integer(node, "group", 1) > 1:
        _set_attribute(node, "group", int(keep.sum()))
    elif kind in ("Reshape", "Expand", "Resize", "Upsample"):
        place = 3 if kind == "Resize" else 1
        if kind == "Upsample" or len(node.input) <= place or not node.input[place] or output is None:
            return
        sizes = view.initialisers[node.input[place]]
        table = numpy_helper.to_array(sizes).copy()
        axis = output.axis + len(table) - len(shapes[node.output[0]])
        if axis >= 0 and table[axis] != -1 and not (kind == "Expand" and table[axis] == 1):
            table[axis] = int((~np.isin(output.units, removed)).sum())
            _own_table(proto, node, place, table)
    elif kind == "Slice":
        _adjust_slice(proto, view, node, source, shapes, keep)
    elif kind == "Split":
        along = integer(node, "axis", 0) % len(shapes[node.input[0]])
        if along == source.axis:
            bounds = np.cumsum([0] + [shapes[name][along] for name in node.output])
            counts = [int(keep[a:b].sum()) for a, b in itertools.pairwise(bounds)]
            if attribute(node, "split") is not None:
                _set_attribute(node, "split", counts)
            else:
                _own_table(proto, node, 1, np.array(counts, np.int64))
    elif kind == "Gather" and integer(node, "axis", 0) % len(shapes[node.input[0]]) == source.axis:
        indices = numpy_helper.to_array(view.initialisers[node.input[1]]) % len(keep)
        places = np.cumsum(keep) - 1
        _own_table(proto, node, 1, places[indices[keep[indices]]].astype(np.int64))


def _adjust_slice(
    proto: onnx.ModelProto,
    view: View,
    node: onnx.NodeProto,
    lane: Lane,
    shapes: Mapping[str, Shape],
    keep: NDArray[np.bool_],
) -> None:
    bounds = slice_of(view, node, shapes[node.input[0]])
    if bounds is None or lane.axis not in bounds:
        return
    chosen = bounds[lane.axis]
    start, stop = int(keep[: chosen.start].sum()), int(keep[: chosen.stop].sum())
    axes = list(bounds)  # in the order in which the node gives them
    place = axes.index(lane.axis)
    if len(node.input) > 1:
        for index, value in ((1, start), (2, stop)):
            table = numpy_helper.to_array(view.initialisers[node.input[index]]).copy()
            table[place] = value
            _own_table(proto, node, index, table)
    else:
        for key, value in (("starts", start), ("ends", stop)):
            values = list(attribute(node, key))  # type: ignore[call-overload]
            values[place] = value
            _set_attribute(node, key, values)


def _own_table(proto: onnx.ModelProto, node: onnx.NodeProto, index: int, table: NDArray) -> None:
    """Gives a node a constant of its own: others may read the same one."""
    name = fresh_name(proto, f"{node.output[0]}.{'sizes' if index != 1 or node.op_type == 'Reshape' else 'places'}")
    node.input[index] = name
    set_initialisers(proto, {name: table})


def _set_attribute(node: onnx.NodeProto, name: str, value: int | list[int]) -> None:
    kept = [item for item in node.attribute if item.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])
