"""Which layers a pass works on: all with weights, but for those that are named or known to suffer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edge_vision.optimize.graphs.view import Layer, View, integer


@dataclass(frozen=True)
class Selection:
    """only, exclude: layers by the name of their weights, or a regular expression for the whole of it; only: these
    alone, () for all. keep_first: not the layers that read the image, keep_depthwise: not convolutions of one channel a
    group, keep_heads: not the last layers before an output. least_size: not those with fewer weights."""

    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    keep_first: bool = True
    keep_depthwise: bool = True
    keep_heads: bool = True
    least_size: int = 256

    def __post_init__(self) -> None:
        for option in ("only", "exclude"):
            for pattern in getattr(self, option):
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise ValueError(f"{option}: {pattern!r} is no regular expression ({error})") from error
        if self.least_size < 0:
            raise ValueError(f"least_size is {self.least_size}: give a number of weights, 0 or more")


@dataclass(frozen=True)
class Chosen:
    """A layer to work on. weight: its float values, as the graph has them."""

    layer: Layer
    weight: NDArray[np.float32]

    @property
    def name(self) -> str:
        return self.layer.name

    @property
    def input_axis(self) -> int:
        """The axis of the weight along which inputs are summed (of a convolution: input channels)."""
        return input_axis(self.layer)


def input_axis(layer: Layer) -> int:
    """Of a layer's weight: the axis of the inputs that are summed up."""
    node = layer.node
    if node.op_type == "Gemm":
        return 1 if integer(node, "transB", 0) else 0
    if node.op_type == "MatMul":
        return -2 if node.input[1] == layer.name or layer.quantised else -1
    return 0 if node.op_type == "ConvTranspose" else 1


def matches(name: str, patterns: Iterable[str]) -> bool:
    return any(name == pattern or re.fullmatch(pattern, name) for pattern in patterns)


def choose(proto: onnx.ModelProto, selection: Selection) -> tuple[list[Chosen], list[str]]:
    """The layers, and why others are not among them, a line each. Constants must be initialisers
    (`editing.constants_to_initialisers`)."""
    view = View(proto)
    first, heads = _first(view), _heads(view)
    found: list[Chosen] = []
    refused: list[str] = []
    for name, layer in {layer.name: layer for layer in view.layers}.items():
        tensor = view.initialisers.get(name)
        reason = ""
        if selection.only and not matches(name, selection.only):
            continue
        if tensor is None:
            reason = "its weights are computed in the graph"
        elif matches(name, selection.exclude):
            reason = "excluded by name"
        elif tensor.data_type != onnx.TensorProto.FLOAT:
            kind = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
            reason = f"its weights are {kind}: put this step before the one that rounds them"
        elif selection.keep_first and name in first:
            reason = "reads the image (keep_first)"
        elif selection.keep_depthwise and layer.groups > 1 and layer.groups == tensor.dims[0]:
            reason = "depthwise (keep_depthwise)"
        elif selection.keep_heads and name in heads:
            reason = "makes an output (keep_heads)"
        elif np.prod(tensor.dims) < selection.least_size:
            reason = f"has {int(np.prod(tensor.dims))} weights (least_size)"
        if reason:
            refused.append(f"{name}: {reason}")
        else:
            assert tensor is not None
            found.append(Chosen(layer, numpy_helper.to_array(tensor)))
    return found, refused


def _first(view: View) -> set[str]:
    """Layers that an input reaches through no other layer."""
    layer_of = {id(layer.node): layer.name for layer in view.layers}
    found: set[str] = set()
    waiting, seen = list(view.inputs), set(view.inputs)
    while waiting:
        for node in view.consumers.get(waiting.pop(), []):
            if id(node) in layer_of:
                found.add(layer_of[id(node)])
                continue
            new = [name for name in node.output if name not in seen]
            seen.update(new)
            waiting += new
    return found


def _heads(view: View) -> set[str]:
    """Layers from which an output is reached through no other layer."""
    layer_of = {id(layer.node): layer.name for layer in view.layers}
    found: set[str] = set()
    waiting, seen = list(view.outputs), set(view.outputs)
    while waiting:
        node = view.producers.get(waiting.pop())
        if node is None:
            continue
        if id(node) in layer_of:
            found.add(layer_of[id(node)])
            continue
        new = [name for name in node.input if name and name not in seen]
        seen.update(new)
        waiting += new
    return found
