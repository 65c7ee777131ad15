"""A report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from edge_vision.optimize.report.data import Report
from edge_vision.optimize.report.tables import (
    JUDGED,
    NOTES,
    Table,
    about_table,
    fact_table,
    layer_table,
    operator_table,
    refused_table,
    step_table,
    trial_table,
)


def markdown(report: Report, pictures: Sequence[str] = ()) -> str:
    """pictures: files beside it that are shown."""
    lines = [f"# {title(report)}", "", f"**{'Met' if report.verdict.met else 'Not met'}.** {report.verdict.text}", ""]
    lines += [f"> {note}\n" for note in report.verdict.notes]
    lines += [budget(report), ""]
    if report.steps:
        lines += [*_table(step_table(report)), "", *(f"{note}\\" for note in NOTES[:-1]), NOTES[-1], ""]
    lines += [f"![{name.rsplit('.', 1)[0]}]({name})" for name in pictures] + [""]
    for heading, table in (("Refused", refused_table(report)), ("Recipes tried", trial_table(report))):
        if table[1]:
            lines += [f"## {heading}", "", *_table(table), ""]
            lines += [JUDGED, ""] if heading == "Recipes tried" else []
    lines += ["## Steps", ""] if report.steps else []
    for step in report.steps:
        parts = [("facts", fact_table(step.facts)), ("layers", layer_table(step)), ("operators", operator_table(step))]
        took = f" ({step.seconds:.0f} s)" if step.seconds else ""
        lines += [f"<details><summary>{step.name}{took}</summary>", ""]
        for name, table in parts:
            if table[1]:
                lines += [f"**{name}**", "", *_table(table), ""]
        lines += ["</details>", ""]
    lines += ["## How it was measured", "", *_table(about_table(report)), ""]
    return "\n".join(lines)


def title(report: Report) -> str:
    return f"{report.model}: optimised for {report.target}" + (f" with {report.chosen}" if report.chosen else "")


def budget(report: Report) -> str:
    metric, drop = report.metric, 100 * report.max_drop
    data = "images that nothing was trained, calibrated or chosen by"
    return f"Budget: {metric} at most {drop:g} point{'s' if drop != 1 else ''} below the original's, on {data}."


def _table(table: Table) -> list[str]:
    heads, rows = table
    lines = [_row(heads), "|" + "---|" * len(heads)]
    return lines + [_row(row) for row in rows]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
