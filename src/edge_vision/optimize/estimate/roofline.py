"""How long a network takes: every operator's arithmetic, the bytes that it moves and the cost of calling it.

An additive roofline: time = sum over operators of macs / rate[kind] + bytes / bandwidth + call, plus a fixed start. The
roofline of Williams 2009 takes the larger of the first two; points left out are predicted equally well by both (the sum
was better on 8 of 17 settings), and the sum is linear in the work, so that a whole network is seven numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from edge_vision.optimize.estimate.operations import COMPUTE_KINDS, Operation


@dataclass(frozen=True, slots=True)
class Constants:
    """A machine with a runtime, a precision and a number of threads.

    winograd, dense, pointwise, depthwise: multiply-accumulates a second of each kind; bandwidth: bytes a second;
    call: seconds an operator; start: seconds a run.
    """

    winograd: float
    dense: float
    pointwise: float
    depthwise: float
    bandwidth: float
    call: float
    start: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0.0 if field.name in ("call", "start") else 1.0
            if not math.isfinite(value) or value < least:
                raise ValueError(f"{field.name} is {value}: it must be a number from {least:g}")

    def faster(self, factor: float) -> Constants:
        """The same machine at `factor` times the speed (a higher clock)."""
        rates = {name: getattr(self, name) * factor for name in (*COMPUTE_KINDS, "bandwidth")}
        return Constants(**rates, call=self.call / factor, start=self.start / factor)


Work = NDArray[np.float64]
"""(6,): macs of each kind of `COMPUTE_KINDS`, bytes moved, number of operators."""


def work(operations: Iterable[Operation], precision: str) -> Work:
    """What the time is proportional to, summed up: the time of `Constants` is linear in it."""
    sums = np.zeros(6)
    for operation in operations:
        if operation.kind == "free":
            continue
        if operation.macs:
            sums[COMPUTE_KINDS.index(operation.kind)] += operation.macs
        sums[4] += operation.moved(precision)
        sums[5] += 1
    return sums


def seconds(done: Work, constants: Constants) -> float:
    return float(parts(done, constants).sum())


def parts(done: Work, constants: Constants) -> NDArray[np.float64]:
    """(7,) seconds: of each kind's arithmetic, the bytes, the calls, the start."""
    rates = np.array([getattr(constants, name) for name in (*COMPUTE_KINDS, "bandwidth")])
    return np.concatenate([done[:5] / rates, [done[5] * constants.call, constants.start]])


def slowest(
    operations: Sequence[Operation], precision: str, constants: Constants, count: int = 5
) -> tuple[tuple[Operation, float], ...]:
    """The operators that take longest, with their seconds."""
    timed = [
        (operation, seconds(work((operation,), precision), constants) - constants.start)
        for operation in operations
        if operation.kind != "free"
    ]
    return tuple(sorted(timed, key=lambda item: -item[1])[:count])


# Student's t, the 0.9 quantile, for 1, 2, ... degrees of freedom: an interval of 80 %.
_T = (3.078, 1.886, 1.638, 1.533, 1.476, 1.440, 1.415, 1.397, 1.383, 1.372, 1.363, 1.356, 1.350, 1.345, 1.341)
LEAST_ERROR = 0.10
"""Root mean square error, in the logarithm, below which no estimate is claimed to be: builds, cooling and power supply
alone differ by as much."""


@dataclass(frozen=True, slots=True)
class Error:
    """rms: of log(estimate / measured) over `points` points that the constants were fitted without."""

    rms: float
    points: int

    def interval(self, estimate: float) -> tuple[float, float]:
        """Within which 4 of 5 measured networks are expected: a prediction interval in the logarithm."""
        freedom = max(self.points - 1, 1)
        t = _T[min(freedom, len(_T)) - 1]
        factor = math.exp(t * max(self.rms, LEAST_ERROR) * math.sqrt(1 + 1 / max(self.points, 1)))
        return estimate / factor, estimate * factor
