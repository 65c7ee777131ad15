"""Where 8-bit integers go in a graph: which layers and tensors are quantised, and which stay float.

The rules, in the order in which they are applied:

* Layers with weights (Conv, Gemm, MatMul) are quantised, but for those that are excluded.
* The decode tail stays float: every node behind the last layers with weights (or pooling), such as Sigmoid, Slice,
  Concat, Reshape, Softmax and the arithmetic of boxes. One scale for a tensor that holds boxes in 0..640 beside scores
  in 0..1 leaves two or three steps for the scores, which is how quantised detectors come to find nothing. The tensors
  between the last layers and the tail (`heads`) have no scale of their own either, unless `int8_heads`.
* Between quantised layers, operators that runtimes compute in integers (sums, pooling, resizing, concatenation,
  moving) are quantised too, where all they read is; the rest (HardSwish, Softmax, ...) computes in float between a
  DequantizeLinear and a QuantizeLinear.
* A small product of one row at the end, a classifier's last layer, stays float (`small_ends`).
* A Relu or Clip directly behind a layer is part of it: the tensor behind the activation has the scale, and the
  activation itself goes where the smallest and largest integer do its work.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import onnx

from edge_vision.optimize.graphs.shapes import Shape
from edge_vision.optimize.graphs.view import Layer, View, attribute, integer
from edge_vision.optimize.quantisation.stem import pixel_factor

LAYERS = ("Conv", "Gemm", "MatMul")
ACTIVATIONS = ("Relu", "Clip")
POOLING = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean")
MOVING = (
    "MaxPool",
    "Reshape",
    "Transpose",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Slice",
    "Split",
    "DepthToSpace",
    "Expand",
)
"""The values that come out are values that went in: one scale on both sides."""
COMPUTING = ("Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "LeakyRelu")
"""Computed in integers with a scale of their own at the output."""


@dataclass(frozen=True)
class Placement:
    """layers: those quantised, by the key of their node. nodes: keys of all quantised nodes (a node's key is its first
    output). tensors: what gets a scale, in the graph's order. same: tensor -> the one whose scale it shares.
    activations: tensor -> the layer's own output, where an activation lies between and belongs to the layer. heads:
    what the tail reads. refused: layer -> why it stays float. image: the tensor that has the pixels' values; pixels:
    the uint8 tensor that it comes from, "" where the input is float; pixel_scale: what one step of `pixels` is in
    `image`; factors: outputs of the nodes that multiply by that."""

    layers: Mapping[str, Layer]
    nodes: frozenset[str]
    tensors: tuple[str, ...]
    same: Mapping[str, str] = field(default_factory=dict)
    activations: Mapping[str, str] = field(default_factory=dict)
    heads: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    pixels: str = ""
    pixel_scale: float = 1.0
    factors: frozenset[str] = frozenset()


SMALL_END = 0.01
"""Part of all weights that a classifier's last layer may have to stay float."""


def key(node: onnx.NodeProto) -> str:
    """A node by what it makes; names may be missing, or not unique."""
    return next(name for name in node.output if name)


def data_inputs(node: onnx.NodeProto) -> tuple[int, ...]:
    """The places at which a node reads what may be quantised: not weights, sizes or axes."""
    if node.op_type in ("Add", "Mul"):
        return (0, 1)
    return tuple(range(len(node.input))) if node.op_type == "Concat" else (0,)


def place(
    view: View, excluded: Collection[str] = (), *, ends: Collection[str] = (), int8_heads: bool = False
) -> Placement:
    """The placement in a graph that `preparing.prepare` made. excluded: names of layers that stay float; ends:
    of those that do and belong to the tail (`small_ends`)."""
    layers, refused = _quantised_layers(view, (*excluded, *ends))
    tail = tail_nodes(view, ends)
    image, pixels, pixel_scale, factors = _image(view)
    held = {image} - {""}  # tensors that have integers behind them
    nodes: set[str] = set()
    same: dict[str, str] = {}
    activations: dict[str, str] = {}
    heads: list[str] = []
    wanted: set[str] = set()
    for node in view.proto.graph.node:
        name = key(node)
        if name not in layers and (name in tail or not _computed_in_integers(view, node, held)):
            continue
        nodes.add(name)
        wanted.update(node.input[place] for place in data_inputs(node))
        for output in filter(None, node.output):
            behind = _activation_behind(view, output) if name in layers or node.op_type == "Add" else output
            if _read_by_tail_alone(view, behind, tail) or (
                behind != output and _read_by_tail_alone(view, output, tail)
            ):
                heads.append(output)
                if not int8_heads or name not in layers:
                    continue
                behind = output
            if behind != output:
                activations[behind] = output
            if node.op_type in MOVING or _nearest(node):
                same[behind] = same.get(node.input[0], node.input[0])
            held.add(behind)
            wanted.add(behind)
    wanted.discard(pixels and image)
    everything = [*view.inputs, *(name for node in view.proto.graph.node for name in node.output)]
    tensors = tuple(name for name in everything if name in wanted)
    return Placement(
        layers,
        frozenset(nodes),
        tensors,
        same,
        activations,
        tuple(heads),
        refused,
        image,
        pixels,
        pixel_scale,
        frozenset(factors),
    )


def small_ends(view: View, shapes: Mapping[str, Shape]) -> tuple[str, ...]:
    """Names of the layers with no other behind them that multiply one row by a matrix, a classifier's last, as far as
    they are a small part of all weights: in float they are faster in ONNX Runtime and OpenVINO (by 4 % of a
    MobileNetV2 of 96 x 96 pixels), and make the file hardly larger."""
    largest = SMALL_END * sum(math.prod(shapes.get(layer.name, ())) for layer in view.layers)
    last = tail_nodes(view, [layer.name for layer in view.layers if layer.kind != "Conv"])
    return tuple(
        layer.name
        for layer in view.layers
        if key(layer.node) in last
        and math.prod(shapes.get(layer.node.input[0], (0,))[:-1]) == 1
        and math.prod(shapes.get(layer.name, ())) <= largest
    )


def tail_nodes(view: View, without: Collection[str] = ()) -> frozenset[str]:
    """Keys of the nodes behind the last layers with weights, those named left aside, and the last pooling."""
    anchors = {key(layer.node) for layer in view.layers if layer.name not in without}
    anchors |= {key(node) for node in view.proto.graph.node if node.op_type in POOLING}
    leading: set[str] = set()  # nodes with an anchor somewhere behind them
    for node in reversed(view.proto.graph.node):
        readers = [key(reader) for name in node.output for reader in view.consumers.get(name, [])]
        if any(reader in anchors or reader in leading for reader in readers):
            leading.add(key(node))
    return frozenset(key(node) for node in view.proto.graph.node) - leading - anchors


def _quantised_layers(view: View, excluded: Collection[str]) -> tuple[dict[str, Layer], dict[str, str]]:
    layers: dict[str, Layer] = {}
    refused: dict[str, str] = {}
    for layer in view.layers:
        reason = _obstacle(view, layer)
        if reason:
            refused[layer.name] = reason
        elif layer.name not in excluded:
            layers[key(layer.node)] = layer
    return layers, refused


def _obstacle(view: View, layer: Layer) -> str:
    node = layer.node
    weight = view.constant(layer.name)
    if layer.kind not in LAYERS:
        return f"no runtime computes {layer.kind} in 8 bits"
    if weight is None or weight.dtype != "float32":
        return f"its weights are {'no constant' if weight is None else weight.dtype}, not float32"
    if layer.kind == "MatMul" and (view.source(node.input[1])[0] != layer.name or weight.ndim != 2):
        return "only products with a constant matrix on the right are computed in 8 bits"
    if layer.kind == "Gemm" and (
        integer(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "beta", 1.0) != 1.0
    ):
        return "it transposes or scales its operands"
    if node.input[1] != layer.name:
        return "its weights are computed"
    if len(view.consumers[layer.name]) > 1:
        return "its weights are shared with another layer"
    if len(node.input) > 2 and node.input[2] and view.constant(node.input[2]) is None:
        return "its bias is computed"
    return ""


def _computed_in_integers(view: View, node: onnx.NodeProto, held: Collection[str]) -> bool:
    if node.op_type not in (*MOVING, *COMPUTING) and not _nearest(node):
        return False
    return all(node.input[place] in held for place in data_inputs(node))


def _nearest(node: onnx.NodeProto) -> bool:
    return node.op_type == "Resize" and attribute(node, "mode", b"nearest") == b"nearest"


def _activation_behind(view: View, name: str) -> str:
    """The tensor behind the Relu or Clip that alone reads `name`, or `name`."""
    reader = view.sole_consumer(name)
    if reader is None or reader.op_type not in ACTIVATIONS:
        return name
    if any(view.constant(bound) is None for bound in reader.input[1:] if bound):
        return name
    return reader.output[0]


def _read_by_tail_alone(view: View, name: str, tail: Collection[str]) -> bool:
    return all(key(reader) in tail for reader in view.consumers.get(name, []))


def _image(view: View) -> tuple[str, str, float, tuple[str, ...]]:
    """(tensor that has the pixels' values, the uint8 tensor that a Cast makes it from or "", the scale between, the
    outputs of the nodes that apply it); no tensors where pixels are computed with before they are cast."""
    name = view.inputs[0]
    pixels, scale, factors = "", 1.0, []
    if _element_type(view, name) == onnx.TensorProto.FLOAT:
        return name, "", 1.0, ()
    while True:
        readers = view.consumers.get(name, [])
        if len(readers) != 1 or name in view.outputs:
            break
        node = readers[0]
        factor = pixel_factor(view, node) if pixels else None
        if node.op_type == "Cast" and not pixels and integer(node, "to", 0) == onnx.TensorProto.FLOAT:
            pixels = name
        elif factor is not None:
            scale *= factor
            factors.append(node.output[0])
        elif node.op_type not in ("Transpose", "Reshape") and (node.op_type != "Pad" or pixels):
            break
        name = node.output[0]
    return (name, pixels, scale, tuple(factors)) if pixels else ("", "", 1.0, ())


def _element_type(view: View, name: str) -> int:
    return next(value.type.tensor_type.elem_type for value in view.proto.graph.input if value.name == name)
