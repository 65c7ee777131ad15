"""Passes: each makes a model smaller or faster, or mends what another cost.

A pass is one module of this folder with

* `SUMMARY`: one line for people;
* `NEEDS`: which parts of `Context` it cannot do without, of "calibration", "train", "teacher" and "torch";
* `Options`: a frozen dataclass, every field with a default and described in its docstring: the keys of a recipe's step.
  Its `__post_init__` raises ValueError, naming the option, for a value that cannot be;
* `apply(network, options, context) -> Outcome`: a new network; the given one is not touched. It raises `PassError`
  where the pass cannot be applied to this network at all; layers that it has to leave alone are `refused`.

To add one: write the module and name it in `PASSES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from edge_vision.optimize.data import Data
from edge_vision.optimize.network import Network

PASSES: tuple[str, ...] = (
    "clean_up",
    "input_size",
    "drop_heads",
    "half",
    "int8",
    "int4",
    "prune",
    "channels",
    "cluster",
    "low_rank",
    "width",
    "depthwise",
    "distil",
    "fine_tune",
    "qat",
    "binarise",
)
"""In the order of the documentation. Each is a module of this package."""


class PassError(Exception):
    """A pass cannot be applied: what is wrong, where, and what to do."""

    def __init__(self, name: str, problem: str, remedy: str = "") -> None:
        self.name = name
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{name}: {problem}. {remedy[:1].upper()}{remedy[1:]}." if remedy else f"{name}: {problem}")


class Bar(Protocol):
    """A progress bar (tqdm's, or silent)."""

    def update(self, n: float | None = 1) -> Any: ...

    def set_postfix_str(self, s: str) -> Any: ...

    def close(self) -> Any: ...


@dataclass(frozen=True)
class Context:
    """What a pass may use besides the network.

    data: None where none was given; its images fit the network's input. teacher: the network that a distillation learns
    from, by default the one the recipe began with. work: a folder of this step's own, in which it keeps checkpoints and
    finds them again when the run is resumed. bar(description, total): a progress bar. threads: for runtimes;
    training_threads: for PyTorch, 0 for all cores.
    """

    work: Path
    data: Data | None = None
    teacher: Network | None = None
    seed: int = 0
    threads: int = 0
    training_threads: int = 0
    bar: Callable[[str, int], Bar] = field(default=lambda description, total: _Silent())


class _Silent:
    def update(self, n: float | None = 1) -> None:
        return

    def set_postfix_str(self, s: str) -> None:
        return

    def close(self) -> None:
        return


@dataclass(frozen=True)
class Outcome:
    """facts: what was done, plain data for JSON. refused: what was left alone, a line each with the reason."""

    network: Network
    facts: Mapping[str, Any] = field(default_factory=dict)
    refused: tuple[str, ...] = ()


class Pass(Protocol):
    """What a module of this package has."""

    SUMMARY: str
    NEEDS: frozenset[str]
    Options: type

    def apply(self, network: Network, options: Any, context: Context) -> Outcome: ...


def optimisation_pass(name: str) -> Pass:
    """The module of a pass. Raises KeyError for a name that is none of `PASSES`."""
    if name not in PASSES:
        raise KeyError(name)
    return cast(Pass, importlib.import_module(f"{__name__}.{name}"))
