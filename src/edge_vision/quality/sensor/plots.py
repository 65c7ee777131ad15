"""Photon transfer, SNR and linearity of a report, as SVG for its page and PNG for people. Needs matplotlib."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from edge_vision.quality.sensor.measurement import SensorReport
from edge_vision.quality.sensor.photon_transfer import linearity_errors
from edge_vision.quality.sensor.table import number

MISSING = "plots need matplotlib: pip install 'edge_vision[report]' (or matplotlib)"
NAMES = ("photon_transfer", "snr", "linearity")

_SIGNAL = r"$\mu_y - \mu_{y.dark}$  [DN]"
_POINTS, _FIT, _MARK, _FAINT, _INK = "#2f6db3", "#c9502c", "#2e8b57", "#5f6b76", "#20262c"


def svg(report: SensorReport, name: str) -> str:
    """The plot of that name (`NAMES`) as an SVG element. Raises ImportError without matplotlib."""
    target = io.BytesIO()
    _save(report, name, target, "svg")
    content = target.getvalue().decode("utf-8")
    return content[content.index("<svg") :]


def png(report: SensorReport, name: str, path: str | Path) -> None:
    """The same as a PNG file. Raises ImportError without matplotlib, OSError where it cannot be written."""
    _save(report, name, path, "png")


def _save(report: SensorReport, name: str, target: Any, kind: str) -> None:
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(MISSING) from error
    draw = {"photon_transfer": _photon_transfer, "snr": _snr, "linearity": _linearity}[name]
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif", "font.size": 10}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(8, 5.6 if name == "linearity" else 4.4), layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure, report)
        metadata: Any = {"Date": None} if kind == "svg" else None
        figure.savefig(target, format=kind, dpi=130, facecolor="white", metadata=metadata)


def _style(axes: Any, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", color=_INK, fontsize=11, weight="bold")
    axes.set_xlabel(x, color=_FAINT)
    axes.set_ylabel(y, color=_FAINT)
    axes.grid(color="#e4e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_FAINT)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _legend(axes: Any, **options: Any) -> None:
    axes.legend(frameon=True, framealpha=0.9, edgecolor="none", fontsize=9, **options)


def _photon_transfer(figure: Any, report: SensorReport) -> None:
    f, series = report.figures, report.images.temporal
    x, y = series.signal, series.variance - series.dark_variance
    axes = figure.add_subplot()
    used = slice(0, f.sensitivity_last + 1)
    axes.plot(x, y, "o", color=_POINTS, mfc="none", ms=5, label="measured")
    axes.plot(x[used], y[used], "o", color=_POINTS, ms=5, label="used for K (up to 70 % of saturation)")
    end = f.saturation_dn
    axes.plot([0, end], [0, f.system_gain * end], color=_FIT, label=f"K = {f.system_gain:.4g} DN/e⁻")
    axes.plot(x[f.saturation], y[f.saturation], "D", color=_MARK, ms=8, label="saturation")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=min(0.0, float(y.min())) - 0.02 * float(y.max()))
    _style(axes, "Photon transfer", _SIGNAL, r"$\sigma^2_y - \sigma^2_{y.dark}$  [DN²]")
    _legend(axes, loc="upper left")


def _snr(figure: Any, report: SensorReport) -> None:
    f, series = report.figures, report.images.temporal
    eta = f.quantum_efficiency
    scale = 1.0 if eta is None else 1.0 / eta  # electrons to what the axis shows
    upto = slice(0, f.saturation + 1)
    electrons = f.responsivity / f.system_gain * series.light[upto]
    signal, noise = series.signal[upto], np.sqrt(series.variance[upto])
    lit = (signal > 0) & (noise > 0)
    axes = figure.add_subplot()
    axes.loglog(
        electrons[lit] * scale, signal[lit] / noise[lit], "o", color=_POINTS, ms=5, mfc="none", label="measured"
    )
    model = np.geomspace(f.threshold_electrons / 3, f.saturation_electrons, 200)
    axes.loglog(model * scale, f.snr(model), color=_FIT, label="linear model, temporal noise")
    spatial = report.nonuniformity
    if spatial is not None:
        dsnu, prnu = spatial.dsnu["total"] or 0.0, (spatial.prnu["total"] or 0.0) / 100
        total = model / np.sqrt((model / f.snr(model)) ** 2 + dsnu**2 + (prnu * model) ** 2)
        axes.loglog(model * scale, total, "--", color=_MARK, label="with DSNU and PRNU")
    axes.loglog(model * scale, np.sqrt(model * scale), ":", color=_FAINT, label=_ideal(eta))
    low, high = f.threshold_electrons * scale, f.saturation_electrons * scale
    for place, words, side in ((low, "threshold", "left"), (high, "saturation", "right")):
        axes.axvline(place, color=_FAINT, linewidth=0.9, linestyle="-.")
        axes.annotate(
            f"{words}\n{number(place)}",
            (place, 0.03),
            xycoords=("data", "axes fraction"),
            xytext=(4 if side == "left" else -4, 0),
            textcoords="offset points",
            ha=side,
            color=_INK,
            fontsize=9,
        )
    unit = "e⁻/pixel" if eta is None else "photons/pixel"
    _style(
        axes,
        f"SNR: at most {f.snr_max:.4g} = {f.snr_max_db:.2f} dB, dynamic range {f.dynamic_range_db:.2f} dB",
        f"irradiation  [{unit}]",
        "SNR",
    )
    _legend(axes, loc="upper left")


def _ideal(eta: float | None) -> str:
    return "shot noise alone" if eta is None else "ideal sensor (η = 100 %)"


def _linearity(figure: Any, report: SensorReport) -> None:
    f, series = report.figures, report.images.temporal
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    known = f.quantum_efficiency is not None
    light = series.light if known else series.light * 1e3
    used = slice(f.linearity_first, f.linearity_last + 1)
    axes.plot(light, series.signal, "o", color=_POINTS, mfc="none", ms=5, label="measured")
    axes.plot(light[used], series.signal[used], "o", color=_POINTS, ms=5, label="5 … 95 % of saturation")
    fit = f.linearity_slope * series.light + f.linearity_offset
    upto = slice(0, f.saturation + 1)
    axes.plot(light[upto], fit[upto], color=_FIT, label="fit of least relative errors")
    axes.plot(light[f.saturation], series.signal[f.saturation], "D", color=_MARK, ms=8, label="saturation")
    errors = linearity_errors(series, f)
    below.axhline(0, color=_FIT, linewidth=1)
    below.plot(light[used], errors[used], "o-", color=_POINTS, ms=4, linewidth=0.8)
    for value in (f.linearity_error_min, f.linearity_error_max):
        below.axhline(value, color=_MARK, linewidth=0.9, linestyle="--")
    _style(axes, "Linearity", "", _SIGNAL)
    _style(below, "", "irradiation  [photons/pixel]" if known else "exposure  [ms]", "deviation  [%]")
    below.set_title(
        f"LE {f.linearity_error_min:+.3f} … {f.linearity_error_max:+.3f} %", loc="left", fontsize=10, color=_INK
    )
    _legend(axes, loc="lower right")
