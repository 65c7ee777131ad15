"""Real runs of a tiny model: in turns over the runtimes that are here, and against the libraries called by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_vision.benchmarks import backend_runs
from edge_vision.benchmarks.backend_auto import check_auto
from edge_vision.benchmarks.backends import EQUAL, FAILED, Settings, candidates
from edge_vision.benchmarks.by_hand_pairs import Pair, compare, pair_from, within
from edge_vision.benchmarks.by_hand_pairs import measure as measure_pair
from edge_vision.benchmarks.system import Monitor
from edge_vision.inference import load_bundle
from edge_vision.inference.bundle import Variant
from edge_vision.simulation import Conveyor, ConveyorOptions

SHORT = Settings(devices=("cpu",), precisions=("fp32",), seconds=0.4, rounds=2)


def test_two_runtimes_in_turns(tiny_bundle, tmp_path) -> None:
    pytest.importorskip("openvino")
    told: list[str] = []
    settings = replace(SHORT, backends=("onnxruntime", "openvino"))
    found, out = candidates(tiny_bundle, settings, 1, ())
    with Monitor(tmp_path) as monitor:
        rows = backend_runs.measure(tiny_bundle, found, settings, monitor, told.append)
    assert [row.backend for row in rows] == ["onnxruntime", "openvino"]
    assert out == []
    assert len(told) == backend_runs.steps(2, settings)
    for row in rows:
        assert row.reason == ""
        assert row.proof == EQUAL
        assert row.runs >= 2 * settings.rounds
        assert 0 < row.p50_ms <= row.p95_ms <= row.p99_ms <= row.max_ms
        assert row.infer_p50_ms > 0
        assert row.runs_per_s == pytest.approx(1e3 / row.mean_ms)
        assert row.paced_rate == 20
        assert 0 < row.growth_mib < row.rss_mib <= row.peak_mib + 1
        assert row.cores > 0
        assert row.cores_paced >= 0
        assert row.load_s > 0
        assert row.first_ms > 0
        assert row.version
        # An empty /sys tells nothing: nothing is shown, rather than 0.
        assert (row.temperature_c, row.throttled, row.frequency_share, row.power_w, row.energy_mj) == (None,) * 5


def test_one_that_fails_has_a_reason_and_the_others_go_on(tiny_bundle, tmp_path, monkeypatch) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    settings = replace(SHORT, backends=("onnxruntime",), threads=(1, 2))
    found, _ = candidates(tiny_bundle, settings, 1, ())
    found[0] = (replace(found[0][0], variant=Variant("onnxruntime", "fp32", broken)), found[0][1])
    # Memory for one at a time alone: they are measured one after the other.
    monkeypatch.setattr(backend_runs, "_room", lambda open_now: not list(open_now))
    with Monitor(tmp_path) as monitor:
        first, second = backend_runs.measure(tiny_bundle, found, settings, monitor)
    assert not first.measured
    assert "cannot open it" in first.reason
    assert second.measured
    assert second.threads == 2


def test_a_precision_that_the_device_does_not_take_is_said_and_not_measured(tiny_bundle, tmp_path) -> None:
    pytest.importorskip("openvino")
    settings = Settings(backends=("openvino",), devices=("cpu",), precisions=("fp16",), seconds=0.2, rounds=1)
    found, _ = candidates(tiny_bundle, settings, 1, ())
    with Monitor(tmp_path) as monitor:
        (row,) = backend_runs.measure(tiny_bundle, found, settings, monitor)
    # Few processors compute in half precision.
    assert row.measured or row.reason == "computes in fp32 here, not in fp16: see fp32"


def test_auto_is_looked_up_among_the_rows(tiny_bundle, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("EDGE_VISION_TUNING", "off")  # the first of the profile, without measuring
    monkeypatch.setenv("EDGE_VISION_CACHE", str(tmp_path))
    found, _ = candidates(tiny_bundle, replace(SHORT, backends=("onnxruntime", "openvino")), 1, ())
    rows = [replace(row, p50_ms=1.0, proof=EQUAL) for _, row in found]
    auto = check_auto(tiny_bundle, rows, "cpu", 1)
    assert (auto.ratio, auto.passed, auto.alone) == (1.0, True, False)
    # Slower than the other one in the table: the two are measured again, which decides.
    rows = [replace(row, p50_ms=2.0) if row.name == auto.picked else row for row in rows]
    slow = check_auto(tiny_bundle, rows, "cpu", 1)
    assert (slow.ratio, slow.passed, slow.alone) == (2.0, False, False)
    told: list[str] = []

    def again(two):
        told.extend(row.name for row in two)
        return [replace(row, p50_ms=3.0) for row in two]

    once_more = check_auto(tiny_bundle, rows, "cpu", 1, again)
    assert (once_more.ratio, once_more.passed, once_more.alone) == (1.0, True, True)
    assert told == [slow.picked, slow.fastest]
    unproven = check_auto(tiny_bundle, [replace(row, proof=FAILED) for row in rows], "cpu", 1)
    assert unproven.ratio is None
    assert not unproven.passed
    assert "edge_vision verify" in unproven.problem
    assert "was not measured" in check_auto(tiny_bundle, [], "cpu", 1).problem


# --- by hand --------------------------------------------------------------------------------------------------------


def image(width: int = 120, height: int = 90) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "opencv"])
def test_the_engine_and_the_library_by_hand_give_the_same(tiny_bundle, name) -> None:
    pytest.importorskip({"opencv": "cv2"}.get(name, name))
    ((choice, _),) = candidates(tiny_bundle, replace(SHORT, backends=(name,)), 1, ())[0]
    pair = measure_pair(tiny_bundle, choice, image(), 0.1)
    assert pair.reason == pair.note == ""
    assert pair.runs > 0
    assert pair.infer_runs > 0
    assert pair.raw_gap < 1e-5
    ours, by_hand, matched = pair.detections
    assert ours == by_hand == matched > 0
    assert pair_from({**vars_of(pair), "more": 1}) == pair


def vars_of(pair: Pair) -> dict:
    return {name: getattr(pair, name) for name in Pair.__slots__}


def test_a_pair_has_a_process_of_its_own(tiny_bundle) -> None:
    ((choice, _),) = candidates(tiny_bundle, replace(SHORT, backends=("onnxruntime",)), 1, ())[0]
    pair = compare(tiny_bundle, choice, image(), 0.1)
    assert (pair.backend, pair.reason) == ("onnxruntime", "")
    assert pair.run_ms > 0
    assert pair.infer_by_hand_ms > 0
    unknown = compare(tiny_bundle, replace(choice, backend="caffe"), image(), 0.1)
    assert "caffe" in unknown.reason


def test_the_loop_by_hand_of_the_bundled_detector(repository) -> None:
    """YOLOX with a letterbox, on a picture with parts in it."""
    bundle = load_bundle(repository / "models" / "conveyor_parts")
    frame = Conveyor(ConveyorOptions(width=400, height=400, fps=30, seed=2)).render(40).frame
    ((choice, _),) = candidates(bundle, replace(SHORT, backends=("onnxruntime",)), 1, ())[0]
    pair = measure_pair(bundle, choice, frame.image, 0.05)
    ours, by_hand, matched = pair.detections
    assert ours == by_hand == matched > 3


def test_the_loop_by_hand_of_ultralytics_layout(tmp_path) -> None:
    """YOLOv8 with a centred letterbox and RGB: boxes known, the same whatever the picture."""
    rows = np.zeros((1, 6, 84), np.float32)
    rows[0, :, 10] = (30, 20, 16, 12, 0.9, 0.1)
    rows[0, :, 11] = (31, 20, 16, 12, 0.8, 0.1)  # of the same
    rows[0, :, 50] = (40, 40, 10, 20, 0.1, 0.7)
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["table", "nothing"], ["output0"]),
    ]
    tables = [numpy_helper.from_array(np.zeros((), np.float32), "zero"), numpy_helper.from_array(rows, "table")]
    given = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])]
    result = [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, 84])]
    graph = helper.make_graph(nodes, "v8", given, result, tables)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "v8.onnx")
    bundle = load_bundle(tmp_path / "v8.onnx", decoder="yolov8")
    ((choice, _),) = candidates(bundle, replace(SHORT, backends=("onnxruntime",)), 1, ())[0]
    pair = measure_pair(bundle, choice, image(200, 100), 0.05)
    assert pair.detections == (2, 2, 2)


@pytest.mark.parametrize(
    ("ours", "by_hand", "kept"),
    [(10.6, 10.0, True), (10.61, 10.0, False), (0.15, 0.05, True), (0.2, 0.05, False), (None, 1.0, None)],
)
def test_the_limit_is_5_percent_and_a_tenth_of_a_millisecond(ours, by_hand, kept) -> None:
    assert within(ours, by_hand) is kept
