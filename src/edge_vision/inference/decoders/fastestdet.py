"""FastestDet (dog-qiuqiu): one level of stride 16, anchor-free, for CPUs and microcontrollers.

Output (1, 5 + nc, h, w), or (1, h, w, 5 + nc) where a converter to TFLite has turned it: objectness (sigmoid in the
graph), four raw box terms, class probabilities (softmax in the graph). For cell (gx, gy): cx = (tanh(t0) + gx)/w, cy =
(tanh(t1) + gy)/h, width = sigmoid(t2), height = sigmoid(t3), all as a fraction of the input. Score = objectness^0.6 x
(largest class)^0.4. Source: FastestDet utils/tool.py, handle_preds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.decoders import NOTHING, Built, Candidates, Decode, Setup
from edge_vision.inference.decoders.common import finished
from edge_vision.inference.onnx_header import TensorSpec

EXPECTS = "one output [1, 5+classes, h, w] (or channels last), a single grid"
DEFAULT_INPUT: Mapping[str, Any] = {"colour": "bgr", "scale": 1 / 255, "resize": "stretch"}
DEFAULT_THRESHOLDS: Mapping[str, float] = {"score": 0.5, "iou": 0.45}

OBJECTNESS_POWER = 0.6
CLASS_POWER = 0.4


def _layout(shape: Sequence[int | None], width: int, height: int) -> tuple[bool, int, int, int] | None:
    """(channels last, channels, rows, columns) of a grid of square cells on this input."""
    if len(shape) != 4 or shape[0] != 1 or None in shape:
        return None
    _, a, b, c = (d for d in shape if d is not None)
    for last, channels, rows, columns in ((False, a, b, c), (True, c, a, b)):
        if channels >= 6 and width * rows == height * columns and width % columns == 0:
            return last, channels, rows, columns
    return None


def classes_in(outputs: Sequence[TensorSpec], input_width: int, input_height: int) -> int | None:
    found = _layout(outputs[0].shape, input_width, input_height) if len(outputs) == 1 else None
    return found[1] - 5 if found else None


def build(setup: Setup) -> Built:
    setup.check_options("fastestdet", {})
    found = _layout(setup.sample[0].shape, setup.input_width, setup.input_height) if len(setup.sample) == 1 else None
    if found is None:
        problem = f"not one output [1, 5+classes, h, w] of square cells of {setup.input_width}x{setup.input_height}"
        raise setup.misfit("fastestdet", problem)
    last, channels, rows, columns = found
    decode = grid_decoder(columns, rows, setup.input_width, setup.input_height, last)
    return finished(setup, decode, channels - 5)


def grid_decoder(columns: int, rows: int, input_width: int, input_height: int, channels_last: bool) -> Decode:
    """Decoder for a grid of this size on an input of that size, in pixels."""

    def decode(outputs: Sequence[NDArray], threshold: float) -> Candidates:
        output = outputs[0][0]
        output = output.reshape(-1, output.shape[2]).T if channels_last else output.reshape(len(output), -1)
        # No class exceeds 1, so objectness alone rules out nearly all cells.
        index = (output[0] >= threshold ** (1 / OBJECTNESS_POWER)).nonzero()[0]
        if not len(index):
            return NOTHING
        chosen = output.take(index, 1)
        class_ids = chosen[5:].argmax(0)
        scores = chosen[0] ** OBJECTNESS_POWER * chosen[5:].max(0) ** CLASS_POWER
        keep = scores >= threshold
        if not keep.all():
            index, chosen, scores, class_ids = index[keep], chosen[:, keep], scores[keep], class_ids[keep]
        cell_y, cell_x = np.divmod(index, columns)
        tx, ty, tw, th = chosen[1:5]
        centre_x = (np.tanh(tx) + cell_x) * (input_width / columns)
        centre_y = (np.tanh(ty) + cell_y) * (input_height / rows)
        half_width = 0.5 * input_width / (1 + np.exp(-tw))
        half_height = 0.5 * input_height / (1 + np.exp(-th))
        boxes = np.empty((len(index), 4), np.float32)
        boxes[:, 0] = centre_x - half_width
        boxes[:, 1] = centre_y - half_height
        boxes[:, 2] = centre_x + half_width
        boxes[:, 3] = centre_y + half_height
        return Candidates(boxes, scores, class_ids)

    return decode
