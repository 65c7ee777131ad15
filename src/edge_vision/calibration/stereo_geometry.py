"""What follows from where two cameras stand: rectification, and distances from epipolar planes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_vision.calibration.models import parameters_of, unproject
from edge_vision.calibration.result import CalibrationError, StereoCalibration
from edge_vision.datatypes import CameraInfo

Floats = NDArray[np.float64]

_ZERO_DISPARITY = 1024  # CALIB_ZERO_DISPARITY, under another name in cv2.fisheye of each OpenCV: one principal point


@dataclass(frozen=True, eq=False)
class Rectification:
    """Of a pair, as ROS and OpenCV have it: rows of the two rectified images see the same."""

    R: tuple[Floats, Floats]
    """(3, 3) each: from the camera's frame to that of its rectified image."""
    P: tuple[Floats, Floats]
    """(3, 4) each; P[1][0, 3] (or [1, 3] of a vertical pair) is -f times the baseline in m."""
    Q: Floats
    """(4, 4): (x, y, disparity, 1) to a point, homogeneous, m."""
    infos: tuple[CameraInfo, CameraInfo]


def rectify(
    stereo: StereoCalibration, *, alpha: float = 0.0, names: tuple[str, str] = ("left", "right")
) -> Rectification:
    """Rectifies a pair (Bouguet's method, by OpenCV). ``alpha`` 0 shows valid pixels only, 1 all of both images.

    Raises CalibrationError where the two are of different size, or one is equidistant and the other is not.
    """
    one, two = stereo.first, stereo.second
    if one.image_size != two.image_size:
        raise CalibrationError(f"images of {one.image_size} and {two.image_size}", "use cameras of the same size")
    wide = [each.model == "equidistant" for each in (one, two)]
    if wide[0] != wide[1]:
        raise CalibrationError(f"a pair of {one.model} and {two.model}", "calibrate both with the same model")
    T = stereo.T.reshape(3, 1)
    if wide[0]:
        R1, R2, P1, P2, Q = cv2.fisheye.stereoRectify(
            one.K,
            one.D.reshape(4, 1),
            two.K,
            two.D.reshape(4, 1),
            one.image_size,
            stereo.R,
            T,
            flags=_ZERO_DISPARITY,
            balance=alpha,
        )
    else:
        R1, R2, P1, P2, Q = cv2.stereoRectify(
            one.K, one.D, two.K, two.D, one.image_size, stereo.R, T, flags=_ZERO_DISPARITY, alpha=alpha
        )[:5]
    turns = (np.asarray(R1, np.float64), np.asarray(R2, np.float64))
    projections = (np.asarray(P1, np.float64), np.asarray(P2, np.float64))
    left = replace(one.camera_info(names[0]), R=turns[0], P=projections[0])
    right = replace(two.camera_info(names[1]), R=turns[1], P=projections[1])
    return Rectification(turns, projections, np.asarray(Q, np.float64), (left, right))


def epipolar_distances(stereo: StereoCalibration, first: ArrayLike, second: ArrayLike) -> Floats:
    """(N, 2) px: how far pixels (N, 2) of the same points lie from their partners' epipolar planes, in each camera.

    The angle between ray and plane times the focal length, which for a pinhole camera is the distance from the epipolar
    line in the undistorted image, and holds for a fisheye too.
    """
    rays = [
        unproject(camera.model, parameters_of(camera.model, camera.K, camera.D), pixels)
        for camera, pixels in ((stereo.first, first), (stereo.second, second))
    ]
    turned = rays[0] @ stereo.R.T
    direction = stereo.T / max(stereo.baseline, 1e-12)
    out = np.empty((len(turned), 2))
    for side, (ray, partner, camera) in enumerate(((turned, rays[1], stereo.first), (rays[1], turned, stereo.second))):
        normal = np.cross(direction, partner)
        length = np.maximum(np.linalg.norm(normal, axis=1), 1e-12)
        out[:, side] = np.arcsin(np.clip(np.sum(ray * normal, axis=1) / length, -1, 1)) * np.sqrt(
            camera.K[0, 0] * camera.K[1, 1]
        )
    return out
