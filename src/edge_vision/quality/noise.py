"""How noisy one image is, and two: the temporal noise of a camera, told apart from what it looks at.

One image. The image is cut in blocks of 8x8 and each is looked at in the cosine basis (DCT-II). White noise has the
same variance in every coefficient, a picture has little in the highest ones. So noise is the mean square of the
coefficients (u, v >= 4, u + v >= 10) of the flattest blocks, and which blocks are flat is told by other, lower
coefficients: these are independent of the measured ones under white noise, so choosing by them brings no bias
(choosing the blocks of lowest variance does: Ponomarenko et al. 2007 have the DCT, Pyatykh et al. 2013 the bias).
Immerkaer's mask (1996) over the whole image, the usual way, reads 2.0 where camera.png has noise of 1.09; this reads
1.09.

Noise of a linear sensor has a variance that is linear in the mean (EMVA 1288): blocks are taken from all brightnesses,
a line is fitted, and its value at the mean of the image is the image's mean noise variance. Blocks near either end of
the scale are clipped: their variance is corrected by that of a clipped normal variable, and beyond 1 sigma they are
left out.

Two images. The standard deviation of the difference over sqrt(2), of those blocks that did not move: there the
difference is white, so that its correlation with itself one pixel aside is near 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_N = 8
_MOST_BLOCKS = 2000  # of one image; beyond that, every n-th row of blocks
_LEAST_BLOCKS = 24  # under which there is no figure
_FLAT_SHARE = 0.3
_CHANNEL_BLOCKS = 150
_RUNS = {1: np.uint64, 2: np.complex128}  # of `_N` values of uint8 and of uint16
_GROUPS = 4  # of brightness


def _cosine_basis() -> NDArray[np.float64]:
    """(8, 8): row u is the u-th cosine, of length 1."""
    u, x = np.mgrid[0:_N, 0:_N]
    rows = np.cos(np.pi * (2 * x + 1) * u / (2 * _N)) * math.sqrt(2 / _N)
    rows[0] = math.sqrt(1 / _N)
    return rows


_COSINES = _cosine_basis()
_HIGH = [(u, v) for u in range(4, _N) for v in range(4, _N) if u + v >= 10]
_LOW = [(u, v) for u in range(5) for v in range(5) if 0 < u + v <= 5]
# (64, 32) float32: the mean, what tells flat blocks, what is measured. A product with two more columns takes half as
# much time again.
_BASIS = np.stack([np.outer(_COSINES[u], _COSINES[v]).ravel() for u, v in [(0, 0), *_LOW, *_HIGH]], 1)
_BASIS[:, 0] /= _N
_BASIS = np.ascontiguousarray(_BASIS, np.float32)
# (32, 2): what makes the mean square of the low and of the high coefficients of their squares.
_LOW_AND_HIGH = np.zeros((_BASIS.shape[1], 2), np.float32)
_LOW_AND_HIGH[1 : 1 + len(_LOW), 0] = 1 / len(_LOW)
_LOW_AND_HIGH[1 + len(_LOW) :, 1] = 1 / len(_HIGH)


def _clipping_table() -> tuple[NDArray, NDArray]:
    """What clipping at 0 leaves of a normal variable of sigma 1: its mean, and its variance, each for a row of
    means."""
    mean = np.linspace(-1.0, 5.0, 241)
    z = np.linspace(-6, 6, 2401)
    weight = np.exp(-z * z / 2)
    weight /= weight.sum()
    clipped = np.maximum(mean[:, None] + z, 0)
    first = clipped @ weight
    return first, (clipped * clipped) @ weight - first * first


_CLIPPED_MEAN, _CLIPPED_VARIANCE = _clipping_table()


@dataclass(frozen=True, slots=True)
class Noise:
    """sigma: DN, nan where it cannot be told. blocks: how many it was measured on. offset, slope: variance in DN² at
    luma 0, and per DN of luma (a sensor's gain, where luma is linear)."""

    sigma: float
    blocks: int
    offset: float = math.nan
    slope: float = 0.0


_UNKNOWN = Noise(math.nan, 0)


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of an image. values (B, 64) uint8 or uint16, ``scale`` DN of the 8-bit scale in a step of them. figures
    (3, B) in DN² and DN: mean square of the low and of the high coefficients, and the mean."""

    values: NDArray
    scale: float
    figures: NDArray[np.float32]

    @property
    def means(self) -> NDArray[np.float32]:
        return self.figures[2]


def _row_step(rows: int, columns: int) -> int:
    return max(1, -(-rows * columns // _MOST_BLOCKS))


def _cut(plane: NDArray) -> NDArray:
    """(B, 64): blocks of evenly spaced rows of blocks."""
    rows, columns = plane.shape[0] // _N, plane.shape[1] // _N
    step = _row_step(rows, columns)
    chosen = plane[: rows * _N, : columns * _N].reshape(rows, _N, columns * _N)[step // 2 :: step]
    if chosen.strides[2] != plane.itemsize:
        chosen = np.ascontiguousarray(chosen)
    # A row of a block is moved as one number of 8 or 16 bytes, which takes a quarter of the time.
    runs: NDArray = chosen.view(_RUNS[plane.itemsize]).swapaxes(1, 2)
    return np.ascontiguousarray(runs).view(plane.dtype).reshape(-1, _N * _N)


def blocks_of(plane: NDArray, scale: float = 1.0) -> Blocks:
    """plane (H, W) uint8 or uint16; scale: DN of the 8-bit scale in one step of it."""
    values = _cut(plane)
    figures = np.empty((3, len(values)), np.float32)
    if len(values) == 0:
        return Blocks(values, scale, figures)
    exact = values.astype(np.float32)
    if scale != 1.0:
        exact *= np.float32(scale)
    coefficients = cv2.gemm(exact, _BASIS, 1.0, None, 0.0)  # type: ignore[call-overload]
    figures[2] = coefficients[:, 0]
    figures[:2] = np.square(coefficients, out=coefficients).dot(_LOW_AND_HIGH).T
    return Blocks(values, scale, figures)


def noise_of(blocks: Blocks, rounding: float, mean: float) -> Noise:
    """The noise of one image at its mean grey value ``mean``. rounding: variance in DN² to take off (see `Grey`)."""
    if len(blocks.means) < _LEAST_BLOCKS:
        return _UNKNOWN
    figures = blocks.figures.take(_by_brightness(blocks.means), 1)
    means = figures[2]
    sigma, limit = 0.0, 0.0
    # Which blocks are clipped depends on sigma, and sigma on the blocks.
    for _ in range(3):
        if limit != max(sigma, 1.0):
            limit = max(sigma, 1.0)
            first, middle, last = means.searchsorted((limit, 127.5, 255 - limit)).tolist()
            count = last - first
            if count < _LEAST_BLOCKS:
                return _UNKNOWN
            groups = _GROUPS if count >= _GROUPS * _LEAST_BLOCKS else 1
            size = count // groups
            usable = figures[:, first : first + groups * size]
        grouped = usable.copy()
        if sigma > 0:
            inside = np.minimum(usable[2], 255 - usable[2])
            grouped[:2] /= np.interp(inside / sigma, _CLIPPED_MEAN, _CLIPPED_VARIANCE)
        offset, slope = _line(_groups(grouped.reshape(3, groups, size)))
        before, sigma = sigma, math.sqrt(max(offset + slope * mean, 0.0))
        room = max(min(value, 255 - value) for value in means[max(middle - 1, 0) : middle + 1].tolist())
        if abs(sigma - before) < 0.02 * sigma or sigma < 0.02 * room:
            break  # and where noise is small, clipping is no matter
    return Noise(math.sqrt(max(sigma * sigma - rounding, 0.0)), count, offset - rounding, slope)


_PLACES = np.arange(4096, dtype=np.uint32)  # more than there are blocks
_PLACE_BITS = np.uint32(12)


def _by_brightness(means: NDArray[np.float32]) -> NDArray[np.uint32]:
    """argsort. Numbers that end in their places are sorted in half the time."""
    keys = (means * np.float32(4096)).astype(np.uint32)
    keys <<= _PLACE_BITS
    keys |= _PLACES[: len(means)]
    keys.sort()
    keys &= _PLACES[-1]
    return keys


def _groups(grouped: NDArray[np.float32]) -> list[tuple[float, float, float]]:
    """grouped (3, G, size): flatness, energy and mean of the blocks in groups of like brightness. Mean brightness,
    noise variance and the error of that, of each group.

    What little of the picture reaches the measured coefficients is proportional to what it has in the lower ones: the
    proportion is fitted over the flatter half of a group and taken off its flattest blocks.
    """
    groups, size = grouped.shape[1:]
    half, flat = min(max(size // 2, 8), size), max(round(size * _FLAT_SHARE), 8)
    # The bits of a float that is not negative sort as it does; the last of them give way to the place.
    keys = grouped[0].view(np.uint32) & ~_PLACES[-1] | _PLACES[:size]
    keys.sort(1)
    flatter = keys[:, :half] & _PLACES[-1]
    flatter += np.arange(0, groups * size, size, dtype=np.uint32)[:, None]
    chosen = grouped.reshape(3, -1).take(flatter, 1)
    low, variance, brightness = np.add.reduce(chosen[:, :, :flat], 2)
    x, y = pair = chosen[:2]
    np.minimum(y, 4 * np.sort(y, 1)[:, half // 2, None], out=y)
    pair -= np.add.reduce(pair, 2, keepdims=True) / np.float32(half)
    (xx, xy), yy = np.add.reduce(x * pair, 2), np.add.reduce(y * y, 1)
    found = []
    columns = (part.tolist() for part in (brightness, variance, low, xx, xy, yy))
    for brightness, variance, low, xx, xy, yy in zip(*columns, strict=True):
        variance, xx = variance / flat, xx + 1e-9
        leak, excess = xy / xx, max(low / flat - variance, 0.0)
        error = variance * math.sqrt(2 / (len(_HIGH) * flat)) + (0.5 * abs(leak) + math.sqrt(yy / half / xx)) * excess
        found.append((brightness / flat, max(variance - leak * excess, 0.0), error + 1e-6))
    return found


def _line(groups: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Offset and slope of noise variance over brightness, weighted by the groups' errors. The slope is 0 where it could
    be chance (under 3 standard errors)."""
    weighted = [(x, y, 1 / (error * error)) for x, y, error in groups]
    total = sum(weight for _, _, weight in weighted)
    centre = sum(weight * x for x, _, weight in weighted) / total
    level = sum(weight * y for _, y, weight in weighted) / total
    square = sum(weight * (x - centre) ** 2 for x, _, weight in weighted)
    if len(weighted) < 2 or square <= 0:
        return level, 0.0
    slope = sum(weight * (x - centre) * (y - level) for x, y, weight in weighted) / square
    if slope < 3 / math.sqrt(square):
        return level, 0.0
    if level - slope * centre < 0:  # no sensor has less noise in the dark than none
        return 0.0, sum(weight * x * y for x, y, weight in weighted) / sum(weight * x * x for x, _, weight in weighted)
    return level - slope * centre, slope


def channel_noise(
    source: NDArray, blocks: Blocks, noise: Noise, scale: float, rounding: tuple[float, float]
) -> tuple[float, ...]:
    """Noise in DN of each channel of (H, W, C): ``noise`` of its luma, times the ratio of channel to luma in the
    flattest of the luma's ``blocks``. rounding: variance in DN² of one step of source, and of the luma's values."""
    channels = source.shape[2]
    usable = np.flatnonzero((blocks.means > 6) & (blocks.means < 245))
    if not math.isfinite(noise.sigma) or len(usable) < _LEAST_BLOCKS:
        return (math.nan,) * channels
    count = min(_CHANNEL_BLOCKS, len(usable) - 1)
    chosen = usable[np.argpartition(blocks.figures[0, usable], count)[:count]]
    rows, columns = source.shape[0] // _N, source.shape[1] // _N
    step = _row_step(rows, columns)
    grid = source[: rows * _N, : columns * _N].reshape(rows, _N, columns, _N, channels)
    values = grid[step // 2 + chosen // columns * step, :, chosen % columns]  # (n, 8, 8, C)
    values = values.transpose(0, 3, 1, 2).reshape(-1, _N * _N).astype(np.float32)
    high = cv2.gemm(values, _BASIS[:, 1 + len(_LOW) :].copy(), scale, None, 0.0)  # type: ignore[call-overload]
    energy = np.einsum("ij,ij->i", high, high).reshape(count, channels).mean(0) / len(_HIGH)
    level = float(blocks.figures[1, chosen].mean()) - rounding[1]
    if level <= rounding[1]:
        return tuple(np.sqrt(np.maximum(energy - rounding[0], 0)).tolist())
    return tuple((noise.sigma * np.sqrt(np.maximum(energy - rounding[0], 0) / level)).tolist())


def two_frame_noise(now: Blocks, before: Blocks, rounding: float, mean: float) -> tuple[Noise, float]:
    """The noise of two frames of one scene at mean grey ``mean``, and the share of blocks that did not move.

    A block moved where its difference is not white (correlation of neighbours above 0.3, six standard errors below
    which white noise of 64 values seldom stays: one block in 50 is lost, at random) or shifted as a whole. Unknown
    where under half of the blocks stand still, and where nothing changed at all (a frozen picture has no noise to be
    seen).
    """
    if now.values.shape != before.values.shape or len(now.values) == 0:
        return _UNKNOWN, math.nan
    thin = slice(None, None, max(1, len(now.values) // 400))
    difference = np.subtract(now.values[thin], before.values[thin], dtype=np.float32)
    if now.scale != 1.0:
        difference *= np.float32(now.scale)
    shift = np.add.reduce(difference, 1) / np.float32(_N * _N)
    difference -= shift[:, None]
    energy = np.einsum("ij,ij->i", difference, difference)
    along = (difference[:, 1:] * difference[:, :-1]) @ _WITHIN_ROWS
    down = np.einsum("ij,ij->i", difference[:, _N:], difference[:, :-_N])
    limit = 0.3 * 56 / 64 * energy
    level = _median(energy) / 63
    whole = np.square(shift - np.float32(_median(shift))) < 16 * max(level, 1 / 6) / 64
    still = (np.abs(along) <= limit) & (np.abs(down) <= limit) & whole
    share = np.count_nonzero(still) / len(still)
    means = now.means[thin]
    room = np.minimum(means, 255 - means)
    used = (still & (energy > 0) & (room > max(3 * math.sqrt(level / 2), 2.0))).nonzero()[0]
    if share < 0.5 or len(used) < max(_LEAST_BLOCKS, 0.1 * len(means)):
        return _UNKNOWN, share
    rows = []
    ordered = used[np.argsort(means[used])]
    groups = _GROUPS if len(used) >= _GROUPS * _LEAST_BLOCKS else 1
    size, more = divmod(len(ordered), groups)
    ends = [(i + 1) * size + min(i + 1, more) for i in range(groups)]
    for start, end in zip([0, *ends], ends, strict=False):
        group = ordered[start:end]
        variance = energy[group] / (2 * 63)
        # Flat things that move pass for noise now and then, so the median; of 63 degrees of freedom it is 1.06 % low.
        middle = _median(variance) / (1 - 2 / (9 * 63)) ** 3
        rows.append((float(means[group].mean()), middle, 1.25 * middle * math.sqrt(2 / (63 * len(group))) + 1e-6))
    offset, slope = _line(rows)
    total = max(offset + slope * mean, 0.0)
    return Noise(math.sqrt(max(total - rounding, 0.0)), len(used), offset - rounding, slope), share


# 1 for each pair of neighbours of the same row of a block of 64 values, 0 where a row ends.
_WITHIN_ROWS = (np.arange(1, _N * _N) % _N > 0).astype(np.float32)


def _median(values: NDArray[np.float32]) -> float:
    """np.median of a few values, in a tenth of its time."""
    middle = len(values) // 2
    ordered = np.sort(values)
    return float(ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2)
