"""Sets of channels that can only be removed together, and where tensors have them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

FIXED = -1  # a channel that cannot be removed


@dataclass(frozen=True, eq=False)
class Lane:
    """Where a tensor has its units: units (length of the axis,) int64, `FIXED` for channels that stay."""

    axis: int
    units: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Slot:
    """A place of a layer's constant that has units along an axis.

    name: the initialiser; axis; units (length,) as of the lane that the node reads or makes; role: "output" (a row of a
    layer's weights makes the channel), "input" (a column reads it), "along" (a table with a value a channel).
    """

    name: str
    axis: int
    units: NDArray[np.int64]
    role: str
    node: onnx.NodeProto


class Units:
    """Numbers of units, some of which turn out to be one, or to be fixed (a disjoint-set forest)."""

    def __init__(self) -> None:
        self.parents: list[int] = []
        self.fixed: dict[int, str] = {}

    def new(self, count: int) -> NDArray[np.int64]:
        first = len(self.parents)
        self.parents.extend(range(first, first + count))
        return np.arange(first, first + count, dtype=np.int64)

    def root(self, unit: int) -> int:
        while self.parents[unit] != unit:
            self.parents[unit] = self.parents[self.parents[unit]]
            unit = self.parents[unit]
        return unit

    def tie(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
        """Units of equal places become one; where one is fixed so is the other."""
        for one, other in zip(a.tolist(), b.tolist(), strict=True):
            if FIXED in (one, other):
                self.fix(np.array([one, other]), "they are tied to channels that have to stay")
            elif (first := self.root(one)) != (second := self.root(other)):
                self.parents[second] = first
                if second in self.fixed:
                    self.fixed.setdefault(first, self.fixed[second])
        return np.where(a == FIXED, FIXED, np.where(b == FIXED, FIXED, a))

    def fix(self, units: NDArray[np.int64], reason: str) -> None:
        for unit in np.unique(units[units != FIXED]).tolist():
            self.fixed.setdefault(self.root(unit), reason)
