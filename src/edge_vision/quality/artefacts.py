"""What processing and light leave in a picture: the 8x8 grid of block coding, and a cast of colour."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

_BLOCK = 8
_ROWS = 240  # rows that are looked at, and columns: more tell no more
_SAMPLES = 1000  # pixels that stand for an image's colour
_BRIGHT_SHARE = 0.05


def blockiness_of(grey: NDArray[np.uint8]) -> float:
    """Steps across the lines of an 8x8 grid over the steps between them, 1 without a grid; NaN under 48 px a side.

    The mean absolute step between neighbouring columns is taken for each pair of columns, and of those at each of the
    eight places in the grid the median, which a few strong edges do not move: Wang, Bovik and Evans' idea (2000) in
    the pixels. The place with the largest is the grid's, wherever the image was cropped. The same for rows; of both
    ratios the smaller counts, since a grid has both and a texture of eight pixels seldom.
    """
    if min(grey.shape) < 6 * _BLOCK:
        return math.nan
    rows = grey[:: max(1, grey.shape[0] // _ROWS)]
    width = min(grey.shape[1], _ROWS)
    left = (grey.shape[1] - width) // 2
    columns = grey[:, left : left + width]
    across = cv2.reduce(cv2.absdiff(rows[:, 1:], rows[:, :-1]), 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
    down = cv2.reduce(cv2.absdiff(columns[1:], columns[:-1]), 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
    return min(_grid_ratio(across.ravel() / len(rows)), _grid_ratio(down.ravel() / width))


def _grid_ratio(steps: NDArray) -> float:
    count = len(steps) // _BLOCK * _BLOCK
    columns = steps[:count].reshape(-1, _BLOCK)
    at_place = np.sort(columns, 0)[len(columns) // 2]
    grid = float(at_place.max())
    # 0.05 DN keeps images without any steps at 1.
    return (grid + 0.05) / ((float(at_place.sum()) - grid) / (_BLOCK - 1) + 0.05)


def colour_cast_of(image: NDArray, scale: float) -> tuple[float, float, float]:
    """(size, log2 of R/G, log2 of B/G) of the cast of a BGR image; (nan, nan, nan) where it has too few usable pixels.

    A grey world and a white patch must agree: the median colour of the image, and the colour of its brightest
    unclipped twentieth. Of the two vectors (log2 R/G, log2 B/G) the one is projected on the other and the shorter
    counts; where they point apart (a lawn under a white sky) there is no cast. scale: DN of the 8-bit scale in a step
    of image.
    """
    step = max(1, round(math.sqrt(image.shape[0] * image.shape[1] / _SAMPLES)))
    pixels = image[step // 2 :: step, step // 2 :: step].transpose(2, 0, 1).astype(np.float32, order="C").reshape(3, -1)
    if scale != 1.0:
        pixels *= np.float32(scale)
    peak = np.maximum.reduce(pixels)
    usable = ((peak < 250) & (peak > 12)).nonzero()[0]
    count = len(usable)
    if count < 64:
        return math.nan, math.nan, math.nan
    if count < len(peak):
        pixels = pixels[:, usable]
    level = pixels[0] + pixels[1] + pixels[2]
    ratios = (pixels[::2] + np.float32(1)) / (pixels[1] + np.float32(1))  # B/G, R/G
    few = max(16, round(count * _BRIGHT_SHARE))
    bright = ratios[:, np.argpartition(level, -few)[-few:]]
    world, white = (np.log2(np.partition(r, r.shape[1] // 2)[::-1, r.shape[1] // 2]) for r in (ratios, bright))
    sizes = math.hypot(*world), math.hypot(*white)
    if min(sizes) < 1e-6 or float(world @ white) <= 0:
        return 0.0, 0.0, 0.0
    short, long = (world, white) if sizes[0] < sizes[1] else (white, world)
    along = long / max(sizes)
    size = float(short @ along)
    return size, float(along[0] * size), float(along[1] * size)
