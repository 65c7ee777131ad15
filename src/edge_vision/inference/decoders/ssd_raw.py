"""SSD without its selection: box encodings relative to anchors, and class scores.

Outputs `raw_outputs/box_encodings` (1, A, 4) or (1, A, 1, 4): ty, tx, th, tw; `raw_outputs/class_predictions` (1, A,
nc + 1), the first column background. yc = ty / sy ha + ya, xc = tx / sx wa + xa, h = exp(th / sh) ha, w = exp(tw / sw)
wa with the scales 10, 10, 5, 5. Anchors are no output: they come from a file, or from the generator of the training
pipeline. Score = the largest class. Source: tensorflow/models export_tflite_graph_lib_tf2.py,
box_coders/faster_rcnn_box_coder.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.decoders import NOTHING, Built, Candidates, Setup
from edge_vision.inference.decoders.anchors import GENERATOR_DEFAULTS, generate_anchors, read_anchors
from edge_vision.inference.decoders.common import (
    finished,
    names,
    option,
    ordered,
    probabilities,
    strongest,
    table_and_boxes,
)
from edge_vision.inference.errors import ModelError
from edge_vision.inference.onnx_header import TensorSpec

EXPECTS = "two outputs: box encodings [1, A, 4] relative to anchors and class predictions [1, A, classes+1]"
NAMES = (frozenset({"box_encodings", "class_predictions"}),)
DEFAULT_INPUT: Mapping[str, Any] = {"colour": "rgb", "mean": (127.5,) * 3, "std": (127.5,) * 3, "resize": "stretch"}
DEFAULT_THRESHOLDS: Mapping[str, float] = {"score": 0.5, "iou": 0.6}
OPTIONS = {
    "anchors": "a .npy or .yaml file of rows cy, cx, h, w in fractions of the image, beside the model",
    "generator": f"parameters of the anchor generator, of {', '.join(GENERATOR_DEFAULTS)}",
    "scales": "divisors of ty, tx, th, tw; [10, 10, 5, 5] where absent",
    "activation": "none, sigmoid or softmax: what is still to be done to the scores; measured where absent",
    "background": "true where the first column is background, which is the default",
}
LARGEST_EXPONENT = 9.0


def _roles(outputs: Sequence[TensorSpec]) -> tuple[int, int] | None:
    """Places of class predictions and box encodings."""
    named = names(outputs)
    if {"box_encodings", "class_predictions"} <= set(named):
        return named.index("class_predictions"), named.index("box_encodings")
    return table_and_boxes(outputs) if len(outputs) == 2 else None


def classes_in(outputs: Sequence[TensorSpec], input_width: int, input_height: int) -> int | None:
    roles = _roles(outputs)
    if roles is None or len(outputs[roles[0]].shape) != 3:
        return None
    columns = outputs[roles[0]].shape[2]
    return columns - 1 if columns and columns > 1 else None


def plausible(setup: Setup) -> bool:
    # Encodings lie on both sides of zero, and their last two are no corner.
    roles = _roles(setup.outputs)
    if roles is None:
        return False
    encodings = setup.sample[roles[1]].reshape(-1, 4)
    return not ordered(encodings) and bool((encodings < 0).any())


def _anchors(setup: Setup, total: int) -> NDArray[np.float32]:
    named, parameters = option(setup, "ssd_raw", "anchors", str), option(setup, "ssd_raw", "generator", dict)
    if named is not None:
        anchors, key = read_anchors(setup.file.parent / named, "decoder_options.anchors"), "anchors"
    else:
        unknown = set(parameters or {}) - set(GENERATOR_DEFAULTS)
        if unknown:
            remedy = f"known: {', '.join(GENERATOR_DEFAULTS)}"
            raise ModelError(setup.file, f"has no {', '.join(map(str, unknown))}", remedy, "decoder_options.generator")
        anchors, key = generate_anchors(setup.input_width, setup.input_height, parameters or {}), "generator"
    if len(anchors) != total:
        problem = f"{len(anchors)} anchors of decoder_options.{key} for {total} rows of the outputs"
        raise setup.misfit("ssd_raw", problem, "give decoder_options.anchors, or the generator's parameters")
    return anchors


def _activation(setup: Setup, scores: NDArray) -> str:
    stated = option(setup, "ssd_raw", "activation", str, ("none", "sigmoid", "softmax"))
    return stated or ("none" if probabilities(scores) else "sigmoid")


def build(setup: Setup) -> Built:
    setup.check_options("ssd_raw", OPTIONS)
    roles = _roles(setup.outputs)
    if roles is None or setup.sample[roles[0]].ndim != 3:
        raise setup.misfit("ssd_raw", "not box encodings [1, A, 4] and class predictions [1, A, classes+1]")
    table, encodings = roles
    _, total, columns = setup.sample[table].shape
    first = 0 if option(setup, "ssd_raw", "background", bool) is False else 1
    if columns <= first:
        raise setup.misfit(
            "ssd_raw", "no column of scores beside background", "state decoder_options.background: false"
        )
    scales = np.asarray(setup.options.get("scales") or (10, 10, 5, 5), np.float32)
    anchors = _anchors(setup, total)
    activation = _activation(setup, setup.sample[table])
    size = np.array([setup.input_height, setup.input_width], np.float32)

    def decode(outputs: Sequence[NDArray], threshold: float) -> Candidates:
        scores = outputs[table][0]
        if activation == "softmax":
            scores = np.exp(scores - scores.max(1, keepdims=True))
            scores /= scores.sum(1, keepdims=True)
        least = threshold
        if activation == "sigmoid":
            least = (
                -math.inf if threshold <= 0 else math.inf if threshold >= 1 else math.log(threshold / (1 - threshold))
            )
        index, best, class_ids = strongest(scores[:, first:], least)
        if not len(index):
            return NOTHING
        terms = outputs[encodings].reshape(-1, 4).take(index, 0) / scales
        anchor = anchors.take(index, 0)
        centres = (terms[:, :2] * anchor[:, 2:] + anchor[:, :2]) * size
        half = np.exp(np.minimum(terms[:, 2:], LARGEST_EXPONENT)) * anchor[:, 2:] * (size * np.float32(0.5))
        boxes = np.empty((len(index), 4), np.float32)
        boxes[:, :2] = (centres - half)[:, ::-1]
        boxes[:, 2:] = (centres + half)[:, ::-1]
        found = 1 / (1 + np.exp(-best)) if activation == "sigmoid" else best
        return Candidates(boxes, found, class_ids)

    return finished(setup, decode, columns - first)
