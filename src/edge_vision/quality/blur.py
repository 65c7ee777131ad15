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

import cv2
import numpy as np
from numpy.typing import NDArray

_MOST_PIXELS = 240_000  # of the image that edges are looked for in
_CELL = 8  # px of that image: one edge at most in each
_DIRECTIONS = 8
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
    gx, gy = cv2.spatialGradient(small)
    inner = slice(1, 1 + rows * _CELL), slice(1, 1 + columns * _CELL)
    strength = cv2.add(cv2.convertScaleAbs(gx, alpha=0.25), cv2.convertScaleAbs(gy, alpha=0.25))
    cells = strength[inner].reshape(rows, _CELL, columns, _CELL).swapaxes(1, 2).reshape(rows * columns, _CELL * _CELL)
    place = cells.argmax(1)
    value = cells[np.arange(len(cells)), place]
    # A Sobel answer of pure noise has sigma sqrt(12) noise, less in a reduced image; here it is a quarter of that.
    strong = np.flatnonzero(value > max(6.0, math.sqrt(12) * noise / factor))
    if len(strong) < _LEAST_EDGES:
        return None
    place, value = place[strong], value[strong]
    y = strong // columns * _CELL + place // _CELL + 1
    x = strong % columns * _CELL + place % _CELL + 1
    phi = np.arctan2(gy[y, x].astype(np.float32), gx[y, x].astype(np.float32))
    bins = _bins(phi)
    order = np.argsort(bins * 256 + (255 - value), kind="stable")
    starts = np.searchsorted(bins[order], np.arange(_DIRECTIONS))
    rank = np.arange(len(order)) - starts[bins[order]]
    chosen = order[rank < _EDGES]
    return (x[chosen] + 0.5) * factor - 0.5, (y[chosen] + 0.5) * factor - 0.5, phi[chosen]


def _bins(phi: NDArray) -> NDArray[np.int64]:
    return np.floor((phi / np.pi * _DIRECTIONS) + 0.5).astype(np.int64) % _DIRECTIONS


_OFFSETS = np.arange(-_REACH, _REACH + 1, dtype=np.float32)
_BESIDE = np.array([-0.75, 0.75], np.float32)
_BUMP = np.arange(-_HALF, _HALF + 1)


def _variances(grey: NDArray[np.uint8], x: NDArray, y: NDArray, phi: NDArray, noise: float) -> tuple[NDArray, NDArray]:
    """Variance in px² of each edge that could be measured, and the number of its normal's direction."""
    c, s = np.cos(phi).astype(np.float32), np.sin(phi).astype(np.float32)
    # (N, 2, 2 reach + 1): two lines side by side across the edge, averaged against noise.
    across = _OFFSETS[None, None, :]
    beside = _BESIDE[None, :, None]
    map_x = x.astype(np.float32)[:, None, None] + across * c[:, None, None] - beside * s[:, None, None]
    map_y = y.astype(np.float32)[:, None, None] + across * s[:, None, None] + beside * c[:, None, None]
    n, width = len(x), len(_OFFSETS)
    lines = cv2.remap(
        grey,
        map_x.reshape(n, 2 * width),
        map_y.reshape(n, 2 * width),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    profile = lines.reshape(n, 2, width).sum(1, dtype=np.float32) / 2
    slope = profile[:, 1:] - profile[:, :-1]
    smooth = slope[:, :-2] + 2 * slope[:, 1:-1] + slope[:, 2:]  # four times the slope
    middle = smooth.shape[1] // 2
    peak = middle - _SHIFT + smooth[:, middle - _SHIFT : middle + _SHIFT + 1].argmax(1)
    rows = np.arange(n)
    height = smooth[rows, peak]
    bump = smooth[rows[:, None], np.clip(peak[:, None] + _BUMP, 0, smooth.shape[1] - 1)]
    above = bump > _FLOOR * height[:, None]
    above[:, _HALF:] = np.logical_and.accumulate(above[:, _HALF:], 1)
    above[:, _HALF::-1] = np.logical_and.accumulate(above[:, _HALF::-1], 1)
    weight = np.where(above, bump, 0)
    total = weight.sum(1)
    first = weight @ _BUMP / np.maximum(total, 1e-6)
    variance = weight @ np.square(_BUMP) / np.maximum(total, 1e-6) - first * first
    ended = ~(above[:, 0] | above[:, -1])
    good = ended & (height > 0) & (total > 4 * max(12.0, 6 * noise))
    return (variance[good] / _KEPT - _READING), _bins(phi[good])


def _fit(variances: NDArray, bins: NDArray) -> Blur:
    """See the module."""
    if len(variances) < _LEAST_EDGES:
        return Blur(edges=len(variances))
    order = np.argsort(bins * 1e6 + variances)
    ordered = np.maximum(variances[order], 0.0)
    starts = np.searchsorted(bins[order], np.arange(_DIRECTIONS + 1))
    counts = np.diff(starts)
    enough = np.flatnonzero(counts >= _LEAST_EDGES)
    if not len(enough):
        return Blur(sigma=math.sqrt(np.sort(ordered)[int(_SHARPER * len(ordered))]), edges=len(ordered))
    value = ordered[starts[enough] + (_SHARPER * counts[enough]).astype(np.int64)]
    if len(enough) < 3:
        return Blur(math.sqrt(value.min()), spread=math.sqrt(value.max()), edges=len(ordered))
    double = 2 * enough * np.pi / _DIRECTIONS
    basis = np.stack([np.ones(len(enough)), np.cos(double), np.sin(double)], 1)
    a, b, c = np.linalg.solve(basis.T @ basis, basis.T @ value)
    swing = math.hypot(b, c)
    return Blur(
        sigma=math.sqrt(max(a - swing, 0.0)),
        length=math.sqrt(24 * swing),
        angle=math.degrees(math.atan2(c, b) / 2) % 180,
        spread=math.sqrt(max(a + swing, 0.0)),
        edges=len(ordered),
    )
