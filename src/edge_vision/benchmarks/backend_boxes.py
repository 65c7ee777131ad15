"""Which hardware, which runtime: the measurements of several machines side by side."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from edge_vision.benchmarks.backend_chart import Group, bar
from edge_vision.benchmarks.backend_report import (
    Table,
    aligned,
    html_table,
    machine_line,
    mark_best,
    number,
    page,
    paragraphs,
    proof,
)
from edge_vision.benchmarks.backend_study import Study
from edge_vision.benchmarks.backends import Row, fastest

COMMAND = "bench backends --compare"


@dataclass(frozen=True, slots=True)
class Entry:
    """A measured way on a box. ratio: to the fastest proven of all boxes (to the fastest of all where none is proven);
    best: the fastest proven on its box; frames_per_price: frames a second of `infer`, by the price of the box;
    frames_per_joule: runs of the network, by the whole machine's energy. None where not known."""

    box: str
    row: Row
    ratio: float
    best: bool
    frames_per_price: float | None
    frames_per_joule: float | None


def entries(studies: Sequence[Study]) -> list[Entry]:
    """All measured ways of all boxes, the fastest first."""
    measured = [(study, row) for study in studies for row in study.rows if row.measured]
    if not measured:
        return []
    rows = [row for _, row in measured]
    first = fastest(rows) or min(rows, key=lambda row: row.p50_ms or 0.0)
    best = {id(fastest(study.rows)) for study in studies}
    found = [
        Entry(
            str(study.machine["name"]),
            row,
            (row.p50_ms or 0.0) / (first.p50_ms or 1.0),
            id(row) in best,
            _share(row.frames_per_s, study.machine.get("price")),
            _share(1e3, row.energy_mj),
        )
        for study, row in measured
    ]
    return sorted(found, key=lambda entry: entry.row.p50_ms or 0.0)


def _share(value: float | None, by: float | None) -> float | None:
    return value / by if value is not None and by else None


def doubts(studies: Sequence[Study]) -> list[str]:
    """What keeps the figures from being compared, in words."""
    lines = []
    models = {str(study.model["name"]) for study in studies}
    if len(models) > 1:
        lines.append(f"these are measurements of different models: {', '.join(sorted(models))}")
    sums: dict[str, set[str]] = {}
    for study in studies:
        for file, digest in study.model.get("sha256", {}).items():
            sums.setdefault(file, set()).add(digest)
    changed = sorted(file for file, digests in sums.items() if len(digests) > 1)
    if changed and len(models) == 1:
        lines.append(f"files of the same name differ from box to box: {', '.join(changed)}")
    names = [str(study.machine["name"]) for study in studies]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        lines.append(f"more than one box is called {', '.join(twice)}: name them with --name when you measure")
    return [f"note: {line}" for line in lines]


def table(found: Sequence[Entry], studies: Sequence[Study]) -> Table:
    prices = {str(study.machine["name"]): study.machine.get("price") for study in studies}
    heads = ["box", "backend", "device", "precision", "threads", "p50 ms", "p95 ms", "infer ms", "frames/s", "ratio"]
    priced = any(entry.frames_per_price is not None for entry in found)
    powered = any(entry.row.power_w is not None for entry in found)
    heads += ["price", "frames/s/price"] if priced else []
    heads += ["W", "frames/J"] if powered else []
    rows = []
    for entry in found:
        row = entry.row
        cells = [entry.box, f"{row.backend} {row.version}", row.device, row.precision, str(row.threads)]
        cells += [number(row.p50_ms), number(row.p95_ms), number(row.infer_p50_ms), number(row.frames_per_s, 1)]
        cells.append(number(entry.ratio))
        if priced:
            cells += [number(prices.get(entry.box), 0), number(entry.frames_per_price, 3)]
        if powered:
            cells += [number(row.power_w, 1), number(entry.frames_per_joule, 2)]
        rows.append([*cells, proof(row) + (" *" if entry.best else "")])
    return [*heads, "proof"], rows


def text(studies: Sequence[Study]) -> str:
    found = entries(studies)
    lines = [f"edge_vision {COMMAND}: {studies[0].model['name']}, {studies[0].model['input']}"]
    lines += [machine_line(study.machine) for study in studies]
    lines += doubts(studies)
    lines += ["", "the fastest that is proven on each box", *aligned(table([e for e in found if e.best], studies))]
    without = [str(study.machine["name"]) for study in studies if fastest(study.rows) is None]
    if without:
        lines.append(f"nothing proven on {', '.join(without)}: run `edge_vision verify` there")
    lines += ["", "all", *aligned(table(found, studies)), ""]
    lines.append("ratio: p50 to the fastest proven of all; infer, frames/s: a frame to detections; * best of its box")
    return "\n".join(lines)


def as_dict(studies: Sequence[Study]) -> dict[str, Any]:
    """As JSON takes it."""
    return {
        "format": 1,
        "command": COMMAND,
        "boxes": [dict(study.machine) for study in studies],
        "model": dict(studies[0].model),
        "notes": doubts(studies),
        "rows": [
            {
                "box": entry.box,
                "best": entry.best,
                "ratio": entry.ratio,
                "frames_per_price": entry.frames_per_price,
                "frames_per_joule": entry.frames_per_joule,
                **asdict(entry.row),
            }
            for entry in entries(studies)
        ],
    }


def as_csv(studies: Sequence[Study]) -> str:
    own = ["box", "best", "ratio", "frames_per_price", "frames_per_joule"]
    names = [item.name for item in fields(Row) if item.name != "joules"]
    target = io.StringIO()
    writer = csv.DictWriter(target, [*own, *names], lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(as_dict(studies)["rows"])
    return target.getvalue()


def groups(studies: Sequence[Study]) -> list[Group]:
    """For the chart: a group a box, that with the fastest proven way first."""
    all_of_them = entries(studies)
    order = dict.fromkeys(entry.box for entry in sorted(all_of_them, key=lambda entry: (not entry.best, entry.ratio)))
    found = []
    for box in order:
        bars = [bar(entry.row, entry.best, label=entry.row.name) for entry in all_of_them if entry.box == box]
        machine = next(study.machine for study in studies if study.machine["name"] == box)
        found.append(Group(f"{box}: {machine['model']}", tuple(bars)))
    return found


def as_html(studies: Sequence[Study], chart: str) -> str:
    """chart: as `backend_chart.svg` draws it of `groups`."""
    found = entries(studies)
    best = html_table(table([entry for entry in found if entry.best], studies))
    parts = [
        ("The fastest that is proven on each box", best + paragraphs(doubts(studies))),
        ("Latency of the backend's call", chart),
        ("All", html_table(table(found, studies), mark_best)),
    ]
    facts = [machine_line(study.machine) for study in studies]
    return page(f"{studies[0].model['name']}: which hardware, which runtime", facts, parts)
