"""What is kept of every global object, as a structured array: one row an object."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NONE = -1
NEVER = np.iinfo(np.int64).min // 2  # so that differences with stamps do not overflow


def record_type(cameras: int) -> np.dtype[np.void]:
    """Row type for a rig of that many cameras; stamps are ns, lengths metres.

    member, present: the local track of each camera, and whether its newest update still had it; joined: when it became
    a member; point, spread, seen_by: newest position it gave, its covariance and when; apart: since when it has been
    too far from a member that joined before it; rival, rival_since: the object that this one has been near to, and
    since when.
    """
    return np.dtype(
        [
            ("id", np.int64),
            ("born", np.int64),
            ("seen", np.int64),
            ("class_id", np.int64),
            ("vote", np.float64),
            ("mean", np.float64, 4),
            ("covariance", np.float64, (4, 4)),
            ("member", np.int64, (cameras,)),
            ("present", np.bool_, (cameras,)),
            ("joined", np.int64, (cameras,)),
            ("point", np.float64, (cameras, 2)),
            ("spread", np.float64, (cameras, 2, 2)),
            ("seen_by", np.int64, (cameras,)),
            ("apart", np.int64, (cameras,)),
            ("rival", np.int64),
            ("rival_since", np.int64),
        ]
    )


def find(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.intp]:
    """Where each of ``wanted`` (M,) stands first in ``ids`` (N,); -1 where it does not. (M,)"""
    if not len(ids):
        return np.full(len(wanted), -1, np.intp)
    order = np.argsort(ids, kind="stable")
    place = np.minimum(np.searchsorted(ids, wanted, sorter=order), len(ids) - 1)
    return np.where(ids[order[place]] == wanted, order[place], -1)


def vote(record: NDArray[np.void], rows: NDArray, class_ids: NDArray, scores: NDArray, most: float = 10.0) -> None:
    """Score-weighted majority vote over all cameras, in place (Boyer, Moore 1981: constant memory)."""
    old = record["class_id"][rows]
    votes = record["vote"][rows] + np.where(old == class_ids, scores, -scores)
    record["class_id"][rows] = np.where(votes < 0, class_ids, old)
    record["vote"][rows] = np.minimum(np.abs(votes), most)
