"""A table of scores and a table of boxes that the graph has decoded: UltraFace (Linzaer) and heads like it.

Outputs `scores` (1, N, C) and `boxes` (1, N, 4). UltraFace: C = 2, background and face, softmax in the graph; boxes x1,
y1, x2, y2 in fractions of the image. With a column of background (told by rows that sum to 1) it is the first. Boxes
may also be pixels, or centre and size. Score = the largest class. Source: Ultra-Light-Fast-Generic-Face-Detector-1MB,
vision/ssd/ssd.py and its ONNX example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.decoders import NOTHING, Built, Candidates, Setup
from edge_vision.inference.decoders.common import (
    NORMALISED_OPTION,
    corners,
    finished,
    option,
    ordered,
    probabilities,
    strongest,
    table_and_boxes,
    to_pixels,
)
from edge_vision.inference.onnx_header import TensorSpec

EXPECTS = "two outputs: scores [1, N, classes] (a first column of background or none) and boxes [1, N, 4], decoded"
NAMES = (frozenset({"scores", "boxes"}),)
DEFAULT_INPUT: Mapping[str, Any] = {"colour": "rgb", "mean": (127.0,) * 3, "std": (128.0,) * 3, "resize": "stretch"}
DEFAULT_THRESHOLDS: Mapping[str, float] = {"score": 0.7, "iou": 0.3}
OPTIONS = {
    "background": "true where the first column of scores is background; measured where absent (rows that sum to 1)",
    "boxes": "xyxy or cxcywh; measured where absent",
    "normalised": NORMALISED_OPTION,
}


def classes_in(outputs: Sequence[TensorSpec], input_width: int, input_height: int) -> int | None:
    roles = table_and_boxes(outputs)
    if roles is None or len(outputs) != 2:
        return None
    columns = outputs[roles[0]].shape[2]
    return max(columns - 1, 1) if columns else None  # with background; `build` measures


def plausible(setup: Setup) -> bool:
    roles = table_and_boxes(setup.outputs)
    return roles is not None and probabilities(setup.sample[roles[0]]) and ordered(setup.sample[roles[1]][0])


def build(setup: Setup) -> Built:
    setup.check_options("ultraface", OPTIONS)
    roles = table_and_boxes(setup.outputs)
    if roles is None:
        raise setup.misfit("ultraface", "not scores [1, N, classes] and boxes [1, N, 4]")
    table, places = roles
    sample_scores, sample_boxes = setup.sample[table][0], setup.sample[places][0]
    if not probabilities(sample_scores):
        raise setup.misfit("ultraface", "the scores are not in 0..1")
    columns = sample_scores.shape[1]
    background = option(setup, "ultraface", "background", bool)
    if background is None:
        background = columns > 1 and bool(np.abs(sample_scores.sum(1) - 1).max() < 0.02)
    first = 1 if background else 0
    if columns <= first:
        raise setup.misfit("ultraface", "no column of scores beside background")
    form = option(setup, "ultraface", "boxes", str, ("xyxy", "cxcywh"))
    if form is None:
        form = "xyxy" if ordered(sample_boxes) else "cxcywh"
    factors = to_pixels(setup, "ultraface", sample_boxes)

    def decode(outputs: Sequence[NDArray], threshold: float) -> Candidates:
        index, scores, class_ids = strongest(outputs[table][0][:, first:], threshold)
        if not len(index):
            return NOTHING
        boxes = outputs[places][0].take(index, 0)
        if form == "cxcywh":
            boxes = corners(boxes[:, :2], boxes[:, 2:])
        if factors is not None:
            boxes *= np.tile(factors, 2)
        return Candidates(boxes, scores, class_ids)

    return finished(setup, decode, columns - first)
