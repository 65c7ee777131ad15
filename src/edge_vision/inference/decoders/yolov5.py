"""YOLOv5 and what keeps its layout (YOLOv7 exported with its grid, YOLOv6's first releases): three anchors a cell.

Output (1, N, 5 + nc), N = 3 x cells of strides 8, 16, 32 (P6 models: and 64). Columns: cx, cy, w, h in pixels of the
network's input (TFLite files: fractions of it), objectness, classes; the last two groups are probabilities already
(sigmoid in the graph). Score = objectness x largest class. A segmentation file has mask coefficients after the
classes and a second output of prototypes: both are left alone. Source: yolov5 models/yolo.py, Detect and Segment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from edge_vision.inference.decoders import NOTHING, Built, Candidates, Setup
from edge_vision.inference.decoders.common import (
    CLASSES_OPTION,
    NORMALISED_OPTION,
    corners,
    counted,
    find_strides,
    finished,
    mask_coefficients,
    only,
    select_rows,
    to_pixels,
)
from edge_vision.inference.onnx_header import TensorSpec

EXPECTS = "one output [1, N, 5+classes], N = 3 x cells of strides 8, 16, 32"
DEFAULT_INPUT: Mapping[str, Any] = {"colour": "rgb", "scale": 1 / 255, "resize": "letterbox", "pad_value": 114}
DEFAULT_THRESHOLDS: Mapping[str, float] = {"score": 0.25, "iou": 0.45}
STRIDES = ((8, 16, 32), (8, 16, 32, 64), (16, 32))
"""Of the family's models: P5, P6 and the tiny ones."""
OPTIONS = {"classes": CLASSES_OPTION, "normalised": NORMALISED_OPTION}


def classes_in(outputs: Sequence[TensorSpec], input_width: int, input_height: int) -> int | None:
    head = only(outputs, 3)
    # Beside the rows some exports put out the raw heads (five dimensions), or a segmentation's prototypes (four).
    if head is None or any(len(spec.shape) not in (3, 4, 5) for spec in outputs):
        return None
    _, rows, columns = head[1]
    classes = columns - 5 - mask_coefficients(outputs, input_width, input_height)
    strides = find_strides(rows // 3, input_width, input_height)
    return classes if rows % 3 == 0 and 0 < classes < rows and strides in STRIDES else None


def build(setup: Setup) -> Built:
    setup.check_options("yolov5", OPTIONS)
    head = only(setup.outputs, 3)
    masks = mask_coefficients(setup.outputs, setup.input_width, setup.input_height)
    if head is None or head[1][2] - masks < 6:
        raise setup.misfit("yolov5", "not one output [1, N, 5+classes]")
    place, shape = head
    classes = counted(setup, "yolov5", shape[2] - 5 - masks)
    last = 5 + classes
    factors = to_pixels(setup, "yolov5", setup.sample[place][0, :, :4])

    def decode(outputs: Sequence[NDArray], threshold: float) -> Candidates:
        selected = select_rows(outputs[place][0], threshold, last)
        if selected is None:
            return NOTHING
        _, chosen, scores, class_ids = selected
        centres, sizes = chosen[:, :2], chosen[:, 2:4]
        if factors is not None:
            centres, sizes = centres * factors, sizes * factors
        return Candidates(corners(centres, sizes), scores, class_ids)

    return finished(setup, decode, classes)
