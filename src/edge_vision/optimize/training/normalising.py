"""Batch normalisation for the time of a training: put behind convolutions that have none, and folded away afterwards.

Models are shipped with their normalisation folded into the weights, and training such a graph is slow and touchy. The
nodes put in change nothing to begin with: they take off and put back the mean and spread that a sample of images has
there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from edge_vision.optimize.graphs.editing import replace_nodes
from edge_vision.optimize.training.detection_loss import head_tensors
from edge_vision.optimize.training.graph import TorchGraph

MARK = "/normalised"
EPSILON = 1e-5


def with_normalisation(graph: TorchGraph, sample: Sequence[Tensor]) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The graph with a BatchNormalization behind every convolution of float weights that has none, but for the last
    ones before the outputs; and the names of those convolutions' results. sample: inputs of the graph."""
    chosen = _chosen(graph)
    if not chosen:
        return graph.proto, ()
    names = tuple(node.output[0] for node in chosen)
    means, variances = _statistics(graph, names, sample)
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    nodes: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        nodes.append(node)
        name = node.output[0] if node.output else ""
        if node.op_type != "Conv" or name not in names:
            continue
        place = names.index(name)
        values = {
            "scale": np.sqrt(variances[place] + EPSILON),
            "shift": means[place],
            "mean": means[place],
            "var": variances[place],
        }
        node.output[0] = f"{name}{MARK}/from"
        inputs = [f"{name}{MARK}/{key}" for key in values]
        nodes.append(
            helper.make_node("BatchNormalization", [node.output[0], *inputs], [name], f"{name}{MARK}", epsilon=EPSILON)
        )
        proto.graph.initializer.extend(
            numpy_helper.from_array(value.astype(np.float32), key)
            for key, value in zip(inputs, values.values(), strict=True)
        )
    replace_nodes(proto, nodes)
    return proto, names


def without_normalisation(proto: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The graph with the nodes that `with_normalisation` put in folded into the convolutions before them, which get a
    bias where they had none. Zero weights stay zero."""
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    tensors = {tensor.name: tensor for tensor in result.graph.initializer}
    marks = {f"{name}{MARK}": name for name in names}
    makers = {node.output[0]: node for node in result.graph.node if node.output}
    nodes = []
    for node in result.graph.node:
        if node.name not in marks:
            nodes.append(node)
            continue
        layer = makers[node.input[0]]
        scale, shift, mean, variance = (numpy_helper.to_array(tensors[name]) for name in node.input[1:])
        factor = scale / np.sqrt(variance + EPSILON)
        weight = tensors[layer.input[1]]
        values = numpy_helper.to_array(weight)
        weight.CopyFrom(
            numpy_helper.from_array((values.T * factor).T.astype(np.float32), weight.name)  # outputs are the first axis
        )
        if len(layer.input) > 2 and layer.input[2]:
            bias = tensors[layer.input[2]]
            before = numpy_helper.to_array(bias)
        else:
            bias = result.graph.initializer.add()
            bias.name, before = f"{marks[node.name]}/bias", np.zeros_like(mean)
            del layer.input[2:]
            layer.input.append(bias.name)
        bias.CopyFrom(numpy_helper.from_array(((before - mean) * factor + shift).astype(np.float32), bias.name))
        layer.output[0] = node.output[0]
    replace_nodes(result, nodes)
    kept = [t for t in result.graph.initializer if not any(t.name.startswith(f"{mark}/") for mark in marks)]
    copies = [_copied(tensor) for tensor in kept]
    del result.graph.initializer[:]
    result.graph.initializer.extend(copies)
    return result


def _chosen(graph: TorchGraph) -> list[onnx.NodeProto]:
    """Convolutions that can have a normalisation put in and taken out again."""
    last = set(head_tensors(graph)) | set(graph.outputs)
    readers: dict[str, list[onnx.NodeProto]] = {}
    uses: dict[str, int] = {}
    for node in graph.proto.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
            uses[name] = uses.get(name, 0) + 1
    chosen = []
    for node in graph.proto.graph.node:
        if node.op_type != "Conv" or node.output[0] in last:
            continue
        constants = [name for name in node.input[1:] if name]
        plain = all(
            name in graph.initialisers
            and graph.initialisers[name].data_type == TensorProto.FLOAT
            and name in graph.trained
            and uses[name] == 1
            for name in constants
        )
        if plain and not any(r.op_type == "BatchNormalization" for r in readers.get(node.output[0], [])):
            chosen.append(node)
    return chosen


def _statistics(
    graph: TorchGraph, names: tuple[str, ...], sample: Sequence[Tensor]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Mean and variance of each channel of these tensors over a sample."""
    sums = [torch.zeros(1, dtype=torch.float64) for _ in names]
    squares = [torch.zeros(1, dtype=torch.float64) for _ in names]
    counts = [0] * len(names)
    graph.eval()
    with torch.no_grad():
        for images in sample:
            found = graph.compute(images, names)
            for place, name in enumerate(names):
                axes = [0, *range(2, found[name].ndim)]
                values = found[name].double()
                sums[place] = sums[place] + values.sum(axes).cpu()
                squares[place] = squares[place] + values.square().sum(axes).cpu()
                counts[place] += values.numel() // values.shape[1]
    means = [s / n for s, n in zip(sums, counts, strict=True)]
    variances = [(q / n - m.square()).clamp(min=0) for q, n, m in zip(squares, counts, means, strict=True)]
    return [m.numpy() for m in means], [v.numpy() for v in variances]


def _copied(tensor: onnx.TensorProto) -> onnx.TensorProto:
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    return copy
