"""Operators of ONNX that move elements, in PyTorch, for any size of the batch.

Graphs are mostly exported for one image, and say so in the targets of their Reshape nodes. While a graph is prepared it
runs at its own batch and at twice of that; where a Reshape has to put the batch follows from where it lies before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from edge_vision.optimize.training.node_view import NodeView
from edge_vision.optimize.training.operators import DTYPES, Function, operator


def resolved(node: NodeView, target: Sequence[int]) -> list[int]:
    """The target of a Reshape at the reference batch: 0 copies, -1 takes the rest."""
    source = node.shape()
    zero_is_zero = bool(node.attribute("allowzero", 0))
    sizes = [source[i] if t == 0 and not zero_is_zero else t for i, t in enumerate(target)]
    if -1 in sizes:
        known = math.prod(t for t in sizes if t != -1)
        sizes[sizes.index(-1)] = math.prod(source) // max(known, 1)
    return sizes


def reshaped(node: NodeView, target: list[int]) -> Function:
    """A function that reshapes to `target` (at the reference batch), whatever the batch.

    The batch is the slowest part of its axis. What lies before that axis, in elements, lies before the batch also
    afterwards, so it becomes the slowest part of that axis before which the target has as many.
    """
    axis = node.batch_axis()
    if axis is None:
        return lambda x: x.reshape(target)
    source = node.shape()
    before = math.prod(source[:axis])
    place = next((i for i in range(len(target)) if math.prod(target[:i]) == before), None)
    if place is None:
        raise node.error(
            f"turns {list(source)} to {target}, which tears the images of a batch apart",
            "export the model with a free batch axis, or without this reshape",
        )
    reference, size = source[axis], target[place]

    def reshape(x: Tensor) -> Tensor:
        batch = x.shape[axis]
        if size * batch % reference:
            raise ValueError(f"a batch of {batch} does not fit {size} of {reference}")
        return x.reshape(*target[:place], size * batch // reference, *target[place + 1 :])

    return reshape


@operator("Reshape")
def _reshape(node: NodeView) -> Function:
    target = node.numbers(1, "the shape") if node.given(1) else [int(v) for v in node.attribute("shape")]
    node.take(0)
    return reshaped(node, resolved(node, target))


@operator("Flatten")
def _flatten(node: NodeView) -> Function:
    axis, source = int(node.attribute("axis", 1)), node.shape()
    axis = axis + len(source) if axis < 0 else axis
    return reshaped(node, [math.prod(source[:axis]), math.prod(source[axis:])])


@operator("Squeeze")
def _squeeze(node: NodeView) -> Function:
    axes, count = node.axes(1), len(node.shape())
    node.take(0)
    dims = {a % count for a in axes} if axes else {i for i, n in enumerate(node.shape()) if n == 1}
    return reshaped(node, [n for i, n in enumerate(node.shape()) if i not in dims])


@operator("Unsqueeze")
def _unsqueeze(node: NodeView) -> Function:
    axes = node.axes(1) or []
    node.take(0)
    count = len(node.shape()) + len(axes)
    dims = sorted(a % count for a in axes)

    def unsqueeze(x: Tensor) -> Tensor:
        for d in dims:
            x = x.unsqueeze(d)
        return x

    return unsqueeze


@operator("Transpose")
def _transpose(node: NodeView) -> Function:
    order = list(node.attribute("perm", list(range(len(node.shape())))[::-1]))
    return lambda x: x.permute(order)


@operator("Concat")
def _concat(node: NodeView) -> Function:
    axis = int(node.attribute("axis"))
    return lambda *values: torch.cat(values, axis)


@operator("Split")
def _split(node: NodeView) -> Function:
    axis = int(node.attribute("axis", 0))
    length, count = node.shape()[axis], len(node.proto.output)
    if node.given(1):
        sizes = node.numbers(1, "the sizes")
    elif node.attribute("split") is not None:
        sizes = [int(v) for v in node.attribute("split")]
    else:
        step = math.ceil(length / count)
        sizes = [min(step, length - i * step) for i in range(count)]
    _not_the_batch(node, axis)
    node.take(0)
    return lambda x: torch.split(x, sizes, axis)


@operator("Slice")
def _slice(node: NodeView) -> Function:
    source = node.shape()
    if node.given(1):
        starts, ends = node.numbers(1, "the starts"), node.numbers(2, "the ends")
    else:
        starts, ends = list(node.attribute("starts")), list(node.attribute("ends"))
    axes = node.axes(3) or list(range(len(starts)))
    steps = node.numbers(4, "the steps") if node.given(4) else [1] * len(starts)
    node.take(0)
    cuts: list[slice | Tensor] = [slice(None)] * len(source)
    reversed_axes: list[int] = []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= len(source)
        first, last, stride = slice(start, end, step).indices(source[axis])
        # A slice that goes backwards to the very beginning ends at -1, which slice() reads as the last element.
        chosen = range(source[axis])[slice(start, end if step > 0 or end >= -source[axis] else None, step)]
        if list(chosen) == list(range(source[axis])):
            continue
        _not_the_batch(node, axis)
        if stride > 0:
            cuts[axis] = slice(first, last, stride)
        else:
            reversed_axes.append(axis)
            cuts[axis] = torch.tensor(list(chosen), dtype=torch.int64)
    if not reversed_axes:
        index = tuple(cuts)
        return lambda x: x[index]

    def take(x: Tensor) -> Tensor:
        for axis in reversed_axes:
            x = x.index_select(axis, cuts[axis].to(x.device))  # type: ignore[union-attr]
        return x[tuple(c if isinstance(c, slice) else slice(None) for c in cuts)]

    return take


@operator("Gather")
def _gather(node: NodeView) -> Function:
    axis = int(node.attribute("axis", 0)) % len(node.shape())
    chosen = node.constants[1]
    if node.batch_axis() == axis:
        raise node.error("takes some images of a batch", "export the model with a free batch axis")
    if chosen is None:
        raise node.error("its indices depend on the image")
    node.take(0)
    length = node.shape()[axis]
    if chosen.ndim == 0:
        index = int(chosen) % length
        return lambda x: x.select(axis, index)
    flat = chosen.reshape(-1).to(torch.int64) % length
    if chosen.ndim == 1:
        return lambda x: x.index_select(axis, flat.to(x.device))
    return lambda x: x.index_select(axis, flat.to(x.device)).unflatten(axis, chosen.shape)


@operator("Expand")
def _expand(node: NodeView) -> Function:
    target = node.numbers(1, "the shape")
    node.take(0)
    source = node.shape()
    full = list(torch.broadcast_shapes(source, tuple(target)))
    axis = node.batch_axis()
    if axis is None:
        return lambda x: x.expand(full)
    full[axis + len(full) - len(source)] = -1
    return lambda x: x.expand(full)


@operator("Tile")
def _tile(node: NodeView) -> Function:
    counts = node.numbers(1, "the repeats")
    axis = node.batch_axis()
    if axis is not None and counts[axis] != 1:
        raise node.error("repeats the images of a batch")
    node.take(0)
    return lambda x: x.repeat(counts)


@operator("Shape")
def _shape(node: NodeView) -> Function:
    sizes = list(node.shape())[node.attribute("start", 0) : node.attribute("end")]
    node.take()
    return lambda: torch.tensor(sizes, dtype=torch.int64)


@operator("Range")
def _range(node: NodeView) -> Function:
    return lambda start, end, step: torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


@operator("ConstantOfShape")
def _constant_of_shape(node: NodeView) -> Function:
    import onnx

    value = node.attribute("value")
    filling = torch.zeros(1) if value is None else torch.from_numpy(onnx.numpy_helper.to_array(value).copy())
    return lambda sizes: filling.expand([int(s) for s in sizes]).contiguous()


@operator("Constant")
def _constant(node: NodeView) -> Function:
    import onnx

    for name, value in node.attributes.items():
        if name == "value":
            found = torch.from_numpy(onnx.numpy_helper.to_array(value).copy())
        elif name in ("value_float", "value_floats"):
            found = torch.tensor(value, dtype=torch.float32)
        elif name in ("value_int", "value_ints"):
            found = torch.tensor(value, dtype=torch.int64)
        else:
            continue
        kind = DTYPES[10] if found.dtype in (torch.float16, torch.float64) else found.dtype
        return lambda: found.to(kind)
    raise node.error("a constant that is neither a tensor nor numbers")


def _not_the_batch(node: NodeView, axis: int) -> None:
    if node.batch_axis() == axis % len(node.shape()):
        raise node.error("cuts the batch", "export the model with a free batch axis")
