"""Projection of three camera models with analytic derivatives, and its inverse. Vectorised over corners.

| model | source |
|---|---|
| plumb_bob | Brown 1966: radial k1 k2 k3, decentring p1 p2, in the order and signs of OpenCV's calib3d |
| rational_polynomial | the same, radial part over 1 + k4 r^2 + k5 r^4 + k6 r^6 (OpenCV's CALIB_RATIONAL_MODEL) |
| equidistant | Kannala, Brandt 2006: angle (1 + k1 a^2 + … + k4 a^8), as cv2.fisheye without skew |

``parameters`` is always [fx, fy, cx, cy, *D]. Arrays in the inner functions are component-major, (3, N) points and
(2, N) pixels, so that each operation runs over contiguous corners and normal equations need no copies.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_vision.calibration.result import DISTORTION, CalibrationError

Floats = NDArray[np.float64]

_TINY = 1e-12


def parameters_of(model: str, K: ArrayLike, D: ArrayLike) -> Floats:
    """[fx, fy, cx, cy, *D] with D filled up with zeros to the model's length. Raises CalibrationError."""
    if model not in DISTORTION:
        raise CalibrationError(f"unknown camera model '{model}'", f"use one of {', '.join(DISTORTION)}")
    K = np.asarray(K, np.float64)
    D = np.asarray(D, np.float64).ravel()
    count = len(DISTORTION[model])
    if len(D) > count and np.any(D[count:]):
        raise CalibrationError(f"{model} has {count} coefficients, {len(D)} were given")
    filled = np.zeros(count)
    filled[: min(len(D), count)] = D[:count]
    return np.concatenate([[K[0, 0], K[1, 1], K[0, 2], K[1, 2]], filled])


def matrix_of(parameters: Floats) -> Floats:
    """(3, 3) camera matrix of [fx, fy, cx, cy, …]."""
    fx, fy, cx, cy = parameters[:4]
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def project(model: str, parameters: Floats, points: ArrayLike) -> Floats:
    """Pixels (N, 2) of points (N, 3) in the camera's frame; NaN where a pinhole model has the point behind it."""
    pixels, *_ = project_with_jacobian(model, parameters, np.asarray(points, np.float64).reshape(-1, 3).T)
    return np.ascontiguousarray(pixels.T)


def project_with_jacobian(model: str, parameters: Floats, points: Floats) -> tuple[Floats, Floats, Floats]:
    """Pixels (2, N) of points (3, N), their derivatives by the parameters (2, n, N) and by the points (2, 3, N).

    Pinhole models give NaN for points that are not before the camera.
    """
    if model == "equidistant":
        distorted, d_coefficients, d_points = _equidistant(parameters[4:], points)
    else:
        distorted, d_coefficients, d_points = _brown(parameters[4:], points)
    focal = parameters[:2, None]
    pixels = focal * distorted + parameters[2:4, None]
    d_parameters = np.zeros((2, len(parameters), points.shape[1]))
    d_parameters[0, 0] = distorted[0]
    d_parameters[1, 1] = distorted[1]
    d_parameters[0, 2] = d_parameters[1, 3] = 1.0
    np.multiply(d_coefficients, focal[:, :, None], out=d_parameters[:, 4:])
    d_points *= focal[:, :, None]
    return pixels, d_parameters, d_points


def _brown(D: Floats, points: Floats) -> tuple[Floats, Floats, Floats]:
    """Distorted normalised (2, N), by coefficients (2, n, N), by points (2, 3, N), of the two pinhole models."""
    k1, k2, p1, p2, k3 = D[:5]
    z = np.where(points[2] > _TINY, points[2], np.nan)
    inverse = 1.0 / z
    x, y = points[0] * inverse, points[1] * inverse
    xx, xy, yy = x * x, x * y, y * y
    r2 = xx + yy
    r4 = r2 * r2
    r6 = r4 * r2
    numerator = 1.0 + k1 * r2 + k2 * r4 + k3 * r6
    slope = k1 + 2.0 * k2 * r2 + 3.0 * k3 * r4  # of the radial factor by r2
    radial = numerator
    denominator = None
    if len(D) > 5:
        k4, k5, k6 = D[5:]
        denominator = 1.0 / (1.0 + k4 * r2 + k5 * r4 + k6 * r6)
        radial = numerator * denominator
        slope = (slope - radial * (k4 + 2.0 * k5 * r2 + 3.0 * k6 * r4)) * denominator
    count = points.shape[1]
    distorted = np.empty((2, count))
    distorted[0] = x * radial + 2.0 * p1 * xy + p2 * (r2 + 2.0 * xx)
    distorted[1] = y * radial + p1 * (r2 + 2.0 * yy) + 2.0 * p2 * xy

    by_D = np.empty((2, len(D), count))
    scale = r2 if denominator is None else r2 * denominator
    for row, coordinate in enumerate((x, y)):
        first = coordinate * scale
        by_D[row, 0] = first
        by_D[row, 1] = first * r2
        by_D[row, 4] = first * r4
        if denominator is not None:
            fourth = -first * radial
            by_D[row, 5] = fourth
            by_D[row, 6] = fourth * r2
            by_D[row, 7] = fourth * r4
    by_D[0, 2] = by_D[1, 3] = 2.0 * xy
    by_D[0, 3] = r2 + 2.0 * xx
    by_D[1, 2] = r2 + 2.0 * yy

    by_points = np.empty((2, 3, count))
    xx_slope, xy_slope, yy_slope = 2.0 * xx * slope, 2.0 * xy * slope, 2.0 * yy * slope
    mixed = xy_slope + 2.0 * (p1 * x + p2 * y)
    by_points[0, 0] = (radial + xx_slope + 2.0 * p1 * y + 6.0 * p2 * x) * inverse
    by_points[1, 1] = (radial + yy_slope + 6.0 * p1 * y + 2.0 * p2 * x) * inverse
    by_points[0, 1] = by_points[1, 0] = mixed * inverse
    by_points[:, 2] = -(by_points[:, 0] * x + by_points[:, 1] * y)
    return distorted, by_D, by_points


def _equidistant(D: Floats, points: Floats) -> tuple[Floats, Floats, Floats]:
    """As `_brown`. Takes points at and behind the plane of the camera too, up to 180 degrees from the axis."""
    x, y, z = points
    radius = np.hypot(x, y)
    angle = np.arctan2(radius, z)
    a2 = angle * angle
    k1, k2, k3, k4 = D
    stretch = 1.0 + a2 * (k1 + a2 * (k2 + a2 * (k3 + a2 * k4)))
    bent = angle * stretch
    slope = 1.0 + a2 * (3.0 * k1 + a2 * (5.0 * k2 + a2 * (7.0 * k3 + a2 * 9.0 * k4)))
    # On the axis the direction is undefined and the scale is that of a pinhole, 1 / z.
    on_axis = radius < _TINY * np.abs(z) + 1e-300
    safe = np.where(on_axis, 1.0, radius)
    cosine, sine = x / safe, y / safe
    scale = np.where(on_axis, 1.0 / np.where(on_axis, z, 1.0), bent / safe)
    square = radius * radius + z * z
    along = slope * z / square  # of the distorted radius by the radius
    depth = -slope * radius / square  # and by z
    count = points.shape[1]
    distorted = np.stack([x * scale, y * scale])

    by_D = np.empty((2, 4, count))
    power = angle * a2
    for term in range(4):
        by_D[0, term] = cosine * power
        by_D[1, term] = sine * power
        power = power * a2

    by_points = np.empty((2, 3, count))
    across = along - scale
    across[on_axis] = 0.0
    by_points[0, 0] = scale + across * cosine * cosine
    by_points[1, 1] = scale + across * sine * sine
    by_points[0, 1] = by_points[1, 0] = across * cosine * sine
    by_points[0, 2] = depth * cosine
    by_points[1, 2] = depth * sine
    return distorted, by_D, by_points


def unproject(model: str, parameters: Floats, pixels: ArrayLike, *, iterations: int = 50) -> Floats:
    """Unit rays (N, 3) of pixels (N, 2), by Newton's method; NaN where no ray is projected there.

    A polynomial may fold back outside of what it was fitted to: the ray is that of the innermost fold, reached from the
    image's centre, and projecting it gives the pixel back to 1e-9 of the focal length, or it is NaN.
    """
    pixels = np.asarray(pixels, np.float64).reshape(-1, 2)
    distorted = ((pixels - parameters[2:4]) / parameters[:2]).T
    if model == "equidistant":
        return _unbend(parameters[4:], distorted, iterations)
    return _undistort(parameters[4:], distorted, iterations)


def _unbend(D: Floats, distorted: Floats, iterations: int) -> Floats:
    radius = np.hypot(*distorted)
    limit = _fold(D)
    angle = np.minimum(radius, limit)
    for _ in range(iterations):
        a2 = angle * angle
        error = angle * (1.0 + a2 * (D[0] + a2 * (D[1] + a2 * (D[2] + a2 * D[3])))) - radius
        slope = 1.0 + a2 * (3.0 * D[0] + a2 * (5.0 * D[1] + a2 * (7.0 * D[2] + a2 * 9.0 * D[3])))
        moved = np.clip(angle - error / np.maximum(slope, 1e-3), 0.0, limit)
        done = np.all(np.abs(moved - angle) < 1e-14)
        angle = moved
        if done:
            break
    a2 = angle * angle
    bent = angle * (1.0 + a2 * (D[0] + a2 * (D[1] + a2 * (D[2] + a2 * D[3]))))
    found = np.abs(bent - radius) < 1e-9
    ray = np.where(radius > _TINY, np.sin(angle) / np.maximum(radius, _TINY), 1.0)
    rays = np.stack([distorted[0] * ray, distorted[1] * ray, np.cos(angle)], axis=1)
    rays[~found] = np.nan
    return rays


def _fold(D: Floats) -> float:
    """The angle, at most pi, to which the equidistant polynomial grows."""
    roots = np.roots([9.0 * D[3], 7.0 * D[2], 5.0 * D[1], 3.0 * D[0], 1.0])  # slope, in angle squared
    real = roots[(np.abs(roots.imag) < 1e-9) & (roots.real > 0)].real
    return float(min(np.pi, np.sqrt(real.min()))) if len(real) else float(np.pi)


def _undistort(D: Floats, distorted: Floats, iterations: int) -> Floats:
    """Newton in two dimensions, with steps cut to what the current radius allows so that no fold is jumped over."""
    count = distorted.shape[1]
    guess = np.zeros((3, count))
    guess[2] = 1.0
    scale = np.minimum(1.0, 0.5 / np.maximum(np.hypot(*distorted), _TINY))
    guess[:2] = distorted * scale
    with np.errstate(all="ignore"):  # what diverges becomes NaN, and is marked so
        for _ in range(iterations):
            value, _, slope = _brown(D, guess)
            error = value - distorted
            a, b, c, d = slope[0, 0], slope[0, 1], slope[1, 0], slope[1, 1]
            determinant = a * d - b * c
            step = np.stack([d * error[0] - b * error[1], a * error[1] - c * error[0]]) / determinant
            length = np.hypot(*step)
            reach = 0.5 * np.hypot(guess[0], guess[1]) + 0.1
            step *= np.minimum(1.0, reach / np.maximum(length, _TINY))
            guess[:2] -= step
            if not np.any(length > 1e-12 * (1.0 + np.hypot(guess[0], guess[1]))):
                break
        value, _, slope = _brown(D, guess)
        determinant = slope[0, 0] * slope[1, 1] - slope[0, 1] * slope[1, 0]
        found = (np.hypot(*(value - distorted)) < 1e-9) & (determinant > 0)
        rays = guess.T / np.linalg.norm(guess, axis=0)[:, None]
    rays[~found] = np.nan
    return rays


# --- poses -----------------------------------------------------------------------------------------------------------


def rotation_matrices(vectors: ArrayLike) -> Floats:
    """(V, 3, 3) of Rodrigues vectors (V, 3)."""
    vectors = np.asarray(vectors, np.float64).reshape(-1, 3)
    angle = np.linalg.norm(vectors, axis=1)
    small = angle < 1e-8
    safe = np.where(small, 1.0, angle)
    a = np.where(small, 1.0, np.sin(safe) / safe)
    b = np.where(small, 0.5, (1.0 - np.cos(safe)) / (safe * safe))
    cross = cross_matrices(vectors)
    return np.eye(3) + a[:, None, None] * cross + b[:, None, None] * (cross @ cross)


def rotation_vectors(matrices: ArrayLike) -> Floats:
    """Rodrigues vectors (V, 3) of rotations (V, 3, 3), by way of quaternions: exact to rounding at every angle."""
    R = np.asarray(matrices, np.float64).reshape(-1, 3, 3)
    trace = np.trace(R, axis1=1, axis2=2)
    diagonal = R[:, [0, 1, 2], [0, 1, 2]]
    # Four times the quaternion's outer product with itself: its largest column is the best conditioned.
    Q = np.empty((len(R), 4, 4))
    Q[:, 0, 0] = 1.0 + trace
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        Q[:, i + 1, i + 1] = 1.0 + 2.0 * diagonal[:, i] - trace
        Q[:, 0, i + 1] = Q[:, i + 1, 0] = R[:, k, j] - R[:, j, k]
        Q[:, j + 1, k + 1] = Q[:, k + 1, j + 1] = R[:, j, k] + R[:, k, j]
    best = np.argmax(Q[:, [0, 1, 2, 3], [0, 1, 2, 3]], axis=1)
    q = Q[np.arange(len(R)), best]
    q = q / np.linalg.norm(q, axis=1, keepdims=True)
    q *= np.where(q[:, :1] < 0, -1.0, 1.0)
    sine = np.linalg.norm(q[:, 1:], axis=1)
    angle = 2.0 * np.arctan2(sine, q[:, 0])
    return q[:, 1:] * np.where(sine > 1e-12, angle / np.maximum(sine, 1e-300), 2.0)[:, None]


def cross_matrices(vectors: Floats) -> Floats:
    """(V, 3, 3) with cross_matrices(a)[i] @ b = a[i] x b."""
    out = np.zeros((len(vectors), 3, 3))
    out[:, 0, 1], out[:, 0, 2], out[:, 1, 2] = -vectors[:, 2], vectors[:, 1], -vectors[:, 0]
    out[:, 1, 0], out[:, 2, 0], out[:, 2, 1] = vectors[:, 2], -vectors[:, 1], vectors[:, 0]
    return out


# --- the board's bow -------------------------------------------------------------------------------------------------


def bow_shape(points: Floats) -> Floats:
    """(2, M): 1 - u^2 and 1 - v^2 of a board's points (M, 3), u and v in [-1, 1] over the extent of all its points."""
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    unit = (2.0 * points[:, :2] - low - high) / np.maximum(high - low, _TINY)
    return np.ascontiguousarray((1.0 - unit**2).T)


def bowed(points: ArrayLike, bow: ArrayLike | None) -> Floats:
    """The board's points (M, 3) with the deflection of ``bow`` (2,) m along z (mrcal's calobject_warp)."""
    out = np.array(points, np.float64)
    if bow is not None:
        out[:, 2] += np.asarray(bow, np.float64) @ bow_shape(out)
    return out
