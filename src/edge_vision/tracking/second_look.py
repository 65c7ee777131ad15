"""A second look at what the first left: young tracks that moved on by more than their size, tracks where they were seen
last. And what it counts when classes differ, at either look."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_vision.tracking import motion
from edge_vision.tracking.association import Candidates, choose, iou_matrix, listed, touching
from edge_vision.tracking.few import FEW, within_reach
from edge_vision.tracking.parameters import TrackerParameters
from edge_vision.tracking.record import LOST

YOUNG_HITS = 2  # until then a track's velocity is a guess


def look_again(
    parameters: TrackerParameters,
    record: NDArray[np.void],
    state: motion.State,
    boxes: NDArray,
    free: NDArray,
    class_ids: NDArray,
    chosen: NDArray,
) -> None:
    """Pair young tracks with what is left near them: they may have moved on by more than their size."""
    rows = ((chosen < 0) & (record["hits"] <= YOUNG_HITS) & (record["state"] != LOST)).nonzero()[0]
    if not len(rows):
        return
    columns = free.nonzero()[0]
    young, found = motion.take(state, rows), boxes.take(columns, 0)
    margin = parameters.grow * np.sqrt(young[:, motion.VAR_POSITION] * motion.size_squared(young))
    predicted = motion.to_corners(young[:, motion.POSITION])
    if len(rows) * len(columns) <= FEW and not within_reach(predicted, found, margin):
        return
    near = iou_matrix(predicted, found, np.stack([margin, margin], axis=1))
    _pair(parameters, record, class_ids, rows, columns, listed(near), parameters.grow_gate, chosen)
    free[chosen[chosen >= 0]] = False


def recover(
    parameters: TrackerParameters,
    record: NDArray[np.void],
    boxes: NDArray,
    free: NDArray,
    class_ids: NDArray,
    chosen: NDArray,
) -> None:
    """Pair tracks with what is left where they were seen last (OC-SORT's observation-centric recovery)."""
    rows, columns = (chosen < 0).nonzero()[0], free.nonzero()[0]
    if len(rows) and len(columns):
        near = touching(record["box"].take(rows, 0), boxes.take(columns, 0))
        _pair(parameters, record, class_ids, rows, columns, near, parameters.observed_gate, chosen)


def _pair(
    parameters: TrackerParameters,
    record: NDArray[np.void],
    class_ids: NDArray,
    rows: NDArray,
    columns: NDArray,
    near: Candidates,
    gate: float,
    chosen: NDArray,
) -> None:
    """Assign these columns to these rows, from candidates that count from the first of each; writes ``chosen``."""
    by_class(parameters, near, record["class_id"].take(rows), class_ids.take(columns))
    r, c = choose(near, gate, (len(rows), len(columns)))
    chosen[rows[r]] = columns[c]


def by_class(parameters: TrackerParameters, candidates: Candidates, tracks: NDArray, class_ids: NDArray) -> None:
    """Lowers, in place, the worth of pairs of different classes."""
    if parameters.class_agnostic and not parameters.class_change:
        return
    rows, columns, worth = candidates
    other = tracks[rows] != class_ids.take(columns)
    if np.count_nonzero(other):
        worth[other] *= 1.0 - parameters.class_change if parameters.class_agnostic else 0.0
