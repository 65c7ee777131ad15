"""A multi-object tracker on boxes alone: who is who from frame to frame.

The association is ByteTrack's (Zhang et al., ByteTrack: Multi-Object Tracking by Associating Every Detection Box, ECCV
2022): confident detections first, then weak ones for the tracks that are left, then the young tracks. Time is the
header time of the images, so lives are in seconds and frame rates may vary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S, Detections, Labels, Tracks, TrackState
from edge_vision.tracking import motion
from edge_vision.tracking.association import assign, iou_matrix, load_solver
from edge_vision.tracking.parameters import TrackerParameters, preset

TENTATIVE, CONFIRMED, LOST = (np.uint8(state) for state in TrackState)

MAX_COORDINATE = 1e6  # px; what lies beyond is no image coordinate and would drown float32
DUPLICATE_IOU = 0.85
MAX_STALLED = 100  # misses
YOUNG_HITS = 2  # until then a track's velocity is a guess

# What is known of a track besides its motion. vote: score-weighted lead of its class over all others.
_RECORD = np.dtype(
    [
        ("id", np.int64),
        ("born", np.int64),  # ns, stamp of the first detection
        ("seen", np.int64),  # ns, stamp of the newest detection
        ("class_id", np.int64),
        ("hits", np.int32),
        ("stalled", np.int32),  # misses at times that stood still
        ("score", np.float32),
        ("vote", np.float32),
        ("evidence", np.float32),  # sum of scores
        ("box", np.float32, 4),  # the newest detection
        ("state", np.uint8),
    ]
)


class Tracker:
    """Follows objects over the frames of one camera.

    rejected: detections dropped so far because they were no boxes (not finite, without area, beyond ±1e6 px, or with
    a score that is no number).
    """

    def __init__(self, parameters: TrackerParameters | None = None) -> None:
        self.parameters = parameters or preset("edge_vision")
        self.rejected = 0
        self._next_id = 1
        self._labels: Labels = ()
        self._stamp: int | None = None
        self._forget()
        load_solver()

    @classmethod
    def from_preset(cls, name: str = "edge_vision", **overrides: Any) -> Tracker:
        """A tracker with the parameters of `parameters.PRESETS[name]`, some of them replaced. ValueError if unknown."""
        return cls(preset(name, **overrides))

    def reset(self) -> None:
        """Forget all tracks and the time. Ids go on: none is ever used twice by one tracker."""
        self._forget()
        self._stamp = None

    def _forget(self) -> None:
        self._record = np.zeros(0, _RECORD)
        self._motion = np.zeros((5, 0, 4))

    def update(self, detections: Detections) -> Tracks:
        """The tracks after one more frame. Call it for every frame, also with no detections.

        A stamp equal to the last one means no time has passed; an earlier one, or one more than ``restart_after``
        seconds later, starts anew with fresh ids (a bag that loops, a camera that was away).
        """
        parameters = self.parameters
        stamp = detections.stamp
        step = 0 if self._stamp is None else stamp - self._stamp
        restarted = self._stamp is None or step < 0 or step > parameters.restart_after * NS_PER_S
        self._stamp = stamp
        self._labels = detections.labels or self._labels
        boxes, scores, class_ids = self._accept(detections)
        if restarted:
            self._forget()
        elif len(self._record):
            self._expire(stamp)
            motion.predict(self._motion, step / NS_PER_S, parameters.noise)
            rows, columns = self._associate(boxes, scores, class_ids)
            self._continue(stamp, step == 0, rows, boxes[columns], scores[columns], class_ids[columns])
            if len(columns) < len(boxes):
                free = scores >= parameters.new_score
                free[columns] = False
                born = free.nonzero()[0]
                if born.size:
                    self._begin(stamp, boxes[born], scores[born], class_ids[born], TENTATIVE)
            return self._report(detections)
        first = CONFIRMED if restarted and parameters.confirm_first else TENTATIVE
        strong = scores >= parameters.new_score
        if strong.any():
            self._begin(stamp, boxes[strong], scores[strong], class_ids[strong], first)
        return self._report(detections)

    def _accept(self, detections: Detections) -> tuple[NDArray, NDArray, NDArray]:
        """Boxes, scores and class ids of what can be tracked; counts what is no box, drops what scores too low."""
        boxes, scores, class_ids = detections.boxes, detections.scores, detections.class_ids
        if not len(boxes):
            return boxes, scores, class_ids
        low = self.parameters.low_score
        # The usual case in few steps; NaN makes every one of these comparisons false.
        if (
            boxes.max() <= MAX_COORDINATE
            and boxes.min() >= -MAX_COORDINATE
            and (boxes[:, 2:] - boxes[:, :2]).min() > 0.0
            and scores.min() >= low
            and scores.max() < np.inf
        ):
            return boxes, scores, class_ids
        sound = (np.abs(boxes) <= MAX_COORDINATE).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        sound &= np.isfinite(scores)
        self.rejected += len(boxes) - int(np.count_nonzero(sound))
        keep = sound & (scores >= low)
        return boxes[keep], scores[keep], class_ids[keep]

    def _expire(self, stamp: int) -> None:
        record = self._record
        lost = record["state"] == LOST
        if np.count_nonzero(lost):
            old = lost & (stamp - record["seen"] > self.parameters.lost_after * NS_PER_S)
            if np.count_nonzero(old):
                self._keep(~old)

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        self._record = self._record[kept]
        self._motion = self._motion[:, kept]

    def _associate(self, boxes: NDArray, scores: NDArray, class_ids: NDArray) -> tuple[NDArray, NDArray]:
        """Rows of tracks, ascending, and the columns of the detections that continue them."""
        parameters, record = self.parameters, self._record
        match = np.full(len(record), -1, np.intp)
        if not len(boxes):
            return match[:0], match[:0]
        predicted = motion.to_corners(self._motion[motion.POSITION])
        overlap = self._same_class(iou_matrix(predicted, boxes), slice(None), class_ids)
        fused = overlap * scores if parameters.fuse_score else overlap
        strong = scores >= parameters.high_score
        tentative = record["state"] == TENTATIVE
        any_weak, any_tentative = np.count_nonzero(strong) < len(strong), np.count_nonzero(tentative) > 0
        if not (any_weak or any_tentative):
            rows, columns = assign(fused, parameters.match_gate)
            match[rows] = columns
        else:
            self._stage(match, fused, ~tentative, strong, parameters.match_gate)
            if any_weak:
                self._stage(match, overlap, record["state"] == CONFIRMED, ~strong, parameters.low_gate)
            if any_tentative:
                self._stage(match, fused, tentative, strong, parameters.tentative_gate)
        if parameters.grow:
            self._look_again(match, predicted, boxes, strong, class_ids)
        rows = (match >= 0).nonzero()[0]
        return rows, match[rows]

    def _same_class(self, similarity: NDArray, rows: slice | NDArray, class_ids: NDArray) -> NDArray:
        if not self.parameters.class_agnostic:
            similarity *= self._record["class_id"][rows, None] == class_ids
        return similarity

    @staticmethod
    def _stage(match: NDArray, similarity: NDArray, tracks: NDArray, detections: NDArray, gate: float) -> None:
        """Pair what is still free of ``tracks`` and ``detections`` (masks); writes into ``match``."""
        free = detections.copy()
        free[match[match >= 0]] = False
        rows, columns = (tracks & (match < 0)).nonzero()[0], free.nonzero()[0]
        if rows.size and columns.size:
            r, c = assign(similarity[rows[:, None], columns], gate)
            match[rows[r]] = columns[c]

    def _look_again(
        self, match: NDArray, predicted: NDArray, boxes: NDArray, strong: NDArray, class_ids: NDArray
    ) -> None:
        """Pair young tracks with what is left near them: they may have moved on by more than their size."""
        free = strong.copy()
        free[match[match >= 0]] = False
        columns = free.nonzero()[0]
        if not columns.size:
            return
        record = self._record
        rows = ((match < 0) & (record["hits"] <= YOUNG_HITS) & (record["state"] != LOST)).nonzero()[0]
        if rows.size:
            margin = self.parameters.grow * np.sqrt(self._motion[motion.VAR_POSITION, rows, :2])
            near = self._same_class(iou_matrix(predicted[rows], boxes[columns], margin), rows, class_ids[columns])
            r, c = assign(near, self.parameters.grow_gate)
            match[rows[r]] = columns[c]

    def _continue(
        self, stamp: int, stalled: bool, rows: NDArray, boxes: NDArray, scores: NDArray, class_ids: NDArray
    ) -> None:
        """Give the tracks ``rows`` their detections, let the others miss, drop what has died."""
        parameters, record = self.parameters, self._record
        motion.correct(self._motion, rows, motion.to_centre(boxes), parameters.noise)
        record["seen"][rows] = stamp
        record["hits"][rows] += 1
        record["evidence"][rows] += scores
        record["score"][rows] = scores
        record["box"][rows] = boxes
        if parameters.class_agnostic:
            self._vote(rows, scores, class_ids)
        state = record["state"]
        if len(rows) == len(record) and np.count_nonzero(state == CONFIRMED) == len(record):
            return
        hit = np.zeros(len(record), bool)
        hit[rows] = True
        ready = state == LOST
        ready |= (
            (state == TENTATIVE)
            & (record["hits"] >= parameters.confirm_hits)
            & (record["evidence"] >= parameters.confirm_score)
            & (stamp - record["born"] >= parameters.confirm_after * NS_PER_S)
        )
        ready &= hit
        state[ready] = CONFIRMED
        if len(rows) == len(record):
            return
        missed = ~hit
        dead = missed & (state == TENTATIVE)
        dead &= stamp - record["seen"] > parameters.tentative_lost_after * NS_PER_S
        missed &= state == CONFIRMED
        state[missed] = LOST
        # A box that keeps growing or shrinking unseen would swallow the image or vanish.
        self._motion[motion.VELOCITY, missed, 2:] = 0.0
        dead |= self._duplicates()
        if stalled:  # a source without stamps must not keep what is gone for ever
            record["stalled"] += ~hit
            dead |= record["stalled"] > MAX_STALLED
        if np.count_nonzero(dead):
            self._keep(~dead)

    def _vote(self, rows: NDArray, scores: NDArray, class_ids: NDArray) -> None:
        """Majority vote over a stream, weighted by score: the class changes when the others outweigh it.

        Boyer and Moore's majority vote algorithm (1981): constant memory, whatever the number of classes.
        """
        record = self._record
        old = record["class_id"][rows]
        same = old == class_ids
        if np.count_nonzero(same) == len(same):
            record["vote"][rows] = np.minimum(record["vote"][rows] + scores, self.parameters.class_memory)
            return
        vote = record["vote"][rows] + np.where(same, scores, -scores)
        record["class_id"][rows] = np.where(vote < 0, class_ids, old)
        record["vote"][rows] = np.minimum(np.abs(vote), self.parameters.class_memory)

    def _duplicates(self) -> NDArray[np.bool_]:
        """Of a lost and a living track on nearly the same box, the younger."""
        record = self._record
        doubled = np.zeros(len(record), bool)
        lost = (record["state"] == LOST).nonzero()[0]
        alive = (record["state"] == CONFIRMED).nonzero()[0]
        if not (lost.size and alive.size):
            return doubled
        boxes = motion.to_corners(self._motion[motion.POSITION])
        pairs_lost, pairs_alive = np.nonzero(iou_matrix(boxes[lost], boxes[alive]) > DUPLICATE_IOU)
        if pairs_lost.size:
            a, b = lost[pairs_lost], alive[pairs_alive]
            same = record["class_id"][a] == record["class_id"][b] if not self.parameters.class_agnostic else True
            lived_a = record["seen"][a] - record["born"][a]
            lived_b = record["seen"][b] - record["born"][b]
            doubled[np.where(lived_a > lived_b, b, a)[np.broadcast_to(same, a.shape)]] = True
        return doubled

    def _begin(self, stamp: int, boxes: NDArray, scores: NDArray, class_ids: NDArray, state: np.uint8) -> None:
        count = len(boxes)
        record = np.zeros(count, _RECORD)
        record["id"] = np.arange(self._next_id, self._next_id + count)
        record["born"] = record["seen"] = stamp
        record["class_id"] = class_ids
        record["hits"] = 1
        record["score"] = record["vote"] = record["evidence"] = scores
        record["box"] = boxes
        record["state"] = state
        if self.parameters.confirm_hits == 1 and not self.parameters.confirm_after:
            record["state"][scores >= self.parameters.confirm_score] = CONFIRMED
        self._next_id += count
        self._record = np.concatenate([self._record, record])
        self._motion = np.concatenate(
            [self._motion, motion.initiate(motion.to_centre(boxes), self.parameters.noise)], axis=1
        )

    def _report(self, detections: Detections) -> Tracks:
        parameters, record = self.parameters, self._record
        state = record["state"]
        shown = state == CONFIRMED
        if parameters.publish_tentative:
            shown |= state == TENTATIVE
        if parameters.publish_lost:
            shown |= state == LOST
        every = np.count_nonzero(shown) == len(record)
        part, moving = (record, self._motion) if every else (record[shown], self._motion[:, shown])
        boxes = motion.to_corners(moving[motion.POSITION]).astype(np.float32)
        if parameters.output_box == "detected":
            seen = part["seen"] == detections.stamp
            boxes[seen] = part["box"][seen]
        return Tracks(
            boxes=boxes,
            scores=part["score"].copy(),
            class_ids=part["class_id"].copy(),
            ids=part["id"].copy(),
            velocities=moving[motion.VELOCITY, :, :2].astype(np.float32),
            ages=((detections.stamp - part["born"]) / NS_PER_S).astype(np.float32),
            states=part["state"].copy(),
            labels=self._labels,
            stamp=detections.stamp,
            frame_id=detections.frame_id,
        )
