"""YOLOX (Ge et al. 2021, arXiv:2107.08430): anchor-free, decoupled head, one row a grid cell.

Output (1, N, 5 + nc) with N = sum over the strides of (H/s)(W/s), rows in the order of the strides, each level row-
major. Columns: x, y, w, h, objectness, class scores; the last two groups are probabilities already (sigmoid in the
graph). Boxes are relative to the cell unless exported decoded: cx = (x + gx) s, cy = (y + gy) s, w = exp(w) s, h =
exp(h) s, with the cell's integer indices gx, gy. Score = objectness x class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.decoders import NOTHING, Built, Candidates, Decode, Setup
from edge_vision.inference.decoders.common import (
    chosen_strides,
    corners,
    find_strides,
    finished,
    grid,
    only,
    option,
    probabilities,
    select_rows,
)
from edge_vision.inference.onnx_header import TensorSpec

EXPECTS = "one output [1, N, 5+classes], N = cells of strides 8, 16, 32 (or those given in decoder_options.strides)"
DEFAULT_INPUT: Mapping[str, Any] = {"colour": "bgr", "scale": 1.0, "resize": "letterbox_corner", "pad_value": 114}
DEFAULT_THRESHOLDS: Mapping[str, float] = {"score": 0.3, "iou": 0.45}

OPTIONS = {
    "strides": "a list such as [8, 16, 32]; derived from N where absent",
    "decoded": "true where the graph puts out boxes in pixels, false where relative to cells; measured where absent",
}
LARGEST_EXPONENT = 9.0  # 8103 cells is beyond any image; keeps an untrained head from overflowing


def classes_in(outputs: Sequence[TensorSpec], input_width: int, input_height: int) -> int | None:
    head = only(outputs, 3)
    if head is None or len(outputs) != 1:
        return None
    _, rows, columns = head[1]
    return columns - 5 if 5 < columns < rows and find_strides(rows, input_width, input_height) else None


def plausible(setup: Setup) -> bool:
    rows = setup.sample[0][0]
    # Objectness by falling order is no grid's: rows that the graph has selected.
    return probabilities(rows[:, 4:]) and bool((np.diff(rows[:, 4]) > 0).any())


def looks_decoded(rows: NDArray, cells: NDArray[np.float32]) -> bool:
    """Whether column 0 holds pixels: then cx is near its cell's centre, otherwise within a cell or so of 0."""
    from_cell = np.abs(rows[:, 0] / cells[:, 2] - cells[:, 0] - 0.5)
    return bool(np.median(from_cell) < np.median(np.abs(rows[:, 0] - 0.5)))


def build(setup: Setup) -> Built:
    setup.check_options("yolox", OPTIONS)
    head = only(setup.outputs, 3)
    if head is None or len(setup.outputs) != 1 or head[1][2] < 6:
        raise setup.misfit("yolox", "not one output [1, N, 5+classes]")
    rows = setup.sample[0][0]
    strides = chosen_strides(setup, "yolox", len(rows))
    cells = grid(setup.input_width, setup.input_height, strides)
    decoded = option(setup, "yolox", "decoded", bool)
    if decoded is None:
        decoded = looks_decoded(rows, cells)
    return finished(setup, decoded_boxes if decoded else relative_boxes(cells), rows.shape[1] - 5)


def relative_boxes(cells: NDArray[np.float32]) -> Decode:
    """Decoder of boxes given relative to the cells, (N, 3) column, row and stride."""

    def decode(outputs: Sequence[NDArray], threshold: float) -> Candidates:
        selected = select_rows(outputs[0][0], threshold, outputs[0].shape[2])
        if selected is None:
            return NOTHING
        index, chosen, scores, class_ids = selected
        place = cells.take(index, 0)
        stride = place[:, 2:]
        centres = chosen[:, :2] + place[:, :2]
        centres *= stride
        sizes = np.minimum(chosen[:, 2:4], LARGEST_EXPONENT)
        np.exp(sizes, out=sizes)
        sizes *= stride
        return Candidates(corners(centres, sizes), scores, class_ids)

    return decode


def decoded_boxes(outputs: Sequence[NDArray], threshold: float) -> Candidates:
    """Decoder of boxes that the graph has turned into pixels already."""
    selected = select_rows(outputs[0][0], threshold, outputs[0].shape[2])
    if selected is None:
        return NOTHING
    _, chosen, scores, class_ids = selected
    return Candidates(corners(chosen[:, :2], chosen[:, 2:4]), scores, class_ids)
