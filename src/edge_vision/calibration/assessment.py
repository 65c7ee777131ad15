"""How good a calibration is: residuals, uncertainty, cross-validation, coverage, straightness (judged by `verdict`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import Board
from edge_vision.calibration.difference import Difference, difference
from edge_vision.calibration.guidance import coverage_cells, tilt_direction
from edge_vision.calibration.knowledge import depth_correlations, known_from
from edge_vision.calibration.models import rotation_matrices
from edge_vision.calibration.projection import Camera
from edge_vision.calibration.result import Calibration, CalibrationError
from edge_vision.calibration.uncertainty import (
    UncertaintyMap,
    fitted_pixels,
    projection_uncertainty,
)
from edge_vision.calibration.views import View

Floats = NDArray[np.float64]

MAP = (7, 5)
"""Columns and rows of the uncertainty's map over the image."""
FINE_MAP = (19, 13)
"""Of that of cross-validation."""
REGIONS = (7, 5)
"""Columns and rows of the regions in which residuals are averaged."""
_SHOWN = np.cos(np.radians(70))
TILT_BINS = (0, 10, 20, 30, 40, 50, 90)
"""degrees"""


@dataclass(frozen=True, eq=False)
class Residuals:
    """How far corners were seen from where they project, px."""

    rms: float
    """OpenCV's: root of the mean squared 2-D distance."""
    rms_x: float
    rms_y: float
    view_rms: dict[str, float]
    worst: tuple[str, int, float]
    """View, corner id and distance of the corner that fits worst of those that were fitted."""
    outlier_share: float
    """Corners left out as outliers, of all of the kept views, 0 to 1."""
    region_rms: Floats
    """(5, 7) of the corners in each part of the image; NaN where there are none."""
    region_mean: Floats
    """(5, 7, 2) mean residual there: noise alone makes it small, an unfit model does not."""
    region_count: NDArray[np.int64]
    """(5, 7) corners there."""


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """Two calibrations of every other view each, compared over the image."""

    even: Calibration
    odd: Calibration
    difference: Difference
    expected: Floats
    """(13, 19) px: root mean square distance that the two uncertainties make expect."""

    @property
    def ratio(self) -> float:
        """Difference over what the uncertainties make expect, root mean square over the image: about 1 where the model
        fits and views are independent, above 2 where it does not (mrcal: tour-cross-validation)."""
        return float(np.sqrt(np.nanmean((self.difference.lengths / self.expected) ** 2)))


@dataclass(frozen=True, eq=False)
class Coverage:
    """Which part of the image, which distances and tilts the views show."""

    cells: NDArray[np.bool_]
    """(10, 10): a corner was seen there."""
    hull: float
    """Share of the image inside the hull of all corners, 0 to 1."""
    tilts: Floats
    """(V,) degrees between the line of sight and the board's normal."""
    sides: NDArray[np.int64]
    """(V,) side that is nearer: 0 right, 1 left, 2 top, 3 bottom."""
    distances: Floats
    """(V,) m from the camera to the board's middle."""
    sizes: Floats
    """(V,) share of the image inside the hull of the view's corners."""

    @property
    def cell_share(self) -> float:
        return float(self.cells.mean())

    @property
    def tilt_counts(self) -> NDArray[np.int64]:
        """Views in each of TILT_BINS."""
        return np.histogram(self.tilts, TILT_BINS)[0]

    def tilted_to(self, least: float = 15.0) -> tuple[int, int, int, int]:
        """How many views are tilted by at least so many degrees with their right, left, top, bottom side nearer."""
        counts = np.bincount(self.sides[self.tilts >= least], minlength=4)
        return (int(counts[0]), int(counts[1]), int(counts[2]), int(counts[3]))


@dataclass(frozen=True, eq=False)
class Assessment:
    """All figures of a calibration."""

    calibration: Calibration
    board: Board
    residuals: Residuals
    uncertainty: UncertaintyMap
    """Of directions (at infinity)."""
    coverage: Coverage
    straightness: float | None
    """px: what ROS's calibrator calls lin.: RMS distance of a row's inner corners from the line through its end corners
    in the rectified image; None where no view holds three corners of a row."""
    depth_correlation: float
    """Between fx and the distances of the boards, median over the views: near 1 where tilt is missing."""
    mean_uncertainty: float
    """px: root mean square over the image of the 2-D one-sigma."""
    cross_validation: CrossValidation | None = None
    """None where there were too few views for two halves."""
    cross_validation_note: str = ""
    """Why there is none."""


def assess(
    calibration: Calibration,
    board: Board,
    solver: Callable[[Sequence[View]], Calibration] | None = None,
) -> Assessment:
    """All figures of a calibration of a board.

    solver: makes a calibration of the same model and freedoms out of views, for cross-validation (none without it).
    """
    validation, note = None, "not asked for"
    if solver is not None:
        validation, note = cross_validate(calibration, solver)
    knowledge = known_from(calibration, board)
    return Assessment(
        calibration,
        board,
        residual_figures(calibration),
        projection_uncertainty(calibration, columns=MAP[0], rows=MAP[1]),
        coverage_of(calibration, board),
        straightness(calibration, board),
        float(np.median(depth_correlations(knowledge, calibration))),
        knowledge.uncertainty,
        validation,
        note,
    )


def residual_figures(calibration: Calibration) -> Residuals:
    """Of the corners that were fitted."""
    pixels, residuals = fitted_pixels(calibration), np.concatenate(calibration.residuals)
    squared = np.sum(residuals**2, axis=1)
    worst = int(np.argmax(squared))
    view = int(np.searchsorted(np.cumsum([len(ids) for ids in calibration.ids]), worst, side="right"))
    kept = set(calibration.views)
    outliers = sum(outlier.view in kept for outlier in calibration.outliers)
    columns, rows = REGIONS
    column = _cell(pixels[:, 0], columns, calibration.image_size[0])
    row = _cell(pixels[:, 1], rows, calibration.image_size[1])
    cell = row * columns + column
    count = np.bincount(cell, minlength=rows * columns)
    with np.errstate(invalid="ignore"):
        rms = np.sqrt(np.bincount(cell, squared, rows * columns) / count)
        means = [np.bincount(cell, residuals[:, axis], rows * columns) / count for axis in (0, 1)]
    return Residuals(
        float(np.sqrt(squared.mean())),
        float(np.sqrt(np.mean(residuals[:, 0] ** 2))),
        float(np.sqrt(np.mean(residuals[:, 1] ** 2))),
        dict(zip(calibration.views, calibration.view_rms.tolist(), strict=True)),
        (calibration.views[view], int(np.concatenate(calibration.ids)[worst]), float(np.sqrt(squared[worst]))),
        outliers / max(outliers + len(pixels), 1),
        rms.reshape(rows, columns),
        np.stack(means, axis=-1).reshape(rows, columns, 2),
        count.reshape(rows, columns),
    )


def cross_validate(
    calibration: Calibration, solver: Callable[[Sequence[View]], Calibration]
) -> tuple[CrossValidation | None, str]:
    """The even and the odd views solved apart and compared; None and the reason where that cannot be."""
    views = views_of(calibration)
    if len(views) < 6:
        return None, f"{len(views)} views are too few for two halves: 6 are needed"
    try:
        even, odd = solver(views[::2]), solver(views[1::2])
    except CalibrationError as error:
        return None, f"half of the views cannot be solved: {error}"
    fitted = fitted_pixels(calibration)
    fitted = fitted[:: max(1, len(fitted) // 400)]
    found = difference(Camera.of(even), Camera.of(odd), columns=FINE_MAP[0], rows=FINE_MAP[1], fit=fitted)
    covariances = sum(
        projection_uncertainty(half, columns=FINE_MAP[0], rows=FINE_MAP[1], fitted=fitted).covariances
        for half in (even, odd)
    )
    return CrossValidation(even, odd, found, np.sqrt(np.trace(covariances, axis1=-2, axis2=-1))), ""


def views_of(calibration: Calibration) -> list[View]:
    """The kept views with the corners that were fitted."""
    return [
        View(name, ids, pixels, calibration.image_size)
        for name, ids, pixels in zip(calibration.views, calibration.ids, calibration.pixels, strict=True)
    ]


def coverage_of(calibration: Calibration, board: Board) -> Coverage:
    """Of the kept views."""
    rotations = rotation_matrices(calibration.rotations)
    middles = rotations @ board.points.mean(axis=0) + calibration.translations
    directions = [tilt_direction(R, middle) for R, middle in zip(rotations, middles, strict=True)]
    return Coverage(
        coverage_cells(calibration.pixels, calibration.image_size),
        hull_share(fitted_pixels(calibration), calibration.image_size),
        np.array([angle for angle, _ in directions]),
        np.array([side for _, side in directions]),
        np.linalg.norm(middles, axis=1),
        np.array([hull_share(pixels, calibration.image_size) for pixels in calibration.pixels]),
    )


def hull_share(pixels: Floats, image_size: tuple[int, int]) -> float:
    """The share of the image, 0 to 1, inside the convex hull of pixels (N, 2)."""
    import cv2

    if len(pixels) < 3:
        return 0.0
    hull = cv2.convexHull(pixels.astype(np.float32).reshape(-1, 1, 2))
    return min(1.0, float(cv2.contourArea(hull)) / (image_size[0] * image_size[1]))


def straightness(calibration: Calibration, board: Board) -> float | None:
    """px in an image rectified to the same K, over every row of every view (camera_calibration's "lin.").

    What is more than 70 degrees from the axis is left out: there a rectified image is not used, and stretched 9 times.
    """
    camera = Camera.of(calibration)
    total, count = 0.0, 0
    for ids, pixels in zip(calibration.ids, calibration.pixels, strict=True):
        rays = camera.unproject(pixels)
        with np.errstate(invalid="ignore", divide="ignore"):
            flat = rays[:, :2] / np.where(rays[:, 2:] > _SHOWN, rays[:, 2:], np.nan)
        flat = flat * camera.parameters[:2] + camera.parameters[2:4]
        rows = ids // board.point_columns
        for row in np.unique(rows):
            line = flat[rows == row]
            line = line[np.isfinite(line).all(axis=1)]
            if len(line) < 3:
                continue
            along = line[-1] - line[0]
            offsets = line[1:-1] - line[0]
            across = (offsets[:, 0] * along[1] - offsets[:, 1] * along[0]) / np.hypot(*along)
            total += float(np.sum(across**2))
            count += len(across)
    return float(np.sqrt(total / count)) if count else None


def _cell(coordinate: Floats, cells: int, size: int) -> NDArray[np.int64]:
    return np.clip(((coordinate + 0.5) * cells / size).astype(np.int64), 0, cells - 1)
