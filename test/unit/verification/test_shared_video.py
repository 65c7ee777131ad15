"""The line that the project holds: on frames of a real video, every CPU backend finds what fp32 ONNX Runtime finds.

`edge_vision verify` looks at a hundred frames, here it is every second one of them, as all backends take their time.
In the user's cache, where tvm's compiled models and the converters' environments are: made once, not by every run.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_vision.inference import load_bundle
from edge_vision.inference.backends import backend
from edge_vision.inference.conversion import convert, converter
from edge_vision.verification import PASSED, Report, take_frames, verify

BACKENDS = ("onnxruntime", "openvino", "opencv", "tvm", "litert", "ncnn")
READ_ONNX = BACKENDS[:4]
FRAMES = 50

pytest.importorskip("pycocotools", reason="pycocotools is not installed: pip install pycocotools")
pytestmark = pytest.mark.timeout(300)  # tvm compiles for half a minute


@pytest.fixture
def own_cache() -> None:
    """The user's."""


@pytest.fixture
def video(shared_data: Path) -> str:
    return str(shared_data / "video" / "one-by-one-person-detection.mp4")


def proven(model: Path, video: str, backends: tuple[str, ...]) -> Report:
    frames = take_frames(video, FRAMES)
    assert len(frames.images) == FRAMES
    bundle = load_bundle(model)
    report = verify(bundle, frames, backends=backends, devices=("cpu",), precisions=("fp32",), threads=1, write=False)
    assert report.boxes > 2 * FRAMES
    for row in report.rows:
        assert row.state == PASSED, f"{row.choice}: {row.problem}"
        assert row.figures is not None
        # Without the margin at the threshold, too: in fp32 there is no excuse.
        assert row.figures.matches.strict_share >= 0.99, str(row.choice)
    return report


@pytest.mark.parametrize("model", ["conveyor_parts", "fastestdet_coco"])
def test_every_backend_finds_the_boxes_of_onnx_runtime(
    model: str, video: str, shared_data: Path, repository: Path
) -> None:
    bundled = repository / "models" / model
    report = proven(bundled if bundled.is_dir() else shared_data / "models" / f"{model}.onnx", video, BACKENDS)
    ran = {row.choice.backend for row in report.rows}
    # What is installed and has a file that it reads has run; the others say why not.
    assert ran | {absent.backend for absent in report.absent} == set(BACKENDS)
    expected = BACKENDS if bundled.is_dir() else READ_ONNX
    assert ran == {name for name in expected if backend(name).available() is None}


@pytest.mark.parametrize("target", ["litert", "ncnn"])
def test_converted_files_find_them_too(target: str, video: str, shared_data: Path, tmp_path: Path) -> None:
    missing = backend(target).available()
    if missing:
        pytest.skip(f"{target} cannot be used here: {missing}")
    if not converter(target).ENVIRONMENT.ready:  # type: ignore[attr-defined]
        pytest.skip(f"the converter is not here: `edge_vision convert MODEL --to {target}` fetches it")
    original = load_bundle(shared_data / "models" / "fastestdet_coco.onnx")
    convert(original, target, "fp32", tmp_path / "bundle")
    report = proven(tmp_path / "bundle", video, (target,))
    assert [row.choice.backend for row in report.rows] == [target]
