"""RF-DETR (Roboflow): a transformer's queries with logits, no suppression needed.

Outputs `dets` (1, Q, 4): cx, cy, w, h in fractions of the stretched image; `labels` (1, Q, C): logits of independent
classes, score = their sigmoid. A query may be reported for several classes, as the project's own selection does (top
300 over queries and classes; the engine's limit on detections cuts here). The checkpoints trained on COCO have C = 91
and number classes by COCO's category ids (1..90). Further outputs (masks) are left alone. Source: rf-detr
rfdetr/deploy/export.py, models/lwdetr.py (forward_export, PostProcess).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.decoders import NOTHING, Built, Candidates, Setup
from edge_vision.inference.decoders.common import (
    CLASSES_OPTION,
    corners,
    counted,
    fractions,
    names,
    ordered,
    probabilities,
    table_and_boxes,
)
from edge_vision.inference.decoders.common import finished as finish
from edge_vision.inference.onnx_header import TensorSpec

EXPECTS = "two outputs: dets [1, Q, 4], labels [1, Q, C] of logits, Q at most 1000"
NAMES = (frozenset({"dets", "labels"}),)
DEFAULT_INPUT: Mapping[str, Any] = {
    "colour": "rgb", "scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "resize": "stretch",
}  # fmt: skip
DEFAULT_THRESHOLDS: Mapping[str, float] = {"score": 0.5, "iou": 0.7}
OPTIONS = {"classes": CLASSES_OPTION}
MOST_QUERIES = 1000


def _roles(outputs: Sequence[TensorSpec]) -> tuple[int, int] | None:
    """Places of the logits and the boxes."""
    named = names(outputs)
    if {"dets", "labels"} <= set(named):
        roles = named.index("labels"), named.index("dets")
        shapes = outputs[roles[0]].shape, outputs[roles[1]].shape
        fits = all(len(shape) == 3 for shape in shapes) and shapes[1][2] == 4
        return roles if fits else None
    return table_and_boxes(outputs)


def classes_in(outputs: Sequence[TensorSpec], input_width: int, input_height: int) -> int | None:
    roles = _roles(outputs)
    if roles is None:
        return None
    _, queries, columns = outputs[roles[0]].shape
    return columns if queries and queries <= MOST_QUERIES else None


def plausible(setup: Setup) -> bool:
    roles = _roles(setup.outputs)
    if roles is None:
        return False
    boxes = setup.sample[roles[1]][0]
    return (
        not probabilities(setup.sample[roles[0]])
        and fractions(boxes)
        and bool((boxes >= 0).all())
        and not ordered(boxes)
    )


def build(setup: Setup) -> Built:
    setup.check_options("rfdetr", OPTIONS)
    roles = _roles(setup.outputs)
    if roles is None:
        raise setup.misfit("rfdetr", "not dets [1, Q, 4] and labels [1, Q, C]")
    logits, boxes = roles
    classes = counted(setup, "rfdetr", setup.sample[logits].shape[2])
    factors = np.array([setup.input_width, setup.input_height], np.float32)

    def decode(outputs: Sequence[NDArray], threshold: float) -> Candidates:
        values = outputs[logits][0]
        # The threshold is taken to the logits: far fewer exponentials than the scores to it.
        least = -math.inf if threshold <= 0 else math.inf if threshold >= 1 else math.log(threshold / (1 - threshold))
        queries, class_ids = (values[:, :classes] >= least).nonzero()
        if not len(queries):
            return NOTHING
        places = outputs[boxes][0].take(queries, 0)
        scores = 1 / (1 + np.exp(-values[queries, class_ids]))
        return Candidates(corners(places[:, :2] * factors, places[:, 2:] * factors), scores, class_ids)

    return finish(setup, decode, classes, suppress=False)
