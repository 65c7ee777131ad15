"""NanoDet-Plus and NanoDet v0.x (RangiLyu): each side of a box as a distribution over distances.

Output (1, N, nc + 4 (R + 1)), R = 7. Columns: class probabilities (sigmoid in the graph), then for left, top, right and
bottom R + 1 raw terms: the distance is the mean of 0..R under their softmax, times the stride. Plus: strides 8, 16, 32,
64, measured from the cell's corner (x s, y s); v0.x: strides 8, 16, 32, from its centre ((x + 0.5) s, (y + 0.5) s).
Score = the largest class. Source: nanodet head/nanodet_plus_head.py, head/gfl_head.py; the distribution is that of
generalized focal loss (Li et al. 2020, arXiv:2006.04388).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.decoders import NOTHING, Built, Candidates, Setup
from edge_vision.inference.decoders.common import (
    chosen_strides,
    count,
    finished,
    grid,
    only,
    option,
    probabilities,
    strongest,
)
from edge_vision.inference.errors import ModelError
from edge_vision.inference.onnx_header import TensorSpec

EXPECTS = "one output [1, N, classes+32], N = cells of strides 8, 16, 32, 64 (Plus) or 8, 16, 32 (v0.x)"
DEFAULT_INPUT: Mapping[str, Any] = {
    "colour": "bgr", "mean": (103.53, 116.28, 123.675), "std": (57.375, 57.12, 58.395), "resize": "stretch",
}  # fmt: skip
DEFAULT_THRESHOLDS: Mapping[str, float] = {"score": 0.35, "iou": 0.6}

VARIANTS: Mapping[str, tuple[tuple[int, ...], float]] = {"plus": ((8, 16, 32, 64), 0.0), "v0": ((8, 16, 32), 0.5)}
"""Strides, and where in its cell a box is measured from."""

OPTIONS = {
    "variant": "plus or v0; told by the number of rows where absent",
    "centre": "where in its cell a box is measured from, 0 (corner) to 0.5; the variant's where absent",
    "strides": "a list such as [8, 16, 32, 64]; the variant's where absent",
    "bins": "terms of each side's distribution (reg_max + 1), 8 where absent",
}
BINS = 8


def _variant(rows: int, width: int, height: int) -> str | None:
    return next((name for name, (strides, _) in VARIANTS.items() if count(width, height, strides) == rows), None)


def classes_in(outputs: Sequence[TensorSpec], input_width: int, input_height: int) -> int | None:
    head = only(outputs, 3)
    if head is None or len(outputs) != 1:
        return None
    _, rows, columns = head[1]
    fits = 4 * BINS < columns < rows and _variant(rows, input_width, input_height)
    return columns - 4 * BINS if fits else None


def plausible(setup: Setup) -> bool:
    rows = setup.sample[0][0]
    return probabilities(rows[:, : -4 * BINS]) and not probabilities(rows[:, -4 * BINS :])


def default_input(
    outputs: Sequence[TensorSpec], width: int, height: int, properties: Mapping[str, str], sample: Callable[[], Any]
) -> Mapping[str, Any]:
    # v0.x keeps the aspect, with black beside the image.
    plus = _variant(outputs[0].shape[1] or 0, width, height) != "v0"
    return DEFAULT_INPUT if plus else {**DEFAULT_INPUT, "resize": "letterbox", "pad_value": 0}


def build(setup: Setup) -> Built:
    setup.check_options("nanodet", OPTIONS)
    bins = option(setup, "nanodet", "bins", int) or BINS
    head = only(setup.outputs, 3)
    if head is None or len(setup.outputs) != 1 or head[1][2] <= 4 * bins:
        raise setup.misfit("nanodet", f"not one output [1, N, classes+{4 * bins}]")
    _, total, columns = head[1]
    classes = columns - 4 * bins
    variant = option(setup, "nanodet", "variant", str, tuple(VARIANTS))
    variant = variant or _variant(total, setup.input_width, setup.input_height)
    strides = chosen_strides(setup, "nanodet", total)
    centre = setup.options.get("centre")
    if centre is None:
        if variant is None:
            problem = f"strides {list(strides)} belong to neither NanoDet-Plus nor v0.x"
            raise setup.misfit("nanodet", problem, "state decoder_options.variant: plus or v0")
        centre = VARIANTS[variant][1]
    if not isinstance(centre, (int, float)) or not 0 <= centre <= 1:
        raise ModelError(setup.file, f"is {centre!r}", "give a number from 0 to 0.5", "decoder_options.centre")
    cells = grid(setup.input_width, setup.input_height, strides)
    origins = (cells[:, :2] + np.float32(centre)) * cells[:, 2:]
    steps = cells[:, 2, None]
    distances = np.arange(bins, dtype=np.float32)

    def decode(outputs: Sequence[NDArray], threshold: float) -> Candidates:
        rows = outputs[0][0]
        index, scores, class_ids = strongest(rows[:, :classes], threshold)
        if not len(index):
            return NOTHING
        terms = rows[index, classes:].reshape(-1, 4, bins)
        weights = np.exp(terms - terms.max(2, keepdims=True))
        sides = weights @ distances
        sides /= weights.sum(2)
        sides *= steps.take(index, 0)
        origin = origins.take(index, 0)
        boxes = np.empty((len(index), 4), np.float32)
        np.subtract(origin, sides[:, :2], out=boxes[:, :2])
        np.add(origin, sides[:, 2:], out=boxes[:, 2:])
        return Candidates(boxes, scores, class_ids)

    return finished(setup, decode, classes)
