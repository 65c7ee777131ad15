"""Which detection continues which track: similarity of every pair, gates, and the stages of the assignment."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_vision.tracking import motion
from edge_vision.tracking.association import assign, far_negated, iou_matrix, overlap
from edge_vision.tracking.parameters import TrackerParameters
from edge_vision.tracking.record import CONFIRMED, LOST, TENTATIVE

_FAR_NEGATED = np.array([[1.0, 0, -1, 0], [0, 1, 0, -1], [-0.5, 0, -0.5, 0], [0, -0.5, 0, -0.5]])

MANY = 4096  # pairs from which a look at the sides spares work on the matrix
YOUNG_HITS = 2  # until then a track's velocity is a guess


def match(
    parameters: TrackerParameters,
    record: NDArray[np.void],
    state: motion.State,
    boxes: NDArray,
    scores: NDArray,
    class_ids: NDArray,
    high_score: float,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of tracks (K,), ascending, and the columns (K,) of the detections that continue them.

    record and state: of M tracks, predicted to the time of the detections; boxes (N, 4), scores and class_ids (N,);
    high_score: what is strong.
    """
    if not len(boxes):
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    similarity = _by_class(parameters, _overlap(state, boxes), record["class_id"], class_ids)
    strong = scores >= high_score
    steady = np.count_nonzero(record["state"] == TENTATIVE) == 0
    if not parameters.cascade:
        weighted = _at_once(parameters, record, similarity, boxes, scores, strong, steady)
        rows, columns = assign(weighted, parameters.match_gate)
    elif steady and np.count_nonzero(strong) == len(strong):
        rows, columns = assign(_weighted(parameters, record, similarity, boxes, scores), parameters.match_gate)
    else:
        rows, columns = _cascade(parameters, record, similarity, boxes, scores, strong)
    if len(rows) == len(record) or len(rows) == len(boxes) or not (parameters.grow or parameters.observed_gate < 1.0):
        return rows, columns
    chosen = np.full(len(record), -1, np.intp)
    chosen[rows] = columns
    if parameters.grow:
        _look_again(parameters, record, state, boxes, strong, class_ids, chosen)
    if parameters.observed_gate < 1.0:
        _recover(parameters, record, boxes, strong, class_ids, chosen)
    rows = (chosen >= 0).nonzero()[0]
    return rows, chosen[rows]


def _overlap(state: motion.State, boxes: NDArray) -> NDArray:
    """IoU of the predicted boxes and the detected ones: `iou_matrix`, with what the state knows already."""
    predicted = np.asarray((state[:, motion.POSITION] @ _FAR_NEGATED).T, np.float32)
    detected = far_negated(boxes)
    sides = detected[:2] + detected[2:]
    return overlap(
        predicted, detected, np.asarray(motion.size_squared(state), np.float32)[:, None], sides[0] * sides[1]
    )


def _by_class(parameters: TrackerParameters, similarity: NDArray, tracks: NDArray, class_ids: NDArray) -> NDArray:
    if parameters.class_agnostic and not parameters.class_change:
        return similarity
    if similarity.size > MANY and (tracks == class_ids[0]).all() and (class_ids == class_ids[0]).all():
        return similarity
    other = tracks[:, None] != class_ids
    if np.count_nonzero(other):
        similarity[other] *= 1.0 - parameters.class_change if parameters.class_agnostic else 0.0
    return similarity


def _weighted(
    parameters: TrackerParameters, record: NDArray[np.void], overlaps: NDArray, boxes: NDArray, scores: NDArray
) -> NDArray:
    """Similarity of strong detections: overlap, by score, with what speaks for or against their direction."""
    similarity = overlaps * scores if parameters.fuse_score else overlaps.copy()
    if parameters.direction:
        towards = _direction(record, boxes) * (scores * parameters.direction)
        similarity = np.where(similarity > parameters.match_gate, similarity + towards, similarity)
        least = np.where(overlaps > parameters.match_gate, parameters.match_gate * 1.01, 0.0)  # the gate is on overlap
        np.maximum(similarity, least, out=similarity)
    return similarity


def _direction(record: NDArray[np.void], boxes: NDArray) -> NDArray:
    """(M, N) in -0.5..0.5: by the angle between where a track went and where a detection would take it.

    Observation-centric momentum (Cao et al., Observation-Centric SORT, CVPR 2023, equation 4). 0 for tracks at rest.
    """
    past = record["past"]
    went = past[:, -1] - past[:, 0]
    goes = 0.5 * (boxes[:, :2] + boxes[:, 2:]) - past[:, -1][:, None]
    lengths = np.hypot(went[:, 0], went[:, 1])[:, None] * np.hypot(goes[..., 0], goes[..., 1])
    cosine = (goes[..., 0] * went[:, None, 0] + goes[..., 1] * went[:, None, 1]) / np.maximum(lengths, 1e-9)
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    return np.where(lengths > 1e-9, 0.5 - angle / np.pi, 0.0)


def _at_once(
    parameters: TrackerParameters,
    record: NDArray[np.void],
    overlaps: NDArray,
    boxes: NDArray,
    scores: NDArray,
    strong: NDArray,
    steady: bool,
) -> NDArray:
    """Similarities of all kinds of pairs, such that match_gate is the gate of each kind."""
    similarity = _weighted(parameters, record, overlaps, boxes, scores)
    weak = ~strong
    if np.count_nonzero(weak):
        similarity[:, weak] = overlaps[:, weak] * (parameters.match_gate / max(parameters.low_gate, 1e-6))
        similarity[(record["state"] != CONFIRMED)[:, None] & weak] = 0.0
    if not steady:
        tentative = record["state"] == TENTATIVE
        similarity[tentative] *= parameters.match_gate / max(parameters.tentative_gate, 1e-6)
    return similarity


def _cascade(
    parameters: TrackerParameters,
    record: NDArray[np.void],
    overlaps: NDArray,
    boxes: NDArray,
    scores: NDArray,
    strong: NDArray,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """ByteTrack's three stages."""
    chosen = np.full(len(record), -1, np.intp)
    life = record["state"]
    tentative = life == TENTATIVE
    weighted = _weighted(parameters, record, overlaps, boxes, scores)
    _stage(chosen, weighted, ~tentative, strong, parameters.match_gate)
    _stage(chosen, overlaps, life == CONFIRMED, ~strong, parameters.low_gate)
    _stage(chosen, weighted, tentative, strong, parameters.tentative_gate)
    rows = (chosen >= 0).nonzero()[0]
    return rows, chosen[rows]


def _stage(chosen: NDArray, similarity: NDArray, tracks: NDArray, detections: NDArray, gate: float) -> None:
    """Pair what is still free of ``tracks`` and ``detections`` (masks); writes into ``chosen``."""
    rows, columns = (tracks & (chosen < 0)).nonzero()[0], _free(chosen, detections)
    if rows.size and columns.size:
        r, c = assign(similarity[rows[:, None], columns], gate)
        chosen[rows[r]] = columns[c]


def _free(chosen: NDArray, detections: NDArray) -> NDArray[np.intp]:
    free = detections.copy()
    free[chosen[chosen >= 0]] = False
    return free.nonzero()[0]


def _look_again(
    parameters: TrackerParameters,
    record: NDArray[np.void],
    state: motion.State,
    boxes: NDArray,
    strong: NDArray,
    class_ids: NDArray,
    chosen: NDArray,
) -> None:
    """Pair young tracks with what is left near them: they may have moved on by more than their size."""
    rows = ((chosen < 0) & (record["hits"] <= YOUNG_HITS) & (record["state"] != LOST)).nonzero()[0]
    columns = _free(chosen, strong) if rows.size else rows
    if rows.size and columns.size:
        young = state[rows]
        margin = parameters.grow * np.sqrt(young[:, motion.VAR_POSITION] * motion.size_squared(young))
        near = iou_matrix(
            motion.to_corners(young[:, motion.POSITION]), boxes[columns], np.stack([margin, margin], axis=1)
        )
        near = _by_class(parameters, near, record["class_id"][rows], class_ids[columns])
        r, c = assign(near, parameters.grow_gate)
        chosen[rows[r]] = columns[c]


def _recover(
    parameters: TrackerParameters,
    record: NDArray[np.void],
    boxes: NDArray,
    strong: NDArray,
    class_ids: NDArray,
    chosen: NDArray,
) -> None:
    """Pair tracks with what is left where they were seen last (OC-SORT's observation-centric recovery)."""
    rows, columns = (chosen < 0).nonzero()[0], _free(chosen, strong)
    if rows.size and columns.size:
        overlaps = iou_matrix(record["box"][rows], boxes[columns])
        overlaps = _by_class(parameters, overlaps, record["class_id"][rows], class_ids[columns])
        r, c = assign(overlaps, parameters.observed_gate)
        chosen[rows[r]] = columns[c]
