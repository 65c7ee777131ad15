"""The pairs of a few boxes, where nothing is to be decided between them.

With ten objects, the usual case, a pair costs less in Python than the thirty steps that find what all of them are worth
at once. Most pairs are above or below the gate whatever their heights, or how sure the prediction is; what is left is
worked out one by one, as `matching` does it for all.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_vision.tracking import motion
from edge_vision.tracking.association import Pairs
from edge_vision.tracking.parameters import TrackerParameters
from edge_vision.tracking.record import CONFIRMED, TENTATIVE

FEW = 24  # pairs that overlap, up to which this is the faster way
SHAPE_DEVIATIONS = 2.0  # standard deviations from which a difference of heights counts in full
SURE, UNSURE = 0.1, 0.3  # standard deviations of a predicted place (in sizes) between which low_gate gives way

_ROUNDING = 1e-4  # relative: nearer to the gate, single precision decides, which `matching` has
_CONFIRMED, _TENTATIVE = int(CONFIRMED), int(TENTATIVE)


def undisputed(
    parameters: TrackerParameters,
    record: NDArray[np.void],
    state: motion.State,
    overlaps: NDArray[np.float32],
    boxes: NDArray,
    scores: NDArray,
    strong: NDArray[np.bool_],
    class_ids: NDArray,
) -> Pairs | None:
    """Rows (K,), ascending, and columns (K,) of the pairs above the gate, where each track and each detection has one
    at most; None where one has two, or where there are many: then the best choice is to be looked for.

    overlaps (M, N) of predicted and detected boxes; strong (N,); the rest as in `matching.match`, all at once and
    without regard to looks and direction.
    """
    flat = overlaps.reshape(-1)
    places = flat.nonzero()[0]
    if len(places) > FEW:
        return None
    count = overlaps.shape[1]
    gate = parameters.match_gate
    under, over = gate * (1.0 - _ROUNDING), gate * (1.0 + _ROUNDING)
    low, starting = gate / max(parameters.low_gate, 1e-6), gate / max(parameters.tentative_gate, 1e-6)
    most_slack = 1.0 + parameters.low_slack * (UNSURE - SURE)
    least_shape = 1.0 - parameters.shape
    changed = 1.0 - parameters.class_change if parameters.class_agnostic else 0.0
    lives, classes = record["state"].tolist(), record["class_id"].tolist()
    found_scores, found_strong, found_classes = scores.tolist(), strong.tolist(), class_ids.tolist()
    rows: list[int] = []
    columns: list[int] = []
    for place, worth in zip(places.tolist(), flat[places].tolist(), strict=True):
        row, column = divmod(place, count)
        life = lives[row]
        if found_strong[column]:
            if parameters.fuse_score:
                worth *= found_scores[column]
            if life == _TENTATIVE:
                worth *= starting
            slack = 1.0
        elif life == _CONFIRMED:
            worth *= low
            slack = most_slack
        else:
            continue
        if classes[row] != found_classes[column]:
            worth *= changed
        if worth * slack <= under:
            continue
        if worth * least_shape < over:
            if slack > 1.0:
                deviation = math.sqrt(state.item(row, motion.VAR_POSITION))
                worth *= 1.0 + parameters.low_slack * max(min(deviation, UNSURE) - SURE, 0.0)
            if parameters.shape:
                worth *= 1.0 - _shape_loss(parameters, state, row, boxes.item(column, 3) - boxes.item(column, 1))
            if worth <= under:
                continue
            if worth < over:
                return None
        if column in columns or (rows and rows[-1] == row):
            return None
        rows.append(row)
        columns.append(column)
    return np.array(rows, np.intp), np.array(columns, np.intp)


def _shape_loss(parameters: TrackerParameters, state: motion.State, row: int, found: float) -> float:
    """As `matching` has it for all pairs. found: the detection's height in px."""
    width, height = state.item(row, 2), state.item(row, 3)
    variance = state.item(row, motion.VAR_POSITION) * width / height + parameters.noise.measurement**2
    deviations = abs(math.log(height) - math.log(found)) / math.sqrt(variance)
    return min(deviations / SHAPE_DEVIATIONS, 1.0) * parameters.shape


def within_reach(first: NDArray, second: NDArray, margin: NDArray) -> bool:
    """Whether any of ``first`` (M, 4) and of ``second`` (N, 4), xyxy, may overlap when both are grown on all sides by
    the margin (M,) of the first."""
    found = second.tolist()
    for (left, top, right, bottom), grow in zip(first.tolist(), margin.tolist(), strict=True):
        grow = 2.0 * grow + 1.0  # a pixel more than exact, for rounding
        left, top, right, bottom = left - grow, top - grow, right + grow, bottom + grow
        for x1, y1, x2, y2 in found:
            if x1 < right and x2 > left and y1 < bottom and y2 > top:
                return True
    return False
