"""KITTI's tracking labels and results.

Format: devkit_tracking of cvlibs.net/datasets/kitti/eval_tracking.php: a line is `frame id type truncated occluded
alpha x1 y1 x2 y2 height width length x y z rotation [score]`. Frames count from 0 there and from 1 here; boxes are xyxy
pixels from (0, 0). What counts follows the benchmark as TrackEval has it: hidden objects (occlusion above 2, truncation
above 0) and the neighbour class are neutral, DontCare areas excuse results that match nothing.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from edge_vision.evaluation.number_tables import refuse_doubles
from edge_vision.evaluation.track_records import NO_ID, BoxRecords, Role, TruthRecords

MAX_OCCLUSION = 2
MAX_TRUNCATION = 0
MIN_HEIGHT = 25.0  # px: results that match nothing and are lower do not count
DONT_CARE = "dontcare"
# Confusing one of these with the other is no error.
NEIGHBOURS = {"car": "van", "pedestrian": "person"}
TYPES = ("car", "van", "truck", "pedestrian", "person", "cyclist", "tram", "misc", DONT_CARE)
"""class_ids of what is read here index this."""

_COLUMNS = (17, 18)


def is_kitti(path: str | os.PathLike[str]) -> bool:
    """Whether the file's first line looks like KITTI's: blank-separated with a word in the third column."""
    with open(path, encoding="utf-8", errors="replace") as file:
        parts = next((line for line in file if line.strip()), "").split()
    return len(parts) > 2 and "," not in parts[0] and parts[2][:1].isalpha()


def read_truth(path: str | os.PathLike[str], kind: str = "car") -> TruthRecords:
    """Read a label_02 file; objects of type ``kind`` count. ValueError names file and line."""
    kinds, numbers = _read(path)
    wanted = _index(kind)
    neighbour = TYPES.index(NEIGHBOURS[kind.lower()]) if kind.lower() in NEIGHBOURS else -1
    hidden = (numbers[:, 3] > MAX_OCCLUSION) | (numbers[:, 2] > MAX_TRUNCATION)
    roles = np.full(len(kinds), Role.PASSIVE, np.uint8)
    roles[(kinds == wanted) & ~hidden] = Role.COUNTED
    roles[((kinds == wanted) & hidden) | (kinds == neighbour)] = Role.NEUTRAL
    roles[kinds == TYPES.index(DONT_CARE)] = Role.REGION
    # Objects of other types do not take part in KITTI's matching.
    kept = roles != Role.PASSIVE
    frames, ids = numbers[:, 0].astype(np.int64) + 1, numbers[:, 1].astype(np.int64)
    refuse_doubles(path, frames, np.where(roles == Role.COUNTED, ids, NO_ID))
    order = np.argsort(frames, kind="stable")
    order = order[kept[order]]
    return TruthRecords(frames[order], ids[order], numbers[order, 5:9], roles[order], kinds[order])


def read_boxes(path: str | os.PathLike[str], kind: str = "car") -> BoxRecords:
    """Read detections or results in KITTI's format (with or without a score), those of type ``kind`` alone."""
    kinds, numbers = _read(path)
    kept = np.flatnonzero(kinds == _index(kind))
    order = kept[np.argsort(numbers[kept, 0], kind="stable")]
    frames, ids = numbers[:, 0].astype(np.int64) + 1, np.maximum(numbers[:, 1].astype(np.int64), NO_ID)
    refuse_doubles(path, frames, np.where(kinds == _index(kind), ids, NO_ID))
    return BoxRecords(frames[order], ids[order], numbers[order, 5:9], numbers[order, 16], kinds[order])


def write_boxes(path: str | os.PathLike[str], records: BoxRecords, kind: str = "car") -> None:
    """Write results as KITTI's server takes them: 3D fields and angles at the devkit's values for "not given"."""
    name = kind.capitalize()
    with open(path, "w", encoding="utf-8") as file:
        for frame, number, box, score in zip(
            records.frames.tolist(), records.ids.tolist(), records.boxes.tolist(), records.scores.tolist(), strict=True
        ):
            corners = " ".join(f"{value:.3f}" for value in box)
            file.write(f"{frame - 1} {number} {name} -1 -1 -10 {corners} -1 -1 -1 -1000 -1000 -1000 -10 {score:.6f}\n")


def _index(kind: str) -> int:
    if kind.lower() not in TYPES[:-1]:
        raise ValueError(f"KITTI has no type '{kind}': choose one of {', '.join(TYPES[:-1])}")
    return TYPES.index(kind.lower())


def _read(path: str | os.PathLike[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Types (N,) as indices of TYPES, and (N, 17) float64: frame, id, then the columns after the type, score last (1
    where the file has none)."""
    kinds: list[int] = []
    rows: list[list[float]] = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for line_number, line in enumerate(file, 1):
            parts = line.split()
            if not parts:
                continue
            where = f"{path}, line {line_number}"
            if len(parts) not in _COLUMNS:
                raise ValueError(f"{where}: no KITTI row, expected 17 or 18 blank-separated columns, got {len(parts)}")
            # Early labels say Person_sitting, later ones Person.
            kind = parts[2].lower().partition("_")[0]
            if kind not in TYPES:
                raise ValueError(f"{where}: no KITTI row, unknown type '{parts[2]}'")
            try:
                row = [float(part) for part in (*parts[:2], *parts[3:])]
            except ValueError as error:
                raise ValueError(f"{where}: no KITTI row, {error}") from None
            if not np.isfinite(row).all():
                raise ValueError(f"{where}: no KITTI row, every number must be finite")
            if row[0] < 0 or row[0] % 1 or row[1] % 1:
                raise ValueError(f"{where}: frame and id must be whole numbers, frames from 0 up")
            if row[7] < row[5] or row[8] < row[6]:
                raise ValueError(f"{where}: the box's right or lower edge lies before its left or upper one")
            if len(row) == 16:
                row.append(1.0)
            kinds.append(TYPES.index(kind))
            rows.append(row)
    return np.array(kinds, np.int64), np.array(rows, np.float64).reshape(len(rows), 17)
