"""Writes packed models. What is read back is compared before anything is handed out."""

from __future__ import annotations

import hashlib
import lzma
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.packing import (
    FILTERS,
    INDEXED,
    LARGEST,
    MAGIC,
    MASKED,
    MOST_TABLES,
    MOST_TIMES_SMALLER,
    PLAIN,
    SIZES,
    unpack_bytes,
)
from edge_vision.optimize.packing.coder import codes_of, encode, entropy_bits, grouped, table_bits
from edge_vision.optimize.packing.planes import Apart, taken_apart
from edge_vision.optimize.packing.spans import Span, spans

MOST_GROUPED = 512  # planes that are compared with each other; in a larger model the small ones share by their kind


@dataclass(frozen=True)
class Packed:
    """content: the file. The rest are bytes of it: head (tables and how tensors were taken apart), skeleton (the graph
    and small tensors), plain (values, planes that do not get smaller), coded. bound: what the coded planes' entropy
    is, each with the frequencies of its table."""

    content: bytes
    head: int
    skeleton: int
    plain: int
    coded: int
    bound: int


def pack_bytes(model: bytes) -> Packed:
    """The packed form of a serialised ONNX model. Raises ValueError for what is none."""
    if len(model) > LARGEST:
        raise ValueError(f"the model has {len(model)} bytes; a protocol buffer is at most {LARGEST}")
    found = spans(model)
    plain = [(span, taken_apart(model[span.start : span.stop], span.itemsize)) for span in found]
    ordered = [(span, taken_apart(model[span.start : span.stop], span.itemsize, True)) for span in found]
    packed = _packed(model, plain)
    if any(apart is not None and span.itemsize == 1 and apart.values is not None for span, apart in ordered):
        packed = min(packed, _packed(model, ordered), key=lambda one: len(one.content))
    if len(model) > MOST_TIMES_SMALLER * len(packed.content) + (1 << 20):
        raise ValueError(f"the model is {len(model)} bytes of almost nothing, which would be refused when it is loaded")
    if unpack_bytes(packed.content) != model:
        raise AssertionError("the packed model is not what was packed")
    return packed


def _packed(model: bytes, apart_of: Sequence[tuple[Span, Apart | None]]) -> Packed:
    cuts = [(span, apart) for span, apart in apart_of if apart is not None]
    planes = [plane for _, apart in cuts for plane in apart.all_planes]
    table_of, tables, bound = _tables(planes)
    coded = [(plane, table - 1) for plane, table in zip(planes, table_of, strict=True) if table != PLAIN]
    symbols = np.concatenate([plane for plane, _ in coded]) if coded else np.empty(0, np.uint8)
    ids = np.array([table for _, table in coded], np.uint8)
    states, words = encode(symbols, ids, np.array([len(plane) for plane, _ in coded], np.int64), tables)
    skeleton, head, plain, position, plane_number = [], _Head(tables), [], 0, 0
    for span, apart in cuts:
        chosen = table_of[plane_number : plane_number + len(apart.all_planes)]
        plane_number += len(chosen)
        head.add(span.start - position, apart, chosen)
        skeleton.append(model[position : span.start])
        position = span.stop
        plain += _plain_parts(apart, chosen)
    skeleton.append(model[position:])
    parts = [head.content(), b"".join(skeleton), b"".join(plain)]
    small = [lzma.compress(part, lzma.FORMAT_RAW, filters=FILTERS) if part else b"" for part in parts[:2]]
    code = states.astype("<u4").tobytes() + words.astype("<u2").tobytes()
    sizes = SIZES.pack(
        len(model), len(small[0]), len(parts[0]), len(small[1]), len(parts[1]), len(parts[2]), len(states)
    )
    body = hashlib.sha256(model).digest() + sizes + small[0] + small[1] + parts[2] + code
    content = MAGIC + hashlib.sha256(body).digest() + body
    return Packed(content, len(small[0]), len(small[1]), len(parts[2]), len(code), bound)


def _tables(planes: Sequence[NDArray[np.uint8]]) -> tuple[list[int], list[NDArray[np.uint8]], int]:
    """Table of each plane, `PLAIN` or from 1; the tables' codes; the coded planes' entropy in bytes."""
    histograms = [np.bincount(plane, minlength=256) for plane in planes]
    if not histograms:
        return [], [], 0
    first = _roughly_grouped(histograms)
    sums = [
        np.sum([histogram for histogram, group in zip(histograms, first, strict=True) if group == k], axis=0)
        for k in range(max(first) + 1)
    ]
    group_of, groups = grouped(sums, MOST_TABLES)
    group_of = [group_of[k] for k in first]
    totals = np.array(groups)
    worth = (entropy_bits(totals) + table_bits(totals) < 8.0 * totals.sum(axis=1)) & totals.any(axis=1)
    number = np.where(worth, np.cumsum(worth), PLAIN)
    codes = [codes_of(group) for group, good in zip(groups, worth, strict=True) if good]
    return [int(number[k]) for k in group_of], codes, int(entropy_bits(totals[worth]).sum() / 8)


def _roughly_grouped(histograms: Sequence[NDArray]) -> list[int]:
    """Numbers from 0: each plane its own, but that beyond `MOST_GROUPED` the smallest join those of a like mean and
    spread, which are what the exponents and quantised weights differ by."""
    count = len(histograms)
    if count <= MOST_GROUPED:
        return list(range(count))
    sizes = [int(histogram.sum()) for histogram in histograms]
    largest = sorted(range(count), key=lambda i: -sizes[i])[: MOST_GROUPED // 2]
    found = {i: place for place, i in enumerate(largest)}
    kinds: dict[tuple[int, int], int] = {}
    symbols = np.arange(256)
    for i, histogram in enumerate(histograms):
        if i not in found:
            mean = float((histogram * symbols).sum()) / max(sizes[i], 1)
            spread = float((histogram * (symbols - mean) ** 2).sum() / max(sizes[i], 1)) ** 0.5
            kind = (int(mean) // 16, int(np.log2(1 + spread) * 2))
            found[i] = kinds.setdefault(kind, len(largest) + len(kinds))
    return [found[i] for i in range(count)]


def _plain_parts(apart: Apart, tables: Sequence[int]) -> list[bytes]:
    """In the order in which the decoder asks for them: of a mask, the values, the planes."""
    masks = 1 if apart.mask is not None else 0
    parts = [
        plane.tobytes() for plane, table in zip(apart.all_planes[:masks], tables[:masks], strict=True) if table == PLAIN
    ]
    if apart.values is not None:
        parts.append(apart.values.tobytes())
    return parts + [
        plane.tobytes() for plane, table in zip(apart.all_planes[masks:], tables[masks:], strict=True) if table == PLAIN
    ]


class _Head:
    """Writes what `inference.packing` reads: tables, then the cuts column by column."""

    def __init__(self, tables: Sequence[NDArray[np.uint8]]) -> None:
        self.tables = tables
        self.columns: list[list[int]] = [[], [], [], []]
        self.rest: list[int] = []

    def add(self, gap: int, apart: Apart, tables: Sequence[int]) -> None:
        masked, indexed = apart.mask is not None, apart.values is not None
        kind = (apart.itemsize.bit_length() - 1) << 2 | MASKED * masked | INDEXED * indexed
        row = (gap, apart.elements * apart.itemsize, kind, apart.elements - apart.kept)
        for column, value in zip(self.columns, row, strict=True):
            column.append(value)
        masks = 1 if masked else 0
        self.rest += [*tables[:masks], *([len(apart.values)] if apart.values is not None else []), *tables[masks:]]

    def content(self) -> bytes:
        out = bytearray(_leb128(len(self.tables)))
        for codes in self.tables:
            out += _leb128(len(codes)) + np.diff(codes, prepend=np.uint8(0)).astype(np.uint8).tobytes()
        out += _leb128(len(self.columns[0]))
        for value in [value for column in self.columns for value in column] + self.rest:
            out += _leb128(value)
        return bytes(out)


def _leb128(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
