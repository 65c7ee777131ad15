"""Splits written for trainers: all files or none, never half of them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from edge_vision.datasets.description import Dataset, Sample
from edge_vision.datasets.errors import DatasetError
from edge_vision.datasets.splitting import SplitResult

FORMATS = ("auto", "coco", "yolo", "list")


def write_splits(result: SplitResult, folder: str | os.PathLike[str], kind: str = "auto") -> list[Path]:
    """Write the splits into a new (or empty) folder; the files written.

    kind: `coco`: instances_SPLIT.json each (boxes as read: what the issues name is left out; masks and crowds are not
    kept); `yolo`: data.yaml and a list of images each, labels stay where they are (YOLO datasets only); `list`: one
    SPLIT.txt each with an image a line, for classification its class id behind a tab. auto: yolo stays yolo, other
    detection becomes coco, classification lists. Beside them splits.json: seed, ratios, sequences and counts. Images
    are not copied, and named by their absolute paths. Raises DatasetError where the folder has files in it or cannot
    be written, and leaves nothing behind then.
    """
    folder = Path(folder).expanduser()
    dataset = result.dataset
    if kind == "auto":
        kind = "list" if dataset.task == "classification" else "yolo" if dataset.kind == "yolo" else "coco"
    if kind not in FORMATS:
        raise DatasetError(kind, "is no format of splits", f"choose one of {', '.join(FORMATS)}")
    if kind == "coco" and dataset.task == "classification":
        raise DatasetError(kind, "holds boxes, and this dataset has classes of images", "write lists: --format list")
    if kind == "yolo" and dataset.kind != "yolo":
        raise DatasetError(kind, f"needs YOLO's label files, and this dataset is {dataset.kind}", "write --format coco")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DatasetError(folder, "is there already and not empty", "name a new folder, or remove it first")
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        names = []
        for name, content in _contents(result, folder.resolve(), kind).items():
            (temporary / name).write_text(content, encoding="utf-8")
            names.append(name)
        temporary.chmod(0o755)
        os.replace(temporary, folder)
    except OSError as error:
        raise DatasetError(
            folder, f"cannot be written ({error.strerror})", "make room or name another folder"
        ) from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)
    return [folder / name for name in names]


def _contents(result: SplitResult, folder: Path, kind: str) -> dict[str, str]:
    dataset = result.dataset
    files: dict[str, str] = {}
    for split in result.wanted:
        samples = dataset.in_split(split)
        if kind == "coco":
            files[f"instances_{split}.json"] = json.dumps(_coco(dataset, samples))
        else:
            rows = [str(sample.image.resolve()) for sample in samples]
            if dataset.task == "classification":
                rows = [f"{row}\t{sample.class_ids[0]}" for row, sample in zip(rows, samples, strict=True)]
            files[f"{split}.txt"] = "\n".join(rows) + "\n"
    if kind == "yolo":
        content: dict[str, Any] = {"path": str(folder)} | {split: f"{split}.txt" for split in result.wanted}
        files["data.yaml"] = yaml.safe_dump(content | {"names": dict(enumerate(dataset.labels))}, sort_keys=False)
    elif kind == "list":
        files["classes.txt"] = "\n".join(dataset.labels) + "\n"
    files["splits.json"] = json.dumps(split_facts(result), indent=2) + "\n"
    return files


def split_facts(result: SplitResult) -> dict[str, Any]:
    """What was dealt out how, for JSON."""
    return {
        "dataset": str(result.dataset.path),
        "seed": result.seed,
        "splits": {
            name: {
                "wanted": result.wanted[name],
                "reached": result.reached[name],
                "images": result.images[name],
                "objects": dict(zip(result.dataset.labels, result.objects[name], strict=True)),
                "sequences": list(result.sequences[name]),
            }
            for name in result.wanted
        },
        "notes": list(result.notes),
    }


def _coco(dataset: Dataset, samples: tuple[Sample, ...]) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, sample in enumerate(samples, 1):
        name = str(sample.image.resolve())
        images.append({"id": number, "file_name": name, "width": sample.width, "height": sample.height})
        for (x1, y1, x2, y2), kind in zip(sample.boxes.tolist(), sample.class_ids.tolist(), strict=True):
            box = [round(v, 4) for v in (x1, y1, x2 - x1, y2 - y1)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": kind + 1,
                    "bbox": box,
                    "area": round(box[2] * box[3], 4),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": label} for number, label in enumerate(dataset.labels, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}
