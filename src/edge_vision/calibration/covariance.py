"""How sure the parameters of a solution are, and with that where a pixel is projected.

Sigmas come from the Jacobian at the solution, C = s^2 (J'J)^-1, with s^2 the sum of squares over 2N - p (N corners of
two coordinates, p unknowns, poses among them). OpenCV before 4.7 divided by N - p, which is 1.45 times too much (issue
19803 there); Zhang's published sigmas are those of 2N - p.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_vision.calibration.levenberg import Normal, invert_scaled, reduce
from edge_vision.calibration.models import parameters_of, project_with_jacobian, unproject
from edge_vision.calibration.result import Calibration

Floats = NDArray[np.float64]


def noise_of(squares: float, corners: int, unknowns: int) -> float:
    """px an axis. ``squares`` is the sum of squared residuals of ``corners`` fitted with ``unknowns`` parameters."""
    return float(np.sqrt(squares / max(2 * corners - unknowns, 1)))


def shared_covariance(normal: Normal, noise: float) -> Floats:
    """(n, n) of the shared unknowns, marginal over the poses; ``normal`` at the solution, ``noise`` in px an axis."""
    reduced, _ = reduce(normal)
    covariance: Floats = noise**2 * invert_scaled(reduced)
    return covariance


def pose_sigmas(normal: Normal, noise: float) -> Floats:
    """(V, 6) of rotations (rad, small ones on the left) and translations (m), marginal over everything else."""
    reduced, to_shared = reduce(normal)
    shared = invert_scaled(reduced)
    own = np.array([np.diag(invert_scaled(block)) for block in normal.poses])
    through = np.einsum("vin,nm,vim->vi", to_shared, shared, to_shared)
    return noise * np.sqrt(np.maximum(own + through, 0.0))


def lens_covariance(calibration: Calibration, pixels: ArrayLike, *, compensate: bool = True) -> Floats:
    """(N, 2, 2) px^2: how far off the projection of what is truly seen at ``pixels`` (N, 2) may be.

    A camera's pose is known from the same data, so a turn of the camera that a change of the parameters brings about is
    no error of its own: ``compensate`` takes out the small rotation that fits the change best over the whole image. It
    is what a search compares; what a user is told is `uncertainty`, where the freedom is taken out at the corners
    fitted. NaN where the model has no ray.
    """
    sensitivity = lens_sensitivity(calibration, pixels, compensate=compensate)
    return np.einsum("nip,pq,njq->nij", sensitivity, calibration.covariance, sensitivity)


def lens_sigma(calibration: Calibration, pixels: ArrayLike, *, compensate: bool = True) -> Floats:
    """(N,) px: one sigma of `lens_covariance`, root mean square over directions in the image."""
    covariance = lens_covariance(calibration, pixels, compensate=compensate)
    return np.sqrt(np.maximum(0.5 * np.trace(covariance, axis1=1, axis2=2), 0.0))


def lens_sensitivity(calibration: Calibration, pixels: ArrayLike, *, compensate: bool = True) -> Floats:
    """(N, 2, P): derivative of the projection at ``pixels`` by ``calibration.names`` (the bow's columns are zero)."""
    parameters = parameters_of(calibration.model, calibration.K, calibration.D)
    names = calibration.parameter_names
    columns = [names.index(name) for name in calibration.names]
    own = len(parameters)

    def derivatives(at: Floats) -> tuple[Floats, Floats]:
        rays = unproject(calibration.model, parameters, at)
        _, by_parameters, by_points = project_with_jacobian(calibration.model, parameters, rays.T)
        x, y, z = rays.T
        turned = np.stack(
            [
                by_points[:, 2] * y - by_points[:, 1] * z,
                by_points[:, 0] * z - by_points[:, 2] * x,
                by_points[:, 1] * x - by_points[:, 0] * y,
            ],
            axis=1,
        )
        full = np.zeros((2, len(names), len(at)))
        full[:, :own] = by_parameters
        return full[:, columns].transpose(2, 0, 1), turned.transpose(2, 0, 1)

    by_parameters, by_rotation = derivatives(np.asarray(pixels, np.float64).reshape(-1, 2))
    if not compensate:
        return by_parameters
    grid_parameters, grid_rotation = derivatives(_grid(calibration.image_size))
    seen = np.isfinite(grid_rotation).all(axis=(1, 2))
    A = grid_rotation[seen].reshape(-1, 3)
    rotation = -np.linalg.lstsq(A, grid_parameters[seen].reshape(len(A), -1), rcond=None)[0]
    return by_parameters + by_rotation @ rotation


def corner_pixels(image_size: tuple[int, int], inset: float = 0.0) -> Floats:
    """(4, 2) pixels of the image's corners, ``inset`` (share of the size) inwards."""
    w, h = image_size[0] - 1.0, image_size[1] - 1.0
    x, y = inset * w, inset * h
    return np.array([[x, y], [w - x, y], [w - x, h - y], [x, h - y]])


def _grid(image_size: tuple[int, int], columns: int = 13, rows: int = 9) -> Floats:
    x, y = np.meshgrid(np.linspace(0, image_size[0] - 1.0, columns), np.linspace(0, image_size[1] - 1.0, rows))
    return np.stack([x.ravel(), y.ravel()], axis=1)
