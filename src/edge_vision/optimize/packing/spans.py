"""Where the raw bytes of tensors lie in a serialised ONNX model (onnx.proto3: field numbers in the comments)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

ITEMSIZES = {1: 4, 4: 2, 5: 2, 6: 4, 7: 8, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
"""TensorProto.DataType to bytes of an element, where that is not one."""
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` to `stop` of the serialised model are elements of `itemsize` bytes."""

    start: int
    stop: int
    itemsize: int


def spans(model: bytes) -> list[Span]:
    """The raw data of all tensors in the graph and its subgraphs, in their order. Raises ValueError for bytes that are
    no ONNX model."""
    found = []
    for number, start, stop in _fields(model, 0, len(model)):
        if number == 7:  # ModelProto.graph
            found += list(_graph(model, start, stop))
    return sorted((span for span in found if span.stop > span.start), key=lambda span: span.start)


def _graph(data: bytes, start: int, stop: int) -> Iterator[Span]:
    for number, inner, end in _fields(data, start, stop):
        if number == 5:  # initializer
            yield from _tensor(data, inner, end)
        elif number == 1:  # node
            for key, first, last in _fields(data, inner, end):
                if key == 5:  # attribute
                    yield from _attribute(data, first, last)


def _attribute(data: bytes, start: int, stop: int) -> Iterator[Span]:
    for number, inner, end in _fields(data, start, stop):
        if number in (5, 10):  # t, tensors
            yield from _tensor(data, inner, end)
        elif number in (6, 11):  # g, graphs
            yield from _graph(data, inner, end)


def _tensor(data: bytes, start: int, stop: int) -> Iterator[Span]:
    kind, raw = 0, None
    for number, inner, end in _fields(data, start, stop):
        if number == 2:  # data_type
            kind = _varint(data, inner)[0]
        elif number == 9:  # raw_data
            raw = (inner, end)
    if raw is not None:
        itemsize = ITEMSIZES.get(kind, 1)
        yield Span(*raw, itemsize if (raw[1] - raw[0]) % itemsize == 0 else 1)


def _fields(data: bytes, position: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(field number, start, stop) of the value of every field of a message."""
    while position < stop:
        key, position = _varint(data, position)
        kind = key & 7
        start = position
        if kind == VARINT:
            _, position = _varint(data, position)
        elif kind == BYTES:
            size, start = _varint(data, position)
            position = start + size
        elif kind in (FIXED64, FIXED32):
            position += 8 if kind == FIXED64 else 4
        else:
            raise ValueError("no ONNX model")
        if position > stop or not key >> 3:
            raise ValueError("no ONNX model")
        yield key >> 3, start, position


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("no ONNX model")
