"""Signs as bits: 1 for +1, 0 for -1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WORD = 64

if hasattr(np, "bitwise_count"):  # NumPy 2

    def bit_count(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """How many bits are set in each word."""
        return np.bitwise_count(words)

else:
    _COUNTS = np.unpackbits(np.arange(1 << 16, dtype="<u2").view(np.uint8).reshape(-1, 2), axis=1).sum(
        1, dtype=np.uint8
    )

    def bit_count(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """How many bits are set in each word."""
        parts = np.ascontiguousarray(words).view(np.uint16).reshape(*words.shape, 4)
        return _COUNTS[parts].sum(-1, dtype=np.uint8)


def packed_words(positive: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """(..., C) truth values as (..., ceil(C / 64)) words; unused bits are 0."""
    count = positive.shape[-1]
    packed = np.packbits(positive, axis=-1, bitorder="little")
    missing = -(-count // WORD) * 8 - packed.shape[-1]
    if missing:
        packed = np.pad(packed, [(0, 0)] * (packed.ndim - 1) + [(0, missing)])
    return np.ascontiguousarray(packed).view(np.uint64)


def packed_bytes(weights: NDArray) -> NDArray[np.uint8]:
    """Signs of weights (0 counts as +1) in their order, the first in a byte's highest bit: ceil(n / 8) bytes."""
    return np.packbits(weights.reshape(-1) >= 0)


def unpacked(content: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Weights +1 and -1 of this shape out of `packed_bytes`."""
    signs = np.unpackbits(content)[: int(np.prod(shape))]
    return (signs.astype(np.float32) * 2 - 1).reshape(shape)
