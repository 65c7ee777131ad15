"""The lives of tracks: which of them are confirmed, lost or dead, and what starting ones are worth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S
from edge_vision.tracking import motion
from edge_vision.tracking.association import touching
from edge_vision.tracking.parameters import TrackerParameters
from edge_vision.tracking.record import CONFIRMED, LOST, TENTATIVE

KEPT = 0.98  # of what was known of starting or lost tracks, at each further one: a memory of some 50
SURE_SHARE = 0.9  # of the tracks that start are seen again: then a sure detection is enough


class Share:
    """Which part of the newest cases went well.

    first: what is taken for it before anything is seen; weight: how many cases that counts as.
    """

    def __init__(self, first: float, weight: float) -> None:
        self.value = first
        self._cases = weight

    def add(self, good: int, cases: int) -> None:
        if cases:
            kept = KEPT**cases * self._cases
            self._cases = kept + cases
            self.value = (kept * self.value + good) / self._cases


def second_sights(hits: NDArray, hit: NDArray[np.bool_]) -> tuple[int, int]:
    """How many of the tracks that started just before are seen a second time now, and how many there are.

    hits, hit: of the tentative tracks, how often they were seen, and whether they are now.
    """
    seen = int(np.count_nonzero(hit & (hits == 2)))
    return seen, seen + int(np.count_nonzero(hits[~hit] == 1))


def judge(
    parameters: TrackerParameters, record: NDArray[np.void], stamp: int, rows: NDArray[np.intp], newcomers: Share
) -> tuple[NDArray[np.intp], NDArray[np.bool_] | None, int]:
    """Writes the states of tracks some of which were tentative, after those in ``rows`` were seen.

    newcomers: the share of tracks that start which are seen a second time: what starts are worth here.
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
    newcomers.add(*second_sights(hits, hit))
    needed = parameters.confirm_score * (1.0 + parameters.clutter * (1.0 - newcomers.value))
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
