"""Small datasets on disk, made of real image files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest


def picture(seed: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Something with structure of its own: blurred noise."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def write_image() -> Callable[..., Path]:
    def write(path: Path, seed: int = 0, width: int = 64, height: int = 48) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), picture(seed, width, height))
        return path

    return write


@pytest.fixture
def write_coco(write_image: Callable[..., Path]) -> Callable[..., Path]:
    """A COCO file with an image a name; boxes: name to list of (category_id, [l, t, w, h])."""

    def write(
        path: Path, boxes: dict[str, list[tuple[int, list[float]]]], labels: tuple[str, ...] = ("a", "b")
    ) -> Path:
        content: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
        content["categories"] = [{"id": i, "name": name} for i, name in enumerate(labels, 1)]
        for number, (name, found) in enumerate(boxes.items(), 1):
            write_image(path.parent / "images" / name, sum(name.encode()))
            content["images"].append({"id": number, "file_name": name, "width": 64, "height": 48})
            content["annotations"] += [{"image_id": number, "category_id": c, "bbox": b} for c, b in found]
        path.write_text(json.dumps(content))
        return path

    return write
