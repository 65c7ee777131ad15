"""The line that the project holds: on 100 frames of a real video, every CPU backend finds what fp32 ONNX Runtime finds.

tvm compiles for half a minute and runs slowly: it has fewer frames.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge_vision.inference import load_bundle
from edge_vision.inference.backends import backend
from edge_vision.inference.conversion import convert, converter
from edge_vision.verification import PASSED, take_frames, verify

BACKENDS = ("onnxruntime", "openvino", "opencv", "litert", "ncnn")
VIDEO = Path("video") / "one-by-one-person-detection.mp4"

pytest.importorskip("pycocotools", reason="pycocotools is not installed: pip install pycocotools")


@pytest.mark.parametrize("model", ["conveyor_parts", "fastestdet_coco"])
def test_every_backend_finds_the_boxes_of_onnx_runtime(model: str, shared_data: Path, repository: Path) -> None:
    bundled = repository / "models" / model
    bundle = load_bundle(bundled if bundled.is_dir() else shared_data / "models" / f"{model}.onnx")
    frames = take_frames(str(shared_data / VIDEO), 100)
    assert len(frames.images) == 100
    report = verify(bundle, frames, backends=BACKENDS, devices=("cpu",), precisions=("fp32",), threads=1, write=False)
    assert report.boxes > 200
    ran = {row.choice.backend for row in report.rows}
    # What is installed and reads the files has run; the others say why not.
    assert ran | {absent.backend for absent in report.absent} == set(BACKENDS)
    assert {name for name in ("onnxruntime", "openvino", "opencv") if backend(name).available() is None} <= ran
    for row in report.rows:
        assert row.state == PASSED, f"{row.choice}: {row.problem}"
        assert row.figures is not None
        # Without the margin at the threshold, too: in fp32 there is no excuse.
        assert row.figures.matches.strict_share >= 0.99, str(row.choice)


@pytest.mark.parametrize("target", ["litert", "ncnn"])
@pytest.mark.parametrize("model", ["conveyor_parts", "fastestdet_coco"])
def test_converted_files_find_them_too(
    model: str, target: str, shared_data: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = backend(target).available()
    if missing:
        pytest.skip(f"{target} cannot be used here: {missing}")
    monkeypatch.undo()  # the user's cache: converters' environments are made once, over the network, not by a test
    if not converter(target).ENVIRONMENT.ready:  # type: ignore[attr-defined]
        pytest.skip(f"the converter is not here: `edge_vision convert {model} --to {target}` fetches it")
    bundled = repository / "models" / model
    original = load_bundle(bundled if bundled.is_dir() else shared_data / "models" / f"{model}.onnx")
    convert(original, target, "fp32", tmp_path / "bundle", force=True)
    frames = take_frames(str(shared_data / VIDEO), 100)
    report = verify(
        load_bundle(tmp_path / "bundle"), frames, backends=(target,), precisions=("fp32",), threads=1, write=False
    )
    assert {row.choice.backend for row in report.rows} == {target}
    for row in report.rows:
        assert row.state == PASSED, f"{row.choice}: {row.problem}"
        assert row.figures is not None
        assert row.figures.matches.strict_share >= 0.99


def test_tvm_finds_them_too(shared_data: Path) -> None:
    missing = backend("tvm").available()
    if missing:
        pytest.skip(f"tvm cannot be used here: {missing}")
    bundle = load_bundle(shared_data / "models" / "fastestdet_coco.onnx")
    frames = take_frames(str(shared_data / VIDEO), 20)
    report = verify(bundle, frames, backends=("tvm",), precisions=("fp32",), threads=1, write=False)
    (row,) = report.rows
    assert row.state == PASSED, row.problem
    assert replace(report, rows=()).boxes > 30
