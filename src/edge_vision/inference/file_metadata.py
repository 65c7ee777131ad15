"""What a model file, or a file beside it, says of the model: class names, image size, task.

Ultralytics writes the same keys (names, imgsz, task, description, ...) into an ONNX file's `metadata_props`, as Python
literals; into `metadata.yaml` beside an OpenVINO or ncnn model; and into a `.tflite` as JSON in a zip archive appended
to the file, where TensorFlow's metadata writer puts label files as well.
"""

from __future__ import annotations

import ast
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from edge_vision.datatypes import Labels
from edge_vision.inference.errors import ModelError

TASKS = ("detect", "segment", "pose")
"""Tasks whose boxes can be read; masks and keypoints are left alone."""

REFUSED = {
    "obb": "its boxes are rotated, which detections here are not",
    "classify": "it names the whole image and finds no boxes",
}


class Metadata:
    """Properties of a model as its file has them. Raises ModelError for a task that has no boxes to read."""

    def __init__(self, path: Path, properties: Mapping[str, Any], labels: Labels = ()) -> None:
        self.path = path
        self.properties = properties
        self.own_labels = labels
        self.task = str(properties.get("task", "detect"))
        if self.task not in TASKS:
            problem = f"is a model for the task {self.task!r} by its metadata"
            reason = REFUSED.get(self.task)
            remedy = f"use a model for one of {', '.join(TASKS)}; others are not supported"
            raise ModelError(path, f"{problem}: {reason}" if reason else problem, remedy, "metadata.task")

    def _literal(self, key: str) -> Any:
        value = self.properties.get(key)
        try:
            return ast.literal_eval(value) if isinstance(value, str) else value
        except (ValueError, SyntaxError):
            return None  # not there, or not Ultralytics' form: the metadata only pre-fills

    def labels(self) -> Labels:
        """The class names, () where the file has none."""
        names = self._literal("names")
        if isinstance(names, dict):
            table = {int(key): name for key, name in names.items() if str(key).isdigit()}
            if len(table) == len(names) and set(table) == set(range(len(table))):
                return tuple(str(table[index]) for index in range(len(table)))
        if isinstance(names, (list, tuple)):
            return tuple(str(name) for name in names)
        return self.own_labels

    def size(self) -> tuple[int, int] | None:
        """(width, height) of the training image."""
        size = self._literal("imgsz")
        if isinstance(size, (list, tuple)) and len(size) == 2 and all(isinstance(v, int) for v in size):
            return size[1], size[0]
        return (size, size) if isinstance(size, int) else None

    def text(self) -> dict[str, str]:
        """All properties as text."""
        return {str(key): str(value) for key, value in self.properties.items()}


def beside(path: Path) -> Metadata:
    """The metadata of a file that is not ONNX: from an archive appended to it, or from `metadata.yaml` beside it."""
    properties, labels = _appended(path) if path.suffix == ".tflite" else ({}, ())
    card = path.parent / "metadata.yaml"
    if not properties and card.is_file():
        try:
            content = yaml.safe_load(card.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            content = None  # it only pre-fills
        properties = content if isinstance(content, dict) else {}
    return Metadata(path, properties, labels)


def _appended(path: Path) -> tuple[dict[str, Any], Labels]:
    """Properties and class names in the zip archive at the end of a `.tflite`, where there is one."""
    if not zipfile.is_zipfile(path):
        return {}, ()
    properties: dict[str, Any] = {}
    labels: Labels = ()
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            try:
                text = archive.read(name).decode("utf-8")
            except (UnicodeDecodeError, zipfile.BadZipFile, RuntimeError):
                continue
            found = _mapping(text)
            if found is not None:
                properties.update(found)
            elif name.endswith(".txt") and not labels:
                labels = _unique(text)
    return properties, labels


def _mapping(text: str) -> dict[str, Any] | None:
    """A mapping written as JSON, or as a Python literal."""
    if not text.lstrip().startswith("{"):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError):
            continue
        if isinstance(found, dict):
            return found
    return None


def _unique(text: str) -> Labels:
    """Class names, one a line; places that are not used (`???`, or a name twice) get names of their own."""
    names: list[str] = []
    for line in text.strip().splitlines():
        name = line.strip()
        names.append(f"unused_{len(names)}" if not name or name == "???" or name in names else name)
    return tuple(names)
