"""Taking a tensor's bytes apart into planes of symbols that code well (the format: `edge_vision.inference.packing`)."""

from __future__ import annotations

import lzma
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.packing import FILTERS, MASK_ELEMENTS
from edge_vision.optimize.packing.coder import CUT_BITS, entropy_bits, table_bits

LEAST_BYTES = 48  # smaller tensors stay in the skeleton: saying how they are coded would take as much
MOST_VALUES = 256
MOST_BYTES = 64  # different ones of a tensor of bytes that can be told by their order: clusters, made integers


@dataclass(frozen=True, slots=True)
class Apart:
    """A tensor's bytes as planes. itemsize: of its elements; elements: how many; kept: those not under the mask; mask,
    values: None where there are none, values (k, itemsize) uint8; planes: uint8 each, of `kept` symbols."""

    itemsize: int
    elements: int
    kept: int
    mask: NDArray[np.uint8] | None
    values: NDArray[np.uint8] | None
    planes: tuple[NDArray[np.uint8], ...]

    @property
    def all_planes(self) -> tuple[NDArray[np.uint8], ...]:
        """In the order in which they are stored."""
        return self.planes if self.mask is None else (self.mask, *self.planes)

    def bits(self, alone: bool = False) -> float:
        """An estimate of what it takes; alone: with tables of its own."""
        histograms = np.array([np.bincount(plane, minlength=256) for plane in self.all_planes])
        tables = table_bits(histograms) if alone else 0.0
        coded = np.minimum(entropy_bits(histograms) + tables, 8.0 * histograms.sum(axis=1))
        return float((coded + CUT_BITS).sum()) + (0 if self.values is None else 8.0 * self.values.size)


def taken_apart(content: bytes, itemsize: int, ordered_bytes: bool = False) -> Apart | None:
    """The planes of a tensor's bytes, the way that takes least; None where a general compressor does better.

    ordered_bytes: few different bytes are told by their place among those that there are, which makes tensors alike
    whose values are not."""
    if len(content) < LEAST_BYTES:
        return None
    elements = np.frombuffer(content, np.uint8).reshape(-1, itemsize)
    forms = [_form(elements, masked, indexed) for masked in (False, True) for indexed in (False, True)]
    if ordered_bytes and itemsize == 1 and forms[1] is not None:
        forms = forms[1::2]
    elif itemsize == 1:
        forms = forms[::2]
    best = min((form for form in forms if form is not None), key=Apart.bits)
    if len(content) <= 1 << 16 or best.bits() < len(content):  # repeated ones: grids, tables, constants
        general = 8 * len(lzma.compress(content, lzma.FORMAT_RAW, filters=FILTERS))
        if general < best.bits():
            return None
    return best


def _form(elements: NDArray[np.uint8], masked: bool, indexed: bool) -> Apart | None:
    count, itemsize = elements.shape
    mask = values = None
    rest = elements
    if masked:
        there = elements.any(axis=1)
        if there.all():
            return None
        padded = np.pad(there, (0, -count % MASK_ELEMENTS)).reshape(-1, MASK_ELEMENTS)
        mask = np.packbits(padded, axis=1, bitorder="little").reshape(-1)
        rest = elements[there]
    planes = tuple(np.ascontiguousarray(rest[:, k]) for k in range(itemsize))
    if indexed:
        if not len(rest):
            return None
        numbers = np.ascontiguousarray(rest).view(f"<u{itemsize}").reshape(-1)
        if len(np.unique(numbers[: 4 * MOST_VALUES])) > MOST_VALUES:
            return None
        found, index = np.unique(numbers, return_inverse=True)
        if len(found) > (MOST_VALUES if itemsize > 1 else MOST_BYTES):
            return None
        if itemsize == 1:  # as signed numbers, so that what is alike in two tensors has one place
            index = np.argsort(np.argsort(found.view(np.int8)))[index.reshape(-1)]
            found = found[np.argsort(found.view(np.int8))]
        values = found.view(np.uint8).reshape(-1, itemsize)
        planes = (index.reshape(-1).astype(np.uint8),)
    return Apart(itemsize, count, len(rest), mask, values, planes)
