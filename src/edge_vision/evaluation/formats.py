"""Result files: COCO results (JSON) for detections, MOTChallenge (CSV) for tracks. Writers and readers.

The writers stream, and what lies on the disk is a whole file after every flush: each flush rewrites the closing bracket
behind the new records. A process that is killed loses at most the last second; one that ends, nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Detections, Tracks

_File = TypeVar("_File", bound="_RecordFile")

FLUSH_BYTES = 1 << 16
FLUSH_SECONDS = 1.0


class OutputError(OSError):
    """A result file could not be written; the message names the file, the cause, the space left and what is safe."""


class _RecordFile:
    """A text file of records between ``head`` and ``tail`` that is complete on disk after every flush.

    After an `OutputError` the file holds all records that fitted; it is closed, and more records are only counted
    (``lost``), so that a pipeline may go on without its output.
    """

    def __init__(
        self, path: str | os.PathLike[str], head: bytes = b"", separator: bytes = b"", tail: bytes = b""
    ) -> None:
        self.path = Path(path)
        self.written = 0
        self.lost = 0
        self._separator, self._tail = separator, tail
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._pending_records = 0
        self._flushed = time.monotonic()
        self._end = len(head)  # where the tail starts on disk
        self._file: int | None = None
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o644)
            self._put(0, head + tail)
        except OSError as error:
            self._fail(error, 0)

    def _put(self, offset: int, data: bytes) -> None:
        assert self._file is not None
        os.lseek(self._file, offset, os.SEEK_SET)
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]

    def append(self, records: list[bytes]) -> None:
        """Add records; written at once when enough has gathered. OutputError (once) when the disk refuses."""
        if self._file is None:
            self.lost += len(records)
            return
        if records:
            if self._separator and self.written + self._pending_records:
                self._pending.append(self._separator)
            block = self._separator.join(records)
            self._pending.append(block)
            self._pending_bytes += len(block)
            self._pending_records += len(records)
        if self._pending_bytes >= FLUSH_BYTES or time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Bring everything onto the disk; the file is complete afterwards."""
        self._flushed = time.monotonic()
        if self._file is None or not self._pending:
            return
        data = b"".join(self._pending)
        count = self._pending_records
        self._pending.clear()
        self._pending_bytes = self._pending_records = 0
        try:
            self._put(self._end, data + self._tail)
        except OSError as error:
            self._fail(error, count)
        self._end += len(data)
        self.written += count

    def _fail(self, error: OSError, count: int) -> None:
        """Cut the file back to its last whole state (which has fitted before) and say what has happened."""
        self.lost += count
        if self._file is not None:
            try:
                os.ftruncate(self._file, self._end)
                self._put(self._end, self._tail)
            except OSError:
                pass  # a device such as /dev/full cannot be cut; nothing was on it
            os.close(self._file)
            self._file = None
        try:
            free = f", {shutil.disk_usage(self.path.parent).free / 1e6:.1f} MB free there"
        except OSError:
            free = ""
        raise OutputError(
            error.errno,
            f"cannot write ({error.strerror}{free}); the {self.written} records before are complete. "
            "Make room or choose another output folder",
            str(self.path),
        ) from error

    def close(self) -> None:
        """Flush and close; harmless when repeated or after a failure."""
        if self._file is None:
            return
        self.flush()
        os.close(self._file)
        self._file = None

    def __enter__(self: _File) -> _File:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class CocoResultsWriter(_RecordFile):
    """COCO results: a JSON list of {"image_id", "category_id", "bbox": [left, top, width, height], "score"}.

    bbox in continuous source pixels; image_id is the frame's sequence number; category_id is the class id as in the
    detector's labels, so it counts from 0 (COCO's own category ids count from 1, with gaps: map them where needed).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._next_image = 0
        super().__init__(path, b"[\n", b",\n", b"\n]\n")

    def write(self, detections: Detections, image_id: int | None = None) -> None:
        """Add the detections of one image. image_id: its sequence number; left out, images are counted from 0."""
        image = self._next_image if image_id is None else int(image_id)
        self._next_image = image + 1
        if not len(detections):
            return self.append([])
        boxes = detections.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        rows = zip(detections.class_ids.tolist(), boxes.tolist(), detections.scores.tolist(), strict=True)
        self.append(
            [
                b'{"image_id":%d,"category_id":%d,"bbox":[%.3f,%.3f,%.3f,%.3f],"score":%.6f}' % (image, c, *b, s)
                for c, b, s in rows
            ]
        )


class MotWriter(_RecordFile):
    """MOTChallenge CSV: frame, id, left, top, width, height, conf, class, visibility (always -1, unknown).

    As the challenge defines it, frames, and pixel coordinates, count from 1: the top left corner of the image is
    (1, 1). The class is the class id as in the detector's labels, so it counts from 0.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._next_frame = 1
        super().__init__(path)

    def write(self, tracks: Tracks, frame: int | None = None) -> None:
        """Add the tracks of one frame. frame: its number, from 1 on; left out, frames are counted."""
        number = self._next_frame if frame is None else int(frame)
        self._next_frame = number + 1
        if not len(tracks):
            return self.append([])
        boxes = tracks.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        boxes[:, :2] += 1.0
        rows = zip(tracks.ids.tolist(), boxes.tolist(), tracks.scores.tolist(), tracks.class_ids.tolist(), strict=True)
        self.append([b"%d,%d,%.3f,%.3f,%.3f,%.3f,%.6f,%d,-1\n" % (number, i, *b, s, c) for i, b, s, c in rows])


@dataclass(frozen=True, slots=True)
class CocoResults:
    """COCO results: image_ids, category_ids (N,) int64; boxes (N, 4) float64 xyxy; scores (N,) float64."""

    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.image_ids)


@dataclass(frozen=True, slots=True)
class MotRecords:
    """Rows of a MOTChallenge file, in its order.

    frames (N,) int64 from 1; ids (N,) int64 (-1 in detection files); boxes (N, 4) float64 xyxy with the top left corner
    of the image at (0, 0); scores (N,) float64 (in a truth file: 1 counts, 0 ignored); class_ids (N,) int64 and
    visibility (N,) float64, -1 where the file has none.
    """

    frames: NDArray[np.int64]
    ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    class_ids: NDArray[np.int64]
    visibility: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.frames)


def read_coco_results(path: str | os.PathLike[str]) -> CocoResults:
    """Read a COCO results file. ValueError names the file and the record when it is none."""
    try:
        with open(path, encoding="utf-8") as file:
            records = json.load(file)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no COCO results file, it is not JSON: {error}") from error
    if not isinstance(records, list):
        raise ValueError(
            f"{path} is no COCO results file: expected a list of records, found a {type(records).__name__}"
        )
    ids = np.zeros((len(records), 2), np.int64)
    values = np.zeros((len(records), 5))
    index = 0
    try:
        for index, record in enumerate(records):
            ids[index] = record["image_id"], record["category_id"]
            left, top, width, height = record["bbox"]
            values[index] = left, top, width, height, record["score"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: record {index} is no COCO detection (image_id, category_id, bbox of 4, score): {error!r}"
        ) from error
    values[:, 2:4] += values[:, :2]
    return CocoResults(ids[:, 0], ids[:, 1], values[:, :4], values[:, 4])


def read_mot(path: str | os.PathLike[str]) -> MotRecords:
    """Read a MOTChallenge file: truth, detections or results, of 6 to 10 columns.

    Rows of nine columns end with class and visibility (MOT16 and later); in rows of ten the last three are world
    coordinates (MOT15), which are passed over. ValueError names the file and the line when it is none.
    """
    rows: list[list[float]] = []
    columns = 0
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            text = line.strip()
            if not text:
                continue
            try:
                row = [float(value) for value in text.split(",")]
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: no MOTChallenge row, {error}") from error
            if not 6 <= len(row) <= 10 or (columns and len(row) != columns):
                raise ValueError(
                    f"{path}, line {number}: expected {columns or '6 to 10'} comma-separated columns, found {len(row)}"
                )
            columns = len(row)
            rows.append(row)
    table = np.array(rows, dtype=np.float64).reshape(len(rows), columns or 6)
    boxes = table[:, 2:6].copy()
    boxes[:, :2] -= 1.0
    boxes[:, 2:] += boxes[:, :2]
    missing = np.full(len(rows), -1.0)
    return MotRecords(
        frames=table[:, 0].astype(np.int64),
        ids=table[:, 1].astype(np.int64),
        boxes=boxes,
        scores=table[:, 6] if columns > 6 else np.ones(len(rows)),
        class_ids=(table[:, 7] if columns in (8, 9) else missing).astype(np.int64),
        visibility=table[:, 8] if columns == 9 else missing,
    )
