"""Searching the best recipe of a space: Optuna proposes, what is measured decides, and the study can be gone on with.

A space is a recipe in which some things are open:

    steps:
      - clean_up
      - maybe: {channels: {ratio: {choose: [0.25, 0.4, 0.55]}}}
      - fine_tune: {epochs: {range: [2, 6]}, rate: {range: [0.0003, 0.003], log: true}}
      - int8

`choose` takes one of a list, `range` a number between two (both included; a whole one where both are), `maybe` takes
its step or leaves it out.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from edge_vision.optimize.recipe import Recipe, RecipeError, recipe_of, recipes_folder

TARGETS = ("latency", "size", "memory")


@dataclass(frozen=True)
class Figures:
    """What a recipe came to. accuracy: the metric, 0..1; drop: below the original's, negative where it is above;
    latency: p50 as a share of the original's, in one run; size: packed bytes; memory: bytes of weights and of the most
    activations alive at a time."""

    accuracy: float
    drop: float
    latency: float
    size: float
    memory: float

    def of(self, target: str) -> float:
        """What is to be small."""
        return float(getattr(self, target))


@dataclass(frozen=True)
class Trial:
    """One recipe that was tried. figures: None where it could not be done, and why says so."""

    number: int
    recipe: Recipe
    figures: Figures | None = None
    why: str = ""


@dataclass(frozen=True)
class Found:
    """best: within the budget, the least of the target; None where none is. closest: the least drop of those that are
    better than the original in the target, for saying how far the budget was missed."""

    trials: tuple[Trial, ...]
    best: Trial | None
    closest: Trial | None
    front: tuple[Trial, ...] = field(default=())


def read_space(reference: str | Path) -> dict[str, Any]:
    """The space of a file, or a shipped one by its name (`config/recipes/spaces`). Raises RecipeError."""
    path = Path(reference).expanduser()
    if not path.suffix and len(path.parts) == 1 and not path.is_file():
        path = recipes_folder() / "spaces" / f"{reference}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
            raise RecipeError(f"there is no space {reference!r}. Give a file, or one of {known}.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path}: cannot be read: {' '.join(str(error).split())}. Correct it.") from error
    check_space(content, str(path))
    return content


def check_space(content: Any, where: str = "space") -> None:
    """Raises RecipeError unless every recipe that can come of it is sound: first and last of all that is open are tried
    together, so each value's type is seen."""
    for end in (0, -1):
        recipe_of(close(content, _Ends(end), where), where)


def close(content: Any, proposer: Any, where: str = "space") -> dict[str, Any]:
    """The recipe in plain data, with everything open settled by `proposer` (an Optuna trial)."""
    if not isinstance(content, Mapping) or not isinstance(content.get("steps"), list):
        raise RecipeError(f"{where}: holds no steps. Write `steps:` with a list of passes.")
    steps = []
    for index, step in enumerate(content["steps"]):
        if isinstance(step, Mapping) and set(step) == {"maybe"}:
            step = step["maybe"]
            if not proposer.suggest_categorical(f"{index}", [True, False]):
                continue
        if isinstance(step, Mapping):
            step = {
                name: {key: _closed(value, f"{index}.{name}.{key}", proposer, where) for key, value in options.items()}
                if isinstance(options, Mapping)
                else options
                for name, options in step.items()
            }
        steps.append(step)
    return {**content, "steps": steps}


def _closed(value: Any, name: str, proposer: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"choose"}:
        choices = value["choose"]
        if not isinstance(choices, list) or not choices:
            raise RecipeError(f"{where}: {name}: choose: is {choices!r}. Give a list.")
        # Optuna keeps plain values only: lists are proposed by their text.
        texts = [json.dumps(choice) for choice in choices]
        return json.loads(proposer.suggest_categorical(name, texts))
    if "range" in value and set(value) <= {"range", "log"}:
        ends = value["range"]
        if not isinstance(ends, list) or len(ends) != 2 or not all(isinstance(e, (int, float)) for e in ends):
            raise RecipeError(f"{where}: {name}: range: is {ends!r}. Give the lowest and the highest number.")
        log = bool(value.get("log", False))
        if ends[0] >= ends[1] or (log and ends[0] <= 0):
            raise RecipeError(f"{where}: {name}: range: is {ends!r}. Give the lower one first, above 0 for log.")
        if all(isinstance(end, int) for end in ends):
            return proposer.suggest_int(name, *ends, log=log)
        return proposer.suggest_float(name, *ends, log=log)
    return value


def longest(content: Mapping[str, Any]) -> Recipe:
    """A recipe of the space that leaves no step out: what it needs, all of them may need."""
    return recipe_of(close(content, _Ends(-1)))


class _Ends:
    """Proposes the first or the last of everything."""

    def __init__(self, end: int) -> None:
        self._end = end

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return choices[self._end] if choices != [True, False] else True

    def suggest_int(self, name: str, low: int, high: int, log: bool = False) -> int:
        return (low, high)[self._end]

    def suggest_float(self, name: str, low: float, high: float, log: bool = False) -> float:
        return (low, high)[self._end]


def search(
    space: Mapping[str, Any],
    evaluate: Callable[[Recipe], Figures],
    *,
    target: str,
    max_drop: float,
    trials: int,
    storage: Path,
    seed: int = 0,
    log: Callable[[str], None] = lambda line: None,
    unfit: tuple[type[Exception], ...] = (),
) -> Found:
    """Tries recipes of `space` until `trials` were tried, those of earlier runs with this `storage` among them.

    evaluate: does a recipe and measures it; an exception of `unfit` means that it cannot be done. The sampler is
    Optuna's TPE (Bergstra et al. 2011) for the target, with the budget as a constraint. An interrupt leaves
    what was tried in the storage. A recipe that comes up twice is not measured twice.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(logging.WARNING)
    storage.parent.mkdir(parents=True, exist_ok=True)
    journal = optuna.storages.JournalStorage(JournalFileBackend(str(storage)))
    study = optuna.create_study(
        study_name=json.dumps([space, target, max_drop], sort_keys=True),
        storage=journal,
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(4, trials // 4)),
        direction="minimize",
        load_if_exists=True,
    )
    states = optuna.trial.TrialState
    seen: dict[str, Figures] = {
        trial.user_attrs["recipe"]: Figures(**trial.user_attrs["figures"])
        for trial in study.get_trials(states=(states.COMPLETE,))
    }
    while len([t for t in study.get_trials(deepcopy=False) if t.state in (states.COMPLETE, states.PRUNED)]) < trials:
        trial = study.ask()
        recipe = recipe_of(close(space, trial))
        key = json.dumps(recipe.as_dict()["steps"], sort_keys=True, default=str)
        trial.set_user_attr("recipe", key)
        try:
            figures = seen[key] if key in seen else evaluate(recipe)
        except unfit as error:
            trial.set_user_attr("why", str(error))
            study.tell(trial, state=states.PRUNED)
            log(f"trial {trial.number}: {error}")
            continue
        seen[key] = figures
        trial.set_user_attr("figures", {name: float(getattr(figures, name)) for name in Figures.__dataclass_fields__})
        trial.set_constraint("drop", figures.drop - max_drop)
        study.tell(trial, figures.of(target))
        steps = ", ".join(str(step) for step in recipe.steps)
        log(f"trial {trial.number}: drop {figures.drop:+.4f}, {target} {figures.of(target):.4g}: {steps}")
    return judge(tuple(_trial(trial) for trial in study.get_trials() if trial.state.is_finished()), target, max_drop)


def _trial(trial: Any) -> Trial:
    recipe = recipe_of({"steps": json.loads(trial.user_attrs["recipe"])}, name=f"trial {trial.number}")
    figures = trial.user_attrs.get("figures")
    return Trial(trial.number, recipe, Figures(**figures) if figures else None, trial.user_attrs.get("why", ""))


def judge(trials: Sequence[Trial], target: str, max_drop: float) -> Found:
    """The best within the budget, the closest to it, and the front that nothing beats in accuracy, latency and size."""
    done = [trial for trial in trials if trial.figures is not None]
    within = [trial for trial in done if trial.figures and trial.figures.drop <= max_drop]
    best = min(within, key=lambda t: t.figures.of(target) if t.figures else 0.0, default=None)
    closest = min(done, key=lambda t: t.figures.drop if t.figures else 0.0, default=None)
    return Found(tuple(trials), best, closest, front(done))


def front(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Those that no other is at least as good as in accuracy, latency and size and better in one (Pareto)."""

    def costs(trial: Trial) -> tuple[float, float, float]:
        assert trial.figures is not None
        return -trial.figures.accuracy, trial.figures.latency, trial.figures.size

    def beaten(trial: Trial) -> bool:
        mine = costs(trial)
        return any(
            other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in map(costs, trials)
        )

    return tuple(trial for trial in trials if not beaten(trial))
