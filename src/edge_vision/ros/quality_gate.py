"""The inference node's gate: what becomes of frames when the camera's picture is bad."""

from __future__ import annotations

import time
from collections.abc import Callable

from edge_vision.datatypes import NS_PER_S, QualityReport, Verdict
from edge_vision.quality.remedies import figure_text
from edge_vision.quality.verdicts import CAUSES

MODES = ("off", "mark", "skip")


class QualityGate:
    """Looks at the newest report. Reports and frames come on one thread.

    mode: of `MODES`. causes: those that count, separated by commas or spaces, empty for all of them. age: seconds after
    which a report counts no longer, by its stamp and by the time since it came: a quality node that has died blocks
    nothing, whatever a camera's stamps are. Raises ValueError for an unknown cause.
    """

    def __init__(self, mode: str, causes: str, age: float, clock: Callable[[], int] = time.monotonic_ns) -> None:
        wanted = causes.replace(",", " ").split()
        unknown = [cause for cause in wanted if cause not in CAUSES]
        if unknown:
            raise ValueError(f"quality_gate_causes: unknown cause {', '.join(unknown)}; there are {', '.join(CAUSES)}")
        self.mode = mode
        self._causes = frozenset(wanted or CAUSES)
        self._age_ns = round(age * NS_PER_S)
        self._clock = clock
        self._report: QualityReport | None = None
        self._verdict: Verdict | None = None  # the first of the newest report that counts
        self._came = 0
        self.bad = 0  # frames that were marked or skipped

    def learn(self, report: QualityReport) -> None:
        self._report, self._came = report, self._clock()
        self._verdict = next((v for v in report.verdicts if v.blamed and v.cause in self._causes), None)

    def passes(self, stamp: int) -> bool:
        """Whether the frame of this stamp is good, as far as is known; counts those that are not."""
        if self._verdict is None or not self._fresh(stamp):
            return True
        self.bad += 1
        return False

    def carry_over(self, before: QualityGate) -> None:
        """Goes on from a gate with other settings."""
        self.bad = before.bad
        if before._report is not None:
            self.learn(before._report)
            self._came = before._came

    def _fresh(self, stamp: int) -> bool:
        report = self._report
        return (
            report is not None
            and abs(stamp - report.stamp) <= self._age_ns
            and self._clock() - self._came <= self._age_ns
        )

    def reason(self) -> str | None:
        """Why frames do not pass at the moment; None where they do."""
        if self.mode == "off" or self._verdict is None or self._clock() - self._came > self._age_ns:
            return None
        return f"{self._verdict.cause}: {figure_text(self._verdict)}"

    def status(self) -> dict[str, str]:
        """For the diagnostics."""
        if self.mode == "off":
            return {}
        fresh = self._report is not None and self._clock() - self._came <= self._age_ns
        picture = (self.reason() or "good enough") if fresh else "not known: no fresh image_quality, frames pass"
        done = "skipped" if self.mode == "skip" else "marked"
        return {"quality gate": self.mode, "picture": picture, f"frames {done} for their quality": str(self.bad)}
