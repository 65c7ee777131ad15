"""How the image moves because the camera does: warps for `Tracker.update`, from a rotation or from the images.

A warp maps source pixels of the previous frame to those of the current one: 2 x 3 affine or 3 x 3 homography, float64.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.tracking.warps import Homography, as_homography


def rotation_homography(camera_matrix: NDArray, rotation: NDArray) -> Homography:
    """H = K R K^-1: what a camera that turned by ``rotation`` sees of a scene (far against the way that it moved).

    camera_matrix (3, 3): K of CameraInfo, px (its D must be small, or the pixels rectified); rotation (3, 3): maps
    directions in the optical frame of the previous image to those in the current one's, current_R_previous (of a
    lookup_transform(current, previous, fixed frame)). Exact for a pure rotation, whatever the depth
    (Hartley, Zisserman: Multiple View Geometry, 2004, section 8.4).
    """
    intrinsics, turn = np.asarray(camera_matrix, np.float64), np.asarray(rotation, np.float64)
    if intrinsics.shape != (3, 3) or turn.shape != (3, 3):
        raise ValueError(f"K and R are 3 x 3 matrices, got shapes {intrinsics.shape} and {turn.shape}")
    if not abs(np.linalg.det(intrinsics)) > 1e-9:
        raise ValueError("the camera matrix is not invertible: CameraInfo of an uncalibrated camera has zeros in K")
    if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-3):
        raise ValueError("the rotation is no rotation matrix: R R^T must be the identity")
    return as_homography(intrinsics @ turn @ np.linalg.inv(intrinsics))


def angular_velocity_rotation(angular_velocity: NDArray, dt: float) -> NDArray[np.float64]:
    """current_R_previous (3, 3) of a camera that turned for ``dt`` s at ``angular_velocity`` (3,) rad/s.

    The velocity is the camera's own, as a gyroscope's rotated into the optical frame (x right, y down, z forward).
    A camera that turns one way sees the world turn the other: exp(-[w] dt), Rodrigues' formula.
    """
    matrix, _ = cv2.Rodrigues(-np.asarray(angular_velocity, np.float64).reshape(3, 1) * dt)
    return np.asarray(matrix, np.float64)


def compose(warps: Iterable[NDArray]) -> Homography:
    """One warp for several steps, oldest first: for frames that were dropped between two updates."""
    total = np.eye(3)
    for warp in warps:
        total = as_homography(warp) @ total
    return total


@dataclass
class SparseFlow:
    """Camera motion from the images themselves: corners of the background followed from frame to frame.

    The fall-back where neither gyro nor odometry tells (cost: ``milliseconds``, of the last call). Corners (Shi, Tomasi
    1994) outside of the boxes of tracked objects are followed by pyramidal Lucas-Kanade flow, and a similarity
    (shift, rotation, zoom) is fitted to them with RANSAC.

    max_width: px; larger images are reduced to this before; max_corners: how many are followed;
    min_inliers: with fewer corners that agree there is no warp.
    """

    max_width: int = 480
    max_corners: int = 200
    min_inliers: int = 12
    milliseconds: float = 0.0
    _previous: NDArray[np.uint8] | None = field(default=None, repr=False)
    _source: tuple[int, int] = field(default=(0, 0), repr=False)

    def reset(self) -> None:
        """Forget the previous image."""
        self._previous = None

    def update(self, image: NDArray, boxes: NDArray | None = None) -> Homography | None:
        """Warp from the image of the last call to this one; None for the first, a new size, or too little to see.

        image: (H, W, 3) BGR or (H, W), uint8 (uint16 is reduced to 8 bits); boxes (N, 4): xyxy in source pixels of
        what moved by itself in the *previous* image, where no corners are taken (the tracks of the last update).
        """
        begin = time.perf_counter()
        grey, shape = self._reduce(image), image.shape[:2]
        previous, same = self._previous, shape == self._source
        self._previous, self._source = grey, shape
        found = self._follow(previous, grey, boxes) if previous is not None and same else None
        self.milliseconds = 1e3 * (time.perf_counter() - begin)
        return found

    def _reduce(self, image: NDArray) -> NDArray[np.uint8]:
        height, width = image.shape[:2]
        if width > self.max_width:
            size = (self.max_width, max(1, round(height * self.max_width / width)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        if image.dtype == np.uint16:
            image = cv2.convertScaleAbs(image, alpha=1 / 256)
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if image.ndim == 3 else image, np.uint8)

    def _follow(self, previous: NDArray, grey: NDArray, boxes: NDArray | None) -> Homography | None:
        scale = np.array([grey.shape[1] / self._source[1], grey.shape[0] / self._source[0]])
        mask = None
        if boxes is not None and len(boxes):
            mask = np.full(grey.shape, 255, np.uint8)
            limits = np.tile(np.array(grey.shape[::-1]), 2)
            for x1, y1, x2, y2 in np.clip(boxes * np.tile(scale, 2), 0, limits).astype(int).tolist():
                mask[y1 : y2 + 1, x1 : x2 + 1] = 0
        corners = cv2.goodFeaturesToTrack(previous, self.max_corners, 0.01, max(3, grey.shape[1] // 60), mask=mask)
        if corners is None or len(corners) < self.min_inliers:
            return None
        moved, status, _ = cv2.calcOpticalFlowPyrLK(previous, grey, corners, None)  # type: ignore[call-overload]
        kept = status.reshape(-1).astype(bool)
        if np.count_nonzero(kept) < self.min_inliers:
            return None
        start, end = corners.reshape(-1, 2)[kept], moved.reshape(-1, 2)[kept]
        affine, inliers = cv2.estimateAffinePartial2D(start, end, method=cv2.RANSAC, ransacReprojThreshold=1.5)
        if affine is None or np.count_nonzero(inliers) < self.min_inliers:
            return None
        # OpenCV counts from the middle of the first pixel, our boxes from its corner; then to source pixels.
        to_source = np.diag([1 / scale[0], 1 / scale[1], 1.0])
        to_source[:2, 2] = 0.5 / scale
        return to_source @ as_homography(affine) @ np.linalg.inv(to_source)
