"""Tracking scores as a table: for the terminal, as Markdown, as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_vision.evaluation.tracking import Scores, TrackingScores

PERCENT = ("hota", "deta", "assa", "loca", "mota", "idf1")
COUNTS = ("idsw", "fp", "fn", "objects", "frames")
TITLES = {
    "hota": "HOTA",
    "deta": "DetA",
    "assa": "AssA",
    "loca": "LocA",
    "mota": "MOTA",
    "idf1": "IDF1",
    "idsw": "IDSW",
    "fp": "FP",
    "fn": "FN",
    "objects": "objects",
    "frames": "frames",
    "ms": "ms/update",
}
NAN = float("nan")
MOST_IN_FULL = 4  # trackers; of more than these only the first has its sequences listed


@dataclass(frozen=True, slots=True)
class Result:
    """What one tracker has got: its name, its scores, and the mean ms of an update by sequence and group (empty where
    nothing was timed)."""

    name: str
    scores: TrackingScores
    ms: Mapping[str, float]


def rows(result: Result) -> list[tuple[str, str, Mapping[str, float]]]:
    """(kind, name, figures) of a result's table: its sequences, its groups, and the mean over the groups, or what all
    sequences come to together where there are none. kind: "sequence", "group" or "all"."""
    scores = result.scores
    lines = [("sequence", name, _figures(s, result.ms.get(name, NAN))) for name, s in scores.sequences.items()]
    lines += [("group", name, _figures(s, result.ms.get(name, NAN))) for name, s in scores.groups.items()]
    if len(scores.groups) > 1:
        means = {key: scores.mean(key) for key in PERCENT}
        totals = {key: sum(getattr(s, key) for s in scores.groups.values()) for key in COUNTS}
        lines.append(("all", "mean of groups", {**means, **totals, "ms": result.ms.get("", NAN)}))
    elif not scores.groups and len(scores.sequences) > 1 and scores.combined is not None:
        lines.append(("all", "all together", _figures(scores.combined, result.ms.get("", NAN))))
    return lines


def text(results: Sequence[Result]) -> str:
    """The tables one after another for the terminal; where there are several trackers, one that compares them first."""
    blocks = [_compared(results)] if len(results) > 1 else []
    for result in results[: 1 if len(results) > MOST_IN_FULL else None]:
        lines = rows(result)
        columns = _columns(lines)
        names = [f"{'' if kind == 'sequence' else '= '}{name}" for kind, name, _ in lines]
        wide = max(len(name) for name in (result.name, *names))
        block = [f"{result.name:{wide}}" + "".join(f"{TITLES[key]:>{_width(key)}}" for key in columns)]
        block += [
            f"{name:{wide}}" + "".join(f"{_cell(key, figures[key]):>{_width(key)}}" for key in columns)
            for name, (_, _, figures) in zip(names, lines, strict=True)
        ]
        blocks.append("\n".join(block))
    return "\n\n".join(blocks)


def markdown(results: Sequence[Result]) -> str:
    """The same for a page. Where there are several trackers, the best HOTA and IDF1 of each group are in bold."""
    blocks = [_compared_markdown(results)] if len(results) > 1 else []
    for result in results[:1]:
        lines = rows(result)
        columns = _columns(lines)
        block = ["| " + " | ".join([result.name, *(TITLES[key] for key in columns)]) + " |"]
        block.append("|---|" + "---:|" * len(columns))
        for kind, name, figures in lines:
            shown = name if kind == "sequence" else f"**{name}**"
            block.append("| " + " | ".join([shown, *(_cell(key, figures[key]) for key in columns)]) + " |")
        blocks.append("\n".join(block))
    return "\n\n".join(blocks) + "\n"


def table_csv(results: Sequence[Result]) -> str:
    """Everything in one CSV: tracker, kind, name, then scores in 0..1 and counts."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = (*PERCENT, *COUNTS, "ms")
    writer.writerow(["tracker", "kind", "name", *columns])
    for result in results:
        for kind, name, figures in rows(result):
            values = ["" if math.isnan(figures[key]) else round(figures[key], 6) for key in columns]
            writer.writerow([result.name, kind, name, *values])
    return out.getvalue()


def _figures(scores: Scores, ms: float) -> Mapping[str, float]:
    return {key: getattr(scores, key) for key in (*PERCENT, *COUNTS)} | {"ms": ms}


def _columns(lines: Sequence[tuple[str, str, Mapping[str, float]]]) -> list[str]:
    timed = any(not math.isnan(figures["ms"]) for _, _, figures in lines)
    return [*PERCENT, *COUNTS, *(["ms"] if timed else [])]


def _width(key: str) -> int:
    return 11 if key == "ms" else 9 if key == "objects" else 8


def _cell(key: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    if key in PERCENT:
        return f"{100 * value:.1f}"
    return f"{value:.2f}" if key == "ms" else f"{value:.0f}"


def _units(result: Result) -> Mapping[str, Scores]:
    """What trackers are compared on: the groups, or everything."""
    scores = result.scores
    return scores.groups or ({"all": scores.combined} if scores.combined else scores.sequences)


def _short(scores: Scores) -> str:
    return f"{100 * scores.hota:.1f}/{100 * scores.mota:.1f}/{100 * scores.idf1:.1f}/{scores.idsw}"


def _compared(results: Sequence[Result]) -> str:
    units = list(_units(results[0]))
    wide = max(len(result.name) for result in results) + 2
    lines = ["HOTA/MOTA/IDF1/IDSW", " " * wide + "".join(f"{unit:>24}" for unit in units) + f"{'HOTA':>8}{'ms':>8}"]
    for result in results:
        cells = "".join(f"{_short(scores):>24}" for scores in _units(result).values())
        lines.append(f"{result.name:{wide}}{cells}{100 * _mean(result):>8.1f}{result.ms.get('', NAN):>8.2f}")
    return "\n".join(lines)


def _compared_markdown(results: Sequence[Result]) -> str:
    units = list(_units(results[0]))
    lines = ["| HOTA / MOTA / IDF1 / IDSW | " + " | ".join(units) + " | mean HOTA | ms/update |"]
    lines.append("|---|" + "---:|" * (len(units) + 2))
    best_mean = max(round(100 * _mean(result), 1) for result in results)
    for result in results:
        cells = []
        for unit, scores in _units(result).items():
            everyone = [_units(other)[unit] for other in results]
            hota, idf1 = (
                _bold(getattr(scores, key), max(getattr(other, key) for other in everyone)) for key in ("hota", "idf1")
            )
            cells.append(f"{hota} / {100 * scores.mota:.1f} / {idf1} / {scores.idsw}")
        mean = round(100 * _mean(result), 1)
        cells.append(f"**{mean:.1f}**" if mean == best_mean else f"{mean:.1f}")
        lines.append(f"| {result.name} | " + " | ".join(cells) + f" | {_cell('ms', result.ms.get('', NAN))} |")
    return "\n".join(lines)


def _bold(value: float, best: float) -> str:
    shown = f"{100 * value:.1f}"
    return f"**{shown}**" if shown == f"{100 * best:.1f}" else shown


def _mean(result: Result) -> float:
    units = _units(result)
    return sum(scores.hota for scores in units.values()) / len(units)
