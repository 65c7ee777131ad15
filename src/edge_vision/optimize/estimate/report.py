"""Estimates and their errors as text, Markdown and plain data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from edge_vision.optimize.estimate.checking import Row, coverage
from edge_vision.optimize.estimate.estimating import Estimate, Fit, Latency, in_units

Table = tuple[Sequence[str], list[Sequence[str]]]
"""Head and rows."""


def as_dict(found: Estimate) -> dict[str, Any]:
    """For JSON; `fits` beside what is needed and there."""
    content = asdict(found)
    for key in ("ram", "flash"):
        fit = getattr(found, key)
        if fit is not None:
            content[key]["fits"] = fit.fits
    return content


def text(estimates: Sequence[Estimate], markdown: bool = False) -> str:
    """Everything that a person wants to know before buying: a table of all targets, then each one's notes."""
    first = estimates[0]
    packed = f", {in_units(first.packed)} packed" if first.packed else ""
    lines = [
        f"{first.model}: {first.macs / 1e6:.4g} million multiply-accumulates, {first.parameters / 1e3:.4g} thousand "
        f"parameters{packed}",
        "",
        _table(_overview(estimates), markdown),
        "",
        "Latency: the estimate, and the interval within which 4 of 5 networks were measured.",
    ]
    for found in estimates:
        lines += ["", *_details(found, markdown)]
    return "\n".join(lines)


def _overview(estimates: Iterable[Estimate]) -> Table:
    rows: list[Sequence[str]] = []
    for found in estimates:
        for index, latency in enumerate(found.latencies):
            first = index == 0
            rows.append(
                (
                    found.target if first else "",
                    found.precision if first else "",
                    _runtime(latency),
                    _time(latency),
                    _fit(found.ram) if first else "",
                    (_fit(found.flash) if found.flash else "-") if first else "",
                )
            )
    return ("target", "precision", "runtime", "latency", "RAM", "flash"), rows


def _runtime(latency: Latency) -> str:
    if latency.threads:
        return f"{latency.runtime}, {latency.threads} thread{'s' if latency.threads > 1 else ''}"
    return f"{latency.runtime}, GPU" if latency.device == "gpu" else latency.runtime


def _time(latency: Latency) -> str:
    return f"{digits(latency.ms)} ms, {digits(latency.low)} to {digits(latency.high)}"


def digits(value: float) -> str:
    """Two significant digits, never as a power of ten: no estimate has more."""
    if value <= 0 or not math.isfinite(value):
        return f"{value:g}"
    places = max(0, 1 - math.floor(math.log10(value)))
    return f"{round(value, 1 - math.floor(math.log10(value))):.{places}f}"


def _fit(fit: Fit) -> str:
    verdict = ("close: " if fit.close else "") + ("fits" if fit.fits else "does not fit")
    return f"{verdict}: {in_units(fit.needed)} of {in_units(fit.total)}"


def _details(found: Estimate, markdown: bool) -> list[str]:
    lines = [f"**{found.title}**" if markdown else found.title]
    points = [f"- {note}" for note in found.notes]
    latency = found.latencies[0]
    arithmetic, moving, calls = (f"{share:.0%}" for share in latency.parts)
    slowest = ", ".join(f"{name} {digits(ms)} ms" for name, ms in latency.slowest[:3])
    points.append(
        f"- {latency.runtime}: {arithmetic} of the time is arithmetic, {moving} moving bytes, {calls} calls; "
        f"slowest: {slowest}"
    )
    points.append(f"- RAM: {found.ram.detail}" + ("" if found.ram.fits else f" ({_remedy(found)})"))
    if found.flash:
        points.append(
            f"- flash: {found.flash.detail}" + ("" if found.flash.fits else " (fewer weights, or an external flash)")
        )
    if found.floats:
        names = ", ".join(found.floats[:3])
        points.append(
            f"- {len(found.floats)} layers compute in float ({names}, ...): only int8 has fast kernels, so quantise "
            "the whole model (`edge_vision optimize`, pass int8); inputs and outputs too"
        )
    points += _operators(found)
    return lines + points


def _remedy(found: Estimate) -> str:
    if found.flash is None:
        return "a model of a board with more memory, or a smaller network"
    return "a smaller input or fewer channels in the first layers; external RAM where the board has it, at its speed"


def _operators(found: Estimate) -> list[str]:
    """A line for each operator and state, with the nodes."""
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for finding in found.findings:
        key = (finding.state, finding.operator, finding.why, finding.remedy)
        groups.setdefault(key, []).append(finding.node)
    lines = []
    for (state, operator, why, remedy), nodes in sorted(
        groups.items(), key=lambda item: (item[0][0] != "missing", item)
    ):
        word = "NOT SUPPORTED" if state == "missing" else "slow"
        named = ", ".join(nodes[:4]) + (f" and {len(nodes) - 4} more" if len(nodes) > 4 else "")
        lines.append(f"- {operator}, {word}: {why}; {remedy} ({named})")
    return lines


def errors_text(rows: Sequence[Row], markdown: bool = False) -> str:
    """Every published point beside its estimate, and how many lie within the interval."""
    body = [
        (
            row.target,
            row.setting,
            row.network,
            digits(row.measured),
            digits(row.estimated),
            f"{digits(row.low)} to {digits(row.high)}",
            f"{row.ratio:.2f}",
            ("yes" if row.inside else "no") + ("" if row.fitted else ", other runtime or mode"),
        )
        for row in rows
    ]
    head = ("target", "runtime", "network", "measured ms", "estimated ms", "interval", "ratio", "inside")
    inside, total = coverage(tuple(rows))
    lines = [_table((head, list(body)), markdown), "", f"{inside} of {total} points lie within their interval."]
    notes = [f"- {row.network}: {row.note}" for row in rows if row.note]
    sources = dict.fromkeys(row.source for row in rows)
    lines += ["", "Notes:", *notes] if notes else []
    return "\n".join([*lines, "", "Sources:", *(f"- {source}" for source in sources)])


def summary_text(rows: Sequence[Row], markdown: bool = False) -> str:
    """A line for each runtime: how far off the estimates are."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.fitted:
            groups.setdefault((row.target, row.setting), []).append(row)
    body = []
    for (target, setting), members in groups.items():
        logs = [math.log(row.ratio) for row in members]
        rms = math.sqrt(sum(log**2 for log in logs) / len(logs))
        worst = max(members, key=lambda row: abs(math.log(row.ratio)))
        inside, total = coverage(tuple(members))
        body.append(
            (
                target,
                setting,
                str(total),
                f"{math.expm1(rms):.0%}",
                f"{worst.network} {worst.ratio:.2f}",
                f"{inside} of {total}",
            )
        )
    return _table((("target", "runtime", "points", "typical error", "worst ratio", "inside"), list(body)), markdown)


def _table(table: Table, markdown: bool) -> str:
    head, rows = table
    if markdown:
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    )
