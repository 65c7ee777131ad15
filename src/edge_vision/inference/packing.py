"""Packed models: an ONNX file with its weights entropy-coded, as small as it can be shipped, unpacked when loaded.

    magic 8 | SHA-256 of all that follows 32 | SHA-256 of the ONNX file 32 | seven sizes, 4 bytes each
    head      (LZMA) how the weights' bytes were taken apart into planes, and the frequency tables of these
    skeleton  (LZMA) the ONNX file without the bytes of its large tensors
    plain     planes that do not get smaller, and the values of tensors that have few
    coder     first states, 4 bytes a lane, then 16-bit words

A tensor's bytes are elements of 1, 2, 4 or 8 bytes. Its zeros may be told by a mask, four elements a symbol, which
codes a 2:4 pattern in log2(6) bits; what is left is a plane of indices into the few values there are, or a plane of
each byte of the elements (the exponents of floats code well, their mantissas do not). All coded planes are one row of
symbols under a range coder (range_coder.py). Planes that look alike share a table.

Unpacking needs NumPy alone; packing is `edge_vision.optimize.packing`. What is not exactly what was packed is refused:
both sums are compared. They guard against damage; against somebody who means harm there are signatures (`security`).
"""

from __future__ import annotations

import hashlib
import lzma
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.errors import ModelError
from edge_vision.inference.range_coder import Damaged, decode, frequencies

SUFFIX = ".onnx.evp"
MAGIC = b"EVPACK\x00\x01"  # the last byte is the format's version
SIZES = struct.Struct("<7I")  # model, packed head, head, packed skeleton, skeleton, plain, lanes
HEADER_BYTES = len(MAGIC) + 64 + SIZES.size
LARGEST = (1 << 31) - 1  # bytes of an ONNX file: a protocol buffer is not larger
MOST_LANES = 1 << 16
MOST_TABLES = 255
FILTERS: list[dict[str, Any]] = [
    {"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 22, "lc": 3, "lp": 0, "pb": 0}
]
PLAIN = 0  # table of planes that are stored as they are
MASKED, INDEXED = 1, 2  # flags of a tensor
MASK_ELEMENTS = 4  # a symbol of a mask
MOST_TIMES_SMALLER = 1000  # than what is unpacked, and a MiB more: what claims to hold more is no model


def is_packed(path: Path) -> bool:
    return path.name.endswith(SUFFIX)


def unpack_file(path: Path) -> bytes:
    """The ONNX file that was packed to `path`. Raises ModelError where that is damaged or cannot be read."""
    try:
        return unpack_bytes(path.read_bytes())
    except Damaged as error:
        remedy = "copy or download it again, or pack the model again"
        raise ModelError(path, f"cannot be unpacked: {error}", remedy) from error
    except OSError as error:
        raise ModelError(path, f"cannot be read: {error.strerror}", "check the file and its permissions") from error


def unpack_bytes(content: bytes, most: int = LARGEST) -> bytes:
    """The ONNX file out of a packed one, bit for bit. most: its largest size in bytes.

    Raises Damaged for anything else than what was packed, before much memory is taken for it.
    """
    if not content.startswith(MAGIC[:-1]):
        raise Damaged("it does not begin as a packed model does")
    if len(content) < HEADER_BYTES:
        raise Damaged("it is cut off")
    if content[len(MAGIC) - 1] != MAGIC[-1]:
        raise Damaged(f"it is of format {content[len(MAGIC) - 1]}, and this version of edge_vision reads {MAGIC[-1]}")
    view = memoryview(content)
    start = len(MAGIC) + 32
    if hashlib.sha256(view[start:]).digest() != content[len(MAGIC) : start]:
        raise Damaged("it was changed or cut off")
    digest = content[start : start + 32]
    size, head_packed, head_size, skeleton_packed, skeleton_size, plain_size, lanes = SIZES.unpack_from(
        content, start + 32
    )
    if size > min(most, MOST_TIMES_SMALLER * len(content) + (1 << 20)):
        raise Damaged(f"it claims to be {size >> 20} MiB unpacked, which is more than is allowed")
    if max(head_size, skeleton_size) > size + 4096 or not 1 <= lanes <= MOST_LANES:
        raise Damaged("its sizes contradict each other")
    parts = []
    position = HEADER_BYTES
    for length in (head_packed, skeleton_packed, plain_size, 4 * lanes):
        parts.append(view[position : position + length])
        position += length
    if position > len(content) or (len(content) - position) % 2:
        raise Damaged("its sizes contradict each other")
    head = _Head(_decompressed(parts[0], head_size))
    tables, cuts = head.tables(), head.cuts(size)
    ids, counts = _planes_ahead(cuts, len(tables))
    states = np.frombuffer(parts[3], "<u4").astype(np.int64)
    words = np.frombuffer(view[position:], "<u2")
    symbols = decode(ids, counts, tables, states, words)
    model = _assembled(
        cuts, _Planes(symbols, np.frombuffer(parts[2], np.uint8)), _decompressed(parts[1], skeleton_size)
    )
    if len(model) != size or hashlib.sha256(model).digest() != digest:
        raise Damaged("what it holds is not what was packed")
    return model


def content_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of the ONNX file in the packed one, as its header states it."""
    with path.open("rb") as stream:
        return stream.read(HEADER_BYTES)[len(MAGIC) + 32 : len(MAGIC) + 64].hex()


@dataclass(frozen=True, slots=True)
class Cut:
    """A tensor's bytes that were taken out of the skeleton.

    gap: bytes of the skeleton since the one before; length: in bytes; itemsize: of an element; kept: elements that are
    told one by one, all but zeros under a mask; mask: the mask's table, -1 for none; values: how many different ones
    there are where elements are indices, else 0; tables: of each plane.
    """

    gap: int
    length: int
    itemsize: int
    kept: int
    mask: int
    values: int
    tables: tuple[int, ...]

    @property
    def elements(self) -> int:
        return self.length // self.itemsize

    def planes(self) -> Iterator[tuple[int, int]]:
        """(table, symbols) in the order in which they are stored."""
        if self.mask >= 0:
            yield self.mask, -(-self.elements // MASK_ELEMENTS)
        for table in self.tables:
            yield table, self.kept


class _Head:
    """Reads the head: little numbers in LEB128, column by column."""

    def __init__(self, content: bytes) -> None:
        self.content, self.position = content, 0

    def number(self) -> int:
        value = shift = 0
        while True:
            if self.position >= len(self.content) or shift > 35:
                raise Damaged("its head is cut off")
            byte = self.content[self.position]
            self.position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def numbers(self, count: int) -> list[int]:
        if count > len(self.content):
            raise Damaged("its head is cut off")
        return [self.number() for _ in range(count)]

    def tables(self) -> list[NDArray[np.int64]]:
        found = []
        count = self.number()
        if count > MOST_TABLES:
            raise Damaged(f"it has {count} tables")
        for _ in range(count):
            symbols = self.number()
            steps = self.content[self.position : self.position + symbols]
            self.position += symbols
            if not 1 <= symbols <= 256 or len(steps) < symbols:
                raise Damaged("a table is cut off")
            found.append(frequencies(np.cumsum(np.frombuffer(steps, np.uint8), dtype=np.uint8)))
        return found

    def cuts(self, size: int) -> list[Cut]:
        count = self.number()
        gaps, lengths, kinds, kept = (self.numbers(count) for _ in range(4))
        found = []
        for gap, length, kind, zeros in zip(gaps, lengths, kinds, kept, strict=True):
            itemsize, flags = 1 << (kind >> 2 & 3), kind & 3
            elements = length // itemsize
            if length % itemsize or length > size or zeros > elements:
                raise Damaged("a tensor's sizes contradict each other")
            mask = self.number() if flags & MASKED else -1
            values = self.number() if flags & INDEXED else 0
            if values > 256 or (zeros and mask < 0):
                raise Damaged("a tensor's sizes contradict each other")
            tables = tuple(self.numbers(1 if flags & INDEXED else itemsize))
            found.append(Cut(gap, length, itemsize, elements - zeros, mask, values, tables))
        if sum(lengths) > size:
            raise Damaged("its tensors are larger than the model")
        return found


def _decompressed(packed: memoryview, size: int) -> bytes:
    """What LZMA made `packed` of, which is `size` bytes and no more."""
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=FILTERS)
    try:
        content = decompressor.decompress(packed, size) if size else b""
    except lzma.LZMAError as error:
        raise Damaged(f"a part cannot be decompressed: {error}") from error
    if len(content) != size:
        raise Damaged("a part of it is cut off")
    return content


def _planes_ahead(cuts: list[Cut], tables: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Table (from 0) and length of the coded planes, in their order."""
    coded = [(table - 1, count) for cut in cuts for table, count in cut.planes() if table != PLAIN]
    if any(table >= tables for table, _ in coded):
        raise Damaged("a tensor names a table that there is not")
    ids = np.array([table for table, _ in coded], np.uint8)
    return ids, np.array([count for _, count in coded], np.int64)


class _Planes:
    """Hands out planes: coded ones, and plain ones."""

    def __init__(self, coded: NDArray[np.uint8], plain: NDArray[np.uint8]) -> None:
        self.coded, self.plain = coded, plain

    def take(self, table: int, count: int) -> NDArray[np.uint8]:
        source = self.plain if table == PLAIN else self.coded
        if len(source) < count:
            raise Damaged("its plain part is cut off")
        found, rest = source[:count], source[count:]
        if table == PLAIN:
            self.plain = rest
        else:
            self.coded = rest
        return found


def _assembled(cuts: list[Cut], planes: _Planes, skeleton: bytes) -> bytes:
    parts: list[bytes | memoryview] = []
    position = 0
    for cut in cuts:
        parts += [skeleton[position : position + cut.gap], np.ascontiguousarray(_tensor(cut, planes)).reshape(-1).data]
        position += cut.gap
    if position > len(skeleton) or len(planes.plain):
        raise Damaged("its sizes contradict each other")
    return b"".join([*parts, skeleton[position:]])


def _tensor(cut: Cut, planes: _Planes) -> NDArray[np.uint8]:
    """(elements, itemsize) bytes."""
    there = None
    if cut.mask >= 0:
        masks = planes.take(cut.mask, -(-cut.elements // MASK_ELEMENTS))
        there = np.unpackbits(masks[:, None], axis=1, count=MASK_ELEMENTS, bitorder="little").reshape(-1)
        there = there[: cut.elements].astype(bool)
        if np.count_nonzero(there) != cut.kept:
            raise Damaged("a mask does not fit its tensor")
    if cut.values:
        values = planes.take(PLAIN, cut.values * cut.itemsize).reshape(cut.values, cut.itemsize)
        indices = planes.take(cut.tables[0], cut.kept)
        if cut.kept and indices.max() >= cut.values:
            raise Damaged("an index names a value that there is not")
        elements = values[indices]
    else:
        elements = np.stack([planes.take(table, cut.kept) for table in cut.tables], axis=1)
    if there is None:
        return elements
    whole = np.zeros((cut.elements, cut.itemsize), np.uint8)
    whole[there] = elements
    return whole
