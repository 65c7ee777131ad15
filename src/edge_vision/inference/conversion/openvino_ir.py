"""ONNX to OpenVINO's own format, with openvino itself: opens faster, and is what its other tools take.

fp16 stores the weights in half precision (half the size); what the arithmetic is done in is said at opening.
int8 is the business of the optimise room.
"""

from __future__ import annotations

from pathlib import Path

from edge_vision.inference.backends import openvino_
from edge_vision.inference.conversion.contract import ConversionError, Produced, Progress, Source

NEEDS = openvino_.NEEDS
PRECISIONS = ("fp32", "fp16")
SUFFIX = ".xml"
PLAIN = False


def available() -> str | None:
    return openvino_.available()


def convert(source: Source, precision: str, folder: Path, progress: Progress) -> Produced:
    """See the package."""
    openvino = openvino_.import_runtime()
    progress(f"OpenVINO {openvino_.version()} converts {source.path.name}")
    path = folder / "model.xml"
    try:
        model = openvino.Core().read_model(source.path)
        openvino.save_model(model, path, compress_to_fp16=precision == "fp16")
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[-1].strip()
        raise ConversionError(f"OpenVINO cannot convert it: {reason}", "use another backend for this model") from error
    return Produced(path, source.spec)
