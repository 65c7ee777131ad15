"""The bundled demo detector: what its card says, and that it finds the twin's parts in scenes it never saw."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import pytest
import yaml

from edge_vision.cli import evaluate
from edge_vision.evaluation.detection import DetectionScores
from edge_vision.inference import load_bundle
from edge_vision.simulation import LABELS


@pytest.fixture(scope="module")
def bundle(repository: Path) -> Path:
    return repository / "models" / "conveyor_parts"


@pytest.fixture(scope="module")
def card(bundle: Path) -> dict:
    return yaml.safe_load((bundle / "model.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def scores(bundle: Path) -> DetectionScores:
    pytest.importorskip("pycocotools", reason="pycocotools is not installed: pip install pycocotools")
    return evaluate.evaluate_bundle(bundle, frames=30, seeds=(31, 32, 33), backend="onnxruntime", threads=1)


def test_the_card_is_that_of_the_file(bundle: Path, card: dict) -> None:
    variant, *converted = card["variants"]
    data = (bundle / variant["file"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == variant["sha256"]
    assert len(data) <= 1_500_000
    assert {(one["backend"], one["precision"]) for one in converted} == {
        (backend, precision) for backend in ("litert", "ncnn") for precision in ("fp32", "fp16")
    }
    assert len(load_bundle(bundle).variants) == 5  # which compares every sum
    assert tuple(card["labels"]) == LABELS
    assert variant["measured"]["map50_95"] >= 0.75
    assert variant["measured"]["map50"] >= 0.95
    assert variant["measured"]["frames"] == 500


def test_the_graph_takes_the_cameras_bytes(bundle: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
    model = onnx.load(bundle / "model.onnx")
    assert [entry.version for entry in model.opset_import if not entry.domain] == [17]
    (images,) = model.graph.input
    assert [d.dim_value for d in images.type.tensor_type.shape.dim] == [1, 240, 320, 3]
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    (output,) = model.graph.output
    assert [d.dim_value for d in output.type.tensor_type.shape.dim] == [1, 1500, 5 + len(LABELS)]


def test_it_finds_the_parts_of_scenes_it_never_saw(scores: DetectionScores) -> None:
    assert scores.frames == 30
    assert scores.map50 >= 0.93
    assert scores.map50_95 >= 0.72
    assert {row.label for row in scores.per_class} == set(LABELS)


def test_it_finds_the_parts_in_a_wide_image(bundle: Path) -> None:
    """16:9 is letterboxed to 320x180: parts are three quarters as large as in the usual image."""
    pytest.importorskip("pycocotools", reason="pycocotools is not installed: pip install pycocotools")
    source = "sim://conveyor?width=1280&height=720"
    wide = evaluate.evaluate_bundle(bundle, source=source, frames=8, seeds=(41, 42), backend="onnxruntime", threads=1)
    assert wide.map50 >= 0.85


def test_the_command_prints_json_on_stdout_alone(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycocotools", reason="pycocotools is not installed: pip install pycocotools")
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    arguments = ["--model", str(bundle), "--frames", "5", "--seeds", "51,52", "--backend", "onnxruntime", "--json"]
    assert evaluate.run(parser.parse_args(arguments)) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["frames"], printed["seeds"], printed["backend"]) == (5, [51, 52], "onnxruntime")
    assert 0 < printed["map50_95"] <= printed["map50"] <= 1
