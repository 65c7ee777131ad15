"""A multi-object tracker on boxes alone: who is who from frame to frame.

Motion (`motion`) takes the tracks to the time of the detections, matching (`matching`) finds the detection that
continues each, and this is their life: tentative, confirmed, lost. Time is the header time of the images, so lives are
in seconds and frame rates may vary.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S, Detections, Labels, Tracks
from edge_vision.tracking import kernels, matching, motion, steps
from edge_vision.tracking import record as records
from edge_vision.tracking.agility import AdaptiveNoise
from edge_vision.tracking.appearance import Appearance, as_features
from edge_vision.tracking.association import Pairs, load_solver
from edge_vision.tracking.intake import accept
from edge_vision.tracking.life import SURE_SHARE, Share, duplicates, judge
from edge_vision.tracking.parameters import TrackerParameters, preset
from edge_vision.tracking.record import CONFIRMED, LOST, TENTATIVE
from edge_vision.tracking.scores import ScoreBorder
from edge_vision.tracking.second_look import YOUNG_HITS
from edge_vision.tracking.warps import as_homography

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
        self._steps: ModuleType = kernels if self._fast else steps
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
        self._tentative = 0  # how many there are
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
        found, accepted, refused = accept(parameters, detections, self._fast)
        boxes, scores, class_ids = found
        self.rejected += refused
        if features is not None:
            features = as_features(features, len(detections))
            features = features if accepted is None else features[accepted]
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
        self._motion = self._steps.predict(self._motion, step / NS_PER_S, self._noise.noise)
        if homography is not None:
            self._warp(homography)
        looks = self._appearance
        view = None if features is None else looks.look(parameters, self._record, stamp, boxes, features)
        pairs, left_over = matching.match(
            parameters, self._record, self._motion, boxes, scores, class_ids, high_score, view, self._fast
        )
        if view is not None:
            (self._record, self._motion), pairs = looks.recognise(
                view, parameters, (self._record, self._motion), found, high_score, pairs
            )
        columns = pairs[1]
        born = columns[:0]
        if len(columns) < len(boxes) and left_over >= new_score:
            free = scores >= new_score
            free[columns] = False
            born = free.nonzero()[0]
        self._continue(stamp, step, pairs, found)
        if len(born):
            self._begin(stamp, boxes, scores, class_ids, born, TENTATIVE)
        return self._report(detections)

    def covariances(self) -> NDArray[np.float64]:
        """(N, 2, 2) px²: covariance of the box centres of the tracks that the last `update` returned, in its order."""
        state, rows = self._reported
        return motion.centre_covariance(motion.take(state, rows))

    def _adapt(self) -> None:
        """Lets what adapts itself follow a change of the parameters while it runs."""
        before, parameters = self._adapted, self.parameters
        self._adapted = parameters
        self._fast = kernels.fit(parameters)
        self._steps = kernels if self._fast else steps
        if (before.high_score, before.score_reach) != (parameters.high_score, parameters.score_reach):
            self._border = ScoreBorder(parameters.high_score, parameters.score_reach)
        if _of_noise(before) != _of_noise(parameters):
            self._noise = AdaptiveNoise(*_of_noise(parameters))
        if steps.needs_boxes(parameters) and not steps.needs_boxes(before):
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

    def _continue(self, stamp: int, step: int, pairs: Pairs, found: tuple[NDArray, NDArray, NDArray]) -> None:
        """Give the tracks of the pairs their detections, let the others miss, drop what has died."""
        parameters, record = self.parameters, self._record
        rows = pairs[0]
        every = len(rows) == len(record)
        if every or len(rows):
            self._learn(stamp, step, pairs, found)
        dead = None
        if not self._tentative:  # then who is seen is confirmed, and who is not is lost
            again = self._steps.settle(record, self._motion, rows)
        else:
            again = steps.found_again(record["state"], rows)
            missed, dead, self._tentative = judge(parameters, record, stamp, rows, self._newcomers)
            steps.stop_growing(self._motion, missed)
        self._returning.add(again, again)
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

    def _learn(self, stamp: int, step: int, pairs: Pairs, found: tuple[NDArray, NDArray, NDArray]) -> None:
        """What the tracks of the pairs learn from their detections."""
        parameters, record = self.parameters, self._record
        if self._noise.due():
            centred = motion.to_centre(found[0].take(pairs[1], 0))
            self._noise.learn(self._motion, pairs[0], centred, step / NS_PER_S)
        self._steps.correct(parameters, record, self._motion, pairs, found, stamp, step, not self._settled)
        if not self._settled:
            hits = record["hits"]
            self._settled = not self._tentative and int(np.minimum.reduce(hits, initial=99)) > YOUNG_HITS

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
        parameters, record, state = self.parameters, self._record, self._motion
        rows, chances = self._steps.shown(parameters, record, state, self._returning.value)
        self._reported = state, rows
        made = self._steps.columns(parameters, record, state, rows, chances, detections.stamp)
        return Tracks(*made, self._labels, detections.stamp, detections.frame_id)  # type: ignore[call-arg, arg-type]


def _of_noise(parameters: TrackerParameters) -> tuple[motion.MotionNoise, float, float]:
    return parameters.noise, parameters.least_agility, parameters.velocity_lasts
