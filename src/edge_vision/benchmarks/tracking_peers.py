"""Other people's trackers behind one form, each with one setting, for `bench tracking` and `evaluate tracking --peers`.

Only what is installed is used, and nothing of it is imported before it is asked for. This module needs NumPy alone, so
that a peer which wants another NumPy can be run by an interpreter of its own (`peer_process.py`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S, Detections
from edge_vision.evaluation.track_records import TrackedBoxes

Warp = NDArray[np.float64]


class PeerTracker(Protocol):
    """A tracker in three steps, of which the middle one is the peer's own work and is what is timed."""

    def convert(self, detections: Detections) -> Any:
        """The detections in the peer's own types."""

    def update(self, converted: Any, warp: Warp | None) -> Any:
        """The peer's update. warp: (2, 3) from the last frame to this one, for those that take one."""

    def result(self, raw: Any) -> TrackedBoxes:
        """What it has said."""


@dataclass(frozen=True, slots=True)
class Peer:
    """name: as in tables; package: its distribution; make: frames/s that it will see -> tracker, ImportError where
    it is not installed; warps: it uses a warp given from outside, the others do not look at it."""

    name: str
    package: str
    make: Callable[[float], PeerTracker]
    warps: bool = False

    def version(self) -> str:
        try:
            return version(self.package)
        except PackageNotFoundError:
            return ""


class Ours:
    """A preset of `edge_vision.tracking`."""

    def __init__(self, preset: str, **settings: Any) -> None:
        self._tracker = importlib.import_module("edge_vision.tracking").Tracker.from_preset(preset, **settings)

    def convert(self, detections: Detections) -> Detections:
        return detections

    def update(self, converted: Detections, warp: Warp | None) -> Any:
        return self._tracker.update(converted) if warp is None else self._tracker.update(converted, warp)

    def result(self, raw: Any) -> TrackedBoxes:
        return TrackedBoxes(raw.boxes, raw.ids, raw.scores)


class Roboflow:
    """`trackers` of Roboflow. timestamps: tell it the true time of each frame."""

    def __init__(self, name: str, *, timestamps: bool = False, given_warp: bool = False, **settings: Any) -> None:
        self._detections = importlib.import_module("supervision").Detections
        self._tracker = getattr(importlib.import_module("trackers"), name)(**settings)
        self._timestamps = timestamps
        self._warp = _GivenWarp() if given_warp else None
        if self._warp is not None:
            self._tracker.cmc = self._warp
        self._frame = np.zeros((2, 2, 3), np.uint8)  # something to look at: it asks for a warp only then

    def convert(self, detections: Detections) -> Any:
        boxes = self._detections(xyxy=detections.boxes, confidence=detections.scores, class_id=detections.class_ids)
        return boxes, detections.stamp / NS_PER_S

    def update(self, converted: Any, warp: Warp | None) -> Any:
        boxes, seconds = converted
        if self._warp is not None:
            self._warp.warp = warp
            return self._tracker.update(boxes, frame=self._frame)
        return self._tracker.update(boxes, timestamp=seconds) if self._timestamps else self._tracker.update(boxes)

    def result(self, raw: Any) -> TrackedBoxes:
        if not len(raw) or raw.tracker_id is None:
            return nothing()
        known = raw.tracker_id >= 0
        return TrackedBoxes(raw.xyxy[known], raw.tracker_id[known].astype(np.int64), raw.confidence[known])


class _GivenWarp:
    """In the place of an estimator of camera motion: answers with the warp that it was told."""

    method = "given"

    def __init__(self) -> None:
        self.warp: Warp | None = None

    def estimate(self, frame: Any, boxes: Any = None) -> Warp | None:
        return self.warp

    def apply(self, frame: Any, boxes: Any = None) -> Warp:
        return np.eye(2, 3) if self.warp is None else self.warp

    def reset(self) -> None:
        self.warp = None

    reset_params = reset


@dataclass(frozen=True, slots=True)
class _Boxes:
    """What Ultralytics' trackers read of a result: xyxy (N, 4), conf (N,), cls (N,)."""

    xyxy: NDArray[np.float32]
    conf: NDArray[np.float32]
    cls: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.conf)

    def __getitem__(self, rows: Any) -> _Boxes:
        return _Boxes(self.xyxy[rows], self.conf[rows], self.cls[rows])

    @property
    def xywh(self) -> NDArray[np.float32]:
        """Centre, width and height."""
        low, high = self.xyxy[:, :2], self.xyxy[:, 2:]
        return np.concatenate([(low + high) / 2, high - low], axis=1)


class Ultralytics:
    """A tracker of `ultralytics` (AGPL-3.0: imported where the user has it). config: its own file of settings."""

    def __init__(self, module: str, name: str, config: str, given_warp: bool = False, **settings: Any) -> None:
        from types import SimpleNamespace

        importlib.import_module("lap")  # it would be installed by the import of the trackers, unasked
        package = importlib.import_module("ultralytics.utils")
        values = package.YAML.load(package.ROOT / "cfg" / "trackers" / config) | settings
        if "gmc_method" in values:
            values["gmc_method"] = "none"  # no image
        self._tracker = getattr(importlib.import_module(f"ultralytics.trackers.{module}"), name)(
            args=SimpleNamespace(**values)
        )
        self._warp = _GivenWarp() if given_warp else None
        if self._warp is not None:
            self._tracker.gmc = self._warp
        self._frame = np.zeros((2, 2, 3), np.uint8)

    def convert(self, detections: Detections) -> Any:
        return _Boxes(detections.boxes, detections.scores, detections.class_ids.astype(np.float32))

    def update(self, converted: Any, warp: Warp | None) -> Any:
        if self._warp is not None:
            self._warp.warp = warp
            return self._tracker.update(converted, self._frame)
        return self._tracker.update(converted)

    def result(self, raw: Any) -> TrackedBoxes:
        if not len(raw):
            return nothing()
        rows = np.asarray(raw, np.float64)
        return TrackedBoxes(rows[:, :4], rows[:, 4].astype(np.int64), rows[:, 5])


class Motpy:
    def __init__(self, frame_rate: float) -> None:
        motpy = importlib.import_module("motpy")
        self._detection = motpy.Detection
        self._tracker = motpy.MultiObjectTracker(dt=1 / frame_rate)
        self._numbers: dict[str, int] = {}

    def convert(self, detections: Detections) -> Any:
        boxes, scores = detections.boxes.astype(np.float64), detections.scores.tolist()
        return [self._detection(box=box, score=score) for box, score in zip(boxes, scores, strict=True)]

    def update(self, converted: Any, warp: Warp | None) -> Any:
        self._tracker.step(converted)
        return self._tracker.active_tracks()

    def result(self, raw: Any) -> TrackedBoxes:
        ids = [self._numbers.setdefault(track.id, len(self._numbers) + 1) for track in raw]
        boxes = np.array([track.box for track in raw], np.float64).reshape(-1, 4)
        return _finite(boxes, np.array(ids, np.int64))


class Norfair:
    def __init__(self) -> None:
        norfair = importlib.import_module("norfair")
        self._detection = norfair.Detection
        self._tracker = norfair.Tracker(distance_function="iou", distance_threshold=0.5)

    def convert(self, detections: Detections) -> Any:
        # It ends with an error on a box without area.
        sound = (detections.boxes[:, 2:] > detections.boxes[:, :2]).all(axis=1)
        corners = detections.boxes[sound].astype(np.float64).reshape(-1, 2, 2)
        scores = np.repeat(detections.scores[sound, None], 2, axis=1)
        return [self._detection(points=p, scores=s) for p, s in zip(corners, scores, strict=True)]

    def update(self, converted: Any, warp: Warp | None) -> Any:
        return self._tracker.update(converted)

    def result(self, raw: Any) -> TrackedBoxes:
        boxes = np.array([track.estimate.ravel() for track in raw], np.float64).reshape(-1, 4)
        return _finite(boxes, np.array([track.id for track in raw], np.int64))


class Sort:
    """The original `sort.py` (GPL-3.0: imported where the user has it)."""

    def __init__(self, max_age: int) -> None:
        self._tracker = importlib.import_module("sort").Sort(max_age=max_age)

    def convert(self, detections: Detections) -> Any:
        return np.column_stack([detections.boxes, detections.scores]).astype(np.float64)

    def update(self, converted: Any, warp: Warp | None) -> Any:
        return self._tracker.update(converted)

    def result(self, raw: Any) -> TrackedBoxes:
        return _finite(raw[:, :4], raw[:, 4].astype(np.int64))


def nothing() -> TrackedBoxes:
    return TrackedBoxes(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))


def _finite(boxes: NDArray, ids: NDArray[np.int64]) -> TrackedBoxes:
    kept = np.isfinite(boxes).all(axis=1)
    return TrackedBoxes(boxes[kept], ids[kept])


class DetectorThreshold:
    """Another tracker, given the boxes from ``least`` on only."""

    def __init__(self, tracker: PeerTracker, least: float) -> None:
        self._tracker, self._least = tracker, least
        self.update, self.result = tracker.update, tracker.result

    def convert(self, detections: Detections) -> Any:
        kept = detections.scores >= self._least
        return self._tracker.convert(
            Detections(
                detections.boxes[kept], detections.scores[kept], detections.class_ids[kept], stamp=detections.stamp
            )
        )


def _peers() -> tuple[Peer, ...]:
    def roboflow(name: str, tracker: str, least: float = 0.0, timestamps: bool = False, **settings: Any) -> Peer:
        def make(rate: float) -> PeerTracker:
            made = Roboflow(tracker, timestamps=timestamps, frame_rate=rate, **settings)
            return DetectorThreshold(made, least) if least else made

        return Peer(f"roboflow {name}", "trackers", make, bool(settings.get("given_warp")))

    def ultralytics(name: str, module: str, tracker: str, config: str, **settings: Any) -> Peer:
        def make(rate: float) -> PeerTracker:
            return Ultralytics(module, tracker, config, **settings)

        return Peer(f"ultralytics {name}", "ultralytics", make, bool(settings.get("given_warp")))

    # ByteTrack's published thresholds, which Ultralytics' files do not have.
    published: dict[str, Any] = {"track_high_thresh": 0.6, "track_low_thresh": 0.1, "new_track_thresh": 0.7}
    byte, bot = ("byte_tracker", "BYTETracker", "bytetrack.yaml"), ("bot_sort", "BOTSORT", "botsort.yaml")
    # Those that have one stage take every box for an object, and would be drowned by a detector's weak ones.
    return (
        Peer("SORT (abewley, max_age 1)", "sort", lambda rate: DetectorThreshold(Sort(1), 0.5)),
        Peer("SORT (abewley, max_age 30)", "sort", lambda rate: DetectorThreshold(Sort(30), 0.5)),
        roboflow("SORT", "SORTTracker", least=0.5),
        roboflow("ByteTrack", "ByteTrackTracker"),
        roboflow("ByteTrack (boxes >= .1)", "ByteTrackTracker", least=0.1),
        roboflow("OC-SORT", "OCSORTTracker"),
        roboflow("C-BIoU", "CBIoUTracker"),
        roboflow("C-BIoU + timestamps", "CBIoUTracker", timestamps=True),
        roboflow("BoT-SORT", "BoTSORTTracker", enable_cmc=False),
        roboflow("BoT-SORT + warps", "BoTSORTTracker", enable_cmc=True, given_warp=True),
        ultralytics("ByteTrack", *byte),
        ultralytics("ByteTrack (.6/.1/.7)", *byte, match_thresh=0.9, **published),
        ultralytics("BoT-SORT", *bot),
        ultralytics("BoT-SORT (.6/.1/.7)", *bot, **published),
        ultralytics("BoT-SORT (.6/.1/.7) + warps", *bot, given_warp=True, **published),
        ultralytics("OC-SORT", "oc_sort", "OCSORT", "ocsort.yaml"),
        ultralytics("FastTrack", "fast_tracker", "FASTTracker", "fasttrack.yaml"),
        Peer("motpy", "motpy", lambda rate: DetectorThreshold(Motpy(rate), 0.5)),
        Peer("norfair (iou .5)", "norfair", lambda rate: DetectorThreshold(Norfair(), 0.5)),
    )


PEERS: tuple[Peer, ...] = _peers()


def available(peers: Sequence[Peer] = PEERS) -> tuple[list[Peer], dict[str, str]]:
    """Those that can be made here, and by package why the others cannot."""
    found: list[Peer] = []
    missing: dict[str, str] = {}
    for peer in peers:
        try:
            peer.make(30.0)
            found.append(peer)
        except ImportError as error:
            missing[peer.package] = f"not installed ({error})"
        except Exception as error:  # whatever a package may raise when its parts do not fit together
            missing[peer.name] = f"cannot be used: {type(error).__name__}: {error}"
    return found, missing
