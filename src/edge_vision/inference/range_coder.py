"""A static range coder for bytes, decoded with NumPy.

rANS (Duda: Asymmetric numeral systems, arXiv:1311.2540) with states of 32 bits and words of 16, in as many interleaved
lanes (Giesen: Interleaved entropy coders, arXiv:1402.3392) as make NumPy fast: one step decodes a symbol of every lane.
Each symbol is coded under the table that is said beforehand. The other half is `edge_vision.optimize.packing.coder`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PROBABILITY_BITS = 14
SCALE = 1 << PROBABILITY_BITS
LEAST_STATE = 1 << 16
OCTAVE = np.array([256, 279, 304, 332, 362, 395, 431, 470])  # 256 * 2^(k/8)


class Damaged(ValueError):
    """The bytes are no packed model, or not as they were packed; the text says what shows it."""


def frequencies(codes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(256,) frequencies that add up to `SCALE`, out of a byte for each symbol: 0 for one that does not occur, else
    1 + 8 log2 of how often it does. Integers alone, so that every machine gets the same."""
    steps = codes.astype(np.int64) - 1
    weights = np.where(codes > 0, OCTAVE[steps % 8] << np.clip(steps // 8, 0, 32), 0)
    total = int(weights.sum())
    if not total:
        raise Damaged("a table is empty")
    shares = np.where(weights > 0, np.maximum(weights * SCALE // total, 1), 0)
    order = np.argsort(-shares, kind="stable")
    rest = SCALE - int(shares.sum())
    if rest >= 0:
        shares[order[0]] += rest
    for symbol in order:  # too many at least once: taken from the most frequent
        if rest >= 0:
            break
        taken = min(-rest, int(shares[symbol]) // 2)
        shares[symbol] -= taken
        rest += taken
    return np.pad(shares, (0, 256 - len(shares)))


def decode(
    ids: NDArray[np.uint8],
    counts: NDArray[np.int64],
    tables: list[NDArray[np.int64]],
    states: NDArray[np.int64],
    words: NDArray[np.uint16],
) -> NDArray[np.uint8]:
    """All coded planes' symbols, one after the other.

    ids, counts: table and length of each plane; states (lanes,): the coder's, read first; words: what it reads as it
    goes. Symbol i is lane i mod lanes's. Raises Damaged where words are missing or left over.
    """
    total, lanes = int(counts.sum()), len(states)
    symbols = np.empty(total, np.uint8)
    # Of each slot of each table: frequency << 24 | slot - start of the symbol << 8 | symbol, to be had in one look-up.
    slots = np.empty((max(len(tables), 1), SCALE), np.int64)
    for slot, table in zip(slots, tables, strict=False):
        symbol = np.repeat(np.arange(256), table)
        offset = np.arange(SCALE) - (np.cumsum(table) - table)[symbol]
        slot[:] = table[symbol] << 24 | offset << 8 | symbol
    looked_up = slots.reshape(-1)
    table_of = np.repeat(ids, counts)
    state = states.copy()
    position = 0
    for start in range(0, total, lanes):
        x = state[: min(lanes, total - start)]
        stop = start + len(x)
        index = table_of[start:stop].astype(np.int64)
        index <<= PROBABILITY_BITS
        index += x & (SCALE - 1)
        entry = looked_up[index]
        symbols[start:stop] = entry.astype(np.uint8)
        x >>= PROBABILITY_BITS
        x *= entry >> 24
        entry >>= 8
        entry &= 0xFFFF
        x += entry
        low = np.flatnonzero(x < LEAST_STATE)
        following = words[position : position + len(low)]
        if len(following) < len(low):
            raise Damaged("its coded part is cut off")
        x[low] = x[low] << 16 | following
        position += len(low)
    if position != len(words) or np.any(state != LEAST_STATE):
        raise Damaged("its coded part does not end where it should")
    return symbols
