"""The statistics of a dataset as one picture: classes, box sizes, shapes, boxes an image, images. Needs matplotlib."""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edge_vision.datasets.statistics import DatasetStatistics

MISSING = "plots need matplotlib: pip install 'edge_vision[report]' (or matplotlib)"
_LINE, _SOFT, _LIMIT, _FAINT, _INK = "#2f6db3", "#a9c7e8", "#c9502c", "#5f6b76", "#20262c"
_SPLITS = ("#2f6db3", "#e0a030", "#3c9a5f", "#8a5fb0")
_MOST_CLASSES = 30


def problem() -> str | None:
    """Why nothing can be drawn here; None where it can."""
    return None if find_spec("matplotlib") else MISSING


def svg(statistics: DatasetStatistics) -> str:
    """The panels as an SVG element. Raises ImportError without matplotlib."""
    target = io.BytesIO()
    draw(statistics, target, "svg")
    content = target.getvalue().decode("utf-8")
    return content[content.index("<svg") :]


def draw(statistics: DatasetStatistics, target: Path | io.BytesIO, kind: str) -> None:
    """kind: `svg` or `png`. Raises ImportError without matplotlib, OSError where it cannot be written."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(MISSING) from error
    s = statistics
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "dataset", "font.family": "sans-serif", "font.size": 9}
    with matplotlib.rc_context(settings):
        few = len(s.classes) <= 12
        if len(s.side):
            figure = Figure(figsize=(10, 8.2), layout="constrained")
            grid = figure.subplots(3, 2)
            _classes(grid[0, 0], s)
            _scatter(grid[0, 1], s)
            _sides(grid[1, 0], s)
            _histogram(grid[1, 1], np.log2(s.aspect), "aspect ratio", [(0.0, "")], log2=True)
            _counts(grid[2, 0], s)
            _images(grid[2, 1], s)
        else:
            figure = Figure(figsize=(10, 3.2 if few else 5), layout="constrained")
            grid = figure.subplots(1, 2)
            _classes(grid[0], s)
            _images(grid[1], s)
        FigureCanvasAgg(figure)
        metadata: Any = {"Date": None} if kind == "svg" else None
        figure.savefig(target, format=kind, dpi=110, facecolor="white", metadata=metadata)


def _classes(axes: Any, s: DatasetStatistics) -> None:
    shown = sorted(s.classes, key=lambda c: -c.objects)[:_MOST_CLASSES]
    splits = [name for name in ("train", "val", "test", *s.by_split) if name in s.by_split]
    splits = list(dict.fromkeys(splits))
    left = np.zeros(len(shown))
    for number, split in enumerate(splits):
        values = np.array([c.by_split.get(split, 0) for c in shown], float)
        label = split or "no split"
        axes.barh(range(len(shown)), values, left=left, color=_SPLITS[number % len(_SPLITS)], label=label, height=0.75)
        left += values
    axes.set_yticks(range(len(shown)), [c.label for c in shown])
    axes.invert_yaxis()
    if len(splits) > 1:
        axes.legend(frameon=False, fontsize=8)
    more = f" (the {_MOST_CLASSES} most frequent of {len(s.classes)})" if len(s.classes) > _MOST_CLASSES else ""
    style(axes, f"objects by class, {s.imbalance:.1f} : 1{more}")


def _scatter(axes: Any, s: DatasetStatistics) -> None:
    """Width against height in the network's input."""
    wide = s.input_side * np.sqrt(s.aspect)
    high = s.input_side / np.sqrt(s.aspect)
    some = np.random.default_rng(0).permutation(len(wide))[:4000]
    axes.scatter(wide[some], high[some], s=4, color=_LINE, alpha=0.25, linewidths=0, rasterized=True)
    axes.axvline(s.stride, color=_LIMIT, linewidth=1, linestyle=(0, (4, 3)))
    axes.axhline(s.stride, color=_LIMIT, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xlim(0, max(float(np.percentile(wide, 99.5)) * 1.1, 2.0 * s.stride))
    axes.set_ylim(0, max(float(np.percentile(high, 99.5)) * 1.1, 2.0 * s.stride))
    axes.set_xlabel("width, px", color=_FAINT)
    axes.set_ylabel("height, px", color=_FAINT)
    style(axes, f"boxes in {s.input_size[0]} x {s.input_size[1]}; dashed: stride")


def _sides(axes: Any, s: DatasetStatistics) -> None:
    values = np.log2(np.maximum(s.side, 0.5))
    borders = [(5.0, "small | medium"), (np.log2(96), "medium | large")]
    _histogram(axes, values, "side of the box in the image, px", borders, log2=True)


def _histogram(axes: Any, values: Any, title: str, borders: list[tuple[float, str]], log2: bool = False) -> None:
    axes.hist(values, bins=40, color=_LINE)
    low, high = axes.get_xlim()
    for place, text in borders:
        if low <= place <= high:
            axes.axvline(place, color=_LIMIT, linewidth=1, linestyle=(0, (4, 3)))
            side = "right" if place > (low + high) / 2 else "left"
            where = axes.get_xaxis_transform()
            axes.text(place, 0.97, f" {text} ", transform=where, fontsize=8, color=_LIMIT, va="top", ha=side)
    if log2:
        # Whole powers where there is room, halves where the range is narrow.
        step = 1.0 if high - low >= 2 else 0.5 if high - low >= 1 else 0.25
        ticks = np.arange(np.ceil(low / step) * step, high, step)
        axes.set_xticks(ticks, [f"{2.0**t:.3g}" for t in ticks])
    style(axes, title)


def _counts(axes: Any, s: DatasetStatistics) -> None:
    most = int(s.per_image.max(initial=0))
    edges = np.arange(-0.5, most + 1.5) if most <= 60 else 50
    axes.hist(s.per_image, bins=edges, color=_LINE)
    style(axes, f"boxes in an image, mean {s.per_image.mean():.1f}")


def _images(axes: Any, s: DatasetStatistics) -> None:
    shown = list(s.sizes.items())[:8]
    axes.barh(range(len(shown)), [count for _, count in shown], color=_SOFT, height=0.7)
    for row, (_, count) in enumerate(shown):
        axes.text(0, row, f"  {count}", va="center", fontsize=8, color=_INK)
    axes.set_yticks(range(len(shown)), [f"{w} x {h}" for (w, h), _ in shown])
    axes.invert_yaxis()
    axes.set_ylim(max(len(shown), 3) - 0.5, -0.5)
    more = f" (8 of {len(s.sizes)})" if len(s.sizes) > 8 else ""
    style(axes, f"sizes of images{more}")


def style(axes: Any, title: str) -> None:
    """What all plots of the room look like."""
    if title:
        axes.set_title(title, loc="left", color=_INK, fontsize=9.5, weight="bold", pad=4)
    axes.grid(color="#e4e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_FAINT)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#d8dee4")
