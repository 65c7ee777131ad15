"""Machines that can be estimated for: the files of config/targets, with what was published about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.errors import ModelError
from edge_vision.inference.schema import Section, read_yaml
from edge_vision.optimize.estimate.architectures import ARCHITECTURES, architecture
from edge_vision.optimize.estimate.fitting import Prior, fit, left_out
from edge_vision.optimize.estimate.operations import BYTES, Operation
from edge_vision.optimize.estimate.roofline import Constants, Error, Work, work
from edge_vision.optimize.estimate.sketch import Sketch
from edge_vision.paths import share_directory

KINDS = ("linux", "microcontroller")
_REMEDY = "see docs/estimate.md for what a target file holds"


@dataclass(frozen=True)
class Point:
    """A published measurement. network: of `architecture`, or a kernel as in the file; ms; clock in MHz of the machine
    that it was measured on; fitted: whether the constants come from it too; source: where it differs from the
    setting's; note: where the network was not quite the same."""

    network: str
    ms: float
    clock: float
    operations: tuple[Operation, ...]
    fitted: bool = True
    source: str = ""
    note: str = ""

    @property
    def group(self) -> str:
        """Points of one network at several sizes, or of one with other classes, prove little about each other."""
        return self.network.partition("@")[0].removesuffix("_flowers")


@dataclass(frozen=True)
class Setting:
    """A runtime on a target: name, runtime, device, threads (0: not threaded), arithmetic (a key of `BYTES`: what moves
    through the memory), takes (precisions of the models that it runs so), source (of the points), clock in MHz,
    prior, constants and their error; like: the setting that it is derived from, `factor` times slower."""

    name: str
    runtime: str
    device: str
    threads: int
    arithmetic: str
    takes: tuple[str, ...]
    source: str
    clock: float
    prior: Prior
    constants: Constants
    error: Error
    points: tuple[Point, ...] = ()
    like: str = ""
    factor: float = 1.0
    note: str = ""

    @cached_property
    def _fitted_points(self) -> list[tuple[Work, float]]:
        """At the target's clock."""
        return [
            (work(point.operations, self.arithmetic), point.ms * 1e-3 * point.clock / self.clock)
            for point in self.points
            if point.fitted
        ]

    def fit(self) -> Constants:
        return fit(self._fitted_points, self.prior)

    def left_out(self) -> NDArray[np.float64]:
        """(N,) estimate / measured of the fitted points, each by constants that do not know it. Needs scipy."""
        return self._left_out

    @cached_property
    def _left_out(self) -> NDArray[np.float64]:
        return left_out(self._fitted_points, self.prior, [point.group for point in self.points if point.fitted])


@dataclass(frozen=True)
class Memory:
    """total: bytes; own: bytes of the runtime itself; weights, activations: how often each is held; source, derived:
    where the numbers are from. points: published bytes of activations by network, error: root mean square of
    log(estimate / published) over them, 0 where nothing was published."""

    total: int
    own: int
    source: str
    weights: float = 1.0
    activations: float = 1.0
    error: float = 0.0
    points: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """name; title; kind (of `KINDS`); settings, the usual first; ram and flash (flash None: a card or disk); aliases;
    operators: name of the table of operators in microcontroller_operators.yaml; notes for people."""

    name: str
    title: str
    kind: str
    settings: tuple[Setting, ...]
    ram: Memory
    flash: Memory | None
    file: Path
    aliases: tuple[str, ...] = ()
    notes: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


def target_folder() -> Path:
    return share_directory() / "config" / "targets"


def target_names() -> tuple[str, ...]:
    """Of config/targets, in alphabetical order; and `this` is the machine that asks."""
    return tuple(sorted(path.stem for path in target_folder().glob("*.yaml")))


def find_target(name: str) -> Target:
    """By the name of its file, an alias, or the path of a file of its own. Raises ModelError for what is none."""
    path = target_folder() / f"{name}.yaml"
    if path.is_file():
        return read_target(path)
    if name.endswith((".yaml", ".yml")):
        return read_target(Path(name).expanduser())
    for other in target_names():
        target = read_target(target_folder() / f"{other}.yaml")
        if name in target.aliases:
            return target
    known = ", ".join((*target_names(), "this", "all"))
    raise ModelError(name, "there is no such target", f"choose one of {known}, or name a file like those")


def read_target(path: Path, fitted: bool = True) -> Target:
    """fitted: constants must be there. Raises ModelError with file, key, problem and remedy."""
    if not path.is_file():
        raise ModelError(path, "there is no such file", _REMEDY)
    head = Section(read_yaml(path), path)
    head.take("format", int)
    clock = head.take("clock_mhz", float)
    title, kind = head.take("title", str), head.take("kind", str, choices=KINDS)
    settings: dict[str, Setting] = {}
    for section in head.sections("settings"):
        setting = _setting(section, clock, settings, fitted)
        settings[setting.name] = setting
    if not settings:
        raise head.error("settings", "is empty", "name at least one runtime with its points")
    ram = _memory(head.section("ram"))
    flash = _memory(head.section("flash")) if head.content.get("flash") else None
    head.taken.append("flash")
    aliases = tuple(str(alias) for alias in head.take("aliases", list, []))
    notes = head.take("notes", str, "")
    head.finish()
    return Target(path.stem, title, kind, tuple(settings.values()), ram, flash, path, aliases, notes)


def _memory(section: Section) -> Memory:
    memory = Memory(
        total=section.take("bytes", int),
        own=section.take("runtime", int),
        source=section.take("source", str),
        weights=section.take("weights", float, 1.0),
        activations=section.take("activations", float, 1.0),
        error=section.take("error", float, 0.0),
        points={str(name): int(float(kib) * 1024) for name, kib in section.take("points_kib", dict, {}).items()},
    )
    section.finish()
    return memory


def _setting(section: Section, clock: float, before: Mapping[str, Setting], fitted: bool) -> Setting:
    name = section.take("name", str)
    source = section.take("source", str)
    note = section.take("note", str, "")
    like = section.take("like", str, "", choices=("", *before))
    if like:
        base = before[like]
        factor, spread = section.take("factor", float), section.take("factor_rms", float)
        runtime = section.take("runtime", str)
        section.finish()
        error = Error(float(np.hypot(base.error.rms, spread)), base.error.points)
        return Setting(
            name, runtime, base.device, base.threads, base.arithmetic, base.takes, source, clock,
            base.prior, base.constants.faster(1 / factor), error, (), like, factor, note,
        )  # fmt: skip
    prior = section.section("prior")
    ratios = prior.numbers("ratios", (2.0, 1.0, 1.0, 1 / 3), 4)
    bandwidth, call = prior.take("bandwidth", float), prior.take("call", float)
    prior.finish()
    known = section.take("constants", dict, {} if not fitted else ...)
    error_section = section.section("error", {} if not fitted else ...)
    error = Error(error_section.take("rms", float, 0.0), error_section.take("points", int, 0))
    try:
        constants = Constants(**{key: float(value) for key, value in known.items()}) if known else _UNFITTED
    except (TypeError, ValueError) as wrong:
        raise section.error("constants", str(wrong), "write them with the fitting module") from wrong
    setting = Setting(
        name=name,
        runtime=section.take("runtime", str),
        device=section.take("device", str, "cpu"),
        threads=section.take("threads", int, 0),
        arithmetic=section.take("arithmetic", str, choices=tuple(BYTES)),
        takes=tuple(section.take("takes", list)),
        source=source,
        clock=clock,
        prior=Prior((ratios[0], ratios[1], ratios[2], ratios[3]), bandwidth, call),
        constants=constants,
        error=error,
        points=tuple(_point(item, clock) for item in section.sections("points")),
        note=note,
    )
    section.finish()
    return setting


_UNFITTED = Constants(1e9, 1e9, 1e9, 1e9, 1e9, 0.0)


def _point(section: Section, clock: float) -> Point:
    name = section.take("network", str)
    measured = section.take("clock_mhz", float, clock)
    kernel = section.take("kernel", dict, {})
    if not kernel and name.partition("@")[0] not in ARCHITECTURES:
        raise section.error("network", f"{name!r} is not described", f"known are {', '.join(ARCHITECTURES)}")
    ticks = section.take("ticks", float, 0.0)
    point = Point(
        network=name,
        ms=ticks / measured * 1e-3 if ticks else section.take("ms", float),
        clock=measured,
        operations=_kernel(Section(kernel, section.file, f"{section.prefix}kernel.")) if kernel else architecture(name),
        fitted=section.take("fitted", bool, True),
        source=section.take("source", str, ""),
        note=section.take("note", str, ""),
    )
    section.finish()
    return point


def _kernel(section: Section) -> tuple[Operation, ...]:
    """One operator alone: `{type: conv, height, width, channels, out, kernel, stride, valid}`."""
    kind = section.take("type", str, choices=("conv", "depthwise", "pool", "add", "linear", "activation"))
    numbers = {key: section.take(key, int, 1) for key in ("height", "width", "channels", "out", "kernel", "stride")}
    valid = section.take("valid", bool, False)
    section.finish()
    sketch = Sketch((numbers["height"], numbers["width"]), numbers["channels"])
    kernel, stride, out = numbers["kernel"], numbers["stride"], numbers["out"]
    if kind == "conv":
        sketch.conv(out, kernel, stride, valid=valid)
    elif kind == "depthwise":
        sketch.conv(out, kernel, stride, group=numbers["channels"], valid=valid)
    elif kind == "pool":
        sketch.pool(kernel, stride, valid)
    elif kind == "linear":
        sketch.linear(out)
    else:
        getattr(sketch, kind)()
    return tuple(sketch.operations)
