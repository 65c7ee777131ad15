"""What `edge_vision bench backends` found, for people and for spreadsheets: tables, CSV, a page of HTML."""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from edge_vision.benchmarks.backend_study import Study
from edge_vision.benchmarks.backends import EQUAL, PROVEN, Row, fastest
from edge_vision.benchmarks.by_hand_pairs import OFFSET_MS, SHARE, Pair

Table = tuple[list[str], list[list[str]]]
"""Heads, and rows of cells."""


def number(value: float | None, digits: int = 2) -> str:
    """`-` for what is not known."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


# --- tables ----------------------------------------------------------------------------------------------------------

_COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("backend", lambda row: f"{row.backend} {row.version}"),
    ("device", lambda row: row.device),
    ("precision", lambda row: row.precision),
    ("threads", lambda row: str(row.threads)),
    ("p50 ms", lambda row: number(row.p50_ms)),
    ("p95 ms", lambda row: number(row.p95_ms)),
    ("p99 ms", lambda row: number(row.p99_ms)),
    ("infer ms", lambda row: number(row.infer_p50_ms)),
    ("runs/s", lambda row: number(row.runs_per_s, 1)),
    ("paced ms", lambda row: number(row.paced_p50_ms)),
    ("first ms", lambda row: number(row.first_ms, 1)),
    ("load s", lambda row: number(row.load_s)),
    ("RSS MiB", lambda row: number(row.rss_mib, 0)),
    ("peak MiB", lambda row: number(row.peak_mib, 0)),
    ("grown MiB", lambda row: number(row.growth_mib, 0)),
    ("cores", lambda row: number(row.cores)),
    ("cores paced", lambda row: number(row.cores_paced)),
    ("cores idle", lambda row: number(row.cores_idle)),
)
_WHERE_TOLD: tuple[tuple[str, Callable[[Row], str], Callable[[Row], Any]], ...] = (
    ("build s", lambda row: number(row.build_s, 1), lambda row: row.build_s),
    ("deg C", lambda row: number(row.temperature_c, 0), lambda row: row.temperature_c),
    (
        "clock %",
        lambda row: number(None if row.frequency_share is None else row.frequency_share * 100, 0),
        lambda row: row.frequency_share,
    ),
    ("throttled", lambda row: row.throttled or "-", lambda row: row.throttled),
    ("W", lambda row: number(row.power_w, 1), lambda row: row.power_w),
    ("mJ/run", lambda row: number(row.energy_mj, 1), lambda row: row.energy_mj),
)


def measured_table(rows: Sequence[Row]) -> Table:
    """The measured rows, the fastest first; columns of what the system does not tell are left out."""
    ranked = sorted((row for row in rows if row.measured), key=lambda row: row.p50_ms or 0.0)
    best = fastest(rows)
    columns = list(_COLUMNS)
    columns += [(head, cell) for head, cell, value in _WHERE_TOLD if any(value(row) is not None for row in ranked)]
    columns.append(("proof", lambda row: proof(row) + (" *" if row is best else "")))
    return [head for head, _ in columns], [[cell(row) for _, cell in columns] for row in ranked]


def proof(row: Row) -> str:
    if row.proof in PROVEN:
        return "verified" if row.proof != EQUAL else "equal to ORT"
    return row.proof


def proof_notes(rows: Sequence[Row]) -> list[str]:
    """Why those that are not proven are not, as far as it is known."""
    return [
        f"{row.name} {row.proof}: {row.proof_note}"
        for row in rows
        if row.measured and row.proof_note and not row.proven
    ]


def by_hand_table(pairs: Sequence[Pair]) -> Table:
    heads = ["library", "threads", "what", "engine ms", "by hand ms", "ratio", "difference ms", "limit ms", "kept"]
    rows = []
    for pair in pairs:
        for what, ours, hand, kept in (
            ("run", pair.run_ms, pair.run_by_hand_ms, pair.run_within),
            ("infer", pair.infer_ms, pair.infer_by_hand_ms, pair.infer_within),
        ):
            if ours is None or hand is None:
                continue
            figures = [number(ours, 3), number(hand, 3), number(ours / hand, 3), f"{ours - hand:+.3f}"]
            limit = number(hand * SHARE + OFFSET_MS, 3)
            name = f"{pair.backend} {pair.version}"
            rows.append(
                [name, str(pair.threads), what, *figures, limit, "busy" if kept is None else "yes" if kept else "NO"]
            )
    return heads, rows


def aligned(table: Table) -> list[str]:
    """Columns as wide as their widest cell; figures to the right."""
    heads, rows = table
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    right = [column for column in range(len(heads)) if rows and all(_figure(row[column]) for row in rows)]
    lines = []
    for row in [heads, *rows]:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _figure(cell: str) -> bool:
    return cell == "-" or cell.lstrip("+-").replace(".", "", 1).isdigit()


def text(study: Study) -> str:
    """All of it, for a terminal."""
    lines = [f"edge_vision bench backends: {study.model['name']}, {study.model['input']}", machine_line(study.machine)]
    lines.append(", ".join(f"{name} {value}" for name, value in study.settings.items()))
    table = measured_table(study.rows)
    if table[1]:
        lines += ["", *aligned(table), "", *legend(study)]
    out = [row for row in study.rows if not row.measured]
    if out:
        width = max(len(row.name) for row in out)
        lines += ["", "not measured:", *(f"  {row.name:{width}}  {row.reason}" for row in out)]
    if study.pairs:
        lines += ["", "the engine against the same library called by hand (p50)", *aligned(by_hand_table(study.pairs))]
        lines += pair_notes(study.pairs)
    if study.auto:
        lines += ["", auto_line(study)]
    if study.notes:
        lines += ["", *study.notes]
    if study.checks:
        kept = len(study.checks) - len(study.missed)
        lines += ["", f"{kept} of {len(study.checks)} limits kept"]
    return "\n".join(lines)


def machine_line(machine: Mapping[str, Any]) -> str:
    parts = [
        f"{machine['name']}: {machine['model']}",
        *machine.get("accelerators", ()),
        f"{machine['cores']} cores",
        f"{machine['memory_gib']} GiB",
        machine.get("system", ""),
        f"Python {machine['python']}",
    ]
    return ", ".join(part for part in parts if part)


def legend(study: Study) -> list[str]:
    rate = next((row.paced_rate for row in study.rows if row.paced_rate), None)
    lines = ["p50, p95, p99, runs/s: the backend's call, one after the other; infer: a frame to detections."]
    if rate:
        lines.append(f"paced: at {rate:g} Hz. cores: busy ones, one run after the other; paced; idle while others run.")
    lines.append("grown: RSS above what the process had before the runtime was loaded. * the fastest that is proven.")
    return lines + proof_notes(study.rows)


def pair_notes(pairs: Sequence[Pair]) -> list[str]:
    lines = []
    for pair in pairs:
        if pair.reason:
            lines.append(f"{pair.backend}: not compared, {pair.reason}")
            continue
        said = [f"{pair.runs} + {pair.infer_runs} runs each"]
        if pair.interrupted > 0.05:
            left = "; too few are left to say anything, repeat it" if pair.busy else ", which are left out"
            said.append(f"others had the processor in {pair.interrupted:.0%} of all{left}")
        if pair.raw_gap is not None:
            said.append(f"raw outputs differ by {pair.raw_gap:.0e} of their range")
        if pair.detections:
            ours, hand, matched = pair.detections
            said.append(f"{matched} of {ours} detections are among the {hand} by hand")
        lines.append(f"{pair.backend}: {', '.join(filter(None, [*said, pair.note]))}")
    return lines


def auto_line(study: Study) -> str:
    auto = study.auto
    assert auto is not None
    if auto.ratio is None:
        return f"auto {'picks ' + auto.picked if auto.picked else 'picks nothing'}: {auto.problem}"
    alone = ", the two measured again alone" if auto.alone else ""
    return (
        f"auto picks {auto.picked}: p50 {number(auto.p50_ms)} ms, {auto.ratio:.2f} times the fastest proven "
        f"({auto.fastest}, {number(auto.fastest_ms)} ms{alone}). {auto.why}"
    )


# --- files -----------------------------------------------------------------------------------------------------------


def as_csv(study: Study) -> str:
    """One line a row, with the machine's name and the model's; empty where nothing is known; units in the heads."""
    names = [item.name for item in fields(Row) if item.name != "joules"]
    target = io.StringIO()
    writer = csv.DictWriter(target, ["machine", "model", *names], lineterminator="\n")
    writer.writeheader()
    for row in study.rows:
        values = {key: value for key, value in asdict(row).items() if key in names}
        writer.writerow({"machine": study.machine["name"], "model": study.model["name"], **values})
    return target.getvalue()


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2328; max-width: 1200px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; margin-bottom: 0; } h2 { font-size: 1.15em; margin-top: 2em; }
p.facts { color: #59636e; margin-top: .2em; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .3em .7em; text-align: left; border-bottom: 1px solid #d8dee4; }
th { color: #59636e; font-weight: 600; } td.figure, th.figure { text-align: right; }
tr.best td { background: #e8f3ec; } td.no { color: #b42318; font-weight: 600; }
svg { max-width: 100%; height: auto; }
"""


def page(title: str, facts: Sequence[str], parts: Sequence[tuple[str, str]]) -> str:
    """A page that needs no other file. parts: headings, and what stands below them as HTML."""
    body = [f"<h1>{html.escape(title)}</h1>", *(f'<p class="facts">{html.escape(line)}</p>' for line in facts)]
    for heading, content in parts:
        body += [f"<h2>{html.escape(heading)}</h2>", content]
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    width = '<meta name="viewport" content="width=device-width">'
    inside = "\n".join(body)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}{width}</head><body>\n{inside}\n</body></html>\n'


def html_table(table: Table, mark: Callable[[list[str]], bool] = lambda row: False) -> str:
    """mark: which rows to set off."""
    heads, rows = table
    kinds = ["figure" if rows and all(_figure(row[column]) for row in rows) else "" for column in range(len(heads))]
    head = "".join(_cell("th", text, kind) for text, kind in zip(heads, kinds, strict=True))
    lines = []
    for row in rows:
        cells = [_cell("td", text, "no" if text == "NO" else kind) for text, kind in zip(row, kinds, strict=True)]
        lines.append(f"<tr{_class('best' if mark(row) else '')}>{''.join(cells)}</tr>")
    body = "\n".join(lines)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def _cell(tag: str, text: str, kind: str) -> str:
    return f"<{tag}{_class(kind)}>{html.escape(text)}</{tag}>"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def paragraphs(lines: Sequence[str]) -> str:
    return "".join(f'<p class="facts">{html.escape(line)}</p>' for line in lines)


def as_html(study: Study, chart: str) -> str:
    """chart: as `backend_chart.svg` draws it."""
    best = mark_best
    parts = [("Latency of the backend's call", chart)]
    parts.append(("Figures", html_table(measured_table(study.rows), best) + paragraphs([*legend(study), *study.notes])))
    out = [[row.name, row.reason] for row in study.rows if not row.measured]
    if out:
        parts.append(("Not measured", html_table((["candidate", "why"], out))))
    if study.pairs:
        notes = paragraphs(pair_notes(study.pairs))
        parts.append(("The engine against the same library by hand", html_table(by_hand_table(study.pairs)) + notes))
    if study.auto:
        parts.append(("What auto picks", paragraphs([auto_line(study)])))
    settings = ", ".join(f"{name} {value}" for name, value in study.settings.items())
    title = f"{study.model['name']} on {study.machine['name']}"
    return page(title, [machine_line(study.machine), f"input {study.model['input']}; {settings}"], parts)


def mark_best(row: list[str]) -> bool:
    return row[-1].endswith(" *")
