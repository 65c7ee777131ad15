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


def knows(dictionary: str) -> bool:
    """Whether this OpenCV has a dictionary; 4.6 lacks some."""
    return hasattr(_aruco(), dictionary)


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
    gray: NDArray[np.uint8],
    dictionary: str,
    border: int,
    first: int = 0,
    count: int | None = None,
    windows: tuple[int, ...] = (3, 13, 23),
    least: float = 10.0,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """A dictionary's markers first, first + 1, ... in an image, black on white, which are called 0, 1, ...

    ``windows``: px, odd, evenly spaced: the sides of the squares over which brightness is averaged to tell black from
    white. Small ones are for small and for touching markers, large ones for blurred markers; each costs as much time.
    ``least``: px, the side of the smallest marker; what is smaller, as the bits in a near marker, is not looked at.
    Returns (N,) numbers, (N, 4, 2) corners px (unrefined), clockwise from the top left of the marker as OpenCV draws
    it. Raises BoardError where OpenCV has no aruco module.
    """
    aruco, table = _aruco(), _part_of(dictionary, first, count)
    modern = hasattr(aruco, "ArucoDetector")
    options = aruco.DetectorParameters() if modern else aruco.DetectorParameters_create()
    options.markerBorderBits = border
    options.minMarkerPerimeterRate = min(4 * least / max(gray.shape), 3.9)  # of at most 4, which a marker may fill
    options.adaptiveThreshWinSizeMin, options.adaptiveThreshWinSizeMax = windows[0], windows[-1]
    options.adaptiveThreshWinSizeStep = windows[1] - windows[0] if len(windows) > 1 else 10
    if modern:
        corners, ids = aruco.ArucoDetector(table, options).detectMarkers(gray)[:2]
    else:
        corners, ids = aruco.detectMarkers(gray, table, parameters=options)[:2]
    if ids is None or not len(ids):
        return np.zeros(0, np.int64), np.zeros((0, 4, 2))
    return np.asarray(ids, np.int64).ravel(), np.asarray(corners, np.float64).reshape(-1, 4, 2)


def _aruco() -> Any:
    if not available():
        raise BoardError(
            f"OpenCV {cv2.__version__} has no aruco module, which charuco and aprilgrid boards need: "
            "pip install 'opencv-python-headless>=4.7', or use a chessboard"
        )
    return cv2.aruco


def _dictionary(name: str) -> Any:
    aruco = _aruco()
    number = getattr(aruco, name, None)
    if number is None:
        raise BoardError(f"dictionary: OpenCV {cv2.__version__} has no {name}; a newer one has")
    return aruco.getPredefinedDictionary(number)


@lru_cache(maxsize=64)
def _part_of(dictionary: str, first: int, count: int | None) -> Any:
    """OpenCV's dictionary with some of its markers only: each candidate is compared with every one of them, in four
    turns, and the 36 of 587 that a board has instead of all make that a sixteenth."""
    table = _dictionary(dictionary)
    table.bytesList = np.ascontiguousarray(table.bytesList[first : None if count is None else first + count])
    return table
