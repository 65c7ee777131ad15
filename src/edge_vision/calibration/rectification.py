"""Rectification with maps that are made once a camera: fixed point, less to read than float and about as fast."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import CameraInfo

MODELS = ("plumb_bob", "rational_polynomial", "equidistant", "fisheye", "none", "")


class Rectifier:
    """Takes the lens' distortion out of images of one camera, and turns them by R, as image_proc does it.

    info: the camera's, as published beside its images. Pixels of the result that the lens did not see are black. The
    new camera matrix is P's left three columns where P has one, K otherwise. Raises ValueError for a model that is not
    known, a camera that is not calibrated, or coefficients that do not fit.
    """

    def __init__(self, info: CameraInfo) -> None:
        K, D, R = np.asarray(info.K, float), np.asarray(info.D, float).ravel(), np.asarray(info.R, float)
        P = np.asarray(info.P, float)
        if info.distortion_model not in MODELS:
            raise ValueError(
                f"distortion model {info.distortion_model!r} is not known; there are plumb_bob, "
                "rational_polynomial and equidistant"
            )
        if K.shape != (3, 3) or not np.isfinite(K).all() or K[0, 0] <= 0 or K[1, 1] <= 0:
            raise ValueError("the camera is not calibrated (K[0] is not above 0): give the camera node its camera_info")
        if not np.isfinite(D).all():
            raise ValueError("the distortion coefficients are not finite: calibrate anew")
        if not R.any():
            R = np.eye(3)
        new = P[:, :3] if P.shape == (3, 4) and P[0, 0] > 0 else K
        self.size = info.width, info.height
        # No coefficients at all is a lens without distortion, whatever the model.
        fisheye = info.distortion_model in ("equidistant", "fisheye") and len(D) > 0
        if fisheye and len(D) != 4:
            raise ValueError(f"an equidistant lens has 4 distortion coefficients, not {len(D)}")
        if not fisheye and len(D) not in (0, 4, 5, 8, 12, 14):
            raise ValueError(f"a {info.distortion_model} lens has 5 or 8 distortion coefficients, not {len(D)}")
        # Four zeros of an equidistant lens are the ideal fisheye, not a pinhole.
        self.identity = not D.any() and not fisheye and np.allclose(R, np.eye(3)) and np.allclose(new, K)
        self._maps: tuple[NDArray, NDArray] | None = None
        if not self.identity:
            if fisheye:
                maps = cv2.fisheye.initUndistortRectifyMap(K, D, R, new, self.size, cv2.CV_16SC2)
            else:
                maps = cv2.initUndistortRectifyMap(K, D if len(D) else np.zeros(5), R, new, self.size, cv2.CV_16SC2)
            self._maps = maps[0], maps[1]
        full = np.zeros((3, 4))
        full[:, :3] = new
        if P.shape == (3, 4):
            full[:, 3] = P[:, 3]
        self._info = replace(info, K=np.array(new), D=np.zeros(5), R=np.eye(3), P=full, distortion_model="plumb_bob")

    @property
    def info(self) -> CameraInfo:
        """Of the rectified image: K is P's, D is 0 (plumb_bob) and R is the identity."""
        return self._info

    def __call__(self, image: NDArray) -> NDArray:
        """``image`` (H, W) or (H, W, 3), uint8 or uint16, rectified, of the same size; itself where the lens has no
        distortion. Raises ValueError for another size."""
        height, width = image.shape[:2]
        if (width, height) != self.size:
            raise ValueError(
                f"the image is {width}x{height} and camera_info {self.size[0]}x{self.size[1]}: publish the "
                "calibration of this mode"
            )
        if self._maps is None:
            return image
        return cv2.remap(image, *self._maps, cv2.INTER_LINEAR)
