"""Weights fitted anew to what is left of a layer's input, so that its output stays what it was.

Layer by layer from the input, on images: least squares of the original layer's outputs (before the activation) on the
smaller network's inputs (He et al. 2017, arXiv:1707.06168, with all errors that came before, as they propose for whole
models), held near the weights that there were. Needs no labels and no training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_vision.optimize.graphs.channels import Channels
from edge_vision.optimize.graphs.editing import remove_dead, set_initialisers
from edge_vision.optimize.graphs.importance import with_outputs
from edge_vision.optimize.graphs.running import session_of
from edge_vision.optimize.graphs.shapes import static_shapes, text
from edge_vision.optimize.graphs.view import Layer, View, integer, integers

SAMPLES_A_WEIGHT = 32  # equations for each unknown of an output, as far as they take no more than
MOST_VALUES = 16_000_000  # of them in one layer: 128 MB
LARGEST = 8192  # unknowns of one output: beyond, the normal matrix alone is half a GB
MANY_ZEROS = 0.2  # a layer that was pruned to zeros before, and
FEW_VALUES = 256  # one that was clustered, keep what was made of them


@dataclass(frozen=True)
class Reconstructed:
    """error_before, error_after: mean over layers of the squared error of their outputs as a part of the outputs'
    variance, with the weights cut and with those fitted. layers: how many were fitted."""

    layers: int
    error_before: float
    error_after: float


def reconstruct(
    original: onnx.ModelProto,
    smaller: onnx.ModelProto,
    channels: Channels,
    removed: NDArray[np.int64],
    batch: NDArray,
    *,
    ridge: float = 0.03,
    threads: int = 0,
    seed: int = 0,
    step: Callable[[], object] = lambda: None,
) -> Reconstructed:
    """Fits the layers of `smaller` (`shrink` of `original`), in place, on a batch (N, ...) of input tensors. `step` is
    called after each layer, of which `fitted_layers` are as many."""
    layers = fitted_layers(smaller)
    rng = np.random.default_rng(seed)
    shapes = static_shapes(original)
    kept = {
        slot.node.output[0]: ~np.isin(slot.units, removed)
        for slot in channels.slots
        if slot.role == "output" and slot.node.op_type in ("Conv", "Gemm", "MatMul")
    }
    places = {layer.node.output[0]: _places(layer, shapes, len(batch), rng) for layer in layers}
    targets = _targets(original, layers, places, batch, threads)
    before, after, count = [], [], 0
    for layer in layers:
        name = layer.node.output[0]
        target = targets[name]
        if name in kept:
            target = target[:, kept[name]]
        rows = _inputs(smaller, layer, places[name], batch, threads)
        errors = _fit(smaller, layer, rows, target, ridge)
        step()
        if errors is not None:
            count += 1
            before.append(errors[0])
            after.append(errors[1])
    return Reconstructed(count, float(np.mean(before)) if before else 0.0, float(np.mean(after)) if after else 0.0)


def fitted_layers(proto: onnx.ModelProto) -> tuple[Layer, ...]:
    """Convolutions without groups, Gemm and MatMul, in the graph's order; not those made sparse or clustered before."""
    view = View(proto)
    found = []
    for layer in view.layers:
        weights = view.constant(layer.node.input[1])
        if layer.kind == "ConvTranspose" or layer.groups != 1 or layer.quantised or weights is None:
            continue
        if weights.dtype != np.float32 or layer.name != layer.node.input[1] or len(view.consumers[layer.name]) > 1:
            continue
        if layer.kind == "Gemm" and (integer(layer.node, "transA", 0) or len(layer.node.attribute) > 4):
            continue
        if layer.kind == "Conv" and text(layer.node, "auto_pad", "NOTSET") != "NOTSET":
            continue
        if (weights == 0).mean() > MANY_ZEROS or (weights.size > 4 * FEW_VALUES and _distinct(weights) <= FEW_VALUES):
            continue
        found.append(layer)
    return tuple(found)


def _distinct(weights: NDArray) -> int:
    return len(np.unique(weights))


def _places(layer: Layer, shapes: dict[str, tuple[int, ...]], images: int, rng: np.random.Generator) -> NDArray:
    """Places of the output that are looked at, (P, 2) rows and columns (of a MatMul: (P, 1) rows)."""
    output, weight = shapes[layer.node.output[0]], shapes[layer.name]
    unknown = int(np.prod(weight[1:])) if layer.kind == "Conv" else max(weight)
    rows = min(SAMPLES_A_WEIGHT * unknown, MOST_VALUES // unknown)
    wanted = max(8, -(-rows // images))
    if layer.kind == "Conv":
        every = np.stack(np.unravel_index(np.arange(output[2] * output[3]), output[2:]), 1)
    else:
        every = np.arange(int(np.prod(output[:-1])))[:, None]
    return every if len(every) <= wanted else every[rng.choice(len(every), wanted, replace=False)]


def _targets(
    proto: onnx.ModelProto, layers: tuple[Layer, ...], places: dict[str, NDArray], batch: NDArray, threads: int
) -> dict[str, NDArray]:
    names = [layer.node.output[0] for layer in layers]
    session = session_of(with_outputs(proto, names), threads)
    source = session.get_inputs()[0].name
    rows: dict[str, list[NDArray]] = {name: [] for name in names}
    for index in range(len(batch)):
        for name, value in zip(names, session.run(names, {source: batch[index : index + 1]}), strict=True):
            rows[name].append(_taken(value, places[name]))
    return {name: np.concatenate(parts) for name, parts in rows.items()}


def _taken(value: NDArray, places: NDArray) -> NDArray:
    """(P, channels) of a tensor (1, C, H, W) or (..., C)."""
    if places.shape[1] == 2:
        return value[0][:, places[:, 0], places[:, 1]].T
    return value.reshape(-1, value.shape[-1])[places[:, 0]]


def _inputs(proto: onnx.ModelProto, layer: Layer, places: NDArray, batch: NDArray, threads: int) -> NDArray[np.float32]:
    """What the layer reads for these places, (N P, unknowns)."""
    source = layer.node.input[0]
    front = with_outputs(proto, [source])
    if source not in {value.name for value in front.graph.input}:
        for output in [output for output in front.graph.output if output.name != source]:
            front.graph.output.remove(output)
        remove_dead(front)
        session = session_of(front, threads)
        fed = session.get_inputs()[0].name
        values = [session.run([source], {fed: batch[i : i + 1]})[0] for i in range(len(batch))]
    else:
        values = [batch[i : i + 1] for i in range(len(batch))]
    if layer.kind == "Conv":
        shape = next(tuple(tensor.dims) for tensor in proto.graph.initializer if tensor.name == layer.name)
        return np.concatenate([_patches(value[0], layer.node, shape, places) for value in values])
    return np.concatenate([value.reshape(-1, value.shape[-1])[places[:, 0]] for value in values])


def _patches(image: NDArray, node: onnx.NodeProto, weight: tuple[int, ...], places: NDArray) -> NDArray[np.float32]:
    """(P, Cin kh kw): what a convolution sees of (Cin, H, W) at places of its output."""
    height, width = weight[2:]
    top, left, bottom, right = integers(node, "pads", (0, 0, 0, 0))
    stride_y, stride_x = integers(node, "strides", (1, 1))
    dilation_y, dilation_x = integers(node, "dilations", (1, 1))
    padded = np.pad(image, ((0, 0), (top, bottom), (left, right)))
    rows = places[:, 0, None] * stride_y + np.arange(height) * dilation_y
    columns = places[:, 1, None] * stride_x + np.arange(width) * dilation_x
    patches = padded[:, rows[:, :, None], columns[:, None, :]]  # (Cin, P, kh, kw)
    return patches.transpose(1, 0, 2, 3).reshape(len(places), -1).astype(np.float32)


def _fit(
    proto: onnx.ModelProto, layer: Layer, rows: NDArray[np.float32], target: NDArray, ridge: float
) -> tuple[float, float] | None:
    """(error before, error after), as parts of the target's variance; None where there is nothing to fit."""
    view = View(proto)
    weight = view.constant(layer.name)
    assert weight is not None
    transposed = layer.kind == "Conv" or (layer.kind == "Gemm" and integer(layer.node, "transB", 0))
    old = weight.reshape(len(weight), -1).T if transposed else weight
    old = old.astype(np.float64)
    bias = view.constant(layer.bias) if layer.bias else None
    inputs, wanted = rows.astype(np.float64), target.astype(np.float64)
    given = 0.0 if bias is None else bias.astype(np.float64).reshape(-1)
    missing = wanted - inputs @ old - given
    spread = max(float(np.square(wanted - wanted.mean(0)).mean()), 1e-20)
    before = float(np.square(missing).mean()) / spread
    if old.shape[0] > LARGEST or before < 1e-10:
        return None
    centre = inputs.mean(0) if bias is not None else np.zeros(inputs.shape[1])
    centred = inputs - centre
    shift = missing.mean(0) if bias is not None else np.zeros(missing.shape[1])
    normal = centred.T @ centred
    normal[np.diag_indices_from(normal)] += ridge * max(float(np.trace(normal)) / len(normal), 1e-12)
    change = np.linalg.solve(normal, centred.T @ (missing - shift))
    left = missing - shift - centred @ change
    after = float(np.square(left).mean()) / spread
    new = old + change
    values = {layer.name: (new.T if transposed else new).reshape(weight.shape).astype(weight.dtype)}
    if bias is not None:
        values[layer.bias] = (given + shift - centre @ change).reshape(bias.shape).astype(bias.dtype)
        if len(view.consumers[layer.bias]) > 1:
            return None
    set_initialisers(proto, values)
    return before, after
