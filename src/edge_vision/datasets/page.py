"""HTML pages that need no other file: a dataset's check, and the diagnosis of a training."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datasets import plots
from edge_vision.datasets.description import Dataset
from edge_vision.datasets.leaks import LeakReport
from edge_vision.datasets.report import (
    Table,
    box_table,
    class_table,
    heading,
    issue_table,
    size_table,
    verdict_table,
    warnings_of,
)
from edge_vision.datasets.statistics import DatasetStatistics


def dataset_page(
    dataset: Dataset, s: DatasetStatistics, leaks: LeakReport | None, sheet: NDArray[np.uint8] | None = None
) -> str:
    """sheet: the picture of near-duplicates, where there are any. Raises ImportError without matplotlib."""
    warned = warnings_of(s, leaks)
    items = "".join(f"<li><b>{e(name)}</b>: {e(text)}. <i>{e(remedy)}.</i></li>" for name, text, remedy in warned)
    parts = [
        "<h1>Dataset check</h1>",
        f"<p class='facts'>{e(heading(dataset, s))}</p>",
        f"<div class='verdict bad'><b>{len(warned)} warnings</b><ul>{items}</ul></div>"
        if warned
        else "<div class='verdict good'><b>Nothing to warn of</b>: every figure is within its threshold.</div>",
    ]
    if leaks is None:
        parts.append("<p class='note'>Leaks were not looked for: fewer than two splits, or it was not asked for.</p>")
    elif leaks.clean:
        looked = sum(leaks.checked.values())
        parts.append(f"<p class='note'>No leaks between {e(', '.join(leaks.splits))}: {looked} images looked at.</p>")
    parts.append(f"<figure>{plots.svg(s)}</figure>")
    if sheet is not None:
        ok, data = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 85])
        if ok:
            image = (
                f"<img alt='near-duplicates' src='data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}'>"
            )
            parts.append(f"<h2>Near-duplicates across splits</h2><figure>{image}</figure>")
    if leaks is not None and leaks.shared:
        rows = [
            [name or "(no name)", ", ".join(f"{split} {count}" for split, count in counts.items())]
            for name, counts in list(leaks.shared.items())[:50]
        ]
        parts += ["<h2>Sequences in several splits</h2>", table_html((["sequence", "images"], rows))]
    tables = [("Classes", class_table(s)), ("Boxes", box_table(s)), ("Image sizes", size_table(s))]
    listed = [[i.kind, i.where, i.text] for i in dataset.issues[:200]]
    tables += [("Verdicts", verdict_table(s)), ("Issues", issue_table(dataset))]
    tables += [(f"The first {len(listed)} issues", (["kind", "where", "what"], listed))]
    for title, table in tables:
        if table[1]:
            parts += [f"<h2>{title}</h2>", table_html(table)]
    return whole_page("Dataset check", parts)


def whole_page(title: str, parts: Sequence[str]) -> str:
    head = (
        "<meta charset='utf-8'><meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{e(title)}</title><style>{_STYLE}</style>"
    )
    body = "\n".join(parts)
    return f"<!DOCTYPE html>\n<html lang='en'><head>{head}</head><body><main>\n{body}\n</main></body></html>\n"


def table_html(table: Table) -> str:
    heads, rows = table
    head = "".join(f"<th>{e(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows)
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _cell(text: str) -> str:
    if text in ("warning", "fine", "applies"):
        return f"<td class='{'good' if text == 'fine' else 'bad'}'>{text}</td>"
    number = text.rstrip("%").lstrip("-").replace(".", "", 1).isdigit()
    return f"<td{' class=number' if number else ''}>{e(text)}</td>"


def e(text: str) -> str:
    return html.escape(text)


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #20262c; background: #fff; margin: 0 }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem }
h1 { font-size: 1.5rem; margin: 0 0 .3rem } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
.facts, .note, figcaption { color: #5f6b76; overflow-wrap: anywhere } .note { font-size: .88rem }
figure { margin: 1rem 0 } svg, img { max-width: 100%; height: auto }
.verdict { border-left: 4px solid #5f6b76; padding: .5rem .8rem; margin: 1rem 0 }
.verdict ul { margin: .3rem 0 0; padding-left: 1.2rem }
.verdict.bad { background: #fdecea; border-color: #b3261e } .verdict.good { background: #e8f4ec; border-color: #2e7d4f }
.verdict.fair { background: #fff6e5; border-color: #d9912b }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem; border-bottom: 1px solid #e4e8ec }
td { overflow-wrap: anywhere } thead th { color: #5f6b76; font-weight: 600; font-size: .85rem }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
td.bad { color: #b3261e; font-weight: 600 } td.good { color: #2e7d4f }
"""
