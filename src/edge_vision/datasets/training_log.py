"""Training logs as CSV: epochs, losses and scores, whatever the trainer calls its columns.

Known by name: Keras' CSVLogger (epoch, loss, val_loss, accuracy, val_accuracy), Ultralytics' results.csv
(train/box_loss, ..., val/box_loss, ..., metrics/mAP50-95(B); parts of a loss are summed), Lightning's metrics.csv
(train_loss_step, train_loss_epoch, val_loss, with a row for each of them), and the plain train_loss and val_loss.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_vision.datasets.errors import DatasetError

_TRAIN = (
    "train_loss",
    "training_loss",
    "train_loss_epoch",
    "loss_train",
    "train_loss_total",
    "train_total_loss",
    "loss",
)
_VAL = ("val_loss", "valid_loss", "validation_loss", "val_loss_epoch", "loss_val", "eval_loss", "dev_loss", "test_loss")
_STEP = ("train_loss_step", "loss_step")
_SCORES = ("map50_95", "map", "map50", "top1", "accuracy", "acc", "f1", "miou", "iou", "dice", "auc")


@dataclass(frozen=True, slots=True)
class TrainingLog:
    """Curves over epochs, (N,) float64 each: NaN where the log says so or has no value.

    epochs: numbers as in the log. train, val: losses, None where the log has none (train always has one). stated: (N,)
    bool, the log has a number, NaN or infinity there and not an empty cell. score: 0..1 on validation, larger is
    better, None where there is none. columns: which column each is.
    """

    path: str
    epochs: NDArray[np.float64]
    train: NDArray[np.float64]
    val: NDArray[np.float64] | None
    train_stated: NDArray[np.bool_]
    val_stated: NDArray[np.bool_] | None
    score: NDArray[np.float64] | None
    columns: dict[str, str]

    def __len__(self) -> int:
        return len(self.epochs)


def read_training_log(path: str | Path, *, train: str = "", val: str = "", score: str = "") -> TrainingLog:
    """Read a log; train, val, score name its columns where their own names do not tell.

    Rows of one epoch are joined: the last value counts, of columns by step their mean. Raises DatasetError where there
    is no loss, or what is no number.
    """
    path = Path(path).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DatasetError(
            path, f"cannot be read ({error.strerror})", "give the CSV file that the trainer wrote"
        ) from None
    except UnicodeDecodeError:
        raise DatasetError(path, "is no text", "give the CSV file that the trainer wrote") from None
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) < 2:
        raise DatasetError(path, "has no rows below its header", "let the training run for some epochs")
    delimiter = max(",;\t", key=lines[0].count)
    rows = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter, skipinitialspace=True))
    heads = [head.strip() for head in rows[0]]
    keys = [_key(head) for head in heads]
    body = [[cell.strip() for cell in row] for row in rows[1:]]

    def named(name: str) -> list[int]:
        if name not in heads:
            raise DatasetError(path, f"has no column '{name}'", f"it has: {', '.join(heads)}")
        return [heads.index(name)]

    train_columns = named(train) if train else _losses(keys, _TRAIN, "train") or _losses(keys, _STEP, "")
    val_columns = named(val) if val else _losses(keys, _VAL, "val")
    if not train_columns:
        raise DatasetError(
            path,
            "no column is known as the training loss",
            f"name it with --train (and --val); the columns are: {', '.join(heads)}",
        )
    score_columns = named(score) if score else _score(keys)
    epochs, groups = _epochs(path, keys, body)
    train_values, train_stated = _curve(path, heads, keys, body, groups, train_columns)
    val_values, val_stated = _curve(path, heads, keys, body, groups, val_columns) if val_columns else (None, None)
    kept = train_stated | (val_stated if val_stated is not None else False)
    if not train_stated.any():
        raise DatasetError(path, f"column {heads[train_columns[0]]} is empty", "name another with --train")
    scores = _curve(path, heads, keys, body, groups, score_columns)[0] if score_columns else None
    if scores is not None and np.nanmax(scores, initial=0.0) > 1.0:
        scores = scores / 100.0
    columns = {"train": train_columns, "val": val_columns, "score": score_columns}
    return TrainingLog(
        str(path),
        epochs[kept],
        train_values[kept],
        None if val_values is None else val_values[kept],
        train_stated[kept],
        None if val_stated is None else val_stated[kept],
        None if scores is None else scores[kept],
        {name: " + ".join(heads[i] for i in found) for name, found in columns.items() if found},
    )


def _key(head: str) -> str:
    """`metrics/mAP50-95(B)` becomes `metrics_map50_95`."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"\([^)]*\)", "", head.lower())).strip("_")


def _losses(keys: Sequence[str], known: Sequence[str], prefix: str) -> list[int]:
    for name in known:
        if name in keys:
            return [keys.index(name)]
    parts = [i for i, key in enumerate(keys) if prefix and re.fullmatch(rf"{prefix}(?:id|idation|ing)?_\w*loss", key)]
    return [i for i in parts if not keys[i].endswith("_step")]


def _score(keys: Sequence[str]) -> list[int]:
    for name in _SCORES:
        for prefix in ("val_", "metrics_", "valid_", "validation_", "metrics_accuracy_", "test_"):
            if prefix + name in keys:
                return [keys.index(prefix + name)]
    return []


def _epochs(path: Path, keys: Sequence[str], body: list[list[str]]) -> tuple[NDArray[np.float64], list[list[int]]]:
    """The epochs' numbers, in their order, and the rows of each."""
    if "epoch" not in keys:
        return np.arange(1.0, len(body) + 1), [[i] for i in range(len(body))]
    place = keys.index("epoch")
    rows_of: dict[float, list[int]] = {}
    for i, row in enumerate(body):
        cell = row[place] if place < len(row) else ""
        if cell:
            rows_of.setdefault(_number(path, i, "epoch", cell), []).append(i)
    order = sorted(rows_of)
    return np.array(order), [rows_of[epoch] for epoch in order]


def _curve(
    path: Path,
    heads: Sequence[str],
    keys: Sequence[str],
    body: list[list[str]],
    groups: list[list[int]],
    columns: Sequence[int],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The sum of some columns by epoch, and where all of them have a value."""
    total, stated = np.zeros(len(groups)), np.ones(len(groups), bool)
    for column in columns:
        for place, rows in enumerate(groups):
            cells = [(i, body[i][column]) for i in rows if column < len(body[i]) and body[i][column]]
            values = [_number(path, i, heads[column], cell) for i, cell in cells]
            stated[place] &= bool(values)
            if values:
                total[place] += float(np.mean(values)) if keys[column].endswith("_step") else values[-1]
    return np.where(stated, total, np.nan), stated


def _number(path: Path, row: int, head: str, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        if cell.lower() in ("none", "null", "na"):
            return math.nan
        raise DatasetError(path, f"row {row + 1} below the header, {head}: '{cell}' is no number") from None
