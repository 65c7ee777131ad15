"""Anchor boxes of SSD: read from a file, or generated as TensorFlow's object detection API does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from edge_vision.inference.errors import ModelError

GENERATOR_DEFAULTS: Mapping[str, Any] = {
    "min_scale": 0.2,
    "max_scale": 0.95,
    "aspect_ratios": (1.0, 2.0, 0.5, 3.0, 0.3333),
    "interpolated_aspect_ratio": 1.0,
    "reduce_lowest": True,
    "feature_maps": None,
}
"""`ssd_anchor_generator` of the pipelines of ssd_mobilenet_v1 and v2. feature_maps: sides, or [rows, columns]; where
absent, six levels of stride 16 and onwards, each half of the one before, rounded up."""


def read_anchors(file: Path, key: str) -> NDArray[np.float32]:
    """Anchors (A, 4): cy, cx, h, w in fractions of the image, from `.npy` or a YAML (or JSON) list of rows."""
    try:
        table = np.load(file) if file.suffix == ".npy" else np.array(yaml.safe_load(file.read_text(encoding="utf-8")))
        anchors = np.asarray(table, np.float32)
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        remedy = "give a .npy file of shape (A, 4), or YAML with a list of [cy, cx, h, w]"
        raise ModelError(file, f"cannot be read as anchors: {error}", remedy, key) from error
    if anchors.ndim != 2 or anchors.shape[1] != 4:
        raise ModelError(file, f"holds anchors of shape {anchors.shape}", "give (A, 4): cy, cx, h, w in fractions", key)
    return anchors


def feature_maps(width: int, height: int, levels: int = 6) -> list[tuple[int, int]]:
    """(rows, columns) of the levels of an SSD-MobileNet: stride 16, then halved, rounding up."""
    rows, columns = -(-height // 16), -(-width // 16)
    found = []
    for _ in range(levels):
        found.append((rows, columns))
        rows, columns = -(-rows // 2), -(-columns // 2)
    return found


def generate_anchors(width: int, height: int, parameters: Mapping[str, Any]) -> NDArray[np.float32]:
    """Anchors (A, 4): cy, cx, h, w in fractions of the image, level by level, cells row-major, then a cell's shapes.

    Scales rise evenly from min_scale to max_scale over the levels. A level has a box a ratio, and one between its scale
    and the next (their geometric mean); the lowest has three where `reduce_lowest`: ratio 1 at scale 0.1, and 2 and 0.5
    at its own. Liu et al. 2016 (arXiv:1512.02325), as object_detection/anchor_generators of tensorflow/models has it.
    """
    p = {**GENERATOR_DEFAULTS, **parameters}
    maps = [
        (int(m[0]), int(m[1])) if isinstance(m, Sequence) else (int(m), int(m))
        for m in p["feature_maps"] or feature_maps(width, height)
    ]
    scales = [*np.linspace(p["min_scale"], p["max_scale"], len(maps)), 1.0]
    levels = []
    for level, (rows, columns) in enumerate(maps):
        scale, following = scales[level], scales[level + 1]
        if level == 0 and p["reduce_lowest"]:
            shapes = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        else:
            shapes = [(scale, ratio) for ratio in p["aspect_ratios"]]
            if p["interpolated_aspect_ratio"] > 0:
                shapes.append((np.sqrt(scale * following), p["interpolated_aspect_ratio"]))
        sizes = np.array([(s / np.sqrt(ratio), s * np.sqrt(ratio)) for s, ratio in shapes])
        y, x = np.mgrid[:rows, :columns]
        centres = np.stack([(y.ravel() + 0.5) / rows, (x.ravel() + 0.5) / columns], 1)
        boxes = np.empty((len(centres), len(sizes), 4), np.float32)
        boxes[..., :2], boxes[..., 2:] = centres[:, None], sizes
        levels.append(boxes.reshape(-1, 4))
    return np.concatenate(levels)
