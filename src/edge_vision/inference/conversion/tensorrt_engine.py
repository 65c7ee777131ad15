"""ONNX to a TensorRT engine, for this machine's GPU and version of TensorRT and no other.

The backend builds one from the ONNX file by itself at the first start and keeps it; this puts it into the bundle, for
machines that are all alike. int8 is a matter of the ONNX file: quantised operators in it.
"""

from __future__ import annotations

from pathlib import Path

from edge_vision.inference.backends import tensorrt_
from edge_vision.inference.backends.tensorrt_builder import build_engine, collecting_logger
from edge_vision.inference.conversion.contract import ConversionError, Produced, Progress, Source
from edge_vision.inference.errors import BackendError, ModelError

NEEDS = tensorrt_.NEEDS
PRECISIONS = ("fp32", "fp16")
SUFFIX = ".engine"
PLAIN = False


def available() -> str | None:
    return tensorrt_.available()


def convert(source: Source, precision: str, folder: Path, progress: Progress) -> Produced:
    """See the package."""
    path = folder / "model.engine"
    shapes = {source.spec.name: source.spec.shape}
    try:
        trt = tensorrt_.import_runtime()
        progress(f"{trt.__name__} {trt.__version__} builds {source.path.name} in {precision}, which takes a while")
        path.write_bytes(build_engine(trt, collecting_logger(trt), source.path, precision, shapes))
    except (ModelError, BackendError) as error:
        raise ConversionError(error.problem, error.remedy) from error
    return Produced(path, source.spec, {"made_by": f"{trt.__name__} {trt.__version__}"})
