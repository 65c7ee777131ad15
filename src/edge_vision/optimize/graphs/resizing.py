"""A graph for another size of image: sizes that were written into it taken over to the new one.

What the exporter, or constant folding, computed from the old size stands in the graph as plain numbers. Those of
Reshape, Expand, Resize and Slice can be told from how the tensors around them change; a table of the old size (a grid
of anchors, an embedding of places, weights behind a Flatten) cannot, and is an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_vision.optimize.graphs.editing import fresh_name, set_initialisers
from edge_vision.optimize.graphs.shapes import Shape, set_input_shape, static_shapes
from edge_vision.optimize.graphs.view import View, attribute, integers

END = np.iinfo(np.int64).max


class BakedIn(Exception):
    """The graph holds something of the old size that cannot be made anew: which node, and what."""


def resize_input(proto: onnx.ModelProto, shape: Sequence[int | str], name: str = "") -> list[str]:
    """Gives the input another size, in place, in a graph that was `shrinking.prepared`; returns the nodes whose sizes
    were written anew. Raises BakedIn."""
    old = static_shapes(proto)
    set_input_shape(proto, shape, name)
    changed = []
    # A node at a time, in order: what is found for one tells the sizes of the next.
    for index in range(len(proto.graph.node)):
        node = proto.graph.node[index]
        before = old.get(node.output[0])
        if before is None:
            raise BakedIn(f"{_called(node)}: its size is not known before it runs")
        if _adjusted(proto, node, old) or _made_global(proto, node, old):
            changed.append(_called(node))
    new = static_shapes(proto)
    for node in proto.graph.node:
        for output in filter(None, node.output):
            if output not in new:
                raise BakedIn(f"{_called(node)} does not take the new size ({_sizes(node, new)})")
    return changed


def _called(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name or node.output[0]}"


def _sizes(node: onnx.NodeProto, shapes: dict[str, Shape]) -> str:
    return ", ".join("x".join(map(str, shapes[name])) if name in shapes else "?" for name in node.input if name)


def _adjusted(proto: onnx.ModelProto, node: onnx.NodeProto, old: dict[str, Shape]) -> bool:
    """Whether the node's sizes were written anew."""
    if node.op_type not in ("Reshape", "Expand", "Resize", "Slice"):
        return False
    view = View(proto)
    if node.op_type == "Slice":
        return _open_slice(proto, view, node, old)
    place = 3 if node.op_type == "Resize" else 1
    if len(node.input) <= place or not node.input[place]:
        return False
    target = view.constant(node.input[place])
    if target is None:
        return False
    new = _shapes_up_to(proto, node)
    source = node.input[0]
    if source not in new or new[source] == old[source]:
        return False
    if node.op_type == "Reshape":
        found = _reshape(target, old[source], new[source], old[node.output[0]], _pairs(view, node, old, new))
        if found is None:
            sizes = "x".join(map(str, target.tolist()))
            raise BakedIn(f"{_called(node)} asks for {sizes}, of which the new size cannot be told")
    elif node.op_type == "Resize":
        found = _resize(target, old[source], new[source])
        if found is None:
            raise BakedIn(f"{_called(node)} asks for {target.tolist()}, no whole multiple of its input")
    else:
        found = target.copy()
        offset = len(old[node.output[0]]) - len(target)
        for axis in range(len(target)):
            inner = axis + offset - (len(old[node.output[0]]) - len(old[source]))
            if inner >= 0 and target[axis] == old[source][inner] != 1:
                found[axis] = new[source][inner]
    if (found == target).all():
        return False
    name = fresh_name(proto, f"{node.output[0]}.sizes")
    node.input[place] = name
    set_initialisers(proto, {name: np.asarray(found, np.int64)})
    return True


def _shapes_up_to(proto: onnx.ModelProto, node: onnx.NodeProto) -> dict[str, Shape]:
    """Sizes of what comes before a node. (Behind it the old numbers may still contradict each other.)"""
    front = onnx.ModelProto()
    front.CopyFrom(proto)
    place = next(i for i, other in enumerate(front.graph.node) if other.output[0] == node.output[0])
    del front.graph.node[place:]
    del front.graph.output[:]
    return static_shapes(front)


def _pairs(
    view: View, node: onnx.NodeProto, old: dict[str, Shape], new: dict[str, Shape]
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Rows and columns, old and new, of the maps that lead to a node, the nearest first."""
    found: list[tuple[tuple[int, int], tuple[int, int]]] = []
    waiting, seen = [node.input[0]], set()
    while waiting:
        name = waiting.pop(0)
        if name in seen or (name not in view.producers and name not in view.inputs):
            continue
        seen.add(name)
        if len(old.get(name, ())) == 4 and len(new.get(name, ())) == 4:
            changed = [axis for axis in range(4) if old[name][axis] != new[name][axis]]
            if changed:
                # The two that change, or the one and its neighbour: rows come before columns in all layouts.
                axes = (2, 3) if min(changed) >= 2 else (1, 2)
                pair = (
                    (old[name][axes[0]], old[name][axes[1]]),
                    (new[name][axes[0]], new[name][axes[1]]),
                )
                if pair not in found:
                    found.append(pair)
        if name in view.producers:
            waiting.extend(filter(None, view.producers[name].input))
    return found


def _reshape(
    target: NDArray,
    old_in: Shape,
    new_in: Shape,
    old_out: Shape,
    pairs: Iterable[tuple[tuple[int, int], tuple[int, int]]],
) -> NDArray | None:
    """The new target of a Reshape, or None."""
    wanted = math.prod(new_in)
    open_axis = next((axis for axis in range(len(target)) if target[axis] == -1), None)

    def fits(sizes: Sequence[int]) -> bool:
        product = math.prod(size for axis, size in enumerate(sizes) if axis != open_axis)
        return product == wanted if open_axis is None else product > 0 and wanted % product == 0

    explicit = [new_in[axis] if target[axis] == 0 else int(target[axis]) for axis in range(len(target))]
    spatial = {size for sizes in (old_in,) for size, now in zip(sizes, new_in, strict=True) if size != now}
    candidates: list[list[int]] = []
    # What stands where the input has the same size changes with it.
    same = list(explicit)
    for axis, size in enumerate(explicit):
        if axis < len(old_in) and size == old_in[axis] and target[axis] > 0:
            same[axis] = new_in[axis]
    candidates.append(same)
    for (old_rows, old_columns), (rows, columns) in pairs:
        changed = list(explicit)
        axis = 0
        while axis < len(changed):
            here = changed[axis : axis + 2]
            if axis + 1 < len(changed) and here == [old_rows, old_columns]:
                changed[axis : axis + 2] = [rows, columns]
                axis += 2
                continue
            if changed[axis] == old_rows * old_columns:
                changed[axis] = rows * columns
            axis += 1
        candidates.append(changed)
    if open_axis is not None and not spatial & set(explicit):
        candidates.insert(0, explicit)
    for sizes in candidates:
        if fits(sizes):
            kept = [0 if target[axis] == 0 else size for axis, size in enumerate(sizes)]
            return np.array(kept, np.int64)
    # One number alone that has to make up for the rest, such as the cells of all levels together.
    if open_axis is None:
        for axis in range(len(explicit)):
            rest = math.prod(size for other, size in enumerate(explicit) if other != axis)
            single = sum(size != now for size, now in zip(old_in, new_in, strict=True)) == 1
            if single and rest and wanted % rest == 0 and explicit[axis] in spatial:
                return np.array([*explicit[:axis], wanted // rest, *explicit[axis + 1 :]], np.int64)
    return None


def _resize(target: NDArray, old_in: Shape, new_in: Shape) -> NDArray | None:
    """New sizes of a Resize by the same whole factor, or None."""
    found = []
    for size, before, now in zip(target.tolist(), old_in, new_in, strict=True):
        if size * now % before:
            return None
        found.append(size * now // before)
    return np.array(found, np.int64)


def _open_slice(proto: onnx.ModelProto, view: View, node: onnx.NodeProto, old: dict[str, Shape]) -> bool:
    """Ends that were the old size become the end of the axis, whatever it is. Raises BakedIn for other places."""
    new = _shapes_up_to(proto, node)
    source = node.input[0]
    if source not in new or source not in old or new[source] == old[source]:
        return False
    if len(node.input) > 1:
        starts, ends = view.constant(node.input[1]), view.constant(node.input[2])
        axes_table = view.constant(node.input[3]) if len(node.input) > 3 and node.input[3] else None
    else:
        starts, ends = (np.array(integers(node, key)) for key in ("starts", "ends"))
        axes_table = np.array(integers(node, "axes")) if attribute(node, "axes") is not None else None
    if starts is None or ends is None:
        raise BakedIn(f"{_called(node)}: what it takes is computed while it runs")
    axes = list(range(len(starts))) if axes_table is None else (axes_table % len(old[source])).tolist()
    opened = ends.astype(np.int64).copy()
    for place, axis in enumerate(axes):
        size = old[source][axis]
        if new[source][axis] == size:
            continue
        if opened[place] == size:
            opened[place] = END
        inside = 1 < abs(int(starts[place])) < size or 1 < abs(int(opened[place])) < size
        if inside:  # 0, 1 and -1 are the offsets of patches and shifts
            raise BakedIn(f"{_called(node)} takes {starts[place]} to {ends[place]} of {size} rows or columns")
    if (opened == ends).all():
        return False
    if len(node.input) > 1:
        name = fresh_name(proto, f"{node.output[0]}.ends")
        node.input[2] = name
        set_initialisers(proto, {name: opened})
    else:
        kept = [item for item in node.attribute if item.name != "ends"]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute("ends", opened.tolist())])
    return True


def _made_global(proto: onnx.ModelProto, node: onnx.NodeProto, old: dict[str, Shape]) -> bool:
    """A pool as large as its map was the mean, or the largest, of all places: it stays so."""
    if node.op_type not in ("AveragePool", "MaxPool"):
        return False
    before = old[node.input[0]]
    if integers(node, "kernel_shape") != before[2:] or any(integers(node, "pads")):
        return False
    if _shapes_up_to(proto, node).get(node.input[0]) == before:
        return False
    if len(node.output) > 1:
        raise BakedIn(f"{_called(node)} is as large as its map was")
    node.op_type = f"Global{node.op_type}"
    del node.attribute[:]
    return True
