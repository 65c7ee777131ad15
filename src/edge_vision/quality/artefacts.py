"""What processing and light leave in a picture: the 8x8 grid of block coding, and a cast of colour."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

_BLOCK = 8
_ROWS = 160  # rows that are looked at, and columns: more tell no more
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
    return min(_grid_ratio(across, len(rows)), _grid_ratio(down, width))


def _grid_ratio(sums: NDArray, lines: int) -> float:
    """sums: of the steps over so many lines."""
    count = sums.size // _BLOCK
    places = sums.ravel()[: count * _BLOCK].reshape(count, _BLOCK).T.copy()
    places.sort(1)
    at_place = places[:, count // 2].tolist()
    grid = max(at_place)
    few = 0.05 * lines  # 0.05 DN keeps images without any steps at 1
    return (grid + few) / ((sum(at_place) - grid) / (_BLOCK - 1) + few)


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
        pixels = pixels.take(usable, 1)
    level = pixels[0] + pixels[1] + pixels[2]
    ratios = (pixels[::2] + np.float32(1)) / (pixels[1] + np.float32(1))  # B/G, R/G
    few = max(16, round(count * _BRIGHT_SHARE))
    bright = ratios.take((level >= np.sort(level)[-few]).nonzero()[0], 1)
    world, white = _median_colour(ratios), _median_colour(bright)
    sizes = math.hypot(*world), math.hypot(*white)
    product = world[0] * white[0] + world[1] * white[1]
    if min(sizes) < 1e-6 or product <= 0:
        return 0.0, 0.0, 0.0
    red, blue = world if sizes[0] >= sizes[1] else white
    longer = max(sizes)
    size = product / longer
    return size, red / longer * size, blue / longer * size


def _median_colour(ratios: NDArray[np.float32]) -> tuple[float, float]:
    """log2 of R/G and B/G, of (2, N): B/G, R/G. A few numbers are sorted faster than they are partitioned."""
    blue, red = np.sort(ratios, 1)[:, ratios.shape[1] // 2].tolist()
    return math.log2(red), math.log2(blue)
