"""Ultralytics' anchor-free layout: YOLOv8, YOLOv9, YOLO11, YOLO12, and YOLOv10 and YOLO26 exported without their own
selection.

Output (1, 4 + nc, N), channels first, N = cells of strides 8, 16, 32. Rows: cx, cy, w, h in pixels of the network's
input (TFLite files: fractions of it), then the classes' probabilities (sigmoid in the graph); there is no
objectness. Score = the largest class. Segmentation files have 32 mask coefficients after the classes and a second
output of prototypes; pose files have 3 rows a keypoint after the classes: both are left alone, given the number of
classes. Source: ultralytics nn/modules/head.py (Detect, Segment, Pose), utils/tal.py (dist2bbox).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.decoders import NOTHING, Built, Candidates, Setup
from edge_vision.inference.decoders.common import (
    CLASSES_OPTION,
    NORMALISED_OPTION,
    corners,
    counted,
    find_strides,
    finished,
    fractions,
    grid,
    mask_coefficients,
    only,
    probabilities,
    to_pixels,
)
from edge_vision.inference.onnx_header import TensorSpec

EXPECTS = "one output [1, 4+classes, N], channels first, fewer channels than N"
DEFAULT_INPUT: Mapping[str, Any] = {"colour": "rgb", "scale": 1 / 255, "resize": "letterbox", "pad_value": 114}
DEFAULT_THRESHOLDS: Mapping[str, float] = {"score": 0.25, "iou": 0.7}
NEAR = 0.15
"""Of the image's width. A side is at most 15 strides long, and most cells are of the smallest stride."""
OPTIONS = {"classes": CLASSES_OPTION, "normalised": NORMALISED_OPTION}


def classes_in(outputs: Sequence[TensorSpec], input_width: int, input_height: int) -> int | None:
    head = only(outputs, 3)
    if head is None or any(len(spec.shape) not in (3, 4) for spec in outputs) or len(outputs) > 2:
        return None
    _, channels, anchors = head[1]
    classes = channels - 4 - mask_coefficients(outputs, input_width, input_height)
    if classes < 1 or channels >= anchors or find_strides(anchors, input_width, input_height) is None:
        return None
    return classes


def plausible(setup: Setup) -> bool:
    """Whether most boxes lie around their cells: others' rows that a converter has transposed do not."""
    head = only(setup.outputs, 3)
    strides = find_strides(head[1][2], setup.input_width, setup.input_height) if head else None
    if head is None or strides is None:
        return False
    cells = grid(setup.input_width, setup.input_height, strides)
    places = (cells[:, 0] + 0.5) * cells[:, 2] / setup.input_width
    boxes = setup.sample[head[0]][0, :4].T
    found = boxes[:, 0] if fractions(boxes) else boxes[:, 0] / setup.input_width
    return float(np.median(np.abs(found - places))) < NEAR


def build(setup: Setup) -> Built:
    setup.check_options("yolov8", OPTIONS)
    head = only(setup.outputs, 3)
    masks = mask_coefficients(setup.outputs, setup.input_width, setup.input_height)
    if head is None:
        raise setup.misfit("yolov8", "not one output [1, 4+classes, N]")
    place, (_, channels, anchors) = head
    if channels - masks < 5 or channels >= anchors:
        raise setup.misfit("yolov8", f"{channels} channels of {anchors} anchors are not 4+classes by N")
    classes = counted(setup, "yolov8", channels - 4 - masks)
    last = 4 + classes
    sample = setup.sample[place][0]
    if not probabilities(sample[4:last]):
        problem = f"rows 4 to {last - 1} are no probabilities, as in a pose or rotated-box (OBB) file"
        remedy = "for a pose or segmentation file state decoder_options.classes; rotated boxes are not supported"
        raise setup.misfit("yolov8", problem, remedy)
    factors = to_pixels(setup, "yolov8", sample[:4].T)

    def decode(outputs: Sequence[NDArray], threshold: float) -> Candidates:
        output = outputs[place][0]
        best = output[4:last].max(0)  # row by row at the speed of memory: a pass with a threshold first is no faster
        index = (best >= threshold).nonzero()[0]
        if not len(index):
            return NOTHING
        chosen = output[:last].take(index, 1)  # (4 + nc, kept): only the anchors that count
        places = chosen[:4].T
        centres, sizes = places[:, :2], places[:, 2:]
        if factors is not None:
            centres, sizes = centres * factors, sizes * factors
        return Candidates(corners(centres, sizes), best.take(index), chosen[4:].argmax(0))

    return finished(setup, decode, classes)
