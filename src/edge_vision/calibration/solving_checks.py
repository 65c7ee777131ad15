"""What `solve` is given: terms that the model has, views of one size that say something, and enough of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.result import DISTORTION, INTRINSICS, CalibrationError, RemovedView
from edge_vision.calibration.views import View

Floats = NDArray[np.float64]

DEFAULT_TERMS = {
    "plumb_bob": ("k1", "k2", "p1", "p2"),
    "rational_polynomial": DISTORTION["rational_polynomial"],
    "equidistant": DISTORTION["equidistant"],
}
"""Estimated where nobody says: k3 is left at zero, as it makes the corners uncertain unless they are well covered."""

FEWEST_CORNERS = 6  # of a view: 12 numbers, of which its own pose takes 6
FEWEST_VIEWS = 3  # Zhang 2000: 4 intrinsics and 2 equations a view, and one to spare


def check_terms(model: str, terms: Sequence[str] | None, fix: Mapping[str, float]) -> tuple[str, ...]:
    if model not in DISTORTION:
        raise CalibrationError(f"unknown camera model '{model}'", f"use one of {', '.join(DISTORTION)}")
    chosen = DEFAULT_TERMS[model] if terms is None else tuple(terms)
    unknown = [name for name in chosen if name not in DISTORTION[model]]
    unknown += [name for name in fix if name not in (*INTRINSICS, *DISTORTION[model])]
    if unknown:
        raise CalibrationError(
            f"{model} has no {', '.join(unknown)}", f"it has {', '.join((*INTRINSICS, *DISTORTION[model]))}"
        )
    return tuple(chosen)


def check_views(views: Sequence[View], points: Floats) -> tuple[int, int]:
    if not views:
        raise CalibrationError("there are no views", f"show the board from at least {FEWEST_VIEWS} directions")
    if np.ptp(points[:, 2]) > 1e-9:
        raise CalibrationError("the board's points are not in one plane", "a bent board is described flat, with bow")
    sizes: dict[tuple[int, int], str] = {}
    for view in views:
        sizes.setdefault((int(view.image_size[0]), int(view.image_size[1])), view.name)
        if len(view.ids) and not 0 <= view.ids.min() <= view.ids.max() < len(points):
            raise CalibrationError(
                f"corner {view.ids.max()} of a board of {len(points)}", "detect with the same board", view.name
            )
        if not np.all(np.isfinite(view.pixels)):
            raise CalibrationError("a corner is not finite", "detect the view again", view.name)
    if len(sizes) > 1:
        listed = ", ".join(f"{w}x{h} ({name})" for (w, h), name in sizes.items())
        raise CalibrationError(f"images of different sizes: {listed}", "calibrate each size for itself")
    return next(iter(sizes))


def usable_views(views: Sequence[View], points: Floats) -> tuple[list[View], list[RemovedView]]:
    usable, removed = [], []
    for view in views:
        if len(view.ids) < FEWEST_CORNERS:
            removed.append(RemovedView(view.name, f"{len(view.ids)} corners, {FEWEST_CORNERS} are needed"))
        elif _flatness(points[view.ids, :2]) < 0.01 or _flatness(view.pixels) < 0.01:
            removed.append(RemovedView(view.name, "its corners lie on one line"))
        else:
            usable.append(view)
    return usable, removed


def _flatness(xy: Floats) -> float:
    """0 for points on a line to 1 for points spread alike."""
    values = np.linalg.svd(xy - xy.mean(axis=0), compute_uv=False)
    return float(values[1] / max(values[0], 1e-300))


def enough(left: Sequence[object], removed: Sequence[RemovedView], views: Sequence[object], *, fewest: int) -> None:
    if len(left) < fewest:
        why = f" ({removed[-1].name}: {removed[-1].reason})" if removed else ""
        raise CalibrationError(
            f"{len(left)} usable views, {fewest} are needed{why}",
            "show the board from more directions, tilted 20 to 50 degrees; 15 to 40 views make a good calibration",
        )
