"""Float graphs said in another way, exactly the same function, that integer kernels run faster.

ONNX Runtime's integer convolutions are channels-last and gather the channels of one pixel at a time: three bytes of an
image cost as much as sixteen. Times are of one core with AVX-512 VNNI, ONNX Runtime 1.31.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import helper

from edge_vision.optimize.graphs.editing import fresh_name, remove_dead, replace_nodes, set_initialisers
from edge_vision.optimize.graphs.shapes import Shape, static_shapes
from edge_vision.optimize.graphs.view import Layer, View, attribute, integers
from edge_vision.optimize.quantisation.stem import group_pixels, unit_pixels


def lower(proto: onnx.ModelProto, heads: Collection[str] = ()) -> tuple[str, ...]:
    """All of the below and of `stem`, in place; returns what was done, for people. heads: outputs of layers that lead
    to the tail."""
    done = []
    if unit_pixels(proto):
        done.append("pixels scaled to 0..1 in the first layer's weights")
    if group_pixels(proto):
        done.append("neighbouring pixels of a row joined for the first layer")
    repeated = repeat_nearest(proto)
    if repeated:
        done.append(f"{repeated} nearest-neighbour enlargements said as repetition of channels-last memory")
    products = heads_as_products(proto, heads)
    if products:
        done.append(f"{products} 1x1 convolutions before the decode tail said as matrix products")
    return tuple(done)


def repeat_nearest(proto: onnx.ModelProto) -> int:
    """In place: Resize nodes that repeat every pixel n times become an Expand of channels-last memory, whole rows of
    channels at a time; returns how many. (64 channels of 15 x 20 pixels to 30 x 40 in uint8: 0.21 to 0.05 ms.)"""
    shapes = static_shapes(proto)
    nodes: list[onnx.NodeProto] = []
    count = 0
    for node in list(proto.graph.node):
        factors = _repeats(node, shapes)
        if factors is None:
            nodes.append(node)
            continue
        count += 1
        name, output = node.input[0], node.output[0]
        _, channels, height, width = shapes[name]
        sizes = {
            "apart": [1, height, 1, width, 1, channels],
            "repeated": [1, height, factors[0], width, factors[1], channels],
            "joined": [1, height * factors[0], width * factors[1], channels],
        }
        shape = {key: fresh_name(proto, f"{output}/{key}/shape") for key in sizes}
        set_initialisers(proto, {shape[key]: np.array(size, np.int64) for key, size in sizes.items()})
        inner = [f"{output}/{step}" for step in ("last", *sizes)]
        nodes += [
            helper.make_node("Transpose", [name], [inner[0]], perm=[0, 2, 3, 1]),
            helper.make_node("Reshape", [inner[0], shape["apart"]], [inner[1]]),
            helper.make_node("Expand", [inner[1], shape["repeated"]], [inner[2]]),
            helper.make_node("Reshape", [inner[2], shape["joined"]], [inner[3]]),
            helper.make_node("Transpose", [inner[3]], [output], perm=[0, 3, 1, 2]),
        ]
    if count:
        replace_nodes(proto, nodes)
        remove_dead(proto)
    return count


def _repeats(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> tuple[int, int] | None:
    """(down, along) of a Resize that repeats every pixel that often, None for others."""
    if node.op_type != "Resize" or attribute(node, "mode", b"nearest") != b"nearest":
        return None
    before, after = shapes.get(node.input[0], ()), shapes.get(node.output[0], ())
    if len(before) != 4 or len(after) != 4 or before[:2] != after[:2] or before[0] != 1:
        return None
    if any(new % old for old, new in zip(before[2:], after[2:], strict=True)):
        return None
    down, along = (new // old for old, new in zip(before[2:], after[2:], strict=True))
    way = attribute(node, "coordinate_transformation_mode", b"half_pixel")
    rounding = attribute(node, "nearest_mode", b"round_prefer_floor")
    # Output i is to be input i // n. With half_pixel its source is at (i + 0.5) / n - 0.5, which is never half-way
    # between two inputs, and nearest to i // n.
    asymmetric = (way, rounding) == (b"asymmetric", b"floor")
    centred = way in (b"half_pixel", b"pytorch_half_pixel")
    to_nearest = rounding in (b"round_prefer_floor", b"round_prefer_ceil")
    return (down, along) if asymmetric or (centred and to_nearest) else None


def heads_as_products(proto: onnx.ModelProto, heads: Collection[str]) -> int:
    """In place: 1x1 convolutions that give one of `heads` become matrix products of channels-last pixels, returns how
    many. ONNX Runtime has an integer product with a float result, but no such convolution. (The bundled detector's four
    heads: 0.18 to 0.06 ms.)"""
    view = View(proto)
    shapes = static_shapes(proto)
    by_node = {layer.node.output[0]: layer for layer in view.layers}
    nodes: list[onnx.NodeProto] = []
    constants = {}
    count = 0
    for node in list(proto.graph.node):
        layer = by_node.get(node.output[0])
        if node.output[0] not in heads or layer is None or not _is_pointwise(view, layer, shapes):
            nodes.append(node)
            continue
        count += 1
        output = node.output[0]
        constants[layer.name] = np.asarray(view.constant(layer.name))[:, :, 0, 0].T.copy()
        last, product, image = (f"{output}/{step}" for step in ("last", "product", "image"))
        nodes.append(helper.make_node("Transpose", [node.input[0]], [last], perm=[0, 2, 3, 1]))
        nodes.append(helper.make_node("MatMul", [last, layer.name], [product]))
        # The bias is added channels first: beside the product ONNX Runtime would make a float Gemm of both, and rows
        # of a few channels are slow to add to.
        bias = view.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        made = image if bias is not None else output
        nodes.append(helper.make_node("Transpose", [product], [made], perm=[0, 3, 1, 2]))
        if bias is not None:
            constants[node.input[2]] = bias.reshape(1, -1, 1, 1)
            nodes.append(helper.make_node("Add", [image, node.input[2]], [output]))
    if constants:
        replace_nodes(proto, nodes)
        set_initialisers(proto, constants)
    return count


def _is_pointwise(view: View, layer: Layer, shapes: Mapping[str, Shape]) -> bool:
    node = layer.node
    weight = view.constant(layer.name)
    return (
        layer.kind == "Conv"
        and weight is not None
        and weight.shape[2:] == (1, 1)
        and layer.groups == 1
        and len(view.consumers[layer.name]) == 1
        and integers(node, "strides", (1, 1)) == (1, 1)
        and not any(integers(node, "pads", (0, 0, 0, 0)))
        and len(shapes.get(node.input[0], ())) == 4
        and (len(node.input) < 3 or len(view.consumers[node.input[2]]) == 1)
    )
