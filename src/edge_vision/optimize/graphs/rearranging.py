"""How nodes that move channels carry their units: joins, slices, gathers, resizings and reshapings.

Each function takes the follower, with the lanes of what the node reads, and the node; it notes the lanes of what the
node makes, and returns False for a form that it does not understand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_vision.optimize.graphs.shapes import Shape
from edge_vision.optimize.graphs.units import FIXED, Lane
from edge_vision.optimize.graphs.view import View, attribute, integer, integers

if TYPE_CHECKING:
    from edge_vision.optimize.graphs.following import Follower


def concat(follower: Follower, node: onnx.NodeProto) -> bool:
    rank = len(follower.shapes[node.output[0]])
    along = integer(node, "axis", 0) % rank
    axes = {follower.lanes[name].axis for name in node.input if name in follower.lanes}
    if len(axes) != 1 or any(name not in follower.shapes for name in node.input):
        return False
    axis = axes.pop()
    parts = [
        follower.lanes[name].units if name in follower.lanes else np.full(follower.shapes[name][axis], FIXED)
        for name in node.input
    ]
    if axis == along:
        # A constant part is no input that stays: it could be sliced, but nobody does that.
        units = np.concatenate(parts)
    else:
        units = parts[0]
        for part in parts[1:]:
            units = follower.units.tie(units, part)
    follower.lanes[node.output[0]] = Lane(axis, units)
    return True


def slice_(follower: Follower, node: onnx.NodeProto) -> bool:
    lane = follower.lanes.get(node.input[0])
    found = slice_of(follower.view, node, follower.shapes[node.input[0]])
    if lane is None or found is None:
        return False
    chosen = found.get(lane.axis, slice(None))
    if chosen.step not in (None, 1):
        return False
    follower.lanes[node.output[0]] = Lane(lane.axis, lane.units[chosen])
    return True


def split(follower: Follower, node: onnx.NodeProto) -> bool:
    lane = follower.lanes.get(node.input[0])
    if lane is None or any(name not in follower.shapes for name in node.output):
        return False
    along = integer(node, "axis", 0) % len(follower.shapes[node.input[0]])
    start = 0
    for name in node.output:
        stop = start + follower.shapes[name][lane.axis]
        follower.lanes[name] = Lane(lane.axis, lane.units[start:stop] if along == lane.axis else lane.units)
        start = stop
    # Without sizes the parts are equal ones: only where sizes are given can they be written anew.
    given = attribute(node, "split") is not None or (
        len(node.input) > 1 and node.input[1] in follower.view.initialisers
    )
    return along != lane.axis or given


def gather(follower: Follower, node: onnx.NodeProto) -> bool:
    lane = follower.lanes.get(node.input[0])
    indices = follower.view.constant(node.input[1])
    if lane is None or indices is None:
        return False
    along = integer(node, "axis", 0) % len(follower.shapes[node.input[0]])
    if along != lane.axis:
        axis = lane.axis + (indices.ndim - 1 if along < lane.axis else 0)
        follower.lanes[node.output[0]] = Lane(axis, lane.units)
        return True
    if indices.ndim != 1:
        return False
    follower.lanes[node.output[0]] = Lane(lane.axis, lane.units[indices])
    return True


def resize(follower: Follower, node: onnx.NodeProto) -> bool:
    lane = follower.lanes.get(node.input[0])
    axes = attribute(node, "axes")
    if lane is None or axes is not None or attribute(node, "keep_aspect_ratio_policy", b"stretch") != b"stretch":
        return False
    before, after = follower.shapes[node.input[0]], follower.shapes[node.output[0]]
    if before[lane.axis] != after[lane.axis]:
        return False
    if any(name and name not in follower.view.initialisers for name in node.input[1:]):
        return False
    follower.lanes[node.output[0]] = lane
    return True


def pad(follower: Follower, node: onnx.NodeProto) -> bool:
    lane = follower.lanes.get(node.input[0])
    before, after = follower.shapes[node.input[0]], follower.shapes[node.output[0]]
    if lane is None or before[lane.axis] != after[lane.axis]:
        return False
    follower.lanes[node.output[0]] = lane
    return True


def softmax(follower: Follower, node: onnx.NodeProto) -> bool:
    lane = follower.lanes.get(node.input[0])
    opset = next((item.version for item in follower.view.proto.opset_import if item.domain in ("", "ai.onnx")), 13)
    axis = integer(node, "axis", -1 if opset >= 13 else 1) % len(follower.shapes[node.input[0]])
    if lane is None or axis == lane.axis or (opset < 13 and axis <= lane.axis):
        return False
    follower.lanes[node.output[0]] = lane
    return True


def reduce(follower: Follower, node: onnx.NodeProto) -> bool:
    lane = follower.lanes.get(node.input[0])
    rank = len(follower.shapes[node.input[0]])
    axes: Sequence[int] | None = integers(node, "axes") or None
    if axes is None and len(node.input) > 1:
        table = follower.view.constant(node.input[1])
        axes = None if table is None else table.tolist()
    if lane is None or not axes or lane.axis in {axis % rank for axis in axes}:
        return False
    gone = 0 if integer(node, "keepdims", 1) else sum(axis % rank < lane.axis for axis in axes)
    follower.lanes[node.output[0]] = Lane(lane.axis - gone, lane.units)
    return True


def reshaped(follower: Follower, node: onnx.NodeProto) -> bool:
    """Follows every element: the channels of the output are the axis along which units still differ."""
    lane = follower.lanes.get(node.input[0])
    if lane is None or any(name and name not in follower.view.initialisers for name in node.input[1:]):
        return False
    if node.op_type == "Squeeze" and len(node.input) < 2 and attribute(node, "axes") is None:
        return False
    before, after = follower.shapes[node.input[0]], follower.shapes[node.output[0]]
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
    found = one_axis(follower, elements)
    if found is None:
        return False
    follower.lanes[node.output[0]] = found
    return True


def one_axis(follower: Follower, elements: NDArray[np.int64]) -> Lane | None:
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
        units = follower.units.tie(units, column)
    return Lane(axes[axis], units)


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


RULES: dict[str, Callable[[Follower, onnx.NodeProto], bool]] = {
    "Concat": concat,
    "Slice": slice_,
    "Split": split,
    "Gather": gather,
    "Resize": resize,
    "Upsample": resize,
    "Pad": pad,
    "Softmax": softmax,
    "LogSoftmax": softmax,
    **dict.fromkeys(
        ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare"), reduce
    ),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Transpose"), reshaped),
}
"""By operator."""
