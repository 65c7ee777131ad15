"""How far two calibrations put the same direction apart, in pixels over the image, with the turn of the camera that no
calibration can know taken out.

The camera's frame is fixed by the solve alone: a shift of the principal point is nearly a rotation of the camera, and
whoever mounts it measures that rotation afterwards. So, as mrcal does (mrcal.secs.net/differencing.html): each pixel of
A is turned into a ray, the one rotation (at a finite distance: rotation and translation) that brings A's rays closest
to where B sees them is fitted, and what is left is the difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.camera_info_file import CameraInfoError
from edge_vision.calibration.models import rotation_matrices, rotation_vectors
from edge_vision.calibration.projection import Camera
from edge_vision.datatypes import CameraInfo

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Difference:
    """Where B sees what A sees at ``pixels``, minus ``pixels``, after the implied motion of the camera.

    Pixels whose rays one of the two cannot tell hold NaN.
    """

    image_size: tuple[int, int]
    pixels: Floats
    """(rows, columns, 2) px of A's image."""
    vectors: Floats
    """(rows, columns, 2) px."""
    rotation: Floats
    """(3,) rad, Rodrigues: of A's frame into B's."""
    translation: Floats
    """(3,) m, of A's frame into B's; zeros at infinity."""
    distance: float
    """m at which the two were compared; inf: directions."""

    @property
    def lengths(self) -> Floats:
        """(rows, columns) px."""
        return np.hypot(self.vectors[..., 0], self.vectors[..., 1])

    @property
    def rms(self) -> float:
        return float(np.sqrt(np.nanmean(self.lengths**2)))

    @property
    def largest(self) -> float:
        return float(np.nanmax(self.lengths))

    @property
    def centre(self) -> float:
        rows, columns = self.lengths.shape
        return float(self.lengths[rows // 2, columns // 2])

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """px at the top left, top right, bottom left and bottom right corner."""
        each = self.lengths[[0, 0, -1, -1], [0, -1, 0, -1]].tolist()
        return (each[0], each[1], each[2], each[3])

    @property
    def turn_degrees(self) -> float:
        """The implied rotation's angle."""
        return float(np.degrees(np.linalg.norm(self.rotation)))


def image_grid(image_size: tuple[int, int], columns: int, rows: int) -> Floats:
    """(rows, columns, 2) px from corner to corner of the image: the first and the last pixels' centres are on it."""
    width, height = image_size
    x, y = np.meshgrid(np.linspace(0, width - 1, columns), np.linspace(0, height - 1, rows))
    return np.stack([x, y], axis=-1)


def difference(
    a: CameraInfo | Camera,
    b: CameraInfo | Camera,
    *,
    distance: float = np.inf,
    columns: int = 31,
    rows: int = 23,
    fit: Floats | None = None,
    compensate: bool = True,
) -> Difference:
    """The projection difference of two calibrations of one camera.

    distance: m from the camera. fit: (N, 2) px of A's image by which the implied motion is fitted; the whole image,
    with little weight to what does not fit (where one of the two is far off), where not given. compensate: False to see
    the difference as it is. Raises CameraInfoError where they are of different image sizes.
    """
    a, b = Camera.of(a), Camera.of(b)
    if a.image_size != b.image_size:
        sizes = " and ".join(f"{camera.image_size[0]}x{camera.image_size[1]}" for camera in (a, b))
        raise CameraInfoError(f"the calibrations are for images of {sizes}: compare two of one size")
    pixels = image_grid(a.image_size, columns, rows)
    flat = pixels.reshape(-1, 2)
    motion = np.zeros(6)
    if compensate:
        fitted = flat if fit is None else np.asarray(fit, np.float64).reshape(-1, 2)
        motion = _implied_motion(a, b, fitted, distance, robust=fit is None)
    seen = b.project(_moved(_points(a, flat, distance), motion))
    vectors = (seen - flat).reshape(pixels.shape)
    return Difference(a.image_size, pixels, vectors, motion[:3], motion[3:], distance)


def _points(camera: Camera, pixels: Floats, distance: float) -> Floats:
    """(N, 3): unit rays at infinity, else points in m."""
    rays = camera.unproject(pixels)
    return rays if np.isinf(distance) else rays * distance


def _moved(points: Floats, motion: Floats) -> Floats:
    return points @ rotation_matrices(motion[:3])[0].T + motion[3:]


def _implied_motion(a: Camera, b: Camera, pixels: Floats, distance: float, robust: bool) -> Floats:
    """(6,) rotation and translation: Gauss-Newton on pixel distances, reweighted by Cauchy's loss where robust."""
    points = _points(a, pixels, distance)
    known = np.isfinite(points).all(axis=1)
    points, pixels = points[known], pixels[known]
    motion = np.zeros(6)
    freedoms = 3 if np.isinf(distance) else 6
    if len(points) < 4:
        return motion
    for _ in range(30):
        moved = _moved(points, motion)
        seen, _, by_point = b.project_with_jacobians(moved)
        residuals = pixels - seen
        usable = np.isfinite(residuals).all(axis=1) & np.isfinite(by_point).all(axis=(1, 2))
        residuals, by_motion = residuals[usable], motion_jacobian(moved[usable], by_point[usable])[..., :freedoms]
        weights = np.ones(len(residuals))
        if robust:
            squared = np.sum(residuals**2, axis=1)
            weights = 1 / (1 + squared / max(float(np.median(squared)) * 2, 1e-12))
        weighted = by_motion * weights[:, None, None]
        step = np.linalg.lstsq(
            np.einsum("nij,nik->jk", weighted, by_motion), np.einsum("nij,ni->j", weighted, residuals), rcond=None
        )[0]
        step = np.concatenate([step, np.zeros(6 - freedoms)])
        turn, before = rotation_matrices([step[:3], motion[:3]])
        motion = np.concatenate([rotation_vectors(turn @ before)[0], turn @ motion[3:] + step[3:]])
        if np.abs(step).max() < 1e-12:
            break
    return motion


def motion_jacobian(points: Floats, by_point: Floats) -> Floats:
    """(N, 2, 6) of pixels by a small rotation (applied on the left of the points) and a translation.

    points (N, 3) in the camera's frame, by_point (N, 2, 3).
    """
    x, y, z = points.T
    zero = np.zeros_like(x)
    # d(w x X)/dw = -[X]x
    turn = np.stack([zero, z, -y, -z, zero, x, y, -x, zero], axis=-1).reshape(-1, 3, 3)
    return np.concatenate([by_point @ turn, by_point], axis=-1)
