"""Which clip an image is a frame of: neighbouring frames are the same picture twice and belong in one split."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from edge_vision.datasets.description import Dataset, Sample
from edge_vision.datasets.errors import DatasetError

GAP_FACTOR = 20
"""A clip is cut where numbers jump by more than this many times their usual step (and 50 at least): a pause."""
_LEAST_GAP = 50
REGULAR = 0.6
"""Files with nothing but a number for a name are frames of a clip where at least this share of the steps lies within
half of the usual one; numbers drawn at random (COCO's 000000000139.jpg) reach 0.35, and are images by themselves."""
_NUMBER = re.compile(r"^(.*?)[._\- ]?(?:frame|img|image)?[._\- ]?(\d+)$", re.IGNORECASE)
# Exporters append a hash to the name: clip_00012_jpg.rf.0a1b2c...
_EXPORTED = re.compile(r"_(?:jpe?g|png)\.rf\.[0-9a-f]+$", re.IGNORECASE)
_ONLY_COUNTED = ("", "frame", "img", "image", "picture", "photo")


def with_sequences(dataset: Dataset, group_by: str = "") -> Dataset:
    """The dataset with ``sequence`` and ``number`` of every sample.

    group_by: a regular expression looked for in the path relative to the dataset; the sequence is its first group, or
    the whole match. Without it, a sequence that the layout tells (MOT, deeper class folders) stays; else it is the
    folder and the stem without its trailing number ("a/clip3_000017.jpg": "clip3"), cut where the numbers jump (a
    pause; time stamps are numbers too). An image without a number is a sequence of its own. Splits are passed over:
    clip3 of train/ and clip3 of val/ are one clip, which is what a leak check is to find. Raises DatasetError for a
    group_by that does not compile or match.
    """
    if group_by:
        return replace(dataset, samples=tuple(_by_pattern(dataset, group_by)))
    samples = list(dataset.samples)
    groups: dict[str, list[tuple[int, int]]] = defaultdict(list)
    alone: dict[int, str] = {}
    for index, sample in enumerate(samples):
        if sample.sequence:
            continue
        stem = _EXPORTED.sub("", sample.image.stem)
        match = _NUMBER.match(stem)
        if match is None:
            alone[index] = _place(dataset, sample, stem)
            continue
        name = match[1].lower() if match[1].lower() in _ONLY_COUNTED else match[1]
        groups[_place(dataset, sample, "" if name in _ONLY_COUNTED else name)].append((int(match[2]), index))
    for index, name in alone.items():
        samples[index] = replace(samples[index], sequence=name)
    for name, members in groups.items():
        if (not name or name.endswith("/")) and not _regular(sorted(number for number, _ in members)):
            for number, index in members:
                samples[index] = replace(samples[index], sequence=f"{name}{samples[index].image.stem}", number=number)
            continue
        for part, (number, index) in _parts(sorted(members)):
            samples[index] = replace(samples[index], sequence=f"{name}#{part}" if part else name, number=number)
    return replace(dataset, samples=tuple(samples))


def _regular(numbers: list[int]) -> bool:
    steps = [b - a for a, b in pairwise(numbers) if b > a]
    if len(steps) < 2:
        return True
    usual = sorted(steps)[len(steps) // 2]
    return sum(0.5 * usual <= step <= 1.5 * usual for step in steps) >= REGULAR * len(steps)


def _parts(members: list[tuple[int, int]]) -> list[tuple[int, tuple[int, int]]]:
    """Members with the number of the part that they are in: cut at jumps."""
    steps = sorted(b[0] - a[0] for a, b in pairwise(members) if b[0] > a[0])
    limit = max(_LEAST_GAP, GAP_FACTOR * steps[len(steps) // 2]) if steps else 0
    part, parts = 0, []
    for index, member in enumerate(members):
        if index and member[0] - members[index - 1][0] > limit:
            part += 1
        parts.append((part, member))
    return parts


def _place(dataset: Dataset, sample: Sample, name: str) -> str:
    """Folder and name, without what tells only the split or layout."""
    relative = os.path.relpath(sample.image.parent, _base(dataset))
    passed = ("images", "labels", ".", "..", "train", "val", "valid", "validation", "test", "training")
    parts = [part for part in relative.split(os.sep) if part.lower() not in passed]
    if dataset.kind == "coco":  # train2017/ and the like
        parts = [part for part in parts if not re.fullmatch(r"(train|val|test)\d*", part)]
    return "/".join([*parts, name])


def _base(dataset: Dataset) -> Path:
    """The folder of a dataset that may be named by its file."""
    return dataset.path.parent if dataset.path.suffix in (".json", ".yaml", ".yml") else dataset.path


def _by_pattern(dataset: Dataset, group_by: str) -> list[Sample]:
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise DatasetError("--group-by", f"'{group_by}' is no regular expression: {error}") from None
    base = _base(dataset)
    found = []
    for sample in dataset.samples:
        name = os.path.relpath(sample.image, base).replace(os.sep, "/")
        match = pattern.search(name)
        if match is None:
            raise DatasetError("--group-by", f"'{group_by}' is not found in {name}", "it has to fit every image's path")
        sequence = (match[1] or "") if pattern.groups else match[0]
        number = _NUMBER.match(sample.image.stem)
        found.append(replace(sample, sequence=sequence, number=int(number[2]) if number else -1))
    return found
