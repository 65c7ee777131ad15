"""COCO's instances files (cocodataset.org/#format-data): boxes are [left, top, width, height] in pixels from (0, 0)."""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from edge_vision.datasets.collecting import Collector, Progress, first_folder, split_name
from edge_vision.datasets.description import Dataset
from edge_vision.datasets.errors import DatasetError


def is_coco(path: Path) -> bool:
    """Whether a JSON file may be COCO's, by its beginning and end: whole files can be hundreds of megabytes."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            text = file.read(1 << 16)
            if size > 1 << 17:
                file.seek(-(1 << 16), os.SEEK_END)
                text += file.read()
    except OSError:
        return False
    return sum(f'"{key}"'.encode() in text for key in ("images", "annotations", "categories", "file_name")) >= 2


def read_coco(files: list[Path], root: Path, images: Path | None = None, advance: Progress | None = None) -> Dataset:
    """One dataset of one or several instances files, each a split named after it or its folder.

    images: the folder that file_name is relative to; where None it is looked for about each file. Class ids are places
    in the list of categories, sorted by id. Raises DatasetError for what is no COCO file, or where categories differ.
    """
    contents = [(path, _content(path)) for path in files]
    tables = {path: _categories(path, content) for path, content in contents}
    first, table = next(iter(tables.items()))
    for path, other in tables.items():
        if other != table:
            raise DatasetError(path, f"has other categories than {first}", "give the splits one table of categories")
    collector = Collector(root, "coco", "detection", list(table.values()), advance)
    place = {category: index for index, category in enumerate(table)}
    for path, content in contents:
        split = (split_name(path.stem) or split_name(path.parent.name)) if len(files) > 1 else split_name(path.stem)
        split = split or (path.stem if len(files) > 1 else "")
        _read_file(collector, path, content, place, images, split)
    return collector.dataset()


def _read_file(
    collector: Collector, path: Path, content: dict[str, Any], place: dict[Any, int], images: Path | None, split: str
) -> None:
    of_image: dict[Any, list[tuple[int, Any]]] = defaultdict(list)
    for index, record in enumerate(content.get("annotations") or []):
        of_image[record.get("image_id") if isinstance(record, dict) else None].append((index, record))
    folder = images
    for index, record in enumerate(content["images"]):
        name = record.get("file_name") if isinstance(record, dict) else None
        if not isinstance(name, str) or "id" not in record:
            collector.note("malformed label", f"{path}, image {index}", "needs id and file_name")
            continue
        records = of_image.pop(record["id"], [])
        # Only the first is looked for: the others lie where it does, or are missing.
        folder = folder or first_folder(_folders(path, split), name) or path.parent
        size = collector.measure(folder / name, split, (_whole(record.get("width")), _whole(record.get("height"))))
        if size is None:
            continue
        boxes, classes, numbers = [], [], []
        for number, annotation in records:
            try:
                left, top, width, height = (float("nan" if v is None else v) for v in annotation["bbox"])
                category = annotation["category_id"]
            except (KeyError, TypeError, ValueError) as error:
                collector.note("malformed label", f"{path}, annotation {number}", repr(error))
                continue
            boxes.append((left, top, left + width, top + height))
            classes.append(place.get(category, -1))
            numbers.append(number)
            if category not in place:
                collector.note(
                    "unknown class", f"{path}, annotation {number}", f"category {category} is not in the table"
                )
        known = [i for i, one in enumerate(classes) if one >= 0]
        collector.add(
            folder / name,
            size,
            np.array([boxes[i] for i in known], np.float64).reshape(-1, 4),
            np.array([classes[i] for i in known], np.int64),
            split=split,
            where=lambda i, numbers=numbers, known=known: f"{path}, annotation {numbers[known[i]]}",  # type: ignore[misc]
        )
    for image_id, records in of_image.items():
        for number, _ in records:
            collector.note("stray label", f"{path}, annotation {number}", f"image_id {image_id} is no image")


def _folders(path: Path, split: str) -> list[Path]:
    """Where the images of an instances file usually lie."""
    bases = [path.parent, path.parent.parent]
    names = ["", "images", path.stem, path.stem.replace("instances_", ""), split, f"images/{split}"]
    return [base / name for base in bases for name in names]


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(path, f"cannot be read ({error.strerror})") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DatasetError(path, f"is no JSON: {error}", "write the annotations again") from None
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise DatasetError(
            path,
            "is no COCO instances file, it has no list of images",
            "give the file with images, annotations and categories; results files hold no truth",
        )
    if not content["images"]:
        raise DatasetError(path, "lists no images", "the dataset is empty: export it again")
    return content


def _categories(path: Path, content: dict[str, Any]) -> dict[Any, str]:
    try:
        rows = {row["id"]: str(row["name"]) for row in content["categories"]}
    except (KeyError, TypeError):
        rows = {}
    if not rows:
        raise DatasetError(path, "has no categories (a list of id and name)", "add the table of classes")
    return dict(sorted(rows.items(), key=lambda row: str(row[0]).zfill(12)))


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0
