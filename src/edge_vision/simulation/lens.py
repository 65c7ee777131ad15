"""The lenses of the twin's board scene: three models, their projection and the ray of every pixel.

Written apart from `edge_vision.calibration`, which is measured with it: an error there must not be undone here.
Pixel centres are whole numbers, the frame is x right, y down, z ahead (REP 103, optical).

| model | coefficients | equations |
|---|---|---|
| plumb_bob | k1 k2 p1 p2 k3 | those of `edge_vision.simulation.camera` (Brown 1966, as OpenCV) |
| rational_polynomial | k1 k2 p1 p2 k3 k4 k5 k6 | the same, the radial part over 1 + k4 r2 + k5 r2^2 + k6 r2^3 |
| equidistant | k1 k2 k3 k4 | r = a (1 + k1 a^2 + k2 a^4 + k3 a^6 + k4 a^8) of the angle a (Kannala, Brandt 2006) |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COEFFICIENTS: dict[str, tuple[float, ...]] = {
    "plumb_bob": (-0.125, 0.035, 0.0006, -0.0004, 0.0),
    "rational_polynomial": (0.12, -0.03, 0.0006, -0.0004, 0.002, 0.28, 0.01, 0.0),
    "equidistant": (-0.012, 0.004, -0.001, 0.0002),
}
"""The twin's own coefficients of each model: a mild barrel of 5 % at the corners, a fisheye that is nearly ideal."""

FOCAL = {"plumb_bob": 0.9, "rational_polynomial": 0.9, "equidistant": 0.45}
"""Focal length in widths of the image: 58 degrees wide, the fisheye 127."""

_STEP = 4  # pixels between those whose rays are solved; between them interpolation is good to 0.005 px


@dataclass(frozen=True, eq=False)
class Lens:
    """A lens before a sensor. K (3, 3) without skew, D as the model has them."""

    model: str
    K: Floats
    D: Floats

    def project(self, points: Floats) -> Floats:
        """Pixels (..., 2) of points or rays (..., 3); NaN where a pinhole model has them behind it."""
        points = np.asarray(points, np.float64)
        if self.model == "equidistant":
            across = np.hypot(points[..., 0], points[..., 1])
            angle = np.arctan2(across, points[..., 2])
            scale = self._radius(angle) / np.maximum(across, 1e-300)
            # On the axis the radius is the angle, which is the ratio of across to z.
            scale = np.where(across > 1e-12, scale, 1.0 / np.maximum(points[..., 2], 1e-300))
            distorted = points[..., :2] * scale[..., None]
        else:
            z = np.where(points[..., 2] > 1e-9, points[..., 2], np.nan)
            distorted = self._bend(points[..., :2] / z[..., None])
        return distorted * np.diag(self.K)[:2] + self.K[:2, 2]

    def unproject(self, pixels: Floats) -> Floats:
        """Rays (..., 3) of pixels (..., 2): with z = 1, of the fisheye with length 1; NaN where the model has none."""
        wanted = (np.asarray(pixels, np.float64) - self.K[:2, 2]) / np.diag(self.K)[:2]
        if self.model == "equidistant":
            k1, k2, k3, k4 = self.D
            radius = np.hypot(wanted[..., 0], wanted[..., 1])
            angle = np.minimum(radius, np.pi)
            for _ in range(12):  # Newton
                a2 = angle * angle
                slope = 1 + a2 * (3 * k1 + a2 * (5 * k2 + a2 * (7 * k3 + a2 * 9 * k4)))
                angle = np.clip(angle - (self._radius(angle) - radius) / np.maximum(slope, 0.1), 0, np.pi)
            sine = np.where(radius > 1e-12, np.sin(angle) / np.maximum(radius, 1e-300), 1.0)
            rays = np.concatenate([wanted * sine[..., None], np.cos(angle)[..., None]], -1)
        else:
            ideal = wanted.copy()
            with np.errstate(all="ignore"):  # where it leads nowhere, the check below says so
                for _ in range(40):
                    ideal -= self._bend(ideal) - wanted
            rays = np.concatenate([ideal, np.ones_like(ideal[..., :1])], -1)
        with np.errstate(invalid="ignore"):
            missed = np.abs(self.project(rays) - pixels).max(-1)
        return np.where((missed < 1e-6)[..., None], rays, np.nan)

    def rays(self, width: int, height: int, margin: int = 0) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The ray of each pixel (height + 2 margin, width + 2 margin, 3), and which there are; the others look back."""
        x = np.arange(-margin, width + margin + 2 * _STEP, _STEP, dtype=np.float64)
        y = np.arange(-margin, height + margin + 2 * _STEP, _STEP, dtype=np.float64)
        nodes = self.unproject(np.stack(np.meshgrid(x, y), -1)).astype(np.float32)
        rays = _interpolated(nodes, width + 2 * margin, height + 2 * margin)
        seen = np.asarray(np.isfinite(rays).all(axis=-1))
        rays[~seen] = (0, 0, -1)
        return rays, seen

    def _radius(self, angle: Floats) -> Floats:
        k1, k2, k3, k4 = self.D
        a2 = angle * angle
        return angle * (1 + a2 * (k1 + a2 * (k2 + a2 * (k3 + a2 * k4))))

    def _bend(self, ideal: Floats) -> Floats:
        k1, k2, p1, p2, k3 = self.D[:5]
        x, y = ideal[..., 0], ideal[..., 1]
        r2 = x * x + y * y
        g = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        if len(self.D) > 5:
            k4, k5, k6 = self.D[5:]
            g = g / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        return np.stack(
            [x * g + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * g + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y], -1
        )


def _interpolated(nodes: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Linear between the nodes. Not by OpenCV, whose finest step between two pixels is a 32nd."""
    x, y = np.arange(width) / _STEP, np.arange(height) / _STEP
    column, row = x.astype(int), y.astype(int)
    across, down = (x - column).astype(np.float32)[None, :, None], (y - row).astype(np.float32)[:, None, None]
    rows = nodes[row] * (1 - down) + nodes[row + 1] * down
    return np.ascontiguousarray(rows[:, column] * (1 - across) + rows[:, column + 1] * across)
