"""Inputs, outputs and metadata of an ONNX file, read without any runtime.

Importing a runtime and building a session to learn a model's tensor names costs half a second and tens of megabytes;
the few fields needed here are read straight from the protocol buffer (onnx.proto3: field numbers in the comments).
Weights are skipped, not decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edge_vision.inference.errors import ModelError

DTYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64"}
"""TensorProto.DataType to NumPy's name, for the types that flow in and out of vision models."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, shape and NumPy dtype name of one tensor; a dimension that the file leaves open is None."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} [{', '.join('?' if d is None else str(d) for d in self.shape)}]"


@dataclass(frozen=True, slots=True)
class OnnxHeader:
    """What an ONNX file says of itself; `metadata` are its metadata_props."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: dict[str, str] = field(default_factory=dict)


def read_onnx_header(path: Path) -> OnnxHeader:
    """The header of the ONNX file at `path`. Raises ModelError for a file that is none, or is cut off."""
    data = memoryview(path.read_bytes())
    try:
        header = _model(data)
    except (ValueError, UnicodeDecodeError) as error:
        raise ModelError(path, f"this is not an ONNX model: {_describe(bytes(data[:40]), error)}", _REMEDY) from error
    if not header.inputs or not header.outputs:
        raise ModelError(path, f"this is not an ONNX model: {_describe(bytes(data[:40]), None)}", _REMEDY)
    return header


_REMEDY = "export or download the model again, and check that the file is the model itself and not a page or a pointer"


def _describe(start: bytes, error: Exception | None) -> str:
    if not start:
        return "the file is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer (run `git lfs pull`)"
    if all(byte in b"\t\r\n" or byte >= 32 for byte in start):
        text = start.decode("utf-8", "replace").strip()
        return f"it is a text file that begins with {text!r}"
    return str(error) if error else "it has no graph with inputs and outputs"


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data):
            raise ValueError("it is cut off in the middle of a field")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("it is no protocol buffer")


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of a message: an int for a varint, the bytes otherwise."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if kind == BYTES:
            size, position = _varint(data, position)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise ValueError("it is no protocol buffer")
        if number == 0:
            raise ValueError("it is no protocol buffer")
        if position + size > len(data):
            raise ValueError(
                f"it is cut off: a field of {size} bytes begins {len(data) - position} bytes before the end"
            )
        yield number, data[position : position + size]
        position += size


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("it is a protocol buffer of another kind")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_bytes(value)).decode("utf-8")


def _model(data: memoryview) -> OnnxHeader:
    graph: OnnxHeader | None = None
    metadata: dict[str, str] = {}
    for number, value in _fields(data):
        if number == 7:  # graph
            graph = _graph(_bytes(value))
        elif number == 14:  # metadata_props
            entry = {key: _text(text) for key, text in _fields(_bytes(value)) if key in (1, 2)}
            metadata[entry.get(1, "")] = entry.get(2, "")
    if graph is None:
        return OnnxHeader((), ())
    return OnnxHeader(graph.inputs, graph.outputs, metadata)


def _graph(data: memoryview) -> OnnxHeader:
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    initializers: set[str] = set()
    for number, value in _fields(data):
        if number == 11:  # input
            inputs.append(_value_info(_bytes(value)))
        elif number == 12:  # output
            outputs.append(_value_info(_bytes(value)))
        elif number == 5:  # initializer; files of IR version 3 list the weights among the inputs too
            initializers.update(_text(name) for key, name in _fields(_bytes(value)) if key == 8)
    return OnnxHeader(tuple(spec for spec in inputs if spec.name not in initializers), tuple(outputs))


def _value_info(data: memoryview) -> TensorSpec:
    name, dtype = "", "unknown"
    shape: list[int | None] = []
    for number, value in _fields(data):
        if number == 1:
            name = _text(value)
        elif number == 2:  # type
            for kind, tensor in _fields(_bytes(value)):
                if kind != 1:  # tensor_type; a sequence or a map is no image
                    continue
                for key, content in _fields(_bytes(tensor)):
                    if key == 1 and isinstance(content, int):
                        dtype = DTYPES.get(content, f"type {content}")
                    elif key == 2:  # shape
                        shape = [_dimension(_bytes(d)) for n, d in _fields(_bytes(content)) if n == 1]
    return TensorSpec(name, tuple(shape), dtype)


def _dimension(data: memoryview) -> int | None:
    for number, value in _fields(data):
        if number == 1 and isinstance(value, int) and value < 1 << 62:  # dim_value; a negative one is an open one
            return value or None
    return None
