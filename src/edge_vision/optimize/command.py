"""What `edge_vision optimize` does, from its arguments to the files."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_vision.inference.backends import backend as backend_module
from edge_vision.inference.bundle import load_bundle
from edge_vision.inference.errors import ModelError
from edge_vision.optimize.loading import Limits, load_data
from edge_vision.optimize.network import Network
from edge_vision.optimize.optimising import (
    Budget,
    Optimised,
    Task,
    fastest_backend,
    halves,
    optimise,
    optimise_by_search,
)
from edge_vision.optimize.passes import Bar
from edge_vision.optimize.recipe import Recipe, read_recipe, shipped_recipes
from edge_vision.optimize.run import Settings, check_needs
from edge_vision.optimize.saving import exclusive, prove, write_bundle
from edge_vision.optimize.search import longest, read_space
from edge_vision.paths import find_model

AUTO = "auto"
BACKENDS = ("onnxruntime", "openvino")
"""Backends that latencies are measured on; the first is there wherever this package is."""
QUICK = Limits(train=224, calibration=64, test=80)
USUAL_TEST = 400  # images, both halves together
UNTRAINED = 10  # training images that are read where nothing trains: the least that data may have


@dataclass(frozen=True)
class Request:
    """The command's arguments, see its --help. space: "" for recipes; recipes: () for all that fit."""

    model: str
    data: str
    out: Path
    work: Path
    max_drop: float = 0.01
    target: str = "latency"
    backend: str = AUTO
    backends: tuple[str, ...] = BACKENDS
    recipes: tuple[str, ...] = ()
    train: bool = False
    space: str = ""
    trials: int = 20
    teacher: str = ""
    train_images: int | None = None
    test_images: int | None = None
    quick: bool = False
    packed: bool = False
    closest: bool = False
    threads: int = 1
    training_threads: int = 0
    seed: int = 0
    dry_run: bool = False
    command: str = ""


@dataclass(frozen=True)
class Done:
    """How it went. met: the budget is kept (or nothing was asked for, in a dry run); text, report: for people, for
    JSON."""

    met: bool
    lines: tuple[str, ...]
    report: Mapping[str, Any]

    def text(self) -> str:
        return "\n".join(self.lines)

    def as_dict(self) -> dict[str, Any]:
        return dict(self.report)


def load_network(reference: str) -> Network:
    """A model as passes take it: the fp32 ONNX file of its bundle. Raises ModelError where it has none, or its weights
    lie in a file of their own."""
    import onnx

    bundle = load_bundle(find_model(reference))
    files = [v for v in bundle.variants if v.path.suffix == ".onnx"]
    plain = [v for v in files if v.precision == "fp32"] or files
    if not plain:
        found = ", ".join(variant.path.name for variant in bundle.variants)
        raise ModelError(bundle.file, f"has no ONNX file ({found})", "export the model to ONNX", "variants")
    path = plain[0].path
    try:
        proto = onnx.load(path)
        onnx.checker.check_model(proto)
    except Exception as error:  # protobuf's and the checker's own
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(path, f"is no sound ONNX file: {first}", "export the model again") from error
    if bundle.task not in ("detect", "classify"):
        raise ModelError(bundle.file, f"is for {bundle.task}", "give a detector or a classifier", "task")
    spec = plain[0].input or bundle.input
    return Network(proto, dataclasses.replace(bundle, input=spec))


def carry_out(request: Request, say: Callable[[str], None]) -> Done:
    """Does it. Raises RecipeError, PassError, DataError, InferenceError, ValueError, OSError: what is wrong and what
    to do; nothing but the work folder is written then."""
    begun = time.monotonic()
    exclusive(request.out / "bundle")
    network = load_network(request.model)
    teacher = load_network(request.teacher) if request.teacher else None
    space = read_space(request.space) if request.space else None
    recipes = () if space else _recipes(request, say)
    wanted = [longest(space)] if space else list(recipes)
    if request.dry_run:
        return _plan(request, network, wanted)
    trains = any(recipe.needs & {"train"} for recipe in wanted)
    data = load_data(
        request.data,
        network.input,
        network.task,
        network.labels,
        limits=_limits(request, trains),
        bar=_bar,
        warn=lambda text: say(f"careful: {text}"),
    )
    for recipe in wanted:
        check_needs(recipe, True)
    settings = Settings(request.work, request.seed, request.threads, request.training_threads, _bar, say)
    chosen = request.backend
    if chosen == AUTO:
        chosen = fastest_backend(network, request.backends, request.work, request.threads)
        say(f"judged by its time on {chosen}, the fastest here (--device names another)")
    choosing, reporting = halves(data.test)
    task = Task(network, data, choosing, reporting, chosen, settings, teacher, 0.4 if request.quick else 2.0)
    budget = Budget(request.max_drop, request.target)
    if space:
        done = optimise_by_search(task, space, budget, request.trials, request.work / "search.log")
    else:
        done = optimise(task, recipes, budget)
    return _written(request, task, budget, done, time.monotonic() - begun, say)


def _recipes(request: Request, say: Callable[[str], None]) -> tuple[Recipe, ...]:
    if request.recipes:
        return tuple(read_recipe(name) for name in request.recipes)
    known = [read_recipe(name) for name in shipped_recipes()]
    return tuple(recipe for recipe in known if request.train or not recipe.needs & {"train"})


def _limits(request: Request, trains: bool) -> Limits:
    usual = QUICK if request.quick else Limits(test=USUAL_TEST)
    train = request.train_images or usual.train
    return Limits(
        train=train if trains else UNTRAINED,
        calibration=usual.calibration,
        test=request.test_images or usual.test,
    )


def _plan(request: Request, network: Network, recipes: list[Recipe]) -> Done:
    lines = [f"{network.bundle.name} ({network.task}), on {request.data}, may lose {request.max_drop:g}:"]
    for recipe in recipes:
        check_needs(recipe, True)
        lines.append(f"  {recipe.name or 'a trial'}: " + " -> ".join(str(step) for step in recipe.steps))
    return Done(True, tuple(lines), {"model": request.model, "recipes": [recipe.as_dict() for recipe in recipes]})


def _written(
    request: Request, task: Task, budget: Budget, done: Optimised, seconds: float, say: Callable[[str], None]
) -> Done:
    from edge_vision.optimize.report import write_report
    from edge_vision.optimize.report.data import as_dict
    from edge_vision.optimize.telling import told

    say("measuring every step side by side with the original")
    report = told(
        task, budget, done, request.backends, quick=request.quick, command=request.command, seconds=seconds, step=say
    )
    request.out.mkdir(parents=True, exist_ok=True)
    files = write_report(report, request.out)
    lines = [report.verdict.text, *report.verdict.notes]
    if done.chosen or (request.closest and done.stages):
        bundle = write_bundle(
            done.stages[-1].stage.network,
            request.out / "bundle",
            measured=_figures(done),
            provenance={"optimized_by": request.command or "edge_vision optimize"},
            packed=request.packed,
        )
        prove(bundle, _proofs(task, budget, done, request.backends))
        lines.append(f"bundle: {bundle.folder}")
    lines += [f"report: {path}" for path in files if path.suffix in (".html", ".md", ".json")]
    return Done(done.chosen is not None, tuple(lines), as_dict(report))


def _figures(done: Optimised) -> dict[str, Any]:
    last = done.stages[-1]
    return {
        last.accuracy.metric: round(last.accuracy.value, 4),
        "drop": round(last.drop.value, 4),
        "images": last.accuracy.images,
    }


def _proofs(
    task: Task, budget: Budget, done: Optimised, backends: Sequence[str]
) -> list[tuple[str, str, Mapping[str, Any], bool, str]]:
    """On each backend that runs it: the accuracy on the reporting half, and whether the budget is kept there."""
    from edge_vision.inference.errors import InferenceError
    from edge_vision.optimize.measure.accuracy import accuracy, drop
    from edge_vision.optimize.optimising import fitted

    first, last = done.stages[0], done.stages[-1]
    proofs: list[tuple[str, str, Mapping[str, Any], bool, str]] = []
    for name in dict.fromkeys((task.backend, *backends)):
        network = last.stage.network
        try:
            module = backend_module(name)
            if module.available():
                continue
            if name == task.backend:
                found, lost = last.accuracy, last.drop
            else:
                split = fitted(task, network, task.reporting, "reporting")
                found = accuracy(network, split, backend=name, threads=task.settings.threads or 1)
                lost = drop(first.accuracy, found)
        except InferenceError as error:
            proofs.append((name, "", {}, False, error.problem))
            continue
        figures = {found.metric: round(found.value, 5), "drop": round(lost.value, 5), "images": found.images}
        kept = lost.value <= budget.max_drop
        problem = "" if kept else f"loses {lost.value:.4f} of {found.metric}; the budget was {budget.max_drop:g}"
        proofs.append((name, module.version(), figures, kept, problem))
    return proofs


def _bar(description: str, total: int) -> Bar:
    from tqdm import tqdm

    return tqdm(total=total, desc=description, file=sys.stderr, leave=False, dynamic_ncols=True)
