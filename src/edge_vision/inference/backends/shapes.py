"""What a session is asked for, against what its model file has: sizes, names, precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_vision.inference.backends import SessionOptions
from edge_vision.inference.errors import BackendError
from edge_vision.inference.onnx_header import TensorSpec, _fields


def wanted_shape(spec: TensorSpec, given: Mapping[str, tuple[int, ...]], only_input: bool) -> tuple[int | None, ...]:
    """The shape of an input, open sizes filled from `SessionOptions.input_shapes`; what the file fixes stays."""
    shape = given.get(spec.name) or (given.get("") if only_input else None)
    if not shape:
        return spec.shape
    if not spec.shape:
        return tuple(shape)
    if len(shape) != len(spec.shape):
        return spec.shape
    return tuple(want if size is None else size for size, want in zip(spec.shape, shape, strict=True))


def filled_specs(specs: Sequence[TensorSpec], given: Mapping[str, tuple[int, ...]]) -> tuple[TensorSpec, ...]:
    """The inputs' specs with `wanted_shape`."""
    return tuple(TensorSpec(spec.name, wanted_shape(spec, given, len(specs) == 1), spec.dtype) for spec in specs)


def output_order(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Indices into the model's outputs, for `SessionOptions.outputs`. Raises BackendError for a name that it lacks."""
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise BackendError(f"the model has no output {unknown[0]!r}", f"it has {', '.join(names)}")
    return [names.index(name) for name in wanted] if wanted else list(range(len(names)))


def stored_precision(path: Path) -> str:
    """`int8`, `fp16` or `fp32`: what an ONNX file is stored as; "" for a file of another kind.

    int8 where it has quantised operators (QuantizeLinear and the like), fp16 where its weights are mostly float16.
    """
    if path.suffix != ".onnx":
        return ""
    half = full = 0
    try:
        for number, graph in _fields(memoryview(path.read_bytes())):
            if number != 7 or isinstance(graph, int):  # ModelProto.graph
                continue
            for key, value in _fields(graph):
                if isinstance(value, int):
                    continue
                if key == 1 and _operator(value) in _QUANTISED:  # GraphProto.node
                    return "int8"
                if key == 5:  # GraphProto.initializer
                    kind = next((v for k, v in _fields(value) if k == 2), 0)  # TensorProto.data_type
                    half += len(value) if kind == _FLOAT16 else 0
                    full += len(value) if kind == _FLOAT else 0
    except (OSError, ValueError):
        return ""
    return "fp16" if half > full else "fp32"


def require_precision(backend: str, path: Path, options: SessionOptions, makes: Sequence[str] = ()) -> None:
    """Raises BackendError where the precision asked for is neither that of the file nor one that the backend `makes` of
    an fp32 one."""
    if options.precision in makes:
        return
    stored = stored_precision(path)
    if stored in ("", options.precision):
        return
    raise BackendError(
        f"{backend} computes a file in {stored} as {stored} on {options.device}, not in {options.precision}",
        f"use precision {stored}, or add a file in {options.precision} to the bundle",
    )


_QUANTISED = ("QuantizeLinear", "QLinearConv", "ConvInteger", "DynamicQuantizeLinear")
_FLOAT, _FLOAT16 = 1, 10  # TensorProto.DataType


def _operator(node: memoryview) -> str:
    return next(
        (bytes(v).decode("utf-8", "replace") for k, v in _fields(node) if k == 4 and not isinstance(v, int)), ""
    )
