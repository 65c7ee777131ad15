"""Plots of a calibration, as SVG for its page and PNG for people. Needs matplotlib."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edge_vision.calibration.difference import Difference
from edge_vision.calibration.report import CalibrationReport
from edge_vision.calibration.uncertainty import fitted_pixels, projection_uncertainty

MISSING = "plots need matplotlib: pip install 'edge_vision[report]' (or matplotlib)"
NAMES = ("uncertainty", "coverage", "residuals", "cross_validation", "views")

_BLUE, _RED, _GREEN, _FAINT, _INK = "#2f6db3", "#c9502c", "#2e8b57", "#5f6b76", "#20262c"
_MOST_ARROWS = 1500


def problem() -> str | None:
    """Why there can be no plots, or None."""
    return None if find_spec("matplotlib") else MISSING


def svg(report: CalibrationReport, name: str) -> str:
    """The plot of that name (`NAMES`) as an SVG element. Raises ImportError without matplotlib."""
    return _svg(lambda figure: _DRAW[name](figure, report), name, _size(report.assessment.calibration.image_size, name))


def png(report: CalibrationReport, name: str, path: str | Path) -> None:
    """The same as a PNG file. Raises ImportError without matplotlib, OSError where it cannot be written."""
    size = _size(report.assessment.calibration.image_size, name)
    _save(lambda figure: _DRAW[name](figure, report), name, path, "png", size)


def difference_svg(found: Difference, title: str) -> str:
    """How far two calibrations are apart, over the image, as an SVG element."""
    return _svg(lambda figure: _difference(figure, found, title), "difference", _size(found.image_size, "difference"))


def difference_png(found: Difference, title: str, path: str | Path) -> None:
    """The same as a PNG file. Raises ImportError without matplotlib, OSError where it cannot be written."""
    size = _size(found.image_size, "difference")
    _save(lambda figure: _difference(figure, found, title), "difference", path, "png", size)


def _svg(draw: Callable[[Any], None], name: str, size: tuple[float, float]) -> str:
    target = io.BytesIO()
    _save(draw, name, target, "svg", size)
    content = target.getvalue().decode("utf-8")
    return content[content.index("<svg") :]


def _save(draw: Callable[[Any], None], name: str, target: Any, kind: str, size: tuple[float, float]) -> None:
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(MISSING) from error
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif", "font.size": 10}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        metadata: Any = {"Date": None} if kind == "svg" else None
        figure.savefig(target, format=kind, dpi=110, facecolor="white", metadata=metadata)


def _size(image_size: tuple[int, int], name: str) -> tuple[float, float]:
    if name == "views":
        return 8.6, 3.4
    shape = min(1.4, max(0.4, image_size[1] / image_size[0]))
    return 8.6, 1.1 + 6.6 * shape


def _image_axes(figure: Any, image_size: tuple[int, int], title: str) -> Any:
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", color=_INK, fontsize=11, weight="bold")
    axes.set_xlim(-0.5, image_size[0] - 0.5)
    axes.set_ylim(image_size[1] - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.tick_params(colors=_FAINT)
    axes.set_xlabel("px", color=_FAINT)
    return axes


def _heat(figure: Any, axes: Any, pixels: Any, values: Any, label: str, low: float = 0.01) -> None:
    """Filled contours on a logarithmic scale, with their bar."""
    from matplotlib.colors import LogNorm

    finite = values[np.isfinite(values)]
    bottom = max(low, float(finite.min(initial=np.inf)) if len(finite) else low)
    top = max(float(finite.max(initial=0)), bottom * 4)
    levels = np.geomspace(bottom, top, 25)
    shown = np.ma.masked_invalid(np.clip(values, bottom, top))
    filled = axes.contourf(
        pixels[..., 0], pixels[..., 1], shown, levels=levels, norm=LogNorm(bottom, top), cmap="viridis", extend="min"
    )
    steps = [1, 2, 5]
    ticks = [m * 10.0**e for e in range(-4, 6) for m in steps if bottom <= m * 10.0**e <= top]
    bar = figure.colorbar(filled, ax=axes, ticks=ticks, label=label, fraction=0.04, pad=0.02)
    bar.ax.set_yticklabels([f"{tick:g}" for tick in ticks])
    bar.ax.minorticks_off()


def _numbers(axes: Any, pixels: Any, values: Any) -> None:
    """A value at each place of a small map, inside of the picture."""
    width, height = axes.get_xlim()[1], axes.get_ylim()[0]
    for (x, y), value in zip(pixels.reshape(-1, 2), values.ravel(), strict=True):
        inside = np.clip(x, 0.035 * width, 0.965 * width), np.clip(y, 0.035 * height, 0.965 * height)
        told = f"{value:.2g}" if value < 99.5 else f"{value:.0f}"
        axes.text(
            *inside,
            told if np.isfinite(value) else "–",
            ha="center",
            va="center",
            fontsize=8,
            color="white",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "#00000066", "edgecolor": "none"},
        )


def _uncertainty(figure: Any, report: CalibrationReport) -> None:
    c, u = report.assessment.calibration, report.assessment.uncertainty
    axes = _image_axes(
        figure, c.image_size, f"Uncertainty of projection, 1 sigma: {u.centre:.2g} px to {u.worst_corner:.2g} px"
    )
    fine = projection_uncertainty(c, columns=41, rows=31)
    _heat(figure, axes, fine.pixels, fine.sigmas, "px")
    _numbers(axes, u.pixels, u.sigmas)


def _coverage(figure: Any, report: CalibrationReport) -> None:
    import cv2

    c, coverage = report.assessment.calibration, report.assessment.coverage
    width, height = c.image_size
    axes = _image_axes(
        figure,
        c.image_size,
        f"Coverage: {100 * coverage.hull:.0f} % of the image, {100 * coverage.cell_share:.0f} % of the cells",
    )
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(np.where(coverage.cells, 0.0, 1.0), cmap="Reds", vmin=0, vmax=4, extent=extent, aspect="equal")
    for index in range(1, len(coverage.cells)):
        axes.axvline(index * width / 10 - 0.5, color="white", linewidth=0.8)
        axes.axhline(index * height / 10 - 0.5, color="white", linewidth=0.8)
    pixels = fitted_pixels(c)
    axes.plot(*pixels.T, ".", color=_BLUE, ms=3, alpha=0.6, label="corners", rasterized=len(pixels) > 3000)
    hull = cv2.convexHull(pixels.astype(np.float32).reshape(-1, 1, 2)).reshape(-1, 2)
    axes.plot(*np.vstack([hull, hull[:1]]).T, color=_FAINT, linewidth=1, label="their hull")
    for each, style in zip(report.suggestions[:3], ("-", "--", ":"), strict=False):
        if len(each.outline) > 2:
            label = f"next: {each.text}"
            axes.plot(*np.vstack([each.outline, each.outline[:1]]).T, style, color=_RED, linewidth=1.6, label=label)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), frameon=False, fontsize=8, ncols=1)


def _residuals(figure: Any, report: CalibrationReport) -> None:
    a = report.assessment
    c = a.calibration
    axes = _image_axes(figure, c.image_size, f"Residuals: RMS {a.residuals.rms:.3f} px, enlarged")
    pixels, residuals = fitted_pixels(c), np.concatenate(c.residuals)
    step = max(1, len(pixels) // _MOST_ARROWS)
    # An arrow of the RMS is a fortieth of the image.
    scale = a.residuals.rms / (c.image_size[0] / 40)
    arrows = axes.quiver(
        *pixels[::step].T,
        *residuals[::step].T,
        angles="xy",
        scale_units="xy",
        scale=scale,
        color=_BLUE,
        width=0.0016,
        alpha=0.7,
    )
    axes.quiverkey(arrows, 0.86, 1.03, a.residuals.rms, f"{a.residuals.rms:.2f} px", labelpos="E", coordinates="axes")
    columns, rows = a.residuals.region_count.shape[::-1]
    x = (np.arange(columns) + 0.5) * c.image_size[0] / columns
    y = (np.arange(rows) + 0.5) * c.image_size[1] / rows
    means = np.where(a.residuals.region_count[..., None] >= 5, a.residuals.region_mean, np.nan)
    mean = axes.quiver(
        *np.meshgrid(x, y),
        means[..., 0],
        means[..., 1],
        angles="xy",
        scale_units="xy",
        scale=scale / 4,
        color=_RED,
        width=0.004,
    )
    length = a.residuals.rms / 4
    axes.quiverkey(
        mean, 0.5, 1.03, length, f"mean of a region, {length:.2g} px", labelpos="E", coordinates="axes", color=_RED
    )


def _cross_validation(figure: Any, report: CalibrationReport) -> None:
    validation = report.assessment.cross_validation
    if validation is None:
        axes = figure.add_subplot()
        axes.axis("off")
        axes.text(0.5, 0.5, f"No cross-validation: {report.assessment.cross_validation_note}", ha="center", wrap=True)
        return
    _difference(
        figure,
        validation.difference,
        f"Even and odd views: {validation.ratio:.2g} times what their uncertainties explain",
    )


def _difference(figure: Any, found: Difference, title: str) -> None:
    axes = _image_axes(figure, found.image_size, title)
    _heat(figure, axes, found.pixels, found.lengths, "px apart", low=0.001)
    rows, columns = found.lengths.shape
    chosen = np.ix_(_spread(rows, 10), _spread(columns, 13))
    vectors, pixels = found.vectors[chosen], found.pixels[chosen]
    longest = max(float(np.nanmax(np.hypot(*np.moveaxis(vectors, -1, 0)), initial=0)), 1e-9)
    scale = longest / (found.image_size[0] / 12)
    arrows = axes.quiver(
        pixels[..., 0],
        pixels[..., 1],
        vectors[..., 0],
        vectors[..., 1],
        angles="xy",
        scale_units="xy",
        scale=scale,
        color="white",
        width=0.0028,
    )
    axes.quiverkey(arrows, 0.88, -0.09, longest, f"{longest:.2g} px", labelpos="E", coordinates="axes", color=_INK)
    small = np.ix_(_spread(rows, 5), _spread(columns, 7))
    _numbers(axes, found.pixels[small], found.lengths[small])


def _views(figure: Any, report: CalibrationReport) -> None:
    from matplotlib.ticker import MaxNLocator

    a = report.assessment
    errors, tilts, sizes = figure.subplots(1, 3, width_ratios=(1.6, 1, 1))
    rms = a.calibration.view_rms
    errors.xaxis.set_major_locator(MaxNLocator(integer=True))
    tilts.yaxis.set_major_locator(MaxNLocator(integer=True))
    errors.bar(np.arange(1, len(rms) + 1), rms, color=_BLUE, width=0.8)
    errors.axhline(a.residuals.rms, color=_RED, linewidth=1, label=f"all: {a.residuals.rms:.2f} px")
    errors.legend(frameon=False, fontsize=8)
    _style(errors, "RMS of each view", "view", "px")
    tilts.hist(a.coverage.tilts, bins=np.arange(0, 91, 10), color=_GREEN)
    tilts.axvspan(20, 50, color=_GREEN, alpha=0.12, linewidth=0)
    _style(tilts, "Tilts", "degrees", "views")
    sizes.plot(a.coverage.distances, 100 * a.coverage.sizes, "o", color=_BLUE, ms=4, alpha=0.7)
    sizes.set_ylim(bottom=0)
    _style(sizes, "Distances", "m", "% of the image")


def _style(axes: Any, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", color=_INK, fontsize=11, weight="bold")
    axes.set_xlabel(x, color=_FAINT)
    axes.set_ylabel(y, color=_FAINT)
    axes.grid(color="#e4e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_FAINT)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _spread(count: int, wanted: int) -> Any:
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(int))


_DRAW: dict[str, Callable[[Any, CalibrationReport], None]] = {
    "uncertainty": _uncertainty,
    "coverage": _coverage,
    "residuals": _residuals,
    "cross_validation": _cross_validation,
    "views": _views,
}
