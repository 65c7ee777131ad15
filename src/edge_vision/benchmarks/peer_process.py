"""Trackers run over prepared frames: here, or by an interpreter of their own where they need other packages than ours.

The child is a bare interpreter with NumPy and the peer. It finds the few modules of ours that it needs by the folder of
this package alone, so that nothing else of this environment gets into its.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edge_vision
from edge_vision.benchmarks.tracking_peers import PEERS, Peer, PeerTracker, available
from edge_vision.datatypes import Detections
from edge_vision.evaluation.track_records import TrackedBoxes

_CODE = """
import sys, types
package = types.ModuleType("edge_vision")
package.__path__ = [sys.argv[1]]
sys.modules["edge_vision"] = package
from edge_vision.benchmarks.peer_process import serve
serve()
"""


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


class PeerFailed(RuntimeError):
    """An interpreter for peers cannot be used, or a peer ended with an error; the text says which and why."""


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


class PeerProcess:
    """The peers that another interpreter has. python: its path. Raises PeerFailed where it is none or lacks NumPy."""

    def __init__(self, python: str) -> None:
        self.python = python
        folder = str(Path(edge_vision.__path__[0]).resolve())
        self._scratch = tempfile.TemporaryDirectory(prefix="edge_vision_peers_")
        try:
            self._process = subprocess.Popen(
                [python, "-c", _CODE, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        except OSError as error:
            self._scratch.cleanup()
            raise PeerFailed(f"{python} cannot be started: {error.strerror}; give the path of a Python") from None
        try:
            self._about = self._ask(do="peers")
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
        given, found = Path(self._scratch.name, "given.npz"), Path(self._scratch.name, "found.npz")
        np.savez(given, **_pack(frames, warps))  # type: ignore[arg-type]
        self._ask(do="track", peer=name, given=str(given), found=str(found), rate=rate)
        with np.load(found) as data:
            ends = np.cumsum(data["counts"])
            starts = ends - data["counts"]
            boxes, ids = data["boxes"], data["ids"]
            frames_found = [TrackedBoxes(boxes[a:b], ids[a:b]) for a, b in zip(starts, ends, strict=True)]
            return Run(frames_found, data["ns"])

    def close(self) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._scratch.cleanup()

    def _ask(self, **request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended; the empty answer tells
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise PeerFailed(f"{self.python} has ended (exit code {code}); its messages above say why")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerFailed(f"{self.python}: {answer['error']}")
        return answer


def serve() -> None:
    """The child's main: a request a line on standard input, an answer a line on what was standard output."""
    answers, sys.stdout = sys.stdout, sys.stderr  # prints of libraries are no answers
    local = LocalPeers()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _answer(local, request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}" if not isinstance(error, PeerFailed) else str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


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
