"""The paths that tracks have taken, fading with age."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S
from edge_vision.drawing.palette import Colour

POINTS = 24  # a trail's resolution in time, whatever the frame rate
PIECES = 4  # steps of fading
_SUBPIXEL = 3  # bits
_FAR = 1e5  # px


class Trails:
    """Box centres of the last ``seconds`` of header time by track id.

    A trail is drawn while its track is reported, and forgotten when all of it is older than ``seconds``; stamps that
    run backwards (a looping bag) clear everything.
    """

    def __init__(self, seconds: float) -> None:
        self._span = max(1, int(seconds * NS_PER_S))
        self._spacing = self._span // POINTS
        self._stamp = 0
        self._paths: dict[int, deque[tuple[int, float, float]]] = {}

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
            path = self._paths.setdefault(number, deque())
            # The newest point moves with its track until it is far enough from the one before it.
            if len(path) >= 2 and path[-1][0] - path[-2][0] < self._spacing:
                path.pop()
            path.append((stamp, x, y))
            while path[0][0] < oldest:
                path.popleft()
        gone = [number for number, path in self._paths.items() if path[-1][0] < oldest]
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
            if path is None or len(path) < 2:
                continue
            points = list(path)
            fixed = (np.array(points)[:, 1:] * (1 << _SUBPIXEL)).astype(np.int32)
            last = len(points) - 1
            pieces = min(PIECES, last)
            for piece in range(pieces):
                start, end = last * piece // pieces, last * (piece + 1) // pieces
                stamp, x, y = points[(start + end) // 2]
                opacity = 1.0 - 0.9 * (self._stamp - stamp) / self._span
                shade = colour
                if 0 <= x < width and 0 <= y < height:
                    below = canvas[int(y), int(x)].tolist()
                    b, g, r = (round(u + opacity * (c - u)) for c, u in zip(colour, below, strict=True))
                    shade = (b, g, r)
                width_here = max(1, thickness * (piece + 1) // pieces)
                cv2.polylines(canvas, [fixed[start : end + 1]], False, shade, width_here, cv2.LINE_AA, _SUBPIXEL)
