"""Outputs that the graph has selected already, a row a box: YOLOv10 and YOLO26 end to end, Ultralytics' exports with
`nms=True`, and Ultralytics' RT-DETR.

Output (1, M, 6), M usually 300. Columns: four of the box, score, class number. YOLO: x1, y1, x2, y2 in pixels of the
network's input; RT-DETR: cx, cy, w, h in fractions of it, whose earlier exports have (1, 300, 4 + nc) with the
classes' probabilities in place of score and number. Further columns (mask coefficients, keypoints) are left alone.
Which it is is measured on a sample, or stated. Source: ultralytics nn/modules/head.py (Detect.postprocess,
RTDETRDecoder), models/rtdetr/predict.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.decoders import NOTHING, Built, Candidates, Setup
from edge_vision.inference.decoders.common import (
    CLASSES_OPTION,
    NORMALISED_OPTION,
    corners,
    counted,
    fractions,
    mask_coefficients,
    only,
    option,
    ordered,
    probabilities,
    to_pixels,
    whole_numbers,
)
from edge_vision.inference.decoders.common import finished as finish
from edge_vision.inference.onnx_header import TensorSpec

EXPECTS = "one output [1, M, 6]: box, score, class; M at most 1000 (or Ultralytics' RT-DETR: [1, 300, 4+classes])"
DEFAULT_INPUT: Mapping[str, Any] = {"colour": "rgb", "scale": 1 / 255, "resize": "letterbox", "pad_value": 114}
DEFAULT_THRESHOLDS: Mapping[str, float] = {"score": 0.25, "iou": 0.7}
OPTIONS = {
    "boxes": "xyxy or cxcywh; measured where absent",
    "normalised": NORMALISED_OPTION,
    "columns": "score_class (score and class number) or classes (a probability each); measured where absent",
    "classes": CLASSES_OPTION,
}
MOST_ROWS = 1000
QUERIES = 300


def classes_in(outputs: Sequence[TensorSpec], input_width: int, input_height: int) -> int | None:
    head = only(outputs, 3)
    if head is None or any(len(spec.shape) not in (3, 4) for spec in outputs) or len(outputs) > 2:
        return None
    _, rows, columns = head[1]
    if rows <= MOST_ROWS and columns == 6 + mask_coefficients(outputs, input_width, input_height):
        return 0
    return 0 if rows == QUERIES and columns > 4 and len(outputs) == 1 else None


def _numbered(rows: NDArray) -> bool:
    """Whether columns 4 and 5 are score and class number."""
    return rows.shape[1] > 5 and probabilities(rows[:, 4]) and whole_numbers(rows[:, 5])


def plausible(setup: Setup) -> bool:
    head = only(setup.outputs, 3)
    if head is None:
        return False
    rows = setup.sample[head[0]][0]
    return _numbered(rows) or (len(rows) == QUERIES and fractions(rows[:, :4]) and probabilities(rows[:, 4:]))


def default_input(
    outputs: Sequence[TensorSpec], width: int, height: int, properties: Mapping[str, str], sample: Callable[[], Any]
) -> Mapping[str, Any]:
    # RT-DETR's image is stretched; only boxes in fractions by their centres tell it from YOLO where nothing says so.
    transformer = "detr" in properties.get("description", "").lower().replace("-", "")
    if not transformer and "description" not in properties:
        rows = sample()[0][0]
        transformer = fractions(rows[:, :4]) and not ordered(rows[:, :4])
    return {**DEFAULT_INPUT, "resize": "stretch"} if transformer else DEFAULT_INPUT


def build(setup: Setup) -> Built:
    name = "end_to_end"
    setup.check_options(name, OPTIONS)
    head = only(setup.outputs, 3)
    if head is None or head[1][2] < 5:
        raise setup.misfit(name, "not one output [1, M, 6] or [1, M, 4+classes]")
    place, shape = head
    rows = setup.sample[place][0]
    columns = option(setup, name, "columns", str, ("score_class", "classes"))
    if columns is None:
        columns = "score_class" if _numbered(rows) else "classes"
    if columns == "score_class" and shape[2] < 6:
        raise setup.misfit(name, "no columns for box, score and class")
    if columns == "classes" and not probabilities(rows[:, 4:]):
        problem = "column 4 is no score with a class number after it, and the columns from 4 are no probabilities"
        raise setup.misfit(name, problem)
    form = option(setup, name, "boxes", str, ("xyxy", "cxcywh"))
    if form is None:
        form = "xyxy" if ordered(rows[:, :4]) else "cxcywh"
    factors = to_pixels(setup, name, rows[:, :4])
    classes = counted(setup, name, shape[2] - 4) if columns == "classes" else None

    def decode(outputs: Sequence[NDArray], threshold: float) -> Candidates:
        rows = outputs[place][0]
        best = rows[:, 4] if classes is None else rows[:, 4 : 4 + classes].max(1)
        index = (best >= threshold).nonzero()[0]
        if not len(index):
            return NOTHING
        chosen = rows.take(index, 0)
        boxes = chosen[:, :4]
        if form == "cxcywh":
            boxes = corners(boxes[:, :2], boxes[:, 2:])
        if factors is not None:
            boxes = boxes * np.tile(factors, 2)
        class_ids = chosen[:, 5].astype(np.int64) if classes is None else chosen[:, 4 : 4 + classes].argmax(1)
        return Candidates(np.ascontiguousarray(boxes), best.take(index), class_ids)

    return finish(setup, decode, classes, suppress=False)
