"""Backends: the runtimes that run a model file.

A backend is one module of this folder with

* `FORMATS`: the file suffixes that it opens, the native one first; `PRECISIONS`: those that it makes of an fp32 file by
  itself, and where not every device can, `precisions_on(device)`;
* `NEEDS`: what must be there, for people; `REMEDY`: the command that installs it;
* `available()`: None where it can be used, otherwise why not; `version()`; `devices()`: device names it has here, `cpu`
or
  the best first; where they cannot be listed it raises BackendError;
* `open(path, options)`: a `Session` on a model file.

Nothing is imported before it is asked for. To add one: write the module and name it in `BACKENDS`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

from numpy.typing import NDArray

from edge_vision.inference.errors import BackendError
from edge_vision.inference.onnx_header import TensorSpec

BACKENDS: Mapping[str, str] = {
    name: f"edge_vision.inference.backends.{name}_"
    for name in ("onnxruntime", "openvino", "tensorrt", "litert", "ncnn", "opencv", "tvm", "torch")
}


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How to open a model.

    device: `cpu` or one of `devices()`; precision: of the arithmetic; threads: at least 1. input_shapes: by input name
    (or "" for the only one), for files that leave sizes open or do not tell them; outputs: the names to read, in this
    order, () for all as the file has them. cache: where to keep what is compiled for this machine; None for
    `cache_directory()`.
    """

    device: str = "cpu"
    precision: str = "fp32"
    threads: int = 1
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """What a session really runs on."""

    backend: str
    runtime_version: str
    device: str
    precision: str
    threads: int


class Session(Protocol):
    """A model opened by a backend.

    The specs' shapes are those of the tensors that `run` takes and gives; a dimension that is not known is None, and a
    shape that is not known at all is ().
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, inputs: Sequence[NDArray]) -> list[NDArray]:
        """One run: arrays in the order of `inputs`, results in that of `outputs`.

        The results may be views that the next run overwrites. Reusing the same input arrays from run to run is the
        fast way: a backend may bind them.
        """
        ...

    def describe(self) -> SessionDescription: ...

    def close(self) -> None: ...


class Backend(Protocol):
    """What a module of this folder offers."""

    FORMATS: tuple[str, ...]
    PRECISIONS: tuple[str, ...]
    NEEDS: str
    REMEDY: str

    def available(self) -> str | None: ...

    def version(self) -> str: ...

    def devices(self) -> tuple[str, ...]: ...

    def open(self, path: Path, options: SessionOptions) -> Session: ...


def backend(name: str) -> Backend:
    """The backend module called `name`. Raises BackendError, listing the known ones, for another name."""
    if name not in BACKENDS:
        raise BackendError(f"there is no backend {name!r}", f"choose one of {', '.join(BACKENDS)}")
    return cast(Backend, importlib.import_module(BACKENDS[name]))


def precisions_on(module: Backend, device: str) -> tuple[str, ...]:
    """The precisions that a backend makes of an fp32 file on one of its devices."""
    ask = getattr(module, "precisions_on", None)
    return tuple(ask(device)) if ask else module.PRECISIONS


def missing_package(package: str) -> str | None:
    """None where a Python package can be imported, otherwise the reason; does not import it."""
    if importlib.util.find_spec(package) is None:
        return f"the Python package {package} is not installed"
    return None


def package_version(*names: str) -> str:
    """Version of the first of several distributions that is installed; "" for none."""
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return ""
