"""The coding half of `edge_vision.inference.range_coder`, and what goes before it: which planes share a table.

rANS is last in, first out: the coder works from the last symbol to the first, the decoder the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.range_coder import LEAST_STATE, PROBABILITY_BITS, SCALE, frequencies

USED_BITS, UNUSED_BITS = 5.5, 0.7  # that a symbol of a table, and a gap in it, take in the compressed head
CUT_BITS = 8.0  # that naming another table takes


def entropy_bits(histograms: NDArray) -> NDArray[np.float64]:
    """Bits of all symbols of each histogram (..., 256) under its own frequencies (Shannon's bound)."""
    counts = histograms.astype(np.float64)
    total = counts.sum(axis=-1)
    logs = np.where(counts > 0, np.log2(np.maximum(counts, 1)), 0)
    return total * np.log2(np.maximum(total, 1)) - (counts * logs).sum(axis=-1)


def table_bits(histograms: NDArray) -> NDArray[np.float64]:
    """What the table of each histogram (..., 256) takes, as an estimate."""
    used = np.count_nonzero(histograms, axis=-1)
    spans = np.where(used > 0, 256 - np.argmax(histograms[..., ::-1] > 0, axis=-1), 0)
    return 16 + used * USED_BITS + (spans - used) * UNUSED_BITS


def codes_of(histogram: NDArray) -> NDArray[np.uint8]:
    """A table as it is stored: 1 + 8 log2 of each symbol's frequency, to the nearest; up to the last that occurs."""
    counts = histogram[: int(np.flatnonzero(histogram)[-1]) + 1].astype(np.float64)
    scaled = counts / counts.sum() * (1 << 24)  # so that the rarest of 16 million has a frequency
    codes = np.round(8 * np.log2(np.maximum(scaled, 1))).astype(np.int64)
    return np.where(counts > 0, 1 + np.clip(codes, 0, 254), 0).astype(np.uint8)


def grouped(histograms: Sequence[NDArray], most: int) -> tuple[list[int], list[NDArray[np.int64]]]:
    """Which planes share a table: the group of each, and the groups' histograms, `most` at most.

    Two groups become one, the best first, as long as what their symbols lose is less than what a table takes
    (agglomerative clustering by description length).
    """
    sums = np.array(histograms, np.int64).reshape(-1, 256)
    member: list[int] = list(range(len(sums)))
    alive = np.ones(len(sums), bool)
    cost = entropy_bits(sums) + table_bits(sums)

    def gains(i: int) -> NDArray[np.float64]:
        """What joining i with each saves."""
        joined = sums + sums[i]
        saved = cost + cost[i] - entropy_bits(joined) - table_bits(joined)
        saved[~alive] = -np.inf
        saved[i] = -np.inf
        return saved

    saving = np.full((len(sums), len(sums)), -np.inf)
    for i in range(len(sums)):
        saving[i] = gains(i)
    while alive.sum() > 1:
        best = int(np.argmax(saving))
        i, j = divmod(best, len(sums))
        if saving[i, j] <= 0 and alive.sum() <= most:
            break
        sums[i] += sums[j]
        cost[i] = entropy_bits(sums[i]) + table_bits(sums[i])
        alive[j] = False
        member = [i if group == j else group for group in member]
        saving[j] = -np.inf
        saving[:, j] = -np.inf
        saving[i] = gains(i)
        saving[:, i] = saving[i]
    kept = np.flatnonzero(alive)
    place = {int(old): new for new, old in enumerate(kept)}
    return [place[group] for group in member], [sums[group] for group in kept]


def lanes_for(symbols: int) -> int:
    """Lanes take 2 bytes each, and NumPy is fast with many."""
    return int(np.clip(symbols // 1024, 1, 1 << 13))


def encode(
    symbols: NDArray[np.uint8], ids: NDArray[np.uint8], counts: NDArray[np.int64], codes: Sequence[NDArray[np.uint8]]
) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
    """(states, words) that `range_coder.decode` makes `symbols` of, whose planes have the tables `ids` and lengths
    `counts`; codes: the tables as they are stored. A symbol that its table lacks raises ValueError."""
    tables = np.array([frequencies(code) for code in codes], np.int64).reshape(-1, 256)
    frequency, start_of = tables.reshape(-1), (np.cumsum(tables, axis=1) - tables).reshape(-1)
    index = np.repeat(ids.astype(np.int64), counts) * 256 + symbols
    if len(index) and not frequency[index].all():
        raise ValueError("a symbol is missing in its table")
    lanes = lanes_for(len(symbols))
    state = np.full(lanes, LEAST_STATE, np.int64)
    written: list[NDArray[np.uint16]] = []
    for start in range((len(symbols) - 1) // lanes * lanes, -1, -lanes):
        step = index[start : start + lanes]
        x = state[: len(step)]
        share, offset = frequency[step], start_of[step]
        full = np.flatnonzero(x >= share << (32 - PROBABILITY_BITS))
        written.append((x[full] & 0xFFFF).astype(np.uint16))
        x[full] >>= 16
        quotient, remainder = np.divmod(x, share)
        x[:] = quotient * SCALE + remainder + offset
    words = np.concatenate(written[::-1]) if written else np.empty(0, np.uint16)
    return state.astype(np.uint32), words
