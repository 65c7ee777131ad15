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
    variances, bins = _variances(pyramid[0], *found, noise)
    return _fit(variances, bins)


def _strongest_edges(pyramid: Sequence[NDArray[np.uint8]], noise: float) -> tuple[NDArray, NDArray, NDArray] | None:
    """x, y in px of the pyramid's first image and the normal's angle in rad (towards the brighter side), each (N,)."""
    level = next((i for i, image in enumerate(pyramid) if image.size <= _MOST_PIXELS), len(pyramid) - 1)
    small, factor = pyramid[level], 1 << level
    rows, columns = (small.shape[0] - 2) // _CELL, (small.shape[1] - 2) // _CELL
    if rows < 2 or columns < 2:
        return None
    width = small.shape[1]
    gx, gy = cv2.spatialGradient(small)
    strength = cv2.add(cv2.convertScaleAbs(gx, alpha=0.25), cv2.convertScaleAbs(gy, alpha=0.25))
    # Strength and place in one number, so that the largest of a cell is its first strongest pixel.
    origins, steps, places = _grid(rows, columns, width)
    ranks = cv2.merge((places, strength[1 : 1 + rows * _CELL])).view("<u2")
    best = np.maximum.reduce(ranks.reshape(rows, _CELL, width), 1)[:, 1 : 1 + columns * _CELL]
    for _ in range(_CELL.bit_length() - 1):
        best = np.maximum(best[:, ::2], best[:, 1::2])
    best = best.ravel()
    # A Sobel answer of pure noise has sigma sqrt(12) noise, less in a reduced image; here it is a quarter of that.
    floor = int(max(6.0, math.sqrt(12) * noise / factor))
    strong = (best >= (floor + 1) << 8).nonzero()[0] if floor < 255 else ()
    if len(strong) < _LEAST_EDGES:
        return None
    best = best[strong]
    index = origins[strong] + steps[best & 255]
    phi = np.arctan2(gy.ravel()[index].astype(np.float32), gx.ravel()[index].astype(np.float32))
    bins = _bins(phi)
    # The strongest of each direction first; sorting 16 bits is a matter of counting.
    order = ((bins << 8 | 255) - (best >> 8)).astype(np.uint16).argsort(kind="stable")
    ends = np.bincount(bins, minlength=_DIRECTIONS).cumsum().tolist()
    starts = [0, *ends[:-1]]
    chosen = np.concatenate([order[start : min(end, start + _EDGES)] for start, end in zip(starts, ends, strict=True)])
    y, x = np.divmod(index[chosen], width)
    return (x + 0.5) * factor - 0.5, (y + 0.5) * factor - 0.5, phi[chosen]


@lru_cache(maxsize=4)
def _grid(rows: int, columns: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """Of cells in an image ``width`` px wide, the first at row 1 and column 1: the index of each cell's first pixel,
    (rows columns,); the steps from there to pixels by their place counted from the cell's end, (`_CELL`²,); and that
    place of each pixel of the cells' rows, (rows `_CELL`, width)."""
    top, left = np.mgrid[0:rows, 0:columns] * _CELL + 1
    down, right = np.divmod(np.arange(_CELL * _CELL)[::-1], _CELL)
    y, x = np.mgrid[0 : rows * _CELL, 0:width]
    places = _CELL * _CELL - 1 - (y % _CELL * _CELL + (x - 1) % _CELL)
    return (top * width + left).ravel(), down * width + right, places.astype(np.uint8)


def _bins(phi: NDArray) -> NDArray[np.int64]:
    return np.floor((phi / np.pi * _DIRECTIONS) + 0.5).astype(np.int64) & (_DIRECTIONS - 1)


_OFFSETS = np.arange(-_REACH, _REACH + 1, dtype=np.float32)
_BESIDE = np.array([-0.75, 0.75], np.float32)
_BUMP = np.arange(-_HALF, _HALF + 1)
# (2 half + 1, 3): what makes the sum and the first two moments of a bump.
_MOMENTS = np.stack([np.ones(len(_BUMP)), _BUMP, np.square(_BUMP)], 1)


def _variances(grey: NDArray[np.uint8], x: NDArray, y: NDArray, phi: NDArray, noise: float) -> tuple[NDArray, NDArray]:
    """Variance in px² of each edge that could be measured, and the number of its normal's direction."""
    c, s = np.cos(phi).astype(np.float32)[:, None], np.sin(phi).astype(np.float32)[:, None]
    # (N, 2, 2 reach + 1): two lines side by side across the edge, averaged against noise.
    n, width = len(x), len(_OFFSETS)
    map_x = (x.astype(np.float32)[:, None] + _OFFSETS * c)[:, None] - (_BESIDE * s)[:, :, None]
    map_y = (y.astype(np.float32)[:, None] + _OFFSETS * s)[:, None] + (_BESIDE * c)[:, :, None]
    lines = cv2.remap(
        grey,
        map_x.reshape(n, 2 * width),
        map_y.reshape(n, 2 * width),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    # Whole numbers up to the moments: twice the profile, and eight times the slope, smoothed by 1 2 1.
    profile = np.add(lines[:, :width], lines[:, width:], dtype=np.int16)
    pairs = profile[:, 1:] + profile[:, :-1]
    smooth = pairs[:, 2:] - pairs[:, :-2]
    last = smooth.shape[1] - 1
    middle = (last + 1) // 2
    peak = middle - _SHIFT + smooth[:, middle - _SHIFT : middle + _SHIFT + 1].argmax(1)
    rows = (np.arange(n) * (last + 1))[:, None]
    bump = smooth.ravel()[np.minimum(peak[:, None] + _BUMP, last) + rows]
    height = bump[:, _HALF]
    above = bump > (np.float32(_FLOOR) * height.astype(np.float32))[:, None]
    np.logical_and.accumulate(above[:, _HALF:], 1, out=above[:, _HALF:])
    np.logical_and.accumulate(above[:, _HALF::-1], 1, out=above[:, _HALF::-1])
    ended = ~(above[:, 0] | above[:, -1])
    total, first, second = ((bump * above).astype(np.float64) @ _MOMENTS).T
    good = (ended & (height > 0) & (total > 8 * max(12.0, 6 * noise))).nonzero()[0]
    total, first = total[good], first[good] / total[good]
    return ((second[good] / total - first * first) / _KEPT - _READING), _bins(phi[good])


def _fit(variances: NDArray, bins: NDArray) -> Blur:
    """See the module."""
    if len(variances) < _LEAST_EDGES:
        return Blur(edges=len(variances))
    # A few numbers: done in Python, it takes a third of the time.
    directions: list[list[float]] = [[] for _ in range(_DIRECTIONS)]
    for number, variance in zip(bins.tolist(), variances.tolist(), strict=True):
        directions[number].append(variance)
    points = []
    for number, found in enumerate(directions):
        if len(found) >= _LEAST_EDGES:
            found.sort()
            double = 2 * number * math.pi / _DIRECTIONS
            points.append((math.cos(double), math.sin(double), max(found[int(_SHARPER * len(found))], 0.0)))
    edges = len(variances)
    if not points:
        return Blur(sigma=math.sqrt(max(np.sort(variances)[int(_SHARPER * edges)], 0.0)), edges=edges)
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
