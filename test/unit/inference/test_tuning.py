"""Candidates measured in processes of their own, compared, remembered; and what happens when one of them dies."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.inference import BackendError, Bundle, Engine, load_bundle
from edge_vision.inference.backends import backend
from edge_vision.inference.bundle import Variant
from edge_vision.inference.hardware import detect_hardware
from edge_vision.inference.opening import Choice
from edge_vision.inference.tuning import compare, difference
from edge_vision.inference.worker import Worker

pytestmark = pytest.mark.skipif(
    bool(backend("openvino").available()), reason="openvino, the other runtime, is not here"
)


@pytest.fixture
def parts(write_model, make_yolox_rows) -> Bundle:
    outputs = {"output": make_yolox_rows([(40.0, 30.0, 20.0, 10.0, 0.9, 1)], 3, False)}
    return load_bundle(write_model(outputs, (1, 64, 96, 3), "uint8"), resize="letterbox")


def choice(bundle: Bundle, name: str, precision: str = "fp32", variant: Variant | None = None) -> Choice:
    return Choice(name, "cpu", precision, 1, variant or bundle.variants[0])


def test_auto_measures_once_and_remembers(parts: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_VISION_TUNING", "on")
    monkeypatch.setenv("EDGE_VISION_CACHE", str(tmp_path / "cache"))
    profile = tmp_path / "mine.yaml"
    profile.write_text("kind: mine\ncandidates: [{backend: onnxruntime}, {backend: openvino}]\nprecisions: [fp32]\n")
    lines: list[str] = []
    with Engine.load(parts, hardware=str(profile), log=lines.append) as engine:
        first = engine.description
    assert lines[0].startswith("measuring 2 ways to run model")
    assert {timing.candidate for timing in first.measured} == {
        "onnxruntime cpu fp32 (model.onnx)", "openvino cpu fp32 (model.onnx)",
    }  # fmt: skip
    p50 = {timing.candidate: timing.p50 for timing in first.measured}
    taken = f"{first.backend} cpu fp32 (model.onnx)"
    assert p50[taken] <= 1.1 * min(p50.values())
    assert first.reason.startswith("fastest of 2 measured")
    assert f"{taken}: p50" in str(first)

    lines.clear()
    with Engine.load(parts, hardware=str(profile), log=lines.append) as engine:
        assert (engine.description.backend, engine.description.measured) == (first.backend, first.measured)
    assert not lines
    # Another file of the same name is another model.
    parts.file.write_bytes(parts.file.read_bytes() + b"\x00" * 0)
    (kept,) = (tmp_path / "cache" / "tuning").glob("*.json")
    kept.write_text("{broken")
    Engine.load(parts, hardware=str(profile), log=lines.append).close()
    assert lines, "a broken cache is measured anew"
    assert json.loads(kept.read_text())["order"]


def test_one_that_computes_something_else_is_out(parts: Bundle, write_model, make_yolox_rows, tmp_path: Path) -> None:
    rows = make_yolox_rows([(40.0, 30.0, 20.0, 10.0, 0.9, 1)], 3, False)
    rows[:, :, 0] += 0.05
    wrong = Variant("openvino", "fp32", write_model({"output": rows}, (1, 64, 96, 3), "uint8", name="wrong.onnx"))
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"no model at all")
    choices = [
        choice(parts, "openvino", variant=wrong),
        choice(parts, "onnxruntime"),
        choice(parts, "openvino", variant=Variant("openvino", "fp32", garbage)),
    ]
    found = compare(parts, choices, detect_hardware(), cache=tmp_path)
    assert [c.backend for c in found.order] == ["onnxruntime"]
    reasons = dict(found.rejected)
    assert "its outputs differ from ONNX Runtime's by" in reasons["openvino cpu fp32 (wrong.onnx)"]
    assert "garbage.onnx" in reasons["openvino cpu fp32 (garbage.onnx)"] or "cannot" in str(reasons)


def test_a_precision_that_the_machine_does_not_have_is_out(parts: Bundle, tmp_path: Path) -> None:
    with Worker() as worker:
        taken = worker.open(parts, choice(parts, "openvino", "fp16")).description.precision
    if taken == "fp16":
        pytest.skip("this CPU computes in fp16")
    found = compare(
        parts, [choice(parts, "onnxruntime"), choice(parts, "openvino", "fp16")], detect_hardware(), cache=tmp_path
    )
    assert dict(found.rejected)["openvino cpu fp16 (model.onnx)"] == f"computes in {taken} here, not in fp16"


def test_where_nothing_can_be_kept_it_is_measured_all_the_same(parts: Bundle, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    lines: list[str] = []
    choices = [choice(parts, "onnxruntime"), choice(parts, "openvino")]
    found = compare(parts, choices, detect_hardware(), lines.append, cache=blocked)
    assert len(found.timings) == 2


def test_a_worker_does_what_the_engine_does(parts: Bundle) -> None:
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 256, (80, 120, 3), dtype=np.uint8) for _ in range(2)]
    with Worker() as worker, Engine.load(parts, backend="onnxruntime") as engine:
        loaded = worker.open(parts, choice(parts, "onnxruntime"))
        assert loaded.load > 0
        assert loaded.first > 0
        assert not loaded.final
        assert loaded.description.backend == "onnxruntime"
        assert len(worker.times(5)) == len(worker.times(5, whole=True)) == 5
        usage = worker.usage()
        assert usage.rss > loaded.before.rss > 0
        assert usage.cpu > loaded.before.cpu
        from edge_vision.datatypes import Frame

        for found, image in zip(worker.detect(images), images, strict=True):
            np.testing.assert_allclose(found.boxes, engine.infer(Frame(image)).boxes)
        assert [o.shape for o in worker.raw(images)[0]] == [(1, 126, 8)]


def test_a_worker_that_dies_or_hangs_is_an_error_and_not_the_end(parts: Bundle) -> None:
    with Worker() as worker:
        worker.open(parts, choice(parts, "onnxruntime"))
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(BackendError, match="was ended by signal 9"):
            worker.times(3)
    with Worker(timeout=0.5) as worker:
        threading.Timer(0.1, os.kill, (worker.pid, signal.SIGSTOP)).start()
        time.sleep(0.2)
        with pytest.raises(BackendError, match="no answer within"):
            worker.usage()
        pid = worker.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with Worker() as worker, pytest.raises(BackendError, match="nothing is open"):
        worker.times(1)
    missing = replace(parts.variants[0], path=parts.file.with_name("gone.onnx"))
    with Worker() as worker, pytest.raises(BackendError, match=r"gone\.onnx"):
        worker.open(parts, choice(parts, "onnxruntime", variant=missing))


@given(st.integers(0, 2**32 - 1), st.floats(-5, 5), st.floats(1e-6, 10))
def test_difference_is_that_share_of_the_range(seed: int, shift: float, span: float) -> None:
    values = np.random.default_rng(seed).random((1, 9, 6)).astype(np.float64)
    values = (values - values.min()) / np.ptp(values) * span
    assert difference([values], [values]) == 0
    assert difference([values], [values + shift]) == pytest.approx(abs(shift) / span, rel=1e-6, abs=1e-9)
    shuffled = values[:, np.random.default_rng(seed).permutation(9)]
    assert difference([values], [shuffled], ordered=False) == 0


def test_difference_of_what_cannot_be_compared() -> None:
    with pytest.raises(BackendError, match="of shape"):
        difference([np.zeros((1, 3))], [np.zeros((1, 4))])
    assert difference([np.zeros((1, 3))], [np.full((1, 3), np.nan)]) == np.inf
