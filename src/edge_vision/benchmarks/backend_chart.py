"""Charts of `edge_vision bench backends`, drawn by matplotlib: bars of p50 with whiskers to p95 and p99."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from edge_vision.benchmarks.backend_study import Study
from edge_vision.benchmarks.backends import Row, fastest
from edge_vision.inference.backends import BACKENDS

MISSING = "charts need matplotlib: pip install 'edge_vision[report]' (or matplotlib)"

_COLOURS = dict(
    zip(
        BACKENDS,
        # Paul Tol's "bright" and "muted" sets, told apart by colour-blind people too.
        ("#4477AA", "#228833", "#44AA99", "#CCBB44", "#AA3377", "#EE6677", "#882255", "#66CCEE"),
        strict=False,
    )
)
_GREY, _INK, _FAINT = "#BBBBBB", "#1f2328", "#59636e"
_ROW, _HEADING = 0.3, 0.42  # inches
_OUTLIER = 4.0  # times the median, above which a bar is cut


@dataclass(frozen=True, slots=True)
class Bar:
    """label: left of the bar; p50, p95, p99: ms; note: right of the axis; best: set off; doubtful: hatched, its
    results are not proven."""

    label: str
    backend: str
    p50: float
    p95: float
    p99: float
    note: str = ""
    best: bool = False
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    heading: str
    bars: tuple[Bar, ...]


def problem() -> str | None:
    """Why no chart can be drawn here; None where one can."""
    return None if find_spec("matplotlib") else MISSING


def groups_of(study: Study) -> list[Group]:
    """By precision, the fastest first."""
    best = fastest(study.rows)
    order = dict.fromkeys(row.precision for row in study.rows if row.measured)
    threads = {row.threads for row in study.rows if row.measured}
    groups = []
    for precision in order:
        rows = sorted(
            (row for row in study.rows if row.measured and row.precision == precision), key=lambda row: row.p50_ms or 0
        )
        groups.append(Group(precision, tuple(bar(row, row is best, len(threads) > 1) for row in rows)))
    return groups


def bar(row: Row, best: bool = False, with_threads: bool = True, label: str = "") -> Bar:
    """The bar of a measured row."""
    device = "" if row.device == "cpu" else f" {row.device}"
    threads = f", {row.threads} thread{'s' if row.threads != 1 else ''}" if with_threads else ""
    p50, p95, p99 = row.p50_ms or 0.0, row.p95_ms or 0.0, row.p99_ms or 0.0
    doubt = "" if row.proven else f" ({row.proof})"
    return Bar(
        label or f"{row.backend}{device}{threads}", row.backend, p50, p95, p99, f"{p50:.2f} ms{doubt}", best,
        not row.proven,
    )  # fmt: skip


def draw(title: str, subtitle: str, groups: Sequence[Group], target: Path | io.BytesIO, kind: str) -> None:
    """Write the chart. kind: `png` or `svg`. Raises ImportError without matplotlib, OSError for a target that cannot be
    written."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10}):
        figure = _figure(title, subtitle, groups)
        figure.savefig(target, format=kind, dpi=150, facecolor="white")


def svg(title: str, subtitle: str, groups: Sequence[Group]) -> str:
    """The chart as an element for a page of HTML."""
    target = io.BytesIO()
    draw(title, subtitle, groups, target, "svg")
    content = target.getvalue().decode("utf-8")
    return content[content.index("<svg") :]


def _figure(title: str, subtitle: str, groups: Sequence[Group]) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bars = [bar for group in groups for bar in group.bars]
    inside = sum(len(group.bars) * _ROW + _HEADING for group in groups) or _HEADING
    height = inside + 1.25
    figure = Figure(figsize=(10, height))
    FigureCanvasAgg(figure)
    left = min(0.14 + 0.0068 * max((len(bar.label) for bar in bars), default=0), 0.42)
    limit = _axis_end(bars)
    right = 0.985 - 0.0066 * max((len(_note(one, limit)) for one in bars), default=0)
    axes = figure.add_axes((left, 0.55 / height, right - left, inside / height))
    y = 0.0
    ticks, labels = [], []
    for group in groups:
        axes.text(0, y + _HEADING * 0.62, group.heading, weight="bold", va="center", ha="left", color=_INK)
        y += _HEADING
        for one in group.bars:
            middle = y + _ROW / 2
            _draw_bar(axes, one, middle, limit)
            ticks.append(middle)
            labels.append(one)
            y += _ROW
    axes.set_ylim(y, 0)
    axes.set_xlim(0, limit)
    axes.set_yticks(ticks, [one.label for one in labels])
    for tick, one in zip(axes.get_yticklabels(), labels, strict=True):
        tick.set_fontweight("bold" if one.best else "normal")
    axes.set_xlabel("milliseconds a run: bar p50, thick whisker p95, thin whisker p99", color=_FAINT)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", colors=_FAINT)
    axes.grid(axis="x", color="#e4e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#d8dee4")
    figure.text(0.015, 1 - 0.26 / height, title, size=13, weight="bold", color=_INK, va="center")
    figure.text(0.015, 1 - 0.5 / height, subtitle, size=9, color=_FAINT, va="center")
    return figure


def _axis_end(bars: Sequence[Bar]) -> float:
    """Where the axis ends. One way that takes ten times as long as the others, or a single p99 of a
    second, must not make slivers of the rest: what is beyond the axis is cut, and says so."""
    if not bars:
        return 1.0
    middle = float(median(one.p50 for one in bars))
    shown = [one for one in bars if one.p50 <= _OUTLIER * middle]
    longest = max(one.p50 for one in shown)
    return max(longest * 1.05, min(max(one.p95 for one in shown) * 1.1, longest * 1.8))


def _draw_bar(axes: Any, one: Bar, middle: float, limit: float) -> None:
    colour = _COLOURS.get(one.backend, _GREY)
    style = {"hatch": "////", "edgecolor": "white"} if one.doubtful else {"edgecolor": "none"}
    cut = one.p50 > limit
    axes.barh(middle, min(one.p50, limit), _ROW * 0.66, color=colour, linewidth=0, **style)
    if cut:
        for place in (0.9, 0.908):
            axes.plot(
                [limit * place, limit * (place + 0.012)], [middle + 0.16, middle - 0.16], color="white", linewidth=2
            )
    for value, width in ((one.p95, 2.4), (one.p99, 1.0)) if not cut else ():
        reach = min(max(value, one.p50), limit)
        axes.plot([one.p50, reach], [middle, middle], color=_INK, linewidth=width, solid_capstyle="butt")
    axes.text(limit * 1.012, middle, _note(one, limit), va="center", ha="left", size=9, color=_INK)


def _note(one: Bar, limit: float) -> str:
    """What stands right of the axis."""
    beyond = f", p99 {one.p99:.0f} ms" if one.p99 > limit >= one.p50 else ""
    return one.note + beyond + (", the fastest proven" if one.best else "")
