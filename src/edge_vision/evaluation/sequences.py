"""Sequences to track: found in folders, truth and detections brought together, frames chosen, warps composed."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S, Detections
from edge_vision.evaluation import kitti_files, mot_files
from edge_vision.evaluation.mot_files import SequenceInfo
from edge_vision.evaluation.track_records import BoxRecords, TrackedBoxes, TruthFrame, TruthRecords, as_probabilities

# Where a sequence's files lie below its folder; the first that is there is taken.
TRUTH_FILES = ("gt.txt", "gt/gt.txt")
BOX_FILES = ("det.txt", "det/det.txt", "det_*.txt")


@dataclass(frozen=True, slots=True)
class TrackingSequence:
    """One sequence with its truth and the boxes to score or to track.

    warps: (length, 2, 3) camera motion as `mot_files.read_warps` has it, or None; labels: what the boxes' class ids
    mean; empty where classes are not to be told apart (files of tracking benchmarks hold one).
    """

    info: SequenceInfo
    truth: TruthRecords
    boxes: BoxRecords
    warps: NDArray[np.float64] | None = None
    labels: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.info.name


def find_sequences(
    truth: Path, boxes: Path, *, names: Sequence[str] = ("*",), frame_rate: float = 0.0
) -> list[tuple[SequenceInfo | None, Path, Path, str]]:
    """(info, truth file, box file, name) of every sequence below ``truth`` whose name matches one of ``names``.

    truth: a file, or a folder: of MOTChallenge (SEQUENCE/gt/gt.txt or SEQUENCE/gt.txt), or of one file a sequence
    (KITTI's label_02, or NAME.txt). boxes: a file (when truth is one), or a folder laid out in one of these ways:
    SEQUENCE/det/det.txt, SEQUENCE/det.txt, SEQUENCE/det_*.txt, SEQUENCE.txt. info is None where there is no seqinfo.ini
    and frame_rate is 0. ValueError says what was looked for where.
    """
    if not truth.exists():
        raise ValueError(f"{truth} does not exist: give a folder of sequences or a truth file")
    if not boxes.exists():
        raise ValueError(f"{boxes} does not exist: give a folder of detections or results, or a file")
    if truth.is_file():
        found = {_name_of(truth): truth}
    else:
        found = {
            folder.name: file
            for folder in sorted(path for path in (truth, *truth.iterdir()) if path.is_dir())
            for file in [_first(folder, TRUTH_FILES)]
            if file is not None
        }
        if not found:
            found = {path.stem: path for path in sorted(truth.glob("*.txt")) if not path.name.startswith("det")}
    if not found:
        raise ValueError(f"no truth in {truth}: looked for {', '.join(TRUTH_FILES)} in each folder, and for *.txt")
    wanted = {name: file for name, file in found.items() if any(fnmatch(name, pattern) for pattern in names)}
    if not wanted:
        raise ValueError(f"no sequence in {truth} is called {' or '.join(names)}: there are {', '.join(found)}")
    result = []
    for name, file in wanted.items():
        home = next((p for p in (file.parent, file.parent.parent) if (p / "seqinfo.ini").is_file()), None)
        info = mot_files.read_seqinfo(home / "seqinfo.ini") if home else None
        result.append((info, file, _boxes_of(boxes, name, truth.is_file()), name))
    return result


def load_sequence(
    info: SequenceInfo | None,
    truth: Path,
    boxes: Path,
    name: str,
    *,
    kind: str = "car",
    classes: Collection[int] | None = None,
    distractors: Collection[int] = mot_files.DISTRACTORS,
    scores: str = "auto",
    frame_rate: float = 0.0,
    warps: bool = False,
) -> TrackingSequence:
    """Read a sequence found by `find_sequences`.

    kind: which objects of KITTI's files; classes, distractors: of MOTChallenge's (`mot_files.read_truth`); scores: the
    scale of the detections' (`as_probabilities`); frame_rate: where seqinfo.ini does not say; warps: read gmc.txt
    beside the truth or the detections, where there is one. ValueError names the file, and the line where it can.
    """
    true = kitti_files.read_truth(truth, kind) if kitti_files.is_kitti(truth) else _truth(truth, classes, distractors)
    found = kitti_files.read_boxes(boxes, kind) if kitti_files.is_kitti(boxes) else mot_files.read_boxes(boxes)
    last = int(max(true.frames.max(initial=0), found.frames.max(initial=0)))
    if info is None:
        if not frame_rate > 0:
            raise ValueError(f"{truth}: no seqinfo.ini beside it, so the frame rate is not known; give it with --fps")
        info = SequenceInfo(name, frame_rate, max(last, 1))
    if last > info.length:
        file = truth if len(true) and true.frames.max() == last else boxes
        raise ValueError(f"{file}: frame {last} lies beyond the sequence, seqinfo.ini says seqLength={info.length}")
    if not found.tracked:
        try:
            found = BoxRecords(
                found.frames, found.ids, found.boxes, as_probabilities(found.scores, scores), found.class_ids
            )
        except ValueError as error:
            raise ValueError(f"{boxes}: {error}") from None
    motion = next((p for p in (truth.parent / "gmc.txt", boxes.parent / "gmc.txt") if p.is_file()), None)
    read = mot_files.read_warps(motion, info.length) if warps and motion else None
    return TrackingSequence(SequenceInfo(*_renamed(info, name)), true, found, read)


def chosen_frames(
    length: int, every: int = 1, drop: float = 0.0, seed: int = 0, name: str = "", *, start: int = 1
) -> NDArray[np.int64]:
    """The numbers (from 1) of the frames that are seen: every ``every``-th from frame ``start`` on, and of these all
    but a share ``drop`` lost at random, of which ``start`` may be one. Which ones are lost depends on seed and name.
    ValueError for numbers without sense, and for a start beyond the end."""
    if every < 1:
        raise ValueError(f"every {every}th frame: give a whole number from 1 up")
    if not 0.0 <= drop < 1.0:
        raise ValueError(f"a share of {drop} of the frames cannot be dropped: give 0 up to, not including, 1")
    if not 1 <= start <= max(length, 1):
        raise ValueError(
            f"{name or 'the sequence'} has {length} frames and frame {start} cannot be the first that is seen: start "
            f"at 1 to {length}, with fewer draws, or leave the sequence out"
        )
    frames = np.arange(start, length + 1, every)
    if drop:
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        kept = rng.random(len(frames)) >= drop
        kept[0] |= not kept.any()
        frames = frames[kept]
    return frames


def compose_warps(warps: NDArray[np.float64], frames: NDArray[np.int64]) -> NDArray[np.float64]:
    """(len(frames), 2, 3): from each of the frames (numbers from 1, ascending) to the next one of them, all warps
    between applied one after another. The first is the identity."""
    square = np.tile(np.eye(3), (len(warps), 1, 1))
    square[:, :2] = warps
    result = np.tile(np.eye(2, 3), (len(frames), 1, 1))
    for place in range(1, len(frames)):
        whole = np.eye(3)
        for frame in range(int(frames[place - 1]) + 1, int(frames[place]) + 1):
            whole = square[frame - 1] @ whole
        result[place] = whole[:2]
    return result


def group_names(groups: Sequence[str], names: Sequence[str]) -> dict[str, list[str]]:
    """Sequences by group. groups: NAME=PATTERN,PATTERN each; or ["prefix"]: by the letters that names begin with; or
    one YAML file of name: [patterns]. Sequences that no pattern fits are in no group. ValueError for an empty group."""
    if list(groups) == ["prefix"]:
        by_letters: dict[str, list[str]] = {}
        for name in names:
            letters = name[: next((i for i, letter in enumerate(name) if not letter.isalpha()), len(name))]
            by_letters.setdefault(letters or "other", []).append(name)
        return by_letters
    patterns: dict[str, list[str]] = {}
    if len(groups) == 1 and "=" not in groups[0]:
        patterns = _group_file(Path(groups[0]))
    else:
        for group in groups:
            name, equals, listed = group.partition("=")
            if not (name and equals and listed):
                raise ValueError(f"'{group}' is no group: write NAME=PATTERN,PATTERN such as cars=KITTI*")
            patterns[name] = listed.split(",")
    found = {
        group: [name for name in names if any(fnmatch(name, pattern) for pattern in listed)]
        for group, listed in patterns.items()
    }
    empty = [group for group, members in found.items() if not members]
    if empty:
        raise ValueError(f"no sequence fits the group {', '.join(empty)}: there are {', '.join(names)}")
    return found


def _group_file(path: Path) -> dict[str, list[str]]:
    import yaml

    try:
        groups = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; groups are NAME=PATTERN,..., 'prefix' or a YAML file") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML file of groups: {error}") from None
    if not isinstance(groups, dict) or not all(isinstance(listed, list) for listed in groups.values()):
        raise ValueError(f"{path} is no file of groups: write lines such as cars: ['KITTI*']")
    return {str(group): [str(pattern) for pattern in listed] for group, listed in groups.items()}


def truth_frames(truth: TruthRecords, frames: NDArray[np.int64]) -> list[TruthFrame]:
    """The truth of each of the frames."""
    return [TruthFrame(truth.boxes[rows], truth.ids[rows], truth.roles[rows]) for rows in _rows(truth.frames, frames)]


def tracked_frames(boxes: BoxRecords, frames: NDArray[np.int64]) -> list[TrackedBoxes]:
    """What a result file says about each of the frames."""
    return [
        TrackedBoxes(boxes.boxes[rows], boxes.ids[rows], boxes.scores[rows]) for rows in _rows(boxes.frames, frames)
    ]


def detections(
    boxes: BoxRecords, frames: NDArray[np.int64], frame_rate: float, labels: tuple[str, ...] = ()
) -> list[Detections]:
    """The detections of each of the frames, stamped with its time: frame 1 is at 0. labels: of their classes; without
    any, all are of one class."""
    return [
        Detections(
            boxes.boxes[rows].astype(np.float32),
            boxes.scores[rows].astype(np.float32),
            boxes.class_ids[rows] if labels else np.zeros(rows.stop - rows.start, np.int64),
            labels or ("object",),
            stamp=round((int(frame) - 1) * NS_PER_S / frame_rate),
        )
        for frame, rows in zip(frames, _rows(boxes.frames, frames), strict=True)
    ]


def as_records(tracked: Sequence[TrackedBoxes], frames: NDArray[np.int64]) -> BoxRecords:
    """The frames' results as rows, for a result file."""
    counts = [len(frame.ids) for frame in tracked]
    scores = [np.ones(len(f.ids)) if f.scores is None else f.scores for f in tracked]
    return BoxRecords(
        np.repeat(frames, counts),
        np.concatenate([np.zeros(0, np.int64), *(frame.ids for frame in tracked)]).astype(np.int64),
        np.concatenate([np.zeros((0, 4)), *(frame.boxes.reshape(-1, 4) for frame in tracked)]),
        np.concatenate([np.zeros(0), *scores]),
        np.full(sum(counts), -1, np.int64),
    )


def _rows(sorted_frames: NDArray[np.int64], frames: NDArray[np.int64]) -> Iterator[slice]:
    first = np.searchsorted(sorted_frames, frames, "left").tolist()
    last = np.searchsorted(sorted_frames, frames, "right").tolist()
    return (slice(a, b) for a, b in zip(first, last, strict=True))


def _truth(path: Path, classes: Collection[int] | None, distractors: Collection[int]) -> TruthRecords:
    return mot_files.read_truth(path, classes, distractors)


def _renamed(info: SequenceInfo, name: str) -> tuple:
    return name, info.frame_rate, info.length, info.width, info.height, info.images, info.suffix


def _first(folder: Path, patterns: Sequence[str]) -> Path | None:
    return next((file for pattern in patterns for file in sorted(folder.glob(pattern)) if file.is_file()), None)


def _name_of(truth: Path) -> str:
    """MOT17-02 of MOT17-02/gt/gt.txt; 0001 of label_02/0001.txt."""
    if truth.stem != "gt":
        return truth.stem
    folder = truth.resolve().parent
    return folder.parent.name if folder.name == "gt" else folder.name


def _boxes_of(boxes: Path, name: str, single: bool) -> Path:
    if boxes.is_file():
        if not single:
            raise ValueError(f"{boxes} is one file for several sequences: give a folder, or one truth file")
        return boxes
    file = _first(boxes / name, BOX_FILES)
    if file is None and (boxes / f"{name}.txt").is_file():
        file = boxes / f"{name}.txt"
    if file is None and single:
        file = _first(boxes, BOX_FILES)
    if file is None:
        raise ValueError(
            f"nothing for {name} in {boxes}: looked for {name}.txt and for {', '.join(BOX_FILES)} in {name}/; leave "
            "the sequence out with --sequences, or add its file"
        )
    return file
