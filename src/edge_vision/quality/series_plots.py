"""The figures of a series over time, as one SVG with a panel a figure. Needs matplotlib."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.quality.series import FIGURES, Entry, Series, blames, values_of

MISSING = "plots need matplotlib: pip install 'edge_vision[report]' (or matplotlib)"
_LINE, _BAND, _LIMIT, _FAINT, _INK = "#2f6db3", "#a9c7e8", "#c9502c", "#5f6b76", "#20262c"
_MOST_POINTS = 1200  # a panel: beyond that, bins with their median and range
_PANEL, _STRIP = 1.25, 0.24  # inches


@dataclass(frozen=True, slots=True)
class Panel:
    """A figure over time. causes: whose thresholds are drawn; band: keys of the figures around it; least:
    the axis is from 0 to this at least, None for an axis around the values."""

    key: str
    title: str
    causes: tuple[str, ...] = ()
    compared: bool = False
    band: tuple[str, str] | None = None
    least: float | None = 0.0


_PANELS = (
    Panel("ssim", "SSIM", compared=True, least=None),
    Panel("psnr", "PSNR, dB", compared=True, least=None),
    Panel("mean", "brightness, DN: mean, 1 % to 99 %", band=("p1", "p99"), least=255.0),
    Panel("clipped_bright", "share of white pixels", ("clipped",), least=0.01),
    Panel("noise_sigma", "noise, DN", ("noisy",), least=2.0),
    Panel("blur_sigma", "blur, px", ("blurred",), least=1.0),
    Panel("motion_length", "motion blur, px", ("motion_blurred",), least=3.0),
    Panel("contrast", "contrast", ("low_contrast",), least=1.0),
)


def problem() -> str | None:
    """Why nothing can be drawn here; None where it can."""
    return None if find_spec("matplotlib") else MISSING


def svg(series: Series) -> str:
    """The panels as an SVG element. Raises ImportError without matplotlib."""
    target = io.BytesIO()
    draw(series, target, "svg")
    content = target.getvalue().decode("utf-8")
    return content[content.index("<svg") :]


def draw(series: Series, target: Path | io.BytesIO, kind: str) -> None:
    """The same to a file. kind: `svg` or `png`. Raises ImportError without matplotlib, OSError where it cannot be
    written."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(MISSING) from error
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "quality", "font.family": "sans-serif", "font.size": 9}
    with matplotlib.rc_context(settings):
        panels = [panel for panel in _PANELS if np.isfinite(_values(series.entries, panel)).any()]
        causes = [blame.cause for blame in blames(series)]
        heights = [_PANEL] * len(panels) + ([max(_STRIP * len(causes), _STRIP) + 0.15] if causes else [])
        figure = Figure(figsize=(10, sum(heights) + 0.8), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        x, label = _axis(series.entries)
        for place, panel in zip(axes, panels, strict=False):
            _draw_panel(place, series, panel, x)
        if causes:
            _draw_causes(axes[-1], series, causes, x)
        axes[-1].set_xlabel(label, color=_FAINT)
        axes[-1].set_xlim(x[0], x[-1] if x[-1] > x[0] else x[0] + 1)
        figure.align_ylabels(axes)
        metadata: Any = {"Date": None} if kind == "svg" else None
        figure.savefig(target, format=kind, dpi=110, facecolor="white", metadata=metadata)


def _axis(entries: Sequence[Entry]) -> tuple[NDArray[np.float64], str]:
    seconds = np.array([entry.seconds for entry in entries])
    if np.isfinite(seconds).all() and len(seconds) > 1 and seconds[-1] > seconds[0]:
        return seconds, "seconds"
    return np.array([float(entry.index) for entry in entries]), "picture"


def _values(entries: Sequence[Entry], panel: Panel, key: str = "") -> NDArray[np.float64]:
    key = key or panel.key
    known = [figure for figure in FIGURES if figure.key == key and figure.compared == panel.compared]
    if known:
        values = values_of(entries, known[0])
    else:
        values = np.array([getattr(entry.report, key, math.nan) for entry in entries], np.float64)
    return np.where(np.isinf(values), np.nan, values)


def _draw_panel(axes: Any, series: Series, panel: Panel, x: NDArray) -> None:
    values = _values(series.entries, panel)
    if panel.band is not None:
        low, high = (_values(series.entries, panel, key) for key in panel.band)
        centre, (middle, _, _), (_, under, _), (_, _, over) = (
            _binned(x, values)[0],
            *(_binned(x, one)[1:] for one in (values, low, high)),
        )
    else:
        centre, middle, under, over = _binned(x, values)
    axes.fill_between(centre, under, over, color=_BAND, linewidth=0, alpha=0.6)
    few = len(centre) <= 60
    axes.plot(centre, middle, color=_LINE, linewidth=1.1, marker="o" if few else None, markersize=3)
    top = float(np.nanmax(over)) if np.isfinite(over).any() else 1.0
    for limit in _limits(series, panel):
        # A threshold far above everything would flatten the curve.
        if limit <= 2.5 * max(top, 1e-9):
            axes.axhline(limit, color=_LIMIT, linewidth=1, linestyle=(0, (4, 3)))
            top = max(top, limit)
    if panel.least is not None:
        axes.set_ylim(0, max(top * 1.08, panel.least))
    _style(axes, panel.title)


def _binned(x: NDArray, values: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """x, median, least and largest, of one value each or of bins where there are too many to be told apart."""
    if len(x) <= _MOST_POINTS:
        return x, values, values, values
    edges = np.linspace(0, len(x), _MOST_POINTS + 1).astype(int)
    bins = [slice(a, b) for a, b in pairwise(edges)]
    columns = []
    for one in bins:
        known = values[one][np.isfinite(values[one])]
        columns.append((np.median(known), known.min(), known.max()) if len(known) else (np.nan,) * 3)
    middle, low, high = np.array(columns).T
    return np.array([x[one].mean() for one in bins]), middle, low, high


def _limits(series: Series, panel: Panel) -> list[float]:
    for entry in series.measured:
        assert entry.report is not None
        return [verdict.threshold for verdict in entry.report.verdicts if verdict.cause in panel.causes]
    return []


def _draw_causes(axes: Any, series: Series, causes: Sequence[str], x: NDArray) -> None:
    """A row a cause, dark where it was blamed."""
    step = float(np.median(np.diff(x))) if len(x) > 1 else 1.0
    for row, cause in enumerate(causes):
        guilty = np.array([any(verdict.cause == cause for verdict in entry.blamed) for entry in series.entries])
        starts = np.flatnonzero(guilty & ~np.r_[False, guilty[:-1]])
        ends = np.flatnonzero(guilty & ~np.r_[guilty[1:], False])
        spans = [(x[a] - step / 2, x[b] - x[a] + step) for a, b in zip(starts, ends, strict=True)]
        axes.broken_barh(spans, (row + 0.15, 0.7), color=_LIMIT, linewidth=0.3)
    axes.set_ylim(len(causes), 0)
    axes.set_yticks([row + 0.5 for row in range(len(causes))], causes)
    _style(axes, "verdicts")
    axes.tick_params(axis="y", length=0)


def _style(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", color=_INK, fontsize=9.5, weight="bold", pad=3)
    axes.grid(color="#e4e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_FAINT)
    axes.yaxis.set_major_locator(_few_ticks()) if title != "verdicts" else None
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#d8dee4")


def _few_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=4)
