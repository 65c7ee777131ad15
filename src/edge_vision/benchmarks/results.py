"""What a measurement found: figures by contender, targets kept or missed, as text and as JSON."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_vision.evaluation.latency import Percentiles, summarize

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Row:
    """One contender: a latency, and what it cost. drops None and costs NaN where they do not apply.

    cpu: cores busy on average while frames came; rss_mb: resident memory in MiB, all its processes together.
    """

    name: str
    latency: Percentiles
    dropped: int | None = None
    cpu: float = NAN
    rss_mb: float = NAN


@dataclass(frozen=True, slots=True)
class Check:
    """A figure against its target: kept where value <= limit."""

    name: str
    value: float
    limit: float
    unit: str = ""

    @property
    def passed(self) -> bool:
        return self.value <= self.limit  # False for NaN: not measured is not kept


@dataclass(frozen=True, slots=True)
class Section:
    """What was measured at one image size (or once). stages: percentiles of parts, by contender and stage."""

    title: str
    rows: tuple[Row, ...]
    stages: Mapping[str, Percentiles] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()
    baseline: str = ""  # the row that the others are compared to


@dataclass(frozen=True, slots=True)
class Report:
    command: str
    machine: str
    settings: Mapping[str, Any]
    sections: tuple[Section, ...]

    @property
    def missed(self) -> list[Check]:
        return [check for section in self.sections for check in section.checks if not check.passed]


def difference(total_ns: Sequence[int], *parts_ns: Sequence[int]) -> Percentiles:
    """What is left of each total without its parts; empty where a frame is missing somewhere (drops)."""
    if not total_ns or any(len(part) != len(total_ns) for part in parts_ns):
        return summarize([])
    return summarize([whole - sum(parts) for whole, *parts in zip(total_ns, *parts_ns, strict=True)])


def machine() -> str:
    """The machine in one line: processor, cores, memory."""
    try:
        text = Path("/proc/cpuinfo").read_text()
        model = next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, {memory:.0f} GiB, Python {platform.python_version()}"


# --- for people ------------------------------------------------------------------------------------------------------


def text(report: Report) -> str:
    lines = [f"edge_vision {report.command}", report.machine]
    lines.append(", ".join(f"{name} {value}" for name, value in report.settings.items()))
    for section in report.sections:
        lines += ["", section.title, "-" * len(section.title), *_rows(section)]
        if section.stages:
            lines += ["", *_stages(section.stages)]
        if section.checks:
            lines += ["", *(_check(check) for check in section.checks)]
        lines += section.notes
    missed = report.missed
    count = sum(len(section.checks) for section in report.sections)
    if count:
        lines += ["", f"{count - len(missed)} of {count} targets kept"]
    return "\n".join(lines)


def _rows(section: Section) -> list[str]:
    width = max(len(row.name) for row in section.rows) if section.rows else 0
    base = next((row.latency.p50 for row in section.rows if row.name == section.baseline), NAN)
    ratio_head = f"{'ratio':>7}" if section.baseline else ""
    head = f"{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{ratio_head}{'frames':>8}{'drops':>7}{'cores':>7}{'MiB':>6}"
    lines = [" " * width + head]
    for row in section.rows:
        p = row.latency
        ratio = f"{_number(p.p50 / base if base else NAN, 2):>7}" if section.baseline else ""
        drops = "-" if row.dropped is None else str(row.dropped)
        lines.append(
            f"{row.name:{width}}{_ms(p.p50):>9}{_ms(p.p95):>9}{_ms(p.p99):>9}{ratio}{p.count:>8}{drops:>7}"
            f"{_number(row.cpu, 2):>7}{_number(row.rss_mb, 0):>6}"
        )
    return lines


def _stages(stages: Mapping[str, Percentiles]) -> list[str]:
    width = max(len(name) for name in stages)
    lines = [f"{'of which':{width}}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}"]
    for name, p in stages.items():
        lines.append(f"{name:{width}}{_ms(p.p50):>9}{_ms(p.p95):>9}{_ms(p.p99):>9}")
    return lines


def _check(check: Check) -> str:
    verdict = "kept  " if check.passed else "MISSED"
    return f"{verdict} {check.name}: {_number(check.value, 3)} (at most {check.limit:g}{check.unit})"


def _ms(value: float) -> str:
    return _number(value, 3)


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


# --- for programs ----------------------------------------------------------------------------------------------------


def as_dict(report: Report) -> dict[str, Any]:
    """The report as JSON takes it: NaN becomes null, milliseconds and MiB as in the names of the keys."""
    return {
        "command": report.command,
        "machine": report.machine,
        "settings": dict(report.settings),
        "sections": [
            {
                "title": section.title,
                "rows": [_plain(_row(row)) for row in section.rows],
                "stages": {name: _plain(_latency(p)) for name, p in section.stages.items()},
                "checks": [_plain({**asdict(check), "passed": check.passed}) for check in section.checks],
                "notes": list(section.notes),
            }
            for section in report.sections
        ],
        "passed": not report.missed,
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        **_latency(row.latency),
        "dropped": row.dropped,
        "cpu_cores": row.cpu,
        "rss_mib": row.rss_mb,
    }


def _latency(p: Percentiles) -> dict[str, Any]:
    return {
        "frames": p.count,
        "p50_ms": p.p50,
        "p95_ms": p.p95,
        "p99_ms": p.p99,
        "mean_ms": p.mean,
        "max_ms": p.max,
    }


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}
