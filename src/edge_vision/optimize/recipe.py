"""Recipes: the passes that are applied to a model, one after another, and their options.

    name: int8
    summary: 8-bit weights and activations, decode tail in float
    steps:
      - clean_up
      - int8: {calibration: percentile}

`read_recipe` takes the name of one of `config/recipes` or a file. Everything is checked before anything is run.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edge_vision.optimize.passes import PASSES, optimisation_pass
from edge_vision.paths import share_directory


class RecipeError(Exception):
    """A recipe cannot be used: where, what is wrong, what to do."""


@dataclass(frozen=True)
class Step:
    """name: of the pass; options: an instance of its `Options`."""

    name: str
    options: Any

    @property
    def needs(self) -> frozenset[str]:
        """What the pass cannot do without with these options: those with epochs train."""
        trains = {"train", "torch"} if getattr(self.options, "epochs", False) else set()
        return optimisation_pass(self.name).NEEDS | trains

    def as_dict(self) -> dict[str, Any]:
        """`{pass: {option: value}}`, every option named: what a report and a resumed run compare."""
        return {self.name: dataclasses.asdict(self.options)}

    def __str__(self) -> str:
        default = type(self.options)()
        changed = (
            f"{field.name} {getattr(self.options, field.name)}"
            for field in dataclasses.fields(self.options)
            if getattr(self.options, field.name) != getattr(default, field.name)
        )
        text = ", ".join(changed)
        return f"{self.name} ({text})" if text else self.name


@dataclass(frozen=True)
class Recipe:
    """Steps in their order. The passes of all are known and their options sound."""

    name: str
    steps: tuple[Step, ...]
    summary: str = ""

    @property
    def needs(self) -> frozenset[str]:
        """What the passes cannot do without, see `passes`."""
        return frozenset(need for step in self.steps for need in step.needs)

    def as_dict(self) -> dict[str, Any]:
        """What `recipe_of` reads."""
        return {"name": self.name, "summary": self.summary, "steps": [step.as_dict() for step in self.steps]}


def recipes_folder() -> Path:
    """Where the shipped recipes lie."""
    return share_directory() / "config" / "recipes"


def shipped_recipes() -> tuple[str, ...]:
    """Names of the shipped recipes."""
    return tuple(sorted(path.stem for path in recipes_folder().glob("*.yaml")))


def read_recipe(reference: str | Path) -> Recipe:
    """A shipped recipe by its name, or one from a YAML file. Raises RecipeError."""
    path = Path(reference).expanduser()
    if not path.suffix and len(path.parts) == 1 and not path.is_file():
        path = recipes_folder() / f"{reference}.yaml"
        if not path.is_file():
            known = shipped_recipes()
            problem = f"there is no recipe {reference!r}{_nearest(str(reference), known)}"
            raise RecipeError(f"{problem}. Give a file, or one of {', '.join(known)}.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: is no YAML: {' '.join(str(error).split())}. Correct that line.") from error
    return recipe_of(content, str(path), path.stem)


def recipe_of(content: Any, where: str = "recipe", name: str = "") -> Recipe:
    """The recipe in plain data. Raises RecipeError, naming `where`."""
    if not isinstance(content, Mapping):
        raise RecipeError(f"{where}: holds no keys and values. Write `steps:` with a list of passes.")
    for key in content:
        if key not in ("name", "summary", "steps"):
            raise RecipeError(f"{where}: {key}: unknown key. Known are name, summary and steps.")
    steps = content.get("steps")
    if not isinstance(steps, Sequence) or isinstance(steps, str) or not steps:
        raise RecipeError(f"{where}: steps: is {steps!r}. List at least one pass: {', '.join(PASSES)}.")
    read = tuple(_step(step, f"{where}: steps[{index}]") for index, step in enumerate(steps))
    return Recipe(str(content.get("name") or name), read, str(content.get("summary") or ""))


def _step(content: Any, where: str) -> Step:
    if isinstance(content, str):
        content = {content: {}}
    if not isinstance(content, Mapping) or len(content) != 1:
        raise RecipeError(f"{where}: is {content!r}. Write a pass's name, or `name: {{option: value}}`.")
    ((name, options),) = content.items()
    if name not in PASSES:
        raise RecipeError(
            f"{where}: there is no pass {name!r}{_nearest(str(name), PASSES)}. Known: {', '.join(PASSES)}."
        )
    kind = optimisation_pass(name).Options
    options = {} if options is None else options
    if not isinstance(options, Mapping):
        raise RecipeError(f"{where}: {name}: is {options!r}. Give its options as keys and values.")
    hints = typing.get_type_hints(kind)
    known = tuple(field.name for field in dataclasses.fields(kind))
    for key in options:
        if key not in known:
            raise RecipeError(
                f"{where}: {name}.{key}: unknown option{_nearest(str(key), known)}. Known: {', '.join(known)}."
            )
    values = {key: _value(value, hints[key], f"{where}: {name}.{key}") for key, value in options.items()}
    try:
        return Step(name, kind(**values))
    except ValueError as error:
        raise RecipeError(f"{where}: {name}: {error}") from error


def _value(value: Any, hint: Any, where: str) -> Any:
    """`value` as the type that an option has. Raises RecipeError."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        for candidate in arguments:
            if candidate is not type(None):
                try:
                    return _value(value, candidate, where)
                except RecipeError:
                    continue
        raise RecipeError(f"{where}: is {value!r}. Give {_words(hint)}.")
    if origin is typing.Literal:
        if value not in arguments:
            raise RecipeError(f"{where}: is {value!r}. Give one of {', '.join(map(str, arguments))}.")
        return value
    if origin is tuple:
        items = value if isinstance(value, (list, tuple)) else [value]
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_value(item, arguments[0], where) for item in items)
        if len(items) != len(arguments):
            raise RecipeError(f"{where}: is {value!r}. Give a list of {len(arguments)}.")
        return tuple(_value(item, kind, where) for item, kind in zip(items, arguments, strict=True))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise RecipeError(f"{where}: is {value!r}. Give keys and values.")
        return {key: _value(item, arguments[1], f"{where}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Any or (
        isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    ):
        return value
    raise RecipeError(f"{where}: is {value!r}. Give {_words(hint)}.")


def _words(hint: Any) -> str:
    names = {float: "a number", int: "a whole number", str: "text", bool: "true or false", type(None): "nothing"}
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if arguments:
        return " or ".join(_words(argument) for argument in arguments if argument is not Ellipsis)
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _nearest(value: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(value, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
