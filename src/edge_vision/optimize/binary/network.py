"""A graph with binarised convolutions on the CPU: these with bits, what lies between them by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from edge_vision.optimize.binary.graphs import Layer, binary_layers, remove_unused
from edge_vision.optimize.binary.kernel import BinaryConvolution


class BinaryNetwork:
    """Runs a graph that the pass `binarise` made, one image at a time.

    The graph is cut where a binarised convolution begins and ends. Its sums are the same integers as in float, so the
    outputs are those of the whole graph in ONNX Runtime up to the rounding of what lies between.

    Raises ValueError for a graph without binarised convolutions.
    """

    def __init__(self, proto: onnx.ModelProto, threads: int = 1) -> None:
        self.layers = binary_layers(proto)
        if not self.layers:
            raise ValueError("the graph has no binarised convolution; apply the pass `binarise` first")
        self.outputs = [output.name for output in proto.graph.output]
        self.kernels = [BinaryConvolution(layer.weights, layer.strides, layer.pads) for layer in self.layers]
        self.input = proto.graph.input[0].name
        self.steps = [_session(part, threads) for part in _parts(proto, self.layers)]

    def __call__(self, image: NDArray) -> list[NDArray]:
        """The graph's outputs for its input tensor of one image."""
        values: dict[str, NDArray] = {self.input: image}
        for place, (session, inputs, made) in enumerate(self.steps):
            if session is not None:
                values.update(zip(made, session.run(made, {name: values[name] for name in inputs}), strict=True))
            if place < len(self.layers):
                values[self.layers[place].output] = self.binary(place, values[self.layers[place].source])
        return [values[name] for name in self.outputs]

    def binary(self, place: int, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sums of the binarised convolution at a place, (1, O, H', W'), of its float input (1, C, H, W)."""
        layer: Layer = self.layers[place]
        positive = x[0] >= layer.thresholds[:, None, None]
        return self.kernels[place](positive)[None].astype(np.float32)


@dataclass(frozen=True)
class _Part:
    """Nodes between two binarised convolutions; what they read of others, and what others read of them."""

    proto: onnx.ModelProto
    inputs: list[str]
    outputs: list[str]


def _parts(proto: onnx.ModelProto, layers: Sequence[Layer]) -> list[_Part]:
    """The graph cut before and behind its binarised convolutions, each node in the first part that needs it."""
    makers = {name: index for index, node in enumerate(proto.graph.node) for name in node.output}
    cut = {layer.output for layer in layers} | {proto.graph.input[0].name}
    part_of: dict[int, int] = {}
    goals = [[layer.source] for layer in layers] + [[output.name for output in proto.graph.output]]
    for number, goal in enumerate(goals):
        waiting = list(goal)
        while waiting:
            name = waiting.pop()
            if name in cut or name not in makers or makers[name] in part_of:
                continue
            part_of[makers[name]] = number
            waiting += proto.graph.node[makers[name]].input
    wanted = {name for goal in goals for name in goal}
    made_in = {name: part_of.get(index, -1) for name, index in makers.items() if name not in cut}
    crossing = wanted | {
        name
        for index, number in part_of.items()
        for name in proto.graph.node[index].input
        if made_in.get(name, number) != number
    }
    return [_part(proto, part_of, number, crossing, cut) for number in range(len(goals))]


def _part(proto: onnx.ModelProto, part_of: dict[int, int], number: int, crossing: set[str], cut: set[str]) -> _Part:
    nodes = [node for index, node in enumerate(proto.graph.node) if part_of.get(index) == number]
    made = {name for node in nodes for name in node.output}
    constants = {tensor.name for tensor in proto.graph.initializer}
    read = dict.fromkeys(name for node in nodes for name in node.input if name)
    inputs = [name for name in read if name not in made and name not in constants]
    outputs = [name for name in crossing if name in made and name not in cut]
    part = onnx.ModelProto()
    part.CopyFrom(proto)
    del part.graph.node[:], part.graph.input[:], part.graph.output[:]
    part.graph.node.extend(nodes)
    image = proto.graph.input[0]
    for name in inputs:
        part.graph.input.append(image if name == image.name else onnx.helper.make_tensor_value_info(name, 1, None))
    part.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in sorted(outputs))
    return _Part(remove_unused(part), inputs, sorted(outputs))


def _session(part: _Part, threads: int) -> tuple[onnxruntime.InferenceSession | None, list[str], list[str]]:
    if not part.outputs:
        return None, [], []
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    content = part.proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session, part.inputs, part.outputs


def binary_bytes(proto: onnx.ModelProto) -> int:
    """Bytes of the weights that are stored as bits."""
    return sum(numpy_helper.to_array(t).nbytes for t in proto.graph.initializer if t.name.endswith("/binary/bits"))
