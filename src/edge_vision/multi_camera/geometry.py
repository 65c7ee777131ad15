"""Pixels of one camera to metres on the ground plane, and back.

Image points are continuous coordinates as everywhere in the project (pixel (0, 0) covers [0, 1) x [0, 1)); calibrations
count as OpenCV does, pixel centres at whole numbers, half a pixel less.

A pinhole maps the plane z = 0 to its image by the homography ``K [r1 r2 t]`` (Hartley, Zisserman: Multiple View
Geometry, 2004, section 8.1.1). Its inverse gives plane points in homogeneous coordinates whose last one is 1 / depth:
positive in front of the camera, negative for what lies above the horizon.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import CameraInfo

_STEP = 0.5  # px: half the width of the central differences; lenses are smooth over a pixel
_OUTSIDE = 0.5  # px: a pixel that comes back farther than this from itself is outside of what the lens model covers
_SHIFTS = np.array([[0.0, 0.0], [_STEP, 0.0], [-_STEP, 0.0], [0.0, _STEP], [0.0, -_STEP]])


@dataclass(frozen=True, slots=True)
class GroundPlane:
    """The ground plane as one camera sees it; make it by `from_pose` or `from_homography`.

    matrix (3, 3): undistorted image point -> plane (m), last coordinate positive where the plane is seen; the image
    point is normalised (K^-1) where ``K`` is given, else in pixels (centres at whole numbers). size: width, height, px.
    """

    matrix: NDArray[np.float64]
    size: tuple[int, int]
    K: NDArray[np.float64] | None = None
    D: NDArray[np.float64] | None = None
    fisheye: bool = False

    @classmethod
    def from_pose(cls, info: CameraInfo, position: NDArray, rotation: NDArray) -> GroundPlane:
        """From where the camera is: its optical frame (x right, y down, z forward) in the plane's frame (plane: z = 0).

        position (3,): m; rotation (3, 3): columns are the optical axes in the plane's frame, plane_R_camera. ValueError
        where the rotation is none or the camera lies in the plane, which it then sees as a line.
        """
        position, rotation = np.asarray(position, np.float64).reshape(3), np.asarray(rotation, np.float64)
        if rotation.shape != (3, 3) or not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6):
            raise ValueError("the rotation is no rotation matrix: R R^T must be the identity")
        if np.linalg.det(rotation) < 0:
            raise ValueError("the rotation mirrors: its determinant must be 1, not -1")
        if not np.isfinite(position).all() or abs(position[2]) < 1e-6:
            raise ValueError(f"the camera is at z = {position[2]:g} m: it must be above the plane z = 0")
        forward = rotation.T @ np.column_stack([[1.0, 0, 0], [0, 1.0, 0], -position])
        return cls(np.linalg.inv(forward), (info.width, info.height), *_lens(info))

    @classmethod
    def from_homography(cls, homography: NDArray, size: tuple[int, int], info: CameraInfo | None = None) -> GroundPlane:
        """From a homography (3, 3) image -> plane (m), as cv2.findHomography gives it from marks on the floor.

        It maps pixels (OpenCV's count) of the image as it is, or where ``info`` is given those of the undistorted image
        (of the same K). size: width, height in px. The side of the horizon that holds the middle of the image's lower
        edge is taken for the ground. ValueError where the matrix is singular or that point lies on the horizon.
        """
        matrix = np.asarray(homography, np.float64)
        if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
            raise ValueError("a homography is 3 x 3 finite numbers")
        matrix = matrix / np.abs(matrix).max() if matrix.any() else matrix
        if abs(np.linalg.det(matrix)) < 1e-15:
            raise ValueError("the homography is singular: its marks on the floor must not lie on one line")
        side = matrix[2] @ [0.5 * size[0] - 0.5, size[1] - 0.5, 1.0]
        if abs(side) < 1e-12:
            raise ValueError("the middle of the image's lower edge lies on the homography's horizon")
        matrix = matrix * np.sign(side)
        if info is None:
            return cls(matrix, size)
        return cls(matrix @ info.K, size, *_lens(info))

    def to_plane(self, points: NDArray) -> NDArray[np.float64]:
        """(N, 2) px -> (N, 2) m; NaN for what is above the horizon or outside of what the lens model covers."""
        points = np.asarray(points, np.float64).reshape(-1, 2)
        return self._ground(self._undistort(points - 0.5))

    def to_image(self, positions: NDArray) -> NDArray[np.float64]:
        """(N, 2) m -> (N, 2) px, possibly outside of the image; NaN for what is behind the camera."""
        positions = np.asarray(positions, np.float64).reshape(-1, 2)
        seen = np.column_stack([positions, np.ones(len(positions))]) @ np.linalg.inv(self.matrix).T
        seen[~(seen[:, 2] > 0)] = np.nan
        return self._distort(seen[:, :2] / seen[:, 2:]) + 0.5

    def measure(self, points: NDArray, covariances: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Positions (N, 2) m and their covariances (N, 2, 2) m² from pixels and covariances (N, 2, 2) px².

        First order, J C J^T with the Jacobian by central differences through lens and plane. NaN as in `to_plane`.
        """
        points = np.asarray(points, np.float64).reshape(-1, 2)
        around = self.to_plane((points[None] + _SHIFTS[:, None]).reshape(-1, 2)).reshape(5, -1, 2)
        jacobian = np.stack([around[1] - around[2], around[3] - around[4]], -1) / (2 * _STEP)
        return around[0], jacobian @ covariances @ jacobian.transpose(0, 2, 1)

    def _ground(self, ideal: NDArray) -> NDArray[np.float64]:
        plane = ideal @ self.matrix[:, :2].T + self.matrix[:, 2]
        depth = plane[:, 2:].copy()
        depth[~(depth > 1e-12)] = np.nan
        return plane[:, :2] / depth

    def _undistort(self, pixels: NDArray) -> NDArray[np.float64]:
        if self.K is None or not len(pixels):
            return pixels
        if self.D is None:
            return (pixels - self.K[:2, 2]) / np.diag(self.K)[:2]
        if self.fisheye:
            found = cv2.fisheye.undistortPoints(pixels[:, None], self.K, self.D)
        else:
            found = _undistort_points(pixels[:, None], self.K, self.D)
        ideal = np.array(found, np.float64).reshape(-1, 2)
        # Beyond the field that was calibrated the model folds back on itself and its inverse is a wrong point.
        off = np.abs(self._distort(ideal) - pixels).max(axis=1)
        ideal[~(off < _OUTSIDE)] = np.nan
        return ideal

    def _distort(self, ideal: NDArray) -> NDArray[np.float64]:
        if self.K is None or not len(ideal):
            return ideal
        if self.D is None:
            return ideal * np.diag(self.K)[:2] + self.K[:2, 2]
        if self.fisheye:
            pixels = cv2.fisheye.distortPoints(ideal[:, None], self.K, self.D)
            return np.asarray(pixels, np.float64).reshape(-1, 2)
        points = np.column_stack([ideal, np.ones(len(ideal))])
        pixels, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), self.K, self.D)
        return np.asarray(pixels, np.float64).reshape(-1, 2)


def _lens(info: CameraInfo) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, bool]:
    D = np.asarray(info.D, np.float64).ravel()
    return np.asarray(info.K, np.float64), D if D.any() else None, info.distortion_model in ("equidistant", "fisheye")


def _undistort_points(pixels: NDArray, K: NDArray, D: NDArray) -> NDArray:
    """cv2.undistortPoints run until it has converged: its five steps by default leave a tenth of a pixel and more."""
    until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-4)
    if hasattr(cv2, "undistortPointsIter"):  # OpenCV 4
        return cv2.undistortPointsIter(pixels, K, D, None, None, until)
    return cv2.undistortPoints(pixels, K, D, criteria=until)
