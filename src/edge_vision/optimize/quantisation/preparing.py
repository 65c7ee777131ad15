"""Graphs made ready to be quantised: checked, sizes known, constants and batch normalisations folded."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

from edge_vision.optimize.graphs.editing import constants_to_initialisers, drop_notes, read_instead, remove_dead
from edge_vision.optimize.graphs.running import CannotRun, session_of
from edge_vision.optimize.graphs.shapes import input_shape
from edge_vision.optimize.graphs.view import QUANTISED, View
from edge_vision.optimize.passes import PassError

OPSET = 13
"""The first in which DequantizeLinear has a scale for every channel."""

_FOLDED = re.compile(r"^(?:Conv(?:Bn|Mul|Add)Fusion_(?:W|B|Add_B|BN_B|Mul_B)_)+")
_INTEGER_OPERATORS = ("ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")


def prepare(name: str, proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the graph that can be quantised: opset 13 or newer, constants as initialisers, what is constant
    computed, batch normalisations folded into convolutions (by ONNX Runtime's own pre-processing).

    name: of the pass, for errors. Raises PassError for a graph that is quantised already, has open sizes or several
    inputs, no layer with weights, or that ONNX Runtime cannot load.
    """
    check(name, proto)
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    version = next((entry.version for entry in copy.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if version < OPSET:
        try:
            copy = onnx.version_converter.convert_version(copy, OPSET)
        except Exception as error:  # of onnx's C++ library, RuntimeError or its own
            raise PassError(
                name,
                f"the graph is of ONNX opset {version} and cannot be converted to {OPSET} ({_first_line(error)})",
                f"export the model again with opset {OPSET} or newer",
            ) from error
    copy = _preprocessed(name, copy)
    constants_to_initialisers(copy)
    remove_dead(copy)
    drop_notes(copy)
    _old_names(copy)
    return copy


def check(name: str, proto: onnx.ModelProto) -> None:
    """Raises PassError as `prepare` does, without the work."""
    found = {node.op_type for node in proto.graph.node}
    integer = sorted(found & {*QUANTISED, *_INTEGER_OPERATORS} | {kind for kind in found if kind.startswith("QLinear")})
    if integer:
        raise PassError(
            name,
            f"the graph is quantised already (it has {', '.join(integer)})",
            "begin with the float model; of the passes that quantise, a recipe takes one, as its last",
        )
    view = View(proto)
    if len(view.inputs) != 1:
        raise PassError(
            name,
            f"the graph has {len(view.inputs)} inputs ({', '.join(view.inputs) or 'none'})",
            "only networks with one image input can be calibrated",
        )
    shape = input_shape(proto)
    if any(isinstance(size, str) for size in shape):
        raise PassError(
            name,
            f"input '{view.inputs[0]}' has open sizes ({', '.join(map(str, shape))})",
            "export the model with fixed sizes and a batch of 1, or apply the pass input_size before",
        )
    if not view.layers:
        raise PassError(
            name,
            "the graph has no convolution or matrix product with constant weights",
            "give the graph with its weights inside it, not as inputs",
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Without what onnxruntime.quantization logs and prints."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _preprocessed(name: str, proto: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    try:
        session_of(proto, 1, optimised=False)
    except CannotRun as error:
        raise PassError(
            name,
            f"ONNX Runtime cannot load the graph: {error}",
            "the model may be damaged or have operators of another framework; export it again for ONNX Runtime",
        ) from error
    with tempfile.TemporaryDirectory(prefix="edge_vision_") as folder, quiet():
        before, after = Path(folder, "before.onnx"), Path(folder, "after.onnx")
        onnx.save(proto, before)
        # Its symbolic inference is for transformers with open sizes; ours are known.
        quant_pre_process(str(before), str(after), skip_symbolic_shape=True)
        return onnx.load(after)


def _old_names(proto: onnx.ModelProto) -> None:
    """Weights that ONNX Runtime folded something into get their names back, by which layers are known."""
    taken = {tensor.name for tensor in proto.graph.initializer}
    for tensor in proto.graph.initializer:
        old = _FOLDED.sub("", tensor.name)
        if old != tensor.name and old not in taken:
            taken.add(old)
            read_instead(proto, tensor.name, old)
            tensor.name = old


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
