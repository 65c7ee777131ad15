"""How far the estimates are off: every published point beside what was estimated without it."""

from __future__ import annotations

from dataclasses import dataclass

from edge_vision.optimize.estimate.roofline import seconds, work
from edge_vision.optimize.estimate.targets import Setting, Target


@dataclass(frozen=True, slots=True)
class Row:
    """network; measured, estimated in ms at the target's clock; low, high: the interval; fitted: False for a point that
    the constants do not come from (another runtime or mode: it is not in the error either); source, note of the
    point."""

    target: str
    setting: str
    network: str
    measured: float
    estimated: float
    low: float
    high: float
    fitted: bool
    source: str
    note: str

    @property
    def ratio(self) -> float:
        return self.estimated / self.measured

    @property
    def inside(self) -> bool:
        return self.low <= self.measured <= self.high


def check_target(target: Target) -> tuple[Row, ...]:
    """The points of all settings. Those that constants were fitted to are estimated by constants fitted without their
    network. Needs scipy."""
    return tuple(row for setting in target.settings for row in _rows(target, setting))


def _rows(target: Target, setting: Setting) -> list[Row]:
    if not setting.points:
        return []
    ratios = iter(setting.left_out())
    rows = []
    for point in setting.points:
        measured = point.ms * point.clock / setting.clock
        if point.fitted:
            guess = float(next(ratios)) * measured
        else:
            guess = seconds(work(point.operations, setting.arithmetic), setting.constants) * 1e3
        low, high = setting.error.interval(guess)
        source = point.source or setting.source
        rows.append(
            Row(target.name, setting.name, point.network, measured, guess, low, high, point.fitted, source, point.note)
        )
    return rows


def coverage(rows: tuple[Row, ...]) -> tuple[int, int]:
    """(how many fitted points lie inside their interval, how many there are); 4 of 5 is what is claimed."""
    fitted = [row for row in rows if row.fitted]
    return sum(row.inside for row in fitted), len(fitted)
