"""Which pixels of overlapping outlines are to be seen: painting them in order, lowest first."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray


def paint(image: NDArray[np.uint8], rings: list[NDArray], value: int, box: NDArray) -> None:
    """Paints the even-odd interior of an outline with holes; rings are int32 with 4 fractional bits."""
    if len(rings) == 1:
        cv2.fillPoly(image, rings, value, cv2.LINE_8, 4)
        return
    # The holes must let through what lies below: paint aside, then copy.
    h, w = image.shape
    x0, y0 = max(0, int(box[0]) - 1), max(0, int(box[1]) - 1)
    x1, y1 = min(w, math.ceil(box[2]) + 1), min(h, math.ceil(box[3]) + 1)
    aside = np.zeros((y1 - y0, x1 - x0), np.uint8)
    shift = np.array([x0, y0], np.int32) * 16
    cv2.fillPoly(aside, [ring - shift for ring in rings], 255, cv2.LINE_8, 4)
    image[y0:y1, x0:x1][aside > 0] = value


def visible_box(painted: NDArray[np.uint8], value: int, box: NDArray, least: float) -> NDArray | None:
    """The box of the pixels of ``value``, exact where they reach the outline's own box ``box``; None if fewer than
    ``least`` pixels show."""
    x0, y0, x1, y1 = int(box[0]), int(box[1]), math.ceil(box[2]), math.ceil(box[3])
    mask = (painted[y0:y1, x0:x1] == value).view(np.uint8)
    if cv2.countNonZero(mask) < least:
        return None
    bx, by, bw, bh = cv2.boundingRect(mask)
    seen = np.array([x0 + bx, y0 + by, x0 + bx + bw, y0 + by + bh], np.float64)
    # Painted outlines are a pixel fat; an edge that was not cut stays where the geometry has it.
    return np.where(np.abs(seen - box) <= 1.5, box, seen)
