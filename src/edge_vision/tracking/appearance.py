"""What tracks look like: who is who by embeddings of their crops, beside the overlap of boxes.

Features come from outside, a row of unit length for each detection and NaN where none is known (`inference.embedding`
makes them). How alike two looks must be to be one object depends on the network, the lens and the objects, so no cosine
is a parameter here: every sure match by overlap alone tells how alike one object stays, every two objects of one frame
how alike two are (`Likeness`). What is called p below follows from both, and is 0.5 where the look says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S
from edge_vision.tracking import motion
from edge_vision.tracking import record as records
from edge_vision.tracking.association import Candidates, Pairs, assign, far_negated
from edge_vision.tracking.parameters import TrackerParameters
from edge_vision.tracking.record import CONFIRMED, LOST, RECORD, TENTATIVE

MOST_COVERED = 0.5  # of a box by others: beyond, its crop shows others as much as its object
SURE = 0.5  # overlap of a match that is sure without looking ...
ALONE = 0.1  # ... where no other track overlaps the detection by more
Tracks = tuple[NDArray[np.void], motion.State]

FRESH = 1.0  # s: time constant of the average look
STEADY = 0.8  # of the old look that is kept at the least, however long ago it was
SLACK = 2.0  # who comes back is seen from elsewhere and in another light: further from the look known by this factor
BINS = 200  # of the cosine, -1 .. 1
PRIOR = 10.0  # cosines of two objects, before any is known
LEAST_SPREAD = 0.02  # of one object's cosines: a few alike looks are no reason to refuse one that is hardly less so
ENOUGH = 5.0  # cosines of one object, before what they tell is trusted in full
KEPT = 0.997  # of what is known of likeness, at each cosine learnt
MOST_PAIRS = 20.0
MOST_REMEMBERED = 256  # tracks that have ended and may come back


def as_features(features: NDArray, count: int) -> NDArray[np.float32]:
    """(count, D) float32. ValueError for an array of another shape."""
    rows = np.asarray(features, np.float32)
    if rows.ndim != 2 or len(rows) != count:
        raise ValueError(f"features are one row for each of {count} detections, got an array of shape {rows.shape}")
    return rows


class Likeness:
    """From the cosine of two looks to whether they are one object's, learnt from the stream.

    p = F / (F + G) with F the share of one object's cosines that are lower and G the share of two objects' that are
    higher: rises with the cosine, is 0.5 at the equal error rate, and stays there for looks that tell nothing apart. F
    is a logistic curve by mean and deviation, as a few observations have to do; G is counted, since two objects may be
    much alike or not at all. 0.5 throughout before anything is known.
    """

    def __init__(self) -> None:
        self._same = np.zeros(3)  # number, sum and sum of squares of one object's 1 - cosine
        self._different = np.zeros(BINS)
        self._different[BINS // 2 :] = PRIOR / (BINS - BINS // 2)
        self._trust, self._middle, self._rate = 0.0, 0.0, 1.0
        self._higher = _beyond(self._different)

    def __call__(self, cosines: NDArray[np.float32], slack: float = 1.0, rivals: int = 1) -> NDArray[np.float32]:
        """p of cosines of any shape; 0.5 where they are NaN.

        slack: how many times further beyond the mean looks of one object may lie than usual; rivals: how many others
        may look so by chance.
        """
        known = np.isfinite(cosines)
        usual = np.where(known, cosines, np.float32(0.0))
        lower = 1.0 / (1.0 + np.exp(np.minimum((1.0 - usual - self._middle) * (self._rate / slack), 50.0)))
        p = lower / (lower + rivals * self._higher[_bins(usual)])
        return np.where(known, 0.5 + self._trust * (p - 0.5), 0.5).astype(np.float32)

    def learn(self, same: NDArray, different: NDArray) -> None:
        """Cosines (K,) of looks of one object, and (L,) of two; NaN is none."""
        apart = 1.0 - same[np.isfinite(same)]
        if apart.size:
            self._same *= KEPT**apart.size
            self._same += (apart.size, apart.sum(), np.square(apart).sum())
            number, total, squares = self._same
            self._middle = total / number
            deviation = np.sqrt(max(squares / number - self._middle**2, 0.0))
            self._rate = 1.7 / max(deviation, LEAST_SPREAD)
            self._trust = min(1.0, number / ENOUGH)
        two = different[np.isfinite(different)]
        if two.size:
            # A frame of many objects has many pairs of two, which tell little more than a few.
            part = min(1.0, MOST_PAIRS / two.size)
            self._different *= KEPT ** (part * two.size)
            self._different += np.bincount(_bins(two), minlength=BINS) * part
            self._higher = _beyond(self._different)


def _beyond(counts: NDArray) -> NDArray[np.float32]:
    """Of each bin, the share of what lies above it, with half of its own."""
    return np.maximum(1.0 - (np.cumsum(counts) - 0.5 * counts) / counts.sum(), 1e-6).astype(np.float32)


def _bins(cosines: NDArray) -> NDArray[np.intp]:
    return np.clip((cosines + 1.0) * (BINS / 2), 0, BINS - 1).astype(np.intp)


@dataclass(slots=True)
class View:
    """What the looks of one frame say. features (N, D) of the detections, NaN where the crop shows others as much;
    cosines, p (M, N): of tracks and detections; overlapping: pairs with their overlap as it was before it was fused."""

    features: NDArray[np.float32]
    cosines: NDArray[np.float32]
    p: NDArray[np.float32]
    weight: float
    overlapping: Candidates | None = None

    def fuse(self, candidates: Candidates) -> Candidates:
        """Pairs whose boxes overlap, with overlap + weight (p - 0.5) instead of the overlap: unchanged where the look
        says nothing, so that all gates keep their meaning; the alike need hardly any overlap, the unlike a lot.

        Taken rather than BoT-SORT's minimum of overlap and gated cosine (Aharon et al., 2022, equation 12) and than a
        factor on the overlap: see docs/appearance.md.
        """
        rows, columns, overlaps = candidates
        self.overlapping = candidates
        return rows, columns, overlaps + np.float32(self.weight) * (self.p[rows, columns] - np.float32(0.5))


class Appearance:
    """The looks of a tracker's tracks, row by row as in its record, and of those that it has dropped.

    returned: tracks found again by their look alone, so far.
    """

    def __init__(self) -> None:
        self.likeness = Likeness()
        self.returned = 0
        self.forget()

    def forget(self) -> None:
        """All tracks; what is known of likeness stays."""
        self._ids = np.zeros(0, np.int64)
        self._looks = np.zeros((0, 0), np.float32)  # unit rows, NaN: not known
        self._learnt = np.zeros(0, np.int64)  # ns, when a look was last learnt
        self._times = np.zeros(0, np.int64)  # how often
        self._stamp = 0
        self._record = np.zeros(0, RECORD)  # the tracker's, at the last look
        self._gone = np.zeros(0, RECORD)
        self._gone_looks = self._looks

    def look(
        self, parameters: TrackerParameters, record: NDArray[np.void], stamp: int, boxes: NDArray, features: NDArray
    ) -> View:
        """Before tracks and detections are matched: what their looks say.

        record: of the M tracks at stamp (ns); boxes (N, 4), features (N, D). ValueError for features of another length
        than those before.
        """
        if self._looks.shape[1] != features.shape[1]:
            if len(self._ids):
                raise ValueError(f"features of {self._looks.shape[1]} numbers a row so far, now of {features.shape[1]}")
            self._looks = self._gone_looks = np.zeros((0, features.shape[1]), np.float32)
        self._stamp = stamp
        self._follow(record)
        self._drop_old(stamp, parameters.remembered_for)
        shown = np.where((covered(boxes) > MOST_COVERED)[:, None], np.float32(np.nan), features)
        cosines = self._looks @ shown.T
        return View(shown, cosines, self.likeness(cosines), parameters.appearance_weight)

    def _follow(self, record: NDArray[np.void]) -> None:
        """Bring the rows into the record's order; what has left it, and was more than a try, may come back."""
        ids = record["id"]
        if len(ids) != len(self._ids) or not np.array_equal(ids, self._ids):
            left = ~np.isin(self._ids, ids)
            known = np.isin(self._record["id"], self._ids[left]) & (self._record["state"] != TENTATIVE)
            gone = self._record[known]
            looks = self._looks[_places(self._ids, gone["id"])]
            seen = np.isfinite(looks[:, :1]).all(axis=1)
            self._gone = np.concatenate([self._gone, gone[seen]])[-MOST_REMEMBERED:]
            self._gone_looks = np.concatenate([self._gone_looks, looks[seen]])[-MOST_REMEMBERED:]
            self._add(ids[~np.isin(ids, self._ids)])
            self._take(_places(self._ids, ids))
        self._record = record

    def _take(self, rows: NDArray) -> None:
        self._ids, self._looks = self._ids[rows], self._looks[rows]
        self._learnt, self._times = self._learnt[rows], self._times[rows]

    def _add(self, ids: NDArray[np.int64]) -> None:
        self._ids = np.concatenate([self._ids, ids])
        unknown = np.full((len(ids), self._looks.shape[1]), np.nan, np.float32)
        self._looks = np.concatenate([self._looks, unknown])
        self._learnt = np.concatenate([self._learnt, np.zeros(len(ids), np.int64)])
        self._times = np.concatenate([self._times, np.zeros(len(ids), np.int64)])

    def _drop_old(self, stamp: int, seconds: float) -> None:
        if len(self._gone):
            kept = stamp - self._gone["seen"] <= seconds * NS_PER_S
            self._gone, self._gone_looks = self._gone[kept], self._gone_looks[kept]

    def recognise(
        self,
        view: View,
        parameters: TrackerParameters,
        tracks: Tracks,
        detections: tuple[NDArray, NDArray, NDArray],
        high_score: float,
        pairs: Pairs,
    ) -> tuple[Tracks, Pairs]:
        """After the match: finds lost and ended tracks again by their look alone, and learns the looks of all that
        have a detection.

        tracks: record and predicted state; detections: boxes, scores, class ids; high_score: what is strong; pairs:
        rows and columns matched. Returns both as they are then, ended tracks that came back at the end.
        """
        boxes, scores, class_ids = detections
        record, state, pairs = self._revive(view, parameters, *tracks, (boxes, scores >= high_score, class_ids), pairs)
        self._learn_likeness(view, *pairs)
        self._learn(view, self._stamp, scores, high_score, *pairs)
        self._record = record
        return (record, state), pairs

    def _revive(
        self,
        view: View,
        parameters: TrackerParameters,
        record: NDArray[np.void],
        state: motion.State,
        detections: tuple[NDArray, NDArray, NDArray],
        pairs: Pairs,
    ) -> tuple[NDArray[np.void], motion.State, Pairs]:
        """Detections that are free, or that only a tentative track claims, may be those of a track without one,
        wherever they are; the tentative one then takes its name."""
        boxes, strong, class_ids = detections
        rows, columns = pairs
        free = strong & np.isfinite(view.features[:, 0])
        missed = np.ones(len(record), bool)
        missed[rows] = False
        tentative = record["state"] == TENTATIVE
        free[columns[~tentative[rows]]] = False
        candidates = free.nonzero()[0]
        here = (missed & ~tentative & (self._times > 0)).nonzero()[0]
        if not candidates.size or not (here.size or len(self._gone)):
            return record, state, pairs
        looks = view.features[candidates]
        cosines = np.concatenate([view.cosines[here[:, None], candidates], self._gone_looks @ looks.T])
        p = self.likeness(cosines, SLACK, len(cosines))
        other = np.concatenate([record["class_id"][here], self._gone["class_id"]])[:, None] != class_ids[candidates]
        p[other] *= 1.0 - parameters.class_change if parameters.class_agnostic else 0.0
        old, found = assign(p, parameters.appearance_gate)
        found = candidates[found]
        self.returned += len(old)
        claims = np.full(len(boxes), -1, np.intp)
        claims[columns] = rows
        for track, column in zip(old.tolist(), found.tolist(), strict=True):  # few, and seldom
            heir, ended = int(claims[column]), track - len(here)
            if heir >= 0:
                self._rename(record, heir, int(here[track]) if ended < 0 else None, ended)
                continue
            place = int(here[track]) if ended < 0 else len(record)
            started = motion.initiate(motion.to_centre(boxes[column : column + 1]), parameters.noise)
            if ended < 0:
                state[place] = started[0]
            else:
                record = records.join(record, self._gone[ended : ended + 1])
                record["state"][place] = LOST
                state = motion.join(state, started)
                self._add(record["id"][place:])
                self._looks[place], self._times[place] = self._gone_looks[ended], 1
            rows, columns = np.append(rows, place), np.append(columns, column)
        again = old[old >= len(here)] - len(here)
        self._gone, self._gone_looks = np.delete(self._gone, again), np.delete(self._gone_looks, again, axis=0)
        order = np.argsort(rows)
        return record, state, (rows[order], columns[order])

    def _rename(self, record: NDArray[np.void], heir: int, place: int | None, ended: int) -> None:
        """Row ``heir`` goes on as the track at ``place``, or as the ``ended`` one, which gets its name and no look."""
        names = ["id", "born", "class_id", "vote"]
        source = self._gone[ended] if place is None else record[place]
        old, new = [source[name] for name in names], [record[heir][name] for name in names]
        for name, ours, theirs in zip(names, old, new, strict=True):
            record[name][heir] = ours
            if place is not None:
                record[name][place] = theirs
        record["state"][heir] = CONFIRMED
        self._ids[heir] = old[0]
        self._looks[heir] = self._gone_looks[ended] if place is None else self._looks[place]
        self._times[heir] = max(self._times[heir], 1)
        if place is not None:
            self._ids[place], self._looks[place], self._times[place] = new[0], np.nan, 0

    def _learn(
        self, view: View, stamp: int, scores: NDArray, least: float, rows: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> None:
        """The looks of tracks ``rows`` from those of the detections ``columns`` that continue them.

        An average that a detection moves the more the surer it is, from nothing at the score ``least`` (Maggiolino et
        al., Deep OC-SORT, ICIP 2023, section 3.2, dynamic appearance); by time, not by frames, and at first a mean.
        """
        seen = np.isfinite(view.features[columns, 0])
        rows, columns = rows[seen], columns[seen]
        if not rows.size:
            return
        times = self._times[rows]
        old = np.maximum(np.exp((self._learnt[rows] - stamp) / (FRESH * NS_PER_S)), STEADY)
        trust = np.clip((scores[columns] - least) / max(1.0 - least, 1e-6), 0.0, 1.0)
        first = times == 0
        part = np.where(first, 1.0, trust * np.maximum(1.0 - old, 1.0 / (times + 1.0)))
        part = part.astype(np.float32)[:, None]  # wide rows: twice as fast as doubles
        looks = self._looks.take(rows, 0)
        looks[first] = 0.0  # NaN so far
        looks *= 1.0 - part
        looks += view.features.take(columns, 0) * part
        length = np.sqrt(np.einsum("ij,ij->i", looks, looks))[:, None]
        self._looks[rows] = looks / np.maximum(length, 1e-6)
        self._learnt[rows] = stamp
        self._times[rows] = times + 1

    def _learn_likeness(self, view: View, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> None:
        """From matches that are sure by overlap alone, and from any two objects in one frame."""
        if view.overlapping is None:
            return
        tracks, detections, overlaps = view.overlapping
        near = overlaps > ALONE
        tracks, detections, overlaps = tracks[near], detections[near], overlaps[near]
        alone = np.bincount(detections, minlength=len(view.features))[detections] == 1
        matched = np.full(len(view.features), -1)
        matched[columns] = rows
        sure = alone & (overlaps > SURE) & (matched[detections] == tracks)
        same = view.cosines[tracks[sure], detections[sure]]
        rows, columns = rows[rows < len(view.cosines)], columns[rows < len(view.cosines)]
        different = view.cosines[rows[:, None], columns]
        self.likeness.learn(same, different[~np.eye(len(rows), dtype=bool)])


def _places(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.intp]:
    """Where each of wanted, all of them there, is in ids."""
    order = np.argsort(ids, kind="stable")
    return order[np.searchsorted(ids, wanted, sorter=order)]


def covered(boxes: NDArray) -> NDArray[np.float32]:
    """(N,): the largest share of a box that lies in another one."""
    count = len(boxes)
    if count < 2:
        return np.zeros(count, np.float32)
    turned = far_negated(boxes)
    shared = np.maximum(turned[:, :, None], turned[:, None, :])
    sides = np.maximum(-(shared[:2] + shared[2:]), 0.0)
    areas = sides[0] * sides[1]
    own = np.diagonal(areas).copy()
    np.fill_diagonal(areas, 0.0)
    return areas.max(axis=1) / np.maximum(own, 1e-9)
