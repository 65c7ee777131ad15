"""Searching a space of recipes: what is proposed, what is kept, what is found."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.optimize.recipe import RecipeError
from edge_vision.optimize.search import Figures, Trial, check_space, close, front, judge, search

pytest.importorskip("optuna", reason="Optuna searches: pip install optuna")

SPACE = {
    "steps": [
        "clean_up",
        {"maybe": {"prune": {"sparsity": {"range": [0.1, 0.9]}}}},
        {"cluster": {"clusters": {"choose": [4, 8, 16, 32, 64]}}},
    ]
}


def option(recipe, name: str, key: str, default):
    return next((getattr(step.options, key) for step in recipe.steps if step.name == name), default)


def made_up(recipe) -> Figures:
    """Sparse and few clusters: small and wrong."""
    sparsity, clusters = option(recipe, "prune", "sparsity", 0.0), option(recipe, "cluster", "clusters", 0)
    drop = 0.04 * sparsity**3 + 0.2 / clusters
    return Figures(0.9 - drop, drop, 1.0, (1 - sparsity) * clusters**0.5, 1.0)


def look(tmp_path, trials: int, evaluate=made_up, **others):
    settings = {"target": "size", "max_drop": 0.02, "storage": tmp_path / "study.log"} | others
    return search(SPACE, evaluate, trials=trials, **settings)


def test_the_best_within_the_budget_is_found_and_never_one_beyond_it(tmp_path) -> None:
    found = look(tmp_path, 40)
    assert len(found.trials) == 40
    assert found.best is not None
    within = [t for t in found.trials if t.figures.drop <= 0.02]
    assert found.best.figures.drop <= 0.02
    assert found.best.figures.size == min(t.figures.size for t in within)
    # Of the grid of what is possible: 16 clusters with as much pruning as the budget leaves are the smallest.
    assert found.best.figures.size < 2.0
    assert 0 < len(found.front) <= 40


def test_a_budget_that_cannot_be_met_names_the_closest(tmp_path) -> None:
    found = look(tmp_path, 6, max_drop=-0.5)
    assert found.best is None
    assert found.closest.figures.drop == min(t.figures.drop for t in found.trials)


def test_it_goes_on_where_it_was_and_measures_nothing_twice(tmp_path) -> None:
    measured: list[str] = []

    def counted(recipe) -> Figures:
        measured.append(json.dumps(recipe.as_dict()["steps"], sort_keys=True))
        if len(measured) == 4:
            raise KeyboardInterrupt
        return made_up(recipe)

    with pytest.raises(KeyboardInterrupt):
        look(tmp_path, 8, counted)
    found = look(tmp_path, 8, counted)
    done = [t for t in found.trials if t.figures]
    assert len(done) == 8
    kept = measured[:3] + measured[4:]
    assert len(kept) == len(set(kept)), "a recipe is measured once"
    assert look(tmp_path, 8, counted).best == found.best
    assert measured[-1] == kept[-1], "nothing is left to do"


def test_a_recipe_that_cannot_be_done_is_told_and_counts(tmp_path) -> None:
    def refuses(recipe) -> Figures:
        if len(recipe.steps) == 3:
            raise ValueError("prune: there is nothing to prune")
        return made_up(recipe)

    found = look(tmp_path, 10, refuses, unfit=(ValueError,))
    assert len(found.trials) == 10
    assert all("nothing to prune" in t.why for t in found.trials if t.figures is None)
    assert any(t.figures is None for t in found.trials)
    assert found.best is not None


figures = st.builds(Figures, *(st.sampled_from([0.1, 0.2, 0.3, 0.4]) for _ in range(5)))


@given(st.lists(figures, min_size=1, max_size=12))
def test_nothing_beats_what_is_on_the_front(many) -> None:
    trials = [Trial(i, None, f) for i, f in enumerate(many)]  # type: ignore[arg-type]
    chosen = front(trials)
    assert chosen

    def beats(a: Figures, b: Figures) -> bool:
        mine, other = ((f.accuracy, -f.latency, -f.size) for f in (a, b))
        return mine != other and all(x >= y for x, y in zip(mine, other, strict=True))

    for trial in trials:
        assert (trial in chosen) != any(beats(other.figures, trial.figures) for other in trials)
    assert judge(trials, "latency", 1.0).best.figures.latency == min(f.latency for f in many)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"prune": {"sparsity": {"choose": []}}}, "choose"),
        ({"prune": {"sparsity": {"range": [0.5, 0.1]}}}, "lower one first"),
        ({"prune": {"sparsity": {"range": [0.5]}}}, "lowest and the highest"),
        ({"prune": {"sparsity": {"choose": [0.1, "much"]}}}, "sparsity"),
        ({"maybe": {"prun": {}}}, "did you mean prune"),
        ({"prune": {"sparsety": 0.5}}, "did you mean sparsity"),
    ],
)
def test_a_space_that_cannot_be_is_refused_before_anything_is_run(step, said) -> None:
    with pytest.raises(RecipeError, match=said):
        check_space({"steps": [step]})


def test_what_is_open_is_settled_by_the_trial() -> None:
    class First:
        def suggest_categorical(self, name, choices):
            return choices[0] if choices != [True, False] else False

    assert close(SPACE, First()) == {"steps": ["clean_up", {"cluster": {"clusters": 4}}]}
