"""A budget is kept where nothing was chosen by, or it is said that it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_vision.inference.bundle import Bundle, Thresholds
from edge_vision.inference.preprocess import InputSpec
from edge_vision.optimize.data import Data, Split
from edge_vision.optimize.network import Network
from edge_vision.optimize.optimising import Budget, Optimised, Task, halves, optimise
from edge_vision.optimize.recipe import recipe_of
from edge_vision.optimize.run import Settings
from edge_vision.optimize.telling import told, verdict

LABELS = ("blue", "green", "red")
SPEC = InputSpec(8, 8, "images", "nhwc", "uint8", "bgr", resize="stretch")
#: Takes the smallest weights, which are those that red is known by.
BLIND = {"keep_first": False, "keep_heads": False, "least_size": 0, "sparsity": 7 / 9}


@pytest.fixture
def network() -> Network:
    """The brightest channel; red counts a little less."""
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["means", "weight"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [1, 8, 8, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(np.diag([0.01, 0.01, 0.0098]).astype(np.float32), "weight")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto)
    here = Path("colours")
    return Network(proto, Bundle("colours", "classify", "classification", LABELS, SPEC, Thresholds(), (), here, here))


def split(classes: list[int], sequences: list[int]) -> Split:
    images = np.full((len(classes), 8, 8, 3), 90, np.uint8)
    images[np.arange(len(classes)), :, :, classes] = 150
    return Split(images, np.array(classes, np.int64), np.array(sequences, np.int64))


def run(network: Network, work: Path, choosing: Split, reporting: Split, recipes, max_drop: float = 0.01):
    data = Data("colours", LABELS, choosing, choosing, choosing, lambda width, height: data)
    task = Task(network, data, choosing, reporting, "onnxruntime", Settings(work), seconds=0.05)
    budget = Budget(max_drop, "size")
    return task, budget, optimise(task, [recipe_of(content, name=name) for name, content in recipes.items()], budget)


RECIPES = {"plain": {"steps": ["clean_up"]}, "blind": {"steps": [{"prune": BLIND}]}}
BLUE_GREEN, ALL = split([0, 1] * 10, [0, 1] * 10), split([0, 1, 2] * 10, [0, 1, 2] * 10)


def test_what_fails_on_the_other_half_is_refused_and_the_next_is_taken(network, tmp_path) -> None:
    task, budget, done = run(network, tmp_path, BLUE_GREEN, ALL, RECIPES)
    assert [trial.figures.drop for trial in done.found.trials] == [0.0, 0.0]
    assert done.found.best.recipe.name == "blind", "smaller, and right where it was chosen"
    assert done.chosen.recipe.name == "plain"
    ((trial, lost),) = done.missed
    assert trial.recipe.name == "blind"
    assert lost == pytest.approx(1 / 3)
    said = verdict(task, budget, done)
    assert said.met
    assert any("blind: kept the budget where" in note and "33.33 points" in note for note in said.notes)


def test_where_nothing_is_left_the_budget_is_missed(network, tmp_path) -> None:
    task, budget, done = run(network, tmp_path, BLUE_GREEN, ALL, {"blind": RECIPES["blind"]})
    assert done.chosen is None
    assert done.stages[-1].drop.value == pytest.approx(1 / 3)
    said = verdict(task, budget, done)
    assert not said.met
    assert "cannot be met" in said.text
    assert "33.33 points" in said.text


def test_a_recipe_that_cannot_be_done_is_told_and_the_others_are_done(network, tmp_path) -> None:
    recipes = {"none": {"steps": [{"channels": {"ratio": 0.5}}]}, **RECIPES}
    task, budget, done = run(network, tmp_path, ALL, ALL, recipes)
    assert done.found.trials[0].figures is None
    assert done.chosen.recipe.name == "plain"
    assert [trial.figures.drop for trial in done.found.trials[1:]] == [0.0, pytest.approx(1 / 3)]
    report = told(task, budget, done, ("onnxruntime",), quick=True)
    assert report.trials[0].why
    assert any(note.startswith("none: could not be done") for note in report.verdict.notes)
    assert any("Nothing that was tried is better" in note for note in report.verdict.notes)


def test_no_recipe_at_all(network, tmp_path) -> None:
    task, budget, done = run(network, tmp_path, ALL, ALL, {"none": {"steps": [{"channels": {"ratio": 0.5}}]}})
    assert isinstance(done, Optimised)
    assert not done.stages
    assert not verdict(task, budget, done).met


def test_halves_share_no_clip() -> None:
    first, second = halves(split([0, 1, 2, 0, 1, 2, 0], [5, 5, 7, 7, 9, 9, 11]))
    assert set(first.sequences.tolist()) == {5, 9}
    assert set(second.sequences.tolist()) == {7, 11}
    with pytest.raises(ValueError, match="one clip"):
        halves(split([0, 1], [3, 3]))
