"""Data of datasets on disk: checked, split by clip, images fitted once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datasets import Dataset, DatasetError, read_dataset
from edge_vision.datasets import Sample as Record
from edge_vision.datasets.leaks import find_leaks
from edge_vision.datasets.splitting import split_dataset
from edge_vision.datatypes import Labels
from edge_vision.inference.preprocess import INTERPOLATIONS, InputSpec
from edge_vision.optimize.data import Split
from edge_vision.optimize.loading.common import SPLITS, DataError, Fitting, Limits, MakeBar, Warn, as_detections
from edge_vision.optimize.loading.keeping import Item, kept

USUAL = {"train": 5000, "calibration": 300, "test": 2000}
RATIOS = {"train": 0.7, "calibration": 0.1, "test": 0.2}
LEAST = 10  # images of a split that is trained or tested on
FEW_CLIPS = 10  # in the test split, below which intervals mean little
WRONG = ("missing image", "unreadable image", "malformed label", "not finite", "unknown class", "no size")
"""Issues that a dataset must not have: what is left of it would not be what its owner thinks it is."""
_TASKS = {"detect": "detection", "classify": "classification"}


@dataclass(frozen=True)
class Files:
    """A dataset whose images are chosen. places: of its classes among the network's; chosen: records by split."""

    name: str
    dataset: Dataset
    labels: Labels
    places: NDArray[np.int64]
    chosen: Mapping[str, tuple[Record, ...]]

    def split(self, split: str, spec: InputSpec, cache: Path | None, bar: MakeBar | None) -> Split:
        """The images fitted to `spec`. Raises DataError for one that cannot be decoded."""
        records = self.chosen[split]
        fitting = Fitting(spec)
        depends = {"files": _digest(records), "task": self.dataset.task, "fitting": fitting.key()}

        def make() -> Iterator[Item]:
            progress = bar(f"reading {split}", len(records)) if bar else None
            try:
                for clip, record in zip(_clip_numbers(records), records, strict=True):
                    yield self._item(record, clip, fitting)
                    if progress is not None:
                        progress.update(1)
            finally:
                if progress is not None:
                    progress.close()

        found = kept(f"files-{split}", depends, len(records), (spec.width, spec.height), make, cache)
        classes = [self.places[rows[:, 0].astype(np.int64)] for rows in found.rows]
        if self.dataset.task == "classification":
            return Split(found.images, np.concatenate(classes), found.clips)
        truth = [
            as_detections(np.concatenate([ids[:, None].astype(np.float32), rows[:, 1:]], 1), self.labels)
            for ids, rows in zip(classes, found.rows, strict=True)
        ]
        return Split(found.images, tuple(truth), found.clips)

    def _item(self, record: Record, clip: int, fitting: Fitting) -> Item:
        try:
            image = record.load()
        except DatasetError as error:
            raise DataError(error.where, error.problem, error.remedy) from error
        if self.dataset.task == "classification":
            spec = fitting.spec
            rows = np.array([[record.class_ids[0], 0, 0, spec.width, spec.height]], np.float32)
            size = (spec.width, spec.height)
            return Item(cv2.resize(image, size, interpolation=INTERPOLATIONS[spec.interpolation]), rows, clip)  # type: ignore[arg-type]
        fitted, boxes = fitting(image, record.boxes)
        return Item(fitted, np.concatenate([record.class_ids[:, None].astype(np.float32), boxes], 1), clip)


def open_files(
    path: Path,
    task: str,
    labels: Labels,
    limits: Limits,
    warn: Warn,
    bar: MakeBar | None = None,
    group_by: str = "",
    seed: int = 0,
) -> Files:
    """The dataset at a path, read and dealt out; no pixels are read, but for the leak check of given splits.
    Arguments and errors as of `load_data`."""
    try:
        dataset = read_dataset(path, group_by=group_by)
        _check(dataset, task)
        places = _places(dataset, labels)
        given = bool(_given(dataset))
        dealt = _given(dataset) or _split(dataset, seed)
        counts = limits.counts(USUAL)
        chosen = {name: _some(dealt[name], counts[name], seed) for name in SPLITS}
        _check_amount(dataset, chosen, warn)
        if given:
            _check_leaks(dataset, chosen, warn, bar)
    except DatasetError as error:
        raise DataError(error.where, error.problem, error.remedy) from error
    told = ", ".join(f"{name} {len(chosen[name])}" for name in SPLITS)
    digest = _digest([record for name in SPLITS for record in chosen[name]])
    return Files(f"{path.resolve()} ({told}; {digest})", dataset, labels, places, chosen)


def _check(dataset: Dataset, task: str) -> None:
    if dataset.task != _TASKS[task]:
        remedy = f"give a dataset for {_TASKS[task]}"
        raise DataError(dataset.path, f"is a dataset for {dataset.task}, the model is for {_TASKS[task]}", remedy)
    wrong = [issue for issue in dataset.issues if issue.kind in WRONG]
    if wrong:
        first = wrong[0]
        more = f", and {len(wrong) - 1} more like it in {dataset.path}" if len(wrong) > 1 else ""
        problem = f"{first.kind}{f': {first.text}' if first.text else ''}{more}"
        raise DataError(first.where, problem, "mend or take out what is wrong")


def _places(dataset: Dataset, labels: Labels) -> NDArray[np.int64]:
    """Of the dataset's classes among the network's; -1 of those that no sample is of."""
    used = np.zeros(len(dataset.labels), bool)
    for sample in dataset.samples:
        used[sample.class_ids] = True
    unknown = [name for name, one in zip(dataset.labels, used, strict=True) if one and name not in labels]
    if unknown:
        named = unknown[0]
        number = dataset.labels.index(named)
        where = next(sample.image for sample in dataset.samples if number in sample.class_ids)
        problem = (
            f"is labelled {named!r}, which the model does not know (it knows {', '.join(labels[:20])}"
            f"{', ...' if len(labels) > 20 else ''})"
        )
        others = f"; {len(unknown) - 1} more of its classes are unknown: {', '.join(unknown[1:10])}" * (
            len(unknown) > 1
        )
        raise DataError(where, problem + others, "name the classes as the model does, or take out what is of others")
    return np.array([labels.index(name) if name in labels else -1 for name in dataset.labels], np.int64)


def _given(dataset: Dataset) -> dict[str, tuple[Record, ...]]:
    """The dataset's own splits, {} where it has none to train and to test on. Calibration is `val` where there is
    a test split too, else a part of training."""
    if "train" not in dataset.splits or not {"val", "test"} & set(dataset.splits):
        return {}
    train, both = dataset.in_split("train"), {"val", "test"} <= set(dataset.splits)
    test = dataset.in_split("test") or dataset.in_split("val")
    return {"train": train, "calibration": dataset.in_split("val") if both else train, "test": test}


def _split(dataset: Dataset, seed: int) -> dict[str, tuple[Record, ...]]:
    plain = replace(dataset, samples=tuple(replace(sample, split="") for sample in dataset.samples))
    clips = len({sample.sequence for sample in plain.samples})
    if clips == 2:  # calibration from training: it needs no clip of its own
        two = split_dataset(plain, {"train": 0.8, "test": 0.2}, seed).dataset
        return {"train": two.in_split("train"), "calibration": two.in_split("train"), "test": two.in_split("test")}
    dealt = split_dataset(plain, RATIOS, seed).dataset
    return {name: dealt.in_split(name) for name in SPLITS}


def _some(records: tuple[Record, ...], most: int, seed: int) -> tuple[Record, ...]:
    """At most so many, drawn from all of them, in their order."""
    if len(records) <= most:
        return records
    places = np.sort(np.random.default_rng([seed, 3]).permutation(len(records))[:most])
    return tuple(records[i] for i in places.tolist())


def _check_amount(dataset: Dataset, chosen: Mapping[str, tuple[Record, ...]], warn: Warn) -> None:
    for name in ("train", "test"):
        if len(chosen[name]) < LEAST:
            problem = f"{len(chosen[name])} images for the split {name} are too few"
            raise DataError(dataset.path, problem, f"give at least {LEAST}; some hundred tell a point of accuracy")
        objects = sum(len(sample.class_ids) for sample in chosen[name])
        if not objects:
            raise DataError(dataset.path, f"there is no object in its {name} split", "label the images")
    clips = len({sample.sequence for sample in chosen["test"]})
    if clips < FEW_CLIPS:
        warn(f"{dataset.path}: its test split is of {clips} clips: intervals of the accuracy mean little")
    for name in ("train", "test"):
        there = {int(c) for sample in chosen[name] for c in sample.class_ids}
        missing = [label for number, label in enumerate(dataset.labels) if number not in there]
        if missing:
            warn(f"{dataset.path}: its {name} split has nothing of {', '.join(missing[:10])}")


def _check_leaks(dataset: Dataset, chosen: Mapping[str, tuple[Record, ...]], warn: Warn, bar: MakeBar | None) -> None:
    samples = tuple(replace(one, split="train") for one in chosen["train"])
    samples += tuple(replace(one, split="test") for one in chosen["test"])
    progress = bar("looking for leaks", len(samples)) if bar else None
    report = find_leaks(replace(dataset, samples=samples), progress.update if progress else None)
    if progress is not None:
        progress.close()
    if report.undecodable:
        more = f", and {len(report.undecodable) - 1} more" if len(report.undecodable) > 1 else ""
        raise DataError(report.undecodable[0], f"cannot be decoded{more}", "replace the file or take it out")
    if report.shared:
        first = next(iter(report.shared))
        warn(
            f"{dataset.path}: {len(report.shared)} clips are in training and test, such as {first!r}: the accuracy "
            "measured is too good; split by clip"
        )
    elif report.pairs:
        pair = report.pairs[0]
        warn(
            f"{dataset.path}: {report.leaking.get('test', 0)} of {report.checked['test']} test images have a "
            f"near-duplicate in training, such as {samples[pair.first].image} and {samples[pair.second].image}: the "
            "accuracy measured is too good"
        )


def _clip_numbers(records: tuple[Record, ...]) -> list[int]:
    names = sorted({record.sequence for record in records})
    place = {name: k for k, name in enumerate(names)}
    return [place[record.sequence] for record in records]


def _digest(records: tuple[Record, ...] | list[Record]) -> str:
    """Of the files, by name, size and time, and of what they are labelled."""
    digest = hashlib.sha256()
    for record in records:
        state = record.image.stat()
        digest.update(f"{record.image}|{state.st_size}|{state.st_mtime_ns}|{record.sequence}".encode())
        digest.update(record.class_ids.tobytes() + record.boxes.tobytes())
    return digest.hexdigest()[:16]
