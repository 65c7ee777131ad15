"""A model's file as a table of operators: what an estimate begins with."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_vision.inference.errors import ModelError
from edge_vision.optimize.estimate.operations import BYTES, Operation, convolution_kind
from edge_vision.optimize.measure.compute import Layer, measure_compute
from edge_vision.optimize.measure.size import measure_size
from edge_vision.optimize.measure.steps import MAC_OPERATORS
from edge_vision.optimize.measure.tensors import bits_of

if TYPE_CHECKING:
    import onnx

_ACTIVATIONS = frozenset(
    (
        "Relu",
        "Clip",
        "LeakyRelu",
        "PRelu",
        "Elu",
        "Selu",
        "Sigmoid",
        "HardSigmoid",
        "HardSwish",
        "Mish",
        "Gelu",
        "Softplus",
    )
    + ("Tanh", "BatchNormalization")
)
"""Folded into the convolution, product or sum before, as ncnn, TFLite, TensorRT and STM32Cube.AI do with most of them
(whatever a runtime does not fold is a part of the error on the networks that have it)."""


@dataclass(frozen=True)
class Model:
    """A model to estimate.

    name; precision: of most of its arithmetic, `fp32`, `fp16` or `int8`; operations; peak: bytes of activations alive
    at once, in the file's own precision; outputs: channels of weighted layers, summed up; file: bytes of the file;
    packed: bytes as `optimize.packing` would ship it, None where unknown; proto: the graph.
    """

    name: str
    precision: str
    operations: tuple[Operation, ...]
    peak: int
    outputs: int
    file: int
    packed: int | None
    proto: onnx.ModelProto

    def peak_in(self, precision: str) -> int:
        """Bytes of activations alive at once, were every number of this precision."""
        return self.peak * BYTES[precision] // BYTES[self.precision]


def read_model(path: Path, precision: str = "") -> Model:
    """The model at `path`: a bundle's folder or an .onnx file. precision: which file of a bundle, "" for the first ONNX
    file. Raises ModelError with the remedy for what cannot be estimated, InferenceError for a bundle that cannot be
    read."""
    file = _onnx_file(path, precision)
    if not file.is_file():
        raise ModelError(file, "there is no such file", "check the path; a bundle is a folder with model.yaml")
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise ModelError(file, "reading its graph needs the package onnx", "pip install onnx") from error
    try:
        proto = onnx.load(str(file))
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise ModelError(file, f"this is not an ONNX model: {error}", "export or download it again") from error
    except FileNotFoundError as error:
        raise ModelError(file, str(error), "put the file with the weights beside it") from error
    return model_of(proto, path.name if path.is_dir() else file.name, file, packed=True)


def _onnx_file(path: Path, precision: str) -> Path:
    if path.suffix == ".onnx":
        return path
    if not path.exists():
        raise ModelError(path, "there is no such file or folder", "name a bundle's folder or an .onnx file")
    if path.suffix and path.is_file() and path.suffix not in (".yaml", ".yml", ".evp"):
        raise ModelError(path, f"{path.suffix} files are not read here", "name the .onnx file that it was made of")
    from edge_vision.inference.bundle import load_bundle

    bundle = load_bundle(path)
    files = [variant for variant in bundle.variants if variant.path.suffix == ".onnx"]
    if not files:
        raise ModelError(path, "the bundle has no ONNX file", "name the .onnx file that it was made of")
    return next((variant for variant in files if variant.precision == precision), files[0]).path


def model_of(proto: onnx.ModelProto, name: str, file: Path | None = None, *, packed: bool = False) -> Model:
    """As `read_model`, of a graph in memory. file: for messages and its size; packed: find out that size, too (a second
    for 10 MB)."""
    place = file or Path(name)
    try:
        compute = measure_compute(proto)
    except ValueError as error:
        remedy = "fix its sizes: export it so, or run `python -m onnxruntime.tools.make_dynamic_shape_fixed`"
        raise ModelError(place, str(error), remedy) from error
    if compute.unknown:
        raise ModelError(
            place,
            f"the sizes of {len(compute.unknown)} tensors are not known, {compute.unknown[0]} among them",
            "they depend on the data or on an unknown operator: cut the model before it (boxes can be decoded outside)",
        )
    if not compute.macs:
        raise ModelError(place, "has no convolution or matrix product", "name the network itself")
    kinds = Counter[str]()
    for kind, macs in compute.macs_by_kind.items():
        kinds[kind if kind in BYTES else ("fp16" if kind == "bf16" else "fp32")] += macs
    outputs = sum(layer.output[1] for layer in compute.layers if layer.macs and len(layer.output) > 1)
    return Model(
        name=name,
        precision=kinds.most_common(1)[0][0],
        operations=tuple(_operations(compute.layers, proto)),
        peak=compute.peak_bytes,
        outputs=outputs,
        file=file.stat().st_size if file else proto.ByteSize(),
        packed=measure_size(proto).packed if packed else None,
        proto=proto,
    )


def _operations(layers: tuple[Layer, ...], proto: onnx.ModelProto) -> Iterator[Operation]:
    folded = _folded(proto)
    for layer in layers:
        size = bits_of(layer.kind) / 8
        outputs = math.prod(layer.output) if layer.written_bytes else 0
        inputs = int(layer.read_bytes / size)
        if layer.macs:
            weights = int(layer.weight_bytes / size)
            yield Operation(layer.name, layer.op, _kind(layer, inputs), layer.macs, inputs, weights, outputs)
        else:
            is_free = not layer.written_bytes or layer.name in folded
            yield Operation(layer.name, layer.op, "free" if is_free else "moving", 0, inputs, 0, outputs)


def _kind(layer: Layer, inputs: int) -> str:
    if not layer.kernel:
        return "pointwise"
    kernel = (layer.kernel[0], layer.kernel[-1])
    channels = round(layer.macs * layer.groups / max(math.prod(layer.output) * math.prod(layer.kernel), 1))
    same_size = inputs == channels * math.prod(layer.output[2:])
    return convolution_kind(kernel, 1 if same_size else 2, layer.groups, channels)


def _folded(proto: onnx.ModelProto) -> set[str]:
    """Names of the layers (of the node, else of its first output) that a runtime folds into the one before."""
    makers: Mapping[str, onnx.NodeProto] = {name: node for node in proto.graph.node for name in node.output}
    found: set[str] = set()
    bodies = (*MAC_OPERATORS, "Add", "BatchNormalization")
    for node in proto.graph.node:
        sources = [makers[name] for name in node.input if name in makers]
        after = any(source.op_type in bodies for source in sources)
        gated = node.op_type == "Mul" and any(
            source.op_type in ("Sigmoid", "HardSigmoid") and source.input[0] in node.input for source in sources
        )
        if (node.op_type in _ACTIVATIONS and after) or gated:
            found.add(node.name or node.output[0])
    return found
