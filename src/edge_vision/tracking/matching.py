"""Which detection continues which track: similarity of pairs, gates, and the stages of the assignment.

Pairs are listed (rows of tracks, columns of detections, value): only those whose boxes overlap can ever be made, and
those are few, with two objects as with five hundred.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_vision.tracking import kernels, motion
from edge_vision.tracking.appearance import View
from edge_vision.tracking.association import (
    SMALL,
    Candidates,
    Pairs,
    choose,
    far_negated,
    listed,
    overlap_matrix,
    overlapping,
    touching,
)
from edge_vision.tracking.few import SHAPE_DEVIATIONS, SURE, UNSURE, undisputed
from edge_vision.tracking.parameters import TrackerParameters
from edge_vision.tracking.record import CONFIRMED, TENTATIVE
from edge_vision.tracking.second_look import by_class, look_again, recover

# To x1, y1, -x2, -y2 from centre x, centre y, width, height.
_FAR_NEGATED = np.array([[1.0, 0, -0.5, 0], [0, 1, 0, -0.5], [-1, 0, -0.5, 0], [0, -1, 0, -0.5]])


def match(
    parameters: TrackerParameters,
    record: NDArray[np.void],
    state: motion.State,
    boxes: NDArray,
    scores: NDArray,
    class_ids: NDArray,
    high_score: float,
    view: View | None = None,
    fast: bool = False,
) -> tuple[Pairs, float]:
    """Rows of tracks (K,), ascending, and the columns (K,) of the detections that continue them; and a score that no
    detection which is left exceeds (infinity where nobody looked).

    record and state: of M tracks, predicted to the time of the detections; boxes (N, 4), scores and class_ids (N,);
    high_score: what is strong; view: what the looks of both say; fast: the kernels do it (`kernels.fit`).
    """
    shape = len(record), len(boxes)
    if not shape[1]:
        return (np.zeros(0, np.intp), np.zeros(0, np.intp)), -math.inf
    found, left_over = None, math.inf
    if fast and view is None and shape[0] * shape[1] <= kernels.MOST_PAIRS:
        compiled = kernels.pairs(parameters, record, state, boxes, scores, class_ids, high_score)
        if compiled is not None:
            found, left_over = compiled
    if found is None:
        rows, columns = _first_look(parameters, record, state, boxes, scores, scores >= high_score, class_ids, view)
        found = np.ascontiguousarray(rows), np.ascontiguousarray(columns)
    rows, columns = found
    if left_over < high_score or len(rows) in shape or not (parameters.grow or parameters.observed_gate < 1.0):
        return found, left_over
    free = scores >= high_score
    free[columns] = False
    if not np.count_nonzero(free):
        return found, left_over
    chosen = np.full(shape[0], -1)
    chosen[rows] = columns
    if parameters.grow:
        look_again(parameters, record, state, boxes, free, class_ids, chosen)
    if parameters.observed_gate < 1.0:
        recover(parameters, record, boxes, free, class_ids, chosen)
    rows = (chosen >= 0).nonzero()[0]
    return (rows, chosen.take(rows)), left_over


def _first_look(
    parameters: TrackerParameters,
    record: NDArray[np.void],
    state: motion.State,
    boxes: NDArray,
    scores: NDArray,
    strong: NDArray[np.bool_],
    class_ids: NDArray,
    view: View | None,
) -> Pairs:
    """The pairs of tracks and detections whose boxes overlap."""
    shape = len(record), len(boxes)
    areas = _areas(state, boxes)
    if shape[0] * shape[1] <= SMALL:
        overlaps = overlap_matrix(*areas)
        if not (parameters.cascade or parameters.direction or view is not None):
            pairs = undisputed(parameters, record, state, overlaps, boxes, scores, strong, class_ids)
            if pairs is not None:
                return pairs
        candidates = listed(overlaps)
    else:
        candidates = overlapping(*areas)
    by_class(parameters, candidates, record["class_id"], class_ids)
    if parameters.shape:
        _by_shape(parameters, state, boxes, candidates)
    if view is not None:
        candidates = view.fuse(candidates)
    if parameters.cascade:
        return _cascade(parameters, record, candidates, boxes, scores, strong)
    return choose(_at_once(parameters, record, state, candidates, boxes, scores, strong), parameters.match_gate, shape)


def once(boxes: NDArray, scores: NDArray, class_ids: NDArray, most: float) -> NDArray[np.bool_]:
    """(N,) which detections to take when one object may have been found as two classes: of two boxes of different
    classes that overlap by more than ``most``, the one that scores higher (the first of equals).

    Detectors suppress doubles within a class only; two tracks on one object would trade their ids for ever.
    """
    rows, columns, overlaps = touching(boxes, boxes)
    doubled = overlaps > most
    doubled &= class_ids.take(rows) != class_ids.take(columns)
    rows, columns = rows[doubled], columns[doubled]
    better = scores.take(columns) > scores.take(rows)
    better |= (scores.take(columns) == scores.take(rows)) & (columns < rows)
    taken = np.ones(len(boxes), bool)
    taken[rows[better]] = False
    return taken


def _areas(state: motion.State, boxes: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Predicted and detected boxes as `overlapping` takes them."""
    predicted = _FAR_NEGATED.dot(state.T[motion.POSITION]).astype(np.float32)
    detected = far_negated(boxes)
    sides = detected[:2] + detected[2:]
    return predicted, detected, motion.size_squared(state).astype(np.float32), sides[0] * sides[1]


def _by_shape(parameters: TrackerParameters, state: motion.State, boxes: NDArray, candidates: Candidates) -> None:
    """Lowers, in place, the worth of pairs whose heights differ by more than the prediction lets expect.

    The height is what changes least where objects cross or hide each other (a weak cue of Yang et al., Hybrid-SORT,
    AAAI 2024, there without regard to how well it is known). What counts is the difference of the logarithms over its
    standard deviation.
    """
    rows, columns, worth = candidates
    width, height = state[:, 2], state[:, 3]
    variance = state[:, motion.VAR_POSITION] * width / height + parameters.noise.measurement**2
    weight = (parameters.shape / SHAPE_DEVIATIONS) / np.sqrt(variance)
    loss = np.log(height).take(rows)
    loss -= np.log(boxes[:, 3] - boxes[:, 1]).take(columns)
    np.abs(loss, out=loss)
    loss *= weight.take(rows)
    np.minimum(loss, parameters.shape, out=loss)
    worth -= worth * loss


def _weighted(
    parameters: TrackerParameters, record: NDArray[np.void], candidates: Candidates, boxes: NDArray, scores: NDArray
) -> NDArray[np.float32]:
    """Similarity of strong detections: overlap, by score, with what speaks for or against their direction."""
    rows, columns, overlaps = candidates
    similarity = overlaps * scores.take(columns) if parameters.fuse_score else overlaps
    if parameters.direction:
        gate = parameters.match_gate
        towards = _direction(record["past"][rows], boxes.take(columns, 0)) * (
            scores.take(columns) * parameters.direction
        )
        similarity = np.where(similarity > gate, similarity + towards, similarity)
        np.maximum(similarity, np.where(overlaps > gate, gate * 1.01, 0.0), out=similarity)  # the gate is on overlap
    return similarity


def _direction(past: NDArray, boxes: NDArray) -> NDArray:
    """(K,) in -0.5..0.5: by the angle between where tracks went and where detections would take them.

    past (K, SPAN, 2): the newest centres of the tracks; boxes (K, 4). Observation-centric momentum (Cao et al.,
    Observation-Centric SORT, CVPR 2023, equation 4). 0 for tracks at rest.
    """
    went = past[:, -1] - past[:, 0]
    goes = 0.5 * (boxes[:, :2] + boxes[:, 2:]) - past[:, -1]
    lengths = np.hypot(went[:, 0], went[:, 1]) * np.hypot(goes[:, 0], goes[:, 1])
    cosine = (goes[:, 0] * went[:, 0] + goes[:, 1] * went[:, 1]) / np.maximum(lengths, 1e-9)
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    return np.where(lengths > 1e-9, 0.5 - angle / np.pi, 0.0)


def _at_once(
    parameters: TrackerParameters,
    record: NDArray[np.void],
    state: motion.State,
    candidates: Candidates,
    boxes: NDArray,
    scores: NDArray,
    strong: NDArray,
) -> Candidates:
    """Similarities of all kinds of pairs, such that match_gate is the gate of each kind."""
    rows, columns, overlaps = candidates
    gate = parameters.match_gate
    low = gate / max(parameters.low_gate, 1e-6)
    if parameters.direction:
        weighted = _weighted(parameters, record, candidates, boxes, scores)
        similarity = np.where(strong.take(columns), weighted, overlaps * np.float32(low))
    else:
        similarity = overlaps * np.where(strong, scores if parameters.fuse_score else 1.0, low).take(columns)
    # What a pair counts by the state of its track: weak detections continue confirmed tracks only.
    life = record["state"]
    count = len(life)
    by_track = _by_life(gate / max(parameters.tentative_gate, 1e-6)).take(life, 1)
    if parameters.low_slack:
        deviation = np.sqrt(state[:, motion.VAR_POSITION])
        unsure = (deviation > SURE) & (life == CONFIRMED)
        if np.count_nonzero(unsure):
            slack = np.minimum(deviation, UNSURE) - SURE
            by_track[0] += parameters.low_slack * slack * unsure
    of_pair = np.where(strong, count, 0).take(columns)
    of_pair += rows
    similarity *= by_track.reshape(-1).take(of_pair)
    return rows, columns, similarity


@lru_cache(maxsize=4)
def _by_life(tentative: float) -> NDArray[np.float32]:
    """(2, 3): factors of weak and of strong detections with tentative, confirmed and lost tracks."""
    return np.array([[0.0, 1.0, 0.0], [tentative, 1.0, 1.0]], np.float32)


def _cascade(
    parameters: TrackerParameters,
    record: NDArray[np.void],
    candidates: Candidates,
    boxes: NDArray,
    scores: NDArray,
    strong: NDArray,
) -> Pairs:
    """ByteTrack's three stages."""
    life = record["state"]
    tentative = life == TENTATIVE
    rows, columns, _ = candidates
    shape = len(record), len(boxes)
    weighted = rows, columns, _weighted(parameters, record, candidates, boxes, scores)
    steady = np.count_nonzero(tentative) == 0
    if steady and np.count_nonzero(strong) == len(strong):
        return choose(weighted, parameters.match_gate, shape)
    chosen, free = np.full(len(record), -1), np.ones(len(boxes), bool)
    _stage(chosen, free, weighted, ~tentative, strong, parameters.match_gate)
    _stage(chosen, free, candidates, life == CONFIRMED, ~strong, parameters.low_gate)
    if not steady:
        _stage(chosen, free, weighted, tentative, strong, parameters.tentative_gate)
    rows = (chosen >= 0).nonzero()[0]
    return rows, chosen.take(rows)


def _stage(
    chosen: NDArray, free: NDArray, candidates: Candidates, tracks: NDArray, detections: NDArray, gate: float
) -> None:
    """Pair what is still free of ``tracks`` and ``detections`` (masks); writes into ``chosen`` and ``free``."""
    rows, columns, worth = candidates
    kept = ((tracks & (chosen < 0)).take(rows) & (detections & free).take(columns)).nonzero()[0]
    if len(kept):
        r, c = choose((rows.take(kept), columns.take(kept), worth.take(kept)), gate, (len(chosen), len(free)))
        chosen[r] = c
        free[c] = False
