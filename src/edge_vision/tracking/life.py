"""The lives of tracks: which of them are confirmed, lost or dead, and what starting ones are worth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S
from edge_vision.tracking import motion
from edge_vision.tracking.association import touching
from edge_vision.tracking.parameters import TrackerParameters
from edge_vision.tracking.record import CONFIRMED, LOST, TENTATIVE

STARTS_KEPT = 0.98  # of what was known of starting tracks, at each that starts: a memory of some 50


class Newcomers:
    """Which part of the tracks that start are seen a second time, of late: what starts are worth here."""

    def __init__(self) -> None:
        self._starts, self._survivors = 5.0, 4.0  # before anything is seen: four of five are real

    def survival(self, hits: NDArray, hit: NDArray[np.bool_]) -> float:
        """hits, hit: of the tentative tracks, how often they were seen, and whether they are now."""
        survived = int(np.count_nonzero(hit & (hits == 2)))
        started = survived + int(np.count_nonzero(hits[~hit] == 1))
        kept = STARTS_KEPT**started
        self._starts = kept * self._starts + started
        self._survivors = kept * self._survivors + survived
        return self._survivors / self._starts


def judge(
    parameters: TrackerParameters, record: NDArray[np.void], stamp: int, rows: NDArray[np.intp], newcomers: Newcomers
) -> tuple[NDArray[np.intp], NDArray[np.bool_] | None, int]:
    """Writes the states of tracks some of which were tentative, after those in ``rows`` were seen.

    Returns the rows of those that are lost from now on, a mask of the dead, None where there are none, and how many
    tracks are still tentative.
    """
    state = record["state"]
    starting = (state == TENTATIVE).nonzero()[0]
    missed = state == CONFIRMED
    missed[rows] = False
    state.fill(LOST)
    state[rows] = CONFIRMED
    hit = state[starting] == CONFIRMED
    hits = record["hits"][starting]
    needed = parameters.confirm_score
    if parameters.clutter:
        needed *= 1.0 + parameters.clutter * (1.0 - newcomers.survival(hits, hit))
    ready = hit & (hits >= parameters.confirm_hits)
    ready &= record["evidence"][starting] >= needed
    if parameters.confirm_after:
        ready &= stamp - record["born"][starting] >= parameters.confirm_after * NS_PER_S
    waiting = starting[~ready]
    state[waiting] = TENTATIVE
    over = starting[~hit]
    if len(over):
        over = over[stamp - record["seen"][over] > parameters.tentative_lost_after * NS_PER_S]
    tentative = len(waiting) - len(over)
    if not len(over):
        return missed.nonzero()[0], None, tentative
    dead = np.zeros(len(record), bool)
    dead[over] = True
    return missed.nonzero()[0], dead, tentative


def duplicates(parameters: TrackerParameters, record: NDArray[np.void], state: motion.State) -> NDArray[np.bool_]:
    """(M,) of a lost and a living track on nearly the same box, the younger."""
    doubled = np.zeros(len(record), bool)
    lost = (record["state"] == LOST).nonzero()[0]
    alive = (record["state"] == CONFIRMED).nonzero()[0]
    if not (lost.size and alive.size):
        return doubled
    boxes = motion.to_corners(state[:, motion.POSITION])
    pairs_lost, pairs_alive, overlaps = touching(boxes[lost], boxes[alive])
    doubling = overlaps > parameters.duplicate_iou
    pairs_lost, pairs_alive = pairs_lost[doubling], pairs_alive[doubling]
    if pairs_lost.size:
        a, b = lost[pairs_lost], alive[pairs_alive]
        same = record["class_id"][a] == record["class_id"][b] if not parameters.class_agnostic else True
        lived_a = record["seen"][a] - record["born"][a]
        lived_b = record["seen"][b] - record["born"][b]
        doubled[np.where(lived_a > lived_b, b, a)[np.broadcast_to(same, a.shape)]] = True
    return doubled
