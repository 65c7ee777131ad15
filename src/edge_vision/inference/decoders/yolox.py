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
from edge_vision.inference.onnx_header import TensorSpec

EXPECTS = "one output [1, N, 5+classes], N = cells of strides 8, 16, 32 (or those given in decoder_options.strides)"
DEFAULT_INPUT: Mapping[str, Any] = {"colour": "bgr", "scale": 1.0, "resize": "letterbox_corner", "pad_value": 114}
DEFAULT_THRESHOLDS: Mapping[str, float] = {"score": 0.3, "iou": 0.45}

OPTIONS = {
    "strides": "a list such as [8, 16, 32]; derived from N where absent",
    "decoded": "true where the graph puts out boxes in pixels, false where relative to cells; measured where absent",
}
USUAL_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (8, 16), (16, 32), (16,), (8,), (32,), (4, 8, 16), (4, 8, 16, 32))
LARGEST_EXPONENT = 9.0  # 8103 cells is beyond any image; keeps an untrained head from overflowing


def cells(width: int, height: int, stride: int) -> tuple[int, int]:
    """Columns and rows of the grid of one stride; networks round a partial cell up."""
    return -(-width // stride), -(-height // stride)


def count(width: int, height: int, strides: Sequence[int]) -> int:
    return sum(columns * rows for columns, rows in (cells(width, height, stride) for stride in strides))


def find_strides(total: int, width: int, height: int) -> tuple[int, ...] | None:
    """The usual set of strides that gives `total` rows for this input, or None."""
    return next((s for s in USUAL_STRIDES if count(width, height, s) == total), None)


def classes_in(outputs: Sequence[TensorSpec], input_width: int, input_height: int) -> int | None:
    if len(outputs) != 1 or len(outputs[0].shape) != 3:
        return None
    _, rows, columns = outputs[0].shape
    if rows is None or columns is None or columns < 6 or find_strides(rows, input_width, input_height) is None:
        return None
    return columns - 5


def grid(width: int, height: int, strides: Sequence[int]) -> NDArray[np.float32]:
    """(N, 4): gx * s, gy * s, s and ln(s / 2) of every row of the output."""
    levels = []
    for stride in strides:
        columns, rows = cells(width, height, stride)
        y, x = np.mgrid[:rows, :columns]
        level = [x * stride, y * stride, np.full(x.shape, stride), np.full(x.shape, np.log(stride / 2))]
        levels.append(np.stack(level, -1).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


def looks_decoded(rows: NDArray, cells: NDArray[np.float32]) -> bool:
    """Whether column 0 holds pixels: then cx is near its cell's centre, otherwise within a cell or so of 0."""
    stride = cells[:, 2]
    from_cell = np.abs(rows[:, 0] / stride - cells[:, 0] / stride - 0.5)
    return bool(np.median(from_cell) < np.median(np.abs(rows[:, 0] - 0.5)))


def build(setup: Setup) -> Built:
    setup.check_options("yolox", OPTIONS)
    width, height = setup.input_width, setup.input_height
    if (
        len(setup.sample) != 1
        or setup.sample[0].ndim != 3
        or setup.sample[0].shape[0] != 1
        or setup.sample[0].shape[2] < 6
    ):
        raise setup.misfit("yolox", "not one output [1, N, 5+classes]")
    rows = setup.sample[0][0]
    total = len(rows)
    given = setup.options.get("strides")
    strides = tuple(int(s) for s in given) if given else find_strides(total, width, height)
    if strides is None:
        raise setup.misfit("yolox", f"no usual set of strides gives {total} rows for an input of {width}x{height}")
    if count(width, height, strides) != total:
        expected = count(width, height, strides)
        problem = (
            f"strides {list(strides)} give {expected} rows for an input of {width}x{height}, the model has {total}"
        )
        raise setup.misfit("yolox", problem, "correct decoder_options.strides, or leave it out")
    table = grid(width, height, strides)
    decoded = setup.options.get("decoded")
    if decoded is None:
        decoded = looks_decoded(rows, table)
    return Built(decoded_boxes if decoded else relative_boxes(table), rows.shape[1] - 5)


def _select(rows: NDArray, threshold: float) -> tuple[NDArray[np.intp], NDArray, NDArray, NDArray] | None:
    """Indices of the rows at or above the threshold, those rows, their scores and classes; None for no rows."""
    # No class score exceeds 1, so a row whose objectness is below the threshold is out: a few rows are left to look at.
    index = (rows[:, 4] >= threshold).nonzero()[0]
    if not len(index):
        return None
    chosen = rows.take(index, 0)
    class_scores = chosen[:, 5:]
    class_ids = class_scores.argmax(1)
    scores = np.maximum.reduce(class_scores, 1)
    scores *= chosen[:, 4]
    keep = scores >= threshold
    if not keep.all():
        index, chosen, scores, class_ids = index[keep], chosen[keep], scores[keep], class_ids[keep]
    return index, chosen, scores, class_ids


def _corners(centres: NDArray, half: NDArray) -> NDArray[np.float32]:
    boxes = np.empty((len(centres), 4), np.float32)
    np.subtract(centres, half, out=boxes[:, :2])
    np.add(centres, half, out=boxes[:, 2:])
    return boxes


def relative_boxes(table: NDArray[np.float32]) -> Decode:
    """Decoder of boxes given relative to the cells of `table`."""

    def decode(outputs: Sequence[NDArray], threshold: float) -> Candidates:
        selected = _select(outputs[0][0], threshold)
        if selected is None:
            return NOTHING
        index, chosen, scores, class_ids = selected
        place = table.take(index, 0)
        centres = chosen[:, :2] * place[:, 2:3]
        centres += place[:, :2]
        half = np.minimum(chosen[:, 2:4], LARGEST_EXPONENT)
        half += place[:, 3:]
        np.exp(half, out=half)  # exp(w) s / 2
        return Candidates(_corners(centres, half), scores, class_ids)

    return decode


def decoded_boxes(outputs: Sequence[NDArray], threshold: float) -> Candidates:
    """Decoder of boxes that the graph has turned into pixels already."""
    selected = _select(outputs[0][0], threshold)
    if selected is None:
        return NOTHING
    _, chosen, scores, class_ids = selected
    return Candidates(_corners(chosen[:, :2], chosen[:, 2:4] * 0.5), scores, class_ids)
