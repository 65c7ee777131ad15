"""The loss curves with what decided about them, as SVG or PNG. Needs matplotlib."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from edge_vision.datasets.learning_curves import Diagnosis
from edge_vision.datasets.plots import MISSING, style

_TRAIN, _VAL, _SCORE, _LIMIT, _FAINT, _INK = "#2f6db3", "#e0862c", "#3c9a5f", "#c9502c", "#5f6b76", "#20262c"


def svg(diagnosis: Diagnosis) -> str:
    """The plot as an SVG element. Raises ImportError without matplotlib."""
    target = io.BytesIO()
    draw(diagnosis, target, "svg")
    content = target.getvalue().decode("utf-8")
    return content[content.index("<svg") :]


def draw(diagnosis: Diagnosis, target: Path | io.BytesIO, kind: str) -> None:
    """kind: `svg` or `png`. Raises ImportError without matplotlib, OSError where it cannot be written."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise ImportError(MISSING) from error
    log = diagnosis.log
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "curves", "font.family": "sans-serif", "font.size": 9}
    with matplotlib.rc_context(settings):
        scored = log.score is not None and bool(np.isfinite(log.score).any())
        figure = Figure(figsize=(9, 6.2 if scored else 4.6), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.2]) if scored else [figure.subplots()]
        axes = panels[0]
        _losses(axes, diagnosis)
        if scored:
            panels[1].plot(log.epochs, np.asarray(log.score), color=_SCORE, linewidth=1.4)
            style(panels[1], log.columns.get("score", "score"))
        panels[-1].set_xlabel("epoch", color=_FAINT)
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        lines = [str(condition) for condition in diagnosis.rule.conditions]
        figure.suptitle(diagnosis.title, x=0.01, ha="left", color=_INK, fontsize=12, weight="bold")
        if lines:
            axes.set_title("\n".join(lines), loc="left", color=_FAINT, fontsize=8.5)
        metadata: Any = {"Date": None} if kind == "svg" else None
        figure.savefig(target, format=kind, dpi=110, facecolor="white", metadata=metadata)


def _losses(axes: Any, diagnosis: Diagnosis) -> None:
    log = diagnosis.log
    st, sv = diagnosis.smooth_train, diagnosis.smooth_val
    axes.plot(log.epochs, log.train, color=_TRAIN, linewidth=0.9, alpha=0.45)
    if len(st) == len(log.epochs):
        shown = np.where(np.isfinite(log.train), st, np.nan)
        axes.plot(log.epochs, shown, color=_TRAIN, linewidth=2, label=f"training: {log.columns.get('train', 'loss')}")
    if log.val is not None and sv is not None and len(sv) == len(st):
        axes.plot(log.epochs, log.val, color=_VAL, linewidth=0.9, alpha=0.5)
        axes.plot(log.epochs, sv, color=_VAL, linewidth=2, label=f"validation: {log.columns.get('val', 'loss')}")
        axes.fill_between(log.epochs, shown, sv, color=_VAL, alpha=0.08, linewidth=0)
    if diagnosis.rule.epoch is not None:
        axes.axvline(diagnosis.rule.epoch, color=_LIMIT, linewidth=1, linestyle=(0, (4, 3)))
        words = {"overfitting": "lowest validation loss", "diverged": "diverges from here"}.get(diagnosis.name, "")
        place = {"x": diagnosis.rule.epoch, "y": 0.97, "transform": axes.get_xaxis_transform()}
        right = diagnosis.rule.epoch > log.epochs[0] + 0.65 * (log.epochs[-1] - log.epochs[0])
        text = f" {words}, epoch {diagnosis.rule.epoch:g} "
        axes.text(s=text, va="top", ha="right" if right else "left", color=_LIMIT, fontsize=8.5, **place)
    elif diagnosis.name.startswith("underfitting, still") or diagnosis.name == "learning rate too low":
        first = log.epochs[-max(5, len(log) // 3) :][0] if len(log) >= 5 else log.epochs[0]
        axes.axvspan(first, log.epochs[-1], color=_LIMIT, alpha=0.07, linewidth=0)
        axes.text(first, 0.97, " still falling here", transform=axes.get_xaxis_transform(), va="top", color=_LIMIT)
    values = np.concatenate([one[np.isfinite(one)] for one in (log.train, log.val) if one is not None])
    if len(values) and values.min() > 0 and values.max() > 50 * max(float(np.median(values)), 1e-12):
        axes.set_yscale("log")  # a divergence would flatten everything before it
    elif len(values) and values.min() >= 0:
        axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="center right", fontsize=8.5)
    style(axes, "")
    axes.set_ylabel("loss", color=_FAINT)
