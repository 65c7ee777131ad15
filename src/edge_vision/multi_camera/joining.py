"""One object, one id over several cameras: local tracks joined by where they are on the ground plane.

Each camera has its tracker; what comes here are its tracks, when they come and with their own stamps. An object's
state on the plane is one Kalman filter fed by all cameras that see it; membership (which local track of which camera
is it) has hysteresis, so that global ids do not swap where objects pass each other: a member stays until it has
drifted apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S, Labels, Tracks, TrackState
from edge_vision.multi_camera import motion
from edge_vision.multi_camera.measuring import measure
from edge_vision.multi_camera.record import NEVER, NONE, find, record_type, vote
from edge_vision.multi_camera.rig import Rig

_NEVER_PAIRED = 1e9


@dataclass(frozen=True, slots=True)
class GlobalTracks:
    """Objects on the ground plane at the moment ``stamp`` (ns, the newest of all cameras').

    ids (N,) int64, never reused; positions (N, 2) m; velocities (N, 2) m/s; covariances (N, 4, 4) of x, y, vx, vy;
    class_ids (N,) int64; states (N,) uint8 of `TrackState`: CONFIRMED while a camera has it, LOST while carried on by
    prediction; ages (N,) s; members (N, C) int64: local track id in each of ``cameras``, -1 where it has none;
    frame_id: the plane's, where it has one.
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    covariances: NDArray[np.float64]
    class_ids: NDArray[np.int64]
    states: NDArray[np.uint8]
    ages: NDArray[np.float64]
    members: NDArray[np.int64]
    cameras: tuple[str, ...] = ()
    labels: Labels = field(default=())
    stamp: int = 0
    frame_id: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, camera: str) -> dict[int, int]:
        """Local track id -> global id in that camera. ValueError for a camera that the rig has not."""
        column = self.members[:, _column(self.cameras, camera)]
        held = column != NONE
        return dict(zip(column[held].tolist(), self.ids[held].tolist(), strict=True))


class MultiCamera:
    """Joins the tracks of the cameras of a rig. Not safe for use from two threads at once.

    unused: local tracks so far that had no position on the plane (above the horizon, too uncertain), or no id of their
    own; repeated: frames so far whose stamp their camera had reached before, which are left out.
    """

    def __init__(self, rig: Rig) -> None:
        from scipy.optimize import linear_sum_assignment  # half a second to import: only who joins pays

        self.rig = rig
        self.parameters = rig.parameters
        self.cameras = tuple(camera.name for camera in rig.cameras)
        self.unused = self.repeated = 0
        self._solve = linear_sum_assignment
        self._labels: Labels = ()
        self._labelled: Labels = ()
        self._next_id = 1
        self.reset()

    def reset(self) -> None:
        """Forget all objects and the time. Ids go on: none is ever used twice."""
        self._record = np.zeros(0, record_type(len(self.cameras)))
        self._stamp: int | None = None
        self._newest: list[int | None] = [None] * len(self.cameras)
        self._behind_since: int | None = None

    def adopt(self, rig: Rig) -> None:
        """Other calibrations and parameters of the same cameras; objects and ids stay. ValueError for other cameras."""
        if [camera.name for camera in rig.cameras] != list(self.cameras):
            raise ValueError(f"the rig must have the cameras {', '.join(self.cameras)}, in this order")
        self.rig, self.parameters = rig, rig.parameters

    def update(self, camera: str, tracks: Tracks) -> GlobalTracks:
        """All objects after one more frame of one camera; cameras in any order, also frames without tracks.

        A stamp that is older than the newest is taken for what it is (a late frame), one that this camera had reached
        before is left out; more than ``restart_after`` s before its camera's newest starts anew. ValueError for a
        camera that the rig has not, and for one whose clock is that much behind that of another which goes on.
        """
        c = _column(self.cameras, camera)
        if not self._in_time(c, tracks.stamp):
            self.repeated += 1
            return self._report()
        self._learn(tracks.labels)
        late = self._advance(tracks.stamp)
        points, spreads, cut = measure(self.rig.cameras[c], tracks, self.parameters)
        confirmed = tracks.states == TrackState.CONFIRMED
        usable = confirmed & np.isfinite(points[:, 0]) & _own_ids(tracks.ids)
        self.unused += int(np.count_nonzero(confirmed & ~usable))
        rows, columns, parted = self._members(c, tracks, points, spreads, usable)
        free = usable.copy()
        free[columns] = False
        joined_rows, joined = self._associate(c, late, points, spreads, cut, tracks, free.nonzero()[0], parted)
        self._record["joined"][joined_rows, c] = tracks.stamp
        self._correct(
            c, late, np.concatenate([rows, joined_rows]), np.concatenate([columns, joined]), tracks, points, spreads
        )
        free[joined] = False
        self._begin(c, late, free.nonzero()[0], tracks, points, spreads)
        self._merge(c)
        return self._report()

    def _in_time(self, c: int, stamp: int) -> bool:
        """Whether a frame of this camera tells anything new; begins anew where time was turned back."""
        newest, limit = self._newest[c], self.parameters.restart_after * NS_PER_S
        if newest is not None and newest - stamp > limit:
            self.reset()  # a recording that loops
        elif newest is not None and stamp <= newest:
            return False
        elif self._stamp is not None and self._stamp - stamp > limit:
            since = self._behind_since = stamp if self._behind_since is None else self._behind_since
            if stamp - since <= limit:
                behind = (self._stamp - stamp) / NS_PER_S
                ahead = self.cameras[max(range(len(self.cameras)), key=lambda k: self._newest[k] or -1)]
                raise ValueError(
                    f"stamps of {self.cameras[c]} are {behind:.1f} s behind those of {ahead}: the cameras need one "
                    "clock (chrony or PTP between machines; of recordings, those made together)"
                )
            self.reset()  # the one ahead has been silent for that long: it was the wrong one
        self._newest[c], self._behind_since = stamp, None
        return True

    def _learn(self, labels: Labels) -> None:
        """Messages name the classes that are in them, each its own."""
        if not labels or labels == self._labelled:
            return
        self._labelled, known = labels, self._labels
        names = [*labels, *known[len(labels) :]]
        self._labels = tuple(name or (known[i] if i < len(known) else "") for i, name in enumerate(names))

    def _advance(self, stamp: int) -> float:
        """Take the objects to ``stamp`` where it is newer, drop the dead; how many seconds late the stamp is."""
        record, parameters = self._record, self.parameters
        late = 0.0 if self._stamp is None else (self._stamp - stamp) / NS_PER_S
        if late < 0.0 and len(record):
            record = record[stamp - record["seen"] <= parameters.lost_after * NS_PER_S]
            moved = motion.predict(record["mean"], record["covariance"], -late, parameters.agility)
            record["mean"], record["covariance"] = moved
            # Of a camera that went silent nothing is known any more; it may come back with its ids begun anew.
            silent = stamp - record["seen_by"] > parameters.lost_after * NS_PER_S
            record["member"][silent], record["present"][silent] = NONE, False
        self._record = record
        self._stamp = stamp if self._stamp is None else max(stamp, self._stamp)
        return max(late, 0.0)

    def _members(
        self, c: int, tracks: Tracks, points: NDArray, spreads: NDArray, usable: NDArray
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], dict[int, int]]:
        """Objects (rows) whose member of this camera goes on, its place among the tracks (columns); and which tracks
        were split off from which object's id just now."""
        record = self._record
        place = find(tracks.ids, record["member"][:, c])
        held = (place >= 0) & (record["member"][:, c] != NONE)
        record["present"][:, c] = held
        rows = (held & np.where(held, usable[place] if len(usable) else False, False)).nonzero()[0]
        columns = place[rows]
        # Of two members the one that joined first leads: the other is held off while it is too far, then split off.
        apart = np.zeros(len(rows), bool)
        for other in range(len(self.cameras)):
            if other == c or not len(rows):
                continue
            both = record["present"][rows, other] & (record["seen_by"][rows, other] > NEVER)
            step = (tracks.stamp - record["seen_by"][rows, other]) / NS_PER_S
            both &= np.abs(step) < self.parameters.split_after
            there = record["point"][rows, other] + step[:, None] * record["mean"][rows, 2:]
            spread = record["spread"][rows, other] + spreads[columns]
            spread += (step * step)[:, None, None] * record["covariance"][rows, 2:, 2:]
            spread[~both] = np.eye(2)
            distance, _ = motion.squared_distances(points[columns] - there, spread)
            joined, first = record["joined"][rows, c], record["joined"][rows, other]
            follows = (joined > first) | ((joined == first) & (c > other))
            apart |= both & follows & (distance > self.parameters.keep_gate)
        since = record["apart"][rows, c]
        since = np.where(apart, np.where(since == NEVER, tracks.stamp, since), NEVER)
        record["apart"][rows, c] = since
        split = apart & (tracks.stamp - since >= self.parameters.split_after * NS_PER_S)
        leaving = rows[split]
        record["member"][leaving, c], record["present"][leaving, c] = NONE, False
        record["seen_by"][leaving, c] = record["apart"][leaving, c] = NEVER
        parted = dict(zip(columns[split].tolist(), record["id"][leaving].tolist(), strict=True))
        return rows[~split], columns[~split], parted

    def _associate(
        self,
        c: int,
        late: float,
        points: NDArray,
        spreads: NDArray,
        cut: NDArray,
        tracks: Tracks,
        free: NDArray[np.intp],
        parted: dict[int, int],
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Objects without a member of this camera, and the free tracks that join them: the likeliest one-to-one choice.

        Gate: chi-square of the difference of positions, with the object's own uncertainty, the measurement's and that
        of the view it was seen in last (two views of one object differ for as long as they last, however well
        averaged).
        """
        record, parameters = self._record, self.parameters
        open_rows = (~record["present"][:, c]).nonzero()[0]
        if not (open_rows.size and free.size):
            return open_rows[:0], free[:0]
        part = record[open_rows]
        expected, spread = motion.at(part["mean"], part["covariance"], late, parameters.agility)
        vague = np.trace(spread, axis1=1, axis2=2) > 2 * parameters.max_deviation**2  # it could be anywhere by now
        newest = part["seen_by"].argmax(axis=1)
        spread = spread + part["spread"][np.arange(len(part)), newest]
        distance, volume = motion.squared_distances(
            points[free][None] - expected[:, None], spread[:, None] + spreads[free][None]
        )
        distance = distance + np.where(
            part["class_id"][:, None] == tracks.class_ids[free][None], 0.0, parameters.class_penalty
        )
        # A track that is missing for a frame comes back; what comes in at the image's edge beside it is somebody else.
        away = part["member"][:, c] != NONE
        distance[away] += parameters.absence_penalty
        near = distance <= parameters.gate
        near[np.ix_(away, cut[free])] = False
        near[vague] = False
        for column, owner in parted.items():
            near[np.ix_(part["id"] == owner, free == column)] = False
        # The log determinant makes it a likelihood: of a sure and an unsure object at one place the sure one is meant.
        cost = np.where(near, distance + volume, _NEVER_PAIRED)
        picked_rows, picked = self._solve(cost)
        real = near[picked_rows, picked]
        return open_rows[picked_rows[real]], free[picked[real]]

    def _correct(
        self, c: int, late: float, rows: NDArray, columns: NDArray, tracks: Tracks, points: NDArray, spreads: NDArray
    ) -> None:
        if not len(rows):
            return
        record = self._record
        pulls = record["apart"][rows, c] == NEVER
        led, by = rows[pulls], columns[pulls]
        record["mean"][led], record["covariance"][led] = motion.correct(
            record["mean"][led], record["covariance"][led], points[by], spreads[by], late, self.parameters.agility
        )
        record["member"][rows, c] = tracks.ids[columns]
        record["present"][rows, c] = True
        record["point"][rows, c] = points[columns]
        record["spread"][rows, c] = spreads[columns]
        record["seen_by"][rows, c] = tracks.stamp
        record["seen"][rows] = np.maximum(record["seen"][rows], tracks.stamp)
        vote(record, rows, tracks.class_ids[columns], tracks.scores[columns])

    def _begin(
        self, c: int, late: float, columns: NDArray[np.intp], tracks: Tracks, points: NDArray, spreads: NDArray
    ) -> None:
        count = len(columns)
        if not count:
            return
        new = np.zeros(count, self._record.dtype)
        new["id"] = np.arange(self._next_id, self._next_id + count)
        self._next_id += count
        new["born"] = new["seen"] = tracks.stamp
        new["class_id"], new["vote"] = tracks.class_ids[columns], tracks.scores[columns]
        new["mean"][:, :2] = points[columns]
        new["covariance"][:, :2, :2] = spreads[columns]
        new["covariance"][:, 2:, 2:] = self.parameters.initial_speed**2 * np.eye(2)
        if late > 0.0:
            new["mean"], new["covariance"] = motion.predict(
                new["mean"], new["covariance"], late, self.parameters.agility
            )
        for name, value in (("member", NONE), ("joined", NEVER), ("seen_by", NEVER), ("apart", NEVER), ("rival", NONE)):
            new[name] = value
        new["spread"] = np.eye(2)
        new["member"][:, c], new["present"][:, c] = tracks.ids[columns], True
        new["joined"][:, c] = new["seen_by"][:, c] = tracks.stamp
        new["point"][:, c], new["spread"][:, c] = points[columns], spreads[columns]
        self._record = np.concatenate([self._record, new])

    def _merge(self, c: int) -> None:
        """Two objects that no camera sees both of, and that stay together for a while, are one; the older id stays."""
        record = self._record
        present = record["present"]
        here = (present[:, c]).nonzero()[0]
        there = (present.any(axis=1) & ~present[:, c]).nonzero()[0]
        if not (here.size and there.size):
            return
        newest = np.where(present, record["seen_by"], NEVER).argmax(axis=1)
        spread = record["spread"][np.arange(len(record)), newest]
        mean = record["mean"]
        distance, _ = motion.squared_distances(
            mean[here, None, :2] - mean[None, there, :2], spread[here][:, None] + spread[there][None]
        )
        distance = distance + np.where(
            record["class_id"][here][:, None] == record["class_id"][there][None], 0.0, self.parameters.class_penalty
        )
        disjoint = ~(present[here][:, None] & present[there][None]).any(axis=2)
        near = disjoint & (distance <= self.parameters.gate)
        picked_here, picked_there = self._solve(np.where(near, distance, _NEVER_PAIRED))
        real = near[picked_here, picked_there]
        first, second = here[picked_here[real]], there[picked_there[real]]
        alone = np.setdiff1d(here, first)
        record["rival"][alone] = NONE
        fresh = record["rival"][first] != record["id"][second]
        record["rival"][first[fresh]] = record["id"][second[fresh]]
        record["rival_since"][first[fresh]] = self._stamp
        assert self._stamp is not None
        ripe = self._stamp - record["rival_since"][first] >= self.parameters.merge_after * NS_PER_S
        gone = np.zeros(len(record), bool)
        for a, b in zip(first[ripe].tolist(), second[ripe].tolist(), strict=True):  # rare
            keep, drop = (a, b) if record["id"][a] < record["id"][b] else (b, a)
            moved = record["present"][drop]
            for name in ("member", "joined", "point", "spread", "seen_by"):
                record[name][keep, moved] = record[name][drop, moved]
            record["present"][keep] |= moved
            record["apart"][keep] = NEVER
            record["seen"][keep] = max(record["seen"][keep], record["seen"][drop])
            record["rival"][keep] = NONE
            gone[drop] = True
        if gone.any():
            self._record = record[~gone]

    def _report(self) -> GlobalTracks:
        record = self._record
        assert self._stamp is not None
        lost = ~record["present"].any(axis=1)
        return GlobalTracks(
            ids=record["id"].copy(),
            positions=record["mean"][:, :2].copy(),
            velocities=record["mean"][:, 2:].copy(),
            covariances=record["covariance"].copy(),
            class_ids=record["class_id"].copy(),
            states=np.where(lost, TrackState.LOST, TrackState.CONFIRMED).astype(np.uint8),
            ages=(self._stamp - record["born"]) / NS_PER_S,
            members=np.where(record["present"], record["member"], NONE),
            cameras=self.cameras,
            labels=self._labels,
            stamp=self._stamp,
        )


def _column(cameras: tuple[str, ...], camera: str) -> int:
    try:
        return cameras.index(camera)
    except ValueError:
        raise ValueError(f"the rig has no camera {camera!r}; it has {', '.join(cameras)}") from None


def _own_ids(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N,): which are ids at all, and the first of their number."""
    own = np.zeros(len(ids), bool)
    own[np.unique(ids, return_index=True)[1]] = True
    return own & (ids >= 0)
