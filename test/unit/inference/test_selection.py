"""Which candidates there are, which are out and why, and what is said of the choice."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edge_vision.inference import BackendError, Bundle, Engine, InferenceError, ModelError, load_bundle
from edge_vision.inference.backends import backend
from edge_vision.inference.bundle import Variant, model_sha256
from edge_vision.inference.profiles import choose_profile
from edge_vision.inference.records import Record, write_records
from edge_vision.inference.selection import Wish, candidates

NO_OPENVINO = pytest.mark.skipif(bool(backend("openvino").available()), reason="openvino is not installed")


@pytest.fixture
def parts(write_model, make_yolox_rows) -> Bundle:
    outputs = {"output": make_yolox_rows([(40.0, 30.0, 20.0, 10.0, 0.9, 1)], 3, False)}
    return load_bundle(write_model(outputs, (1, 64, 96, 3), "uint8"), resize="letterbox")


@pytest.fixture
def two_profiles(tmp_path: Path) -> Path:
    """A profile of one's own: ONNX Runtime, then OpenVINO, in fp32 and bf16."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        "kind: mine\ncandidates: [{backend: onnxruntime}, {backend: openvino}]\nprecisions: [fp32, bf16]\n"
        "threads: {reserve: 0, limit: 1}\n"
    )
    return path


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def remove(name: str) -> None:
        monkeypatch.setattr(backend(name), "available", lambda: f"the Python package {name} is not installed")

    return remove


def names(bundle: Bundle, wish: Wish) -> tuple[list[str], dict[str, str]]:
    choices, refused = candidates(bundle, wish, *choose_profile(wish.hardware))
    found = [f"{c.backend} {c.device} {c.precision}" for c in choices]
    return found, {name: error.problem for name, error in refused}


@NO_OPENVINO
def test_without_measuring_the_first_of_the_profile_is_taken(parts: Bundle, two_profiles: Path, without) -> None:
    chosen = Engine.load(parts, hardware=str(two_profiles)).description
    assert (chosen.backend, chosen.device, chosen.precision) == ("onnxruntime", "cpu", "fp32")
    assert (chosen.threads, chosen.hardware) == (1, "mine")
    assert chosen.runtime_version
    assert "first of the profile that opens the model" in chosen.reason
    without("onnxruntime")
    fallback = Engine.load(parts, hardware=str(two_profiles)).description
    assert fallback.backend == "openvino"
    assert fallback.rejected[0][0] == "onnxruntime"
    assert "pip install onnxruntime" in fallback.rejected[0][1]
    assert "not onnxruntime: " in str(fallback)
    without("openvino")
    with pytest.raises(
        BackendError, match=r"no backend of the mine profile.*pip install onnxruntime.*pip install openvino"
    ):
        Engine.load(parts, hardware=str(two_profiles))


def test_what_is_asked_for_by_name_is_taken_or_refused(parts: Bundle, without) -> None:
    reason = Engine.load(parts, backend="onnxruntime", threads=2).description.reason
    assert reason == "asked for (backend onnxruntime); the only candidate"
    without("onnxruntime")
    with pytest.raises(BackendError, match=r"onnxruntime is not installed\. pip install onnxruntime"):
        Engine.load(parts, backend="onnxruntime")


@NO_OPENVINO
def test_other_precisions_need_a_record(parts: Bundle, two_profiles: Path) -> None:
    wish = Wish(hardware=str(two_profiles))
    found, out = names(parts, wish)
    assert found == ["onnxruntime cpu fp32", "openvino cpu fp32"]
    assert out == {"openvino cpu bf16 (model.onnx)": "not verified"}
    # Asked for by name it is taken as it is.
    assert names(parts, replace(wish, precision="bf16"))[0] == ["openvino cpu bf16"]

    sha = model_sha256(parts.variants[0].path)
    record = Record("openvino", "cpu", "bf16", "model.onnx", sha, backend("openvino").version(), passed=True)
    write_records(parts, [record])
    assert names(parts, wish)[0] == ["onnxruntime cpu fp32", "openvino cpu fp32", "openvino cpu bf16"]
    write_records(parts, [replace(record, passed=False, problem="matched 90 % of the boxes")])
    found, out = names(parts, wish)
    assert found == ["onnxruntime cpu fp32", "openvino cpu fp32"]
    assert out == {"openvino cpu bf16 (model.onnx)": "failed its verification: matched 90 % of the boxes"}
    write_records(parts, [replace(record, runtime_version="2019.1")])
    assert names(parts, wish)[1]["openvino cpu bf16 (model.onnx)"].startswith("verified with openvino 2019.1, and this")
    write_records(parts, [replace(record, machine="riscv64")])
    assert names(parts, wish)[1]["openvino cpu bf16 (model.onnx)"] == "not verified"
    write_records(parts, [replace(record, passed=False, problem="matched 90 % of the boxes")])
    # The precision alone is still a choice by itself of the backend; both named is the user's word.
    assert names(parts, replace(wish, precision="bf16"))[0] == []
    assert names(parts, replace(wish, precision="bf16", backend="openvino"))[0] == ["openvino cpu bf16"]


def test_fp32_that_failed_is_out_too(parts: Bundle, two_profiles: Path) -> None:
    sha = model_sha256(parts.variants[0].path)
    write_records(parts, [Record("openvino", "cpu", "fp32", "model.onnx", sha, "1", passed=False, problem="crashed")])
    assert "openvino cpu fp32" not in names(parts, Wish(hardware=str(two_profiles)))[0]


def test_a_record_of_another_file_does_not_count(parts: Bundle, two_profiles: Path) -> None:
    write_records(parts, [Record("openvino", "cpu", "bf16", "model.onnx", "0" * 64, "1", passed=True)])
    assert "openvino cpu bf16" not in names(parts, Wish(hardware=str(two_profiles)))[0]


def test_a_file_made_for_the_backend_comes_before_onnx(parts: Bundle, two_profiles: Path, tmp_path: Path) -> None:
    other = tmp_path / "quantised.onnx"
    shutil.copy(parts.variants[0].path, other)
    whole = replace(parts, variants=(*parts.variants, Variant("openvino", "int8", other)))
    wish = Wish(hardware=str(two_profiles), precision="int8")
    choices, refused = candidates(whole, wish, *choose_profile(wish.hardware))
    assert [(c.backend, c.variant.path.name) for c in choices if c.backend == "openvino"] == [
        ("openvino", "quantised.onnx")
    ] or bool(backend("openvino").available())
    assert not refused or bool(backend("openvino").available())


@NO_OPENVINO
def test_a_device_nobody_has(parts: Bundle) -> None:
    with pytest.raises(InferenceError, match=r"openvino npu7 fp32.*openvino has no device npu7 here"):
        Engine.load(parts, device="npu7")


def test_a_file_that_is_no_model_is_no_backends_fault(parts: Bundle) -> None:
    parts.file.write_text("<html>not found</html>")
    with pytest.raises(ModelError, match="this is not an ONNX model"):
        Engine.load(parts)
