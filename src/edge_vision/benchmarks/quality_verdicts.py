"""Are pictures blamed for what is wrong with them, and clean ones not: the no-reference verdicts on spoiled frames of
the twin. `edge_vision bench verdicts` prints the confusion table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from edge_vision.benchmarks.degradations import DEGRADATIONS, Case, clean, long_stream
from edge_vision.datatypes import QualityReport
from edge_vision.quality.no_reference import QualityAnalyser, QualityParameters

TUNING_SEEDS = range(0, 40)  # thresholds were chosen on these scenes
REPORT_SEEDS = range(2000, 2040)  # and are reported on these
_LONG = ("ok", "dark", "blurred")  # one case in 40 of these is a long stream


@dataclass(frozen=True, slots=True)
class Outcome:
    """cause: the true one, "ok" for a clean case; report: on the case's last frame, or, where all are
    judged, on the first that is judged wrong."""

    cause: str
    what: str
    report: QualityReport

    @property
    def right(self) -> bool:
        return self.report.cause == self.cause


def outcomes(
    spoiled: int, untouched: int, seeds: range, parameters: QualityParameters | None = None, only: str = ""
) -> Iterator[Outcome]:
    """Judges ``spoiled`` cases shared out over the causes and ``untouched`` clean ones. only: one cause, or "ok"."""
    for number, (cause, make) in enumerate(DEGRADATIONS.items()):
        if only in ("", cause):
            count = spoiled // len(DEGRADATIONS) + (number < spoiled % len(DEGRADATIONS))
            for i in range(count):
                yield judged(_case(make, seeds, number, i, cause), parameters)
    if only in ("", "ok"):
        for i in range(untouched):
            yield judged(_case(clean, seeds, len(DEGRADATIONS), i, "ok"), parameters)


def _case(
    make: Callable[[np.random.Generator, range], Case], seeds: range, number: int, i: int, cause: str = ""
) -> Case:
    rng = np.random.default_rng([seeds.start, number, i])
    return long_stream(rng, seeds, cause) if cause in _LONG and i % 40 == 39 else make(rng, seeds)


def judged(case: Case, parameters: QualityParameters | None = None) -> Outcome:
    analyser = QualityAnalyser(parameters)
    for frame in case.frames:
        report = analyser.analyse(frame)
        if case.throughout and report.cause != case.cause:
            break
    return Outcome(case.cause, case.what, report)


def confusion_table(results: list[Outcome]) -> str:
    """Markdown: a row for each true cause, what it was blamed on, and the share that was right."""
    rows = ["| true cause | frames | right | blamed on otherwise |", "|---|---|---|---|"]
    for cause in [*DEGRADATIONS, "ok"]:
        of = [o for o in results if o.cause == cause]
        if not of:
            continue
        right = sum(o.right for o in of)
        wrong = Counter(o.report.cause for o in of if not o.right)
        rows.append(
            f"| {cause} | {len(of)} | {100 * right / len(of):.1f} % | "
            f"{', '.join(f'{name} {count}' for name, count in wrong.most_common())} |"
        )
    spoiled = [o for o in results if o.cause != "ok"]
    untouched = [o for o in results if o.cause == "ok"]
    if spoiled:
        rows.append(f"\n{sum(o.right for o in spoiled)} of {len(spoiled)} spoiled frames are blamed on the right cause"
                    f" ({100 * sum(o.right for o in spoiled) / len(spoiled):.2f} %).")  # fmt: skip
    if untouched:
        blamed = sum(not o.right for o in untouched)
        rows.append(f"{blamed} of {len(untouched)} clean frames are blamed ({100 * blamed / len(untouched):.2f} %).")
    return "\n".join(rows)
