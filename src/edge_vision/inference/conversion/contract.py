"""What a converter takes and gives: see the package's docstring."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from edge_vision.inference.bundle import Variant
from edge_vision.inference.errors import InferenceError
from edge_vision.inference.preprocess import InputSpec

TARGETS: Mapping[str, str] = {
    name: f"edge_vision.inference.conversion.{module}"
    for name, module in (
        ("openvino", "openvino_ir"),
        ("litert", "tflite"),
        ("ncnn", "ncnn"),
        ("tvm", "tvm_library"),
        ("tensorrt", "tensorrt_engine"),
    )
}
"""Converter modules by the backend that they convert for."""

TOLERANCES: Mapping[str, float] = {"fp32": 1e-3, "fp16": 5e-2}
"""Greatest raw error of a converted file that is accepted: max |result - reference| over the range of the reference,
for every output, the reference being ONNX Runtime in fp32 on the same input."""

Progress = Callable[[str], None]
"""Takes a line for people: what is being done now."""


class ConversionError(InferenceError):
    """A model cannot be converted: the converter is missing, fails, or its result is wrong."""


@dataclass(frozen=True, slots=True)
class Source:
    """An ONNX file to convert: every size of its inputs and outputs is fixed, the batch is 1.

    spec: how it is fed, with the real name of the input; outputs: names, in the order of the file.
    """

    path: Path
    spec: InputSpec
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Produced:
    """What a converter wrote.

    path: within the folder it was given (a `.param` or `.xml` with its `.bin` beside it); spec: how the file is fed,
    from its source's by `dataclasses.replace` (layout, dtype; the name is corrected by what its backend finds); notes:
    figures or remarks for the variant's `measured`, free of form.
    """

    path: Path
    spec: InputSpec
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Conversion:
    """A finished one. error: the raw error as in `TOLERANCES`; seconds: of all of it; folder: the bundle it is in."""

    target: str
    precision: str
    variant: Variant
    folder: Path
    size: int
    error: float
    seconds: float


class Converter(Protocol):
    """What a converter module offers; see the package's docstring."""

    NEEDS: str
    PRECISIONS: tuple[str, ...]
    SUFFIX: str
    PLAIN: bool

    def available(self) -> str | None: ...

    def convert(self, source: Source, precision: str, folder: Path, progress: Progress) -> Produced: ...


def converter(target: str) -> Converter:
    """The converter module for a backend. Raises ConversionError, listing the targets, for another name."""
    if target not in TARGETS:
        raise ConversionError(f"there is no conversion to {target!r}", f"choose one of {', '.join(TARGETS)}")
    return cast(Converter, import_module(TARGETS[target]))
