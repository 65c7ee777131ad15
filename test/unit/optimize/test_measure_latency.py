"""Latency and memory on a real runtime: who is measured, in which order, and what is said of those that cannot be.

How long anything takes is not asserted.
"""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed")

import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_vision.inference.bundle import Bundle, Thresholds, Variant
from edge_vision.inference.errors import BackendError
from edge_vision.inference.preprocess import InputSpec
from edge_vision.optimize.measure import apart
from edge_vision.optimize.measure.latency import ORIGINAL, measure_latency, paired_ratio
from edge_vision.optimize.measure.memory import measure_memory


def bundle(path: Path, channels: int = 4) -> Bundle:
    """A convolution of 16 x 16 pixels."""
    weights = numpy_helper.from_array(np.ones((channels, 3, 3, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, channels, 14, 14])],
        [weights],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    spec = InputSpec(16, 16, "x", "nchw", "float32", "rgb", 1.0, (0.0,) * 3, (1.0,) * 3, "stretch")
    variant = Variant("onnxruntime", "fp32", path)
    return Bundle("one", "detect", "yolox", ("a",), spec, Thresholds(), (variant,), path.parent, path)


@pytest.fixture
def original(tmp_path: Path) -> Bundle:
    return bundle(tmp_path / "a.onnx")


def test_models_are_measured_side_by_side(original, tmp_path):
    told: list[str] = []
    models = {"wide": bundle(tmp_path / "b.onnx", 8), "same": original}
    run = measure_latency(original, models, ("onnxruntime",), seconds=0.05, step=told.append)
    assert told == ["onnxruntime"]
    assert [row.model for row in run.rows] == [ORIGINAL, "wide", "same"]
    for row in run.rows:
        assert not row.problem
        assert row.rounds >= 8
        assert row.runs >= 2 * row.rounds
        assert 0 < row.p50_ms <= row.p95_ms
        assert row.load_s > 0
        assert (row.precision, row.threads, row.backend) == ("fp32", 1, "onnxruntime")
        assert row.low <= row.ratio <= row.high
        assert row.speedup == pytest.approx(1 / row.ratio)
    assert run.rows[0].ratio == run.rows[0].low == run.rows[0].high == 1.0
    assert run.of("wide", "onnxruntime") is run.rows[1]
    assert run.of("wide", "opencv") is None


def test_what_cannot_be_run_is_a_row_with_the_reason(original, tmp_path):
    file = tmp_path / "cut.onnx"
    file.write_bytes(original.variants[0].path.read_bytes()[:-30])
    broken = dataclasses.replace(original, variants=(Variant("onnxruntime", "fp32", file),))
    run = measure_latency(original, {"broken": broken}, ("onnxruntime",), seconds=0.02)
    assert not run.rows[0].problem
    assert "cannot open it" in run.rows[1].problem
    assert run.rows[1].ratio is None
    other = measure_latency(broken, {"good": original}, ("onnxruntime",), seconds=0.02)
    assert "cannot open it" in other.rows[0].problem
    assert other.rows[1].runs > 0
    assert other.rows[1].ratio is None  # of nothing


def test_a_backend_that_reads_none_of_the_files(original, tmp_path):
    text = dataclasses.replace(original, variants=(Variant("litert", "fp32", tmp_path / "a.tflite"),))
    run = measure_latency(original, {"other": text}, ("onnxruntime",), seconds=0.02)
    assert run.rows[1].problem == "backend onnxruntime reads .onnx, .ort; the model has a.tflite"
    (first, second) = measure_memory(original, {"other": text}, ("onnxruntime",), repeats=1)
    assert not first.problem
    assert second.problem == run.rows[1].problem


def test_memory_is_above_that_of_a_tiny_model(original, tmp_path):
    large = bundle(tmp_path / "large.onnx", 40_000)  # 4.3 MB of weights, 31 MB of activations
    small, much = measure_memory(original, {"large": large}, ("onnxruntime",), repeats=1)
    assert (small.model, much.model) == (ORIGINAL, "large")
    assert much.baseline > 10_000_000
    assert much.peak >= much.running > 30_000_000
    assert small.running < 8_000_000


def test_paired_ratios_see_through_a_machine_that_slows_down():
    draws = np.random.default_rng(0)
    slow = np.linspace(1, 5, 60)  # everything takes longer and longer
    base = slow * draws.normal(1, 0.02, 60)
    value, low, high = paired_ratio(0.5 * slow * draws.normal(1, 0.02, 60), base, draws)
    assert low < value < high
    assert low < 0.5 < high
    assert high - low < 0.03


def test_usable_backends_read_a_file_of_each(original, tmp_path):
    other = dataclasses.replace(original, variants=(Variant("litert", "fp32", tmp_path / "a.tflite"),))
    assert "onnxruntime" in apart.usable_backends([original])
    assert "onnxruntime" not in apart.usable_backends([original, other])


def test_a_process_that_dies_or_hangs_is_named():
    with pytest.raises(BackendError, match="was ended by signal 9"):
        apart.run_apart("signal.raise_signal", signal.SIGKILL, 60)
    with pytest.raises(BackendError, match="no answer within 1 s"):
        apart.run_apart("time.sleep", 30, 1)
    with pytest.raises(BackendError, match="TypeError: "):
        apart.run_apart("time.sleep", "long", 60)
    assert apart.run_apart("os.path.basename", "/a/b", 60) == "b"
