"""What does not depend on the image computed once.

Constants and sizes are folded by ONNX Runtime's own optimiser at its portable level (ORT_ENABLE_BASIC writes standard
ONNX; the levels above write operators of its own). What follows a layer channel by channel goes into its weights here,
so that layers keep their names.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from edge_vision.optimize.graphs.editing import bypass, drop_notes, fresh_name, remove_dead, set_initialisers
from edge_vision.optimize.graphs.running import CannotRun
from edge_vision.optimize.graphs.view import Layer, View, attribute, integer

STANDARD = ("", "ai.onnx")


# Sharing of small equal constants, biases too: training would tie them. The others move what a quantiser placed.
LEFT_OUT = ("ConstantSharing", "EnsureUniqueDQForNodeUnit", "QDQPropagationTransformer", "WeightBiasQuantization")
FUSIONS = ("ConvBNFusion", "ConvMulFusion", "ConvAddFusion", "MatMulAddFusion", "MatMulBNFusion", "PadFusion")


def fold(proto: onnx.ModelProto, *, fuse: bool = True) -> onnx.ModelProto:
    """A graph without what can be computed beforehand: constants, sizes where the input's are stated, identities,
    dropouts, nodes that lead nowhere. Names of inputs, outputs and layers stay. fuse: neighbours become one node too
    (batch normalisation, padding), which training afterwards may not want.

    Raises CannotRun where ONNX Runtime does not take the graph.
    """
    named = onnx.ModelProto()
    named.CopyFrom(proto)
    for index, node in enumerate(named.graph.node):
        node.name = f"{index}:{node.name}"
    before = {layer.node.name: layer for layer in View(named).layers}
    domains = {node.domain for node in proto.graph.node}
    folded = _through_onnxruntime(named, LEFT_OUT if fuse else (*LEFT_OUT, *FUSIONS))
    foreign = any(node.domain not in domains and node.domain not in STANDARD for node in folded.graph.node)
    if foreign or len(folded.graph.node) > len(named.graph.node):
        # An operator of ONNX Runtime's own, which nobody else runs; or DequantizeLinear copied for each reader.
        folded = named
        remove_dead(folded)
    _restore_names(folded, before)
    _restore_node_names(folded)
    _restore_header(folded, proto)
    drop_notes(folded)
    return folded


def _through_onnxruntime(proto: onnx.ModelProto, left_out: tuple[str, ...]) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        try:
            onnxruntime.InferenceSession(
                proto.SerializeToString(),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=list(left_out),
            )
        except Exception as error:  # of onnxruntime's own many types
            raise CannotRun(str(error).strip().splitlines()[0][:300]) from error
        return onnx.load(options.optimized_model_filepath)


def _restore_names(proto: onnx.ModelProto, before: dict[str, Layer]) -> None:
    """Fused weights get names that ONNX Runtime makes up: theirs from before, where still free."""
    taken = {tensor.name for tensor in proto.graph.initializer}
    for layer in View(proto).layers:
        old = before.get(layer.node.name)
        if old is None:
            continue
        for new_name, old_name in ((layer.name, old.name), (layer.bias, old.bias)):
            if new_name and old_name and new_name != old_name and old_name not in taken:
                _rename(proto, new_name, old_name)
                taken.add(old_name)


def _restore_node_names(proto: onnx.ModelProto) -> None:
    """Without the numbers that made them unique, but for those that would not be."""
    taken: set[str] = set()
    for node in proto.graph.node:
        number, colon, name = node.name.partition(":")
        if colon and number.isdigit():
            node.name = name if name not in taken else ""
        taken |= {node.name} - {""}


def _rename(proto: onnx.ModelProto, old: str, new: str) -> None:
    for tensor in proto.graph.initializer:
        if tensor.name == old:
            tensor.name = new
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new


def _restore_header(proto: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Only the operator sets that are used, the format's version and the metadata as they were."""
    used = {node.domain for node in proto.graph.node} | {""}
    versions = {item.domain: item.version for item in proto.opset_import}
    del proto.opset_import[:]
    for domain in sorted(used):
        proto.opset_import.append(onnx.helper.make_opsetid(domain, versions.get(domain, 1)))
    proto.ir_version = original.ir_version
    proto.producer_name, proto.producer_version = original.producer_name, original.producer_version
    proto.graph.name = original.graph.name
    del proto.metadata_props[:]
    proto.metadata_props.extend(original.metadata_props)


def fold_affine(proto: onnx.ModelProto) -> int:
    """Puts what only scales and shifts channels behind a layer (BatchNormalization; Mul, Div, Add, Sub with a constant)
    into the layer's weights, in place; returns how many nodes went. Equal but for rounding.

    Left as they are: layers whose weights are quantised, whose output somebody else reads too, or nodes whose constant
    differs from place to place.
    """
    folded = 0
    while _fold_one(proto):
        folded += 1
    remove_dead(proto)
    return folded


def _fold_one(proto: onnx.ModelProto) -> bool:
    view = View(proto)
    for layer in view.layers:
        if layer.quantised or layer.kind == "MatMul" or (layer.kind == "ConvTranspose" and layer.groups != 1):
            continue
        follower = view.sole_consumer(layer.node.output[0])
        weight = view.constant(layer.node.input[1])
        if follower is None or weight is None or weight.dtype != np.float32:
            continue
        channels = _channels(layer, weight)
        affine = _affine(view, follower, layer.node.output[0], channels, weight.ndim)
        if affine is None or (layer.bias == "" and len(layer.node.input) > 2 and layer.node.input[2]):
            continue
        bias = view.constant(layer.node.input[2]) if layer.bias else np.zeros(channels, np.float32)
        alpha, beta = (float(attribute(layer.node, key, 1.0)) for key in ("alpha", "beta"))  # type: ignore[arg-type]
        if bias is None or bias.size not in (1, channels) or alpha != 1.0 or beta != 1.0:
            continue
        if bypass(proto, follower, layer.node.output[0]):
            _write(proto, view, layer, weight, bias.reshape(-1), affine)
            return True
    return False


def _channels(layer: Layer, weight: NDArray) -> int:
    return int(weight.shape[_output_axis(layer)] * (layer.groups if layer.kind == "ConvTranspose" else 1))


def _output_axis(layer: Layer) -> int:
    """The axis of the weights along which outputs lie."""
    if layer.kind == "Conv":
        return 0
    return 1 if layer.kind == "ConvTranspose" or not integer(layer.node, "transB", 0) else 0


def _affine(
    view: View, node: onnx.NodeProto, source: str, channels: int, rank: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """(scale, shift), (channels,) each, of what a node does to its input, or None where it is nothing of the kind."""
    if node.domain not in STANDARD:
        return None
    if node.op_type == "BatchNormalization":
        if integer(node, "training_mode", 0) or len([name for name in node.output if name]) != 1:
            return None
        tables = [view.constant(name) for name in node.input[1:5]]
        if any(table is None for table in tables):
            return None
        gamma, shift, mean, variance = (table.astype(np.float64) for table in tables if table is not None)
        scale = gamma / np.sqrt(variance + float(attribute(node, "epsilon", 1e-5)))  # type: ignore[arg-type]
        return scale, shift - mean * scale
    if node.op_type not in ("Mul", "Div", "Add", "Sub") or node.input[0] == node.input[1]:
        return None
    first = node.input[0] == source
    value = view.constant(node.input[1] if first else node.input[0])
    if value is None or value.ndim > rank or (node.op_type == "Div" and not first):
        return None
    if value.size == 1:
        table = np.full(channels, float(value.reshape(())))
    else:
        along = (1,) * (rank - value.ndim) + value.shape
        if along != (1, channels) + (1,) * (rank - 2):
            return None
        table = value.astype(np.float64).reshape(-1)
    ones, zeros = np.ones(channels), np.zeros(channels)
    if node.op_type == "Mul":
        return table, zeros
    if node.op_type == "Div":
        return (1 / table, zeros) if table.all() else None
    if node.op_type == "Add":
        return ones, table
    return (ones, -table) if first else (-ones, table)


def _write(
    proto: onnx.ModelProto,
    view: View,
    layer: Layer,
    weight: NDArray,
    bias: NDArray,
    affine: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> None:
    scale, shift = affine
    along = [1] * weight.ndim
    along[_output_axis(layer)] = -1
    node = layer.node
    names = {1: node.input[1]}
    if layer.bias:
        names[2] = node.input[2]
    for index, name in names.items():  # somebody else's weights too, or a Constant node's
        if len(view.consumers[name]) > 1 or name not in view.initialisers:
            names[index] = fresh_name(proto, f"{layer.name}.folded")
            node.input[index] = names[index]
            set_initialisers(proto, {names[index]: np.zeros(1, np.float32)})
    if 2 not in names:
        names[2] = fresh_name(proto, f"{names[1].removesuffix('.weight')}.bias")
        del node.input[2:]
        node.input.append(names[2])
    new_bias = np.broadcast_to(bias.astype(np.float64), scale.shape) * scale + shift
    set_initialisers(
        proto,
        {
            names[1]: (weight.astype(np.float64) * scale.reshape(along)).astype(np.float32),
            names[2]: new_bias.astype(np.float32),
        },
    )
