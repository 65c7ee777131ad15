"""A bundle for a bare `.onnx` file: what the file itself tells, filled up with the family's customs."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_vision.datatypes import Labels
from edge_vision.inference.bundle import Bundle, Thresholds, Variant, read_input
from edge_vision.inference.decoders import decoder as decoder_module
from edge_vision.inference.decoders import known_decoders, recognise
from edge_vision.inference.errors import ModelError
from edge_vision.inference.labels import default_labels
from edge_vision.inference.onnx_header import TensorSpec, read_onnx_header
from edge_vision.inference.preprocess import DTYPES
from edge_vision.inference.schema import Section


def bare_bundle(path: Path, decoder: str | None, overrides: Mapping[str, Any]) -> Bundle:
    """The bundle of the ONNX file at `path`; see `load_bundle` for the arguments and errors."""
    header = read_onnx_header(path)
    if len(header.inputs) != 1:
        found = ", ".join(str(spec) for spec in header.inputs)
        raise ModelError(
            path, f"the model has {len(header.inputs)} inputs: {found}", "use a model with one image as input"
        )
    tensor = header.inputs[0]
    metadata = Metadata(path, header.metadata)
    layout, width, height = _image_input(path, tensor, metadata, overrides)
    outputs = header.outputs
    if decoder is None and any(None in spec.shape or not spec.shape for spec in outputs):
        outputs = _measured_outputs(path, tensor, layout, width, height)
    name = decoder or recognise(outputs, width, height)
    if name is None:
        found = ", ".join(str(spec) for spec in outputs)
        raise ModelError(
            path,
            f"its outputs fit no decoder: {found}, for an input of {width}x{height}",
            f"name the decoder, or export the model in one of the layouts known: {known_decoders()}",
        )
    family = decoder_module(name)
    defaults = dict(family.DEFAULT_INPUT) | {"width": width, "height": height, "layout": layout, "name": tensor.name}
    defaults["dtype"] = overrides.get("dtype", tensor.dtype)
    if defaults["dtype"] not in DTYPES:
        raise ModelError(path, f"input {tensor.name} is {tensor.dtype}", f"use a model with one of {', '.join(DTYPES)}")
    if defaults["dtype"] == "uint8":
        defaults["scale"] = 1.0  # pixels as they are: the normalisation is inside the graph
    if tensor.shape[1 if layout == "nchw" else 3] == 1:
        defaults["colour"] = "mono"
    return Bundle(
        name=path.stem,
        task="detect",
        decoder=name,
        labels=metadata.labels() or default_labels(family.classes_in(outputs, width, height) or 0),
        input=read_input(Section({}, path), defaults),
        thresholds=Thresholds(score=family.DEFAULT_THRESHOLDS["score"], iou=family.DEFAULT_THRESHOLDS["iou"]),
        variants=(Variant("onnxruntime", "fp32", path),),
        folder=path.parent,
        file=path,
        license=header.metadata.get("license", ""),
    )


class Metadata:
    """What Ultralytics writes into `metadata_props`: names, imgsz, task, as Python literals."""

    def __init__(self, path: Path, properties: Mapping[str, str]) -> None:
        self.path = path
        self.properties = properties
        task = properties.get("task", "detect")
        if task != "detect":
            problem = f"is a model for the task {task!r} by its metadata"
            raise ModelError(path, problem, "use a detection model; other tasks are not supported yet", "metadata.task")

    def _literal(self, key: str) -> Any:
        try:
            return ast.literal_eval(self.properties[key])
        except (KeyError, ValueError, SyntaxError):
            return None  # not there, or not Ultralytics' form: the metadata only pre-fills

    def labels(self) -> Labels:
        names = self._literal("names")
        if isinstance(names, dict) and set(names) == set(range(len(names))):
            return tuple(str(names[index]) for index in range(len(names)))
        return tuple(str(name) for name in names) if isinstance(names, (list, tuple)) else ()

    def size(self) -> tuple[int, int] | None:
        """(width, height) of the training image."""
        size = self._literal("imgsz")
        if isinstance(size, (list, tuple)) and len(size) == 2 and all(isinstance(v, int) for v in size):
            return size[1], size[0]
        return (size, size) if isinstance(size, int) else None


def _image_input(
    path: Path, tensor: TensorSpec, metadata: Metadata, overrides: Mapping[str, Any]
) -> tuple[str, int, int]:
    """(layout, width, height) of the input tensor, filled up from overrides and metadata where the file leaves it
    open."""
    shape = tensor.shape
    if len(shape) != 4:
        raise ModelError(path, f"input {tensor} is no image", "use a model with an input [1, 3, H, W] or [1, H, W, 3]")
    if shape[0] not in (1, None):
        raise ModelError(path, f"input {tensor} takes {shape[0]} images at once", "export the model with a batch of 1")
    layout = overrides.get("layout") or ("nhwc" if shape[3] in (1, 3) and shape[1] not in (1, 3) else "nchw")
    height, width = (shape[2], shape[3]) if layout == "nchw" else (shape[1], shape[2])
    known = metadata.size() or (None, None)
    width = overrides.get("width") or width or known[0]
    height = overrides.get("height") or height or known[1]
    if not isinstance(width, int) or not isinstance(height, int):
        raise ModelError(path, f"input {tensor} leaves the image's size open", "name it: width and height", "input")
    return layout, width, height


def _measured_outputs(path: Path, tensor: TensorSpec, layout: str, width: int, height: int) -> tuple[TensorSpec, ...]:
    """The outputs with the shapes that one run gives, for a file that leaves them open."""
    import numpy as np

    from edge_vision.inference.backends import SessionOptions, backend

    channels = tensor.shape[1 if layout == "nchw" else 3] or 3
    shape = (1, channels, height, width) if layout == "nchw" else (1, height, width, channels)
    session = backend("onnxruntime").open(path, SessionOptions())
    try:
        arrays = session.run([np.zeros(shape, tensor.dtype)])
        return tuple(
            TensorSpec(spec.name, array.shape, spec.dtype) for spec, array in zip(session.outputs, arrays, strict=True)
        )
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ModelError(
            path, f"does not run on an input of {width}x{height}: {reason}", "name the right width and height"
        ) from error
    finally:
        session.close()
