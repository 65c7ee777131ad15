"""The figures of a report, drawn: see `plots`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge_vision.optimize.measure.compute import Layer
from edge_vision.optimize.report.data import Report, StepReport
from edge_vision.optimize.report.tables import count

INK, FAINT, GRID = "#20262c", "#5f6b76", "#e4e8ec"
SERIES = ("#2f6db3", "#e0902f", "#3c9a5f", "#8a5fb0", "#c9502c", "#6b7a8f")
SOFT, GOOD, LIMIT = "#a9c7e8", "#dcefe3", "#c9502c"
_MOST_LAYERS = 36


def timed_backends(report: Report) -> list[str]:
    """Those with a latency of any step."""
    return [name for name in report.backends if any(step.latency_on(name) for step in report.steps)]


def _short(text: str, most: int = 34) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _clean(axes: Any, title: str, grid: str = "x") -> None:
    axes.set_title(title, loc="left", fontsize=9.5, weight="bold", pad=6)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)


# --- what each step did ----------------------------------------------------------------------------------------------


def draw_steps(figure: Any, report: Report) -> None:
    """Size, accuracy and latency, a row a step."""
    timed = timed_backends(report)
    panels = [_sizes, *([_accuracies] if any(s.accuracy for s in report.steps) else []), *([_times] if timed else [])]
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    places = range(len(report.steps))
    for axes, panel in zip(grid, panels, strict=True):
        panel(axes, report)
        axes.set_ylim(len(report.steps) - 0.4, -0.6)
    grid[0].set_yticks(places, [_short(step.title) for step in report.steps])


def _sizes(axes: Any, report: Report) -> None:
    whole = [step.size.file for step in report.steps]
    packed = [step.size.packed or 0 for step in report.steps]
    axes.barh(range(len(whole)), whole, 0.62, color=SOFT, label="file")
    if any(packed):
        axes.barh(range(len(packed)), packed, 0.3, color=SERIES[0], label="packed")
    for place, (file, small) in enumerate(zip(whole, packed, strict=True)):
        least = small or file
        text = f"{count(least)}B  {whole[0] / least:.1f}x" if place or small else f"{count(least)}B"
        axes.annotate(text, (file, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xlim(0, max(whole) * 1.5)
    axes.xaxis.set_major_formatter(lambda value, _: _tick(value, "B"))
    axes.xaxis.set_major_locator(_ticks(4))
    _legend(axes, 2)
    _clean(axes, "Size")


def _accuracies(axes: Any, report: Report) -> None:
    measured = [(place, step.accuracy) for place, step in enumerate(report.steps) if step.accuracy]
    first = report.original.accuracy
    if first is not None:
        limit = 100 * (first.value - report.max_drop)
        axes.axvline(limit, color=LIMIT, linewidth=1, linestyle=(0, (4, 3)))
        axes.axvspan(limit, 1e3, color=GOOD, linewidth=0)
        axes.annotate(
            "budget",
            (limit, 1),
            (-3, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            color=LIMIT,
            fontsize=8,
            ha="right",
            va="top",
            rotation=90,
        )
    ends = []
    for place, score in measured:
        value, low, high = (100 * v for v in (score.value, score.low, score.high))
        low, high = (low, high) if math.isfinite(low + high) else (value, value)
        axes.plot([low, high], [place, place], color=SERIES[0], linewidth=1.4, solid_capstyle="butt")
        axes.plot([value], [place], "o", color=SERIES[0], markersize=5)
        axes.annotate(f"{value:.2f}", (value, place), (0, 6), textcoords="offset points", ha="center", fontsize=8)
        ends += [low, high]
    if first is not None:
        ends.append(100 * (first.value - report.max_drop))
    margin = max(0.08 * (max(ends) - min(ends)), 0.1)
    axes.set_xlim(min(ends) - margin, max(ends) + margin)
    axes.xaxis.set_major_locator(_ticks(4))
    _clean(axes, f"{report.metric}, %, 95 % interval")


def _times(axes: Any, report: Report) -> None:
    timed = timed_backends(report)
    height = 0.72 / len(timed)
    longest = 0.0
    for number, name in enumerate(timed):
        colour = SERIES[number % len(SERIES)]
        for place, step in enumerate(report.steps):
            row = step.latency_on(name)
            if row is None:
                continue
            y = place - 0.36 + height * (number + 0.5)
            label = name if place == 0 else None
            axes.barh(y, row.p50_ms, height * 0.86, color=colour, label=label)
            axes.plot([row.p50_ms, row.p95_ms], [y, y], color=FAINT, linewidth=1)
            text = f"{row.p50_ms:.3g}" + (f"  {row.speedup:.2f}x" if place and row.speedup else "")
            axes.annotate(text, (row.p95_ms, y), (4, 0), textcoords="offset points", va="center", fontsize=8)
            longest = max(longest, row.p95_ms)
    axes.set_xlim(0, longest * 1.42)
    axes.xaxis.set_major_locator(_ticks(4))
    _legend(axes, min(len(timed), 3))
    _clean(axes, "Latency, ms: p50, line to p95")


def _legend(axes: Any, columns: int) -> None:
    """Below the ticks."""
    below = -0.32 / max(axes.figure.get_figheight() - 0.9, 0.5)
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(0, below),
        borderaxespad=0,
        frameon=False,
        fontsize=8,
        handlelength=1.0,
        columnspacing=1.0,
        ncols=columns,
    )


def _tick(value: float, unit: str = "") -> str:
    number, space, prefix = count(value).partition(" ")
    return f"{float(number):g}{space}{prefix}{unit}" if value else "0"


def _ticks(most: int) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=most)


# --- accuracy against what it is paid with ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Point:
    """accuracy: %; latency: share of the original's; size: packed bytes."""

    name: str
    accuracy: float
    latency: float
    size: float
    chosen: bool


def points_of(report: Report) -> list[_Point]:
    """Of recipes, or of steps where there are no recipes to show."""
    found = [
        _Point(t.name, 100 * t.accuracy, t.latency, t.size, t.chosen)
        for t in report.trials
        if t.accuracy is not None and t.latency is not None and t.size is not None
    ]
    if len(found) > 1:
        return found
    steps = []
    for step in report.steps[1:]:
        row = next((row for row in step.latency if row.ratio is not None), None)
        if step.accuracy is not None and row is not None and row.ratio is not None:
            final = step is report.final and report.verdict.met
            size = float(step.size.packed or step.size.file)
            steps.append(_Point(step.title, 100 * step.accuracy.value, row.ratio, size, final))
    return steps


def _reference(report: Report) -> float | None:
    """The original's accuracy, %, on the images that the points are of: recipes are judged on others than steps."""
    trials = [t for t in report.trials if t.accuracy is not None and t.drop is not None]
    if len(trials) > 1:
        return 100 * (trials[0].accuracy or 0.0) + 100 * (trials[0].drop or 0.0)
    return 100 * report.original.accuracy.value if report.original.accuracy else None


def draw_trade(figure: Any, report: Report) -> None:
    """Accuracy against latency and against size, with what nothing beats."""
    points = points_of(report)
    first = report.original
    left, right = figure.subplots(1, 2, sharey=True)
    reference = _reference(report)
    weight = float(first.size.packed or first.size.file)
    for axes, costs, origin, title in (
        (left, [p.latency for p in points], 1.0, f"p50 on {report.backends[0]}, share of the original's"),
        (right, [p.size for p in points], weight, "packed size"),
    ):
        for cost, point in zip(costs, points, strict=True):
            axes.plot([cost], [point.accuracy], "o", color=SERIES[5], markersize=5, zorder=3)
            if point.chosen:
                axes.plot([cost], [point.accuracy], "*", color=SERIES[1], markersize=13, zorder=5)
        pairs = [(cost, point.accuracy) for cost, point in zip(costs, points, strict=True)]
        front = _front(axes, [*pairs, (origin, reference)] if reference is not None else pairs)
        if reference is not None:
            axes.plot([origin], [reference], "D", color=INK, markersize=6, label="original")
            limit = reference - 100 * report.max_drop
            axes.axhline(limit, color=LIMIT, linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                "budget",
                (1, limit),
                (-2, 3),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                color=LIMIT,
                fontsize=8,
                ha="right",
            )
        axes.set_xlim(0, max([origin, *costs]) * 1.12)
        axes.xaxis.set_major_locator(_ticks(5))
        axes.margins(y=0.15)
        named = [(pair, point) for pair, point in zip(pairs, points, strict=True) if pair in front or point.chosen]
        _name(axes, sorted(named, key=lambda item: (not item[1].chosen, item[0])))
        axes.set_xlabel(title)
        _clean(axes, "Accuracy against latency" if axes is left else "Accuracy against size", "both")
    left.set_ylabel(f"{report.metric}, %")
    right.xaxis.set_major_formatter(lambda value, _: _tick(value, "B"))
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], marker="D", color=INK, linestyle="", markersize=6, label="original"),
        Line2D([], [], marker="o", color=SERIES[5], linestyle="", markersize=5, label="recipe"),
        Line2D([], [], marker="o", color=SERIES[0], linestyle="-", markersize=6, label="nothing is better in both"),
        Line2D([], [], marker="*", color=SERIES[1], linestyle="", markersize=11, label="chosen"),
    ]
    figure.legend(handles=marks, loc="outside lower left", frameon=False, ncols=4, fontsize=8)


def _front(axes: Any, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those with none that is both cheaper and more accurate, joined by a line."""
    best: list[tuple[float, float]] = []
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or accuracy > best[-1][1]:
            best.append((cost, accuracy))
    x, y = zip(*best, strict=True)
    axes.step(x, y, where="post", color=SERIES[0], linewidth=1.2, alpha=0.8)
    axes.plot(x, y, "o", color=SERIES[0], markersize=6, zorder=4)
    return best


def _name(axes: Any, points: Sequence[tuple[tuple[float, float], _Point]]) -> None:
    """Names beside points, the first in the row first, as long as they do not lie over each other."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    placed: list[tuple[float, float]] = []
    for (cost, accuracy), point in points:
        x, y = (cost - left) / (right - left), (accuracy - low) / (high - low)
        if all(abs(x - a) > 0.2 or abs(y - b) > 0.06 for a, b in placed):
            placed.append((x, y))
            where = (cost, accuracy)
            axes.annotate(_short(point.name, 22), where, (7, 5), textcoords="offset points", fontsize=8, color=INK)


# --- layers before and after -----------------------------------------------------------------------------------------


def _layer_name(layer: Layer) -> str:
    return layer.name.removesuffix("_quantized")  # as onnxruntime renames weights


def layer_rows(report: Report) -> list[str]:
    """Names of the layers with most MACs in either, in the order of the graphs."""
    found: dict[str, int] = {}
    for step in (report.final, report.original):
        for layer in step.compute.layers:
            if layer.macs:
                name = _layer_name(layer)
                found[name] = max(found.get(name, 0), layer.macs)
    most = set(sorted(found, key=lambda name: -found[name])[:_MOST_LAYERS])
    order = [_layer_name(layer) for step in (report.original, report.final) for layer in step.compute.layers]
    return [name for name in dict.fromkeys(order) if name in most]


def draw_layers(figure: Any, report: Report) -> None:
    """MACs and bytes of layers, of the original and of the last step."""
    rows = layer_rows(report)
    left, right = figure.subplots(1, 2, sharey=True)
    shown: list[tuple[StepReport, str, str]] = [(report.original, "original", SOFT)]
    if len(report.steps) > 1:
        shown.append((report.final, _short(report.final.title), SERIES[0]))
    height = 0.78 / len(shown)
    for number, (step, label, colour) in enumerate(shown):
        layers = {_layer_name(layer): layer for layer in step.compute.layers}
        places = [place - 0.39 + height * (number + 0.5) for place in range(len(rows))]
        for axes, values in (
            (left, [layers[name].macs if name in layers else 0 for name in rows]),
            (right, [layers[name].weight_bytes if name in layers else 0 for name in rows]),
        ):
            axes.barh(places, values, height * 0.92, color=colour, label=label)
    left.set_yticks(range(len(rows)), [_short(name, 40) for name in rows])
    left.set_ylim(len(rows) - 0.4, -0.6)
    for axes, title in ((left, "Multiply-accumulates"), (right, "Bytes of weights, as computed with")):
        axes.xaxis.set_major_formatter(lambda value, _: _tick(value))
        axes.xaxis.set_major_locator(_ticks(5))
        _clean(axes, title)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", frameon=False, ncols=2, fontsize=8)
