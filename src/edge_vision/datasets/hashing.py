"""Thumbnails of images and 64-bit perceptual hashes of them, and the nearest hashes, without loops over pairs.

The hash is that of Zauner 2010 (Implementation and Benchmarking of Perceptual Image Hash Functions) over a DCT: the 8 x
8 lowest frequencies of a 32 x 32 thumbnail, one bit each. Plain: above the median of the image's own coefficients.
Relative: above the median that this coefficient has over the whole set, which takes out what all the pictures of a
fixed camera share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 64
_HASHED = 32
_NOISE = 48.0  # of a coefficient, about a tenth of a grey level in every pixel: what is less is no bit, but noise
_BLOCK = 1 << 22  # pairs looked at at once
_POPCOUNT16 = np.array([bin(i).count("1") for i in range(1 << 16)], np.uint8)


def thumbnail(image: Path) -> NDArray[np.uint8] | None:
    """(64, 64) uint8 grey, every pixel the mean of what it covers; None where the file cannot be decoded."""
    # A quarter of the size is enough, and JPEG decodes to it four times as fast; small files are read whole.
    grey = cv2.imread(str(image), cv2.IMREAD_REDUCED_GRAYSCALE_4)
    if grey is not None and min(grey.shape) < 2 * SIDE:
        grey = cv2.imread(str(image), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        return None
    return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def thumbnails(
    images: Sequence[Path], advance: Callable[[int], None] | None = None, threads: int = 4
) -> tuple[NDArray[np.uint8], list[int]]:
    """(N, 64, 64) uint8, and the indices of files that cannot be decoded (their thumbnails are black)."""
    found = np.zeros((len(images), SIDE, SIDE), np.uint8)
    broken = []
    with ThreadPoolExecutor(threads) as pool:
        shown: Iterable[NDArray[np.uint8] | None] = pool.map(thumbnail, images)
        for index, one in enumerate(shown):
            if one is None:
                broken.append(index)
            else:
                found[index] = one
            if advance is not None:
                advance(1)
    return found, broken


def coefficients(small: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, 64) float32: the 8 x 8 lowest DCT frequencies of (N, 64, 64) thumbnails."""
    halved = small.reshape(len(small), _HASHED, 2, _HASHED, 2).astype(np.float32).mean((2, 4))
    k, n = np.arange(8)[:, None], np.arange(_HASHED)[None]
    basis = np.cos(np.pi * (2 * n + 1) * k / (2 * _HASHED)).astype(np.float32)
    return (basis @ halved @ basis.T).reshape(len(small), 64)


def plain_hashes(dct: NDArray[np.float32]) -> NDArray[np.uint64]:
    """(N,) uint64 of (N, 64) coefficients: bit i where coefficient i is above the median of those but the mean's."""
    return _packed(dct > np.median(dct[:, 1:], axis=1, keepdims=True) + _NOISE)


def relative_hashes(dct: NDArray[np.float32]) -> NDArray[np.uint64]:
    """(N,) uint64: bit i where coefficient i is above its median over the set."""
    return _packed(dct > np.median(dct, axis=0, keepdims=True) + _NOISE)


def _packed(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    return np.packbits(bits, axis=1).view(np.uint64).ravel()


def distances(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """(A, B) uint8: bits that differ."""
    differ = a[:, None] ^ b[None]
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(differ)
    return _POPCOUNT16[differ.view(np.uint16).reshape(*differ.shape, 4)].sum(-1, dtype=np.uint8)


def nearest(
    a: NDArray[np.uint64],
    b: NDArray[np.uint64],
    count: int,
    limit: int,
    groups: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """Pairs (i, j, bits apart): for every hash of ``a`` the ``count`` nearest of ``b`` within ``limit`` bits.

    groups: a number for every hash of ``a`` and of ``b``; pairs of equal numbers are passed over. All pairs are looked
    at, in blocks: 10^8 of them take about a second.
    """
    rows, columns, apart = [], [], []
    step = max(1, _BLOCK // max(1, len(b)))
    for start in range(0, len(a) if len(b) else 0, step):
        block = distances(a[start : start + step], b)
        if groups is not None:
            block[groups[0][start : start + step, None] == groups[1][None]] = 255
        near = block <= limit
        for row in np.flatnonzero(near.sum(1) > count).tolist():  # only the nearest of too many
            near[row] = False
            near[row, np.argpartition(block[row], count - 1)[:count]] = True
        i, j = np.nonzero(near)
        rows.append(i + start)
        columns.append(j)
        apart.append(block[i, j])
    if not rows:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8)
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(apart)
