"""Blur from edge profiles: its Gaussian sigma, and the length and direction of motion.

The strongest edges are looked for in a reduced image, in each of eight directions, and their profiles are read across
the edge in the full image. Of the slope's bump (the line spread function) the variance in px² is taken; variances of
blurs add up, so that of the pixel and of the reading are taken off. An edge may be soft by itself (a shadow, a curved
surface): the sharper edges of each direction stand for the camera.

Motion over L px in direction theta spreads an edge whose normal points to phi by a box of L |cos(phi - theta)|, so
that::

    variance(phi) = sigma^2 + L^2 / 12 cos^2(phi - theta) = a + b cos 2 phi + c sin 2 phi

which is linear in a, b, c and is fitted over the directions: theta = atan2(c, b) / 2, L^2 = 24 sqrt(b^2 + c^2), and
sigma is what is left along the sharpest direction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

_MOST_PIXELS = 240_000  # of the image that edges are looked for in
_CELL = 8  # px of that image, a power of 2: one edge at most in each
_DIRECTIONS = 8  # a power of 2
_EDGES = 16  # measured in each direction
_LEAST_EDGES = 6
_REACH = 20  # px of the profile either side
_HALF = 15  # px of the bump either side
_SHIFT = _REACH - _HALF - 1
_FLOOR = 0.15  # of the bump's height: where it ends
# Variance of a Gaussian that is cut where it falls under that share of its height.
_CUT = math.sqrt(-2 * math.log(_FLOOR))
_KEPT = 1 - 2 * _CUT * math.exp(-_CUT * _CUT / 2) / math.sqrt(2 * math.pi) / math.erf(_CUT / math.sqrt(2))
_READING = 0.5 + 1 / 12 + 1 / 6  # px²: smoothing by 1 2 1, the difference, bilinear reading
_SHARPER = 0.3  # quantile of a direction's variances that stands for the camera


@dataclass(frozen=True, slots=True)
class Blur:
    """sigma: px. length: px and angle: degrees 0..180 from +x clockwise, of motion; spread: px, the standard deviation
    across edges in the blurriest direction; edges: how many were measured. NaN where there are too few."""

    sigma: float = math.nan
    length: float = math.nan
    angle: float = math.nan
    spread: float = math.nan
    edges: int = 0


def blur_of(pyramid: Sequence[NDArray[np.uint8]], noise: float) -> Blur:
    """pyramid: the grey image (H, W), and halved again and again (`edge_vision.quality.grey.pyramid_of`); noise: the
    standard deviation of the first in DN."""
    found = _strongest_edges(pyramid, noise)
    if found is None:
        return Blur()
    return _fit(*_variances(pyramid[0], *found, noise))


def _strongest_edges(
    pyramid: Sequence[NDArray[np.uint8]], noise: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint32]] | None:
    """In the order of directions: places, (2, N) x and y in px of the pyramid's first image; the normal's angle in rad
    (towards the brighter side) and the number of its direction, (N,)."""
    level = next((i for i, image in enumerate(pyramid) if image.size <= _MOST_PIXELS), len(pyramid) - 1)
    small, factor = pyramid[level], 1 << level
    rows, columns = (small.shape[0] - 2) // _CELL, (small.shape[1] - 2) // _CELL
    if rows < 2 or columns < 2:
        return None
    width, high, wide = small.shape[1], rows * _CELL, columns * _CELL
    # Steps over two pixels, in every second row: an edge is seen in one of two rows at least. Twice a step is a
    # quarter of Sobel's answer, which the few that are found are then told by.
    middle = small[1 : 1 + high : 2]
    strength = cv2.add(
        cv2.absdiff(middle[:, 2 : 2 + wide], middle[:, :wide]),
        cv2.absdiff(small[2 : 2 + high : 2, 1 : 1 + wide], small[:high:2, 1 : 1 + wide]),
    )
    # Strength and place in one number, so that the largest of a cell is its first strongest pixel.
    origins, steps, places = _grid(rows, columns, width)
    ranks = np.multiply(strength, 256, dtype=np.uint16)
    ranks |= places
    ranks = np.maximum.reduce(ranks.reshape(rows, _CELL // 2, wide), 1)
    best = np.maximum.reduce(ranks.reshape(-1, _CELL).T.copy())
    # A Sobel answer of pure noise has sigma sqrt(12) noise, less in a reduced image; here it is a quarter of that.
    floor = int(max(6.0, math.sqrt(12) * noise / factor))
    index = origins + steps[best & 255]
    gx, gy = _SOBEL.dot(small.ravel().take(index + _around(width)).astype(np.float32))
    phi, strength = np.arctan2(gy, gx), np.abs(gx) + np.abs(gy)
    # The strongest of each direction first, by sorting numbers that end in their places.
    keys = _bins(phi) << _BIN_SHIFT | (_STRONGEST - strength).astype(np.uint32) << _PLACE_BITS
    keys |= np.arange(len(keys), dtype=np.uint32)
    keys = keys[strength > 4 * floor]
    if len(keys) < _LEAST_EDGES:
        return None
    keys.sort()
    bins = keys >> _BIN_SHIFT
    keep = np.arange(len(keys)) - keys.searchsorted(_BIN_STARTS)[bins] < _EDGES
    chosen, bins = keys[keep] & _PLACES, bins[keep]
    y, x = np.divmod(index[chosen], width)
    centres = np.array((x, y), np.float32)
    centres *= np.float32(factor)
    centres += np.float32((factor - 1) / 2)
    return centres, phi[chosen], bins


_SOBEL = np.array([(-1, 0, 1, -2, 0, 2, -1, 0, 1), (-1, -2, -1, 0, 0, 0, 1, 2, 1)], np.float32)
_STRONGEST = np.float32(8 * 255)
_PLACE_BITS, _BIN_SHIFT = np.uint32(18), np.uint32(29)
_PLACES = np.uint32((1 << 18) - 1)  # more than `_MOST_PIXELS` have cells
_BIN_STARTS = np.arange(_DIRECTIONS, dtype=np.uint32) << _BIN_SHIFT


@lru_cache(maxsize=4)
def _grid(rows: int, columns: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint16]]:
    """Of cells in an image ``width`` px wide, the first at row 1 and column 1: the index of each cell's first pixel,
    (rows columns,); the steps from there to the pixels of every second row by their place counted from the cell's end,
    (`_CELL`² / 2,); and that place of each such pixel, (rows `_CELL` / 2, columns `_CELL`)."""
    top, left = np.mgrid[0:rows, 0:columns] * _CELL + 1
    down, right = np.divmod(np.arange(_CELL * _CELL // 2)[::-1], _CELL)
    y, x = np.mgrid[0 : rows * _CELL // 2, 0 : columns * _CELL]
    places = _CELL * _CELL // 2 - 1 - (y % (_CELL // 2) * _CELL + x % _CELL)
    return (top * width + left).ravel(), 2 * down * width + right, places.astype(np.uint16)


@lru_cache(maxsize=4)
def _around(width: int) -> NDArray[np.int64]:
    """(9, 1): the steps to a pixel's neighbours and to itself, row by row, in an image ``width`` px wide."""
    return np.add.outer((-width, 0, width), (-1, 0, 1)).reshape(9, 1)


def _bins(phi: NDArray[np.float32]) -> NDArray[np.uint32]:
    positive = phi * np.float32(_DIRECTIONS / np.pi) + np.float32(_DIRECTIONS + 0.5)
    return positive.astype(np.uint32) & np.uint32(_DIRECTIONS - 1)


_OFFSETS = np.arange(-_REACH, _REACH + 1, dtype=np.float32)
# (3, 2 (2 reach + 1)): two lines side by side across an edge, averaged against noise. A place on them is the edge's,
# so much along its normal, and so much beside that.
_LINES = np.stack([np.ones(2 * len(_OFFSETS)), np.tile(_OFFSETS, 2), np.repeat((0.75, -0.75), len(_OFFSETS))])
_LINES = _LINES.astype(np.float32)
# (2 (2 reach + 1), 2 reach - 1): what makes the slope of both lines together, smoothed by 1 2 1, and eight times as
# high; its last value is there twice, so that a bump may reach beyond it.
_BEFORE = np.arange(len(_OFFSETS))[:, None] - np.minimum(np.arange(len(_OFFSETS) - 2), len(_OFFSETS) - 4)
_SLOPE = np.tile(np.where((_BEFORE >= 0) & (_BEFORE < 4), np.where(_BEFORE < 2, -1, 1), 0), (2, 1)).astype(np.float32)
_BUMP = np.arange(-_HALF, _HALF + 1)
# (2 half + 1, 3): what makes the sum and the first two moments of a bump.
_MOMENTS = np.stack([np.ones(len(_BUMP)), _BUMP, np.square(_BUMP)], 1).astype(np.float32)


def _variances(
    grey: NDArray[np.uint8], places: NDArray[np.float32], phi: NDArray[np.float32], bins: NDArray, noise: float
) -> tuple[NDArray, NDArray]:
    """Variance in px² of each edge that could be measured, and the number of its normal's direction."""
    n = len(phi)
    frames: NDArray[np.float32] = np.empty((3, 2, n), np.float32)  # place, along the normal, beside it; of x and of y
    frames[0] = places
    np.cos(phi, out=frames[1, 0])
    np.sin(phi, out=frames[1, 1])
    frames[2, 0] = frames[1, 1]
    np.negative(frames[1, 0], out=frames[2, 1])
    maps = frames.reshape(3, -1).T @ _LINES
    lines = cv2.remap(grey, maps[:n], maps[n:], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    smooth = lines.astype(np.float32).dot(_SLOPE)
    peak = smooth[:, _HALF : _HALF + 2 * _SHIFT + 1].argmax(1)
    # The slope about each peak, out of a view on all that there can be.
    line, step = smooth.strides
    bump = np.ndarray((n, 2 * _SHIFT + 1, len(_BUMP)), np.float32, smooth, 0, (line, step, step))[np.arange(n), peak]
    height = bump[:, _HALF]
    above = bump > (np.float32(_FLOOR) * height)[:, None]
    np.logical_and.accumulate(above[:, _HALF:], 1, out=above[:, _HALF:])
    np.logical_and.accumulate(above[:, _HALF::-1], 1, out=above[:, _HALF::-1])
    ended = ~(above[:, 0] | above[:, -1])
    total, first, second = (bump * above).dot(_MOMENTS).T
    good = (ended & (height > 0) & (total > 8 * max(12.0, 6 * noise))).nonzero()[0]
    total, first = total[good], first[good] / total[good]
    return (second[good] / total - first * first) / _KEPT - _READING, bins[good]


_NUMBERS = np.arange(_DIRECTIONS, dtype=np.uint32)
_DOUBLED = [2 * math.pi * number / _DIRECTIONS for number in range(_DIRECTIONS)]
_WAVES = [(math.cos(double), math.sin(double)) for double in _DOUBLED]


def _fit(variances: NDArray, bins: NDArray) -> Blur:
    """See the module. bins in rising order."""
    if len(variances) < _LEAST_EDGES:
        return Blur(edges=len(variances))
    # A few numbers: done in Python, it takes a third of the time.
    values = variances.tolist()
    points, start = [], 0
    for end, (x, y) in zip(bins.searchsorted(_NUMBERS, "right").tolist(), _WAVES, strict=True):
        found = sorted(values[start:end])
        start = end
        if len(found) >= _LEAST_EDGES:
            points.append((x, y, max(found[int(_SHARPER * len(found))], 0.0)))
    edges = len(variances)
    if not points:
        return Blur(sigma=math.sqrt(max(sorted(values)[int(_SHARPER * edges)], 0.0)), edges=edges)
    values = [value for _, _, value in points]
    if len(points) < 3:
        return Blur(math.sqrt(min(values)), spread=math.sqrt(max(values)), edges=edges)
    a, b, c = _wave(points)
    swing = math.hypot(b, c)
    return Blur(
        sigma=math.sqrt(max(a - swing, 0.0)),
        length=math.sqrt(24 * swing),
        angle=math.degrees(math.atan2(c, b) / 2) % 180,
        spread=math.sqrt(max(a + swing, 0.0)),
        edges=edges,
    )


def _wave(points: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    """a, b, c of a + b x + c y = value, by least squares over the points (x, y, value), three or more that are not on
    one line."""
    count = len(points)
    x0, y0, v0 = (sum(column) / count for column in zip(*points, strict=True))
    xx = xy = yy = xv = yv = 0.0
    for x, y, value in points:
        x, y, value = x - x0, y - y0, value - v0
        xx, xy, yy, xv, yv = xx + x * x, xy + x * y, yy + y * y, xv + x * value, yv + y * value
    determinant = xx * yy - xy * xy
    b, c = (xv * yy - yv * xy) / determinant, (yv * xx - xv * xy) / determinant
    return v0 - b * x0 - c * y0, b, c
