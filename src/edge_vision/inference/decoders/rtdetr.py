"""RT-DETR, RT-DETRv2 and D-FINE as their own projects export them: selected in the graph, no suppression needed.

Outputs `labels` (1, M) int64, `boxes` (1, M, 4), `scores` (1, M), M = 300. Boxes are x1, y1, x2, y2 in pixels of a size
that the second input, `orig_target_sizes` int64 [[width, height]], states. It is given the network's own size here, so
that boxes come in its pixels like every decoder's. Source: RT-DETR tools/export_onnx.py, rtdetr_postprocessor.py;
D-FINE tools/deployment/export_onnx.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.decoders import NOTHING, Built, Candidates, Setup
from edge_vision.inference.decoders.common import NORMALISED_OPTION, finished, names, to_pixels
from edge_vision.inference.onnx_header import TensorSpec

EXPECTS = "three outputs: labels [1, M], boxes [1, M, 4], scores [1, M]"
NAMES = (frozenset({"labels", "boxes", "scores"}),)
DEFAULT_INPUT: Mapping[str, Any] = {"colour": "rgb", "scale": 1 / 255, "resize": "stretch"}
DEFAULT_THRESHOLDS: Mapping[str, float] = {"score": 0.4, "iou": 0.7}
OPTIONS = {"normalised": NORMALISED_OPTION}


def extra_inputs(inputs: Sequence[TensorSpec], width: int, height: int) -> dict[str, NDArray]:
    """`orig_target_sizes`, where the model takes it: the size in whose pixels boxes are put out."""
    return {
        spec.name: np.array([[width, height]], spec.dtype)
        for spec in inputs
        if spec.name == "orig_target_sizes" or (len(spec.shape) == 2 and spec.shape[-1] == 2 and "int" in spec.dtype)
    }


def _roles(outputs: Sequence[TensorSpec]) -> tuple[int, int, int] | None:
    """Places of labels, boxes and scores: by name, else boxes by shape and labels by being whole numbers."""
    named = names(outputs)
    if len(outputs) != 3:
        return None
    if set(named) == {"labels", "boxes", "scores"}:
        labels, boxes, scores = (named.index(name) for name in ("labels", "boxes", "scores"))
    else:
        flat = [i for i, spec in enumerate(outputs) if len(spec.shape) == 2]
        integers = [i for i in flat if "int" in outputs[i].dtype]
        if len(flat) != 2 or len(integers) != 1:
            return None
        labels, boxes = integers[0], ({0, 1, 2} - set(flat)).pop()
        scores = next(i for i in flat if i != labels)
    shape = outputs[boxes].shape
    fits = len(shape) == 3 and shape[2] == 4 and outputs[labels].shape == outputs[scores].shape == shape[:2]
    return (labels, boxes, scores) if fits else None


def classes_in(outputs: Sequence[TensorSpec], input_width: int, input_height: int) -> int | None:
    return 0 if _roles(outputs) else None


def build(setup: Setup) -> Built:
    setup.check_options("rtdetr", OPTIONS)
    roles = _roles(setup.outputs)
    if roles is None:
        raise setup.misfit("rtdetr", "not labels, boxes and scores of one length")
    labels, boxes, scores = roles
    factors = to_pixels(setup, "rtdetr", setup.sample[boxes][0])

    def decode(outputs: Sequence[NDArray], threshold: float) -> Candidates:
        all_scores = outputs[scores][0]
        index = (all_scores >= threshold).nonzero()[0]
        if not len(index):
            return NOTHING
        chosen = outputs[boxes][0].take(index, 0)
        if factors is not None:
            chosen *= np.tile(factors, 2)
        return Candidates(chosen, all_scores.take(index), outputs[labels][0].take(index).astype(np.int64))

    return finished(setup, decode, None, suppress=False)
