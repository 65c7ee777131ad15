"""A student: the same architecture with fewer channels everywhere, and fewer residual blocks if wanted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_vision.optimize.graphs.choosing import Chooser
from edge_vision.optimize.graphs.editing import drop_notes, set_initialisers
from edge_vision.optimize.graphs.importance import unit_scores
from edge_vision.optimize.graphs.residual import drop_blocks, residual_blocks
from edge_vision.optimize.graphs.shapes import multiply_accumulates, stated_outputs
from edge_vision.optimize.graphs.shrinking import Costs, channels_of, shrink
from edge_vision.optimize.graphs.view import Layer, View, integer
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, Outcome, PassError
from edge_vision.optimize.passes.channels import found_channels, shrunk_facts

NAME = "width"
SUMMARY = "a student: all widths (and depth) multiplied, weights inherited or random"
NEEDS: frozenset[str] = frozenset()
WEIGHTS = ("inherit", "random")


@dataclass(frozen=True)
class Options:
    """multiplier: of all channel counts (Howard et al. 2017, arXiv:1704.04861), rounded to `multiple` and at least
    that. depth: part of the residual blocks that stays, the last of each size going first. weights: inherit the most
    important channels' (l2), or start from random ones (He et al. 2015, arXiv:1502.01852), from the run's seed.
    exclude: patterns of weights' names whose channels stay."""

    multiplier: float = 0.5
    depth: float = 1.0
    weights: str = "inherit"
    multiple: int = 8
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("multiplier", "depth"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give a part, above 0 and at most 1")
        if self.weights not in WEIGHTS:
            raise ValueError(f"weights is {self.weights!r}: choose one of {', '.join(WEIGHTS)}")
        if self.multiple < 1:
            raise ValueError(f"multiple is {self.multiple}: give 1 or more, 8 for SIMD")


def apply(network: Network, options: Options, context: Context) -> Outcome:
    """The student, which has to be trained: distil it from the network that it came from."""
    proto, channels = found_channels(network, NAME)
    refused = list(channels.refused)
    whole = sum(multiply_accumulates(proto).values())
    blocks: list[str] = []
    if options.depth < 1:
        found = residual_blocks(proto)
        wanted = len(found) - math.floor(options.depth * len(found) + 0.5)
        blocks = drop_blocks(proto, wanted)
        channels = channels_of(proto)
        if wanted > len(blocks) or not found:
            refused.append(f"depth: {len(blocks)} of {len(found)} residual blocks went, {wanted} were wanted")
    costs = Costs(proto, channels)
    chooser = Chooser(channels, unit_scores(proto, channels, "l2"), options.multiple, 1.0, options.exclude)
    removed = chooser.evenly(1 - options.multiplier)
    if not len(removed) and not blocks and options.weights == "inherit":
        raise PassError(NAME, "nothing becomes smaller", "lower multiplier or depth, or lower multiple")
    smaller = shrink(proto, channels, removed)
    if options.weights == "random":
        randomise(smaller, context.seed)
    facts = shrunk_facts(channels, costs, removed)
    facts["macs"] = [whole, facts["macs"][1]]
    facts["kept_macs"] = round(facts["macs"][1] / whole, 4) if whole else math.nan
    facts |= {"blocks_dropped": blocks, "weights": options.weights, "needs": "training (fine_tune or distil)"}
    drop_notes(smaller)
    stated_outputs(smaller)
    return Outcome(network.with_graph(smaller), facts, tuple(refused))


def randomise(proto: onnx.ModelProto, seed: int) -> None:
    """New weights for every float layer, in place: normal of variance 2 / inputs, 1 / inputs for those that end in no
    ReLU or the like and where an output of the graph is made; biases 0, batch normalisation that changes nothing.

    The biases of layers that make the graph's outputs stay: a detector's say how rare objects are."""
    rng = np.random.default_rng(seed)
    view = View(proto)
    values: dict[str, NDArray] = {}
    ends = _makers_of_outputs(view)
    for layer in view.layers:
        weight = view.constant(layer.name)
        if weight is None or layer.quantised or layer.name in values:
            continue
        inputs = _inputs(layer, weight)
        follower = view.sole_consumer(layer.node.output[0])
        if follower is not None and follower.op_type == "BatchNormalization":
            follower = view.sole_consumer(follower.output[0])
        rectified = follower is not None and follower.op_type in ("Relu", "Clip", "LeakyRelu", "PRelu", "HardSwish")
        deviation = math.sqrt((2 if rectified else 1) / max(inputs, 1))
        values[layer.name] = rng.normal(0, deviation, weight.shape).astype(weight.dtype)
        bias = view.constant(layer.bias) if layer.bias else None
        if bias is not None and layer.name not in ends:
            values[layer.bias] = np.zeros_like(bias)
    for node in proto.graph.node:
        if node.op_type == "BatchNormalization":
            for name, value in zip(node.input[1:5], (1, 0, 0, 1), strict=True):
                table = view.constant(name)
                if table is not None:
                    values[name] = np.full_like(table, value)
    set_initialisers(proto, values)


def _inputs(layer: Layer, weight: NDArray) -> int:
    """Products that are summed in an output."""
    if layer.kind == "Conv":
        return int(np.prod(weight.shape[1:]))
    if layer.kind == "ConvTranspose":
        return int(weight.shape[0])
    return int(weight.shape[1 if integer(layer.node, "transB", 0) else 0])


def _makers_of_outputs(view: View) -> set[str]:
    """Layers from which an output is reached without another layer."""
    layers = {layer.node.output[0]: layer.name for layer in view.layers}
    found, waiting, seen = set(), list(view.outputs), set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in view.producers:
            continue
        seen.add(name)
        if name in layers:
            found.add(layers[name])
        else:
            waiting.extend(view.producers[name].input)
    return found
