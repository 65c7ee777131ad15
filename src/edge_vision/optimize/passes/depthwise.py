"""Convolutions replaced by depthwise-separable ones: a filter a channel, then a mixture of channels."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from edge_vision.optimize.graphs.editing import drop_notes, fresh_name, remove_dead, replace_nodes, set_initialisers
from edge_vision.optimize.graphs.running import CannotRun
from edge_vision.optimize.graphs.shapes import Shape, multiply_accumulates, stated_outputs, static_shapes
from edge_vision.optimize.graphs.shrinking import is_quantised, prepared
from edge_vision.optimize.graphs.view import Layer, View
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, Outcome, PassError

NAME = "depthwise"
SUMMARY = "replace k x k convolutions by depthwise and pointwise ones"
NEEDS: frozenset[str] = frozenset()
COPIED = ("pads", "strides", "dilations", "auto_pad")


@dataclass(frozen=True)
class Options:
    """layers: patterns of the weights' names to replace; exclude: those to leave. rank: filters for each input channel;
    more are nearer to the original and cost more. least_energy: part of the weights' energy that the replacement has to
    hold. least_saving: factor by which a layer's multiply-accumulates have to fall."""

    layers: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    rank: int = 1
    least_energy: float = 0.0
    least_saving: float = 1.2

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}: give 1 or more filters for each channel")
        if not 0 <= self.least_energy <= 1:
            raise ValueError(f"least_energy is {self.least_energy}: give a part, from 0 to 1")
        if self.least_saving < 1:
            raise ValueError(f"least_saving is {self.least_saving}: give a factor of 1 or more")


def apply(network: Network, options: Options, context: Context) -> Outcome:
    """The network with separable convolutions (Howard et al. 2017, arXiv:1704.04861), each begun at the nearest one to
    the convolution that was there. Accuracy falls, for most networks to nothing: fine-tune or distil afterwards."""
    if is_quantised(network.proto):
        raise PassError(NAME, "the network is quantised already", "put this step before the quantisation")
    try:
        proto = prepared(network.proto, network.input)
    except CannotRun as error:
        raise PassError(NAME, f"ONNX Runtime does not take this graph ({error})", "correct the model") from error
    view, shapes = View(proto), static_shapes(proto)
    before = sum(multiply_accumulates(proto, shapes).values())
    done: dict[str, Any] = {}
    refused, nodes = [], []
    tables: dict[str, NDArray] = {}
    layers = {layer.node.output[0]: layer for layer in view.layers}
    for node in proto.graph.node:
        layer = layers.get(node.output[0])
        weight = view.constant(layer.name) if layer is not None else None
        if layer is None or weight is None or not _asked(layer, options):
            nodes.append(node)
            continue
        reason = _reason(view, layer, weight, options, shapes)
        pair = None if reason else separated(weight, options.rank)
        if pair is not None and pair[2] < options.least_energy:
            reason = f"only {pair[2]:.2f} of its energy would stay, less than {options.least_energy:g}"
        if reason or pair is None:
            if weight.ndim == 4 and max(weight.shape[2:]) > 1:
                refused.append(f"{layer.name}: {reason}")
            nodes.append(node)
            continue
        depth, point, energy = pair
        middle = fresh_name(proto, f"{node.output[0]}.depthwise")
        names = [fresh_name(proto, f"{layer.name}.{part}") for part in ("depthwise", "pointwise")]
        tables |= dict(zip(names, (depth, point), strict=True))
        kept = [item for item in node.attribute if item.name in COPIED]
        first = helper.make_node("Conv", [node.input[0], names[0]], [middle], f"{node.name}.depthwise")
        first.attribute.extend([*kept, helper.make_attribute("group", weight.shape[1])])
        first.attribute.append(helper.make_attribute("kernel_shape", list(weight.shape[2:])))
        second = helper.make_node(
            "Conv", [middle, names[1], *node.input[2:]], list(node.output), f"{node.name}.pointwise"
        )
        second.attribute.append(helper.make_attribute("kernel_shape", [1, 1]))
        nodes += [first, second]
        done[layer.name] = {"energy": round(energy, 4), "shape": list(weight.shape)}
    if not done:
        reasons = "; ".join(refused[:3]) or "none of its layers is a k x k convolution that was asked for"
        raise PassError(
            NAME, f"no convolution can be replaced ({reasons})", "leave this step out, or change its options"
        )
    replace_nodes(proto, nodes)
    set_initialisers(proto, tables)
    remove_dead(proto)
    drop_notes(proto)
    stated_outputs(proto)
    after = sum(multiply_accumulates(proto).values())
    facts = {"layers": done, "macs": [before, after], "kept_macs": round(after / before, 4), "needs": "training"}
    return Outcome(network.with_graph(proto), facts, tuple(refused))


def _asked(layer: Layer, options: Options) -> bool:
    return any(fnmatchcase(layer.name, p) for p in options.layers) and not any(
        fnmatchcase(layer.name, p) for p in options.exclude
    )


def _reason(view: View, layer: Layer, weight: NDArray, options: Options, shapes: dict[str, Shape]) -> str:
    """Why a layer stays, "" where it need not."""
    if layer.kind != "Conv" or weight.ndim != 4:
        return f"a {layer.kind}, not a convolution of images"
    outputs, inputs, height, width = weight.shape
    if layer.groups != 1:
        return "it has groups already"
    if height * width == 1:
        return "a 1 x 1 convolution mixes channels only"
    if layer.name != layer.node.input[1] or weight.dtype != np.float32 or len(view.consumers[layer.name]) > 1:
        return "its weights are not float32 of its own"
    rank = min(options.rank, height * width)
    new = rank * inputs * (height * width + outputs)
    saving = outputs * inputs * height * width / new
    if saving < options.least_saving:
        return f"multiply-accumulates would fall by a factor of {saving:.2f} only"
    return ""


def separated(weight: NDArray, rank: int = 1) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """The nearest depthwise and pointwise weights to a convolution's (Cout, Cin, kh, kw), and the part of its energy
    that they hold: for each input channel the `rank` largest singular triples of its (Cout, kh kw) matrix.

    Returns (Cin rank, 1, kh, kw), (Cout, Cin rank, 1, 1), and the energy in 0..1. The order of the middle channels is
    that of a grouped convolution: all filters of input channel 0, then those of 1, ...
    """
    outputs, inputs, height, width = weight.shape
    matrices = weight.transpose(1, 0, 2, 3).reshape(inputs, outputs, height * width).astype(np.float64)
    left, values, right = np.linalg.svd(matrices, full_matrices=False)
    rank = min(rank, values.shape[1])
    total = float(np.square(values).sum())
    energy = float(np.square(values[:, :rank]).sum()) / total if total else 1.0
    # Both get the root of the singular value: training then moves both alike.
    root = np.sqrt(values[:, :rank])
    depth = (right[:, :rank] * root[:, :, None]).reshape(inputs * rank, 1, height, width)
    point = (left[:, :, :rank] * root[:, None, :]).transpose(1, 0, 2).reshape(outputs, inputs * rank, 1, 1)
    return depth.astype(np.float32), np.ascontiguousarray(point).astype(np.float32), energy
