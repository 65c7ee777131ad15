"""The paths that tracks have taken, fading with age."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S
from edge_vision.drawing.palette import Colour

POINTS = 24  # a trail's resolution in time, whatever the frame rate
PIECES = 4  # steps of fading
_SUBPIXEL = 3  # bits
_FIXED = 1 << _SUBPIXEL
_FAR = 1e5  # px


class _Path:
    """Where one track has been: stamps in ns, oldest first, and x, y, x, y, ... in 1/8 px."""

    __slots__ = ("points", "stamps")

    def __init__(self) -> None:
        self.stamps: list[int] = []
        self.points: list[int] = []


class Trails:
    """Box centres of the last ``seconds`` of header time by track id.

    A trail is drawn while its track is reported, and forgotten when all of it is older than ``seconds``; stamps that
    run backwards (a looping bag) clear everything.
    """

    def __init__(self, seconds: float) -> None:
        self._span = max(1, int(seconds * NS_PER_S))
        self._spacing = self._span // POINTS
        self._stamp = 0
        self._paths: dict[int, _Path] = {}

    def __len__(self) -> int:
        return len(self._paths)

    def clear(self) -> None:
        self._paths.clear()
        self._stamp = 0

    def add(self, stamp: int, ids: NDArray, centres: NDArray) -> None:
        """Note where the tracks ``ids`` (N,) are at ``stamp`` (ns): ``centres`` (N, 2) px."""
        if stamp < self._stamp:
            self.clear()
        self._stamp = stamp
        oldest = stamp - self._span
        for number, (x, y) in zip(ids.tolist(), centres.tolist(), strict=True):
            if not (abs(x) < _FAR and abs(y) < _FAR):
                continue  # not finite, or beyond cv2's fixed-point coordinates
            path = self._paths.setdefault(number, _Path())
            stamps, points = path.stamps, path.points
            # The newest point moves with its track until it is far enough from the one before it.
            if len(stamps) >= 2 and stamps[-1] - stamps[-2] < self._spacing:
                stamps[-1] = stamp
                points[-2:] = int(x * _FIXED), int(y * _FIXED)
            else:
                stamps.append(stamp)
                points += int(x * _FIXED), int(y * _FIXED)
            while stamps[0] < oldest:
                del stamps[0], points[:2]
        gone = [number for number, path in self._paths.items() if path.stamps[-1] < oldest]
        for number in gone:
            del self._paths[number]

    def draw(self, canvas: NDArray, ids: NDArray, colours: Sequence[Colour], thickness: int) -> None:
        """Draw the trails of ``ids`` onto ``canvas`` (H, W, 3) uint8 in their colours, the old end thin and fading.

        Fading is done in a few pieces, each mixed with the image below its middle: at a line's width this looks like
        true transparency at a fraction of the cost.
        """
        height, width = canvas.shape[:2]
        for number, colour in zip(ids.tolist(), colours, strict=True):
            path = self._paths.get(number)
            if path is None or len(path.stamps) < 2:
                continue
            points = np.array(path.points, np.int32).reshape(-1, 1, 2)
            last = len(points) - 1
            pieces = min(PIECES, last)
            for piece in range(pieces):
                start, end = last * piece // pieces, last * (piece + 1) // pieces
                middle = (start + end) // 2
                opacity = 1.0 - 0.9 * (self._stamp - path.stamps[middle]) / self._span
                x, y = path.points[2 * middle] >> _SUBPIXEL, path.points[2 * middle + 1] >> _SUBPIXEL
                shade = colour
                if 0 <= x < width and 0 <= y < height:
                    b, g, r = canvas[y, x].tolist()
                    shade = (
                        int(b + opacity * (colour[0] - b)),
                        int(g + opacity * (colour[1] - g)),
                        int(r + opacity * (colour[2] - r)),
                    )
                line = 1 + (thickness - 1) * (piece + 1) // pieces
                cv2.polylines(canvas, [points[start : end + 1]], False, shade, line, cv2.LINE_AA, _SUBPIXEL)
