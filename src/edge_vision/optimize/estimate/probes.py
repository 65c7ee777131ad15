"""Small graphs with random weights, in fp32 or int8 (QDQ), to measure this machine with: chains of one kind of operator
to calibrate by, and whole networks to test the estimates on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

Place = tuple[str, int, int, int]
"""A tensor's name, height, width and channels."""


class ProbeGraph:
    """Writes an ONNX graph; int8: activations as uint8, weights as int8 per channel, in QDQ form."""

    def __init__(self, size: int, channels: int, int8: bool, seed: int = 0) -> None:
        from onnx import TensorProto, helper

        self._helper = helper
        self._float = TensorProto.FLOAT
        self.int8 = int8
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.input = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, channels, size, size])
        self.begin: Place = (self._quantised("input"), size, size, channels)

    def conv(self, x: Place, out: int, kernel: int = 3, stride: int = 1, group: int = 1, relu: bool = True) -> Place:
        name, height, width, channels = x
        shape = (out, channels // group, kernel, kernel)
        weights = self._weights(self.random.normal(0, np.sqrt(2 / (shape[1] * kernel**2)), shape))
        pad = kernel // 2
        made = self._node(
            "Conv",
            [name, weights],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            group=group,
            pads=[pad] * 4,
        )
        if relu:
            made = self._node("Relu", [made])
        size = tuple((side + 2 * pad - kernel) // stride + 1 for side in (height, width))
        return self._quantised(made), size[0], size[1], out

    def add(self, a: Place, b: Place) -> Place:
        return self._quantised(self._node("Add", [a[0], b[0]])), *a[1:]

    def max_pool(self, x: Place) -> Place:
        made = self._node("MaxPool", [x[0]], kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
        return self._quantised(made), *x[1:]

    def head(self, x: Place, classes: int) -> Place:
        """Mean over the map and a linear layer (as a 1 x 1 convolution, which ONNX Runtime always has on integers)."""
        mean = self._quantised(self._node("GlobalAveragePool", [x[0]]))
        return self.conv((mean, 1, 1, x[3]), classes, 1, relu=False)

    def finish(self, x: Place) -> onnx.ModelProto:
        helper = self._helper
        output = helper.make_tensor_value_info(x[0], self._float, None)
        graph = helper.make_graph(self.nodes, "probe", [self.input], [output], list(self.constants.values()))
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def _node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def _constant(self, name: str, values: np.ndarray) -> str:
        from onnx import numpy_helper

        self.constants.setdefault(name, numpy_helper.from_array(values, name))
        return name

    def _quantised(self, name: str) -> str:
        if not self.int8:
            return name
        scale = self._constant("scale", np.array(0.03, np.float32))
        zero = self._constant("zero", np.array(0, np.uint8))
        return self._node("DequantizeLinear", [self._node("QuantizeLinear", [name, scale, zero]), scale, zero])

    def _weights(self, values: np.ndarray) -> str:
        name = f"w{len(self.nodes)}"
        if not self.int8:
            return self._constant(name, values.astype(np.float32))
        scale = np.abs(values).reshape(len(values), -1).max(1) / 127
        whole = np.round(values / scale.reshape(-1, *[1] * (values.ndim - 1))).astype(np.int8)
        inputs = [self._constant(name, whole), self._constant(f"{name}s", scale.astype(np.float32))]
        return self._node(
            "DequantizeLinear", [*inputs, self._constant(f"{name}z", np.zeros(len(scale), np.int8))], axis=0
        )


def _chain(
    size: int, channels: int, count: int, kernel: int, depthwise: bool = False
) -> Callable[[bool], onnx.ModelProto]:
    def build(int8: bool) -> onnx.ModelProto:
        graph = ProbeGraph(size, channels, int8)
        x = graph.begin
        for _ in range(count):
            x = graph.conv(x, channels, kernel, group=channels if depthwise else 1)
        return graph.finish(x)

    return build


def _narrowing(size: int, channels: int) -> Callable[[bool], onnx.ModelProto]:
    """Convolutions of stride 2 that double the channels."""

    def build(int8: bool) -> onnx.ModelProto:
        graph = ProbeGraph(size, 3, int8)
        x = graph.begin
        for step in range(4):
            x = graph.conv(x, channels << step, 3, 2)
        return graph.finish(x)

    return build


def _sums(size: int, channels: int, count: int) -> Callable[[bool], onnx.ModelProto]:
    def build(int8: bool) -> onnx.ModelProto:
        graph = ProbeGraph(size, channels, int8)
        x = graph.conv(graph.begin, channels, 1)
        for _ in range(count):
            x = graph.max_pool(graph.add(x, x))
        return graph.finish(x)

    return build


def _linear(inputs: int, outputs: int) -> Callable[[bool], onnx.ModelProto]:
    def build(int8: bool) -> onnx.ModelProto:
        graph = ProbeGraph(1, inputs, int8)
        return graph.finish(graph.conv(graph.conv(graph.begin, outputs, 1), outputs, 1))

    return build


CHAINS: Mapping[str, Callable[[bool], onnx.ModelProto]] = {
    "3 x 3, 16 channels at 80": _chain(80, 16, 6, 3),
    "3 x 3, 64 channels at 40": _chain(40, 64, 4, 3),
    "3 x 3, 128 channels at 14": _chain(14, 128, 5, 3),
    "3 x 3 of stride 2 from 160": _narrowing(160, 16),
    "3 x 3 of stride 2 from 96": _narrowing(96, 32),
    "5 x 5, 32 channels at 28": _chain(28, 32, 4, 5),
    "1 x 1, 32 channels at 80": _chain(80, 32, 6, 1),
    "1 x 1, 128 channels at 28": _chain(28, 128, 6, 1),
    "1 x 1, 384 channels at 7": _chain(7, 384, 6, 1),
    "depthwise, 32 channels at 80": _chain(80, 32, 6, 3, depthwise=True),
    "depthwise, 144 channels at 28": _chain(28, 144, 6, 3, depthwise=True),
    "depthwise, 384 channels at 7": _chain(7, 384, 8, 3, depthwise=True),
    "sums and pools, 32 channels at 60": _sums(60, 32, 4),
    "1 x 1, 8 channels at 4": _chain(4, 8, 24, 1),
    "linear, 1280 to 1000": _linear(1280, 1000),
}
"""To calibrate by: a graph of each, in fp32 (False) or int8 (True)."""


def mobilenet_v1_graph(int8: bool, width: float = 0.5, size: int = 128) -> onnx.ModelProto:
    from edge_vision.optimize.estimate.architectures import MOBILENET_V1_BLOCKS

    graph = ProbeGraph(size, 3, int8)
    x = graph.conv(graph.begin, int(32 * width), 3, 2)
    for out, stride in MOBILENET_V1_BLOCKS:
        x = graph.conv(graph.conv(x, x[3], 3, stride, group=x[3]), int(out * width), 1)
    return graph.finish(graph.head(x, 1000))


def mobilenet_v2_graph(int8: bool, width: float = 1.0, size: int = 128) -> onnx.ModelProto:
    from edge_vision.optimize.estimate.architectures import MOBILENET_V2_BLOCKS, rounded

    graph = ProbeGraph(size, 3, int8)
    x = graph.conv(graph.begin, rounded(32 * width), 3, 2)
    for expand, out, count, stride in MOBILENET_V2_BLOCKS:
        for index in range(count):
            before, wide = x, x[3] * expand
            x = graph.conv(x, wide, 1) if expand > 1 else x
            x = graph.conv(x, wide, 3, stride if index == 0 else 1, group=wide)
            x = graph.conv(x, rounded(out * width), 1, relu=False)
            if index:
                x = graph.add(before, x)
    return graph.finish(graph.head(graph.conv(x, rounded(1280 * max(1.0, width)), 1), 1000))


def resnet_graph(int8: bool, size: int = 64, widths: tuple[int, ...] = (32, 64, 128)) -> onnx.ModelProto:
    graph = ProbeGraph(size, 3, int8)
    x = graph.conv(graph.begin, widths[0])
    for stage, out in enumerate(widths):
        stride = 2 if stage else 1
        short = graph.conv(x, out, 1, stride, relu=False) if stride > 1 else x
        x = graph.add(short, graph.conv(graph.conv(x, out, 3, stride), out, relu=False))
    return graph.finish(graph.head(x, 10))


NETWORKS: Mapping[str, Callable[[bool], onnx.ModelProto]] = {
    "MobileNetV1 0.5 at 128": mobilenet_v1_graph,
    "MobileNetV2 1.0 at 128": mobilenet_v2_graph,
    "MobileNetV2 0.35 at 96": lambda int8: mobilenet_v2_graph(int8, 0.35, 96),
    "MobileNetV2 1.0 at 224": lambda int8: mobilenet_v2_graph(int8, 1.0, 224),
    "a ResNet of 7 convolutions at 64": resnet_graph,
}
"""To test by: none of them is calibrated with."""
