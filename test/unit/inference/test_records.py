"""Records of verification: round trip, where they lie, what they hold for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edge_vision.inference import Bundle, ModelError, load_bundle
from edge_vision.inference.bundle import model_sha256
from edge_vision.inference.records import Record, find_record, read_records, records_path, write_records


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_VISION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(write_model) -> Bundle:  # type: ignore[no-untyped-def]
    return load_bundle(write_model({"output": np.zeros((1, 8, 126))}), decoder="yolov8")


def record(bundle: Bundle, **changes: object) -> Record:
    usual: dict = {
        "backend": "openvino",
        "device": "cpu",
        "precision": "bf16",
        "file": bundle.variants[0].path.name,
        "sha256": model_sha256(bundle.variants[0].path),
        "runtime_version": "2026.4",
        "passed": False,
        "problem": "matched 93.1 % of the boxes (98 % needed)",
        "tolerance": {"matched": 0.98},
        "measured": {"matched": 0.931, "raw": {"output": {"absolute": 0.5, "relative": None}}},
    }
    return Record(**(usual | changes))


def test_a_round_trip_beside_the_model(bundle: Bundle) -> None:
    assert read_records(bundle) == ()
    records = (record(bundle), record(bundle, device="gpu", passed=True, problem=""))
    path = write_records(bundle, records)
    assert path == records_path(bundle) == bundle.file.with_name("model.onnx.verification.json")
    assert read_records(bundle) == records
    assert [file.name for file in path.parent.iterdir() if file.name.startswith(".")] == []


def test_a_record_is_of_one_file_backend_device_and_precision(bundle: Bundle) -> None:
    records = (record(bundle),)
    variant = bundle.variants[0]
    assert find_record(records, variant, "openvino", "cpu", "bf16") is records[0]
    for backend, device, precision in (
        ("ncnn", "cpu", "bf16"),
        ("openvino", "gpu", "bf16"),
        ("openvino", "cpu", "fp16"),
    ):
        assert find_record(records, variant, backend, device, precision) is None


def test_a_changed_file_has_no_record(bundle: Bundle) -> None:
    write_records(bundle, [record(bundle)])
    path = bundle.variants[0].path
    path.write_bytes(path.read_bytes() + b"\0")
    assert find_record(read_records(bundle), bundle.variants[0], "openvino", "cpu", "bf16") is None


def test_a_folder_that_cannot_be_written_leaves_them_to_the_cache(bundle: Bundle, own_cache: Path) -> None:
    # A folder that is not there stops root, too, whom permissions do not.
    apart = dataclasses.replace(bundle, folder=bundle.folder / "none", file=bundle.folder / "none" / "model.yaml")
    path = write_records(apart, [record(apart)])
    assert path.parent == own_cache / "verification"
    assert read_records(apart) == (record(apart),)


@pytest.mark.parametrize("content", ["", "[]", '{"format": 2, "records": []}', '{"format": 1, "records": [{"a": 1}]}'])
def test_a_file_that_is_no_record_is_told(bundle: Bundle, content: str) -> None:
    records_path(bundle).write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=r"is no verification record.*Run `edge_vision verify` again"):
        read_records(bundle)
