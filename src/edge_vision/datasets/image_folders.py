"""Classification as folders of images: CLASS/... or SPLIT/CLASS/..., as most trainers read it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_vision.datasets.collecting import Collector, Progress, images_below
from edge_vision.datasets.description import Dataset
from edge_vision.datasets.errors import DatasetError

_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def read_image_folder(folder: Path, advance: Progress | None = None) -> Dataset:
    """Class ids are places in the sorted names of the class folders, over all splits. Deeper folders are sequences.

    Raises DatasetError where there is no folder of a class.
    """
    children = _folders(folder)
    split_folders = {child: _SPLITS[child.name.lower()] for child in children if child.name.lower() in _SPLITS}
    if split_folders and len(split_folders) == len(children):
        classes = [(split, one) for child, split in split_folders.items() for one in _folders(child)]
    else:
        classes = [("", child) for child in children]
    labels = sorted({one.name for _, one in classes})
    if not labels:
        raise DatasetError(folder, "has no folders of classes", "put the images of each class in a folder of its name")
    collector = Collector(folder, "image folders", "classification", labels, advance)
    for split, one in classes:
        images = images_below(one)
        if not images:
            collector.note("unlabelled image", one, "the folder of this class is empty")
        for image in images:
            size = collector.measure(image, split)
            if size is None:
                continue
            inner = image.parent.relative_to(one)
            sequence = "" if inner == Path(".") else f"{one.name}/{inner.as_posix()}"
            kind = np.array([labels.index(one.name)], np.int64)
            collector.add(image, size, np.zeros((0, 4)), kind, split=split, sequence=sequence)
    return collector.dataset()


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
