"""Which ways to run a model `edge_vision bench backends` tries, and what it says of those that it cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_vision.benchmarks.backends import (
    DIFFERS,
    EQUAL,
    FAILED,
    UNVERIFIED,
    VERIFIED,
    Row,
    Settings,
    candidates,
    disturbed,
    fastest,
    row_from,
)
from edge_vision.inference.backends import BACKENDS
from edge_vision.inference.bundle import Variant, model_sha256
from edge_vision.inference.errors import BackendError
from edge_vision.inference.records import Record


def names(found) -> list[str]:
    return [row.name for _, row in found]


def test_every_backend_is_a_candidate_or_has_a_reason(tiny_bundle) -> None:
    found, out = candidates(tiny_bundle, Settings(), 1, ())
    assert {row.backend for _, row in found} | {row.backend for row in out} == set(BACKENDS)
    assert all(row.reason for row in out)
    assert "onnxruntime cpu fp32 x1" in names(found)
    assert len(names(found)) == len(set(names(found)))


def test_threads_multiply_the_candidates_of_the_processor(tiny_bundle) -> None:
    settings = Settings(threads=(1, 2, 4), backends=("onnxruntime",), devices=("cpu",), precisions=("fp32",))
    found, out = candidates(tiny_bundle, settings, 1, ())
    assert names(found) == [f"onnxruntime cpu fp32 x{count}" for count in (1, 2, 4)]
    assert [choice.threads for choice, _ in found] == [1, 2, 4]
    assert out == []


def test_the_profile_gives_the_threads_where_none_are_named(tiny_bundle) -> None:
    found, _ = candidates(tiny_bundle, Settings(backends=("onnxruntime",), precisions=("fp32",)), 3, ())
    assert {row.threads for _, row in found if row.device == "cpu"} == {3}


def test_a_backend_without_a_file_that_it_reads_says_what_makes_one(tiny_bundle) -> None:
    pytest.importorskip("ncnn")
    found, out = candidates(tiny_bundle, Settings(backends=("ncnn",)), 1, ())
    assert found == []
    assert out[0].reason == "reads .param; the model has tiny.onnx: `edge_vision convert` makes one"


def test_a_device_that_is_not_here(tiny_bundle) -> None:
    found, out = candidates(tiny_bundle, Settings(backends=("onnxruntime",), devices=("npu",)), 1, ())
    assert found == []
    assert out[0].reason.startswith("has no device npu here, only cpu")


def test_a_backend_that_is_none_is_an_error_of_the_row(tiny_bundle) -> None:
    found, out = candidates(tiny_bundle, Settings(backends=("caffe",)), 1, ())
    assert found == []
    assert "there is no backend 'caffe'" in out[0].reason


def test_a_file_of_another_precision_is_taken_for_it(tiny_bundle) -> None:
    model = tiny_bundle.variants[0]
    quantised = Variant("onnxruntime", "int8", model.path.with_name("tiny_int8.onnx"))
    bundle = replace(tiny_bundle, variants=(model, quantised))
    settings = Settings(backends=("onnxruntime",), devices=("cpu",), precisions=("fp32", "int8"))
    found, _ = candidates(bundle, settings, 1, ())
    assert [(choice.precision, choice.variant.path.name) for choice, _ in found] == [
        ("fp32", "tiny.onnx"),
        ("int8", "tiny_int8.onnx"),
    ]


@pytest.mark.parametrize(("passed", "proof"), [(True, VERIFIED), (False, FAILED)])
def test_records_of_verify_are_shown(tiny_bundle, passed, proof) -> None:
    path = tiny_bundle.variants[0].path
    record = Record(
        "onnxruntime", "cpu", "fp32", path.name, model_sha256(path), "1.0", passed, "" if passed else "no box"
    )
    settings = Settings(backends=("onnxruntime",), devices=("cpu",), precisions=("fp32",))
    ((_, row),) = candidates(tiny_bundle, settings, 1, (record,))[0]
    assert (row.proof, row.proof_note) == (proof, record.problem)
    stale = replace(record, sha256="0" * 64)
    ((_, row),) = candidates(tiny_bundle, settings, 1, (stale,))[0]
    assert row.proof == UNVERIFIED


def test_the_fastest_is_one_that_is_proven() -> None:
    rows = [
        Row("a", "cpu", "int8", proof=FAILED, p50_ms=1.0),
        Row("b", "cpu", "fp16", proof=UNVERIFIED, p50_ms=2.0),
        Row("c", "cpu", "fp32", proof=DIFFERS, p50_ms=3.0),
        Row("d", "cpu", "fp32", proof=EQUAL, p50_ms=5.0),
        Row("e", "cpu", "fp32", proof=VERIFIED, p50_ms=4.0),
        Row("f", "cpu", "fp32", proof=VERIFIED, reason="failed"),
    ]
    best = fastest(rows)
    assert best is not None
    assert best.backend == "e"
    assert fastest(rows[:3]) is None


def test_a_row_of_a_later_version_can_be_read() -> None:
    row = row_from({"backend": "a", "device": "cpu", "precision": "fp32", "p50_ms": 1.5, "colour": "blue"})
    assert (row.name, row.p50_ms) == ("a cpu fp32", 1.5)
    with pytest.raises(TypeError):
        row_from({"backend": "a"})


def test_an_error_has_its_remedy_in_the_row(tiny_bundle, monkeypatch) -> None:
    from edge_vision.inference.backends import onnxruntime_

    def refuse() -> tuple[str, ...]:
        raise BackendError("the driver is not loaded", "sudo modprobe it")

    monkeypatch.setattr(onnxruntime_, "devices", refuse)
    _, out = candidates(tiny_bundle, Settings(backends=("onnxruntime",)), 1, ())
    assert out == [Row("onnxruntime", "", "", reason="the driver is not loaded; sudo modprobe it")]


def test_other_processes_show_in_what_one_thread_gets() -> None:
    quiet = [Row("a", "cpu", "fp32", 1, cores=0.99), Row("b", "cpu", "fp32", 2, cores=0.5), Row("c", "gpu", "fp32", 1)]
    assert disturbed(quiet) == ""
    assert "0.55 to 0.99 of a core" in disturbed([*quiet, Row("d", "cpu", "fp32", 1, cores=0.55)])
    assert disturbed([]) == ""
