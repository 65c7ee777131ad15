"""Real images in OpenCV's packed spectrum: half the numbers of a complex transform, and several times as fast.

`cv2.dft` of an (H, W) float32 image packs real and imaginary parts into (H, W) again (CCS format). A filter whose
frequency response is real and point-symmetric, which a symmetric point spread function has, multiplies both parts
alike, so that it is one (H, W) array over the same places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

MARGIN = 32  # px around a tile that are transformed with it: spectra are periodic, pictures are not
_BORDER = cv2.BORDER_REFLECT_101
_TILE = 320  # px that a tile is about high and wide: with its spectrum it stays in the processor's cache


@lru_cache(maxsize=4)
def packed_frequencies(height: int, width: int) -> tuple[NDArray, NDArray]:
    """Signed vertical and horizontal frequency (cycles/px) of every place of a packed (height, width) spectrum."""
    row, column = np.arange(height), np.arange(width)
    fx = np.broadcast_to((column + 1) // 2, (height, width)) / width
    signed = np.where(row <= height // 2, row, row - height)[:, None]
    fy = np.repeat(signed, width, 1)
    # The columns of frequency 0 and, where the width is even, of the highest are themselves packed downwards.
    for end in {0, width - 1} if width % 2 == 0 else {0}:
        fy[:, end] = (row + 1) // 2
    return (fy / height).astype(np.float32), fx.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Tiling:
    """How an image is cut into equal tiles. rows, columns: how many; height, width: px of each without margins;
    transformed: the size of its spectrum."""

    rows: int
    columns: int
    height: int
    width: int
    transformed: tuple[int, int]


def tiling(height: int, width: int) -> Tiling:
    """The tiles of an image of that size; together they may reach beyond it."""
    rows, columns = max(1, round(height / _TILE)), max(1, round(width / _TILE))
    high, wide = -(-height // rows), -(-width // columns)
    size = cv2.getOptimalDFTSize(high + 2 * MARGIN), cv2.getOptimalDFTSize(wide + 2 * MARGIN)
    return Tiling(rows, columns, high, wide, size)


def filtered_tiles(
    plane: NDArray, gain: NDArray, tiles: Tiling
) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice], NDArray]]:
    """plane (h, w) through a filter given at the places of the packed spectrum of ``tiles.transformed``, tile by tile.

    Yields where the tile lies in the image, where in the filtered array, and that: float32, with margins in which it is
    worth less the farther out, and reused for the next tile.
    """
    height, width = plane.shape
    rows, columns = tiles.transformed
    below = (tiles.rows - 1) * tiles.height + rows - MARGIN - height
    right = (tiles.columns - 1) * tiles.width + columns - MARGIN - width
    padded = cv2.copyMakeBorder(plane, MARGIN, max(below, 0), MARGIN, max(right, 0), _BORDER)
    buffer = np.empty(tiles.transformed, np.float32)
    for top in range(0, height, tiles.height):
        high = min(tiles.height, height - top)
        for left in range(0, width, tiles.width):
            wide = min(tiles.width, width - left)
            np.copyto(buffer, padded[top : top + rows, left : left + columns])
            cv2.dft(buffer, dst=buffer)
            cv2.multiply(buffer, gain, dst=buffer)
            cv2.idft(buffer, dst=buffer, flags=cv2.DFT_SCALE)
            inside = slice(MARGIN, MARGIN + high), slice(MARGIN, MARGIN + wide)
            yield (slice(top, top + high), slice(left, left + wide)), inside, buffer
