"""From what a user names to `Data`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from edge_vision.datatypes import Labels
from edge_vision.inference.preprocess import InputSpec
from edge_vision.optimize.data import Data, Split
from edge_vision.optimize.loading import conveyor, parts
from edge_vision.optimize.loading.common import SPLITS, DataError, Limits, MakeBar, Warn
from edge_vision.optimize.loading.files import open_files
from edge_vision.simulation.options import scene_of

FORMS = (
    "sim://conveyor (detectors) or sim://parts (classifiers) of the twin, a folder of class folders, or a COCO or YOLO "
    "dataset"
)
SCENES = {
    "detect": ("conveyor", conveyor.USUAL, conveyor.conveyor_split),
    "classify": ("parts", parts.USUAL, parts.parts_split),
}


def load_data(
    reference: str | Path,
    spec: InputSpec,
    task: str,
    labels: Labels,
    *,
    limits: Limits | None = None,
    cache: Path | None = None,
    bar: MakeBar | None = None,
    warn: Warn | None = None,
    group_by: str = "",
    seed: int = 0,
) -> Data:
    """Training, calibration and test images for a network of `task` ("detect" or "classify") with input `spec` and
    classes `labels`; truth is in places of `labels`.

    reference: `sim://conveyor?...` or `sim://parts` (docs/optimize.md), whose `train=`, `calibration=` and `test=` tell
    how many; a folder of class folders, or a COCO or YOLO dataset. Splits that a dataset has are kept (without a
    test split `val` is it); without, whole clips are dealt out by `seed`, frames of one clip never. limits: the most
    images of each split. group_by: regular expression for clips, as in `read_dataset`. cache: folder for images made
    ready, None for the user's cache. bar(description, total): makes progress bars. warn: is told what is doubtful
    (leaks between splits, classes without images, few clips), None for Python's warnings.

    Raises DataError, with the file and the remedy, for data that is not there, empty, of another task, of classes that
    the network does not know, unreadable, or too little.
    """
    limits = limits or Limits()
    tell = warn or (lambda text: warnings.warn(text, stacklevel=3))
    if task not in SCENES:
        raise DataError(reference, f"there is no data for the task {task}", "give a detector or a classifier")
    if not labels:
        raise DataError(reference, "the model names no classes", "write `labels` into its bundle")
    text = str(reference)
    if urlsplit(text).scheme == "sim":
        return _of_twin(text, spec, task, labels, limits, cache, bar)
    if "://" in text:
        raise DataError(text, "is neither of the twin nor on disk", f"give {FORMS}")
    files = open_files(Path(text).expanduser(), task, labels, limits, tell, bar, group_by, seed)

    def load(fitted: InputSpec) -> Data:
        return _data(files.name, labels, fitted, lambda split: files.split(split, fitted, cache, bar), load)

    return load(spec)


def _of_twin(
    reference: str, spec: InputSpec, task: str, labels: Labels, limits: Limits, cache: Path | None, bar: MakeBar | None
) -> Data:
    scene, usual, make = SCENES[task]
    if scene_of(reference) != scene:
        known = " or ".join(f"sim://{name} for {kind}" for kind, (name, _, _) in SCENES.items())
        raise DataError(reference, f"is no data for the task {task}", f"give {known}")
    counts, plain = conveyor.scene_counts(reference, limits, usual)
    name = f"{plain}{'&' if '?' in plain else '?'}" + "&".join(f"{split}={count}" for split, count in counts.items())

    def load(fitted: InputSpec) -> Data:
        return _data(
            name, labels, fitted, lambda split: make(plain, split, counts[split], fitted, labels, cache, bar), load
        )

    return load(spec)


def _data(
    name: str, labels: Labels, spec: InputSpec, make: Callable[[str], Split], load: Callable[[InputSpec], Data]
) -> Data:
    train, calibration, test = (make(split) for split in SPLITS)
    data: Data

    def at(width: int, height: int) -> Data:
        return data if (width, height) == (spec.width, spec.height) else load(replace(spec, width=width, height=height))

    data = Data(name, labels, train, calibration, test, at)
    return data
