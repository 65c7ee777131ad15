"""A calibration, or the difference of two, as a page of HTML that needs no other file."""

from __future__ import annotations

import html
from collections.abc import Sequence

from edge_vision.calibration import plots
from edge_vision.calibration.difference import Difference
from edge_vision.calibration.report import (
    CalibrationReport,
    Table,
    candidate_table,
    figure_table,
    heading,
    left_out_table,
    parameter_table,
    reason_table,
    view_table,
)
from edge_vision.calibration.verdict import Level

_CLASSES = {Level.NOT_YET: "bad", Level.USABLE: "fair", Level.GOOD: "good"}
_CAPTIONS = {
    "uncertainty": "How far off the projection of a direction may be (1 sigma, the worst direction), with the turn of "
    "the camera that nobody can know taken out.",
    "coverage": "Where corners were seen; red: cells without any. Outlines: where the board should appear next.",
    "residuals": "Seen minus projected. Blue: single corners, enlarged; red: the mean of each region, enlarged four "
    "times as much. Red arrows that sort themselves in rings or rows tell of a model that does not fit.",
    "cross_validation": "Two calibrations, of every other view each, put the same direction so far apart.",
    "views": "What each view contributes; green: tilts of 20 to 50 degrees tell most.",
}


def page(report: CalibrationReport) -> str:
    """Raises ImportError without matplotlib."""
    verdict = report.verdict
    blamed = "".join(
        f"<li>{_e(reason.text)}{f': <i>{_e(reason.remedy)}</i>' if reason.remedy else ''}</li>"
        for reason in verdict.blamed
    )
    parts = [
        f"<h1>Calibration of {_e(report.camera_name)}</h1>",
        f"<p class='facts'>{_e(heading(report))}</p>",
        f"<div class='verdict {_CLASSES[verdict.level]}'><b>{_e(str(verdict.level))}</b>"
        f"{f'<ul>{blamed}</ul>' if blamed else ': every figure is within its threshold.'}</div>",
        _tiles(report),
    ]
    if report.suggestions:
        items = "".join(
            f"<li>{_e(each.text)} <span class='note'>(uncertainty {-100 * each.gain:+.0f} %)</span></li>"
            for each in report.suggestions
        )
        parts.append(f"<h2>Next views, the best first</h2><ol>{items}</ol>")
    for name in plots.NAMES:
        if name == "cross_validation" and report.assessment.cross_validation is None:
            continue
        parts.append(
            f"<figure>{plots.svg(report, name)}<figcaption class='note'>{_e(_CAPTIONS[name])}</figcaption></figure>"
        )
    for title, table in (
        ("Parameters", parameter_table(report)),
        ("Figures", figure_table(report)),
        ("Every figure against its thresholds", reason_table(report)),
        ("Views", view_table(report)),
        ("Left out", left_out_table(report)),
        ("Models tried", candidate_table(report)),
        ("Files", (["file", ""], [list(each) for each in report.files])),
    ):
        if table[1]:
            parts += [f"<h2>{title}</h2>", _table(table)]
    notes = (*report.assessment.calibration.notes, *report.notes)
    parts += [f"<p class='note'>{_e(note)}</p>" for note in notes]
    return _page(f"Calibration of {report.camera_name}", parts)


def difference_page(found: Difference, names: tuple[str, str], table: Table) -> str:
    """The difference of two calibrations. Raises ImportError without matplotlib."""
    title = f"{names[0]} and {names[1]}"
    parts = [
        "<h1>Difference of two calibrations</h1>",
        f"<p class='facts'>{_e(title)}</p>",
        f"<figure>{plots.difference_svg(found, 'Difference of projection')}<figcaption class='note'>Where the second "
        "sees what the first sees at a pixel, the turn of the camera between them taken out.</figcaption></figure>",
        _table(table),
    ]
    return _page(f"Difference: {title}", parts)


def _page(title: str, parts: Sequence[str]) -> str:
    head = (
        "<meta charset='utf-8'><meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{_e(title)}</title><style>{_STYLE}</style>"
    )
    body = "\n".join(parts)
    return f"<!DOCTYPE html>\n<html lang='en'><head>{head}</head><body><main>\n{body}\n</main></body></html>\n"


def _tiles(report: CalibrationReport) -> str:
    a = report.assessment
    c, u = a.calibration, a.uncertainty
    sigmas = c.sigmas
    tiles = [
        ("fx, fy", f"{c.K[0, 0]:.2f}, {c.K[1, 1]:.2f} px"),
        ("sigma of fx", f"{sigmas['fx']:.2f} px" if "fx" in sigmas else "held"),
        ("RMS", f"{c.rms:.3f} px"),
        ("uncertainty, centre", f"{u.centre:.3f} px"),
        ("worst corner", f"{u.worst_corner:.2f} px"),
        ("coverage", f"{100 * a.coverage.hull:.0f} %"),
        ("views", str(len(c.views))),
    ]
    if a.cross_validation is not None:
        tiles.append(("cross-validation", f"{a.cross_validation.ratio:.2f}"))
    cells = "".join(f"<div><span>{_e(name)}</span><b>{_e(value)}</b></div>" for name, value in tiles)
    return f"<section class='tiles'>{cells}</section>"


def _table(table: Table) -> str:
    heads, rows = table
    head = "".join(f"<th>{_e(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows)
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _cell(text: str) -> str:
    for level, kind in _CLASSES.items():
        if text == str(level):
            return f"<td class='{kind}'><b>{_e(text)}</b></td>"
    return f"<td{' class=number' if text and text.lstrip('-').replace('.', '', 1).isdigit() else ''}>{_e(text)}</td>"


def _e(text: str) -> str:
    return html.escape(text)


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #20262c; background: #fff; margin: 0 }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem }
h1 { font-size: 1.5rem; margin: 0 0 .3rem } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
.facts, .note, figcaption { color: #5f6b76 } .note { font-size: .88rem }
.verdict { border-left: 4px solid #5f6b76; padding: .5rem .8rem; margin: 1rem 0 }
.verdict ul { margin: .3rem 0 0; padding-left: 1.2rem } .verdict b { text-transform: capitalize }
.verdict.bad { background: #fdecea; border-color: #b3261e } .verdict.fair { background: #fff6e5; border-color: #d9912b }
.verdict.good { background: #e8f4ec; border-color: #2e7d4f }
.tiles { display: flex; flex-wrap: wrap; gap: .6rem }
.tiles div { border: 1px solid #d8dee4; border-radius: 6px; padding: .5rem .8rem; min-width: 7rem }
.tiles span { display: block; color: #5f6b76; font-size: .8rem } .tiles b { font-size: 1.1rem; white-space: nowrap }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem; border-bottom: 1px solid #e4e8ec }
thead th { color: #5f6b76; font-weight: 600; font-size: .85rem }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
td:first-child { white-space: nowrap }
td.bad { color: #b3261e } td.fair { color: #8a6d1f } td.good { color: #2e7d4f }
figure { margin: 1.2rem 0 } svg { max-width: 100%; height: auto }
"""
