"""Which detections of a frame are worth the price of an embedding: those of whom overlap alone does not tell who."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S, Detections, Tracks
from edge_vision.tracking.appearance import ALONE, MOST_COVERED, SURE, covered
from edge_vision.tracking.association import iou_matrix


class CropChoice:
    """At most ``most`` detections a frame: first those that no track, several, or a doubtful one may be continued by,
    in turn; then those of tracks whose look was learnt ``every`` frames ago or earlier, the oldest first.

    A detection weaker than ``least`` or mostly covered by another is never chosen: its crop tells little.
    """

    def __init__(self, most: int = 8, every: int = 5, least: float = 0.3) -> None:
        if most < 1 or every < 1:
            raise ValueError(f"at least one crop a frame and every frame at most, got most={most}, every={every}")
        self.most, self.every, self.least = most, every, least
        self._turn = 0
        self._ids = np.zeros(0, np.int64)  # ascending
        self._turns = np.zeros(0, np.int64)  # when each was chosen last

    def __call__(self, detections: Detections, tracks: Tracks) -> NDArray[np.intp]:
        """Rows of ``detections``, ascending. tracks: of the frame before."""
        self._turn += 1
        self._follow(tracks.ids)
        worth = (detections.scores >= self.least) & np.isfinite(detections.boxes).all(axis=1)
        rows = worth.nonzero()[0]
        if rows.size:
            rows = rows[covered(detections.boxes[rows]) <= MOST_COVERED]
        if not rows.size:
            return rows
        partner, settled = _settled(detections, rows, tracks)
        place = np.searchsorted(self._ids, tracks.ids[partner]) if len(tracks) else partner
        since = self._turn - self._turns[place] if len(tracks) else partner
        wanted = ~settled | (since >= self.every)
        in_turn = (np.arange(len(rows)) + self._turn * self.most) % len(rows)  # or the last would never be seen
        rank = np.where(settled, since, 1_000_000_000 + in_turn)
        chosen = wanted.nonzero()[0]
        if len(chosen) > self.most:
            chosen = np.sort(chosen[np.argsort(-rank[chosen], kind="stable")[: self.most]])
        if len(tracks):
            self._turns[place[chosen[settled[chosen]]]] = self._turn
        return rows[chosen]

    def _follow(self, ids: NDArray[np.int64]) -> None:
        """Keep the turns of these tracks; one that is new was never chosen."""
        ids = np.sort(ids)
        turns = np.full(len(ids), self._turn - self.every)
        _, here, before = np.intersect1d(ids, self._ids, assume_unique=True, return_indices=True)
        turns[here] = self._turns[before]
        self._ids, self._turns = ids, turns


def _settled(
    detections: Detections, rows: NDArray[np.intp], tracks: Tracks
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Of each detection the track that overlaps it most, and whether overlap alone settles that it is this one."""
    if not len(tracks):
        return np.zeros(len(rows), np.intp), np.zeros(len(rows), bool)
    step = max(0, detections.stamp - tracks.stamp) / NS_PER_S
    moved = tracks.boxes + np.tile(tracks.velocities, 2) * np.float32(step)
    overlaps = iou_matrix(moved, detections.boxes[rows])
    partner = overlaps.argmax(axis=0)
    settled = (np.take_along_axis(overlaps, partner[None], axis=0)[0] > SURE) & (
        np.count_nonzero(overlaps > ALONE, axis=0) == 1
    )
    claims = np.bincount(partner[settled], minlength=len(tracks))
    return partner, settled & (claims[partner] == 1)
