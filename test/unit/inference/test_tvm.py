"""TVM: compiled once, taken from the cache later, built anew where that is damaged."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_vision.inference.backends import SessionOptions, onnxruntime_, tvm_
from edge_vision.inference.backends.tvm_schedule import register_block
from edge_vision.inference.errors import BackendError, ModelError

pytest.importorskip("tvm")


@pytest.fixture
def small_model(tmp_path: Path) -> Path:
    """y = relu(conv(x)), z = -x; sizes of the image left open."""
    weights = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"]),
        helper.make_node("Neg", ["x"], ["z"]),
    ]
    sizes: list[str | int | None] = [1, 3, "height", "width"]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, *sizes[2:]]),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, sizes),
        ],
        [numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_compiled_once_and_rebuilt_where_the_cache_is_damaged(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    builds = []
    compile_library: Callable[..., None] = tvm_.compile_library

    def compile_and_count(*args: Any) -> None:
        builds.append(args)
        compile_library(*args)

    monkeypatch.setattr(tvm_, "compile_library", compile_and_count)
    options = SessionOptions(input_shapes={"x": (1, 3, 8, 8)}, outputs=("z", "y"), cache=tmp_path / "cache")
    tensor = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)

    first = tvm_.open(small_model, options)
    assert [(spec.name, spec.shape) for spec in first.inputs] == [("x", (1, 3, 8, 8))]
    assert [(spec.name, spec.shape) for spec in first.outputs] == [("z", (1, 3, 8, 8)), ("y", (1, 4, 8, 8))]
    results = [array.copy() for array in first.run([tensor])]
    np.testing.assert_array_equal(results[0], -tensor)
    assert results[1].min() == 0 < results[1].max()
    first.run([tensor + 1])

    second = tvm_.open(small_model, options)
    assert len(builds) == 1
    np.testing.assert_array_equal(second.run([tensor])[1], results[1])

    (library,) = (tmp_path / "cache").glob("small-*.so")
    copy = tmp_path / "model.so"
    copy.write_bytes(library.read_bytes())
    os.unlink(library)  # it is mapped: to cut it off would end this process
    library.write_bytes(copy.read_bytes()[:5000])
    np.testing.assert_array_equal(tvm_.open(small_model, options).run([tensor])[1], results[1])
    assert len(builds) == 2

    np.testing.assert_array_equal(tvm_.open(copy, options).run([tensor])[1], results[1])
    assert "Warning" not in capfd.readouterr().err
    with pytest.raises(BackendError, match="no output 'q'"):
        tvm_.open(copy, SessionOptions(outputs=("q",)))


def test_a_library_for_another_processor_is_refused(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its instructions would end the process."""
    target = tvm_.host_target(tvm_.import_runtime())
    library = tmp_path / "model.so"
    tvm_.compile_library(small_model, library, {"": (1, 3, 8, 8)})
    monkeypatch.setattr(tvm_, "host_target", lambda tvm: {**target, "mcpu": "znver9"})
    with pytest.raises(ModelError, match=f"compiled for.*{target['mcpu']}.*znver9"):
        tvm_.open(library, SessionOptions())


@given(
    channels=st.integers(1, 300),
    columns=st.integers(1, 400),
    lanes=st.sampled_from([4, 8, 16]),
    registers=st.sampled_from([12, 24]),
)
def test_blocks_of_sums_divide_their_extents_and_fit_the_registers(
    channels: int, columns: int, lanes: int, registers: int
) -> None:
    width, vectors, wide = register_block(channels, columns, lanes, registers)
    assert channels % (width * vectors) == 0
    assert columns % wide == 0
    assert -(-width // lanes) * vectors * wide <= registers


def test_every_kind_of_loop_nest_keeps_its_meaning(tmp_path: Path) -> None:
    """Strided, grouped and depthwise convolutions with what follows them, pooling, resizing, against ONNX Runtime."""
    rng = np.random.default_rng(0)
    sizes = {"w0": (24, 3, 3, 3), "b0": (24,), "w1": (24, 1, 3, 3), "w2": (20, 12, 1, 1), "w3": (7, 20, 3, 3)}
    weights = [numpy_helper.from_array(rng.normal(size=size).astype(np.float32), name) for name, size in sizes.items()]
    weights.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "double"))
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("MaxPool", ["r0"], ["p0"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Conv", ["p0", "w1"], ["c1"], pads=[1, 1, 1, 1], group=24),
        helper.make_node("Add", ["c1", "p0"], ["a1"]),
        helper.make_node("Conv", ["a1", "w2"], ["c2"], group=2),
        helper.make_node("Sigmoid", ["c2"], ["s2"]),
        helper.make_node("Resize", ["s2", "", "double"], ["z2"], mode="nearest"),
        helper.make_node("Conv", ["z2", "w3"], ["c3"], pads=[1, 1, 1, 1]),
        helper.make_node("AveragePool", ["c3"], ["p3"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Softmax", ["p3"], ["y"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 44])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 7, 8, 11])],
        weights,
    )
    path = tmp_path / "kinds.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    tensor = rng.normal(size=(1, 3, 32, 44)).astype(np.float32)
    session = tvm_.open(path, SessionOptions(threads=2, cache=tmp_path / "cache"))
    assert session.loops == "ordered"
    ours = session.run([tensor])[0]
    reference = onnxruntime_.open(path, SessionOptions()).run([tensor])[0]
    np.testing.assert_allclose(ours, reference, atol=1e-5)


def test_what_it_cannot_compile_says_why(small_model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(ModelError, match=r"leaves sizes open.*(?i:use backend onnxruntime)"):
        tvm_.open(small_model, SessionOptions(cache=cache))
    assert list(cache.iterdir()) == []


def test_a_library_that_is_none_is_a_model_error(tmp_path: Path) -> None:
    path = tmp_path / "model.so"
    path.write_bytes(b"not a library at all")
    with pytest.raises(ModelError, match="no library that tvm"):
        tvm_.open(path, SessionOptions())


def test_other_devices_are_refused(small_model: Path) -> None:
    with pytest.raises(BackendError, match="tvm runs on cpu"):
        tvm_.open(small_model, SessionOptions("cuda"))
    with pytest.raises(BackendError, match="not in fp16"):
        tvm_.open(small_model, SessionOptions(precision="fp16"))
