"""Tracking scores: HOTA, CLEAR MOT and identity scores, computed by TrackEval.

HOTA, DetA, AssA, LocA: Luiten et al., HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking, IJCV 2021.
MOTA and identity switches: Bernardin and Stiefelhagen, CLEAR MOT, 2008. IDF1: Ristani et al., Performance Measures and
a Data Set for Multi-Target, Multi-Camera Tracking, 2016.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Tracks
from edge_vision.evaluation.kitti_files import MIN_HEIGHT
from edge_vision.evaluation.track_records import Role, TrackedBoxes, TruthFrame

# Preprocessing of MOTChallenge and KITTI: from here on a result and a neutral box are one thing.
MATCH_IOU = 0.5
INSIDE_REGION = 0.5
EPSILON = np.finfo(float).eps

REMEDY = (
    "tracking scores need TrackEval: pip install --no-deps trackeval==1.3.0 (without --no-deps it would put "
    "opencv-python over opencv-python-headless; it needs neither for scores)"
)


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one sequence or of several together, in 0..1 but for the counts (mota may be negative).

    hota, deta, assa, loca: means over the IoU thresholds 0.05 to 0.95; mota, idf1, idsw (identity switches), fp (false
    boxes) and fn (missed ones) at IoU 0.5. frames, objects (boxes that count), results (boxes after preprocessing),
    identities of the truth.
    """

    hota: float
    deta: float
    assa: float
    loca: float
    mota: float
    idf1: float
    idsw: int
    fp: int
    fn: int
    frames: int
    objects: int
    results: int
    identities: int


@dataclass(frozen=True, slots=True)
class TrackingScores:
    """Scores by sequence, by group of sequences, and of all together.

    A group's scores are those of its sequences taken as one (TrackEval's COMBINED: counts are added, not scores
    averaged). `mean` is the plain mean over the groups.
    """

    sequences: Mapping[str, Scores]
    groups: Mapping[str, Scores] = field(default_factory=dict)
    combined: Scores | None = None

    def mean(self, score: str) -> float:
        """The mean of a score over the groups, or over the sequences where there are no groups."""
        return float(np.mean([getattr(scores, score) for scores in (self.groups or self.sequences).values()]))

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def evaluate_tracking(
    truth: Mapping[str, Sequence[TruthFrame | Tracks]],
    tracks: Mapping[str, Sequence[TrackedBoxes | Tracks]],
    groups: Mapping[str, Sequence[str]] | None = None,
    *,
    min_height: float = MIN_HEIGHT,
) -> TrackingScores:
    """Scores of ``tracks[name][i]`` against ``truth[name][i]``, frame by frame of each sequence.

    Boxes are xyxy pixels; classes are not looked at. Truth given as `Tracks` (the twin's) counts in full; as
    `TruthFrame`, results are first cleared of what falls on neutral boxes and regions (`Role`). min_height: px, results
    below that match nothing are cleared too, in sequences that have regions (KITTI's rule). groups: names of sequences
    by the name of the group.

    Raises ImportError with the remedy without trackeval; ValueError where sequences or lengths differ, a frame holds an
    id twice, a box is not finite, or a group names a sequence that is not there.
    """
    metrics = _metrics()
    if not truth:
        raise ValueError("there is no sequence to score")
    if set(truth) != set(tracks):
        odd = sorted(set(truth) ^ set(tracks))
        raise ValueError(f"truth and tracks must hold the same sequences; only one has {', '.join(odd)}")
    groups = dict(groups or {})
    unknown = sorted({name for names in groups.values() for name in names} - set(truth))
    if unknown or not all(groups.values()):
        raise ValueError(f"groups must hold sequences that are there; not so {', '.join(unknown) or 'an empty group'}")
    data = {name: prepare(truth[name], tracks[name], name, min_height) for name in truth}
    results = {name: [metric.eval_sequence(data[name]) for metric in metrics] for name in data}

    def scores(names: Sequence[str]) -> Scores:
        parts = [results[name] for name in names]
        combined = (
            parts[0]
            if len(parts) == 1
            else [metric.combine_sequences(dict(enumerate(p[i] for p in parts))) for i, metric in enumerate(metrics)]
        )
        return _scores(combined, [data[name] for name in names])

    return TrackingScores(
        {name: scores([name]) for name in data},
        {group: scores(list(names)) for group, names in groups.items()},
        scores(list(data)),
    )


def prepare(
    truth: Sequence[TruthFrame | Tracks],
    tracks: Sequence[TrackedBoxes | Tracks],
    name: str = "sequence",
    min_height: float = MIN_HEIGHT,
) -> dict[str, Any]:
    """One sequence as TrackEval's metrics take it, results on neutral boxes and regions removed.

    gt_ids, tracker_ids: per frame, int arrays from 0 up; similarity_scores: per frame (gt, tracker) IoU; the counts.
    """
    if len(truth) != len(tracks):
        raise ValueError(f"{name}: {len(truth)} frames of truth but {len(tracks)} of tracks: give one each a frame")
    true_ids, tracked_ids, similarities = [], [], []
    with_regions = any(isinstance(frame, TruthFrame) and (frame.roles == Role.REGION).any() for frame in truth)
    for index, (true, found) in enumerate(zip(truth, tracks, strict=True)):
        _check(found, f"{name}, frame {index + 1} of {len(truth)}: the results")
        _check(true, f"{name}, frame {index + 1} of {len(truth)}: the truth", _counted(true))
        overlap = iou(true.boxes, found.boxes)
        counted = _counted(true)
        kept = ~_cleared(true, found, overlap, min_height if with_regions else 0.0)
        true_ids.append(np.asarray(true.ids)[counted])
        tracked_ids.append(np.asarray(found.ids)[kept])
        similarities.append(overlap[counted][:, kept])
    gt, gt_count = _dense(true_ids)
    tracker, tracker_count = _dense(tracked_ids)
    return {
        "gt_ids": gt,
        "tracker_ids": tracker,
        "similarity_scores": similarities,
        "num_gt_ids": gt_count,
        "num_tracker_ids": tracker_count,
        "num_gt_dets": sum(map(len, gt)),
        "num_tracker_dets": sum(map(len, tracker)),
        "num_timesteps": len(gt),
    }


def iou(a: NDArray, b: NDArray) -> NDArray[np.float64]:
    """(N, M) intersection over union of boxes (N, 4) and (M, 4) xyxy; 0 where both are empty."""
    inside, area_a, area_b = _intersection(a, b)
    union = area_a[:, None] + area_b - inside
    return np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)


def _intersection(a: NDArray, b: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    a, b = np.asarray(a, np.float64).reshape(-1, 4), np.asarray(b, np.float64).reshape(-1, 4)
    sides = np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2])
    inside = np.maximum(sides, 0.0).prod(axis=2)
    return inside, (a[:, 2:] - a[:, :2]).prod(axis=1), (b[:, 2:] - b[:, :2]).prod(axis=1)


def _counted(true: TruthFrame | Tracks) -> NDArray[np.bool_]:
    return true.roles == Role.COUNTED if isinstance(true, TruthFrame) else np.ones(len(true.ids), bool)


def _cleared(
    true: TruthFrame | Tracks, found: TrackedBoxes | Tracks, overlap: NDArray, min_height: float
) -> NDArray[np.bool_]:
    """Which results do not enter the score: those matched to neutral boxes, and unmatched ones in regions."""
    from scipy.optimize import linear_sum_assignment

    cleared = np.zeros(len(found.ids), bool)
    if isinstance(true, Tracks) or not len(cleared) or not (min_height or (true.roles != Role.COUNTED).any()):
        return cleared
    region = true.roles == Role.REGION
    objects = np.flatnonzero(~region)
    score = overlap[objects]
    score = np.where(score < MATCH_IOU - EPSILON, 0.0, score)
    rows, columns = linear_sum_assignment(-score)
    matched = score[rows, columns] > 0
    rows, columns = objects[rows[matched]], columns[matched]
    cleared[columns] = true.roles[rows] == Role.NEUTRAL
    if min_height:
        free = np.ones(len(cleared), bool)
        free[columns] = False
        inside, area, _ = _intersection(found.boxes[free], true.boxes[region])
        share = np.divide(inside, area[:, None], out=np.zeros_like(inside), where=area[:, None] > 0)
        low = (found.boxes[free, 3] - found.boxes[free, 1]) <= min_height + EPSILON
        cleared[free] = low | (share > INSIDE_REGION + EPSILON).any(axis=1)
    return cleared


def _check(frame: Any, where: str, rows: NDArray[np.bool_] | slice = slice(None)) -> None:
    ids = np.asarray(frame.ids)[rows]
    if len(frame.boxes) != len(frame.ids):
        raise ValueError(f"{where} have {len(frame.boxes)} boxes and {len(frame.ids)} ids; every box needs one")
    if len(np.unique(ids)) != len(ids):
        values, counts = np.unique(ids, return_counts=True)
        raise ValueError(f"{where} have id {values[counts > 1][0]} twice; an id is one object")
    if not np.isfinite(frame.boxes).all():
        raise ValueError(f"{where} have a box that is not finite")


def _dense(ids: Sequence[NDArray]) -> tuple[list[NDArray[np.int64]], int]:
    """Ids replaced by 0..n-1, and n."""
    known = np.unique(np.concatenate(ids)) if ids else np.zeros(0, np.int64)
    return [np.searchsorted(known, frame).astype(np.int64) for frame in ids], len(known)


def _metrics() -> list[Any]:
    # It reports on stdout which of its benchmarks lack a package.
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            from trackeval.metrics import CLEAR, HOTA, Identity

            return [HOTA(), CLEAR({"PRINT_CONFIG": False}), Identity({"PRINT_CONFIG": False})]
    except ImportError as error:
        raise ImportError(REMEDY) from error


def _scores(parts: Sequence[Mapping[str, Any]], data: Sequence[Mapping[str, Any]]) -> Scores:
    hota, clear, identity = parts
    return Scores(
        hota=float(np.mean(hota["HOTA"])),
        deta=float(np.mean(hota["DetA"])),
        assa=float(np.mean(hota["AssA"])),
        loca=float(np.mean(hota["LocA"])),
        mota=float(clear["MOTA"]),
        idf1=float(identity["IDF1"]),
        idsw=int(clear["IDSW"]),
        fp=int(clear["CLR_FP"]),
        fn=int(clear["CLR_FN"]),
        frames=sum(d["num_timesteps"] for d in data),
        objects=sum(d["num_gt_dets"] for d in data),
        results=sum(d["num_tracker_dets"] for d in data),
        identities=sum(d["num_gt_ids"] for d in data),
    )
