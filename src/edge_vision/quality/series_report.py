"""A series as text for the terminal, as CSV, and as plain data for JSON."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from edge_vision.datatypes import QualityReport, Verdict
from edge_vision.quality.full_reference import FullReference
from edge_vision.quality.series import (
    FIGURES,
    MOST_LISTED,
    Entry,
    Figure,
    Series,
    blames,
    summaries,
    worst_entries,
)

_NESTED = ("verdicts", "zones", "noise_channels", "stamp", "frame_id", "cause")

# --- for people ------------------------------------------------------------------------------------------------------

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Heads, and rows of cells."""


def heading(series: Series) -> list[str]:
    count = len(series.entries)
    every = f", every {ordinal(series.every)}" if series.every > 1 else ""
    lines = [series.description, f"{count} picture{'s' if count != 1 else ''} measured{every}"]
    if series.reference:
        lines.append(f"against {series.reference}, by luma")
    return lines


def figure_table(series: Series) -> Table:
    """One column of values for a single picture, else median, 5 %, 95 %, worst and where."""
    rows: list[list[str]] = []
    if len(series.entries) == 1:
        rows = [[one.figure.title, one.figure.text(one.median), one.figure.unit] for one in summaries(series)]
        return ["figure", "value", "unit"], rows
    for one in summaries(series):
        text = one.figure.text
        worst = (text(one.figure.value(one.worst)), place(one.worst)) if one.worst else ("", "")
        rows.append([one.figure.title, text(one.median), text(one.low), text(one.high), *worst, one.figure.unit])
    return ["figure", "median", "5 %", "95 %", "worst", "at", "unit"], rows


def blame_table(series: Series) -> Table:
    rows = []
    for blame in blames(series):
        share = "" if len(series.entries) == 1 else f"{blame.count} ({100 * blame.share:.0f} %)"
        rows.append([blame.cause, share, reason(blame.verdict), place(blame.worst)])
    return ["verdict", "pictures", "worst figure", "at"], rows


def worst_table(series: Series) -> Table:
    rows = []
    for entry in worst_entries(series):
        told = [reason(verdict) for verdict in entry.blamed]
        cells = [place(entry), ", ".join(verdict.cause for verdict in entry.blamed) or "-", "; ".join(told) or "-"]
        if series.reference:
            close = entry.compared
            cells[1:1] = [f"{close.ssim:.4f}", FIGURES[2].text(close.psnr)] if close else ["-", "-"]
        rows.append(cells)
    heads = ["picture", "verdicts", "because"]
    if series.reference:
        heads[1:1] = ["SSIM", "PSNR dB"]
    return heads, rows


def text(series: Series) -> str:
    """Everything for the terminal."""
    lines = [*heading(series), "", *_aligned(figure_table(series))]
    if series.measured:
        blamed = blame_table(series)
        lines += ["", *(_aligned(blamed) if blamed[1] else ["no picture is blamed for anything"])]
    listed = worst_table(series)
    if len(series.entries) > 1 and listed[1]:
        lines += ["", "worst pictures", *_aligned(listed)]
    problems = series.problems
    if problems:
        lines += ["", f"{len(problems)} of {len(series.entries)} could not be measured:"]
        lines += [f"  {place(entry)}: {entry.problem}" for entry in problems[:MOST_LISTED]]
    lines += [f"warning: {warning}" for warning in series.warnings]
    return "\n".join(lines)


def reason(verdict: Verdict) -> str:
    """The figure and the threshold behind a verdict."""
    unit = f" {verdict.unit}" if verdict.unit else ""
    return f"{verdict.name} {_short(verdict.figure)}{unit} (limit {_short(verdict.threshold)})"


def place(entry: Entry) -> str:
    return entry.name if math.isnan(entry.seconds) else f"{entry.name} ({entry.seconds:.1f} s)"


def ordinal(number: int) -> str:
    ending = "th" if 10 < number % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _aligned(table: Table) -> list[str]:
    heads, rows = table
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    right = [column for column in range(len(heads)) if heads[column] in _RIGHT]
    lines = []
    for row in [heads, *rows]:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


_RIGHT = frozenset(("value", "median", "5 %", "95 %", "worst", "SSIM", "PSNR dB", "pictures"))


# --- for programs ----------------------------------------------------------------------------------------------------


def as_dict(series: Series) -> dict[str, Any]:
    """For JSON, which has neither NaN nor infinity: both are null, and `identical` tells where PSNR was infinite."""
    return {
        "source": series.source,
        "reference": series.reference or None,
        "every": series.every,
        "measured": len(series.measured),
        "summary": [
            {
                "figure": _key(one.figure),
                "unit": one.figure.unit,
                "median": _finite(one.median),
                "p5": _finite(one.low),
                "p95": _finite(one.high),
                "worst": _finite(one.figure.value(one.worst)) if one.worst else None,
                "worst_index": one.worst.index if one.worst else None,
            }
            for one in summaries(series)
        ],
        "verdicts": [
            {"cause": blame.cause, "pictures": blame.count, "share": blame.share, "worst_index": blame.worst.index}
            for blame in blames(series)
        ],
        "pictures": [_entry(entry) for entry in series.entries],
        "warnings": list(series.warnings),
    }


def as_csv(series: Series) -> str:
    """One row a picture: every figure of the report and of the comparison (`reference_...`), severity by cause; empty
    where it was not measured, `inf` for the PSNR of identical pictures."""
    causes = list(dict.fromkeys(verdict.cause for entry in series.measured for verdict in entry.report.verdicts))  # type: ignore[union-attr]
    numbers = [item.name for item in fields(QualityReport) if item.name not in _NESTED]
    compared = [item.name for item in fields(FullReference)] if series.reference else []
    target = io.StringIO()
    heads = ["index", "name", "seconds", "cause", "problem", *(f"reference_{name}" for name in compared), *numbers]
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([*heads, *(f"severity_{cause}" for cause in causes)])
    for entry in series.entries:
        row: list[Any] = [entry.index, entry.name, _cell(entry.seconds)]
        row += [entry.report.cause if entry.report else "", entry.problem]
        row += [_cell(getattr(entry.compared, name, None)) for name in compared]
        row += [_cell(getattr(entry.report, name, None)) for name in numbers]
        severities = {verdict.cause: verdict.severity for verdict in entry.report.verdicts} if entry.report else {}
        writer.writerow([*row, *(_cell(severities.get(cause)) for cause in causes)])
    return target.getvalue()


def _entry(entry: Entry) -> dict[str, Any]:
    plain: dict[str, Any] = {"index": entry.index, "name": entry.name, "seconds": _finite(entry.seconds)}
    if entry.problem:
        plain["problem"] = entry.problem
    if entry.compared is not None:
        plain["reference"] = _plain(asdict(entry.compared)) | {"identical": entry.compared.mse == 0}
    if entry.report is not None:
        plain["report"] = _plain({item.name: getattr(entry.report, item.name) for item in fields(QualityReport)})
    return plain


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _json(value) for key, value in values.items()}


def _json(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _json(value.tolist())
    if isinstance(value, Verdict):
        return _plain(asdict(value)) | {"blamed": value.blamed}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    return _finite(value) if isinstance(value, float) else value


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.8g}" if isinstance(value, float) else value


def _key(figure: Figure) -> str:
    return f"reference_{figure.key}" if figure.compared else figure.key
