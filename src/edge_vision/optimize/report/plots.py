"""Figures of a report, as a paper has them. Needs matplotlib."""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edge_vision.optimize.report.data import Report
from edge_vision.optimize.report.figures import (
    FAINT,
    GOOD,
    GRID,
    INK,
    SOFT,
    draw_layers,
    draw_steps,
    draw_trade,
    layer_rows,
    points_of,
    timed_backends,
)

MISSING = "plots need matplotlib: pip install 'edge_vision[report]' (or matplotlib)"
STEPS, TRADE, LAYERS = "steps", "trade", "layers"
_IN_PAGE = {
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    GRID: "var(--line)",
    GOOD: "var(--good-soft)",
    SOFT: "var(--soft)",
}
"""What follows the page's light or dark scheme."""


def problem() -> str | None:
    """Why nothing can be drawn here; None where it can."""
    return None if find_spec("matplotlib") else MISSING


def names(report: Report) -> tuple[str, ...]:
    """The figures that this report has something for."""
    if not report.steps:
        return ()
    found = [STEPS] if len(report.steps) > 1 else []
    found += [TRADE] if len(points_of(report)) > 1 else []
    return (*found, LAYERS)


def svg(report: Report, name: str) -> str:
    """A figure as an SVG element without a background, whose text has the colours of the page around it."""
    target = io.BytesIO()
    draw(report, name, target, "svg")
    content = target.getvalue().decode("utf-8")
    content = content[content.index("<svg") :]
    for colour, variable in _IN_PAGE.items():
        content = content.replace(colour, variable)
    return content


def draw(report: Report, name: str, target: Path | io.BytesIO, kind: str) -> None:
    """kind: `svg` or `png`. Raises ImportError without matplotlib, OSError where it cannot be written."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(MISSING) from error
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "optimize",
        "font.family": "sans-serif",
        "font.size": 9,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": FAINT,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "axes.facecolor": "none",
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(10, _height(report, name)), layout="constrained")
        FigureCanvasAgg(figure)
        {STEPS: draw_steps, TRADE: draw_trade, LAYERS: draw_layers}[name](figure, report)
        metadata: Any = {"Date": None} if kind == "svg" else None
        paper = "none" if kind == "svg" else "white"
        figure.savefig(target, format=kind, dpi=110, facecolor=paper, metadata=metadata)


def _height(report: Report, name: str) -> float:
    if name == STEPS:
        return 1.3 + len(report.steps) * (0.3 + 0.16 * max(len(timed_backends(report)), 1))
    if name == LAYERS:
        return 1.4 + 0.34 * len(layer_rows(report))
    return 4.2
