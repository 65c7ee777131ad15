"""MOTChallenge sequences as a dataset of frames: SEQUENCE/img1/000001.jpg and SEQUENCE/gt/gt.txt.

Format: Milan et al., MOT16: A Benchmark for Multi-Object Tracking, 2016, section 4: frame, id, left, top, width,
height, consider, class, visibility; frames and pixels count from 1, rows with consider 0 do not count.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_vision.datasets.collecting import Collector, Progress, split_name
from edge_vision.datasets.description import Dataset
from edge_vision.datasets.image_headers import is_image

MOT_LABELS = (
    "pedestrian",
    "person on vehicle",
    "car",
    "bicycle",
    "motorbike",
    "non motorised vehicle",
    "static person",
    "distractor",
    "occluder",
    "occluder on the ground",
    "occluder full",
    "reflection",
    "crowd",
)


def mot_sequences(folder: Path) -> list[Path]:
    """The folders of sequences in a folder: itself, its children, or theirs (train/, test/)."""
    places = [folder, *sorted(folder.glob("*/")), *sorted(folder.glob("*/*/"))]
    return [place for place in places if truth_of(place) is not None]


def truth_of(sequence: Path) -> Path | None:
    """Its truth, where it has images too."""
    truth = sequence / "gt" / "gt.txt"
    return truth if truth.is_file() and (sequence / "img1").is_dir() else None


def read_mot(sequences: list[Path], root: Path, advance: Progress | None = None) -> Dataset:
    """One dataset of some sequences. Class 1 of the file is class 0 here; files without classes have one, "object"."""
    tables = {sequence: _rows(sequence / "gt" / "gt.txt") for sequence in sequences}
    classed = any(row[2] > 0 for rows, _ in tables.values() for row in rows)
    collector = Collector(root, "mot", "detection", MOT_LABELS if classed else ("object",), advance)
    for sequence, (rows, problems) in tables.items():
        truth = sequence / "gt" / "gt.txt"
        for line, text in problems:
            collector.note("malformed label", f"{truth}, line {line}", text)
        of_frame: dict[int, list[tuple[int, int, int, tuple[float, ...]]]] = {}
        for row in rows:
            of_frame.setdefault(row[1], []).append(row)
        split = split_name(sequence.parent.name) if sequence != root else ""
        for image in sorted(path for path in (sequence / "img1").iterdir() if is_image(path)):
            number = int(image.stem) if image.stem.isdecimal() else -1
            here = of_frame.pop(number, [])
            size = collector.measure(image, split)
            if size is None:
                continue
            boxes = np.array([row[3] for row in here], np.float64).reshape(-1, 4)
            boxes[:, :2] -= 1.0
            boxes[:, 2:] += boxes[:, :2]
            kinds = np.array([row[2] - 1 if classed else 0 for row in here], np.int64)
            lines = [row[0] for row in here]
            collector.add(
                image,
                size,
                boxes,
                kinds,
                split=split,
                sequence=sequence.name,
                number=number,
                where=lambda i, truth=truth, lines=lines: f"{truth}, line {lines[i]}",  # type: ignore[misc]
            )
        for frame, left in of_frame.items():
            collector.note(
                "stray label", f"{truth}, line {left[0][0]}", f"{len(left)} boxes in frame {frame}, no image"
            )
    return collector.dataset()


def _rows(truth: Path) -> tuple[list[tuple[int, int, int, tuple[float, ...]]], list[tuple[int, str]]]:
    """(line, frame, class, (left, top, width, height)) of what counts; lines that do not parse, and why."""
    rows, problems = [], []
    for line, text in enumerate(truth.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not text.strip():
            continue
        try:
            values = [float(part) for part in text.split(",")]
            if not 6 <= len(values) <= 10:
                raise ValueError(f"expected 6 to 10 columns, found {len(values)}")
            frame = int(values[0])
            kind = int(values[7]) if len(values) in (8, 9) else -1
        except (ValueError, OverflowError) as error:
            problems.append((line, str(error)))
            continue
        if len(values) < 7 or values[6] != 0:
            rows.append((line, frame, kind, tuple(values[2:6])))
    return rows, problems
