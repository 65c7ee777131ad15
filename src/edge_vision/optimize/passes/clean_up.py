"""The same outputs from a plainer graph: what no image changes computed once, what leads nowhere removed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx

from edge_vision.optimize.graphs.editing import bypass, constants_to_initialisers, merge_duplicates, remove_dead
from edge_vision.optimize.graphs.folding import STANDARD, fold, fold_affine
from edge_vision.optimize.graphs.running import CannotRun, compare, random_images, tensors
from edge_vision.optimize.graphs.shapes import input_shape, set_input_shape, stated_outputs
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, Outcome, PassError

NAME = "clean_up"
SUMMARY = "fold constants, sizes and batch normalisation; remove what leads nowhere"
NEEDS: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Options:
    """tolerance: largest difference of an output on random images, as a part of the output's largest value; folding
    rounds anew, which is all that may be seen. fix_batch: an input whose number of images is open gets the bundle's,
    so that sizes that depend on it can be folded."""

    tolerance: float = 1e-4
    fix_batch: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance is {self.tolerance}: give a part of the largest output, such as 1e-4")


def apply(network: Network, options: Options, context: Context) -> Outcome:
    """Standard ONNX in, standard ONNX out, checked in ONNX Runtime on random images."""
    proto = network.copied_graph()
    spec = network.input
    sizes: list[int | str] = list(spec.shape)
    stated = input_shape(proto)
    if stated and isinstance(stated[0], str) and not options.fix_batch:
        sizes[0] = stated[0]
    set_input_shape(proto, sizes, spec.name)
    refused = []
    try:
        constants_to_initialisers(proto)
        remove_dead(proto)
        plain = remove_identities(proto)
        affine = fold_affine(proto)
        proto = fold(proto)
        constants_to_initialisers(proto)
        affine += fold_affine(proto)
        doubles = merge_duplicates(proto)
        remove_dead(proto)
        stated_outputs(proto)
        onnx.checker.check_model(proto)
        batch = tensors(random_images(spec, seed=context.seed), spec)
        difference = compare(network.proto, proto, batch, context.threads)
    except CannotRun as error:
        raise PassError(
            NAME, f"ONNX Runtime does not take this graph ({error})", "correct the model, or leave this step out"
        ) from error
    except onnx.checker.ValidationError as error:
        raise PassError(
            NAME, f"the graph is not valid ONNX ({str(error).splitlines()[0]})", "correct the model"
        ) from error
    if not difference.relative <= options.tolerance:
        raise PassError(
            NAME,
            f"an output differs by {difference.relative:.1e} of its largest value, more than {options.tolerance:.0e}",
            "leave this step out, or raise its tolerance where that is meant",
        )
    foreign = sorted({f"{n.domain}.{n.op_type}" for n in proto.graph.node if n.domain not in STANDARD})
    if foreign:
        refused.append(f"{', '.join(foreign)}: no standard ONNX, left as they are")
    before, after = _nodes(network.proto), _nodes(proto)
    facts = {
        "nodes": [sum(before.values()), sum(after.values())],
        "removed": {kind: count - after[kind] for kind, count in sorted(before.items()) if count > after[kind]},
        "identities": plain,
        "folded_into_layers": affine,
        "doubles": doubles,
        "bytes": [network.proto.ByteSize(), proto.ByteSize()],
        "largest_difference": difference.largest,
    }
    return Outcome(network.with_graph(proto), facts, tuple(refused))


def remove_identities(proto: onnx.ModelProto) -> int:
    """Takes Identity and Dropout out, in place; returns how many went. (What ONNX Runtime takes out too, but before
    layers are looked for whose follower is a batch normalisation.)"""
    removed = 0
    for node in list(proto.graph.node):
        idle = node.op_type == "Identity" or (
            node.op_type == "Dropout" and len([name for name in node.output if name]) == 1 and not _trains(proto, node)
        )
        if idle and node.domain == "":
            removed += bypass(proto, node, node.input[0])
    return removed


def _trains(proto: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """Whether a Dropout drops: its third input is there and not a constant False."""
    if len(node.input) < 3 or not node.input[2]:
        return False
    tensor = next((t for t in proto.graph.initializer if t.name == node.input[2]), None)
    return tensor is None or bool(np.any(onnx.numpy_helper.to_array(tensor)))


def _nodes(proto: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in proto.graph.node)
