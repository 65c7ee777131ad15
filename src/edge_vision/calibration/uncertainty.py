"""How sure a calibration is of where it projects, in pixels over the image: the covariance of the parameters carried to
the image, with the freedom of the camera's frame taken out.

A change of the parameters that a small rotation of the camera undoes changes nothing for who uses the camera (see
`difference`). So with pixels' Jacobian by the parameters J and by a motion of the camera M, at the corners that were
fitted (F), the motion that follows a change d of the parameters is m = -(M_F' M_F)^-1 M_F' J_F d, and pixels change by
(J + M dm/dd) d. mrcal (mrcal.secs.net/uncertainty.html) does the like through the boards' poses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.difference import image_grid, motion_jacobian
from edge_vision.calibration.projection import Camera
from edge_vision.calibration.result import BOW, Calibration

Floats = NDArray[np.float64]

_MOST_FITTED = 400  # points by which the implied motion is fitted; more do not change it


@dataclass(frozen=True, eq=False)
class UncertaintyMap:
    """One-sigma of projection over the image, in the direction where it is largest, px."""

    pixels: Floats
    """(rows, columns, 2) px."""
    covariances: Floats
    """(rows, columns, 2, 2) px²; NaN where the model has no ray."""
    corner_pixels: Floats
    """(4, 2) px: the top left, top right, bottom left and bottom right corner of the image; of a fisheye that sees less
    than them, the last pixel towards them that has a ray."""
    corner_covariances: Floats
    """(4, 2, 2) px² there; NaN where the model has no ray."""
    distance: float
    """m; inf: directions."""

    @property
    def sigmas(self) -> Floats:
        """(rows, columns) px: root of the larger eigenvalue."""
        return worst_sigma(self.covariances)

    @property
    def centre(self) -> float:
        rows, columns = self.pixels.shape[:2]
        return float(self.sigmas[rows // 2, columns // 2])

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """px at the top left, top right, bottom left and bottom right corner of the image (`corner_pixels`)."""
        each = worst_sigma(self.corner_covariances).tolist()
        return (each[0], each[1], each[2], each[3])

    @property
    def worst_corner(self) -> float:
        """px; NaN where a corner has no ray."""
        return float(np.max(self.corners))


class Propagation:
    """The linear map from a change of a camera's parameters to where it projects, the motion compensated.

    fitted: (N, 2) px by which the motion is fitted: where boards were seen, else the whole image.
    """

    def __init__(self, camera: Camera, fitted: Floats | None, distance: float = np.inf) -> None:
        self.camera = camera
        self.distance = distance
        if fitted is None or len(fitted) < 8:
            fitted = image_grid(camera.image_size, 15, 11).reshape(-1, 2)
        J, M = self._jacobians(_thinned(np.asarray(fitted, np.float64)))
        usable = np.isfinite(J).all(axis=(1, 2)) & np.isfinite(M).all(axis=(1, 2))
        J, M = J[usable].reshape(-1, J.shape[-1]), M[usable].reshape(-1, M.shape[-1])
        self._motion = -np.linalg.lstsq(M, J, rcond=None)[0]

    def __call__(self, pixels: Floats) -> Floats:
        """(..., 2, P) of pixels by the camera's parameters (`Camera.parameters`), at ``pixels`` (..., 2)."""
        J, M = self._jacobians(pixels.reshape(-1, 2))
        return (J + M @ self._motion).reshape(*pixels.shape[:-1], *J.shape[1:])

    def _jacobians(self, pixels: Floats) -> tuple[Floats, Floats]:
        """By the parameters, and by the motion: 3 of rotation at infinity, else 6."""
        rays = self.camera.unproject(pixels)
        points = rays if np.isinf(self.distance) else rays * self.distance
        _, J, by_point = self.camera.project_with_jacobians(points)
        M = motion_jacobian(points, by_point)
        return J, M[..., :3] if np.isinf(self.distance) else M


def camera_covariance(calibration: Calibration) -> Floats:
    """(P, P) of fx, fy, cx, cy and every coefficient; without the board's bow."""
    full = calibration.full_covariance()
    count = len(calibration.parameter_names) - (len(BOW) if calibration.bow is not None else 0)
    return full[:count, :count]


def fitted_pixels(calibration: Calibration) -> Floats:
    """(N, 2) px of every fitted corner."""
    return np.concatenate(calibration.pixels) if calibration.pixels else np.zeros((0, 2))


def projection_uncertainty(
    calibration: Calibration,
    *,
    columns: int = 7,
    rows: int = 5,
    distance: float = np.inf,
    fitted: Floats | None = None,
) -> UncertaintyMap:
    """The map over the whole image, from corner to corner.

    distance: m from the camera. fitted: (N, 2) px by which the camera's motion is fitted, to compare several
    calibrations alike; the calibration's own corners where not given.
    """
    camera = Camera.of(calibration)
    pixels = image_grid(camera.image_size, columns, rows)
    corners = outermost(camera)
    fitted = fitted_pixels(calibration) if fitted is None else fitted
    propagation, covariance = Propagation(camera, fitted, distance), camera_covariance(calibration)

    def spread(where: Floats) -> Floats:
        J = propagation(where)
        return J @ covariance @ np.swapaxes(J, -1, -2)

    return UncertaintyMap(pixels, spread(pixels), corners, spread(corners), distance)


def outermost(camera: Camera) -> Floats:
    """(4, 2) px: the image's corners; of an equidistant camera whose image ends before, where it ends towards them."""
    corners = image_grid(camera.image_size, 2, 2).reshape(-1, 2)
    if camera.model != "equidistant":
        return corners
    middle = corners.mean(axis=0)
    shares = np.linspace(1, 0.4, 61)
    along = middle + shares[:, None, None] * (corners - middle)
    seen = np.isfinite(camera.unproject(along.reshape(-1, 2))).all(axis=1).reshape(along.shape[:2])
    first = np.argmax(seen, axis=0)
    return along[first, np.arange(len(corners))]


def worst_sigma(covariances: Floats) -> Floats:
    """(...,) root of the larger eigenvalue of (..., 2, 2), NaN for NaN."""
    a, b, d = covariances[..., 0, 0], covariances[..., 0, 1], covariances[..., 1, 1]
    return np.sqrt(np.maximum((a + d) / 2 + np.hypot((a - d) / 2, b), 0))


def _thinned(pixels: Floats) -> Floats:
    return pixels[:: max(1, len(pixels) // _MOST_FITTED)]
