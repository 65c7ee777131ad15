"""From an ONNX file to a TensorRT engine, and what an engine file says of itself.

One code for TensorRT 8.6 to 11 and TensorRT-RTX, whose Python interfaces are the same but for what later ones dropped:
since 11, and in RTX, networks are strongly typed, so the arithmetic is that of the file and there are no flags for fp16
and int8. (`trt` below is whichever module was imported.)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_vision.inference.backends.shapes import filled_specs, stored_precision
from edge_vision.inference.errors import BackendError, ModelError
from edge_vision.inference.onnx_header import TensorSpec, _fields, read_onnx_header
from edge_vision.whole_files import write_bytes

HEADER_BYTES = 64
_MAGIC = {b"ftrt": "tensorrt", b"ptrt": "tensorrt", b"vtrt": "tensorrt_rtx"}
_UINT8, _FLOAT = 2, 1  # onnx.TensorProto.DataType


@dataclass(frozen=True, slots=True)
class PlanHeader:
    """What an engine was built by. offset: where the plan begins; flavour: the package's name; version: its numbers."""

    offset: int
    flavour: str
    version: tuple[int, int, int, int]

    def __str__(self) -> str:
        return f"{self.flavour} {'.'.join(map(str, self.version))}"


def read_plan_header(data: bytes) -> PlanHeader | None:
    """The header of a serialised engine, None for bytes that are none.

    The version stands in the bytes 24 to 27 (where trtexec's --getPlanVersionOnly reads it). Ultralytics writes a JSON
    text and its length (4 bytes, little-endian) in front, which is skipped.
    """
    offset = 0
    if data[:4] not in _MAGIC:
        offset = 4 + int.from_bytes(data[:4], "little", signed=False)
        if data[4:5] != b"{":
            return None
    head = data[offset : offset + HEADER_BYTES]
    if len(head) < 28 or head[:4] not in _MAGIC:
        return None
    major, minor, patch, build = head[24:28]
    return PlanHeader(offset, _MAGIC[head[:4]], (major, minor, patch, build))


def plan_mismatch(header: PlanHeader, flavour: str, version: str) -> str | None:
    """Why an engine was built by another version than is installed, None where it was not.

    Such an engine runs only where it was built to be version compatible, which the header does not tell: TensorRT
    decides.
    """
    installed = tuple(int(part) for part in version.split(".")[:4] if part.isdigit())
    if header.flavour == flavour and header.version[: len(installed)] == installed:
        return None
    return f"it was built by {header}, and {flavour} {version} is installed"


def engine_facts(
    flavour: str,
    version: str,
    gpu: str,
    capability: tuple[int, int],
    precision: str,
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, str]:
    """All that an engine depends on beside the model: what its cache entry is known by."""
    sizes = ";".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in sorted(shapes.items()))
    return {
        "backend": flavour,
        "version": version,
        "gpu": gpu,
        "capability": ".".join(map(str, capability)),
        "precision": precision,
        "shapes": sizes,
    }


def float_inputs(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The ONNX model with its uint8 inputs declared as float32, and their names.

    TensorRT takes uint8 at the border of a network only: nothing but a cast may follow, while a camera-friendly export
    has a Transpose first. The type is one byte in the file (ValueInfoProto.type.tensor_type.elem_type).
    """
    content = bytearray(data)
    names: list[str] = []
    for number, graph in _fields(memoryview(content)):
        if number != 7 or isinstance(graph, int):  # ModelProto.graph
            continue
        for key, value in _fields(graph):
            if key == 11 and not isinstance(value, int):  # GraphProto.input
                names += _declare_float(value)
    return bytes(content), tuple(names)


def _declare_float(info: memoryview) -> list[str]:
    name, changed = "", False
    for key, value in _fields(info):
        if isinstance(value, int):
            continue
        if key == 1:
            name = bytes(value).decode("utf-8")
        elif key == 2:  # type
            for kind, tensor in _fields(value):
                if kind == 1 and not isinstance(tensor, int) and bytes(tensor[:2]) == bytes((0x08, _UINT8)):
                    tensor[1] = _FLOAT
                    changed = True
    return [name] if changed else []


def collecting_logger(trt: Any) -> Any:
    """A logger that keeps the errors (`lines`) instead of printing them."""

    class Collector(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.lines = [*self.lines[-9:], message]

        def reason(self, fallback: str) -> str:
            """The first error since the last `reason`, in a line."""
            line, self.lines = (self.lines or [fallback])[0], []
            return " ".join(line.split())[:300]

    return Collector()


def build_engine(
    trt: Any,
    logger: Any,
    model: Path,
    precision: str,
    shapes: Mapping[str, tuple[int, ...]],
    timing_cache: Path | None = None,
) -> bytes:
    """A serialised engine of the ONNX file `model`.

    Takes seconds to minutes. shapes: as `SessionOptions.input_shapes`, for sizes that the file leaves open;
    timing_cache: a file with the times of kernels from earlier builds, read and written, to make the next one shorter.

    Raises ModelError (what TensorRT cannot read or build), BackendError (no builder here, a precision it lacks).
    """
    try:
        builder = trt.Builder(logger)
    except (TypeError, RuntimeError) as error:
        raise BackendError(
            f"{trt.__name__} cannot build here: {logger.reason(str(error))}", "see that a GPU works"
        ) from error
    network = builder.create_network(_network_flags(trt))
    content, as_float = float_inputs(model.read_bytes())
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(content, os.fspath(model)):
        raise _unreadable(trt, logger, parser, model)
    for name in as_float:
        _cast_on_the_device(trt, network, name)
    config = builder.create_builder_config()
    _set_precision(trt, config, precision, model)
    _fix_shapes(builder, network, config, filled_specs(read_onnx_header(model).inputs, shapes), model)
    cache = _attach_timing_cache(config, timing_cache)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        problem = f"{trt.__name__} {trt.__version__} cannot build an engine: {logger.reason('no reason given')}"
        raise ModelError(model, problem, "use backend onnxruntime, or export the model anew (fixed size, opset 17)")
    if cache is not None and timing_cache is not None:
        write_bytes(timing_cache, bytes(config.get_timing_cache().serialize()))
    return bytes(engine)


def _network_flags(trt: Any) -> int:
    explicit = getattr(
        trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None
    )  # needed by 8, ignored by 10, gone in 11
    return 0 if explicit is None else 1 << int(explicit)


def _unreadable(trt: Any, logger: Any, parser: Any, model: Path) -> ModelError:
    reasons = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        operator = error.node_operator() if hasattr(error, "node_operator") else ""
        reasons.append(f"at operator {operator}: {error.desc()}" if operator else error.desc())
    reason = " ".join((reasons or [logger.reason("no reason given")])[0].split())[:300]
    problem = f"{trt.__name__} {trt.__version__} cannot read it: {reason}"
    return ModelError(model, problem, "use backend onnxruntime, or export it with opset 17 and simplified (onnxsim)")


def _cast_on_the_device(trt: Any, network: Any, name: str) -> None:
    """Make the float input `name` a uint8 one, followed by a cast: a quarter of the bytes to copy."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    old = next(tensor for tensor in inputs if tensor.name == name)
    old.name = f"{name} as float"
    new = network.add_input(name, trt.uint8, old.shape)
    cast = network.add_cast(new, trt.float32)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        for place in range(layer.num_inputs):
            tensor = layer.get_input(place)
            if tensor is not None and tensor.name == old.name:
                layer.set_input(place, cast.get_output(0))
    network.remove_tensor(old)


def _set_precision(trt: Any, config: Any, precision: str, model: Path) -> None:
    # TensorFloat-32, on by default, keeps 10 bits of the mantissa: that is not fp32.
    config.clear_flag(trt.BuilderFlag.TF32)
    if precision == "fp32":
        return
    if precision not in ("fp16", "int8"):
        raise BackendError(f"tensorrt has no precision {precision}", "use fp32, fp16 or int8")
    flag = getattr(trt.BuilderFlag, precision.upper(), None)
    if flag is not None:
        config.set_flag(flag)
    elif precision == "fp16" and stored_precision(model) != "fp16":
        raise BackendError(
            f"{trt.__name__} {trt.__version__} computes in the types of the file, so it makes no fp16 of an fp32 file",
            "add a variant of the model in fp16 to the bundle (precision: fp16), or use precision fp32",
        )
    # Without a flag the file itself says it: weights in float16, quantised operators.


def _fix_shapes(builder: Any, network: Any, config: Any, specs: tuple[TensorSpec, ...], model: Path) -> None:
    """One optimisation profile with the sizes wanted, where the file leaves some open."""
    if all(-1 not in tuple(network.get_input(index).shape) for index in range(network.num_inputs)):
        return
    profile = builder.create_optimization_profile()
    for spec in specs:
        if None in spec.shape:
            raise ModelError(model, f"the input {spec} leaves sizes open", "export the model with a fixed size")
        profile.set_shape(spec.name, spec.shape, spec.shape, spec.shape)
    config.add_optimization_profile(profile)


def _attach_timing_cache(config: Any, file: Path | None) -> Any:
    if file is None:
        return None
    known = file.read_bytes() if file.is_file() else b""
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")  # of another version or GPU: begin anew
        if cache is None or not config.set_timing_cache(cache, False):
            return None
    return cache
