"""What is known of tracks besides their motion, as one structured array, and the vote on their class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import TrackState

TENTATIVE, CONFIRMED, LOST = (np.uint8(state) for state in TrackState)

SPAN = 3  # newest detections from whose centres a direction is taken, OC-SORT's delta_t

RECORD = np.dtype(
    [
        ("id", np.int64),
        ("born", np.int64),  # ns, stamp of the first detection
        ("seen", np.int64),  # ns, stamp of the newest detection
        ("class_id", np.int64),
        ("hits", np.int32),
        ("stalled", np.int32),  # misses at times that stood still
        ("score", np.float32),
        ("vote", np.float32),  # score-weighted lead of its class over all others
        ("evidence", np.float32),  # sum of scores
        ("box", np.float32, 4),  # the newest detection
        ("past", np.float32, (SPAN, 2)),  # centres of the newest detections, oldest first
        ("state", np.uint8),
    ],
    align=True,  # arithmetic on fields that are not aligned goes through a copy
)


def begin(
    first_id: int, stamp: int, boxes: NDArray, scores: NDArray, class_ids: NDArray, state: np.uint8
) -> NDArray[np.void]:
    """Records of tracks that start with these detections."""
    count = len(boxes)
    record = np.zeros(count, RECORD)
    record["id"] = np.arange(first_id, first_id + count)
    record["born"] = record["seen"] = stamp
    record["class_id"] = class_ids
    record["hits"] = 1
    record["score"] = record["vote"] = record["evidence"] = scores
    record["box"] = boxes
    record["past"] = 0.5 * (boxes[:, None, :2] + boxes[:, None, 2:])
    record["state"] = state
    return record


def join(first: NDArray[np.void], second: NDArray[np.void]) -> NDArray[np.void]:
    """Both, one after the other: as bytes, since NumPy joins records field by field and several times slower."""
    opaque = np.dtype((np.void, RECORD.itemsize))
    return np.concatenate([first.view(opaque), second.view(opaque)]).view(RECORD)


def vote(
    record: NDArray[np.void], rows: NDArray[np.intp] | slice, scores: NDArray, class_ids: NDArray, most: float
) -> None:
    """Majority vote over a stream, weighted by score: the class changes when the others outweigh it.

    Boyer and Moore's majority vote algorithm (1981): constant memory, whatever the number of classes.
    most: what a class can save up against another; more in the record counts as that.
    """
    old = record["class_id"][rows]
    same = old == class_ids
    if np.count_nonzero(same) == len(same):
        record["vote"][rows] += scores
        return
    votes = np.minimum(record["vote"][rows], most) + np.where(same, scores, -scores)
    record["class_id"][rows] = np.where(votes < 0, class_ids, old)
    record["vote"][rows] = np.minimum(np.abs(votes), most)
