"""A report as a page of HTML that needs no other file, light or dark as the reader's system is."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from edge_vision.optimize.report import plots
from edge_vision.optimize.report.data import Report
from edge_vision.optimize.report.tables import (
    ABSENT,
    JUDGED,
    NOTES,
    Table,
    about_table,
    fact_table,
    faster,
    layer_table,
    macs,
    operator_table,
    refused_table,
    share,
    size,
    step_table,
    trial_table,
)
from edge_vision.optimize.report.text import budget, title

_CAPTIONS = {
    plots.STEPS: "What every step did. Size: the file, and dark the same packed, with how many times smaller that is "
    "than the original's file. Accuracy: with its interval; green: within the budget. Latency: with how "
    "many times faster.",
    plots.TRADE: "Accuracy against what it is paid with, of recipes as they were judged to choose one. The line joins "
    "those that nothing beats in both.",
    plots.LAYERS: "Layers with most multiply-accumulates, before and after.",
}


def report_page(report: Report) -> str:
    """Without matplotlib the page says that there are no plots."""
    verdict = report.verdict
    notes = "".join(f"<li>{_e(note)}</li>" for note in verdict.notes)
    parts = [
        f"<h1>{_e(title(report))}</h1>",
        f"<p class='note'>{_e(budget(report))}</p>",
        f"<div class='verdict {'good' if verdict.met else 'bad'}'><b>{'Met' if verdict.met else 'Not met'}.</b> "
        f"{_e(verdict.text)}{f'<ul>{notes}</ul>' if notes else ''}</div>",
    ]
    if report.steps:
        parts += [_tiles(report), "<h2>Steps</h2>", _table(step_table(report), first_is_name=True)]
        parts += [f"<p class='note'>{_e(note)}</p>" for note in NOTES]
    missing = plots.problem()
    if missing:
        parts.append(f"<p class='note'>{_e(missing)}</p>")
    else:
        parts += [
            f"<figure>{plots.svg(report, name)}<figcaption>{_e(_CAPTIONS[name])}</figcaption></figure>"
            for name in plots.names(report)
        ]
    for heading, table in (("Refused", refused_table(report)), ("Recipes tried", trial_table(report))):
        if table[1]:
            parts += [f"<h2>{heading}</h2>", _table(table)]
            parts += [f"<p class='note'>{_e(JUDGED)}</p>"] if heading == "Recipes tried" else []
    parts += ["<h2>Each step</h2>"] if report.steps else []
    for step in report.steps:
        took = f" <span class='note'>{step.seconds:.0f} s</span>" if step.seconds else ""
        tables = [("Facts", fact_table(step.facts)), ("Layers", layer_table(step)), ("Operators", operator_table(step))]
        inner = "".join(f"<h3>{name}</h3>{_table(table)}" for name, table in tables if table[1])
        parts.append(f"<details><summary>{_e(step.name)}{took}</summary>{inner}</details>")
    parts += ["<h2>How it was measured</h2>", _table(about_table(report))]
    head = (
        "<meta charset='utf-8'><meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<meta name='color-scheme' content='light dark'><title>{_e(title(report))}</title><style>{_STYLE}</style>"
    )
    body = "\n".join(parts)
    return f"<!DOCTYPE html>\n<html lang='en'><head>{head}</head><body><main>\n{body}\n</main></body></html>\n"


def _tiles(report: Report) -> str:
    first, last = report.original, report.final
    tiles = [
        (report.metric, f"{share(first.accuracy).split(' ')[0]} → {share(last.accuracy).split(' ')[0]} %"),
        ("drop, points", share(last.drop, signed=True)),
        ("packed", f"{size(last.size.packed)}" + _smaller(first.size.file, last.size.packed)),
        ("file", size(last.size.file) + _smaller(first.size.file, last.size.file)),
        ("MACs", macs(last)),
    ]
    for name in report.backends:
        row = last.latency_on(name)
        if row is not None and row.speedup is not None and last is not first:
            tiles.append((f"p50, {name}", f"{row.p50_ms:.3g} ms, {faster(row.speedup)}"))
    cells = "".join(f"<div><span>{_e(name)}</span><b>{_e(text)}</b></div>" for name, text in tiles if text != ABSENT)
    return f"<section class='tiles'>{cells}</section>"


def _smaller(before: int, after: int | None) -> str:
    return f", {before / after:.1f}x smaller" if after and after < before else ""


def _table(table: Table, first_is_name: bool = False) -> str:
    heads, rows = table
    kinds = ["number" if _is_figures([row[column] for row in rows]) else "" for column in range(len(heads))]
    if first_is_name:
        kinds[0] = "name"
    head = "".join(f"<th class='{kind}'>{_e(name)}</th>" for name, kind in zip(heads, kinds, strict=True))
    body = "\n".join(
        "<tr>"
        + "".join(f"<td class='{kind}'>{_cell(cell)}</td>" for cell, kind in zip(row, kinds, strict=True))
        + "</tr>"
        for row in rows
    )
    shown = f"<thead><tr>{head}</tr></thead>" if any(heads) else ""
    return f"<div class='wide'><table>{shown}<tbody>{body}</tbody></table></div>"


def _is_figures(cells: Sequence[str]) -> bool:
    return all(cell in ("", ABSENT) or re.match(r"[-+]?\d", cell) for cell in cells)


def _cell(text: str) -> str:
    """What is in brackets at the end is said more quietly."""
    plain, bracket, rest = _split(text)
    return f"{_e(plain)}{f' <small>{_e(bracket)}</small>' if bracket else ''}{_e(rest)}"


def _split(text: str) -> tuple[str, str, str]:
    found = re.match(r"^([-+]?[\d.]+[^(\[]*?) ([(\[].*[)\]])$", text)
    return (found[1], found[2], "") if found else (text, "", "")


def _e(text: str) -> str:
    return html.escape(text, quote=True)


_STYLE = """
:root { --ink: #20262c; --faint: #5f6b76; --line: #e4e8ec; --paper: #fff; --edge: #d8dee4; --soft: #a9c7e8;
  --good: #2e7d4f; --good-soft: #e8f4ec; --bad: #b3261e; --bad-soft: #fdecea }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e7eb; --faint: #98a4af; --line: #2c343c; --paper: #14181c; --edge: #39434d; --soft: #37526f;
    --good: #5fbf88; --good-soft: #1a2f24; --bad: #f0857c; --bad-soft: #3a1f1d } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 }
main { max-width: 78rem; margin: 0 auto; padding: 1.5rem }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; overflow-wrap: anywhere } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
h3 { font-size: 1rem; margin: 1rem 0 .3rem }
.note, figcaption, small { color: var(--faint) } .note { font-size: .88rem; margin: .2rem 0 } small { font-size: .82em }
.verdict { border-left: 4px solid; padding: .5rem .8rem; margin: 1rem 0 }
.verdict ul { margin: .3rem 0 0; padding-left: 1.2rem }
.good { background: var(--good-soft); border-color: var(--good) }
.bad { background: var(--bad-soft); border-color: var(--bad) }
.tiles { display: flex; flex-wrap: wrap; gap: .6rem }
.tiles div { border: 1px solid var(--edge); border-radius: 6px; padding: .5rem .8rem; min-width: 7rem }
.tiles span { display: block; color: var(--faint); font-size: .8rem } .tiles b { font-size: 1.05rem }
.wide { overflow-x: auto } table { border-collapse: collapse }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem; border-bottom: 1px solid var(--line) }
thead th { color: var(--faint); font-weight: 600; font-size: .85rem; vertical-align: bottom }
td.number { font-variant-numeric: tabular-nums } td.number small { display: block; white-space: nowrap }
th.number, td.number { text-align: right; white-space: nowrap } thead th.number { white-space: normal }
td.name { min-width: 9rem; font-weight: 600 }
td:not(.number):not(.name) { overflow-wrap: anywhere }
figure { margin: 1.5rem 0 } svg { max-width: 100%; height: auto }
details { border: 1px solid var(--edge); border-radius: 6px; padding: .4rem .8rem; margin: .4rem 0 }
summary { cursor: pointer; font-weight: 600; overflow-wrap: anywhere }
"""
