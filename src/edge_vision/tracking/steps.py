"""The steps of an update that every object takes part in, in NumPy. `kernels` has the same ones compiled.

Detections are boxes (N, 4), scores (N,) and class ids (N,); tracks a `record` array and a state as `motion` has it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S
from edge_vision.tracking import motion
from edge_vision.tracking import record as records
from edge_vision.tracking.association import Pairs
from edge_vision.tracking.parameters import TrackerParameters
from edge_vision.tracking.record import CONFIRMED, LOST, TENTATIVE

predict = motion.predict


def needs_boxes(parameters: TrackerParameters) -> bool:
    """Whether anybody asks for the newest detected boxes of tracks."""
    return parameters.observed_gate < 1.0 or parameters.output_box == "detected"


def sound(boxes: NDArray, scores: NDArray, class_ids: NDArray, low: float, most: float) -> tuple[bool, bool]:
    """Whether all are boxes, within ``most`` px, and score ``low`` or more; and whether their classes differ.

    May say no where a closer look finds nothing wrong.
    """
    # In few steps; NaN makes every one of these comparisons false.
    good = (
        np.vdot(boxes, boxes) <= most**2  # more than is asked, and several times faster
        and np.count_nonzero(boxes[:, 2:] > boxes[:, :2]) == 2 * len(boxes)
        and scores[scores.argmin()] >= low
        and scores[scores.argmax()] < np.inf
    )
    return bool(good), bool(np.count_nonzero(class_ids != class_ids[:1]))


def correct(
    parameters: TrackerParameters,
    record: NDArray[np.void],
    state: motion.State,
    pairs: Pairs,
    detections: tuple[NDArray, NDArray, NDArray],
    stamp: int,
    step: int,
    young: bool,
) -> None:
    """What tracks learn from their detections, in place.

    pairs: rows of tracks and columns of detections; stamp, step: ns, now and since the last update; young: some track
    is, so hits and evidence count.
    """
    rows, columns = pairs
    boxes, scores, class_ids = (part.take(columns, 0) for part in detections)
    centred = motion.to_centre(boxes)
    motion.correct(state, rows, centred, parameters.noise)
    if parameters.observed_gate < 1.0:
        _renew(parameters, record, state, rows, step, stamp - record["seen"][rows], centred)
    record["seen"][rows] = stamp
    record["score"][rows] = scores
    if young:
        record["hits"][rows] += 1
        record["evidence"][rows] += scores
    if needs_boxes(parameters):
        record["box"][rows] = boxes
    if parameters.direction:
        past = record["past"].take(rows, 0)
        past[:, :-1] = past[:, 1:].copy()
        past[:, -1] = centred[:, :2]
        record["past"][rows] = past
    if parameters.class_agnostic:
        records.vote(record, rows, scores, class_ids, parameters.class_memory)


def _renew(
    parameters: TrackerParameters,
    record: NDArray[np.void],
    state: motion.State,
    matched: NDArray,
    step: int,
    gaps: NDArray,
    centred: NDArray,
) -> None:
    """Velocity after a gap, from the detections on both sides of it.

    What OC-SORT's observation-centric re-update comes to, which replays a straight way between the two.
    """
    found = (gaps > step) & (gaps > 0)
    if np.count_nonzero(found):
        rows, gap = matched[found], gaps[found] / NS_PER_S
        before = motion.to_centre(record["box"][rows])
        state[rows, motion.VELOCITY] = (centred[found] - before) / gap[:, None]
        state[rows, motion.VAR_VELOCITY] = 2.0 * (parameters.noise.measurement / gap) ** 2
        state[rows, motion.COVARIANCE] = 0.0


def settle(record: NDArray[np.void], state: motion.State, rows: NDArray[np.intp]) -> int:
    """Where no track is tentative: those in ``rows`` (ascending) are confirmed, the others lost.

    How many of them were lost and are found again.
    """
    life = record["state"]
    again = found_again(life, rows)
    if len(rows) == len(life):
        life.fill(CONFIRMED)
        return again
    missing = life == CONFIRMED
    missing[rows] = False
    life.fill(LOST)
    life[rows] = CONFIRMED
    stop_growing(state, missing.nonzero()[0])
    return again


def found_again(life: NDArray[np.uint8], rows: NDArray[np.intp]) -> int:
    """How many of these rows are lost, by the states of all tracks."""
    return int(np.count_nonzero(life.take(rows) == LOST))


def stop_growing(state: motion.State, missed: NDArray[np.intp]) -> None:
    """A box that keeps growing or shrinking unseen would swallow the image or vanish."""
    if len(missed):
        state.T[motion.SIZE_VELOCITY, missed] = 0.0


def shown(
    parameters: TrackerParameters, record: NDArray[np.void], state: motion.State, returning: float
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Rows (K,), ascending, of the tracks that are reported, and the chances (K,) that their objects are there.

    Confirmed ones; lost ones while that chance is at least `coast`, or all with `publish_lost`; tentative ones with
    `publish_tentative`.

    returning: the part of lost tracks that are found again, of late. The chance of a lost one is that, as far as its
    prediction is sure: it falls linearly with the standard deviation of the place, to nothing at half the size of the
    box, which is how often the predicted boxes of hidden pedestrians still fit. Of all others it is 1, and
    of all that are lost where all are asked for.
    """
    life = record["state"]
    told = life == CONFIRMED
    if parameters.publish_tentative:
        told |= life == TENTATIVE
    chances = np.ones(len(record))
    lost = life == LOST
    if parameters.publish_lost:
        told |= lost
    elif returning >= parameters.coast and np.count_nonzero(lost):
        there = returning * (1.0 - 2.0 * np.sqrt(state[:, motion.VAR_POSITION]))
        chances[lost] = there[lost]
        told |= lost & (there >= parameters.coast)
    rows = told.nonzero()[0]
    return rows, chances.take(rows)


def columns(
    parameters: TrackerParameters,
    record: NDArray[np.void],
    state: motion.State,
    rows: NDArray[np.intp],
    chances: NDArray[np.float64],
    stamp: int,
) -> tuple[NDArray, ...]:
    """boxes, scores, class ids, ids, velocities, ages and states of these tracks at ``stamp``, as `Tracks` has them."""
    moving = state.T[: motion.CENTRE_VELOCITY.stop].take(rows, 1)  # positions and velocities, by columns
    boxes = motion.to_corners(moving[motion.POSITION].T).astype(np.float32, "C")
    if parameters.output_box == "detected":
        seen = record["seen"].take(rows) == stamp
        boxes[seen] = record["box"].take(rows, 0)[seen]
    return (
        boxes,
        (record["score"][rows] * chances).astype(np.float32),
        record["class_id"][rows],
        record["id"][rows],
        moving[motion.CENTRE_VELOCITY].T.astype(np.float32, "C"),
        ((stamp - record["born"][rows]) / NS_PER_S).astype(np.float32),
        record["state"][rows],
    )
