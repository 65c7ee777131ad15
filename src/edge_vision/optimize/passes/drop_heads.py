"""Detection heads that the data has no objects for taken out, with all that only they needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_vision.datatypes import Detections
from edge_vision.inference.decoders import Setup
from edge_vision.inference.decoders.common import chosen_strides, count, grid
from edge_vision.inference.decoders.yolox import LARGEST_EXPONENT, looks_decoded
from edge_vision.inference.errors import ModelError
from edge_vision.inference.onnx_header import TensorSpec
from edge_vision.optimize.data import Split
from edge_vision.optimize.graphs.editing import bypass, drop_notes, remove_dead
from edge_vision.optimize.graphs.running import CannotRun, run, session_of, tensors
from edge_vision.optimize.graphs.shapes import Shape, multiply_accumulates, stated_outputs, static_shapes
from edge_vision.optimize.graphs.shrinking import is_quantised, prepared
from edge_vision.optimize.graphs.view import View, integer
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, Outcome, PassError

NAME = "drop_heads"
SUMMARY = "take out detection heads (strides) that the data has no objects for"
NEEDS: frozenset[str] = frozenset({"train"})
DECODERS = ("yolox",)
OVERLAP = 0.5
PASSING = frozenset(("Transpose", "Reshape", "Sigmoid", "Cast", "Identity", "Squeeze", "Unsqueeze", "Flatten"))


@dataclass(frozen=True)
class Options:
    """strides: of the heads to take out; none given: those that find fewer than `least` of the objects in the training
    images (at most `images` of them), as a part of all that are found."""

    strides: tuple[int, ...] = ()
    least: float = 0.01
    images: int = 200

    def __post_init__(self) -> None:
        if not 0 <= self.least < 1:
            raise ValueError(f"least is {self.least}: give a part of the objects, such as 0.01")
        if self.images < 1:
            raise ValueError(f"images is {self.images}: give 1 or more")


def apply(network: Network, options: Options, context: Context) -> Outcome:
    """The network without heads that are not needed; `decoder_options.strides` says which are left. Where heads cannot
    be chosen the network stays as it is, so that one recipe serves all models."""
    if reason := _not_for(network):
        if options.strides:
            raise PassError(NAME, reason, "leave this step out")
        return Outcome(network, {}, (reason,))
    if is_quantised(network.proto):
        raise PassError(NAME, "the network is quantised already", "put this step before the quantisation")
    if context.data is None:
        raise PassError(NAME, "it needs training images with truth", "give --data")
    try:
        proto = prepared(network.proto, network.input)
    except CannotRun as error:
        raise PassError(NAME, f"ONNX Runtime does not take this graph ({error})", "correct the model") from error
    train = context.data.train
    chosen = np.unique(np.linspace(0, len(train) - 1, min(options.images, len(train))).round().astype(int))
    strides, found, missed = level_counts(network, proto, train.part(chosen), context.threads)
    total = int(found.sum())
    shares = {stride: int(number) / total if total else 0.0 for stride, number in zip(strides, found, strict=True)}
    facts = {
        "strides": [list(strides), list(strides)],
        "images": len(chosen),
        "found_by_stride": {str(stride): int(number) for stride, number in zip(strides, found, strict=True)},
        "not_found": missed,
        "sides_px": _sides(train.part(chosen)),
    }
    wrong = [stride for stride in options.strides if stride not in strides]
    if wrong:
        raise PassError(NAME, f"there is no head of stride {wrong[0]}", f"name some of {list(strides)}")
    going = list(options.strides) or [stride for stride in strides if shares[stride] < options.least]
    if not total and not options.strides:
        reason = "no object of the training images was found by any head: nothing tells which is needed"
        return Outcome(network, facts, (reason,))
    if len(going) == len(strides):
        raise PassError(NAME, "no head would be left", "name fewer strides, or lower least")
    if not going:
        listed = ", ".join(f"stride {stride} {shares[stride]:.1%}" for stride in strides)
        return Outcome(network, facts, (f"every head finds {options.least:.1%} of the objects or more ({listed})",))
    before = sum(multiply_accumulates(proto).values())
    kept = [place for place, stride in enumerate(strides) if stride not in going]
    spec = network.input
    remove_levels(proto, [count(spec.width, spec.height, [stride]) for stride in strides], kept)
    left = [strides[place] for place in kept]
    _check(network, proto, left)
    after = sum(multiply_accumulates(proto).values())
    facts |= {"strides": [list(strides), left], "macs": [before, after], "kept_macs": round(after / before, 4)}
    options_left = {**network.bundle.decoder_options, "strides": left}
    return Outcome(network.with_graph(proto, decoder_options=options_left), facts)


def _not_for(network: Network) -> str:
    """Why no head can be dropped, "" where one can."""
    if network.task != "detect":
        return f"a network of task {network.task} has no detection heads"
    if network.bundle.decoder not in DECODERS:
        return f"decoder {network.bundle.decoder} does not let its strides be chosen (it knows {', '.join(DECODERS)})"
    return ""


def level_counts(
    network: Network, proto: onnx.ModelProto, split: Split, threads: int = 0
) -> tuple[tuple[int, ...], NDArray[np.int64], int]:
    """(strides, how many objects each stride's cells find best, how many nobody finds): the best cell for an object is
    the one of highest score for its class among those whose box overlaps it by an IoU of 0.5 or more."""
    if not isinstance(split.truth, tuple):
        raise PassError(NAME, "the data has classes but no boxes", "give a detection dataset")
    session = session_of(proto, threads)
    batch = tensors(split.images, network.input)
    spec = network.input
    sample = run(session, batch[:1])
    outputs = tuple(
        TensorSpec(value.name, tuple(array.shape), str(array.dtype))
        for value, array in zip(proto.graph.output, sample, strict=True)
    )
    setup = Setup(network.bundle.file, spec.width, spec.height, outputs, tuple(sample), network.bundle.decoder_options)
    if len(sample) != 1 or sample[0].ndim != 3:
        raise PassError(NAME, "its outputs are not one of [1, N, 5 + classes]", "leave this step out")
    try:
        strides = chosen_strides(setup, network.bundle.decoder, sample[0].shape[1])
    except ModelError as error:
        raise PassError(NAME, error.problem, error.remedy) from error
    cells = grid(spec.width, spec.height, strides)
    given = network.bundle.decoder_options.get("decoded")
    decoded = looks_decoded(sample[0][0], cells) if given is None else bool(given)
    level = np.repeat(np.arange(len(strides)), [count(spec.width, spec.height, [s]) for s in strides])
    found, missed = np.zeros(len(strides), np.int64), 0
    for image, truth in zip(batch, split.truth, strict=True):
        rows = run(session, image[None])[0][0].astype(np.float64)
        boxes = _boxes(rows, cells, decoded)
        for box, class_id in zip(truth.boxes, truth.class_ids, strict=True):
            score = np.where(_overlap(box, boxes) >= OVERLAP, rows[:, 4] * rows[:, 5 + int(class_id)], 0.0)
            best = int(score.argmax())
            if score[best] > 0:
                found[level[best]] += 1
            else:
                missed += 1
    return strides, found, missed


def _boxes(rows: NDArray, cells: NDArray, decoded: bool) -> NDArray[np.float64]:
    """(N, 4) xyxy in pixels of the input, as decoder yolox has them."""
    centres, sizes = rows[:, :2], rows[:, 2:4]
    if not decoded:
        centres = (centres + cells[:, :2]) * cells[:, 2:]
        sizes = np.exp(np.minimum(sizes, LARGEST_EXPONENT)) * cells[:, 2:]
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], 1)


def _overlap(box: NDArray, boxes: NDArray) -> NDArray[np.float64]:
    """IoU of one box with many."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    common = np.prod(np.maximum(high - low, 0), 1)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], 1) + np.prod(box[2:] - box[:2])
    return common / np.maximum(area - common, 1e-12)


def _sides(split: Split) -> list[float]:
    """5th, 50th and 95th percentile of the objects' larger side, in pixels of the input."""
    parts = [truth.boxes for truth in split.truth if isinstance(truth, Detections) and len(truth)]
    if not parts:
        return []
    boxes = np.concatenate(parts)
    sides = (boxes[:, 2:] - boxes[:, :2]).max(1)
    return [round(float(value), 1) for value in np.percentile(sides, (5, 50, 95))]


def remove_levels(proto: onnx.ModelProto, cells: Sequence[int], kept: Sequence[int]) -> None:
    """Takes levels out of the Concat that joins them, in place, and all that only they needed.

    cells: of every level, in the Concat's order; kept: places of those that stay. Raises PassError where there is no
    such Concat."""
    view, shapes = View(proto), static_shapes(proto)
    node = _joining(view, shapes, proto.graph.output[0].name, cells)
    if node is None:
        problem = f"no Concat joins {' + '.join(map(str, cells))} cells on the way to the output"
        raise PassError(NAME, problem, "leave this step out")
    inputs = [node.input[place] for place in kept]
    if len(inputs) == 1:
        if not bypass(proto, node, inputs[0]):
            raise PassError(NAME, "the head that is left is an output already", "leave this step out")
    else:
        del node.input[:]
        node.input.extend(inputs)
    remove_dead(proto)
    drop_notes(proto)
    for dim in proto.graph.output[0].type.tensor_type.shape.dim:
        dim.Clear()
    stated_outputs(proto)


def _joining(view: View, shapes: dict[str, Shape], output: str, cells: Sequence[int]) -> onnx.NodeProto | None:
    name = output
    while name in view.producers:
        node = view.producers[name]
        if node.op_type == "Concat" and len(node.input) == len(cells):
            axis = integer(node, "axis", 0)
            sizes = [shapes.get(part, ()) for part in node.input]
            if all(size and size[axis] == number for size, number in zip(sizes, cells, strict=True)):
                return node
        if node.op_type not in PASSING:
            return None
        name = node.input[0]
    return None


def _check(network: Network, proto: onnx.ModelProto, strides: Sequence[int]) -> None:
    spec = network.input
    try:
        found = session_of(proto, 1).run(None, {proto.graph.input[0].name: np.zeros(spec.shape, spec.dtype)})
    except Exception as error:  # of onnxruntime's own many types
        raise PassError(
            NAME, f"the graph does not run without those heads ({str(error)[:200]})", "leave this step out"
        ) from error
    if len(found) != 1 or found[0].shape[1] != count(spec.width, spec.height, strides):
        raise PassError(NAME, f"the output is {found[0].shape} without those heads", "leave this step out")
