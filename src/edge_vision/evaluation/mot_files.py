"""MOTChallenge's files: truth, detections, results, seqinfo.ini, and camera motion (gmc.txt as BoT-SORT keeps it).

Format: Milan et al., MOT16: A Benchmark for Multi-Object Tracking, 2016, section 4, and motchallenge.net. Frames and
pixels count from 1; here boxes are xyxy with the image's top left corner at (0, 0), as everywhere in the project.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_vision.evaluation.number_tables import read_rows, refuse, refuse_doubles
from edge_vision.evaluation.track_records import NO_ID, BoxRecords, Role, TruthRecords

PEDESTRIAN = 1
# Person on a vehicle, static person, distractor, reflection.
DISTRACTORS = (2, 7, 8, 12)
COLUMNS = range(6, 11)


@dataclass(frozen=True, slots=True)
class SequenceInfo:
    """What seqinfo.ini says. frame_rate in frames/s; length in frames; width, height in px, 0 where it does not say.

    images: the folder of its frames where it exists, else None; suffix: their extension, with the dot.
    """

    name: str
    frame_rate: float
    length: int
    width: int = 0
    height: int = 0
    images: Path | None = None
    suffix: str = ".jpg"


def read_seqinfo(path: str | os.PathLike[str]) -> SequenceInfo:
    """Read a seqinfo.ini. ValueError names the file and the key that is missing or wrong."""
    path = Path(path)
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(path.read_text(encoding="utf-8", errors="replace"), str(path))
        section = parser["Sequence"]
    except configparser.Error as error:
        raise ValueError(f"{path} is no seqinfo.ini: {error}") from None
    except KeyError:
        raise ValueError(f"{path} is no seqinfo.ini: it has no section [Sequence]") from None

    def number(key: str, least: float, default: float | None = None) -> float:
        text = section.get(key)
        if text is None:
            if default is None:
                raise ValueError(f"{path}: {key} is missing; write a line such as {key}=30")
            return default
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value < 1e9:
            raise ValueError(f"{path}: {key}={text} is no number of at least {least:g}")
        return value

    images = path.parent / section.get("imDir", "img1")
    return SequenceInfo(
        name=section.get("name", path.parent.name),
        frame_rate=number("frameRate", 0.001),
        length=int(number("seqLength", 1)),
        width=int(number("imWidth", 0, 0)),
        height=int(number("imHeight", 0, 0)),
        images=images if images.is_dir() else None,
        suffix=section.get("imExt", ".jpg"),
    )


def write_seqinfo(path: str | os.PathLike[str], info: SequenceInfo) -> None:
    """Write a seqinfo.ini that MOTChallenge's tools and `read_seqinfo` read."""
    lines = [
        "[Sequence]",
        f"name={info.name}",
        f"imDir={info.images.name if info.images else 'img1'}",
        f"frameRate={info.frame_rate:g}",
        f"seqLength={info.length}",
        f"imWidth={info.width}",
        f"imHeight={info.height}",
        f"imExt={info.suffix}",
    ]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_truth(
    path: str | os.PathLike[str], classes: Collection[int] | None = None, distractors: Collection[int] = DISTRACTORS
) -> TruthRecords:
    """Read a gt.txt: frame, id, left, top, width, height, consider, class, visibility.

    classes: those that count; None: MOTChallenge's rule, pedestrians alone, where the file has any, else all. Boxes of
    the classes in ``distractors``, and boxes without an id (-1: an area that nobody has labelled one by one), are
    NEUTRAL; rows with consider 0 and boxes of other classes are PASSIVE. Files without a class column (MOT15, where the
    last three are world coordinates) count every row with consider not 0. ValueError names file and line.
    """
    table = _table(path, "MOTChallenge truth")
    ids = _whole(path, table[:, 1], "ids")
    with_class = table.shape[1] in (8, 9)
    kinds = _whole(path, table[:, 7], "classes") if with_class else np.full(len(table), -1)
    considered = table[:, 6] != 0 if table.shape[1] > 6 else np.ones(len(table), bool)
    labelled = with_class and bool((kinds > 0).any())
    roles = np.full(len(table), Role.PASSIVE, np.uint8)
    wanted = classes
    if wanted is None and labelled and bool((kinds == PEDESTRIAN).any()):
        wanted = (PEDESTRIAN,)
    counted = considered & (np.isin(kinds, list(wanted)) if wanted is not None else True)
    neutral = ids < 0
    if labelled:
        neutral |= np.isin(kinds, [kind for kind in distractors if kind not in (wanted or ())])
    roles[counted] = Role.COUNTED
    roles[neutral] = Role.NEUTRAL
    frames = _frames(path, table)
    refuse_doubles(path, frames, np.where(roles == Role.COUNTED, ids, NO_ID))
    return _sorted_truth(TruthRecords(frames, ids, _boxes(table), roles, kinds))


def read_boxes(path: str | os.PathLike[str]) -> BoxRecords:
    """Read a det.txt (ids -1) or a result file: frame, id, left, top, width, height and, where there, score, class.

    Boxes without area stay: what a tracker makes of them is part of what is measured. ValueError names file and line.
    """
    table = _table(path, "MOTChallenge")
    ids = np.maximum(_whole(path, table[:, 1], "ids"), NO_ID)
    frames = _frames(path, table)
    refuse_doubles(path, frames, ids)
    columns = table.shape[1]
    kinds = _whole(path, table[:, 7], "classes") if columns in (8, 9) else np.full(len(table), -1)
    scores = table[:, 6] if columns > 6 else np.ones(len(table))
    order = np.argsort(frames, kind="stable")
    return BoxRecords(frames[order], ids[order], _boxes(table)[order], scores[order], kinds[order])


def write_boxes(path: str | os.PathLike[str], records: BoxRecords) -> None:
    """Write detections (ids -1) or results: ten columns as MOTChallenge wants them, the last three -1."""
    boxes = records.boxes.astype(np.float64)
    with open(path, "w", encoding="utf-8") as file:
        for frame, number, (x1, y1, x2, y2), score in zip(
            records.frames.tolist(), records.ids.tolist(), boxes.tolist(), records.scores.tolist(), strict=True
        ):
            file.write(f"{frame},{number},{x1 + 1:.3f},{y1 + 1:.3f},{x2 - x1:.3f},{y2 - y1:.3f},{score:.6f},-1,-1,-1\n")


def write_truth(path: str | os.PathLike[str], records: TruthRecords) -> None:
    """Write a gt.txt of nine columns: consider is 1 for what counts, class as in the records, visibility 1."""
    with open(path, "w", encoding="utf-8") as file:
        for frame, number, (x1, y1, x2, y2), role, kind in zip(
            records.frames.tolist(),
            records.ids.tolist(),
            records.boxes.tolist(),
            records.roles.tolist(),
            records.class_ids.tolist(),
            strict=True,
        ):
            consider = int(role == Role.COUNTED)
            file.write(f"{frame},{number},{x1 + 1:.3f},{y1 + 1:.3f},{x2 - x1:.3f},{y2 - y1:.3f},{consider},{kind},1\n")


def read_warps(path: str | os.PathLike[str], length: int) -> NDArray[np.float64]:
    """(length, 2, 3) float64: row f - 1 takes pixel coordinates of frame f - 1 to those of frame f; the first one's is
    not used.

    The file has a line a frame, `number a b x c d y`, apart by tabs, blanks or commas (BoT-SORT's GMC files). Its
    numbers may begin anywhere (a half of a sequence keeps those of the whole); they must go up by one. ``length`` lines
    begin with the first frame, one less with the second. ValueError names file and line.
    """
    with open(path, encoding="utf-8", errors="replace") as file:
        comma = "," in file.readline()
    table = read_rows(path, (7,), "camera motion", comma)
    bad = np.zeros(len(table), bool)
    bad[1:] = np.diff(table[:, 0]) != 1
    refuse(path, bad, "the numbers of the frames must go up by one; give every frame its line")
    missing = length - len(table)
    if missing not in (0, 1):
        raise ValueError(
            f"{path}: {len(table)} warps for {length} frames; a sequence has one a frame, but for the first"
        )
    warps = np.tile(np.eye(2, 3), (length, 1, 1))
    warps[missing:] = table[:, 1:].reshape(-1, 2, 3)
    refuse(path, np.abs(np.linalg.det(warps[missing:, :, :2])) < 1e-6, "the warp cannot be inverted")
    return warps


def _table(path: str | os.PathLike[str], what: str) -> NDArray[np.float64]:
    table = read_rows(path, COLUMNS, what)
    refuse(path, np.any(table[:, 4:6] < 0, axis=1), "width and height of a box must not be negative")
    return table


def _frames(path: str | os.PathLike[str], table: NDArray[np.float64]) -> NDArray[np.int64]:
    frames = _whole(path, table[:, 0], "frames")
    refuse(path, frames < 1, "frames count from 1")
    return frames


def _whole(path: str | os.PathLike[str], values: NDArray[np.float64], what: str) -> NDArray[np.int64]:
    # Ids of some exporters are written as 3.0; 3.5 is no id.
    refuse(path, np.logical_or(values != np.floor(values), np.abs(values) > 2**53), f"{what} must be whole numbers")
    return values.astype(np.int64)


def _boxes(table: NDArray[np.float64]) -> NDArray[np.float64]:
    boxes = table[:, 2:6].copy()
    boxes[:, :2] -= 1.0
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _sorted_truth(truth: TruthRecords) -> TruthRecords:
    order = np.argsort(truth.frames, kind="stable")
    return TruthRecords(*(getattr(truth, name)[order] for name in ("frames", "ids", "boxes", "roles", "class_ids")))
