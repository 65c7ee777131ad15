"""Convolutions of a graph replaced by binarised ones, begun so that their results spread as before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import torch
from onnx import TensorProto
from torch.nn import functional as F

from edge_vision.optimize.binary.graphs import Writer, attributes_of
from edge_vision.optimize.data import Split
from edge_vision.optimize.network import Network
from edge_vision.optimize.training.detection_loss import head_tensors
from edge_vision.optimize.training.graph import TorchGraph
from edge_vision.optimize.training.inputs import input_tensor

IMAGES = 32
"""Images that thresholds and spreads are measured on."""


def with_signs(
    network: Network, split: Split, wanted: Callable[[str], bool], least_channels: int
) -> tuple[onnx.ModelProto, dict[str, int], list[str]]:
    """The graph in the form in which it is trained, the number of weights of each layer that is binarised by the
    weight's name, and a line for each layer that is left.

    A threshold is its channel's mean at first. Behind the sums lies a normalisation that gives each channel the mean
    and spread that it had.
    """
    graph = TorchGraph(network.proto, input_shape=network.input.shape).eval()
    chosen, refused = _chosen(graph, wanted, least_channels)
    writer = Writer(network.proto)
    sample = np.unique(np.linspace(0, len(split) - 1, min(IMAGES, len(split))).astype(int))
    images = input_tensor(split.images[sample], network.input)
    done: dict[str, int] = {}
    for node in writer.proto.graph.node:
        if not node.output or node.output[0] not in chosen:
            writer.nodes.append(node)
            continue
        weight = graph.parameter(node.input[1]).detach()
        with torch.no_grad():
            found = graph.compute(images, (node.input[0], node.output[0]))
            x, y = found[node.input[0]], found[node.output[0]]
            thresholds = x.mean((0, 2, 3))
            sums = _sums(node, x, thresholds, weight)
        statistics = {
            "scale": y.std((0, 2, 3)).numpy(),
            "shift": y.mean((0, 2, 3)).numpy(),
            "mean": sums.mean((0, 2, 3)).numpy(),
            "var": sums.var((0, 2, 3)).numpy(),
        }
        writer.convolution(node, thresholds.numpy(), statistics)
        done[node.input[1]] = weight.numel()
    return writer.finished(), done, refused


def _sums(node: onnx.NodeProto, x: torch.Tensor, thresholds: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What the binarised convolution gives for x."""
    attributes = attributes_of(node)
    assert attributes is not None
    strides, (top, left, bottom, right) = attributes
    signs = torch.where(x < thresholds[:, None, None], -1.0, 1.0)
    signs = F.pad(signs, (left, right, top, bottom), value=1.0)
    return F.conv2d(signs, torch.where(weight < 0, -1.0, 1.0), None, strides)


def _chosen(
    graph: TorchGraph, wanted: Callable[[str], bool], least_channels: int
) -> tuple[dict[str, onnx.NodeProto], list[str]]:
    """Convolutions that are binarised, by their result; and why others that were asked for are not."""
    last = set(head_tensors(graph))
    uses: dict[str, int] = {}
    for node in graph.proto.graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    chosen: dict[str, onnx.NodeProto] = {}
    refused = []
    first = True
    for node in graph.proto.graph.node:
        if node.op_type != "Conv":
            continue
        is_first, first = first, False
        name = node.input[1]
        if not wanted(name):
            continue
        reason = ""
        tensor = graph.initialisers.get(name)
        if tensor is None or tensor.data_type != TensorProto.FLOAT:
            reason = "its weights are no float initialiser"
        elif is_first or node.output[0] in last:
            reason = "it is the first or one of the last layers"
        elif len(tensor.dims) != 4 or attributes_of(node) is None:
            reason = "it has groups, dilations or automatic padding"
        elif min(tensor.dims[2:]) < 2:
            reason = "a 1 x 1 convolution mixes too few bits"
        elif tensor.dims[1] < least_channels or int(np.prod(tensor.dims)) % 8:
            reason = f"{tensor.dims[1]} inputs are fewer than {least_channels}, or its weights fill no whole bytes"
        elif uses[name] > 1:
            reason = "its weights are used twice"
        if reason:
            refused.append(f"{name}: {reason}")
        else:
            chosen[node.output[0]] = node
    return chosen, refused
