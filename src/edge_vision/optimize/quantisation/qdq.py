"""A placement written into a graph: QuantizeLinear and DequantizeLinear pairs, weights as integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edge_vision.optimize.graphs.editing import bypass, drop_notes, remove_dead, replace_nodes
from edge_vision.optimize.graphs.view import Layer, View, integer
from edge_vision.optimize.quantisation.placement import Placement, data_inputs, key
from edge_vision.optimize.quantisation.scales import (
    Scale,
    activation_scale,
    is_clustered,
    quantised,
    weight_scales,
)

ZERO_PIXEL = {"uint8": (0, "uint8"), "int8": (-128, "int8")}


@dataclass(frozen=True)
class Form:
    """How the integers are written.

    activations: `int8` or `uint8`. weight_bits: 8, or 7 for processors that saturate. per_channel: a scale for every
    output channel, but for clustered weights. float_weights: weights and biases stay float32 and pass a
    QuantizeLinear, DequantizeLinear pair, which is what can be trained.
    """

    activations: str = "uint8"
    weight_bits: int = 8
    per_channel: bool = True
    float_weights: bool = False


@dataclass(frozen=True)
class Quantised:
    """proto: the graph; names: where to read a tensor of the float graph in it, where that has another name;
    per_tensor: layers whose weights have one scale because they are clustered."""

    proto: onnx.ModelProto
    names: Mapping[str, str] = field(default_factory=dict)
    per_tensor: tuple[str, ...] = ()


def write(
    proto: onnx.ModelProto, placement: Placement, ranges: Mapping[str, tuple[float, float]], form: Form
) -> Quantised:
    """The graph with its placement written in. ranges: of all of `placement.tensors` that share no other's scale."""
    return _Writer(proto, placement, ranges, form).result()


class _Writer:
    def __init__(
        self, proto: onnx.ModelProto, placement: Placement, ranges: Mapping[str, tuple[float, float]], form: Form
    ) -> None:
        self.proto = onnx.ModelProto()
        self.proto.CopyFrom(proto)
        placement = _without_factors(self.proto, placement)
        self.view = View(self.proto)
        self.placement = placement
        self.form = form
        self.scales = {
            name: activation_scale(*ranges[name], form.activations)
            for name in placement.tensors
            if name not in placement.same
        }
        if placement.pixels:
            self.scales[placement.image] = Scale(placement.pixel_scale, *ZERO_PIXEL[form.activations])
        # Pixels are uint8 as they come. A pair of their own costs nothing (ONNX Runtime takes it out again), and
        # OpenVINO makes an integer convolution of the first layer only where there is one.
        self.paired = {*placement.tensors, *((placement.image,) if placement.pixels else ())}
        for name, source in placement.same.items():
            self.scales[name] = self.scales[source]
        self.renamed: dict[str, str] = {}  # tensor -> the one that quantised nodes, and others, read instead
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, str] = {}
        self.per_tensor: list[str] = []

    def result(self) -> Quantised:
        placement = self.placement
        dropped = {output: behind for behind, output in placement.activations.items() if self._needless(behind)}
        gone = {key(self.view.producers[behind]) for behind in dropped.values()}
        outputs = set(self.view.outputs)
        for name in self.view.inputs:
            self._pair(name, outputs)
        for original in self.proto.graph.node:
            if key(original) in gone:
                continue
            node = onnx.NodeProto()
            node.CopyFrom(original)
            self._from_pixels(node)
            if key(original) in placement.layers:
                self._weights(node, placement.layers[key(original)])
            for place, name in enumerate(node.input):
                node.input[place] = self.renamed.get(name, name)
            for place, name in enumerate(node.output):
                node.output[place] = dropped.get(name, name)
            self.nodes.append(node)
            for place, name in enumerate(list(node.output)):
                if name in self.paired:
                    node.output[place] = self._pair(name, outputs)
        replace_nodes(self.proto, self.nodes)
        drop_notes(self.proto)
        remove_dead(self.proto)
        return Quantised(self.proto, dict(self.renamed), tuple(self.per_tensor))

    def _needless(self, behind: str) -> bool:
        """Whether the integers' own limits do what the activation that makes `behind` does."""
        scale, node = self.scales[behind], self.view.producers[behind]
        low, high = 0.0, np.inf
        if node.op_type == "Clip":
            bounds = [self.view.constant(name) if name else None for name in (*node.input[1:3], "", "")[:2]]
            low = -np.inf if bounds[0] is None else float(bounds[0])
            high = np.inf if bounds[1] is None else float(bounds[1])
        tolerance = 1e-3 * scale.scale
        return scale.low >= low - tolerance and scale.high <= high + tolerance

    def _from_pixels(self, node: onnx.NodeProto) -> None:
        """The Cast of the pixels becomes a DequantizeLinear: the first layer reads the image as it comes."""
        if self.placement.pixels and node.op_type == "Cast" and node.input[0] == self.placement.pixels:
            del node.attribute[:]
            node.op_type = "DequantizeLinear"
            # Without a zero point, which is 0: with one OpenCV 5.0's importer takes the pixels for signed.
            node.input.append(self._constant(np.float32(self.placement.pixel_scale)))

    def _pair(self, name: str, outputs: set[str]) -> str:
        """Adds the pair for `name`, where it has one; returns what its maker should call it."""
        if name not in self.paired:
            return name
        scale = self.scales[name]
        made = f"{name}/float" if name in outputs else name
        back = name if name in outputs else f"{name}/dq"
        parameters = [
            self._constant(np.float32(scale.scale)),
            self._constant(np.dtype(scale.dtype).type(scale.zero_point)),
        ]
        self.nodes.append(helper.make_node("QuantizeLinear", [made, *parameters], [f"{name}/q"]))
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{name}/q", *parameters], [back]))
        if back != name:
            self.renamed[name] = back
        return made

    def _weights(self, node: onnx.NodeProto, layer: Layer) -> None:
        weight = self.view.constant(layer.name)
        assert weight is not None  # the placement took it
        clustered = is_clustered(weight)
        axis: int | None = channel_axis(node)
        if clustered or not self.form.per_channel:
            axis = None
            if clustered:
                self.per_tensor.append(layer.name)
        source = self.scales[node.input[data_inputs(node)[0]]].scale
        bias = self.view.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        scales = weight_scales(weight, axis, bits=self.form.weight_bits, bias=bias, input_scale=source)
        node.input[1] = self._integers(layer.name, weight, scales, axis, "int8")
        output = layer.node.output[0]
        # A convolution with a float result has a float bias, too; a product has none the less an integer one.
        floating = node.op_type == "Conv" and output in self.placement.heads and output not in self.placement.tensors
        if bias is not None and not self.form.float_weights and not floating:
            bias_axis = None if axis is None else 0
            node.input[2] = self._integers(node.input[2], bias, scales * np.float32(source), bias_axis, "int32")

    def _integers(self, name: str, values: NDArray, scales: NDArray[np.float32], axis: int | None, dtype: str) -> str:
        """A constant behind its DequantizeLinear (and QuantizeLinear, for weights that are trained)."""
        attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
        scale = self._constant(scales)
        source = name
        if self.form.float_weights:
            source = f"{name}/q"
            zero = self._constant(np.zeros(scales.shape, dtype))
            self.nodes.append(helper.make_node("QuantizeLinear", [name, scale, zero], [source], **attributes))
        else:
            tensor = numpy_helper.from_array(quantised(values, scales, axis, dtype), name)
            self.view.initialisers[name].CopyFrom(tensor)
        self.nodes.append(helper.make_node("DequantizeLinear", [source, scale], [f"{name}/dq"], **attributes))
        return f"{name}/dq"

    def _constant(self, value: np.generic | NDArray) -> str:
        """An initialiser with this value; those that are alike are one."""
        array = np.asarray(value)
        content = f"{array.dtype}{array.shape}".encode() + array.tobytes()
        name = self.constants.get(content.hex())
        if name is None:
            name = self.constants[content.hex()] = (
                f"{'scale' if array.dtype == np.float32 else 'zero'}/{len(self.constants)}"
            )
            self.proto.graph.initializer.append(numpy_helper.from_array(array, name))
        return name


def _without_factors(proto: onnx.ModelProto, placement: Placement) -> Placement:
    """Takes out the nodes that scale the pixels: the DequantizeLinear that their Cast becomes does it."""
    image = placement.image
    view = View(proto)
    while image in placement.factors:
        node = view.producers[image]
        source = next(name for name in node.input if view.constant(name) is None)
        bypass(proto, node, source)
        image = source
    return replace(placement, image=image)


def channel_axis(node: onnx.NodeProto) -> int:
    """The axis of a layer's weights that counts its outputs."""
    if node.op_type == "Conv":
        return 0
    return 0 if node.op_type == "Gemm" and integer(node, "transB", 0) else 1
