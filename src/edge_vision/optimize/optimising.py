"""From a trained model to the smallest or fastest that keeps a budget of accuracy, with the proof of it.

Recipes are done, and judged on one half of the test data; the best within the budget has then to keep it on the other
half too, which nothing was chosen by and which the report states. Neither half was trained or calibrated on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_vision.inference.bundle import Bundle, load_bundle
from edge_vision.inference.errors import BackendError, InferenceError, ModelError
from edge_vision.optimize.data import Data, Split
from edge_vision.optimize.measure.accuracy import Accuracy, Drop, accuracy, drop
from edge_vision.optimize.measure.compute import measure_compute
from edge_vision.optimize.measure.latency import ORIGINAL, measure_latency
from edge_vision.optimize.measure.size import measure_size
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import PassError
from edge_vision.optimize.recipe import Recipe
from edge_vision.optimize.run import Settings, Stage, apply_recipe, digest
from edge_vision.optimize.saving import write_bundle
from edge_vision.optimize.search import Figures, Found, Trial, judge, search

UNFIT = (PassError, InferenceError)
"""Errors of one recipe, which others may not have."""


@dataclass(frozen=True)
class Budget:
    """max_drop: of the metric, 0.01 is a point; target: what is to be small, one of `search.TARGETS`."""

    max_drop: float
    target: str = "latency"


@dataclass(frozen=True)
class Task:
    """What is optimised. choosing, reporting: halves of the test split, without a clip in common; backend: that
    latencies are judged on; teacher: see `apply_recipe`."""

    network: Network
    data: Data
    choosing: Split
    reporting: Split
    backend: str
    settings: Settings
    teacher: Network | None = None
    seconds: float = 2.0


@dataclass(frozen=True)
class Measured:
    """A stage with its accuracy on the reporting half."""

    stage: Stage
    accuracy: Accuracy
    drop: Drop


@dataclass(frozen=True)
class Optimised:
    """found: how recipes were judged; chosen: the one that keeps the budget on both halves, None where none does;
    stages: of the chosen, or where there is none of the closest, each with its accuracy on the reporting half; missed:
    recipes that kept the budget where they were chosen and not on the reporting half, with their drop there."""

    found: Found
    chosen: Trial | None
    stages: tuple[Measured, ...]
    missed: tuple[tuple[Trial, float], ...]


def halves(split: Split) -> tuple[Split, Split]:
    """The split by its clips, every second one. Raises ValueError for a split of one clip."""
    clips = np.unique(split.sequences)
    if len(clips) < 2:
        raise ValueError("the test data is one clip: give at least two, one to choose by and one to report on")
    first = np.isin(split.sequences, clips[::2])
    return split.part(first), split.part(~first)


def optimise(task: Task, recipes: Iterable[Recipe], budget: Budget) -> Optimised:
    """Does every recipe and takes the best. A recipe that cannot be done is told in `found.trials`."""
    judged = Judging(task, budget)
    trials = []
    for number, recipe in enumerate(recipes):
        try:
            trials.append(Trial(number, recipe, judged(recipe)))
        except UNFIT as error:
            task.settings.log(f"{recipe.name}: {error}")
            trials.append(Trial(number, recipe, None, str(error)))
    return confirm(task, judge(trials, budget.target, budget.max_drop), budget)


def optimise_by_search(task: Task, space: dict, budget: Budget, trials: int, storage: Path) -> Optimised:
    """As `optimise`, with recipes that are proposed; see `search`."""
    found = search(
        space,
        Judging(task, budget),
        target=budget.target,
        max_drop=budget.max_drop,
        trials=trials,
        storage=storage,
        seed=task.settings.seed,
        log=task.settings.log,
        unfit=UNFIT,
    )
    return confirm(task, found, budget)


class Judging:
    """A recipe's figures on the half to choose by. The original is measured once."""

    def __init__(self, task: Task, budget: Budget) -> None:
        self._task = task
        self._budget = budget
        self._log = task.settings.log
        network = task.network
        self._original = accuracy(network, task.choosing, backend=task.backend, threads=_threads(task))
        self._log(f"original: {self._original.metric} {self._original.value:.4f}")

    def __call__(self, recipe: Recipe) -> Figures:
        task = self._task
        self._log(f"recipe {recipe.name}:" if recipe.name else "recipe:")
        final = apply_recipe(task.network, recipe, task.data, task.settings, task.teacher)[-1].network
        split = fitted(task, final, task.choosing, "choosing")
        after = accuracy(final, split, backend=task.backend, threads=_threads(task))
        ratio = relative_latency(task, final)
        figures = Figures(
            accuracy=after.value,
            drop=self._original.value - after.value,
            latency=ratio,
            size=float(measure_size(final.proto).packed or 0),
            memory=float(memory_of(final)),
        )
        kept = "within" if figures.drop <= self._budget.max_drop else "beyond"
        self._log(
            f"{recipe.name}: {after.metric} {after.value:.4f}, drop {figures.drop:+.4f} ({kept} the budget), "
            f"{ratio:.2f} of the original's time, {figures.size / 1000:.0f} kB packed"
        )
        return figures


def confirm(task: Task, found: Found, budget: Budget) -> Optimised:
    """The best of what was found that keeps the budget on the reporting half too."""
    done = [trial for trial in found.trials if trial.figures]
    within = sorted(
        (trial for trial in done if trial.figures and trial.figures.drop <= budget.max_drop),
        key=lambda trial: trial.figures.of(budget.target) if trial.figures else 0.0,
    )
    missed: list[tuple[Trial, float]] = []
    for trial in within:
        stages = measured_stages(task, trial.recipe)
        if stages[-1].drop.value <= budget.max_drop:
            return Optimised(found, trial, stages, tuple(missed))
        missed.append((trial, stages[-1].drop.value))
    stages = measured_stages(task, found.closest.recipe) if found.closest else ()
    return Optimised(found, None, stages, tuple(missed))


def measured_stages(task: Task, recipe: Recipe) -> tuple[Measured, ...]:
    """Every stage of a recipe, made before, with its accuracy on the reporting half."""
    stages = apply_recipe(task.network, recipe, task.data, task.settings, task.teacher)
    measured: list[Measured] = []
    for stage in stages:
        split = fitted(task, stage.network, task.reporting, "reporting")
        value = accuracy(stage.network, split, backend=task.backend, threads=_threads(task))
        measured.append(Measured(stage, value, drop(measured[0].accuracy if measured else value, value)))
    return tuple(measured)


def fitted(task: Task, network: Network, split: Split, which: str) -> Split:
    """A half of the test data in the size of the network's input, which a pass may have changed."""
    spec = network.input
    if split.images.shape[1:3] == (spec.height, spec.width):
        return split
    choosing, reporting = halves(task.data.at(spec.width, spec.height).test)
    return choosing if which == "choosing" else reporting


def memory_of(network: Network) -> int:
    """Bytes of weights as they are computed with, and of the most activations alive at a time."""
    cost = measure_compute(network.proto)
    return sum(layer.weight_bytes for layer in cost.layers) + cost.peak_bytes


def relative_latency(task: Task, network: Network) -> float:
    """The p50 of a network as a share of the original's, the two side by side."""
    models = {"this": kept_bundle(network, task.settings.work)}
    original = kept_bundle(task.network, task.settings.work)
    run = measure_latency(original, models, (task.backend,), threads=_threads(task), seconds=task.seconds)
    row = run.of("this", task.backend)
    if row is None or row.ratio is None:
        raise BackendError(row.problem if row else f"{task.backend} gave no figures", "choose another --device")
    return row.ratio


def kept_bundle(network: Network, work: Path) -> Bundle:
    """The network as a bundle among the files of the run, written where it is not there."""
    folder = work / "bundles" / digest(network.proto)
    try:
        return load_bundle(folder)
    except ModelError:
        return write_bundle(network, folder)


def fastest_backend(network: Network, backends: Sequence[str], work: Path, threads: int) -> str:
    """Of `backends`, the one that runs the network in the least time. Raises BackendError where none does."""
    run = measure_latency(kept_bundle(network, work), {}, backends, threads=threads, seconds=1.0)
    rows = [row for row in run.rows if row.model == ORIGINAL and not row.problem]
    if not rows:
        problems = "; ".join(f"{row.backend}: {row.problem}" for row in run.rows)
        raise BackendError(f"no backend here runs the model ({problems})", "install onnxruntime or openvino")
    return min(rows, key=lambda row: row.p50_ms).backend


def _threads(task: Task) -> int:
    return task.settings.threads or 1
