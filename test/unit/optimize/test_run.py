"""A recipe as it runs: steps are kept, gone on with, and made anew where anything before them changed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from edge_vision.datatypes import Detections
from edge_vision.inference.bundle import load_bundle
from edge_vision.inference.classifier import Classifier
from edge_vision.inference.preprocess import InputSpec
from edge_vision.optimize.architectures import plain_cnn
from edge_vision.optimize.data import Data, Split
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import PassError
from edge_vision.optimize.recipe import recipe_of
from edge_vision.optimize.run import Settings, apply_recipe
from edge_vision.optimize.saving import exclusive, precision_of, write_bundle

LABELS = ("nut", "bolt", "gear")
SPARSE = {"steps": ["clean_up", {"prune": {"sparsity": 0.5}}]}


@pytest.fixture
def network() -> Network:
    return plain_cnn(LABELS, InputSpec(32, 32, layout="nhwc", dtype="uint8", colour="bgr", resize="stretch"))


def made(work: Path) -> dict[str, float]:
    """When each step's model was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in work.glob("steps/*/model.onnx")}


def run(network: Network, recipe: dict, work: Path, **settings):
    return apply_recipe(network, recipe_of(recipe), None, Settings(work, **settings))


def zeros(proto: onnx.ModelProto) -> int:
    return sum(int((onnx.numpy_helper.to_array(t) == 0).sum()) for t in proto.graph.initializer if len(t.dims) == 4)


def test_every_stage_is_there_and_the_given_network_untouched(network, tmp_path) -> None:
    before = network.proto.SerializeToString()
    stages = run(network, SPARSE, tmp_path)
    assert [stage.step.name if stage.step else "" for stage in stages] == ["", "clean_up", "prune"]
    assert network.proto.SerializeToString() == before
    assert stages[0].network is network
    assert zeros(stages[2].network.proto) > zeros(stages[1].network.proto)


def test_what_was_made_is_not_made_again(network, tmp_path) -> None:
    first = run(network, SPARSE, tmp_path)
    times = made(tmp_path)
    second = run(network, SPARSE, tmp_path)
    assert made(tmp_path) == times
    assert all(stage.reused for stage in second[1:])
    assert [s.network.proto for s in second] == [s.network.proto for s in first]
    assert [s.network.input for s in second] == [s.network.input for s in first]
    assert [json.loads(json.dumps(dict(s.facts), default=str)) for s in first][1:] == [dict(s.facts) for s in second][
        1:
    ]
    other = {"steps": ["clean_up", {"prune": {"sparsity": 0.75}}]}
    assert [stage.reused for stage in run(network, other, tmp_path)] == [False, True, False]
    assert [stage.reused for stage in run(network, SPARSE, tmp_path, seed=1)] == [False, False, False]


def test_another_model_shares_nothing(network, tmp_path) -> None:
    run(network, SPARSE, tmp_path)
    other = plain_cnn(LABELS, network.input, seed=5)
    assert not any(stage.reused for stage in run(other, SPARSE, tmp_path))


@pytest.mark.parametrize("spoil", ["description", "model", "cut"])
def test_a_step_that_was_interrupted_or_spoilt_is_made_anew(network, tmp_path, spoil) -> None:
    good = run(network, SPARSE, tmp_path)[-1].network.proto
    (folder,) = tmp_path.glob("steps/prune_*")
    model = folder / "model.onnx"
    if spoil == "description":
        (folder / "step.json").unlink()
    elif spoil == "model":
        model.write_bytes(b"\xff" * 100)
    else:
        model.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    stages = run(network, SPARSE, tmp_path)
    assert not stages[-1].reused
    assert stages[-1].network.proto == good


def test_what_a_recipe_needs_is_said_before_anything_is_done(network, tmp_path) -> None:
    with pytest.raises(PassError, match="int8: needs images"):
        run(network, {"steps": ["clean_up", "int8"]}, tmp_path)
    assert not made(tmp_path)


def test_the_bundle_is_what_the_network_is(network, tmp_path) -> None:
    last = run(network, SPARSE, tmp_path / "work")[-1].network
    for _ in range(2):  # the second time in the place of the first
        bundle = write_bundle(last, tmp_path / "bundle", measured={"top-1": 0.5}, provenance={"optimized_by": "a test"})
    assert (bundle.task, bundle.labels, bundle.input) == ("classify", LABELS, network.input)
    assert bundle.provenance["optimized_by"] == "a test"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "work"], "nothing is left beside it"
    packed = write_bundle(last, tmp_path / "packed", packed=True)
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    from edge_vision.datatypes import Frame

    rows = []
    for one in (bundle, load_bundle(packed.folder)):
        with Classifier.load(one, backend="onnxruntime") as classifier:
            rows.append(classifier.classify(Frame(image)))
    assert np.array_equal(*rows)
    assert packed.variants[0].path.stat().st_size < bundle.variants[0].path.stat().st_size


def test_precision_is_read_from_the_graph(network) -> None:
    assert precision_of(network.proto) == "fp32"


def test_a_folder_of_somebody_else_is_left_alone(network, tmp_path) -> None:
    exclusive(tmp_path / "nothing there")
    mine = write_bundle(network, tmp_path / "mine")
    exclusive(mine.folder)
    (tmp_path / "photos").mkdir()
    exclusive(tmp_path / "photos")
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(FileExistsError, match="Name another folder"):
        exclusive(tmp_path / "photos")
    trained = write_bundle(network, tmp_path / "trained", provenance={"script": "scripts/train.py"})
    assert trained.file.read_text().startswith("# Written by scripts/train.py;")
    with pytest.raises(FileExistsError, match="Name another folder"):
        exclusive(trained.folder)  # hours of training


def test_who_answers_in_another_shape_is_no_teacher(repository, tmp_path) -> None:
    pytest.importorskip("torch", reason="training needs PyTorch")
    bundle = load_bundle(repository / "models" / "conveyor_parts")
    network = Network(onnx.load(str(bundle.variants[0].path)), bundle)
    images = np.random.default_rng(2).integers(0, 256, (8, 240, 320, 3), np.uint8)
    nothing = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))
    split = Split(images, (nothing,) * 8, np.zeros(8, np.int64))
    data = Data("noise", split, split, split, network.labels, lambda width, height: data)
    tuned = {"fine_tune": {"epochs": 1, "batch": 4, "validation": 0}}
    recipe = recipe_of({"steps": [{"drop_heads": {"strides": [16]}}, tuned]})
    stages = apply_recipe(network, recipe, data, Settings(tmp_path))
    (output,) = stages[-1].network.proto.graph.output
    assert [dim.dim_value for dim in output.type.tensor_type.shape.dim] == [1, 1200, 12]
    assert stages[-1].facts["epochs"] == 1
    with pytest.raises(PassError, match="not like"):  # who is named as the teacher stays it
        apply_recipe(network, recipe, data, Settings(tmp_path / "named"), network)


def test_a_step_whose_file_has_another_content_is_made_anew(network, tmp_path) -> None:
    pytest.importorskip("torch", reason="training needs PyTorch")
    images = np.random.default_rng(2).integers(0, 256, (8, 32, 32, 3), np.uint8)
    split = Split(images, np.arange(8) % 3, np.zeros(8, np.int64))
    data = Data("noise", split, split, split, LABELS, lambda width, height: data)
    student = tmp_path / "student.onnx"
    distil = {"student": str(student), "epochs": 1, "batch": 4, "validation": 0}
    recipe = recipe_of({"steps": [{"distil": distil}]})

    def reused(seed: int) -> bool:
        onnx.save(plain_cnn(LABELS, network.input, seed=seed).proto, str(student))
        return apply_recipe(network, recipe, data, Settings(tmp_path))[-1].reused

    assert [reused(3), reused(3), reused(4), reused(3)] == [False, True, False, True]
