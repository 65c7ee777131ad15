"""The report of an optimisation: what was chosen, whether the budget is kept, and what everything cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from edge_vision.optimize.optimising import Budget, Optimised, Task, kept_bundle
from edge_vision.optimize.report import Report, TrialReport, Verdict
from edge_vision.optimize.report.building import machine_facts, measured_together, now, step_report, versions
from edge_vision.optimize.search import Trial


def told(
    task: Task,
    budget: Budget,
    done: Optimised,
    backends: Sequence[str],
    *,
    quick: bool = False,
    command: str = "",
    seconds: float = 0.0,
    step: Callable[[str], object] = lambda what: None,
) -> Report:
    """The report, with the latency and memory of every stage measured now, side by side with the original.

    backends: to measure on; the one judged by comes first. quick: shorter, one process for memory.
    """
    backends = (task.backend, *(name for name in backends if name != task.backend))
    threads = task.settings.threads or 1
    steps = tuple(step_report(one.stage, one.accuracy, one.drop) for one in done.stages)
    load: tuple[float, ...] = ()
    if steps:
        bundles = [kept_bundle(one.stage.network, task.settings.work) for one in done.stages]
        span, repeats = (0.4, 1) if quick else (4.0, 3)
        steps, run = measured_together(
            steps, bundles, backends, threads=threads, seconds=span, repeats=repeats, step=step
        )
        load = run.load_average
    first = done.stages[0].accuracy if done.stages else None
    return Report(
        model=task.network.bundle.name,
        task=task.network.task,
        data=task.data.name,
        metric=first.metric if first else "",
        images=first.images if first else 0,
        clips=first.clips if first else 0,
        device="cpu",
        threads=threads,
        max_drop=budget.max_drop,
        target=budget.target,
        backends=backends,
        steps=steps,
        verdict=verdict(task, budget, done),
        chosen=done.chosen.recipe.name if done.chosen else "",
        trials=tuple(_trial(trial, done) for trial in done.found.trials),
        command=command,
        date=now(),
        seconds=seconds,
        load_average=load,
        machine=machine_facts(),
        versions=versions(),
    )


def verdict(task: Task, budget: Budget, done: Optimised) -> Verdict:
    """What came of it, in words."""
    allowed = f"{100 * budget.max_drop:g} point{'s' if budget.max_drop != 0.01 else ''}"
    failed = [trial for trial in done.found.trials if trial.figures is None]
    notes = [f"{trial.recipe.name}: could not be done ({trial.why})" for trial in failed]
    notes += [
        f"{trial.recipe.name}: kept the budget where recipes were chosen, lost {_points(lost)} on the other half"
        for trial, lost in done.missed
    ]
    if not done.stages:
        return Verdict(False, "No recipe could be done.", tuple(notes))
    last = done.stages[-1]
    lost, interval = last.drop.value, f"95 % interval {_points(last.drop.low)} to {_points(last.drop.high)}"
    if done.chosen is None:
        name = done.found.closest.recipe.name if done.found.closest else ""
        text = (
            f"The budget of {allowed} of {last.accuracy.metric} cannot be met by what was tried. The closest, {name}, "
            f"loses {_points(lost)} ({interval})."
        )
        return Verdict(False, text, tuple(notes))
    figures = done.chosen.figures
    assert figures is not None
    text = (
        f"{done.chosen.recipe.name}: {last.accuracy.metric} {last.accuracy.value:.4f}, {_points(lost)} lost of "
        f"{allowed} allowed ({interval}); {figures.latency:.2f} of the original's time on {task.backend}."
    )
    if last.drop.high > budget.max_drop:
        notes.append(f"The interval reaches beyond the budget: {last.accuracy.images} images cannot exclude more loss.")
    if figures.of(budget.target) >= _before(done, budget.target):
        notes.append(f"Nothing that was tried is better than the original in {budget.target}.")
    return Verdict(True, text, tuple(notes))


def _before(done: Optimised, target: str) -> float:
    """The original's figure."""
    if target == "latency":
        return 1.0
    from edge_vision.optimize.measure.size import measure_size
    from edge_vision.optimize.optimising import memory_of

    network = done.stages[0].stage.network
    return float(measure_size(network.proto).packed or 0) if target == "size" else float(memory_of(network))


def _points(value: float) -> str:
    return f"{100 * value:.2f} points"


def _trial(trial: Trial, done: Optimised) -> TrialReport:
    figures = trial.figures
    about = TrialReport(trial.recipe.name, trial.recipe.as_dict(), why=trial.why)
    if figures is None:
        return about
    return replace(
        about,
        accuracy=figures.accuracy,
        drop=figures.drop,
        latency=figures.latency,
        size=figures.size,
        memory=figures.memory,
        front=trial in done.found.front,
        chosen=done.chosen is not None and trial.number == done.chosen.number,
    )
