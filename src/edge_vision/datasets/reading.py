"""Reading a dataset whatever its layout: it is recognised; headers of images are read, their pixels not."""

from __future__ import annotations

import os
from pathlib import Path

from edge_vision.datasets.coco import is_coco, read_coco
from edge_vision.datasets.collecting import Progress, has_images, images_below
from edge_vision.datasets.description import Dataset
from edge_vision.datasets.errors import DatasetError
from edge_vision.datasets.image_folders import read_image_folder
from edge_vision.datasets.mot import mot_sequences, read_mot
from edge_vision.datasets.sequences import with_sequences
from edge_vision.datasets.yolo import read_yolo_folder, read_yolo_yaml

LAYOUTS = (
    "COCO: instances .json, or a folder with one a split; YOLO: data.yaml, or a folder with images/ and labels/; "
    "MOT: SEQUENCE/img1 and SEQUENCE/gt/gt.txt; classification: CLASS/*.jpg or SPLIT/CLASS/*.jpg"
)


def read_dataset(
    path: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    group_by: str = "",
    advance: Progress | None = None,
) -> Dataset:
    """The dataset at a path, its layout recognised (`LAYOUTS`), with every image's sequence found (`with_sequences`).

    images: folder that the file names of COCO files are relative to, where it is not about them. group_by: regular
    expression for sequences. advance: called with 1 for every image. What is wrong with single images and labels is
    listed in the dataset's issues; DatasetError where the whole cannot be used.
    """
    path = Path(path).expanduser()
    return with_sequences(_read(path, Path(images).expanduser() if images else None, advance), group_by)


def _read(path: Path, images: Path | None, advance: Progress | None) -> Dataset:
    if not path.exists():
        raise DatasetError(path, "there is no such file or folder", f"give one of: {LAYOUTS}")
    if path.is_file():
        if path.suffix == ".json":
            return read_coco([path], path, images, advance)
        if path.suffix in (".yaml", ".yml"):
            return read_yolo_yaml(path, advance)
        raise DatasetError(path, "is no dataset that is known", f"give one of: {LAYOUTS}")
    described = [file for file in sorted(path.glob("*.y*ml")) if b"names" in file.read_bytes()]
    if described:
        return read_yolo_yaml(described[0], advance)
    if sequences := mot_sequences(path):
        return read_mot(sequences, path, advance)
    for pattern in ("*.json", "annotations/*.json", "*/*.json"):
        if files := [file for file in sorted(path.glob(pattern)) if is_coco(file)]:
            return read_coco(files, path, images, advance)
    if any(path.glob("labels/")) or any(path.glob("*/labels/")):
        return read_yolo_folder(path, advance)
    if has_images(path):
        raise DatasetError(path, "has images but no labels", f"give one of: {LAYOUTS}")
    if not images_below(path):
        raise DatasetError(path, "is empty: there is not one image in it", f"give one of: {LAYOUTS}")
    return read_image_folder(path, advance)
