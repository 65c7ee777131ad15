"""`edge_vision optimize`, as a user calls it, on a classifier that is right by construction."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_vision.cli.main import main
from edge_vision.datatypes import Frame

onnx = pytest.importorskip("onnx", reason="onnx reads and writes the models: pip install onnx")
pytest.importorskip("sklearn", reason="scikit-learn clusters: pip install scikit-learn")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from edge_vision.inference.bundle import load_bundle  # noqa: E402
from edge_vision.inference.classifier import Classifier  # noqa: E402
from edge_vision.inference.records import read_records  # noqa: E402
from edge_vision.optimize.report import read_report  # noqa: E402

LABELS = ("blue", "green", "red")
SIDE = 16
CARD = """
format: 1
name: colours
task: classify
decoder: classification
labels: [blue, green, red]
input: {name: images, width: 16, height: 16, layout: nhwc, dtype: uint8, colour: bgr, resize: stretch}
variants:
- {backend: onnxruntime, precision: fp32, file: model.onnx}
license: Apache-2.0
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Which channel is the brightest: three convolutions that pass the channels on, and the mean of each."""
    spread = np.zeros((32, 3, 1, 1), np.float32)
    middle = np.zeros((32, 32, 3, 3), np.float32)
    gather = np.zeros((3, 32, 1, 1), np.float32)
    for channel in range(32):
        spread[channel, channel % 3] = 1 / 255
        middle[channel, channel, 1, 1] = 1
        gather[channel % 3, channel] = 1
    noise = np.random.default_rng(0).normal(0, 0.004, middle.shape).astype(np.float32)
    weights = {"spread": spread, "middle": middle + noise, "gather": gather}
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "spread"], ["a"], kernel_shape=[1, 1]),
        helper.make_node("Conv", ["a", "middle"], ["b"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["b", "gather"], ["c"], kernel_shape=[1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["means"]),
        helper.make_node("Flatten", ["means"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [1, SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    folder = tmp_path / "colours"
    folder.mkdir()
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(proto, folder / "model.onnx")
    (folder / "model.yaml").write_text(CARD)
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Class folders of 20 clips, four noisy images each."""
    rng = np.random.default_rng(1)
    folder = tmp_path / "images"
    for split, clips in (("train", 6), ("val", 4), ("test", 10)):
        for clip in range(clips):
            for index in range(4):
                channel = (clip + index) % 3
                image = rng.integers(60, 140, (24, 24, 3)).astype(np.uint8)
                image[..., channel] += 60
                target = folder / split / LABELS[channel] / f"{split}{clip:02}_{index:04}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(target), image)
    return folder


def optimize(model: Path, images: Path, out: Path, *others: str) -> int:
    given = ["optimize", str(model), "--data", str(images), "--out", str(out), "--backends", "onnxruntime"]
    return main([*given, *others])


def recipe(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(f"summary: mine\nsteps:\n{text}")
    return str(path)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_VISION_CACHE", str(tmp_path / "cache"))


def test_from_a_model_to_the_bundle_that_runs(model, images, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert optimize(model, images, out, "--quick", "--recipe", "int8", "--target", "size", "--packed") == 0
    told = capsys.readouterr()
    assert "int8: top-1 1.0000" in told.out
    assert str(out / "bundle") in told.out
    bundle = load_bundle(out / "bundle")
    (variant,) = bundle.variants
    assert variant.precision == "int8"
    assert {path.suffix for path in (out / "bundle").glob("model.*")} == {".evp", ".yaml"}, "packed as it lies there"
    assert {record.backend: record.passed for record in read_records(bundle)}["onnxruntime"]
    image = np.full((24, 24, 3), 90, np.uint8)
    image[..., 2] = 150
    with Classifier.load(bundle) as classifier:  # of its own choice, for it is proven
        assert classifier.description.precision == "int8"
        assert classifier.classify(Frame(image))[0].argmax() == 2
    report = read_report(out / "report.json")
    assert report.verdict.met
    assert [step.name.split(" ")[0] for step in report.steps] == ["original", "clean_up", "int8"]
    assert report.final.size.file < report.original.size.file
    assert report.final.latency_on("onnxruntime").ratio
    assert report.images == 20, "half of the test images: the others were to choose by"
    for name in ("report.md", "report.html"):
        assert "int8" in (out / name).read_text()

    # Asked again, nothing is made again; the old bundle is replaced.
    assert optimize(model, images, out, "--quick", "--recipe", "int8", "--target", "size") == 0
    assert "int8: as it was made before" in capsys.readouterr().err
    assert (out / "bundle" / "model.onnx").is_file()


def test_a_budget_that_cannot_be_met_says_so_with_the_closest(model, images, tmp_path, capsys) -> None:
    bad = recipe(tmp_path, "  - prune: {sparsity: 0.99, keep_first: false, keep_heads: false, least_size: 0}\n")
    out = tmp_path / "out"
    assert optimize(model, images, out, "--quick", "--recipe", bad) == 3
    told = capsys.readouterr()
    assert "cannot be met" in told.out
    assert "mine" in told.out
    assert not (out / "bundle").exists(), "what exceeds the budget is not written"
    report = read_report(out / "report.json")
    assert not report.verdict.met
    assert report.chosen == ""
    assert report.final.drop.value > 0.3

    assert optimize(model, images, out, "--quick", "--recipe", bad, "--closest", "--json") == 3
    assert not json.loads(capsys.readouterr().out)["verdict"]["met"]
    records = read_records(load_bundle(out / "bundle"))
    assert records
    assert not any(record.passed for record in records), "no node takes it by itself"


def test_a_search_goes_on_and_finds(model, images, tmp_path, capsys) -> None:
    space = recipe(tmp_path, "  - maybe: {cluster: {clusters: {choose: [4, 16]}, keep_heads: false}}\n  - int8\n")
    given = ("--quick", "--search", space, "--target", "size", "--trials")
    assert optimize(model, images, tmp_path / "out", *given, "2") == 0
    assert optimize(model, images, tmp_path / "out", *given, "3") == 0
    assert len(read_report(tmp_path / "out" / "report.json").trials) == 3
    assert "trial 0" not in capsys.readouterr().err.split("trial 1")[-1].split("trial 2")[0]


def test_what_is_done_is_listed_and_planned_without_doing_it(model, images, tmp_path, capsys) -> None:
    assert main(["optimize", "--list"]) == 0
    listed = capsys.readouterr().out
    assert "channels" in listed
    assert "collaborative" in listed
    assert main(["optimize", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passes"]["int8"]["needs"] == ["calibration"]
    assert main(["optimize", "--list", "prune"]) == 0
    told = capsys.readouterr().out
    assert "share of the chosen layers' weights that become zero" in told
    assert "keep_first: not the layers that read the image" in told, "of what it has in common with others, too"
    assert main(["optimize", "--list", "prun"]) == 2
    capsys.readouterr()
    assert optimize(model, images, tmp_path / "out", "--recipe", "int8", "--dry-run") == 0
    assert "clean_up -> int8" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("others", "code", "said"),
    [
        (("--recipe", "int9"), 1, "no recipe 'int9'"),
        (("--max-drop", "2"), 2, "--max-drop"),
        (("--trials", "0"), 2, "--trials"),
        (("--search", "nowhere"), 1, "no space"),
        (("--teacher", "nobody.onnx"), 1, "nobody.onnx"),
    ],
)
def test_what_cannot_be_is_told_and_nothing_is_written(model, images, tmp_path, capsys, others, code, said) -> None:
    assert optimize(model, images, tmp_path / "out", *others) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_bad_models_and_data(model, images, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert main(["optimize"]) == 2
    assert optimize(model, tmp_path / "none", out) == 1
    assert "none" in capsys.readouterr().err
    empty = tmp_path / "empty"
    empty.mkdir()
    assert optimize(model, empty, out) == 1
    assert str(empty) in capsys.readouterr().err
    (model / "model.onnx").write_bytes((model / "model.onnx").read_bytes()[:200])
    assert optimize(model, images, out) == 1
    assert "model.onnx" in capsys.readouterr().err
    assert not (out / "bundle").exists()


def test_a_folder_of_somebody_else_is_not_written_to(model, images, tmp_path, capsys) -> None:
    mine = tmp_path / "out" / "bundle"
    mine.mkdir(parents=True)
    (mine / "letters.txt").write_text("to my aunt")
    assert optimize(model, images, tmp_path / "out", "--recipe", "int8") == 1
    assert "Name another folder" in capsys.readouterr().err
    assert (mine / "letters.txt").read_text() == "to my aunt"
