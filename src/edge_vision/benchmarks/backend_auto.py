"""What `auto` picks, against the fastest that is proven of those measured here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edge_vision.benchmarks.backends import Row, fastest
from edge_vision.inference.bundle import Bundle
from edge_vision.inference.errors import InferenceError
from edge_vision.inference.selection import Wish, open_session

LIMIT = 1.1
"""`auto` never picks what takes longer than this many times the fastest."""


@dataclass(frozen=True, slots=True)
class Auto:
    """picked: the row's name; why: the engine's words; p50_ms: the row's in this measurement, None where the pick is
    not among its rows; fastest: the fastest proven row with as many threads; problem: why there is no ratio.

    alone: whether the two were measured again, in turns of the two alone, which is what decides where the table has the
    pick above the limit: half a dozen others in between make its p50s less exact.
    """

    picked: str = ""
    why: str = ""
    p50_ms: float | None = None
    fastest: str = ""
    fastest_ms: float | None = None
    problem: str = ""
    alone: bool = False

    @property
    def ratio(self) -> float | None:
        return self.p50_ms / self.fastest_ms if self.p50_ms and self.fastest_ms else None

    @property
    def passed(self) -> bool:
        return self.ratio is not None and self.ratio <= LIMIT


def check_auto(
    bundle: Bundle,
    rows: Sequence[Row],
    hardware: str,
    threads: int,
    again: Callable[[Sequence[Row]], list[Row]] | None = None,
    log: Callable[[str], None] | None = None,
) -> Auto:
    """Open the bundle as `Engine.load` does, with `threads`, and look its choice up among `rows`.

    again: measures rows anew, in turns of those alone. What `auto` measured before and remembered counts as it does at
    every start. Never raises.
    """
    try:
        opened = open_session(bundle, Wish(threads=threads, hardware=hardware), log)
    except InferenceError as error:
        return Auto(problem=str(error))
    opened.session.close()
    choice = opened.choice
    same = [row for row in rows if row.measured and row.device == choice.device and row.backend == choice.backend]
    row = next(
        (
            row
            for row in same
            if (row.precision, row.file) == (choice.precision, choice.variant.path.name)
            and (row.threads == choice.threads or row.device != "cpu")
        ),
        None,
    )
    name = f"{choice.backend} {choice.device} {choice.precision} x{choice.threads}"
    why = opened.description.reason
    if row is None:
        return Auto(name, why, problem="what it picked was not measured here: leave out the filters")
    best = fastest([row for row in rows if row.threads == choice.threads or row.device != "cpu"])
    if best is None:
        return Auto(name, why, row.p50_ms, problem="nothing here is proven: run `edge_vision verify` on the model")
    auto = Auto(row.name, why, row.p50_ms, best.name, best.p50_ms)
    if auto.passed or again is None:
        return auto
    both = {one.name: one.p50_ms for one in again([row, best])}
    return replace(auto, p50_ms=both.get(row.name), fastest_ms=both.get(best.name), alone=True)
