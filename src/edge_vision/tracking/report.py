"""What a tracker tells of its tracks: which of them, and how sure each is to be there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S
from edge_vision.tracking import motion
from edge_vision.tracking.parameters import TrackerParameters
from edge_vision.tracking.record import CONFIRMED, LOST, TENTATIVE


def shown(
    parameters: TrackerParameters, record: NDArray[np.void], state: motion.State, returning: float
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Rows (K,), ascending, of the tracks that are reported, and the chances (K,) that their objects are there.

    Confirmed ones; lost ones while that chance is at least `coast`, or all with `publish_lost`; tentative ones with
    `publish_tentative`.

    returning: the part of lost tracks that are found again, of late. The chance of a lost one is that, as far as its
    prediction is sure: it falls linearly with the standard deviation of the place, to nothing at half the size of the
    box, as measured on boxes that detectors of pedestrians miss (docs/tracking_scores.md). Of all others it is 1, and
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
