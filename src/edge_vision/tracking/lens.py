"""What a turn of the camera does to its pixels: a homography, exact without distortion, the closest one with it.

Without distortion H = K R K^-1 (Hartley, Zisserman: Multiple View Geometry, 2004, section 8.4), whatever the depth.
A distorted image moves in another way, but still linearly in a small turn: each pixel's velocity is J(u) w. The three
fields of J are fitted, once, by velocity fields of homographies (3 x 3 generators G_i, least squares over the image),
and H = exp(w_x G_x + w_y G_y + w_z G_z). With D = 0 that is K R K^-1 again. For usual lenses what is left is a fifth to
a quarter of the error of K R K^-1 with D ignored (docs/camera_motion.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import CameraInfo
from edge_vision.tracking.rotations import (
    IDENTITY,
    Quaternion,
    from_matrix,
    inverse,
    matrix,
    multiply,
    rotation_vector,
)
from edge_vision.tracking.warps import Homography

_POLYNOMIAL = ("plumb_bob", "rational_polynomial", "thin_prism")
_FISHEYE = ("equidistant", "fisheye")
_WIDEST = 1.35  # rad from the axis; further out the image of a ray is not worth fitting
_SMALL = 1e-4  # rad, for derivatives
_IDENTITY = np.eye(3)


class Lens:
    """Pixels of one camera. info: its calibration, for raw images, or with ``rectified`` for those of image_rect (P).

    size: (width, height) px of the images where that is known; of another size than the calibration but the same
    shape, they are taken as scaled (``scaled``). ValueError, with the remedy, where this calibration cannot serve.
    """

    def __init__(self, info: CameraInfo, size: tuple[int, int] | None = None, rectified: bool = False) -> None:
        intrinsics = np.array(info.P[:, :3] if rectified else info.K, np.float64)
        name = "P" if rectified else "K"
        if not np.isfinite(intrinsics).all() or min(intrinsics[0, 0], intrinsics[1, 1]) <= 0:
            raise ValueError(
                f"camera_info has no focal lengths in {name}: the camera is not calibrated. Calibrate it and publish "
                "the result, or use camera_motion:=flow, which needs no calibration"
            )
        scale_x, scale_y = _scale(info, size)
        self.scaled = (scale_x, scale_y) != (1.0, 1.0)
        # ROS counts pixels from the middle of the first, our boxes from its corner.
        intrinsics[:2, 2] += 0.5
        intrinsics = np.diag([scale_x, scale_y, 1.0]) @ intrinsics
        self._to_rectified: Quaternion = from_matrix(info.R) if rectified and np.any(info.R) else IDENTITY
        self._intrinsics, self._inverse = intrinsics, np.linalg.inv(intrinsics)
        distortion = np.asarray(info.D, np.float64).ravel()
        self._generators: NDArray[np.float64] | None = None
        self.distortion_ignored = False
        if not rectified and np.any(distortion):
            if info.distortion_model in (*_POLYNOMIAL, *_FISHEYE):
                width, height = size or (info.width, info.height)
                fisheye = info.distortion_model in _FISHEYE
                self._generators = _generators(intrinsics, distortion, fisheye, width, height)
            else:
                self.distortion_ignored = True

    def homography(self, turn: Quaternion) -> Homography:
        """(3, 3): where the pixels of an image go when the camera turns.

        turn: current_R_previous of the optical frame (x right, y down, z forward): rotates directions as the camera
        saw them before into how it sees them now.
        """
        if self._to_rectified is not IDENTITY:
            turn = multiply(multiply(self._to_rectified, turn), inverse(self._to_rectified))
        if self._generators is None:
            warp = self._intrinsics.dot(matrix(turn)).dot(self._inverse)
        else:
            generator = np.array(rotation_vector(turn)).dot(self._generators).reshape(3, 3)
            warp = self._intrinsics.dot(_exponential(generator)).dot(self._inverse)
        return warp / warp[2, 2]


def _scale(info: CameraInfo, size: tuple[int, int] | None) -> tuple[float, float]:
    if size is None or size == (info.width, info.height) or not (info.width and info.height):
        return 1.0, 1.0
    scale_x, scale_y = size[0] / info.width, size[1] / info.height
    if abs(scale_x / scale_y - 1.0) > 0.02:
        raise ValueError(
            f"the images are {size[0]} x {size[1]} px and camera_info is for {info.width} x {info.height}: cut out, "
            "not scaled, so the calibration does not hold. Publish a camera_info for these images (with its roi set)"
        )
    return scale_x, scale_y


def _exponential(generator: NDArray[np.float64]) -> NDArray[np.float64]:
    """exp of a (3, 3) matrix: Taylor's series to the fourth power of an eighth of it, then three squarings.

    At half a radian that is off by 1e-7.
    """
    part = generator * 0.125
    total = _IDENTITY + part * 0.25
    for order in (3.0, 2.0, 1.0):
        total = _IDENTITY + part.dot(total) / order
    for _ in range(3):
        total = total.dot(total)
    return total


def _project(directions: NDArray, intrinsics: NDArray, distortion: NDArray, fisheye: bool) -> NDArray[np.float64]:
    """Directions (N, 3) to pixels (N, 2)."""
    import cv2  # only where there is distortion

    if fisheye:
        ideal = (directions[:, :2] / directions[:, 2:])[:, None]
        return np.asarray(cv2.fisheye.distortPoints(ideal, intrinsics, np.resize(distortion, 4)), np.float64)[:, 0]
    flat = np.ascontiguousarray(directions / directions[:, 2:])[:, None]
    return np.asarray(cv2.projectPoints(flat, np.zeros(3), np.zeros(3), intrinsics, distortion)[0], np.float64)[:, 0]


def _generators(
    intrinsics: NDArray, distortion: NDArray, fisheye: bool, width: int, height: int
) -> NDArray[np.float64]:
    """(3, 9): for a turn about each axis, the generator (3, 3) of the closest homographies, in coordinates K^-1 u."""
    # Directions over the image, by circles about the axis, as far as the lens sees further out with every circle.
    away, around = np.meshgrid(np.linspace(0.0, _WIDEST, 60)[1:], np.arange(24) * (np.pi / 12), indexing="ij")
    rays = np.stack([np.sin(away) * np.cos(around), np.sin(away) * np.sin(around), np.cos(away)], axis=-1)
    pixels = _project(rays.reshape(-1, 3), intrinsics, distortion, fisheye).reshape(*away.shape, 2)
    radius = np.linalg.norm(pixels - intrinsics[:2, 2], axis=-1)
    growth = np.diff(radius, axis=0, prepend=0.0)
    seen = np.logical_and.accumulate(growth > 0, axis=0)
    seen &= ((pixels >= 0) & (pixels < [width, height])).all(axis=-1)
    rays, weight = rays[seen], np.sqrt((radius * growth)[seen])  # each counts by its area in the image
    if len(rays) < 24:
        raise ValueError(
            "the distortion of camera_info turns the image inside out: calibrate anew, with fewer coefficients"
        )
    focal = intrinsics[[0, 1], [0, 1]]
    x, y = ((pixels[seen] - intrinsics[:2, 2]) / focal).T
    zero, one = np.zeros_like(x), np.ones_like(x)
    rows_x = np.stack([x, y, one, zero, zero, zero, -x * x, -x * y], axis=1)
    rows_y = np.stack([zero, zero, zero, x, y, one, -x * y, -y * y], axis=1)
    system = np.vstack([rows_x * weight[:, None], rows_y * weight[:, None]])
    result = np.zeros((3, 9))
    for axis in range(3):
        step = np.zeros(3)
        step[axis] = _SMALL
        ahead = _project(rays + np.cross(step, rays), intrinsics, distortion, fisheye)
        behind = _project(rays - np.cross(step, rays), intrinsics, distortion, fisheye)
        flow = (ahead - behind) / (2 * _SMALL) / focal
        wanted = np.concatenate([flow[:, 0] * weight, flow[:, 1] * weight])
        result[axis, :8] = np.linalg.lstsq(system, wanted, rcond=None)[0]
    return result
