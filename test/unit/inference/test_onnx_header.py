"""The header reader against the onnx package, and against files that are no models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.inference import ModelError
from edge_vision.inference.onnx_header import read_onnx_header


def by_the_library(path: Path) -> tuple[list[tuple[str, list[int | None]]], list[tuple[str, list[int | None]]]]:
    graph = onnx.load(path).graph

    def describe(values: object) -> list[tuple[str, list[int | None]]]:
        return [(v.name, [d.dim_value or None for d in v.type.tensor_type.shape.dim]) for v in values]

    return describe(graph.input), describe(graph.output)


def test_the_shared_model_reads_as_the_onnx_package_reads_it(shared_data: Path) -> None:
    path = shared_data / "models" / "fastestdet_coco.onnx"
    header = read_onnx_header(path)
    inputs, outputs = by_the_library(path)
    assert [(spec.name, list(spec.shape)) for spec in header.inputs] == inputs
    assert [(spec.name, list(spec.shape)) for spec in header.outputs] == outputs
    assert header.inputs[0].dtype == "float32"


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16"])
def test_shapes_types_and_metadata(write_model, dtype: str) -> None:
    path = write_model(
        {"a": np.zeros((1, 6, 8)), "b": np.zeros((1, 2))}, ("batch", 8, 8, 3), dtype, {"names": "{0: 'käse'}"}
    )
    header = read_onnx_header(path)
    assert [str(spec) for spec in header.inputs] == [f"images {dtype} [?, 8, 8, 3]"]
    assert [spec.shape for spec in header.outputs] == [(1, 6, 8), (1, 2)]
    assert header.metadata == {"names": "{0: 'käse'}"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"this is not a model\n", "a text file that begins with 'this is not a model'"),
        (b"<!DOCTYPE html><html>", "a text file that begins with '<!DOCTYPE html>"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12", "git lfs pull"),
        (b"", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "not an ONNX model"),
    ],
)
def test_what_is_no_model_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not an ONNX model") as caught:
        read_onnx_header(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.remedy


def test_a_model_that_was_cut_off_says_so(write_model) -> None:
    path = write_model({"a": np.zeros((1, 600, 8))})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cut off"):
        read_onnx_header(path)


@given(content=st.binary(max_size=200))
def test_random_bytes_give_a_model_error_and_nothing_else(tmp_path_factory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("random") / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        read_onnx_header(path)
