"""Who crossed which line, and who was in which zone for how long: from tracks to totals by class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_vision.counting.geometry import crossings, distances, inside
from edge_vision.counting.regions import Line, Zone
from edge_vision.datatypes import NS_PER_S, Counts, Region, Tracks, TrackState

ANCHORS = ("bottom", "centre")
_UNSEEN_UPDATES = 1000  # an id is forgotten after as many, should header time stand still


class Counter:
    """Totals since it was made. Coordinates are pixels of the source image.

    anchor: the point of a box that moves: "bottom", the middle of its lower edge, where things stand on the ground, or
    "centre". band: an object is clear of a line or an edge when it is farther away than this share of its size
    (the root of its box's area). vanish_after: seconds of header time after which an id that is not seen any more has
    left its zones; forget_after: after which a crossing is no longer made of two sightings. ValueError for values that
    cannot be.

    A line counts an object when it is clear of the line again, and then the *net* of its moves across the segment: one
    that wavers on the line counts once where it went through and not at all where it turned back. A zone changes its
    mind about an object that is clear of its edges; where it is seen first, at once. Tentative tracks and predicted
    ones (lost) do not count as seen.
    """

    def __init__(
        self,
        lines: Sequence[Line] = (),
        zones: Sequence[Zone] = (),
        *,
        anchor: str = "bottom",
        band: float = 0.1,
        vanish_after: float = 1.0,
        forget_after: float = 10.0,
    ) -> None:
        if anchor not in ANCHORS:
            raise ValueError(f"anchor is {anchor!r}; give one of {', '.join(ANCHORS)}")
        for name, value in (("band", band), ("vanish_after", vanish_after), ("forget_after", forget_after)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} is {value}; give a number that is zero or more")
        self.lines, self.zones = tuple(lines), tuple(zones)
        self.anchor, self.band = anchor, band
        self.rejected = 0  # rows without a usable box or id
        self._vanish_ns, self._forget_ns = round(vanish_after * NS_PER_S), round(forget_after * NS_PER_S)
        self._polygons = [np.array(zone.polygon, np.float64) for zone in self.zones]
        ends = [(line.start, line.end) for line in self.lines]
        ends += [pair for z in self.zones for pair in zip(z.polygon, (*z.polygon[1:], z.polygon[0]), strict=True)]
        segments = np.array(ends, np.float64).reshape(-1, 2, 2)
        self._start, self._end = segments[:, 0], segments[:, 1]
        # Where the segments of each zone begin, those of lines coming first.
        self._first_edge = np.cumsum([len(self.lines), *(len(p) for p in self._polygons[:-1])])
        self._regions = tuple(
            [Region(line.name, "line", (line.start, line.end)) for line in self.lines]
            + [Region(zone.name, "zone", zone.polygon) for zone in self.zones]
        )
        self._memory = np.zeros(0, self._row_type())
        self._now: int | None = None
        self._updates = 0
        self._labels: tuple[str, ...] = ()
        self._class_ids = np.zeros(0, np.int64)  # sorted; the columns of the totals
        shape = len(self._regions), 0
        self._in, self._out = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self._dwell = np.zeros(shape, np.float64)  # s, of visits that have ended

    def _row_type(self) -> np.dtype:
        lines, zones = (len(self.lines),), (len(self.zones),)
        return np.dtype(
            [
                ("id", np.int64),
                ("point", np.float64, (2,)),
                ("seen", np.int64),  # header time, ns
                ("update", np.int64),
                ("class_id", np.int64),
                ("net", np.int32, lines),  # crossings not counted yet
                ("inside", np.bool_, zones),
                ("since", np.int64, zones),
                ("class_at_entry", np.int64, zones),  # under which it also leaves
            ]
        )

    def update(self, tracks: Tracks) -> Counts:
        """Takes in the tracks of one image, any number of them in any order, and gives the totals so far.

        Stamps that go backwards end every visit and forget every position; the totals stay.
        """
        if self._now is not None and tracks.stamp < self._now:
            self._forget(np.ones(len(self._memory), bool))
        self._now = tracks.stamp
        self._updates += 1
        self._labels = tracks.labels or self._labels
        memory = self._memory
        self._forget(
            (tracks.stamp - memory["seen"] > self._forget_ns) | (self._updates - memory["update"] > _UNSEEN_UPDATES)
        )
        chosen = self._usable(tracks)
        if len(chosen):
            self._see(tracks, chosen)
        if self.zones:
            unseen = tracks.stamp - self._memory["seen"]
            self._end_visits(self._memory["inside"] & (unseen > self._vanish_ns)[:, None])
        return self._counts(tracks)

    def _usable(self, tracks: Tracks) -> NDArray[np.int64]:
        """Indices of tracks to go by, ordered by id and each id once."""
        good = (
            np.isfinite(tracks.boxes).all(1) & (tracks.boxes[:, 2:] >= tracks.boxes[:, :2]).all(1) & (tracks.ids >= 0)
        )
        self.rejected += len(good) - int(np.count_nonzero(good))
        rows = np.flatnonzero(good & (tracks.states == TrackState.CONFIRMED))
        return rows[np.unique(tracks.ids[rows], return_index=True)[1]]

    def _see(self, tracks: Tracks, chosen: NDArray[np.int64]) -> None:
        ids, boxes = tracks.ids[chosen], tracks.boxes[chosen].astype(np.float64)
        points = (boxes[:, :2] + boxes[:, 2:]) * 0.5
        if self.anchor == "bottom":
            points[:, 1] = boxes[:, 3]
        slots, known = self._slots(ids)
        memory = self._memory
        memory["class_id"][slots] = tracks.class_ids[chosen]
        self._learn_classes(tracks.class_ids[chosen])
        if len(self._regions):
            size = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(1))
            clear = distances(points, self._start, self._end) > self.band * size[:, None]
            lines = len(self.lines)
            if lines:
                moved = crossings(memory["point"][slots], points, self._start[:lines], self._end[:lines])
                memory["net"][slots] += moved
                self._count_crossings(slots, clear[:, :lines])
            if self._polygons:
                self._count_visits(slots, points, known, clear)
        memory["point"][slots] = points
        memory["seen"][slots] = tracks.stamp
        memory["update"][slots] = self._updates

    def _slots(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Rows of the memory for sorted ids, made where there were none, and whether there were."""
        memory = self._memory
        places = np.searchsorted(memory["id"], ids)
        known = np.zeros(len(ids), bool)
        if len(memory):
            known = memory["id"][np.minimum(places, len(memory) - 1)] == ids
        if not known.all():
            fresh: NDArray = np.zeros(int(np.count_nonzero(~known)), memory.dtype)
            fresh["id"] = ids[~known]
            fresh["point"][:] = np.nan
            joined: NDArray = np.concatenate((memory, fresh))
            self._memory = joined[np.argsort(joined["id"], kind="stable")]
            places = np.searchsorted(self._memory["id"], ids)
        return places, known

    def _count_crossings(self, slots: NDArray, clear: NDArray[np.bool_]) -> None:
        net = self._memory["net"][slots]
        who, line = np.nonzero((net != 0) & clear)
        if not len(who):
            return
        column = np.searchsorted(self._class_ids, self._memory["class_id"][slots[who]])
        np.add.at(self._in, (line, column), np.maximum(net[who, line], 0))
        np.add.at(self._out, (line, column), np.maximum(-net[who, line], 0))
        self._memory["net"][slots[who], line] = 0

    def _count_visits(self, slots: NDArray, points: NDArray, known: NDArray[np.bool_], clear: NDArray) -> None:
        memory = self._memory
        now_in = np.stack([inside(points, polygon) for polygon in self._polygons], axis=1)
        far = np.logical_and.reduceat(clear, self._first_edge, axis=1)
        changed = (now_in != memory["inside"][slots]) & (far | ~known[:, None])
        who, zone = np.nonzero(changed & now_in)
        if len(who):
            rows = slots[who]
            memory["inside"][rows, zone] = True
            memory["since"][rows, zone] = self._now
            memory["class_at_entry"][rows, zone] = memory["class_id"][rows]
            column = np.searchsorted(self._class_ids, memory["class_id"][rows])
            np.add.at(self._in, (zone + len(self.lines), column), 1)
        gone = changed & ~now_in
        if gone.any():
            memory["seen"][slots] = self._now  # it left now, not when it was last seen inside
            ended = np.zeros_like(memory["inside"])
            ended[slots] = gone
            self._end_visits(ended)

    def _end_visits(self, ended: NDArray[np.bool_]) -> None:
        """ended (M, Z) of the memory; a visit lasts until the object was last seen."""
        who, zone = np.nonzero(ended)
        if not len(who):
            return
        memory = self._memory
        where = zone + len(self.lines), np.searchsorted(self._class_ids, memory["class_at_entry"][who, zone])
        np.add.at(self._out, where, 1)
        np.add.at(self._dwell, where, (memory["seen"][who] - memory["since"][who, zone]) / NS_PER_S)
        memory["inside"][who, zone] = False

    def _forget(self, gone: NDArray[np.bool_]) -> None:
        if not gone.any():
            return
        # Who ended near a line has crossed it all the same.
        self._count_crossings(np.flatnonzero(gone), np.ones((int(np.count_nonzero(gone)), len(self.lines)), bool))
        self._end_visits(self._memory["inside"] & gone[:, None])
        self._memory = self._memory[~gone]

    def _learn_classes(self, class_ids: NDArray[np.int64]) -> None:
        everything = np.union1d(self._class_ids, class_ids)
        if len(everything) == len(self._class_ids):
            return
        columns = np.searchsorted(everything, self._class_ids)
        for name in ("_in", "_out", "_dwell"):
            old = getattr(self, name)
            new = np.zeros((len(old), len(everything)), old.dtype)
            new[:, columns] = old
            setattr(self, name, new)
        self._class_ids = everything

    def _counts(self, tracks: Tracks) -> Counts:
        present = np.zeros_like(self._in)
        who, zone = np.nonzero(self._memory["inside"])
        column = np.searchsorted(self._class_ids, self._memory["class_at_entry"][who, zone])
        np.add.at(present, (zone + len(self.lines), column), 1)
        visits = np.zeros_like(self._out)
        visits[len(self.lines) :] = self._out[len(self.lines) :]
        dwell = (self._dwell / np.maximum(visits, 1)).astype(np.float32)
        return Counts(
            self._regions,
            self._class_ids,
            self._in.copy(),
            self._out.copy(),
            present,
            dwell,
            self._labels,
            tracks.stamp,
            tracks.frame_id,
        )
