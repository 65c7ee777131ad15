"""What a report holds: plain data that JSON gives back as it was."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from edge_vision.optimize.measure.compute import Compute
from edge_vision.optimize.measure.latency import Latency
from edge_vision.optimize.measure.memory import Memory
from edge_vision.optimize.measure.size import Sizes

FORMAT = 1
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Score:
    """A metric, 0..1, or the difference of two, with its 95 % interval (NaN where there is none)."""

    value: float
    low: float = math.nan
    high: float = math.nan


LONGEST_TITLE = 34


@dataclass(frozen=True)
class StepReport:
    """A network on its way: the original, or what a step made of the one before.

    name: for people; options: `{pass: {option: value}}`, {} for the original; facts, refused: of the pass's outcome;
    seconds: that the step took. input: width, height. accuracy: None where it was not measured; drop: from the
    original, negative where it is better. latency, memory: a row a backend, side by side with the original; their
    `model` is this step's name, or `original`.
    """

    name: str
    size: Sizes
    compute: Compute
    options: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    seconds: float = 0.0
    input: tuple[int, int] = (0, 0)
    accuracy: Score | None = None
    drop: Score | None = None
    latency: tuple[Latency, ...] = ()
    memory: tuple[Memory, ...] = ()

    @property
    def title(self) -> str:
        """For plots and tables: the name, without options where these are many."""
        return self.name if len(self.name) <= LONGEST_TITLE else self.name.partition(" (")[0]

    def latency_on(self, backend: str) -> Latency | None:
        """The row of a backend, None where there are no figures."""
        return next((row for row in self.latency if row.backend == backend and not row.problem), None)

    def memory_on(self, backend: str) -> Memory | None:
        return next((row for row in self.memory if row.backend == backend and not row.problem), None)


@dataclass(frozen=True)
class TrialReport:
    """A recipe that was tried, as it was judged. latency: p50 as a share of the original's; size: bytes, packed;
    memory: bytes; None where it could not be done, and why says so. front: nothing beats it in accuracy, latency and
    size; chosen: the one taken."""

    name: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    accuracy: float | None = None
    drop: float | None = None
    latency: float | None = None
    size: float | None = None
    memory: float | None = None
    front: bool = False
    chosen: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """met: whether the budget is kept; text: a sentence for people, which names the closest where it is not; notes:
    what one should know, such as an interval that reaches beyond the budget."""

    met: bool
    text: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """max_drop: the budget, of `metric`; target: what was to be small (latency, size, memory). steps: those of the
    chosen recipe, or where none was taken (chosen is "") of the closest; none where no recipe could be done. data: its
    name; images, clips: that the accuracies are of. backends: that latencies were measured on, the one judged by first.
    machine, versions: facts by name; load_average: of the machine before and after the latencies."""

    model: str
    task: str
    data: str
    metric: str
    images: int
    clips: int
    device: str
    threads: int
    max_drop: float
    target: str
    backends: tuple[str, ...]
    steps: tuple[StepReport, ...]
    verdict: Verdict
    chosen: str = ""
    trials: tuple[TrialReport, ...] = ()
    command: str = ""
    date: str = ""
    seconds: float = 0.0
    load_average: tuple[float, ...] = ()
    machine: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def original(self) -> StepReport:
        return self.steps[0]

    @property
    def final(self) -> StepReport:
        return self.steps[-1]


def plain(value: Any) -> Any:
    """As JSON has it: mappings with text keys, lists, numbers (those that are none are None), text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # NumPy's
        return plain(value.tolist())
    if isinstance(value, (Sequence, set, frozenset)):
        return [plain(item) for item in value]
    return str(value)


def as_dict(report: Report) -> dict[str, Any]:
    """For JSON: every field, and for each step the sums that other tools ask for."""
    content = {"format": FORMAT, **plain(report)}
    for step, written in zip(report.steps, content["steps"], strict=True):
        written["totals"] = {
            "file_bytes": step.size.file,
            "packed_bytes": step.size.packed,
            "parameters": step.size.parameters,
            "non_zeros": step.size.non_zeros,
            "sparsity": step.size.sparsity,
            "distinct_weights": step.size.distinct,
            "macs": step.compute.macs,
            "macs_by_kind": step.compute.macs_by_kind,
            "operations": step.compute.operations,
            "peak_activation_bytes": step.compute.peak_bytes,
        }
    return content


def from_dict(content: Any) -> Report:
    """The report that `as_dict` wrote. Raises ValueError, naming the place, for anything else."""
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise ValueError(f"is no report of edge_vision optimize in format {FORMAT}")
    return _read(Report, content, "report")


def _read(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _read(arguments[0], value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where}: is {value!r}, no list")
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) != len(value):
            raise ValueError(f"{where}: has {len(value)} items, not {len(kinds)}")
        items = zip(kinds, value, strict=True)
        return tuple(_read(kind, item, f"{where}[{index}]") for index, (kind, item) in enumerate(items))
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where}: is {value!r}, no mapping")
        hints = typing.get_type_hints(hint)
        known = {f.name for f in dataclasses.fields(hint)}
        given = {name: _read(hints[name], value[name], f"{where}.{name}") for name in known if name in value}
        try:
            return typing.cast(Any, hint)(**given)
        except TypeError as error:
            raise ValueError(f"{where}: {error}") from error
    if hint is float:
        if value is None:
            return math.nan
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif hint in (int, str, bool):
        if isinstance(value, hint) and (hint is not int or not isinstance(value, bool)):
            return value
    elif hint is Any or isinstance(value, (origin or hint,)):
        return value
    raise ValueError(f"{where}: is {value!r}")
