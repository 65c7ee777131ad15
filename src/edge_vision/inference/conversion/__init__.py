"""Conversion: an ONNX model into the files of the backends that cannot read ONNX, or start faster from their own.

    conversion = convert(load_bundle("models/conveyor_parts"), "litert", "fp16")   # adds a variant to the bundle

A converter is one module of this package with

* `NEEDS`: what must be there, for people; `PRECISIONS`: those that it can write; `SUFFIX`: of the file that it writes;
* `PLAIN`: True where it is to be given the float32 NCHW form of the graph (a Cast and Transpose of the input and what
  else a camera-friendly export puts in front are taken off, see `graph.py`), False for the graph as the bundle has it;
* `available()`: None where it can be tried, otherwise why not (cheap, no network, nothing imported);
* `convert(source, precision, folder, progress)`: writes into the empty scratch folder `folder` and says what and how
  that is fed. It raises `ConversionError` with the remedy.

The rest is common and done by `convert`: sizes are fixed, the input is made, the file opened by its backend and
compared with ONNX Runtime on the same input, the order and the axes of its outputs found, the file moved into the
bundle as `<model>_<target>_<precision><SUFFIX>` and `model.yaml` written anew.

To add one: write the module and name it in `TARGETS` (contract.py). Nothing is imported before it is asked for.
"""

from edge_vision.inference.conversion.contract import (
    TARGETS,
    TOLERANCES,
    Conversion,
    ConversionError,
    Converter,
    Produced,
    Progress,
    Source,
    converter,
)
from edge_vision.inference.conversion.converting import convert, home

__all__ = [
    "TARGETS",
    "TOLERANCES",
    "Conversion",
    "ConversionError",
    "Converter",
    "Produced",
    "Progress",
    "Source",
    "convert",
    "converter",
    "home",
]
