"""What a calibration is told as: text for a terminal and Markdown. `report_data` makes JSON, `page` the page."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_vision.calibration.assessment import Assessment
from edge_vision.calibration.boards import Board
from edge_vision.calibration.choice import Candidate
from edge_vision.calibration.difference import Difference
from edge_vision.calibration.guidance import Suggestion
from edge_vision.calibration.verdict import Level, Verdict
from edge_vision.calibration.views import View
from edge_vision.datatypes import CameraInfo

_MOST_TOLD = 12  # rows of what was left out, on a terminal

Table = tuple[list[str], list[list[str]]]
"""Heads and rows."""


@dataclass(frozen=True, eq=False)
class CalibrationReport:
    """A calibration with all that is told of it."""

    camera_name: str
    source: str
    """Where the images came from."""
    board: Board
    assessment: Assessment
    verdict: Verdict
    suggestions: tuple[Suggestion, ...] = ()
    """Views to add next."""
    views: tuple[View, ...] = ()
    """What was detected, kept or not."""
    rejected: tuple[tuple[str, str], ...] = ()
    """Images in which no view was found, and why."""
    images: int = 0
    """How many were looked at."""
    files: tuple[tuple[str, str], ...] = ()
    """(What, path) of the files written beside this report."""
    candidates: tuple[Candidate, ...] = ()
    """Models that were tried."""
    notes: tuple[str, ...] = ()
    seconds: tuple[tuple[str, float], ...] = ()
    """(Stage, s)."""


def text(report: CalibrationReport, width: int = 110) -> str:
    """For a terminal."""
    lines = [heading(report), ""]
    lines += _aligned(parameter_table(report)) + [""] + _aligned(figure_table(report)) + [""]
    lines += [f"verdict: {str(report.verdict.level).upper()}"]
    for reason in report.verdict.blamed:
        mark = "✗" if reason.level is Level.NOT_YET else "~"
        lines += textwrap.wrap(f"  {mark} {reason.text}", width, subsequent_indent="    ")
        if reason.remedy:
            lines += textwrap.wrap(f"→ {reason.remedy}", width, initial_indent="    ", subsequent_indent="      ")
    if report.suggestions:
        lines += ["", "next views, the best first:"]
        for index, each in enumerate(report.suggestions, 1):
            lines += textwrap.wrap(
                f"  {index}. {each.text}: uncertainty {-100 * each.gain:+.0f} %", width, subsequent_indent="     "
            )
    left_out = left_out_table(report)
    if left_out[1]:
        hidden = len(left_out[1]) - _MOST_TOLD
        lines += ["", *_aligned((left_out[0], left_out[1][:_MOST_TOLD]))]
        lines += [f"… and {hidden} more: the report names them all"] if hidden > 0 else []
    for note in (*report.assessment.calibration.notes, *report.notes):
        lines += ["", *textwrap.wrap(f"note: {note}", width)]
    if report.files:
        lines += ["", *(f"{what}: {path}" for what, path in report.files)]
    return "\n".join(lines)


def markdown(report: CalibrationReport, pictures: Sequence[str] = ()) -> str:
    """All tables. pictures: names of PNG files beside it."""
    lines = [f"# Calibration of {report.camera_name}: {report.verdict.level}", "", heading(report), ""]
    if report.suggestions and report.verdict.level < Level.GOOD:
        lines += ["Next views, the best first:", ""]
        lines += [
            f"{i}. {each.text} (uncertainty {-100 * each.gain:+.0f} %)" for i, each in enumerate(report.suggestions, 1)
        ]
        lines += [""]
    for title, table in (
        ("Verdict", reason_table(report)),
        ("Parameters", parameter_table(report)),
        ("Figures", figure_table(report)),
        ("Views", view_table(report)),
        ("Left out", left_out_table(report)),
        ("Models tried", candidate_table(report)),
    ):
        if table[1]:
            lines += [f"## {title}", "", *_markdown_table(table), ""]
    for name in pictures:
        lines += [f"![{name.replace('_', ' ')}]({name}.png)", ""]
    lines += [f"- {note}" for note in (*report.assessment.calibration.notes, *report.notes)]
    return "\n".join(lines).rstrip() + "\n"


def heading(report: CalibrationReport) -> str:
    c = report.assessment.calibration
    return (
        f"{report.camera_name}: {c.model}, {c.image_size[0]}x{c.image_size[1]}, {len(c.views)} views of "
        f"{report.images or len(c.views)} images from {report.source}; board {report.board}"
    )


def reason_table(report: CalibrationReport) -> Table:
    rows = [[str(reason.level), reason.text, reason.remedy] for reason in sorted(report.verdict.reasons, key=_by_level)]
    return ["", "found", "what to do"], rows


def parameter_table(report: CalibrationReport) -> Table:
    c = report.assessment.calibration
    sigmas = c.sigmas
    rows = []
    for name, value in c.values.items():
        sigma = sigmas.get(name)
        places = 6 if sigma is None or sigma == 0 else max(0, min(10, 1 - int(np.floor(np.log10(sigma)))))
        if name.startswith("bow"):
            rows.append([name, f"{1000 * value:.3f}", _or_none(sigma, lambda s: f"{1000 * s:.3f}"), "mm"])
            continue
        unit = "px" if name in ("fx", "fy", "cx", "cy") else ""
        told = "held" if sigma is None else f"{sigma:.{places}f}"
        rows.append([name, f"{value:.{places}f}", told, unit])
    return ["parameter", "value", "sigma", ""], rows


def figure_table(report: CalibrationReport) -> Table:
    a = report.assessment
    c, r, u, coverage = a.calibration, a.residuals, a.uncertainty, a.coverage
    corners = ", ".join(_px(value) for value in u.corners)
    rows = [
        ["RMS of residuals", f"{r.rms:.3f} px", f"x {r.rms_x:.3f}, y {r.rms_y:.3f}; noise {c.noise:.3f} px an axis"],
        ["worst corner", f"{r.worst[2]:.2f} px", f"corner {r.worst[1]} of {r.worst[0]}"],
        ["outliers", f"{100 * r.outlier_share:.1f} %", f"{len(c.outliers)} corners, {len(c.removed)} views left out"],
        ["uncertainty, centre", f"{u.centre:.3f} px", "1 sigma of projection"],
        ["uncertainty, corners", f"{_px(u.worst_corner)} px", f"of the image: {corners}"],
        ["uncertainty, image", f"{_px(a.mean_uncertainty)} px", "root mean square"],
    ]
    if a.cross_validation is None:
        rows.append(["cross-validation", "none", a.cross_validation_note])
    else:
        found = a.cross_validation.difference
        rows.append(
            [
                "cross-validation",
                f"{a.cross_validation.ratio:.2f}",
                f"difference of two halves over its expectation; {_px(found.rms)} px, at most {_px(found.largest)}",
            ]
        )
    rows += [
        ["coverage", f"{100 * coverage.hull:.0f} %", f"of the image; {100 * coverage.cell_share:.0f} % of 10x10 cells"],
        ["tilts", f"{coverage.tilts.min():.0f} to {coverage.tilts.max():.0f}°", _sides(coverage.tilted_to())],
        ["distances", f"{coverage.distances.min():.2f} to {coverage.distances.max():.2f} m", ""],
        ["focal-depth correlation", f"{a.depth_correlation:.2f}", "1: distances cannot be told from focal length"],
    ]
    if a.straightness is not None:
        rows.append(["straightness", f"{a.straightness:.3f} px", 'of rows after rectification (ROS "lin.")'])
    return ["figure", "value", ""], rows


def view_table(report: CalibrationReport) -> Table:
    a = report.assessment
    c, coverage = a.calibration, a.coverage
    warnings = {view.name: "; ".join(view.warnings) for view in report.views}
    rows = [
        [
            name,
            str(len(ids)),
            f"{rms:.3f}",
            f"{tilt:.0f}",
            f"{distance:.3f}",
            f"{100 * share:.0f}",
            warnings.get(name, ""),
        ]
        for name, ids, rms, tilt, distance, share in zip(
            c.views, c.ids, c.view_rms, coverage.tilts, coverage.distances, coverage.sizes, strict=True
        )
    ]
    return ["view", "corners", "RMS px", "tilt °", "distance m", "of image %", ""], rows


def candidate_table(report: CalibrationReport) -> Table:
    rows = [
        [
            each.model + (" + bow" if each.bow else ""),
            " ".join(each.terms) or "none",
            f"{each.hold_out:.3f}",
            _px(each.corner_sigma),
            each.verdict,
        ]
        for each in report.candidates
    ]
    return ["model", "terms", "hold-out px", "corners px", ""], rows


def left_out_table(report: CalibrationReport) -> Table:
    c = report.assessment.calibration
    rows = [[each.name, each.reason] for each in c.removed] + [[name, reason] for name, reason in report.rejected]
    kept = set(c.views)
    by_view: dict[str, list[float]] = {}
    for outlier in c.outliers:
        if outlier.view in kept:
            by_view.setdefault(outlier.view, []).append(outlier.distance)
    rows += [
        [name, f"{len(found)} corner{'s' * (len(found) > 1)} up to {max(found):.2f} px off"]
        for name, found in by_view.items()
    ]
    return ["left out", "why"], rows


def difference_table(found: Difference, a: CameraInfo, b: CameraInfo) -> Table:
    """Two calibrations side by side and how far they are apart."""
    lengths = found.lengths
    rows, columns = lengths.shape
    middle = lengths[rows // 4 : -(rows // 4), columns // 4 : -(columns // 4)]
    corners = ", ".join(_px(value) for value in found.corners)
    at = "infinity" if np.isinf(found.distance) else f"{found.distance:g} m"
    told = [
        ["model", a.distortion_model, b.distortion_model],
        ["fx, fy", f"{a.K[0, 0]:.3f}, {a.K[1, 1]:.3f}", f"{b.K[0, 0]:.3f}, {b.K[1, 1]:.3f} px"],
        ["cx, cy", f"{a.K[0, 2]:.3f}, {a.K[1, 2]:.3f}", f"{b.K[0, 2]:.3f}, {b.K[1, 2]:.3f} px"],
        ["difference, RMS", f"{_px(found.rms)} px", f"over the image, at {at}"],
        ["difference, centre", f"{_px(found.centre)} px", ""],
        ["difference, inner half", f"{_px(float(np.nanmax(middle)))} px", "at most"],
        ["difference, corners", f"{_px(max(found.corners))} px", corners],
        ["difference, largest", f"{_px(found.largest)} px", ""],
        ["turn taken out", f"{found.turn_degrees:.4f}°", ""],
    ]
    if np.isfinite(found.distance):
        told.append(["shift taken out", f"{1000 * float(np.linalg.norm(found.translation)):.3f} mm", ""])
    lost = int(np.isnan(lengths).sum())
    if lost:
        told.append(
            ["not compared", f"{100 * lost / lengths.size:.0f} %", "of the image: one of them has no ray there"]
        )
    return ["", "A", "B"], told


def table_text(table: Table) -> str:
    return "\n".join(_aligned(table))


def _by_level(reason: Any) -> int:
    return int(reason.level)


def _sides(counts: Sequence[int]) -> str:
    named = ", ".join(f"{side} {n}" for side, n in zip(("right", "left", "top", "bottom"), counts, strict=True))
    return f"views with that side nearer by 15° or more: {named}"


def _px(value: float) -> str:
    return "unknown" if not np.isfinite(value) else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _or_none(value: float | None, form: Any) -> str:
    return "held" if value is None else form(value)


def _aligned(table: Table) -> list[str]:
    heads, rows = table
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    lines = [heads, ["─" * width for width in widths], *rows]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _markdown_table(table: Table) -> list[str]:
    heads, rows = table
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
