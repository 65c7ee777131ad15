"""A dataset's check as JSON, and as tables for the terminal and Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.datasets.description import KINDS, Dataset
from edge_vision.datasets.leaks import LeakReport
from edge_vision.datasets.statistics import DatasetStatistics

Table = tuple[list[str], list[list[str]]]
_QUANTILES = (0, 5, 25, 50, 75, 95, 100)


def warnings_of(statistics: DatasetStatistics, leaks: LeakReport | None) -> list[tuple[str, str, str]]:
    """(name, text, remedy) of all that is wrong, leaks first."""
    found = []
    if leaks is not None and leaks.shared:
        first = next(iter(leaks.shared))
        text = f"{len(leaks.shared)} sequences are in more than one split (limit 0), the first: {first or '(no name)'}"
        found.append(("clips in several splits", text, "split by sequence: edge_vision dataset split"))
    if leaks is not None and leaks.pairs:
        counts = ", ".join(
            f"{count} of {leaks.checked[name]} images of {name} ({count / max(1, leaks.checked[name]):.1%})"
            for name, count in leaks.leaking.items()
        )
        remedy = "the score on them measures memory: split anew, joining the clips that show the same"
        found.append(("near-duplicates across splits", f"{len(leaks.pairs)} pairs (limit 0): {counts}", remedy))
    return found + [(v.name, v.text, v.remedy) for v in statistics.verdicts if v.warned]


def as_dict(dataset: Dataset, statistics: DatasetStatistics, leaks: LeakReport | None) -> dict[str, Any]:
    """Everything, for JSON; numbers that are none are null."""
    s = statistics
    return {
        "path": str(dataset.path),
        "kind": dataset.kind,
        "task": dataset.task,
        "images": s.images,
        "objects": s.objects,
        "sequences": s.sequences,
        "splits": s.by_split,
        "classes": [
            {
                "label": c.label,
                "objects": c.objects,
                "images": c.images,
                "share": c.share,
                "effective_number": c.effective,
                "by_split": c.by_split,
            }
            for c in s.classes
        ],
        "imbalance": None if math.isnan(s.imbalance) else s.imbalance,
        "input_size": list(s.input_size),
        "stride": s.stride,
        "boxes": {
            "small": s.small,
            "medium": s.medium,
            "large": s.large,
            "below_stride": s.below_stride,
            **{key: _quantiles(values) for key, values in _columns(s).items()},
        },
        "image_sizes": [{"width": w, "height": h, "images": count} for (w, h), count in s.sizes.items()],
        "issue_counts": s.issues,
        "issues": [{"kind": i.kind, "where": i.where, "text": i.text} for i in dataset.issues],
        "verdicts": [
            {
                "name": v.name,
                "figure": None if math.isnan(v.figure) else v.figure,
                "threshold": v.threshold,
                "warned": v.warned,
                "text": v.text,
                "remedy": v.remedy,
            }
            for v in s.verdicts
        ],
        "leaks": None if leaks is None else _leaks(dataset, leaks),
        "warnings": [{"name": n, "text": t, "remedy": r} for n, t, r in warnings_of(s, leaks)],
    }


def _leaks(dataset: Dataset, leaks: LeakReport) -> dict[str, Any]:
    return {
        "clean": leaks.clean,
        "shared_sequences": leaks.shared,
        "leaking": leaks.leaking,
        "checked": leaks.checked,
        "undecodable": list(leaks.undecodable),
        "pairs": [
            {
                "images": [str(dataset.samples[i].image) for i in (p.first, p.second)],
                "splits": [dataset.samples[i].split for i in (p.first, p.second)],
                "bits": p.bits,
                "correlation": p.correlation,
                "difference": p.difference,
            }
            for p in leaks.pairs
        ],
    }


def _columns(s: DatasetStatistics) -> dict[str, NDArray[Any]]:
    columns = {
        "side_px": s.side,
        "side_in_input_px": s.input_side,
        "relative_area": s.relative,
        "aspect": s.aspect,
    }
    return columns | ({"per_image": s.per_image} if len(s.side) else {})


def _quantiles(values: NDArray[Any]) -> dict[str, float]:
    if not len(values):
        return {}
    return {f"p{q}": float(v) for q, v in zip(_QUANTILES, np.percentile(values, _QUANTILES), strict=True)}


def heading(dataset: Dataset, s: DatasetStatistics) -> str:
    what = f"{s.objects} boxes" if dataset.task == "detection" else "one class an image"
    splits = ", ".join(f"{name or 'no split'} {count}" for name, count in sorted(s.by_split.items()))
    return (
        f"{dataset.path}, read as {dataset.kind}: {s.images} images ({splits}) of {s.sequences} sequences, {what}, "
        f"{len(dataset.labels)} classes"
    )


def class_table(s: DatasetStatistics) -> Table:
    splits = [name for name in s.by_split if name]
    splits = splits if len(splits) > 1 else []
    rows = [
        [
            c.label,
            str(c.objects),
            f"{c.share:.1%}",
            str(c.images),
            f"{c.effective:.0f}",
            *(str(c.by_split.get(name, 0)) for name in splits),
        ]
        for c in s.classes
    ]
    return ["class", "objects", "share", "images", "effective", *splits], rows


def box_table(s: DatasetStatistics) -> Table:
    names = {
        "side_px": "side (root of area), px",
        "side_in_input_px": f"side in {s.input_size[0]} x {s.input_size[1]}, px",
        "relative_area": "share of the image, %",
        "aspect": "width / height",
        "per_image": "boxes in an image",
    }
    rows = []
    for key, values in _columns(s).items():
        if len(values):
            factor = 100 if key == "relative_area" else 1
            rows.append([names[key], *(f"{factor * v:.3g}" for v in np.percentile(values, _QUANTILES))])
    return ["", "least", *(f"{q} %" for q in _QUANTILES[1:-1]), "most"], rows


def issue_table(dataset: Dataset) -> Table:
    rows = []
    for kind, count in dataset.issue_counts().items():
        first = next(issue for issue in dataset.issues if issue.kind == kind)
        rows.append([kind, str(count), KINDS[kind], f"{first.where} {first.text}".strip()])
    return ["issue", "count", "what it means", "the first"], rows


def verdict_table(s: DatasetStatistics) -> Table:
    return ["looked at", "verdict", "figure and limit"], [
        [v.name, "warning" if v.warned else "fine", v.text] for v in s.verdicts
    ]


def size_table(s: DatasetStatistics) -> Table:
    return ["image size", "images"], [[f"{w} x {h}", str(count)] for (w, h), count in list(s.sizes.items())[:12]]


def markdown(dataset: Dataset, s: DatasetStatistics, leaks: LeakReport | None) -> str:
    """The whole report as Markdown, which is also what the terminal shows."""
    parts = [f"# Dataset check\n\n{heading(dataset, s)}."]
    warned = warnings_of(s, leaks)
    if warned:
        parts.append("\n".join(f"- **{name}**: {text}. {remedy}." for name, text, remedy in warned))
    else:
        parts.append("Nothing to warn of: every figure is within its threshold.")
    if leaks is None:
        parts.append("Leaks were not looked for: the dataset has fewer than two splits, or it was not asked for.")
    elif leaks.clean:
        parts.append(f"No leaks between {', '.join(leaks.splits)}: {sum(leaks.checked.values())} images looked at.")
    tables = [("Classes", class_table(s)), ("Boxes", box_table(s)), ("Image sizes", size_table(s))]
    for title, table in [*tables, ("Issues", issue_table(dataset)), ("Verdicts", verdict_table(s))]:
        if table[1]:
            parts.append(f"## {title}\n\n{markdown_table(table)}")
    if len(s.side):
        shares = f"small {s.small:.1%}, medium {s.medium:.1%}, large {s.large:.1%}"
        parts.append(f"COCO's sizes in the image: {shares}; below the stride of {s.stride} px: {s.below_stride:.1%}.")
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    heads, rows = table
    widths = [max(len(str(row[c])) for row in [heads, *rows]) for c in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        padded = (cell.replace("|", "/").ljust(width) for cell, width in zip(cells, widths, strict=True))
        return "| " + " | ".join(padded) + " |"

    return "\n".join([line(heads), "|" + "|".join("-" * (w + 2) for w in widths) + "|", *map(line, rows)])
