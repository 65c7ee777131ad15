"""Half precision: float16 where a runtime computes in it, or weights stored in 16 bits and widened when loaded."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_vision.optimize.graphs.editing import (
    bypass,
    constants_to_initialisers,
    drop_notes,
    fresh_name,
    remove_dead,
    sort_nodes,
)
from edge_vision.optimize.graphs.importance import with_outputs
from edge_vision.optimize.graphs.running import CannotRun, compare, random_images, session_of, tensors
from edge_vision.optimize.graphs.shapes import stated_outputs
from edge_vision.optimize.graphs.shrinking import is_quantised
from edge_vision.optimize.graphs.view import View, integer
from edge_vision.optimize.network import Network
from edge_vision.optimize.passes import Context, Outcome, PassError
from edge_vision.optimize.passes.channels import calibration

NAME = "half"
SUMMARY = "float16, or weights stored as float16 or bfloat16"
NEEDS: frozenset[str] = frozenset()
TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
COMPUTES = ("auto", "half", "float32")
LARGEST_HALF = 65504.0


@dataclass(frozen=True)
class Options:
    """type: fp16 or bf16. compute: half makes the whole graph that type, inputs and outputs excepted, for runtimes that
    compute in it (GPUs, some NPUs; on most CPUs it is slower); float32 stores the weights in 16 bits and widens them
    when the model is loaded: half the file, the same speed. auto is half for fp16 and float32 for bf16, which standard
    operators do not take. keep: patterns of operators, nodes or weights that stay float32. tolerance: root
    mean square by which an output may change on images, as a part of the output's own deviation from its mean."""

    type: str = "fp16"
    compute: str = "auto"
    keep: tuple[str, ...] = ()
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise ValueError(f"type is {self.type!r}: choose one of {', '.join(TYPES)}")
        if self.compute not in COMPUTES:
            raise ValueError(f"compute is {self.compute!r}: choose one of {', '.join(COMPUTES)}")
        if self.type == "bf16" and self.compute == "half":
            raise ValueError("compute is half, which bf16 cannot be: no convolution of ONNX Runtime takes it on a CPU")
        if not 0 < self.tolerance <= 1:
            raise ValueError(f"tolerance is {self.tolerance}: give a part, such as 0.05")

    @property
    def whole(self) -> bool:
        """Whether the graph computes in 16 bits."""
        return self.compute == "half" or (self.compute == "auto" and self.type == "fp16")


def apply(network: Network, options: Options, context: Context) -> Outcome:
    """The network in 16 bits, its outputs compared with those before."""
    if is_quantised(network.proto):
        raise PassError(
            NAME, "the network is quantised already", "leave this step out: its weights have 8 bits or less"
        )
    proto = network.copied_graph()
    constants_to_initialisers(proto)
    kept = _kept(proto, options.keep)
    batch = calibration(network, context, 8)
    if batch is None:
        batch = tensors(random_images(network.input, seed=context.seed), network.input)
    try:
        if options.whole:
            _refuse_overflow(proto, kept, batch, context.threads)
            proto = _whole(proto, kept)
        else:
            _stored(proto, kept, TYPES[options.type])
        difference = compare(network.proto, proto, batch, context.threads)
    except CannotRun as error:
        raise PassError(
            NAME, f"ONNX Runtime does not take the graph in {options.type} ({error})", "use compute float32"
        ) from error
    if not difference.rms <= options.tolerance:
        far = f"an output differs by {difference.rms:.2g} of its deviation (root mean square)"
        problem = "an output is not finite" if difference.rms == np.inf else far
        remedy = "name the operators or weights that overflow in keep, or use compute float32"
        raise PassError(NAME, problem, remedy)
    before, after = network.proto.ByteSize(), proto.ByteSize()
    facts = {
        "type": options.type,
        "compute": "half" if options.whole else "float32",
        "bytes": [before, after],
        "largest_difference": difference.largest,
        "rms_difference": round(difference.rms, 6),
        "images": len(batch),
        "kept_float32": sorted(name for name in kept if name),
    }
    refused = tuple(f"{name}: stays float32, as asked" for name in sorted(kept) if name)
    return Outcome(network.with_graph(proto), facts, refused)


def _kept(proto: onnx.ModelProto, patterns: tuple[str, ...]) -> set[str]:
    """Names of nodes that stay, each given one where it has none."""
    weights = {layer.node.output[0]: layer.name for layer in View(proto).layers}
    kept = set()
    for index, node in enumerate(proto.graph.node):
        names = [name for name in (node.op_type, node.name, weights.get(node.output[0], "")) if name]
        if not node.name:
            node.name = f"{node.op_type}_{index}"
        if any(fnmatchcase(name, pattern) for name in names for pattern in patterns):
            kept.add(node.name)
    return kept


def _refuse_overflow(proto: onnx.ModelProto, kept: set[str], batch: NDArray, threads: int) -> None:
    """Raises PassError for a tensor that float16 cannot hold on these images. (ONNX Runtime on a CPU computes float16
    in float32 where it can, and would not show it.)"""
    names = [name for node in proto.graph.node if node.name not in kept for name in node.output if name]
    read = {name for node in proto.graph.node if node.name not in kept for name in node.input}
    largest = {
        tensor.name: float(np.abs(numpy_helper.to_array(tensor)).max(initial=0.0))
        for tensor in proto.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and tensor.name in read and len(tensor.dims)
    }
    session = session_of(with_outputs(proto, names), threads, optimised=False)
    source = session.get_inputs()[0].name
    for image in batch if names else ():
        for name, value in zip(names, session.run(names, {source: image[None]}), strict=True):
            if value.dtype == np.float32:
                largest[name] = max(largest.get(name, 0.0), float(np.abs(value).max(initial=0.0)))
    over = {name: value for name, value in largest.items() if value > LARGEST_HALF}
    if over:
        listed = ", ".join(f"{name} ({value:.3g})" for name, value in list(over.items())[:3])
        problem = f"{len(over)} tensors reach more than 65504, the most that float16 holds: {listed}"
        raise PassError(NAME, problem, "name the nodes that make and read them in keep, or use compute float32")


def _whole(proto: onnx.ModelProto, kept: set[str]) -> onnx.ModelProto:
    """All of the graph but `kept` in float16, with casts at inputs and outputs (the converter of ONNX Runtime)."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    # Smallest and largest of two exist in float16 since opset 13, and decode tails hold many.
    blocked = [kind for kind in DEFAULT_OP_BLOCK_LIST if kind not in ("Min", "Max")]
    converted: onnx.ModelProto = convert_float_to_float16(
        proto, keep_io_types=True, op_block_list=blocked, node_block_list=sorted(kept)
    )
    sort_nodes(converted)
    _join_casts(converted, kept)
    drop_notes(converted)
    stated_outputs(converted)
    return converted


def _join_casts(proto: onnx.ModelProto, kept: set[str]) -> None:
    """Between two nodes that stay float32 the converter casts to float16 and back: they read each other directly."""
    view = View(proto)
    wide = {value.name for value in proto.graph.input if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    wide |= {name for node in proto.graph.node if node.name in kept for name in node.output}
    for node in list(proto.graph.node):
        if node.op_type != "Cast" or integer(node, "to", 0) != TensorProto.FLOAT:
            continue
        narrow = view.producers.get(node.input[0])
        if narrow is not None and narrow.op_type == "Cast" and narrow.input[0] in wide:
            bypass(proto, node, narrow.input[0])
    remove_dead(proto)


def _stored(proto: onnx.ModelProto, kept: set[str], kind: int) -> None:
    """Weights of layers in 16 bits, each behind a Cast, in place."""
    casts = []
    done: dict[str, str] = {}
    narrow = helper.tensor_dtype_to_np_dtype(kind)
    if np.dtype(narrow).itemsize != 2:
        raise PassError(NAME, f"onnx {onnx.__version__} cannot write bfloat16", "pip install -U onnx, or use type fp16")
    tables = {tensor.name: tensor for tensor in proto.graph.initializer}
    for layer in View(proto).layers:
        tensor = tables[layer.name]
        if layer.node.name in kept or layer.name != layer.node.input[1] or tensor.data_type != TensorProto.FLOAT:
            continue
        if layer.name not in done:
            value = numpy_helper.to_array(tensor).astype(narrow)
            tensor.CopyFrom(numpy_helper.from_array(value, layer.name))
            done[layer.name] = fresh_name(proto, f"{layer.name}.widened")
            casts.append(helper.make_node("Cast", [layer.name], [done[layer.name]], to=TensorProto.FLOAT))
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            if name in done:
                node.input[index] = done[name]
    for cast in reversed(casts):
        proto.graph.node.insert(0, cast)
    version = next((item for item in proto.opset_import if item.domain in ("", "ai.onnx")), None)
    if kind == TensorProto.BFLOAT16 and version is not None and version.version < 13:
        raise PassError(
            NAME, f"opset {version.version} has no bfloat16", "use type fp16, or export with opset 13 or later"
        )
