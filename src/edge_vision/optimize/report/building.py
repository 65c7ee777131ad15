"""A report from what was measured, and the measuring that only a report needs: sizes, latencies and memory of steps."""

from __future__ import annotations

import dataclasses
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from edge_vision.inference.bundle import Bundle
from edge_vision.inference.hardware import detect_hardware
from edge_vision.optimize.measure.compute import measure_compute
from edge_vision.optimize.measure.latency import LatencyRun, measure_latency
from edge_vision.optimize.measure.memory import Memory, measure_memory
from edge_vision.optimize.measure.size import measure_size
from edge_vision.optimize.report.data import Score, StepReport, plain

if TYPE_CHECKING:
    from edge_vision.optimize.measure.accuracy import Accuracy, Drop
    from edge_vision.optimize.run import Stage

_PACKAGES = ("edge_vision", "onnxruntime", "openvino", "onnx", "torch", "numpy", "opencv-python-headless")


def step_report(stage: Stage, accuracy: Accuracy | None = None, drop: Drop | None = None) -> StepReport:
    """A stage's sizes, arithmetic and accuracy; latency and memory are added by `measured_together`."""
    spec = stage.network.input
    return StepReport(
        name=stage.label,
        size=measure_size(stage.network.proto),
        compute=measure_compute(stage.network.proto),
        options=plain(stage.step.as_dict()) if stage.step is not None else {},
        facts=plain(stage.facts),
        refused=tuple(stage.refused),
        seconds=stage.seconds,
        input=(spec.width, spec.height),
        accuracy=score(accuracy),
        drop=score(drop),
    )


def score(measured: Accuracy | Drop | None) -> Score | None:
    return None if measured is None else Score(float(measured.value), float(measured.low), float(measured.high))


def measured_together(
    steps: Sequence[StepReport],
    bundles: Sequence[Bundle],
    backends: Sequence[str],
    *,
    device: str = "cpu",
    threads: int = 1,
    seconds: float = 5.0,
    repeats: int = 3,
    step: Callable[[str], object] = lambda what: None,
) -> tuple[tuple[StepReport, ...], LatencyRun]:
    """The steps with their latency and memory on every backend, all side by side with the first, the original.

    bundles: of the steps, in their order. seconds: of measuring for each step on each backend; repeats: processes of
    each for memory, 0 to leave memory out; step: is told what comes next, once a backend
    for each of the two.
    """
    # Steps may have one name: they are told apart by their number while they are measured.
    others = {str(index): bundle for index, bundle in enumerate(bundles) if index}
    where: dict[str, Any] = {"device": device, "threads": threads}
    run = measure_latency(
        bundles[0], others, backends, seconds=seconds, step=lambda name: step(f"latency on {name}"), **where
    )
    memory: tuple[Memory, ...] = ()
    if repeats:
        memory = measure_memory(
            bundles[0], others, backends, repeats=repeats, step=lambda name: step(f"memory on {name}"), **where
        )
    done = []
    for index, one in enumerate(steps):
        label = str(index) if index else "original"
        latencies = tuple(dataclasses.replace(row, model=one.name) for row in run.rows if row.model == label)
        memories = tuple(dataclasses.replace(row, model=one.name) for row in memory if row.model == label)
        done.append(dataclasses.replace(one, latency=latencies, memory=memories))
    return tuple(done), run


def machine_facts() -> dict[str, str]:
    """What the figures hold for."""
    found = detect_hardware()
    memory = f"{found.memory / 2**30:.1f} GiB" if found.memory else "unknown"
    return {
        "machine": found.model,
        "processor": found.processor or platform.processor() or platform.machine(),
        "cores": f"{found.cores} ({found.physical_cores or 'unknown number of'} physical)",
        "memory": memory,
        "instructions": ", ".join(found.flags),
        "system": f"{found.system or platform.system()}, kernel {found.kernel or platform.release()}",
    }


def versions() -> dict[str, str]:
    """Of the packages that took part."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def now() -> str:
    """Date and time with the zone."""
    return time.strftime("%Y-%m-%d %H:%M %z")


def command(arguments: Sequence[str]) -> str:
    """A command line for people to run again, home folders shortened."""
    import shlex

    home = os.path.expanduser("~")
    return shlex.join(a.replace(home, "~", 1) if a.startswith(home + os.sep) else a for a in arguments)
