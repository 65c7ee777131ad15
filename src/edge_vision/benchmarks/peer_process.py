"""Trackers run over prepared frames: here, or by an interpreter of their own where they need other packages than ours.

The child is a bare interpreter with NumPy and the peer (`other_python`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.benchmarks import other_python
from edge_vision.benchmarks.other_python import OtherPython, PeerFailed
from edge_vision.benchmarks.tracking_peers import PEERS, Peer, PeerTracker, available
from edge_vision.datatypes import Detections
from edge_vision.evaluation.track_records import TrackedBoxes


@dataclass(frozen=True, slots=True)
class Run:
    """A tracker's way through a sequence: results a frame, and ns of each update (its own work, without conversion)."""

    frames: list[TrackedBoxes]
    ns: NDArray[np.int64]


def track(tracker: PeerTracker, frames: Sequence[Detections], warps: NDArray[np.float64] | None = None) -> Run:
    """Give the frames to the tracker one after another, and keep what it says."""
    found: list[TrackedBoxes] = []
    taken = np.zeros(len(frames), np.int64)
    for index, detections in enumerate(frames):
        converted = tracker.convert(detections)
        warp = None if warps is None else warps[index]
        start = time.perf_counter_ns()
        raw = tracker.update(converted, warp)
        taken[index] = time.perf_counter_ns() - start
        found.append(tracker.result(raw))
    return Run(found, taken)


class LocalPeers:
    """The peers that are installed beside us."""

    def __init__(self) -> None:
        self._peers, self.missing = available()

    @property
    def peers(self) -> list[Peer]:
        return self._peers

    def versions(self) -> dict[str, str]:
        return {peer.package: peer.version() for peer in self._peers}

    def track(self, name: str, frames: Sequence[Detections], rate: float, warps: NDArray | None = None) -> Run:
        peer = next((peer for peer in self._peers if peer.name == name), None)
        if peer is None:
            raise PeerFailed(
                f"there is no tracker called {name} here; there are {', '.join(p.name for p in self._peers)}"
            )
        try:
            return track(peer.make(rate), frames, warps)
        except Exception as error:
            raise PeerFailed(f"{name}: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Nothing to end."""


class PeerProcess(OtherPython):
    """The peers that another interpreter has. python: its path. Raises PeerFailed where it is none or lacks NumPy."""

    def __init__(self, python: str) -> None:
        super().__init__(python, __name__)
        try:
            self._about = self.ask(do="peers")
        except PeerFailed:
            self.close()
            raise
        self.missing: dict[str, str] = self._about["missing"]

    @property
    def peers(self) -> list[Peer]:
        return [peer for peer in PEERS if peer.name in self._about["peers"]]

    def versions(self) -> dict[str, str]:
        return dict(self._about["versions"])

    def track(self, name: str, frames: Sequence[Detections], rate: float, warps: NDArray | None = None) -> Run:
        given, found = self.scratch / "given.npz", self.scratch / "found.npz"
        np.savez(given, **_pack(frames, warps))  # type: ignore[arg-type]
        self.ask(do="track", peer=name, given=str(given), found=str(found), rate=rate)
        with np.load(found) as data:
            ends = np.cumsum(data["counts"])
            starts = ends - data["counts"]
            boxes, ids = data["boxes"], data["ids"]
            frames_found = [TrackedBoxes(boxes[a:b], ids[a:b]) for a, b in zip(starts, ends, strict=True)]
            return Run(frames_found, data["ns"])


def serve() -> None:
    """The child's main."""
    local = LocalPeers()
    other_python.serve(lambda request: _answer(local, request), _told)


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, PeerFailed) else f"{type(error).__name__}: {error}"


def _answer(local: LocalPeers, request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "peers":
        names = [peer.name for peer in local.peers]
        return {"peers": names, "missing": local.missing, "versions": local.versions()}
    frames, warps = _unpack(request["given"])
    run = local.track(request["peer"], frames, request["rate"], warps)
    np.savez(
        request["found"],
        counts=np.array([len(frame.ids) for frame in run.frames], np.int64),
        boxes=np.concatenate([np.zeros((0, 4)), *(frame.boxes for frame in run.frames)]),
        ids=np.concatenate([np.zeros(0, np.int64), *(frame.ids for frame in run.frames)]),
        ns=run.ns,
    )
    return {"frames": len(run.frames)}


def _pack(frames: Sequence[Detections], warps: NDArray | None) -> dict[str, NDArray]:
    packed = {
        "counts": np.array([len(frame) for frame in frames], np.int64),
        "stamps": np.array([frame.stamp for frame in frames], np.int64),
        "boxes": np.concatenate([np.zeros((0, 4), np.float32), *(frame.boxes for frame in frames)]),
        "scores": np.concatenate([np.zeros(0, np.float32), *(frame.scores for frame in frames)]),
        "class_ids": np.concatenate([np.zeros(0, np.int64), *(frame.class_ids for frame in frames)]),
    }
    return packed if warps is None else packed | {"warps": warps}


def _unpack(path: str) -> tuple[list[Detections], NDArray | None]:
    with np.load(path) as data:
        ends = np.cumsum(data["counts"])
        starts = ends - data["counts"]
        boxes, scores, classes = data["boxes"], data["scores"], data["class_ids"]
        frames = [
            Detections(boxes[a:b], scores[a:b], classes[a:b], stamp=int(stamp))
            for a, b, stamp in zip(starts, ends, data["stamps"], strict=True)
        ]
        return frames, data["warps"] if "warps" in data.files else None
