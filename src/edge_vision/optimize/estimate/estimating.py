"""The estimate itself: latency, RAM and flash of a model on a target, each with what it rests on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge_vision.inference.errors import ModelError
from edge_vision.optimize.estimate.graph import Model
from edge_vision.optimize.estimate.microcontroller import Finding, float_layers, unsupported
from edge_vision.optimize.estimate.operations import BYTES, Operation, total_macs, total_weights
from edge_vision.optimize.estimate.roofline import parts, seconds, slowest, work
from edge_vision.optimize.estimate.targets import Memory, Setting, Target

PRECISIONS = ("fp32", "fp16", "int8")
_QUANTISATION_BYTES = 12
"""An output channel of an int8 layer: a bias of 32 bits, a multiplier of 32 bits and its shift (TFLite's scheme)."""


@dataclass(frozen=True, slots=True)
class Latency:
    """ms: the estimate; low, high: 4 of 5 networks are expected within. threads: 0 where the runtime has no choice.
    parts: shares of ms that go to arithmetic, moving bytes and calling operators. slowest: operators with their ms."""

    setting: str
    runtime: str
    device: str
    threads: int
    ms: float
    low: float
    high: float
    points: int
    parts: tuple[float, float, float]
    slowest: tuple[tuple[str, float], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Fit:
    """needed, total: bytes; detail: what is needed for what, in words; source: of the target's numbers; error: root
    mean square error of `needed`, in the logarithm, where published numbers told it, else 0."""

    needed: int
    total: int
    detail: str
    source: str
    error: float = 0.0

    @property
    def fits(self) -> bool:
        return self.needed <= self.total

    @property
    def close(self) -> bool:
        """Whether the error decides."""
        return abs(math.log(self.needed / self.total)) < self.error if self.total else False


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of one model on one target. latencies: a runtime each, the usual first; flash: None where the model lies on a
    card or disk; packed: bytes of the model as `optimize.packing` ships it; assumed_int8: the file is float and was
    estimated as if quantised whole; findings: operators without fast kernels; floats: layers that have to be int8."""

    model: str
    target: str
    title: str
    precision: str
    macs: int
    parameters: int
    latencies: tuple[Latency, ...]
    ram: Fit
    flash: Fit | None
    packed: int | None
    assumed_int8: bool
    findings: tuple[Finding, ...]
    floats: tuple[str, ...]
    notes: tuple[str, ...]


def estimate(model: Model, target: Target, precision: str = "", threads: int = 0) -> Estimate:
    """precision: of `PRECISIONS`, "" for the model's own, and int8 on microcontrollers. threads: 0 for every setting
    of the target. Raises ModelError where the target has no setting for them."""
    wanted = precision or ("int8" if target.kind == "microcontroller" else model.precision)
    if wanted != "int8" and model.precision == "int8":
        raise ModelError(model.name, f"is int8 and cannot be estimated as {wanted}", "name the file that it came from")
    settings = _settings(target, wanted, threads)
    notes = [target.notes] if target.notes else []
    if threads and any(setting.threads for setting in settings):
        notes += _notes_of_threads(settings, threads)
    assumed = wanted == "int8" and model.precision != "int8"
    if assumed:
        notes.append(f"the file is {model.precision}: estimated as if all of it were quantised to int8")
    findings, floats = _for_microcontroller(model, target)
    return Estimate(
        model=model.name,
        target=target.name,
        title=target.title,
        precision=wanted,
        macs=total_macs(model.operations),
        parameters=total_weights(model.operations),
        latencies=_latencies(model.operations, settings, threads),
        ram=_ram(model, target, wanted),
        flash=_flash(model, target.flash, wanted) if target.flash else None,
        packed=model.packed,
        assumed_int8=assumed,
        findings=findings,
        floats=floats,
        notes=tuple(notes),
    )


def _notes_of_threads(settings: Sequence[Setting], threads: int) -> list[str]:
    counts = sorted({setting.threads for setting in settings if setting.threads})
    if threads in counts:
        return []
    if counts[0] == 1 and len(counts) > 1:
        return [f"no points with {threads} threads: by Amdahl's law from those with 1 and {counts[-1]}"]
    return [f"no points with {threads} threads: those with {counts[-1]} are shown"]


def _settings(target: Target, precision: str, threads: int) -> list[Setting]:
    found = [setting for setting in target.settings if precision in setting.takes]
    if not found:
        known = ", ".join(sorted({name for setting in target.settings for name in setting.takes}))
        raise ModelError(target.name, f"nothing is known of {precision} there", f"choose --precision {known}")
    most = max(setting.threads for setting in found)
    if threads > most > 0:
        raise ModelError(target.name, f"{threads} threads are more than were measured", f"choose --threads 1 to {most}")
    return found


def _latencies(operations: Sequence[Operation], settings: Sequence[Setting], threads: int) -> tuple[Latency, ...]:
    rows = [_latency(operations, setting) for setting in settings]
    if not threads:
        return tuple(rows)
    fixed = [row for row in rows if not row.threads]
    exact = [row for row in rows if row.threads == threads]
    if exact or len(fixed) == len(rows):
        return (*fixed, *exact)
    between = _between([row for row in rows if row.threads], threads)
    return (*fixed, between) if between else tuple(rows)


def _latency(operations: Sequence[Operation], setting: Setting) -> Latency:
    done = work(operations, setting.arithmetic)
    time = seconds(done, setting.constants) * 1e3
    shares = parts(done, setting.constants) * 1e3 / time
    low, high = setting.error.interval(time)
    return Latency(
        setting=setting.name,
        runtime=setting.runtime,
        device=setting.device,
        threads=setting.threads,
        ms=time,
        low=low,
        high=high,
        points=setting.error.points,
        parts=(float(shares[:4].sum()), float(shares[4]), float(shares[5:].sum())),
        slowest=tuple(
            (operation.name, took * 1e3)
            for operation, took in slowest(operations, setting.arithmetic, setting.constants)
        ),
        note=setting.note,
    )


def _between(rows: Sequence[Latency], threads: int) -> Latency | None:
    """By Amdahl's law from one thread and the most: serial + parallel / threads. None where only one is known."""
    one = next((row for row in rows if row.threads == 1), None)
    most = max(rows, key=lambda row: row.threads)
    if one is None or most.threads <= 1:
        return None
    part = (1 / threads - 1 / most.threads) / (1 - 1 / most.threads)

    def mix(a: float, b: float) -> float:
        return b + (a - b) * part

    return Latency(
        f"{most.runtime}-{threads}", most.runtime, most.device, threads, mix(one.ms, most.ms), mix(one.low, most.low),
        mix(one.high, most.high), most.points, most.parts, most.slowest,
    )  # fmt: skip


def _weights(model: Model, precision: str) -> int:
    size = total_weights(model.operations) * BYTES[precision]
    return size + (model.outputs * _QUANTISATION_BYTES if precision == "int8" else 0)


def _ram(model: Model, target: Target, precision: str) -> Fit:
    held = 0 if target.kind == "microcontroller" else int(_weights(model, precision) * target.ram.weights)
    activations = int(model.peak_in(precision) * target.ram.activations)
    words = f"activations {in_units(activations)}, runtime {in_units(target.ram.own)}"
    if held:
        words += f", weights {in_units(held)}"
    return Fit(held + activations + target.ram.own, target.ram.total, words, target.ram.source, target.ram.error)


def _flash(model: Model, flash: Memory, precision: str) -> Fit:
    weights = _weights(model, precision)
    return Fit(
        weights + flash.own, flash.total, f"model {in_units(weights)}, runtime {in_units(flash.own)}", flash.source
    )


def _for_microcontroller(model: Model, target: Target) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    if target.kind != "microcontroller":
        return (), ()
    library = "esp_nn" if target.name.startswith("esp32") else "cmsis_nn"
    return unsupported(model.proto, library), float_layers(model.proto)


def in_units(count: float) -> str:
    """A number of bytes for people, in powers of 1000."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
