"""A multi-object tracker on boxes alone: who is who from frame to frame.

Motion (`motion`) takes the tracks to the time of the detections, matching (`matching`) finds the detection that
continues each, and this is their life: tentative, confirmed, lost. Time is the header time of the images, so lives are
in seconds and frame rates may vary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S, Detections, Labels, Tracks
from edge_vision.tracking import kernels, matching, motion, report
from edge_vision.tracking import record as records
from edge_vision.tracking.agility import AdaptiveNoise
from edge_vision.tracking.appearance import Appearance, as_features
from edge_vision.tracking.association import Pairs, load_solver
from edge_vision.tracking.life import SURE_SHARE, Share, duplicates, judge
from edge_vision.tracking.parameters import TrackerParameters, preset
from edge_vision.tracking.record import CONFIRMED, LOST, TENTATIVE
from edge_vision.tracking.scores import ScoreBorder
from edge_vision.tracking.second_look import YOUNG_HITS
from edge_vision.tracking.warps import as_homography

MAX_COORDINATE = 1e6  # px; what lies beyond is no image coordinate and would drown float32
MAX_STALLED = 100  # misses


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
        self._adapted = self.parameters
        self._fast = kernels.fit(self.parameters)
        self._border = ScoreBorder(self.parameters.high_score, self.parameters.score_reach)
        self._noise = AdaptiveNoise(*_of_noise(self.parameters))
        # What the stream itself says of tracks that start and that are lost; before it does, four of five are real,
        # and two of five come back.
        self._newcomers, self._returning = Share(0.8, 5.0), Share(0.4, 10.0)
        self._appearance = Appearance()
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
        self._appearance.forget()
        self._record = np.zeros(0, records.RECORD)
        self._motion = np.zeros((0, motion.COLUMNS))
        self._reported: tuple[NDArray, NDArray] = self._motion, np.zeros(0, np.intp)  # state, and rows of it
        # What is known of all tracks together spares looking at each in most frames.
        self._tentative = self._lost = 0  # how many there are
        self._settled = True  # none is tentative or young: nobody asks for hits and evidence any more
        self._oldest = 0  # no track was seen last before this stamp

    def update(self, detections: Detections, warp: NDArray | None = None, features: NDArray | None = None) -> Tracks:
        """The tracks after one more frame. Call it for every frame, also with no detections.

        warp: how the image moved because the camera did, since the frame of the last call: 2 x 3 (affine) or 3 x 3
        (homography), mapping source pixels of that frame to this one's; None: not at all (`camera_motion` makes them
        from a rotation or from the images). ValueError where it is neither or not finite.

        features: what the detections look like, (N, D) rows of unit length, NaN where not known (`appearance`).

        A stamp equal to the last one means no time has passed; an earlier one, or one more than ``restart_after``
        seconds later, starts anew with fresh ids (a bag that loops, a camera that was away).
        """
        parameters = self.parameters
        if parameters is not self._adapted:
            self._adapt()
        stamp = detections.stamp
        step = 0 if self._stamp is None else stamp - self._stamp
        restarted = self._stamp is None or step < 0 or step > parameters.restart_after * NS_PER_S
        homography = None if warp is None else as_homography(warp)
        self._stamp = stamp
        self._labels = detections.labels or self._labels
        boxes, scores, class_ids = self._accept(detections)
        if features is not None:
            features = as_features(features, len(detections))
            features = features if len(boxes) == len(features) else features[self._accepted]
        if parameters.score_reach and len(scores):
            self._border.add(scores)
        high_score = self._border.value
        new_score = max(parameters.new_score, high_score + parameters.score_margin)
        if restarted:
            self._forget()
        if not len(self._record):
            strong = (scores >= new_score).nonzero()[0]
            if len(strong):
                first = CONFIRMED if restarted and parameters.confirm_first else TENTATIVE
                self._begin(stamp, boxes, scores, class_ids, strong, first)
            return self._report(detections)
        if stamp - self._oldest > parameters.lost_after * NS_PER_S:
            self._expire(stamp)
        predict = kernels.predict if self._fast else motion.predict
        self._motion = predict(self._motion, step / NS_PER_S, self._noise.noise)
        if homography is not None:
            self._warp(homography)
        looks = self._appearance
        view = None if features is None else looks.look(parameters, self._record, stamp, boxes, features)
        pairs = matching.match(
            parameters, self._record, self._motion, boxes, scores, class_ids, high_score, view, self._fast
        )
        if view is not None:
            (self._record, self._motion), pairs = looks.recognise(
                view, parameters, (self._record, self._motion), (boxes, scores, class_ids), high_score, pairs
            )
            self._count_lost()
        columns = pairs[1]
        born = columns[:0]
        if len(columns) < len(boxes):
            free = scores >= new_score
            free[columns] = False
            born = free.nonzero()[0]
        self._continue(stamp, step, pairs, boxes, scores, class_ids)
        if len(born):
            self._begin(stamp, boxes, scores, class_ids, born, TENTATIVE)
        return self._report(detections)

    def covariances(self) -> NDArray[np.float64]:
        """(N, 2, 2) px²: covariance of the box centres of the tracks that the last `update` returned, in its order."""
        state, rows = self._reported
        return motion.centre_covariance(motion.take(state, rows))

    def _accept(self, detections: Detections) -> tuple[NDArray, NDArray, NDArray]:
        """Boxes, scores and class ids of what can be tracked; counts what is no box, drops what scores too low."""
        boxes, scores, class_ids = detections.boxes, detections.scores, detections.class_ids
        if not len(boxes):
            return boxes, scores, class_ids
        low = self.parameters.low_score
        if self._fast:
            boxes, scores = np.ascontiguousarray(boxes, np.float32), np.ascontiguousarray(scores, np.float32)
            class_ids = np.ascontiguousarray(class_ids, np.int64)
            told = kernels.compiled.sound(boxes, scores, class_ids, low, MAX_COORDINATE)  # type: ignore[union-attr]
            sound, several = told & 1, told & 2
        else:
            sound, several = self._all_sound(boxes, scores, low), np.count_nonzero(class_ids != class_ids[:1])
        keep = None
        if not sound:
            keep = self._sound(boxes, scores, low)
            boxes, scores, class_ids = boxes[keep], scores[keep], class_ids[keep]
        parameters = self.parameters
        if several and parameters.double_iou < 1.0 and parameters.class_agnostic:
            once = matching.once(boxes, scores, class_ids, parameters.double_iou)
            if np.count_nonzero(once) < len(once):
                if keep is None:
                    keep = once
                else:
                    keep[keep] = once
                boxes, scores, class_ids = boxes[once], scores[once], class_ids[once]
        if keep is not None:
            self._accepted = keep
        return boxes, scores, class_ids

    @staticmethod
    def _all_sound(boxes: NDArray, scores: NDArray, low: float) -> bool:
        """The usual case in few steps; NaN makes every one of these comparisons false."""
        return bool(
            np.vdot(boxes, boxes) <= MAX_COORDINATE**2  # more than is asked, and several times faster
            and np.count_nonzero(boxes[:, 2:] > boxes[:, :2]) == 2 * len(boxes)
            and scores[scores.argmin()] >= low
            and scores[scores.argmax()] < np.inf
        )

    def _sound(self, boxes: NDArray, scores: NDArray, low: float) -> NDArray[np.bool_]:
        """Which are boxes, and score enough; counts those that are none."""
        sound = (np.abs(boxes) <= MAX_COORDINATE).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        sound &= np.isfinite(scores)
        self.rejected += len(boxes) - int(np.count_nonzero(sound))
        return sound & (scores >= low)

    def _adapt(self) -> None:
        """Lets what adapts itself follow a change of the parameters while it runs."""
        before, parameters = self._adapted, self.parameters
        self._adapted = parameters
        self._fast = kernels.fit(parameters)
        if (before.high_score, before.score_reach) != (parameters.high_score, parameters.score_reach):
            self._border = ScoreBorder(parameters.high_score, parameters.score_reach)
        if _of_noise(before) != _of_noise(parameters):
            self._noise = AdaptiveNoise(*_of_noise(parameters))
        if _needs_boxes(parameters) and not _needs_boxes(before):
            self._record["box"] = motion.to_corners(self._motion[:, motion.POSITION])

    def _expire(self, stamp: int) -> None:
        record = self._record
        old = (record["state"] == LOST) & (stamp - record["seen"] > self.parameters.lost_after * NS_PER_S)
        gone = int(np.count_nonzero(old))
        if gone:
            self._returning.add(0, gone)
            self._keep(~old)
        self._oldest = int(self._record["seen"].min(initial=stamp))

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        rows = kept.nonzero()[0]
        self._record = self._record.take(rows)
        self._motion = motion.take(self._motion, rows)
        self._count_lost()

    def _count_lost(self) -> None:
        self._lost = int(np.count_nonzero(self._record["state"] == LOST))

    def _warp(self, homography: NDArray[np.float64]) -> None:
        motion.warp(self._motion, homography)
        parameters, record = self.parameters, self._record
        if parameters.direction or parameters.observed_gate < 1.0:  # where objects were seen moves with the image, too
            seen = motion.initiate(motion.to_centre(record["box"]), parameters.noise)
            motion.warp(seen, homography)
            record["box"] = motion.to_corners(seen[:, motion.POSITION])
            for k in range(records.SPAN):
                point = np.zeros_like(seen)
                point[:, motion.CENTRE] = record["past"][:, k]
                motion.warp(point, homography)
                record["past"][:, k] = point[:, motion.CENTRE]

    def _continue(
        self, stamp: int, step: int, pairs: Pairs, boxes: NDArray, scores: NDArray, class_ids: NDArray
    ) -> None:
        """Give the tracks of the pairs their detections, let the others miss, drop what has died."""
        parameters, record = self.parameters, self._record
        rows = pairs[0]
        every = len(rows) == len(record)
        if every or len(rows):
            correct = self._correct_fast if self._fast else self._correct
            correct(stamp, step, pairs, boxes, scores, class_ids)
        state = record["state"]
        known = not self._tentative  # then who is seen is confirmed, and who is not is lost
        if known and every:
            self._returning.add(self._lost, self._lost)
            self._lost = 0
            state.fill(CONFIRMED)
            return
        dead = None
        if known:
            missed = self._settle(rows)
            lost = len(record) - len(rows)
        else:
            newly, dead, self._tentative = judge(parameters, record, stamp, rows, self._newcomers)
            missed = self._stop_growing(newly)
            lost = int(np.count_nonzero(state == LOST))
        found = self._lost + missed - lost
        self._returning.add(found, found)
        self._lost = lost
        if every:
            return
        if parameters.duplicate_iou < 1.0:
            doubled = duplicates(parameters, record, self._motion)
            dead = doubled if dead is None else dead | doubled
        if step == 0:  # a source without stamps must not keep what is gone for ever
            record["stalled"] += 1
            record["stalled"][rows] -= 1
            stalled = record["stalled"] > MAX_STALLED
            dead = stalled if dead is None else dead | stalled
        if dead is not None and np.count_nonzero(dead):
            self._keep(~dead)

    def _settle(self, rows: NDArray) -> int:
        """Where no track is tentative: those in ``rows`` are confirmed, the others lost. How many newly so."""
        if self._fast:
            return kernels.compiled.settle(self._record, self._motion.T, rows)  # type: ignore[union-attr]
        state = self._record["state"]
        missing = state == CONFIRMED
        missing[rows] = False
        state.fill(LOST)
        state[rows] = CONFIRMED
        return self._stop_growing(missing.nonzero()[0])

    def _stop_growing(self, missed: NDArray) -> int:
        """A box that keeps growing or shrinking unseen would swallow the image or vanish."""
        if len(missed):
            self._motion.T[motion.SIZE_VELOCITY, missed] = 0.0
        return len(missed)

    def _correct_fast(
        self, stamp: int, step: int, pairs: Pairs, boxes: NDArray, scores: NDArray, class_ids: NDArray
    ) -> None:
        """`_correct` by the kernels."""
        parameters, record = self.parameters, self._record
        rows, columns = pairs
        if self._noise.adapts:
            centred = motion.to_centre(boxes.take(columns, 0)) if self._noise.due else boxes[:0]
            self._noise.learn(self._motion, rows, centred, step / NS_PER_S)
        kernels.compiled.correct(  # type: ignore[union-attr]
            record,
            self._motion.T,
            rows,
            columns,
            boxes,
            scores,
            class_ids,
            stamp,
            parameters.noise.measurement,
            not self._settled,
            parameters.class_memory,
            parameters.class_agnostic,
        )
        self._settle_hits()

    def _settle_hits(self) -> None:
        if not self._settled:
            hits = self._record["hits"]
            self._settled = not self._tentative and int(np.minimum.reduce(hits, initial=99)) > YOUNG_HITS

    def _correct(
        self, stamp: int, step: int, pairs: Pairs, boxes: NDArray, scores: NDArray, class_ids: NDArray
    ) -> None:
        """What the tracks of the pairs learn from their detections."""
        parameters, record = self.parameters, self._record
        rows, columns = pairs
        boxes, scores, class_ids = boxes.take(columns, 0), scores.take(columns), class_ids.take(columns)
        centred = motion.to_centre(boxes)
        if self._noise.adapts:
            self._noise.learn(self._motion, rows, centred, step / NS_PER_S)
        motion.correct(self._motion, rows, centred, parameters.noise)
        if parameters.observed_gate < 1.0:
            self._renew(rows, step, stamp - record["seen"][rows], centred)
        record["seen"][rows] = stamp
        record["score"][rows] = scores
        if not self._settled:
            record["hits"][rows] += 1
            record["evidence"][rows] += scores
            self._settle_hits()
        if _needs_boxes(parameters):
            record["box"][rows] = boxes
        if parameters.direction:
            past = record["past"].take(rows, 0)
            past[:, :-1] = past[:, 1:].copy()
            past[:, -1] = centred[:, :2]
            record["past"][rows] = past
        if parameters.class_agnostic:
            records.vote(record, rows, scores, class_ids, parameters.class_memory)

    def _renew(self, matched: NDArray, step: int, gaps: NDArray, centred: NDArray) -> None:
        """Velocity after a gap, from the detections on both sides of it.

        What OC-SORT's observation-centric re-update comes to, which replays a straight way between the two.
        """
        found = (gaps > step) & (gaps > 0)
        if np.count_nonzero(found):
            rows, gap = matched[found], gaps[found] / NS_PER_S
            before = motion.to_centre(self._record["box"][rows])
            self._motion[rows, motion.VELOCITY] = (centred[found] - before) / gap[:, None]
            measurement = self.parameters.noise.measurement
            self._motion[rows, motion.VAR_VELOCITY] = 2.0 * (measurement / gap) ** 2
            self._motion[rows, motion.COVARIANCE] = 0.0

    def _begin(
        self, stamp: int, boxes: NDArray, scores: NDArray, class_ids: NDArray, born: NDArray, state: np.uint8
    ) -> None:
        """Tracks from the detections ``born``."""
        parameters = self.parameters
        boxes, scores = boxes.take(born, 0), scores.take(born)
        record = records.begin(self._next_id, stamp, boxes, scores, class_ids.take(born), state)
        if parameters.confirm_hits == 1 and not parameters.confirm_after:
            record["state"][scores >= parameters.confirm_score] = CONFIRMED
        if parameters.sure_score < 1.0 and self._newcomers.value >= SURE_SHARE:
            record["state"][scores >= parameters.sure_score] = CONFIRMED
        self._next_id += len(boxes)
        self._tentative += int(np.count_nonzero(record["state"] == TENTATIVE))
        self._settled = False
        started = motion.initiate(motion.to_centre(boxes), self.parameters.noise)
        if not len(self._record):
            self._record, self._motion, self._oldest = record, started, stamp
        else:
            self._record = records.join(self._record, record)
            self._motion = motion.join(self._motion, started)

    def _report(self, detections: Detections) -> Tracks:
        made_by = kernels if self._fast else report
        parameters, record, state = self.parameters, self._record, self._motion
        rows, chances = made_by.shown(parameters, record, state, self._returning.value)
        self._reported = state, rows
        made = made_by.columns(parameters, record, state, rows, chances, detections.stamp)
        return Tracks(*made, self._labels, detections.stamp, detections.frame_id)  # type: ignore[call-arg, arg-type]


def _of_noise(parameters: TrackerParameters) -> tuple[motion.MotionNoise, float, float]:
    return parameters.noise, parameters.least_agility, parameters.velocity_lasts


def _needs_boxes(parameters: TrackerParameters) -> bool:
    """Whether anybody asks for the newest detected boxes of tracks."""
    return parameters.observed_gate < 1.0 or parameters.output_box == "detected"
