"""A ground plane from above: what cameras see of it, and the objects on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.drawing.overlay import FONT, image_style, text_size
from edge_vision.drawing.palette import DARK, colour_of, text_colour

_GRID, _AXIS = (58, 58, 58), (120, 120, 120)
_Box = tuple[int, int, int, int]
_SHARPER = 4  # fractional bits of coordinates: circles and arrows move smoothly


class GroundView:
    """Draws objects on a plan that is made once: x to the right, y upwards, a grid, and the views of the cameras.

    views: each camera's name and the corners (M, 2) of what it sees, m; at least one with three corners, else
    ValueError. The picture is ``width`` px wide (or its height, where the plan is higher) and shows all views.
    """

    def __init__(self, views: Mapping[str, NDArray], width: int = 800) -> None:
        seen = [np.asarray(view, np.float64) for view in views.values() if len(view) >= 3]
        if not seen:
            raise ValueError("no camera of the rig sees the ground plane: nothing to draw")
        corners = np.concatenate(seen)
        low, high = corners.min(axis=0), corners.max(axis=0)
        span = np.maximum(high - low, 1e-3)
        low, span = low - 0.06 * span.max(), span + 0.12 * span.max()
        self.scale = width / span.max()
        self.size = round(span[0] * self.scale), round(span[1] * self.scale)
        self._low = low
        self._style = image_style(*self.size, 1.0)
        self._plan = np.full((self.size[1], self.size[0], 3), DARK, np.uint8)
        self._draw_views(views)
        self._draw_grid()
        self._draw_names(views)

    def to_pixels(self, positions: NDArray) -> NDArray[np.float64]:
        """(N, 2) m -> (N, 2) px."""
        scaled = (np.asarray(positions, np.float64).reshape(-1, 2) - self._low) * self.scale
        scaled[:, 1] = self.size[1] - scaled[:, 1]
        return scaled

    def draw(
        self,
        ids: Sequence[int],
        names: Sequence[str],
        positions: NDArray,
        velocities: NDArray,
        lost: Sequence[bool],
    ) -> NDArray[np.uint8]:
        """The plan with objects, a new (H, W, 3) uint8 BGR image.

        positions (N, 2) m; velocities (N, 2) m/s: an arrow to where each is in a second; lost: drawn hollow.
        """
        image = self._plan.copy()
        radius, line = 3 * self._style.line, self._style.line
        places = self.to_pixels(positions)
        heads = self.to_pixels(np.asarray(positions) + velocities)
        for number, place, head, gone in zip(ids, places, heads, lost, strict=True):
            if not np.isfinite((*place, *head)).all() or max(np.abs(place).max(), np.abs(head).max()) > 1e5:
                continue
            colour, at = colour_of(number), _fixed(place)
            if np.hypot(*(head - place)) > radius:
                ends = [tuple(int(v) for v in p.round()) for p in (place, head)]
                cv2.arrowedLine(image, ends[0], ends[1], colour, line, cv2.LINE_AA, tipLength=0.2)
            cv2.circle(image, at, radius << _SHARPER, DARK if gone else colour, -1, cv2.LINE_AA, _SHARPER)
            cv2.circle(image, at, radius << _SHARPER, colour if gone else DARK, line, cv2.LINE_AA, _SHARPER)
        taken: list[_Box] = []
        for number, name, place in zip(ids, names, places, strict=True):  # after all circles, so that none hides a name
            if np.isfinite(place).all() and np.abs(place).max() <= 1e5:
                self._tag(image, name, place, number, radius, taken)
        return image

    def _tag(self, image: NDArray, name: str, place: NDArray, number: int, radius: int, taken: list[_Box]) -> None:
        """Name and id beside the place, on the first side where there is room; where there is none, the id alone."""
        style, colour = self._style, colour_of(number)
        for text in dict.fromkeys((f"{name} {number}".strip(), str(number))):
            wide, high, deep = text_size(text, style.font, style.stroke)
            wide, tall = wide + 2 * style.pad, high + deep + style.pad
            right, left = place[0] + radius, place[0] - radius - wide
            above, below = place[1] - radius - tall, place[1] + radius
            for x, y in ((right, above), (right, below), (left, above), (left, below)):
                x1 = int(np.clip(x, 0, max(0, self.size[0] - wide)))
                y1 = int(np.clip(y, 0, max(0, self.size[1] - tall)))
                box = x1, y1, x1 + wide, y1 + tall
                if not any(_overlap(box, other) for other in taken):
                    break
            else:
                continue
            break
        taken.append(box)
        cv2.rectangle(image, box[:2], box[2:], colour, -1)
        origin = box[0] + style.pad, box[1] + high + style.pad // 2
        cv2.putText(image, text, origin, FONT, style.font, text_colour(colour), style.stroke, cv2.LINE_AA)

    def _draw_views(self, views: Mapping[str, NDArray]) -> None:
        for index, view in enumerate(views.values()):
            if len(view) >= 3:
                outline = [self.to_pixels(view).round().astype(np.int32).reshape(-1, 1, 2)]
                filled = self._plan.copy()
                cv2.fillPoly(filled, outline, colour_of(index), cv2.LINE_AA)
                cv2.addWeighted(filled, 0.14, self._plan, 0.86, 0.0, dst=self._plan)
                cv2.polylines(self._plan, outline, True, colour_of(index), 1, cv2.LINE_AA)

    def _draw_grid(self) -> None:
        """Lines in steps of 1, 2 or 5 times a power of ten metres, about eight to the longer side."""
        rough = max(self.size) / self.scale / 8
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
        width, height = self.size
        font = 0.8 * self._style.font
        for axis, length in ((0, width), (1, height)):
            first = math.ceil(self._low[axis] / step)
            for k in range(first, math.floor((self._low[axis] + length / self.scale) / step) + 1):
                offset = round((k * step - self._low[axis]) * self.scale)
                start, end = (offset, 0), (offset, height)
                if axis == 1:
                    start, end = (0, height - offset), (width, height - offset)
                cv2.line(self._plan, start, end, _AXIS if k == 0 else _GRID, 1)
                text = f"{k * step:g}" + (" m" if k == first else "")
                at = (offset + 3, height - 4) if axis == 0 else (3, height - offset - 3)
                if axis == 0 or offset > 24:
                    cv2.putText(self._plan, text, at, FONT, font, _AXIS, 1, cv2.LINE_AA)

    def _draw_names(self, views: Mapping[str, NDArray]) -> None:
        """Each in the middle of its view, in rows where views overlap."""
        for index, (name, view) in enumerate(views.items()):
            if len(view) >= 3:
                wide, high, _ = text_size(name, self._style.font, 1)
                x, y = self.to_pixels(view).mean(axis=0) + (-wide / 2, (index + 1) * (high + 8))
                cv2.putText(
                    self._plan, name, (int(x), int(y)), FONT, self._style.font, colour_of(index), 1, cv2.LINE_AA
                )


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _fixed(place: NDArray) -> tuple[int, int]:
    x, y = (place * (1 << _SHARPER)).round()
    return int(x), int(y)
