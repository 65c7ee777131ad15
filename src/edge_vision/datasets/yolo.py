"""YOLO's text labels: `class cx cy w h` a line, relative to the image; data.yaml names the splits and classes.

Layout: Darknet, github.com/AlexeyAB/darknet; data.yaml as later trainers keep it (path, train, val, test, names). The
label of .../images/a/b.jpg is .../labels/a/b.txt, or lies beside the image.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from edge_vision.datasets.collecting import Collector, Progress, images_below, split_name
from edge_vision.datasets.description import Dataset
from edge_vision.datasets.errors import DatasetError

_SPLITS = ("train", "val", "valid", "validation", "test")


def read_yolo_yaml(file: Path, advance: Progress | None = None) -> Dataset:
    """A dataset described by a data.yaml. Raises DatasetError where it is none, or names what is not there."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(file, f"cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DatasetError(file, f"is no YAML: {error}") from None
    if not isinstance(content, dict) or not any(content.get(name) for name in _SPLITS):
        raise DatasetError(file, "names no splits", "write train: and val: with the folders or lists of their images")
    labels = _names(file, content)
    roots = [file.parent]
    if isinstance(content.get("path"), str):
        roots.insert(0, Path(os.path.expanduser(content["path"])))
        roots.insert(1, file.parent / content["path"])
    collector = Collector(file, "yolo", "detection", labels, advance)
    for name in _SPLITS:
        entries = content.get(name) or []
        for entry in [entries] if isinstance(entries, str) else entries:
            for image in _images(file, roots, str(entry), name):
                _add(collector, image, split_name(name) or name)
    return collector.dataset()


def read_yolo_folder(folder: Path, advance: Progress | None = None) -> Dataset:
    """A folder with images/ and labels/ (splits as sub-folders of both, or the other way about) and no data.yaml.

    Names of classes from classes.txt, obj.names or labels.txt where there is one, else their numbers.
    """
    images = [path for path in images_below(folder) if "images" in path.parts]
    labels = [path for path in folder.rglob("*.txt") if "labels" in path.parts]
    names = _names_file(folder)
    if not names:
        names = [str(number) for number in range(_most_class(labels) + 1)]
    collector = Collector(folder, "yolo", "detection", names, advance)
    expected = {os.path.abspath(label_of(image)) for image in images}
    for image in images:
        parts = image.relative_to(folder).parts[:-1]
        _add(collector, image, next((split_name(part) for part in parts if split_name(part)), ""))
    for label in labels:
        if os.path.abspath(label) not in expected and label.stem not in ("classes", "labels"):
            collector.note("stray label", label, "no image of that name")
    return collector.dataset()


def label_of(image: Path) -> Path:
    """Where the labels of an image are: in labels/ instead of the last images/, or beside it."""
    parts = list(image.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _add(collector: Collector, image: Path, split: str) -> None:
    size = collector.measure(image, split)
    if size is None:
        return
    label = label_of(image)
    try:
        lines = label.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        collector.note("unlabelled image", image, f"no {label.name}")
        lines = []
    boxes, classes, numbers = [], [], []
    for number, line in enumerate(lines, 1):
        parts = line.split()
        if not parts:
            continue
        try:
            values = [float(part) for part in parts]
            kind = int(values[0])
            if kind != values[0] or (len(values) not in (5, 6) and not (len(values) >= 7 and len(values) % 2)):
                raise ValueError(f"{len(values)} numbers, class {parts[0]}")
        except (ValueError, OverflowError) as error:
            text = f"expected `class cx cy w h` or a polygon: {error}"
            collector.note("malformed label", f"{label}, line {number}", text)
            continue
        if len(values) <= 6:  # a sixth number is a score
            cx, cy, w, h = values[1:5]
            box = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
        else:
            x, y = values[1::2], values[2::2]
            box = (min(x), min(y), max(x), max(y))
        boxes.append(box)
        classes.append(kind)
        numbers.append(number)
    scaled = np.array(boxes, np.float64).reshape(-1, 4) * [size[0], size[1], size[0], size[1]]
    collector.add(
        image, size, scaled, np.array(classes, np.int64), split=split, where=lambda i: f"{label}, line {numbers[i]}"
    )


def _images(file: Path, roots: list[Path], entry: str, name: str) -> list[Path]:
    """The images of a folder, or those in a list file, each relative to it."""
    for root in roots:
        path = root / entry
        if path.is_dir():
            return images_below(path)
        if path.is_file() and path.suffix == ".txt":
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            return [path.parent / line.strip() for line in lines if line.strip()]
    # data.yaml in a folder beside the splits, as exporters write it: ../train/images
    path = file.parent / entry.removeprefix("../")
    if path.is_dir():
        return images_below(path)
    raise DatasetError(file, f"{name}: there is no folder or list {entry}", f"it is looked for in {roots[0].resolve()}")


def _names(file: Path, content: dict[str, Any]) -> list[str]:
    names = content.get("names")
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if names is None and isinstance(content.get("nc"), int):
        names = [str(number) for number in range(content["nc"])]
    if not isinstance(names, list) or not names:
        raise DatasetError(file, "names no classes", "write names: [...] in the order of the class ids from 0")
    if isinstance(content.get("nc"), int) and content["nc"] != len(names):
        raise DatasetError(file, f"nc is {content['nc']} but there are {len(names)} names", "correct one of them")
    return [str(name) for name in names]


def _names_file(folder: Path) -> list[str]:
    for name in ("classes.txt", "obj.names", "labels.txt", "labels/classes.txt"):
        if (folder / name).is_file():
            return [line.strip() for line in (folder / name).read_text(encoding="utf-8").splitlines() if line.strip()]
    return []


def _most_class(labels: list[Path]) -> int:
    most = 0
    for label in labels:
        for line in label.read_text(encoding="utf-8", errors="replace").splitlines():
            first = line.split()[:1]
            if first and first[0].isdecimal():
                most = max(most, int(first[0]))
    return most
