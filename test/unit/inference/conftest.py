"""Small ONNX models, written by the tests that need them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

ModelWriter = Callable[..., Path]


@pytest.fixture
def write_model(tmp_path: Path) -> ModelWriter:
    """A function that writes an ONNX file whose outputs are the given arrays whatever the image is.

    Every output is array + 0 * mean(input), so that the runtimes keep the input.
    """

    def write(
        outputs: Mapping[str, NDArray],
        shape: tuple[int | str, ...] = (1, 3, 64, 96),
        dtype: str = "float32",
        metadata: Mapping[str, str] | None = None,
        name: str = "model.onnx",
        open_outputs: bool = False,
        opset: int = 17,
    ) -> Path:
        nodes = [
            helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["pixels"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        ]
        tables = [numpy_helper.from_array(np.zeros((), np.float32), "zero")]
        results = []
        for key, array in outputs.items():
            tables.append(numpy_helper.from_array(array.astype(np.float32), f"{key}_table"))
            nodes.append(helper.make_node("Add", [f"{key}_table", "nothing"], [key]))
            sizes = [f"d{i}" for i in range(array.ndim)] if open_outputs else array.shape
            results.append(helper.make_tensor_value_info(key, TensorProto.FLOAT, sizes))
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        image = helper.make_tensor_value_info("images", kind, shape)
        model = helper.make_model(
            helper.make_graph(nodes, "test", [image], results, tables),
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=8,
        )
        helper.set_model_props(model, dict(metadata or {}))
        path = tmp_path / name
        onnx.save(model, path)
        return path

    return write


def yolox_rows(objects: list[tuple[float, float, float, float, float, int]], classes: int, decoded: bool) -> NDArray:
    """YOLOX output (1, 126, 5 + classes) for a 96x64 input (strides 8, 16, 32) with the objects given.

    objects: (cx, cy, w, h in pixels, score, class), each put into its cell of stride 8.
    """
    levels = [(8, 12, 8), (16, 6, 4), (32, 3, 2)]
    rows = []
    for stride, columns, lines in levels:
        for gy in range(lines):
            for gx in range(columns):
                centre = ((gx + 0.5) * stride, (gy + 0.5) * stride) if decoded else (0.5, 0.5)
                size = (float(stride),) * 2 if decoded else (0.0, 0.0)
                rows.append([*centre, *size, 0.0, *([0.5] * classes)])
    for cx, cy, w, h, score, class_id in objects:
        gx, gy = int(cx // 8), int(cy // 8)
        row = rows[gy * 12 + gx]
        row[:4] = [cx, cy, w, h] if decoded else [cx / 8 - gx, cy / 8 - gy, np.log(w / 8), np.log(h / 8)]
        row[4] = score
        row[5:] = [0.0] * classes
        row[5 + class_id] = 1.0
    return np.array([rows], np.float32)


@pytest.fixture
def make_yolox_rows() -> Callable[..., NDArray]:
    return yolox_rows
