"""Weights of 4 bits: an eighth of the file, computed in float."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx

from edge_vision.optimize.graphs.running import tensors
from edge_vision.optimize.graphs.shapes import static_shapes
from edge_vision.optimize.graphs.view import View
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, Outcome, PassError
from edge_vision.optimize.quantisation import weight_only
from edge_vision.optimize.quantisation.difference import Reference, decibels
from edge_vision.optimize.quantisation.placement import place
from edge_vision.optimize.quantisation.preparing import prepare
from edge_vision.optimize.quantisation.qdq import Quantised, channel_axis
from edge_vision.optimize.quantisation.quantising import calibration_split, check_fit, chosen_images
from edge_vision.optimize.quantisation.small import finish

SUMMARY = "weights in 4 bits, sensitive layers in 8, computed in float: a small file"
NEEDS = frozenset({"calibration"})


@dataclass(frozen=True)
class Options:
    """block: input channels that share a scale, 0 for all of an output channel. smallest: layers of fewer weights are
    left as they are, since little is won. max_error: noise over signal power, as of the pass int8, above which the most
    sensitive layers get 8 bits instead, until it is kept (the bundled detector: 4.3 times smaller for 1.2 points of
    mAP50-95; 0.03 makes it 5.5 for 4.1). images: calibration images for that, at most.
    form: `cast` is a Cast and a product with the scales, which runtimes compute once, when the model is loaded: as fast
    as float. `dequantise` is a DequantizeLinear, which ONNX Runtime 1.31 computes at every run: the bundled detector
    takes 1.8 times as long.
    """

    block: int = 32
    smallest: int = 1024
    max_error: float = 0.01
    images: int = 16
    form: Literal["dequantise", "cast"] = "cast"

    def __post_init__(self) -> None:
        if self.block and (self.block < 16 or self.block & (self.block - 1)):
            raise ValueError(f"block is {self.block}: give 0, or a power of two from 16")
        if self.smallest < 0 or self.images < 1:
            raise ValueError(f"smallest is {self.smallest}, images {self.images}: give at least 0, and at least 1")
        if self.max_error <= 0:
            raise ValueError(f"max_error is {self.max_error}: give a share of the signal's power above 0, such as 0.01")


def apply(network: Network, options: Options, context: Context) -> Outcome:
    """The network with 4-bit weights, at ONNX opset 21. Raises PassError for a graph with open sizes, that is quantised
    already, that cannot be brought to opset 21 or that ONNX Runtime cannot load, and without calibration images."""
    split = calibration_split("int4", context)
    proto = _at_opset(prepare("int4", network.proto))
    view = View(proto)
    batch = tensors(split.images[chosen_images(split, options.images)[0]], network.input)
    check_fit("int4", proto, batch)
    wanted, refused = _layers(view, options)
    if not wanted:
        raise PassError("int4", f"no layer can have 4 bits ({'; '.join(refused)})", "leave this pass out")
    four, eight = (
        {
            layer.name: weight_only.rounded(
                np.asarray(view.constant(layer.name)), channel_axis(layer.node), bits, options.block
            )
            for layer in wanted
        }
        for bits in (4, 8)
    )
    reference = Reference(proto, place(view).heads, batch, context.threads)

    def error_with(eights: set[str]) -> float:
        # The values as they come back, in float: what is computed is the same, and no runtime is in the way.
        values = {name: (eight if name in eights else four)[name].values() for name in four}
        return reference.error(Quantised(_with_values(proto, values)))

    names = list(four)
    error, taken, sensitivity = error_with(set()), [], {}
    if error > options.max_error:
        bar = context.bar("sensitivity", len(names))
        for name in names:
            sensitivity[name] = error_with(set(names) - {name})
            bar.update()
        bar.close()
        for name in sorted(names, key=lambda n: -sensitivity[n]):
            taken.append(name)
            error = error_with(set(taken))
            if error <= options.max_error:
                break
    weights = {name: (eight if name in taken else four)[name] for name in names}
    finished = finish(weight_only.write(proto, weights, options.form), keep=weights)
    facts: dict[str, Any] = {
        "int4_layers": len(names) - len(taken),
        "int8_layers": taken,
        "sensitivity": {name: round(value, 6) for name, value in sensitivity.items()},
        "error": round(error, 6),
        "sqnr_db": round(decibels(error), 2),
        "max_error": options.max_error,
        "within_max_error": error <= options.max_error,
        "weights_bytes": sum(
            math.ceil(found.integers.size * found.bits / 8) + found.scales.nbytes for found in weights.values()
        ),
    }
    refused += [f"{name}: 8 bits, with 4 it alone gave an error of {sensitivity[name]:.4f}" for name in taken]
    return Outcome(network.with_graph(finished), facts, tuple(refused))


def _layers(view: View, options: Options) -> tuple[list[Any], list[str]]:
    wanted, refused = [], []
    shapes = static_shapes(view.proto)
    for layer in view.layers:
        count = math.prod(shapes.get(layer.name, (0,)))
        reason = weight_only.obstacle(view, layer)
        if not reason and count < options.smallest:
            reason = f"left in float, it has {count} weights only"
        if reason:
            refused.append(f"{layer.name}: {reason}")
        else:
            wanted.append(layer)
    return wanted, refused


def _with_values(proto: onnx.ModelProto, values: dict[str, Any]) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in copy.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values[tensor.name], tensor.name))
    return copy


def _at_opset(proto: onnx.ModelProto) -> onnx.ModelProto:
    version = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    if version >= weight_only.OPSET:
        return proto
    try:
        return onnx.version_converter.convert_version(proto, weight_only.OPSET)
    except Exception as error:  # of onnx's C++ library
        raise PassError(
            "int4",
            f"the graph is of ONNX opset {version} and cannot be converted to {weight_only.OPSET} ({error})",
            f"export the model with opset {weight_only.OPSET}, or quantise it with the pass int8",
        ) from error
