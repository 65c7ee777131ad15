"""A convolution of signs by exclusive or and bit count (Rastegari et al. 2016, arXiv:1603.05279).

The product of two signs is +1 where their bits are equal, so a sum of n products is n - 2 x (bits that differ): 64
multiplications and additions in three operations on words. The result is exact, and equal to that of the convolution in
float.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_vision.optimize.binary.bits import bit_count, packed_words


class BinaryConvolution:
    """Of weights (O, C, kh, kw), of which the signs count (0 as +1).

    strides: down, right. pads: top, left, bottom, right, of +1 all over: a 0 has no bit.
    """

    def __init__(
        self,
        weights: NDArray,
        strides: tuple[int, int] = (1, 1),
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    ) -> None:
        outputs, channels, height, width = weights.shape
        self.outputs, self.channels, self.size = outputs, channels, (height, width)
        self.strides, self.pads = strides, pads
        words = packed_words(weights.transpose(2, 3, 0, 1) >= 0)
        self.weights = words.reshape(height * width, outputs, -1)
        self._ones = packed_words(np.ones(channels, bool))

    @property
    def stored_bytes(self) -> int:
        """One bit a weight."""
        return -(-self.outputs * self.channels * self.size[0] * self.size[1] // 8)

    def __call__(self, positive: NDArray[np.bool_]) -> NDArray[np.int32]:
        """(C, H, W), True for +1, to sums (O, H', W')."""
        words = packed_words(positive.transpose(1, 2, 0))
        top, left, bottom, right = self.pads
        if any(self.pads):
            height, width = words.shape[:2]
            padded = np.empty((height + top + bottom, width + left + right, words.shape[2]), np.uint64)
            padded[...] = self._ones
            padded[top : top + height, left : left + width] = words
            words = padded
        down, across = self.strides
        rows = (words.shape[0] - self.size[0]) // down + 1
        columns = (words.shape[1] - self.size[1]) // across + 1
        differing = np.zeros((self.outputs, rows * columns), np.uint16)
        for place in range(len(self.weights)):
            y, x = divmod(place, self.size[1])
            seen = words[y : y + (rows - 1) * down + 1 : down, x : x + (columns - 1) * across + 1 : across]
            seen = seen.reshape(rows * columns, -1)
            for word in range(seen.shape[1]):
                column = np.ascontiguousarray(seen[:, word])
                differing += bit_count(self.weights[place, :, word, None] ^ column)
        total = self.channels * self.size[0] * self.size[1]
        return (total - 2 * differing.astype(np.int32)).reshape(self.outputs, rows, columns)
