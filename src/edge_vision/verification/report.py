"""What `verify` found, as text, Markdown and plain data."""

from __future__ import annotations

from typing import Any

from edge_vision.verification.matching import IOU, MARGIN
from edge_vision.verification.verifying import Report, Row, measured, portable

COLUMNS = ("candidate", "version", "raw error", "matched", "strict", "scores", "mAP", "drop", "p50 ms", "result")


def as_dict(report: Report) -> dict[str, Any]:
    """Plain data for JSON."""
    return {
        "model": report.model,
        "reference": str(report.reference),
        "source": portable(report.frames.source),
        "frames": len(report.frames.images),
        "boxes": report.boxes,
        "truth": "source" if report.known_truth else "reference",
        "threshold": report.threshold,
        "iou": IOU,
        "margin": MARGIN,
        "threads": report.reference.threads,
        "passed": report.passed,
        "rows": [
            {
                "backend": row.choice.backend,
                "device": row.choice.device,
                "precision": row.choice.precision,
                "file": row.choice.variant.path.name,
                "runtime_version": row.runtime_version,
                "state": row.state,
                "problem": row.problem,
                "tolerance": row.tolerance.as_dict(),
                "measured": measured(row, report),
            }
            for row in report.rows
        ],
        "absent": [{"backend": one.backend, "reason": one.reason, "remedy": one.remedy} for one in report.absent],
        "records": str(report.written) if report.written else None,
    }


def text(report: Report) -> str:
    """For a terminal."""
    cells = [COLUMNS, *(_cells(row) for row in report.rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    last = len(COLUMNS) - 1
    lines = [_heading(report), ""]
    for line in cells:
        padded = [
            cell if column == last else cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(padded))
    lines.append("")
    lines += [f"not here  {one.backend}: {one.reason}{_then(one.remedy)}" for one in report.absent]
    lines += [f"warning   {warning}" for warning in report.frames.warnings]
    if report.written:
        lines.append(f"records   {report.written}")
    return "\n".join(lines).rstrip()


def markdown(report: Report) -> str:
    """The same table for a document."""
    lines = [
        _heading(report),
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|---|---|{'---:|' * (len(COLUMNS) - 3)}---|",
        *(f"| {' | '.join(cell.replace('|', '/') for cell in _cells(row))} |" for row in report.rows),
        "",
        *(f"- Not here: {one.backend}, {one.reason}{_then(one.remedy)}" for one in report.absent),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _then(remedy: str) -> str:
    return f" ({remedy})" if remedy else ""


def _heading(report: Report) -> str:
    against = "the source's truth" if report.known_truth else "the reference's own boxes"
    return (
        f"{report.model} against {report.reference}, {report.reference.threads} thread(s): "
        f"{len(report.frames.images)} frames of {portable(report.frames.source)}, {report.boxes} boxes at score "
        f"{report.threshold:g} or above; mAP50-95 against {against}"
    )


def _cells(row: Row) -> tuple[str, ...]:
    result = f"{row.state}: {row.problem}" if row.problem else row.state
    version = row.runtime_version or "-"
    if row.figures is None:
        return str(row.choice), version, *["-"] * (len(COLUMNS) - 3), result
    figures = row.figures
    return (
        str(row.choice),
        version,
        (f"{figures.raw_error:.1e}" if figures.raw_error else "0") if figures.raw else "-",
        f"{figures.matches.share:.2%}",
        f"{figures.matches.strict_share:.2%}",
        f"{figures.matches.score_difference:.4f}",
        f"{figures.map50_95:.4f}",
        f"{figures.map_drop:+.4f}",
        f"{figures.p50:.2f}",
        result,
    )
