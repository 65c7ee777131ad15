"""The one place that knows which ArUco interface OpenCV has: functions (4.6) or ArucoDetector (4.7 to 5).

4.6 has the module only with contrib, as apt's python3-opencv; from 4.7 on it is part of the main library.
Only markers are asked for: the corners of ChArUco boards and AprilGrids are found by this package, the same with all.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import BoardError


def available() -> bool:
    """Whether this OpenCV can find and draw markers."""
    return hasattr(cv2, "aruco")


@lru_cache
def marker_cells(dictionary: str, marker: int, border: int) -> NDArray[np.bool_]:
    """(side, side) cells of a marker with its border, True where black, as OpenCV draws it. Raises BoardError."""
    aruco, table = _aruco(), _dictionary(dictionary)
    side = table.markerSize + 2 * border
    draw = getattr(aruco, "generateImageMarker", None) or aruco.drawMarker
    cells = draw(table, marker, side, borderBits=border) == 0
    cells.setflags(write=False)
    return cells


def find_markers(
    gray: NDArray[np.uint8], dictionary: str, border: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], bool]:
    """All markers of a dictionary in an image: (N,) ids, (N, 4, 2) corners px (unrefined), whether they are inverted.

    Corners are clockwise from the top left of the marker as OpenCV draws it. Markers white on black are looked for only
    where there are none black on white. Raises BoardError where OpenCV has no aruco module.
    """
    for inverted in (False, True):
        image = 255 - gray if inverted else gray
        corners, ids = _detector(dictionary, border)(image)
        if ids is not None and len(ids):
            found = np.asarray(corners, np.float64).reshape(-1, 4, 2)
            return np.asarray(ids, np.int64).ravel(), found, inverted
    return np.zeros(0, np.int64), np.zeros((0, 4, 2)), False


def _aruco() -> Any:
    if not available():
        raise BoardError(
            f"OpenCV {cv2.__version__} has no aruco module, which charuco and aprilgrid boards need: "
            "pip install 'opencv-python-headless>=4.7', or use a chessboard"
        )
    return cv2.aruco


@lru_cache
def _dictionary(name: str) -> Any:
    aruco = _aruco()
    number = getattr(aruco, name, None)
    if number is None:
        raise BoardError(f"dictionary: OpenCV {cv2.__version__} has no {name}; a newer one has")
    return aruco.getPredefinedDictionary(number)


@lru_cache
def _detector(dictionary: str, border: int) -> Any:
    """image -> (corners, ids or None)"""
    aruco, table = _aruco(), _dictionary(dictionary)
    modern = hasattr(aruco, "ArucoDetector")
    options = aruco.DetectorParameters() if modern else aruco.DetectorParameters_create()
    options.markerBorderBits = border
    if modern:
        detector = aruco.ArucoDetector(table, options)
        return lambda image: detector.detectMarkers(image)[:2]
    return lambda image: aruco.detectMarkers(image, table, parameters=options)[:2]
