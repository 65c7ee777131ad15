"""Not yet, usable or good, with the reasons: every figure against its thresholds, and what to do about it.

The thresholds are of images 1920 px wide and smaller (facts: measurements on published sets, docs/calibration.md).
Those in pixels grow with the width above that: a pixel of a larger image is a smaller angle.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from edge_vision.calibration.assessment import Assessment
from edge_vision.calibration.projection import Camera
from edge_vision.calibration.result import Calibration


class Level(IntEnum):
    """The lowest of the reasons' levels is the verdict."""

    NOT_YET = 0
    USABLE = 1
    GOOD = 2

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class Thresholds:
    """(good, usable) of each figure: the value that it must reach, or not exceed."""

    rms: tuple[float, float] = (0.3, 0.8)
    """px, 2-D"""
    focal_sigma: tuple[float, float] = (0.001, 0.003)
    """sigma of fx over fx"""
    centre_sigma: tuple[float, float] = (0.5, 1.5)
    """px, sigma of cx and cy"""
    uncertainty_centre: tuple[float, float] = (0.05, 0.2)
    """px, one sigma of projection at the image's centre"""
    uncertainty_corners: tuple[float, float] = (0.5, 1.0)
    """px, at the worst of its four corners"""
    cross_validation: tuple[float, float] = (2.0, 4.0)
    """difference of two halves over what the uncertainties make expect"""
    coverage: tuple[float, float] = (0.85, 0.4)
    """share of the image inside the hull of all corners, for boards that may be in view in part"""
    coverage_whole: tuple[float, float] = (0.7, 0.4)
    """the same for boards that must be in view as a whole: their corners end a square before the image does"""
    views: tuple[int, int] = (15, 8)
    tilted_sides: tuple[int, int] = (4, 2)
    """of the four sides of the board, how many were turned towards the camera by 15 degrees or more"""
    outliers: tuple[float, float] = (0.05, 0.15)
    """share of the corners"""
    reference_width: int = 1920
    """px of the image: figures in pixels are scaled where it is wider"""

    def scale(self, width: int) -> float:
        return max(1.0, width / self.reference_width)


THRESHOLDS = Thresholds()

FISHEYE = Thresholds(views=(25, 10), coverage=(0.6, 0.3), coverage_whole=(0.5, 0.3))
"""A fisheye's image ends before the corners of a sensor, and needs more views."""


@dataclass(frozen=True)
class Reason:
    """One figure, how it was judged, and what to do where it is not good."""

    name: str
    value: float | None
    """None where it could not be found."""
    unit: str
    good: float
    usable: float
    level: Level
    text: str
    """A sentence part for people: figure, value, threshold."""
    remedy: str = ""
    """What to do about it; empty where it is good."""


@dataclass(frozen=True)
class Verdict:
    """``level`` is the lowest of the reasons'."""

    level: Level
    reasons: tuple[Reason, ...]

    @property
    def blamed(self) -> tuple[Reason, ...]:
        """The reasons that keep it from good, the worst first."""
        return tuple(sorted((r for r in self.reasons if r.level < Level.GOOD), key=lambda reason: reason.level))

    @property
    def text(self) -> str:
        """One line: "usable: 11 views (15 for good); …"."""
        said = "; ".join(reason.text for reason in self.blamed)
        return f"{self.level}: {said}" if said else f"{self.level}: every figure is within its threshold"


def judge(assessment: Assessment, thresholds: Thresholds | None = None) -> Verdict:
    """The verdict on a calibration, by THRESHOLDS (FISHEYE where it sees more than 110 degrees) or one's own."""
    c = assessment.calibration
    t = thresholds or (FISHEYE if field_of_view(Camera.of(c)) > 110 else THRESHOLDS)
    px = t.scale(c.image_size[0])
    sigmas, values, coverage = c.sigmas, c.values, assessment.coverage
    validation = assessment.cross_validation
    sides = sum(count > 0 for count in coverage.tilted_to())
    u = assessment.uncertainty
    covering = t.coverage if assessment.board.partial else t.coverage_whole
    focal = max((sigmas.get(name, 0.0) / values[name] for name in ("fx", "fy")), default=0.0)
    centre = max(sigmas.get(name, 0.0) for name in ("cx", "cy"))
    reasons = [
        _least("views", len(c.views), t.views, "", "views", "add views: each from another place, distance and tilt"),
        _most(
            "uncertainty at the corners",
            u.worst_corner,
            (t.uncertainty_corners[0] * px, t.uncertainty_corners[1] * px),
            "px",
            f"uncertainty at the {_corner(u.corners)} corner",
            f"bring the board near, so that its corners reach the image's {_corner(u.corners)} corner, and tilt it",
        ),
        _most(
            "uncertainty at the centre",
            u.centre,
            (t.uncertainty_centre[0] * px, t.uncertainty_centre[1] * px),
            "px",
            "uncertainty at the centre",
            "add views near the middle, near and tilted",
        ),
        _most("sigma of focal length", focal, t.focal_sigma, "%", "sigma of the focal length", _TILT, scale=100),
        _most(
            "sigma of principal point",
            centre,
            (t.centre_sigma[0] * px, t.centre_sigma[1] * px),
            "px",
            "sigma of the principal point",
            _TILT,
        ),
        _least("coverage", coverage.hull, covering, "%", "of the image covered", _cover(assessment), scale=100),
        _least(
            "tilted sides",
            sides,
            t.tilted_sides,
            "",
            "sides of the board tilted towards the camera",
            f"tilt the board by 20 to 50 degrees with its {_missing_sides(coverage.tilted_to())} side nearer",
        ),
        _most("RMS", c.rms, (t.rms[0] * px, t.rms[1] * px), "px", "RMS of the residuals", _residual_remedy(c)),
        _most(
            "outliers",
            assessment.residuals.outlier_share,
            t.outliers,
            "%",
            "of the corners are outliers",
            "look at the views that the report names: blur, glare, or a board that is not flat",
            scale=100,
        ),
    ]
    if validation is None:
        text = f"no cross-validation: {assessment.cross_validation_note}"
        level = Level.NOT_YET if len(c.views) < 6 else Level.USABLE
        if assessment.cross_validation_note != "not asked for":
            reasons.append(Reason("cross-validation", None, "", *t.cross_validation, level, text, "add views"))
    else:
        reasons.append(
            _most(
                "cross-validation",
                validation.ratio,
                t.cross_validation,
                "",
                "times what the uncertainty explains is the difference of the two halves",
                "the model does not fit: try --model rational_polynomial (wide lenses: equidistant), --bow, a flatter "
                "board",
            )
        )
    return Verdict(min(reason.level for reason in reasons), tuple(reasons))


def field_of_view(camera: Camera) -> float:
    """degrees from the left to the right edge of the image, through its middle; 360 where the edges have no ray."""
    width, height = camera.image_size
    left, right = camera.unproject(np.array([[0.0, height / 2], [width - 1.0, height / 2]]))
    angle = float(np.degrees(np.arccos(np.clip(left[2], -1, 1)) + np.arccos(np.clip(right[2], -1, 1))))
    return angle if np.isfinite(angle) else 360.0


_TILT = "tilt the board by 20 to 50 degrees, at different distances"


def _level(good: bool, usable: bool) -> Level:
    return Level.GOOD if good else Level.USABLE if usable else Level.NOT_YET


def _most(
    name: str, value: float, limits: tuple[float, float], unit: str, words: str, remedy: str, scale: float = 1
) -> Reason:
    """A figure that must not exceed its limits. NaN exceeds all."""
    level = _level(value <= limits[0], value <= limits[1])
    value, good, usable = value * scale, limits[0] * scale, limits[1] * scale
    limit = "" if level is Level.GOOD else f" ({_limit(level, good, usable)} at most)"
    leading = words.startswith(("of ", "times "))
    text = f"{_with(value, unit)} {words}{limit}" if leading else f"{words} {_with(value, unit)}{limit}"
    return Reason(name, value, unit, good, usable, level, text, "" if level is Level.GOOD else remedy)


def _least(
    name: str, value: float, limits: tuple[float, float], unit: str, words: str, remedy: str, scale: float = 1
) -> Reason:
    """A figure that must reach its limits."""
    level = _level(value >= limits[0], value >= limits[1])
    value, good, usable = value * scale, limits[0] * scale, limits[1] * scale
    limit = "" if level is Level.GOOD else f" ({_limit(level, good, usable)} at least)"
    text = f"{_with(value, unit)} {words}{limit}"
    return Reason(name, value, unit, good, usable, level, text, "" if level is Level.GOOD else remedy)


def _limit(level: Level, good: float, usable: float) -> str:
    return f"good: {good:.3g}" if level is Level.USABLE else f"usable: {usable:.3g}, good: {good:.3g}"


def _with(value: float, unit: str) -> str:
    if np.isnan(value):
        return "unknown (the model folds back there)"
    number = f"{value:.3g}"
    return f"{number} {unit}" if unit else number


def _corner(corners: tuple[float, ...]) -> str:
    return ("top left", "top right", "bottom left", "bottom right")[int(np.nanargmax(np.nan_to_num(corners, nan=1e9)))]


def _missing_sides(counts: tuple[int, int, int, int]) -> str:
    missing = [side for side, count in zip(("right", "left", "top", "bottom"), counts, strict=True) if not count]
    return " or ".join(missing) or "other"


def _cover(assessment: Assessment) -> str:
    """Names the part of the image that no corner was seen in."""
    cells = assessment.coverage.cells
    thirds = [np.array_split(half, 3, axis=1) for half in np.array_split(cells, 3, axis=0)]
    empty = [
        " ".join(word for word in (row, column) if word) or "middle"
        for row, line in zip(("top", "", "bottom"), thirds, strict=True)
        for column, part in zip(("left", "", "right"), line, strict=True)
        if part.mean() < 0.5
    ]
    where = ", ".join(empty) if empty else "edges"
    return f"show the board in the parts of the image not covered yet: {where}"


def _residual_remedy(calibration: Calibration) -> str:
    if not calibration.views:
        return "add views"
    order = np.argsort(calibration.view_rms)[::-1]
    worst, value = calibration.views[order[0]], calibration.view_rms[order[0]]
    if value > 2 * float(np.median(calibration.view_rms)):
        return f"look at view {worst} ({value:.2f} px): blurred, or corners misplaced? take it again"
    return "check the board's size in its file, that it is flat (--bow), the focus, and the lens model (--model)"
