"""A series as a page of HTML that needs no other file: verdicts, plots over time, worst pictures, figures."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

from edge_vision.quality import series_plots
from edge_vision.quality.series import Series, summaries
from edge_vision.quality.series_report import Table, blame_table, figure_table, heading, place, worst_table

_TILES = ("SSIM", "PSNR", "brightness", "contrast", "noise", "blur", "sharpness")


def page(series: Series) -> str:
    """Raises ImportError without matplotlib where there is something to plot."""
    title = f"Picture quality: {series.source}"
    parts = [f"<h1>{_e(title)}</h1>", *(f"<p class='facts'>{_e(line)}</p>" for line in heading(series))]
    parts += [_verdict(series), _tiles(series)]
    blamed = blame_table(series)
    if blamed[1]:
        parts += ["<h2>Verdicts</h2>", _table(blamed)]
    if len(series.measured) > 1:
        parts += ["<h2>Over time</h2>", f"<figure>{series_plots.svg(series)}</figure>"]
        gaps = " PSNR has a gap where pictures are identical." if series.reference else ""
        parts.append(f"<p class='note'>Dashed: the threshold of a verdict, where it is near.{gaps}</p>")
    if series.pictures:
        parts += ["<h2>Worst pictures</h2>" if len(series.entries) > 1 else "<h2>Picture</h2>", _pictures(series)]
    listed = worst_table(series)
    if len(series.entries) > 1 and listed[1]:
        parts.append(_table(listed))
    parts += ["<h2>Figures</h2>", _table(figure_table(series))]
    if series.problems:
        rows = [[place(entry), entry.problem] for entry in series.problems]
        parts += ["<h2>Not measured</h2>", _table((["picture", "why"], rows))]
    parts += [f"<p class='note'>{_e(warning)}</p>" for warning in series.warnings]
    head = (
        "<meta charset='utf-8'><meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{_e(title)}</title><style>{_STYLE}</style>"
    )
    body = "\n".join(parts)
    return f"<!DOCTYPE html>\n<html lang='en'><head>{head}</head><body><main>\n{body}\n</main></body></html>\n"


def _verdict(series: Series) -> str:
    guilty = sum(bool(entry.blamed) for entry in series.measured)
    count = len(series.measured)
    if not count:
        return "<p class='verdict bad'>Nothing could be measured.</p>"
    if not guilty:
        return "<p class='verdict good'>No picture is blamed for anything.</p>"
    words = "The picture is blamed" if count == 1 else f"{guilty} of {count} pictures are blamed"
    causes = ", ".join(_e(row[0]) for row in blame_table(series)[1])
    return f"<p class='verdict bad'><b>{words}</b>: {causes}.</p>"


def _tiles(series: Series) -> str:
    shown = [one for one in summaries(series) if one.figure.title in _TILES]
    several = "median " if len(series.entries) > 1 else ""
    cells = "".join(
        f"<div><span>{several}{_e(one.figure.title)}</span>"
        f"<b>{_e(one.figure.text(one.median))} {_e(one.figure.unit)}</b></div>"
        for one in shown
    )
    return f"<section class='tiles'>{cells}</section>"


def _pictures(series: Series) -> str:
    shown = "".join(
        f"<figure><img alt='{_e(picture.caption)}' src='data:image/jpeg;base64,"
        f"{base64.b64encode(picture.jpeg).decode()}'><figcaption>{_e(picture.caption)}</figcaption></figure>"
        for picture in series.pictures
    )
    return f"<section class='pictures'>{shown}</section>"


def _table(table: Table) -> str:
    heads, rows = table
    kinds = ["number" if _numbers([row[column] for row in rows]) else "" for column in range(len(heads))]
    head = "".join(f"<th class='{kind}'>{_e(name)}</th>" for name, kind in zip(heads, kinds, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td class='{kind}'>{_e(cell)}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _numbers(cells: Sequence[str]) -> bool:
    return bool(cells) and all(cell in ("", "-", "inf") or _is_number(cell) for cell in cells)


def _is_number(cell: str) -> bool:
    return cell.lstrip("-").replace(".", "", 1).isdigit()


def _e(text: str) -> str:
    return html.escape(text, quote=True)


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #20262c; background: #fff; margin: 0 }
main { max-width: 66rem; margin: 0 auto; padding: 1.5rem }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; overflow-wrap: anywhere } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
.facts { color: #5f6b76; margin: 0; overflow-wrap: anywhere } .note { color: #5f6b76; font-size: .85rem }
.verdict { border-left: 4px solid; padding: .5rem .8rem; margin: 1rem 0 }
.good { background: #e8f5ee; border-color: #2e8b57 } .bad { background: #fff0ea; border-color: #c9502c }
.tiles { display: flex; flex-wrap: wrap; gap: .6rem }
.tiles div { border: 1px solid #d8dee4; border-radius: 6px; padding: .5rem .8rem; min-width: 6.5rem }
.tiles span { display: block; color: #5f6b76; font-size: .8rem } .tiles b { font-size: 1.1rem; white-space: nowrap }
.wide { overflow-x: auto } table { border-collapse: collapse }
th, td { text-align: left; vertical-align: top; padding: .25rem .7rem; border-bottom: 1px solid #e4e8ec }
thead th { color: #5f6b76; font-weight: 600; font-size: .85rem }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
figure { margin: .5rem 0 } svg { max-width: 100%; height: auto }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem }
.pictures figure { max-width: 30rem }
 .pictures img { width: 100%; border: 1px solid #d8dee4 } figcaption { color: #5f6b76; font-size: .85rem }
"""
