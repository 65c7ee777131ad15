"""What a run of the pipeline leaves behind: overlay.mp4, detections.json, tracks.csv and summary.json in one folder.

Every file is whole whenever the run ends, also by a signal or a full disk; what could not be written is said once.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import deque
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_vision.datatypes import NS_PER_S, Detections, Frame, Tracks
from edge_vision.evaluation.formats import CocoResultsWriter, MotWriter, OutputError
from edge_vision.whole_files import write_text

VIDEO, DETECTIONS, TRACKS, SUMMARY = "overlay.mp4", "detections.json", "tracks.csv", "summary.json"
# An MP4 gets its index at the end; without room for it the whole video is lost.
_VIDEO_RESERVE = 3 << 20
_LONGEST_GAP_S = 2.0
_STAMPS_KEPT = 1024  # frames whose results may still come
_SCORED_FRAMES = 20000


class VideoRecorder:
    """Writes frames as an MP4 of constant rate; a missing frame is shown by the one after it.

    The rate is that of the first two frames' stamps. Raises OutputError when the disk is nearly full: the file is
    closed then, and playable.
    """

    def __init__(self, path: Path):
        self.path = path
        self.frames = 0
        self._writer: cv2.VideoWriter | None = None
        self._pending: Frame | None = None
        self._closed = False
        self._rate = 30.0
        self._first = 0
        self._size = (0, 0)

    def write(self, frame: Frame) -> None:
        if self._closed:
            return
        if self.frames % 8 == 0 or self._writer is None:
            self._check_room()
        if self._writer is None:
            if self._pending is None:
                self._pending = frame  # the second frame tells the rate
                return
            self._open(self._pending, frame)
            self._put(self._pending)
        self._put(frame)

    def _open(self, first: Frame, second: Frame) -> None:
        seconds = (second.stamp - first.stamp) / NS_PER_S / max(1, second.sequence - first.sequence)
        self._rate = min(240.0, max(1.0, round(1.0 / seconds, 3))) if seconds > 0 else 30.0
        self._first = first.sequence
        self._size = first.width, first.height
        self._writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter.fourcc(*"mp4v"), self._rate, self._size)
        if not self._writer.isOpened():
            self.close()
            raise OutputError(
                f"{self.path}: the video cannot be written. Is the folder writable, and does this OpenCV have FFmpeg?"
            )

    def _put(self, frame: Frame) -> None:
        assert self._writer is not None
        image = frame.image
        if (frame.width, frame.height) != self._size:
            image = cv2.resize(image, self._size)
        due = frame.sequence - self._first
        missing = min(max(0, due - self.frames), int(_LONGEST_GAP_S * self._rate))
        for _ in range(missing + 1):
            self._writer.write(image)
        self.frames = max(due, self.frames + missing) + 1

    def _check_room(self) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if free < _VIDEO_RESERVE:
            self.close()
            raise OutputError(
                f"{self.path}: only {free / 1e6:.1f} MB are free on this disk; the video ends after {self.frames} "
                "frames and is complete up to there. Free some space or name another --output folder"
            )

    def close(self) -> None:
        if self._writer is None and self._pending is not None and not self._closed:  # a video of one frame
            self._open(self._pending, self._pending)
            self._put(self._pending)
        self._closed = True
        self._pending = None
        if self._writer is not None:
            self._writer.release()
            self._writer = None


class Recording:
    """Collects a run. `add_*` may raise OutputError once a file; all others go on."""

    def __init__(self, folder: str | os.PathLike[str]):
        """Makes the folder. Raises OutputError where it cannot be written."""
        self.folder = Path(folder).expanduser()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.folder}: cannot be made ({error.strerror}). Name another --output folder"
            ) from None
        self._video = VideoRecorder(self.folder / VIDEO)
        self._coco = CocoResultsWriter(self.folder / DETECTIONS)
        self._mot = MotWriter(self.folder / TRACKS)
        self._sequences: dict[int, int] = {}
        self._truths: dict[int, Tracks] = {}
        self._scored: deque[tuple[Tracks, Detections]] = deque(maxlen=_SCORED_FRAMES)
        self._started = time.monotonic()
        self.frames = self.detected_frames = self.detections = self.boxes_of_tracks = 0
        self.newest_detections = self.newest_tracks = 0
        self._ids: set[int] = set()
        self._per_class: dict[str, int] = {}
        self._first_result = self._last_result = 0.0

    # Frame numbers come from the frames themselves; results name only their stamp.
    def _sequence(self, stamp: int) -> int:
        return self._sequences.get(stamp, max(0, self.frames - 1))

    def add_frame(self, frame: Frame) -> None:
        """Every frame of the camera, also those that nothing was detected on."""
        self._sequences[frame.stamp] = frame.sequence
        if len(self._sequences) > _STAMPS_KEPT:
            self._sequences.pop(next(iter(self._sequences)))
        self.frames += 1

    def add_truth(self, truth: Tracks) -> None:
        self._truths[truth.stamp] = truth
        if len(self._truths) > _STAMPS_KEPT:
            self._truths.pop(next(iter(self._truths)))

    def add_detections(self, detections: Detections) -> None:
        now = time.monotonic()
        self._first_result = self._first_result or now
        self._last_result = now
        self.detected_frames += 1
        self.newest_detections = len(detections)
        self.detections += len(detections)
        for class_id, count in zip(*np.unique(detections.class_ids, return_counts=True), strict=True):
            name = detections.labels[class_id] if 0 <= class_id < len(detections.labels) else str(class_id)
            self._per_class[name] = self._per_class.get(name, 0) + int(count)
        truth = self._truths.pop(detections.stamp, None)
        if truth is not None:
            self._scored.append((truth, detections))
        self._coco.write(detections, image_id=self._sequence(detections.stamp))

    def add_tracks(self, tracks: Tracks) -> None:
        self.newest_tracks = len(tracks)
        self.boxes_of_tracks += len(tracks)
        self._ids.update(tracks.ids.tolist())
        self._mot.write(tracks, frame=self._sequence(tracks.stamp) + 1)

    def add_overlay(self, frame: Frame) -> None:
        self._video.write(frame)

    @property
    def rate(self) -> float:
        """Frames with results per second of wall time, from the first result to the last."""
        span = self._last_result - self._first_result
        return (self.detected_frames - 1) / span if span > 0 else 0.0

    def close(self, extra: dict[str, Any] | None = None) -> dict[str, Any]:
        """Completes the files and returns what summary.json holds: counts, rates, scores, and `extra`."""
        problems = []
        for part in (self._video, self._coco, self._mot):
            try:
                part.close()
            except OSError as error:
                problems.append(str(error))
        summary: dict[str, Any] = {
            "frames": self.frames,
            "frames_with_results": self.detected_frames,
            "fps": round(self.rate, 2),
            "duration_s": round(time.monotonic() - self._started, 2),
            "detections": self.detections,
            "detections_per_class": dict(sorted(self._per_class.items())),
            "tracks": len(self._ids),
            "video_frames": self._video.frames,
            "files": [VIDEO, DETECTIONS, TRACKS, SUMMARY],
            **(extra or {}),
        }
        if self._scored:
            summary["scores"] = self._score()
        if problems:
            summary["problems"] = [*summary.get("problems", []), *problems]
        self._write_summary(summary)
        return summary

    def _score(self) -> dict[str, Any]:
        from edge_vision.evaluation.detection import evaluate_detections

        try:
            scores = evaluate_detections([t for t, _ in self._scored], [d for _, d in self._scored])
        except (ImportError, ValueError) as error:
            return {"error": str(error)}
        return {
            "mAP50": round(scores.map50, 4),
            "mAP50_95": round(scores.map50_95, 4),
            "frames": len(self._scored),
            "note": "detections above the model's score threshold against the simulation's truth, COCO protocol",
        }

    def _write_summary(self, summary: dict[str, Any]) -> None:
        path = self.folder / SUMMARY
        try:
            write_text(path, json.dumps(summary, indent=2) + "\n")
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror}). Free some space") from None
