"""The beginning of a network, said in another way, exactly the same function: how pixels come to the first layer.

Times are of one core with AVX-512 VNNI, ONNX Runtime 1.31.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from edge_vision.optimize.graphs.editing import fresh_name, remove_dead, replace_nodes, set_initialisers
from edge_vision.optimize.graphs.shapes import input_shape
from edge_vision.optimize.graphs.view import Layer, View, attribute, integers

UNIT = 255.0
"""Pixels enter as 0..1: of a scale of exactly 1 OpenVINO 2026.4 makes no integer convolution."""


@dataclass(frozen=True)
class _Stem:
    """How a graph begins. source: its input; transpose: to channels first; cast: to float, or None; factors: nodes that
    multiply by a number; values: the tensor that the layers read."""

    source: str
    transpose: onnx.NodeProto
    cast: onnx.NodeProto | None
    factors: tuple[onnx.NodeProto, ...]
    values: str


def _stem(view: View) -> _Stem | None:
    """The beginning of a graph that takes channels-last images, or None."""
    name = view.inputs[0]
    transpose = cast = None
    factors: list[onnx.NodeProto] = []
    while True:
        readers = view.consumers.get(name, [])
        if len(readers) != 1 or name in view.outputs:
            break
        node = readers[0]
        if node.op_type == "Transpose" and transpose is None and integers(node, "perm") == (0, 3, 1, 2):
            transpose = node
        elif node.op_type == "Cast" and cast is None:
            cast = node
        elif pixel_factor(view, node) is not None:
            factors.append(node)
        else:
            break
        name = node.output[0]
    return None if transpose is None else _Stem(view.inputs[0], transpose, cast, tuple(factors), name)


def pixel_factor(view: View, node: onnx.NodeProto) -> float | None:
    """What a node multiplies by, where it only multiplies or divides by one positive number; None for others."""
    if node.op_type not in ("Mul", "Div"):
        return None
    constants = [view.constant(name) for name in node.input]
    place = next((i for i, value in enumerate(constants) if value is not None and value.size == 1), None)
    if place is None or (node.op_type == "Div" and place == 0):
        return None
    number = float(np.asarray(constants[place]).reshape(()))
    if not number > 0:
        return None
    return number if node.op_type == "Mul" else 1 / number


def unit_pixels(proto: onnx.ModelProto) -> bool:
    """In place, for uint8 images that only layers with weights of their own read, perhaps behind a factor: the factor
    becomes 1/255, and the layers' weights take up the rest. False, and nothing changed, where the graph does not begin
    so."""
    view = View(proto)
    stem = _stem(view)
    if stem is None or stem.cast is None or _element_type(proto, stem.source) != onnx.TensorProto.UINT8:
        return False
    by_node = {layer.node.output[0]: layer for layer in view.layers}
    readers = view.consumers.get(stem.values, [])
    layers = [by_node.get(node.output[0]) for node in readers]
    if not layers or any(
        layer is None or layer.kind != "Conv" or len(view.consumers[layer.name]) > 1 for layer in layers
    ):
        return False
    factor = UNIT * math.prod(pixel_factor(view, node) or 1.0 for node in stem.factors)
    unit = fresh_name(proto, "pixels/unit")
    constants: dict[str, NDArray] = {unit: np.array(1 / UNIT, np.float32)}
    for layer in layers:
        assert layer is not None
        constants[layer.name] = (np.asarray(view.constant(layer.name)) * np.float32(factor)).astype(np.float32)
    values = fresh_name(proto, "pixels/0_to_1")
    gone = {node.output[0] for node in stem.factors}
    before = stem.values
    while before in gone:
        before = next(name for name in view.producers[before].input if view.constant(name) is None)
    for node in readers:
        node.input[0] = values
    nodes = [node for node in proto.graph.node if node.output[0] not in gone]
    first = min(place for place, node in enumerate(nodes) if values in node.input)
    replace_nodes(proto, [*nodes[:first], helper.make_node("Mul", [before, unit], [values]), *nodes[first:]])
    set_initialisers(proto, constants)
    remove_dead(proto)
    return True


def group_pixels(proto: onnx.ModelProto) -> bool:
    """In place, for images that only a strided first convolution reads: with channels last, neighbouring pixels of a
    row become one of more channels, which is the same memory, and the convolution steps by one along the row. Its
    weights are the old ones, with zeros between them. Where one step's pixels have no multiple of four channels, the
    pixels of several outputs are joined, and what comes out is taken apart, which is the same memory again. (6x6,
    stride 4, of the bundled detector: 0.53 to 0.37 ms; 3x3, stride 2, on 224 x 224 pixels: 1.0 to 0.4 ms.)

    False, and nothing changed, where the graph does not begin so.
    """
    view = View(proto)
    stem = _stem(view)
    source = view.inputs[0]
    values = source if stem is None else stem.values
    node = view.sole_consumer(values)
    layer = next((layer for layer in view.layers if layer.node is node), None)
    shape = input_shape(proto)
    if node is None or layer is None or len(shape) != 4 or not _can_group(view, layer, values):
        return False
    sizes_of = [int(size) for size in shape]
    height, width, channels = sizes_of[1:] if stem is not None else (*sizes_of[2:], sizes_of[1])
    weight = np.asarray(view.constant(layer.name))
    grouping = _grouping(node, weight, width, channels, may_pad=stem is not None)
    if grouping is None:
        return False
    down, step = integers(node, "strides", (1, 1))
    pads = integers(node, "pads", (0, 0, 0, 0))
    joined, rows = grouping.joined, weight.shape[2]
    grouped = np.zeros((joined, len(weight), grouping.span * channels, rows, grouping.reach), np.float32)
    for place, column in itertools.product(range(joined), range(weight.shape[3])):
        group, pixel = divmod(place * step + column - grouping.shift, grouping.span)
        where = slice(pixel * channels, (pixel + 1) * channels)
        grouped[place, :, where, :, group + grouping.before] = weight[..., column]
    weights = grouped.reshape(-1, *grouped.shape[2:])
    sizes = fresh_name(proto, "pixels/grouped/shape")
    constants: dict[str, NDArray] = {
        layer.name: weights,
        sizes: np.array([1, height, grouping.total // grouping.span, grouping.span * channels], np.int64),
    }
    nodes, read = [], source
    image = fresh_name(proto, "pixels/grouped")
    if stem is None:
        read = fresh_name(proto, "pixels/last")
        nodes.append(helper.make_node("Transpose", [source], [read], perm=[0, 2, 3, 1]))
    if grouping.total > width:
        amounts, read = fresh_name(proto, "pixels/padded/pads"), fresh_name(proto, "pixels/padded")
        constants[amounts] = np.array([0, 0, pads[1], 0, 0, 0, grouping.total - width - pads[1], 0], np.int64)
        nodes.append(helper.make_node("Pad", [source, amounts], [read]))
    nodes.append(helper.make_node("Reshape", [read, sizes], [image]))
    view.consumers[source][0].input[0] = image
    if stem is None:
        node.input[0] = fresh_name(proto, "pixels/first")
        nodes.append(helper.make_node("Transpose", [image], [node.input[0]], perm=[0, 3, 1, 2]))
    across = [pads[0], grouping.before, pads[2], grouping.after]
    _set_attributes(node, kernel_shape=[rows, grouping.reach], strides=[down, 1], pads=across)
    if joined > 1:
        if len(node.input) > 2 and node.input[2]:
            constants[node.input[2]] = np.tile(np.asarray(view.constant(node.input[2])), joined)
        high = (height + pads[0] + pads[2] - rows) // down + 1
        _take_apart(proto, view, node, [1, high, grouping.wide, len(weight)])
    replace_nodes(proto, [*nodes, *proto.graph.node])
    set_initialisers(proto, constants)
    return True


@dataclass(frozen=True)
class _Grouping:
    """joined: outputs that one position makes; span: pixels that become one; reach: such pixels that it reads; before,
    after: its padding in them; shift: pixels by which a position begins before its own; total: pixels of a row, with
    padding that is written out where it is more than the image's; wide: outputs of a row."""

    joined: int
    span: int
    reach: int
    before: int
    after: int
    shift: int
    total: int
    wide: int


def _grouping(node: onnx.NodeProto, weight: NDArray, width: int, channels: int, *, may_pad: bool) -> _Grouping | None:
    step = integers(node, "strides", (1, 1))[1]
    pads, columns = integers(node, "pads", (0, 0, 0, 0)), weight.shape[3]
    wide = (width + pads[1] + pads[3] - columns) // step + 1
    if channels > 4 or step == 1:
        return None
    joined = next((m for m in (1, 2, 4) if step * m * channels % 4 == 0 and wide % m == 0), 1)
    span, read = step * joined, (joined - 1) * step + columns  # pixels that a position reads
    if width % span:
        return None
    before = -(-pads[1] // span)
    reach = before + (read - 1 - pads[1]) // span + 1
    after = wide // joined - 1 + reach - before - width // span
    # Where that saves a pixel to read, padding is written out before instead of being the convolution's own.
    if may_pad and -(-read // span) < reach:
        reach = -(-read // span)
        total = (wide // joined - 1 + reach) * span
        return _Grouping(joined, span, reach, 0, 0, 0, total, wide) if total >= width + pads[1] else None
    return _Grouping(joined, span, reach, before, after, pads[1], width, wide) if after >= 0 else None


def _take_apart(proto: onnx.ModelProto, view: View, node: onnx.NodeProto, sizes: list[int]) -> None:
    """What a layer makes for several positions at a time, (1, n * C, H, W / n), as (1, C, H, W); behind its activation,
    which then stays the layer's own."""
    last = node
    reader = view.sole_consumer(node.output[0])
    if reader is not None and reader.op_type in ("Relu", "Clip"):
        last = reader
    output = last.output[0]
    joined, channels_last, apart = (fresh_name(proto, f"{output}/{step}") for step in ("joined", "last", "apart"))
    shape = fresh_name(proto, f"{output}/apart/shape")
    last.output[0] = joined
    behind = [
        helper.make_node("Transpose", [joined], [channels_last], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", [channels_last, shape], [apart]),
        helper.make_node("Transpose", [apart], [output], perm=[0, 3, 1, 2]),
    ]
    place = list(proto.graph.node).index(last) + 1
    replace_nodes(proto, [*proto.graph.node[:place], *behind, *proto.graph.node[place:]])
    set_initialisers(proto, {shape: np.array(sizes, np.int64)})


def _can_group(view: View, layer: Layer, values: str) -> bool:
    node = layer.node
    return (
        layer.kind == "Conv"
        and node.input[0] == values
        and layer.groups == 1
        and len(view.consumers[layer.name]) == 1
        and np.asarray(view.constant(layer.name)).ndim == 4
        and (
            len(node.input) < 3
            or (view.constant(node.input[2]) is not None and len(view.consumers[node.input[2]]) == 1)
        )
        and integers(node, "dilations", (1, 1)) == (1, 1)
        and attribute(node, "auto_pad", b"NOTSET") in (b"NOTSET", b"")
    )


def _set_attributes(node: onnx.NodeProto, **values: Sequence[int]) -> None:
    """Gives a node attributes, instead of those that it has of these names."""
    kept = [item.SerializeToString() for item in node.attribute if item.name not in values]
    del node.attribute[:]
    node.attribute.extend(onnx.AttributeProto.FromString(content) for content in kept)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in values.items())


def _element_type(proto: onnx.ModelProto, name: str) -> int:
    return next(value.type.tensor_type.elem_type for value in proto.graph.input if value.name == name)
