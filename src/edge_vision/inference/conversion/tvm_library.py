"""ONNX to a shared library with Apache TVM, for the processor of this machine and no other kind."""

from __future__ import annotations

from pathlib import Path

from edge_vision.inference.backends import tvm_
from edge_vision.inference.conversion.contract import ConversionError, Produced, Progress, Source
from edge_vision.inference.errors import BackendError, ModelError

NEEDS = tvm_.NEEDS
PRECISIONS = ("fp32",)
SUFFIX = ".so"
PLAIN = False


def available() -> str | None:
    return tvm_.available()


def convert(source: Source, precision: str, folder: Path, progress: Progress) -> Produced:
    """See the package."""
    path = folder / "model.so"
    target = tvm_.host_target(tvm_.import_runtime())
    progress(f"TVM {tvm_.version()} compiles {source.path.name} for {target['mcpu']}")
    try:
        tvm_.compile_library(source.path, path, {source.spec.name: source.spec.shape})
    except (ModelError, BackendError) as error:
        raise ConversionError(error.problem, error.remedy) from error
    return Produced(path, source.spec, {"made_for": target["mcpu"]})
