"""Which units go, for a share of channels or a number of multiply-accumulates."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edge_vision.optimize.graphs.channels import Channels, Group
from edge_vision.optimize.graphs.shrinking import Costs

STEPS = 24  # of bisection


@dataclass(frozen=True)
class Chooser:
    """Takes units out of groups, the least important first.

    scores: of units; multiple: layers keep a multiple of so many channels (what SIMD kernels work on at a time), and at
    least that many; most: the largest part of a group that may go; exclude: patterns of layers whose groups stay.
    """

    channels: Channels
    scores: Mapping[int, float]
    multiple: int = 8
    most: float = 0.75
    exclude: Collection[str] = ()

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Those that may lose channels."""
        return tuple(
            group
            for group in self.channels.groups
            if not any(fnmatchcase(layer, pattern) for layer in group.layers for pattern in self.exclude)
        )

    def evenly(self, ratio: float) -> NDArray[np.int64]:
        """The same part of each group goes."""
        parts = []
        for group in self.groups:
            kept = self._rounded(group, len(group.units) * (1 - min(ratio, self.most)))
            parts.append(self._ranked(group)[: len(group.units) - kept])
        return _joined(parts)

    def globally(self, part: float, saved: Mapping[int, float]) -> NDArray[np.int64]:
        """A part of all units goes: those with the lowest score for each multiply-accumulate that they save."""
        worth = {unit: score / max(saved.get(unit, 1.0), 1.0) for unit, score in self.scores.items()}
        groups = self.groups
        units = [int(unit) for group in groups for unit in group.units]
        gone = set(sorted(units, key=lambda unit: worth[unit])[: round(part * len(units))])
        parts = []
        for group in groups:
            count = min(sum(int(unit) in gone for unit in group.units), int(self.most * len(group.units)))
            kept = self._rounded(group, len(group.units) - count)
            parts.append(self._ranked(group)[: len(group.units) - kept])
        return _joined(parts)

    def given_back(
        self, removed: NDArray[np.int64], costs: Costs, wanted: float, evenly: bool = True
    ) -> NDArray[np.int64]:
        """What may stay after all within `wanted` multiply-accumulates, a step at a time: the largest part of a group
        for what it costs where it goes evenly, else what matters most for it. (Groups of one size reach the next
        multiple together, which jumps past what was wanted.)"""
        # How many of each group's least important units are gone.
        counts = {group.units[0]: int(np.isin(group.units, removed).sum()) for group in self.groups}

        def taken(counts: Mapping[int, int]) -> NDArray[np.int64]:
            return _joined([self._ranks[first][:count] for first, count in counts.items()])

        while True:
            best: tuple[float, int, int] | None = None
            now = costs.total(taken(counts))
            for group in self.groups:
                first = group.units[0]
                size, gone, step = len(group.units), counts[first], self._step(group)
                # The next multiple, or all.
                back = min(gone, step - (size - gone) % step)
                if not back:
                    continue
                more = costs.total(taken(counts | {first: gone - back}))
                worth = sum(self.scores[unit] for unit in self._ranks[first][gone - back : gone].tolist())
                rank = (back / size if evenly else worth) / max(more - now, 1)
                if more <= wanted and (best is None or rank > best[0]):
                    best = rank, first, gone - back
            if best is None:
                return taken(counts)
            counts[best[1]] = best[2]

    def _ranked(self, group: Group) -> NDArray[np.int64]:
        """The group's units, the least important first."""
        return self._ranks[group.units[0]]

    @cached_property
    def _ranks(self) -> dict[int, NDArray[np.int64]]:
        def worth(unit: int) -> tuple[float, int]:
            return self.scores[unit], unit

        return {g.units[0]: np.array(sorted(g.units.tolist(), key=worth), np.int64) for g in self.groups}

    @cached_property
    def _steps(self) -> dict[int, int]:
        return {group.units[0]: self._multiple_of(group) for group in self.groups}

    def _rounded(self, group: Group, kept: float) -> int:
        """How many units stay: so that their channels are a multiple in the layers that make them."""
        step, total = self._step(group), len(group.units)
        if total <= step:
            return total
        return min(total, max(step, math.floor(kept / step + 0.5) * step))

    def _step(self, group: Group) -> int:
        """Units that are a multiple of channels in the group's first layer."""
        return self._steps[group.units[0]]

    def _multiple_of(self, group: Group) -> int:
        slot = next((s for s in self.channels.slots if s.role == "output" and s.name in group.layers), None)
        width = 1 if slot is None else max(1, int((slot.units == group.units[0]).sum()))
        return self.multiple // math.gcd(self.multiple, width)


def _joined(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def for_macs(
    chooser: Chooser, choose: Callable[[float], NDArray[np.int64]], costs: Costs, wanted: float, evenly: bool = True
) -> NDArray[np.int64]:
    """The choice of the smallest part with at most `wanted` multiply-accumulates, less what may stay within them; of
    the largest part, where none has so few. `choose` takes a part of 0..1."""
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        if costs.total(choose(middle)) <= wanted:
            high = middle
        else:
            low = middle
    return chooser.given_back(choose(high), costs, wanted, evenly)
