"""Ultralytics' anchor-free detection layout: YOLOv8, YOLO11, YOLO12, YOLOv9, and YOLO26 exported without its own NMS.

Output (1, 4 + nc, N), channels first, N = cells of strides 8, 16, 32. Rows: cx, cy, w, h in pixels of the network's
input, then the classes' probabilities (sigmoid in the graph); there is no objectness. Score = the largest class.
Source: ultralytics nn/modules/head.py (Detect), utils/tal.py (dist2bbox).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.decoders import NOTHING, Built, Candidates, Setup
from edge_vision.inference.decoders.yolox import find_strides
from edge_vision.inference.onnx_header import TensorSpec

EXPECTS = "one output [1, 4+classes, N], channels first, fewer channels than N"
DEFAULT_INPUT: Mapping[str, Any] = {"colour": "rgb", "scale": 1 / 255, "resize": "letterbox", "pad_value": 114}
DEFAULT_THRESHOLDS: Mapping[str, float] = {"score": 0.25, "iou": 0.7}


def classes_in(outputs: Sequence[TensorSpec], input_width: int, input_height: int) -> int | None:
    # More outputs or other shapes are segmentation, pose or end-to-end exports.
    if len(outputs) != 1 or len(outputs[0].shape) != 3:
        return None
    _, channels, anchors = outputs[0].shape
    if channels is None or anchors is None or not 4 < channels < anchors:
        return None
    return channels - 4 if find_strides(anchors, input_width, input_height) else None


def build(setup: Setup) -> Built:
    setup.check_options("yolov8", {})
    if len(setup.sample) != 1 or setup.sample[0].ndim != 3 or setup.sample[0].shape[0] != 1:
        raise setup.misfit("yolov8", "not one output [1, 4+classes, N]")
    _, channels, anchors = setup.sample[0].shape
    if not 4 < channels < anchors:
        raise setup.misfit("yolov8", f"{channels} channels of {anchors} anchors are not 4+classes by N")
    return Built(decode, channels - 4)


def decode(outputs: Sequence[NDArray], threshold: float) -> Candidates:
    output = outputs[0][0]
    best = output[4:].max(0)
    index = (best >= threshold).nonzero()[0]
    if not len(index):
        return NOTHING
    chosen = output.take(index, 1)  # (4 + nc, kept): only the anchors that count
    class_ids = chosen[4:].argmax(0)
    half = chosen[2:4] * 0.5
    boxes = np.empty((len(index), 4), np.float32)
    np.subtract(chosen[:2], half, out=boxes[:, :2].T)
    np.add(chosen[:2], half, out=boxes[:, 2:].T)
    return Candidates(boxes, best.take(index), class_ids)
