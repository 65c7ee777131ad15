"""Recipes: what is read, and what is refused, before anything runs."""

from __future__ import annotations

import pytest

from edge_vision.optimize.passes import PASSES, optimisation_pass
from edge_vision.optimize.recipe import RecipeError, read_recipe, recipe_of, shipped_recipes


def test_every_shipped_recipe_can_be_read() -> None:
    names = shipped_recipes()
    assert names
    for name in names:
        recipe = read_recipe(name)
        assert recipe.name == name
        assert recipe.summary
        assert recipe_of(recipe.as_dict()) == recipe, "what it says of itself is the same recipe"


@pytest.mark.parametrize("name", PASSES)
def test_every_pass_says_what_it_is_and_has_sound_defaults(name) -> None:
    module = optimisation_pass(name)
    assert module.SUMMARY
    assert {"calibration", "train", "teacher", "torch"} >= module.NEEDS
    (step,) = recipe_of({"steps": [name]}).steps
    assert step.options == module.Options()
    documented = "\n".join(kind.__doc__ or "" for kind in module.Options.__mro__)
    for option in module.Options.__dataclass_fields__:
        assert option in documented, f"{name}.{option} is not described"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no keys and values"),
        ({"steps": []}, "at least one pass"),
        ({"steps": "int8"}, "at least one pass"),
        ({"step": ["int8"]}, "step: unknown key"),
        ({"steps": ["int9"]}, "did you mean int8"),
        ({"steps": [{"int8": {}, "prune": {}}]}, r"steps\[0\]"),
        ({"steps": ["clean_up", {"prune": {"sparsty": 0.5}}]}, r"steps\[1\].*did you mean sparsity"),
        ({"steps": [{"prune": {"sparsity": "half"}}]}, "sparsity: is 'half'. Give .*a number"),
        ({"steps": [{"prune": {"sparsity": 2}}]}, "prune: .*sparsity"),
        ({"steps": [{"prune": 0.5}]}, "as keys and values"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(content, said) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe_of(content, "mine.yaml")


def test_files_that_are_no_recipes(tmp_path) -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'int80'.*did you mean"):
        read_recipe("int80")
    with pytest.raises(RecipeError, match="cannot be read"):
        read_recipe(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("steps: [clean_up\n")
    with pytest.raises(RecipeError, match=r"broken\.yaml: is no YAML"):
        read_recipe(broken)
