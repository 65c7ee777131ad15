"""Small detectors as ONNX files, and bundles of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

Object = tuple[float, float, float, float, float, int]  # centre x, y, width, height in px, score, class

OBJECTS: tuple[Object, ...] = (
    (20.0, 20.0, 16.0, 12.0, 0.9, 0),
    (60.0, 28.0, 24.0, 20.0, 0.8, 1),
    (40.0, 50.0, 30.0, 18.0, 0.6, 2),
    (84.0, 52.0, 12.0, 14.0, 0.45, 0),
)


def write_detector(path: Path, objects: Sequence[Object] = OBJECTS, quantised: bool = False) -> None:
    """An ONNX file for 96x64 float images whose YOLOX rows (decoded, 3 classes) are always these objects.

    quantised: with a pair of QuantizeLinear and DequantizeLinear in it.
    """
    rows = [
        [(x + 0.5) * stride, (y + 0.5) * stride, stride, stride, 0.0, 0.5, 0.5, 0.5]
        for stride, columns, lines in ((8, 12, 8), (16, 6, 4), (32, 3, 2))
        for y in range(lines)
        for x in range(columns)
    ]
    for cx, cy, w, h, score, class_id in objects:
        rows[int(cy // 8) * 12 + int(cx // 8)] = [cx, cy, w, h, score, *np.eye(3)[class_id]]
    tables = [
        numpy_helper.from_array(np.zeros((), np.float32), "zero"),
        numpy_helper.from_array(np.array([rows], np.float32), "table"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["table", "nothing"], ["boxes"]),
    ]
    if quantised:
        tables += [
            numpy_helper.from_array(np.float32(1 / 255), "scale"),
            numpy_helper.from_array(np.uint8(0), "origin"),
        ]
        pair = (("QuantizeLinear", "mean", "small"), ("DequantizeLinear", "small", "again"))
        nodes[1:1] = [helper.make_node(kind, [a, "scale", "origin"], [b]) for kind, a, b in pair]
        nodes[3].input[0] = "again"
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, (1, 3, 64, 96))
    result = helper.make_tensor_value_info("boxes", TensorProto.FLOAT, (1, len(rows), 8))
    graph = helper.make_graph(nodes, "test", [image], [result], tables)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture(scope="session")
def make_detector() -> Callable[..., None]:
    return write_detector


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., Path]:
    """A function that writes a bundle's model.yaml beside files that are there: variants as in model.yaml."""

    def make(folder: Path, *variants: dict) -> Path:
        folder.mkdir(exist_ok=True)
        if not (folder / "model.onnx").exists():
            write_detector(folder / "model.onnx")
        content = {
            "format": 1,
            "name": folder.name,
            "task": "detect",
            "decoder": "yolox",
            "labels": ["nut", "bolt", "gear"],
            "input": {
                "width": 96,
                "height": 64,
                "layout": "nchw",
                "dtype": "float32",
                "colour": "bgr",
                "resize": "letterbox",
            },
            "decoder_options": {"strides": [8, 16, 32], "decoded": True},
            "thresholds": {"score": 0.3, "iou": 0.5},
            "variants": [{"backend": "onnxruntime", "precision": "fp32", "file": "model.onnx"}, *variants],
        }
        (folder / "model.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        return folder

    return make


@pytest.fixture(scope="session")
def objects() -> tuple[Object, ...]:
    return OBJECTS


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve grey images 96x64, image i of value 10 * i."""
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(12):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((64, 96, 3), 10 * index, np.uint8))
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("EDGE_VISION_CACHE", str(folder))
    return folder
