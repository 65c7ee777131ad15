"""Writing an ONNX graph layer by layer, with seeded weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Labels
from edge_vision.inference.bundle import Bundle, Thresholds
from edge_vision.inference.preprocess import InputSpec
from edge_vision.optimize.network import Network

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 17, 8
EPSILON = 1e-5


def pixels(width: int, height: int, colour: str = "bgr") -> InputSpec:
    """An input of pixels as they are, uint8 NHWC, stretched: the scale is in the graph, so that a resize is all the
    pre-processing."""
    channels = 1 if colour == "mono" else 3
    return InputSpec(
        width,
        height,
        name="images",
        layout="nhwc",
        dtype="uint8",
        colour=colour,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        resize="stretch",
    )


class GraphWriter:
    """Nodes and initialisers in the making; a tensor is known by its name, `channels` tells how many it has."""

    def __init__(self, spec: InputSpec, seed: int) -> None:
        self.spec = spec
        self.nodes: list[Any] = []
        self.tensors: dict[str, NDArray] = {}
        self.channels: dict[str, int] = {}
        self._rng = np.random.default_rng(seed)

    def node(self, kind: str, inputs: Sequence[str], output: str, channels: int, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        self.channels[output] = channels
        return output

    def constant(self, name: str, value: NDArray) -> str:
        self.tensors[name] = value
        return name

    def image(self) -> str:
        """The input, float NCHW. Pixels (uint8) are brought to 0..1, so that zero padding is black and stays exact
        in 8 bits; floats are as the bundle's scale and mean have made them."""
        name, count = self.spec.name or "images", self.spec.channels
        last = name
        if self.spec.dtype != "float32":
            last = self.node("Cast", [last], "pixels", count, to=1)
        if self.spec.layout == "nhwc":
            last = self.node("Transpose", [last], "planes", count, perm=[0, 3, 1, 2])
        if self.spec.dtype == "uint8":
            scale = self.constant("pixel_scale", np.array(1 / 255, np.float32))
            last = self.node("Mul", [last, scale], "scaled", count)
        self.channels[last] = count
        return last

    def convolution(
        self, x: str, name: str, outputs: int, kernel: int, stride: int = 1, depthwise: bool = False
    ) -> str:
        """Convolution without bias and batch normalisation. Weights by He et al. 2015 (arXiv:1502.01852), fan-out."""
        inputs = self.channels[x]
        groups = inputs if depthwise else 1
        shape = (outputs, inputs // groups, kernel, kernel)
        deviation = math.sqrt(2 / (outputs * kernel * kernel / groups))
        weight = self.constant(f"{name}.weight", self._rng.normal(0, deviation, shape).astype(np.float32))
        raw = self.node(
            "Conv",
            [x, weight],
            f"{name}.conv",
            outputs,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
            group=groups,
        )
        values = {"scale": 1.0, "bias": 0.0, "mean": 0.0, "var": 1.0}
        terms = [self.constant(f"{name}.bn.{k}", np.full(outputs, v, np.float32)) for k, v in values.items()]
        return self.node("BatchNormalization", [raw, *terms], f"{name}.bn", outputs, epsilon=EPSILON, momentum=0.9)

    def relu6(self, x: str) -> str:
        low = self.constant("relu6.low", np.array(0, np.float32))
        high = self.constant("relu6.high", np.array(6, np.float32))
        return self.node("Clip", [x, low, high], f"{x}.relu6", self.channels[x])

    def head(self, x: str, classes: int, probabilities: bool) -> str:
        """Mean over the map and a linear layer: output `logits`, or `probabilities`."""
        count = self.channels[x]
        pooled = self.node("GlobalAveragePool", [x], "pooled", count)
        row = self.node("Flatten", [pooled], "features", count, axis=1)
        weight = self.constant("classifier.weight", self._rng.normal(0, 0.01, (classes, count)).astype(np.float32))
        bias = self.constant("classifier.bias", np.zeros(classes, np.float32))
        last = self.node("Gemm", [row, weight, bias], "logits", classes, transB=1)
        return self.node("Softmax", [last], "probabilities", classes, axis=1) if probabilities else last

    def network(self, name: str, output: str, labels: Labels, made_by: dict[str, Any]) -> Network:
        """The finished network, whose bundle has no file yet."""
        bundle = Bundle(
            name=name,
            task="classify",
            decoder="classification",
            labels=labels,
            input=self.spec,
            thresholds=Thresholds(),
            variants=(),
            folder=Path(),
            file=Path(name),
            decoder_options={"softmax": output == "logits"},
            provenance=made_by,
        )
        return Network(self._model(name, output, len(labels)), bundle)

    def _model(self, name: str, output: str, classes: int) -> onnx.ModelProto:
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        kinds = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}
        spec = self.spec
        image = helper.make_tensor_value_info(spec.name or "images", kinds[spec.dtype], list(spec.shape))
        scores = helper.make_tensor_value_info(output, TensorProto.FLOAT, [spec.batch, classes])
        tensors = [numpy_helper.from_array(array, key) for key, array in self.tensors.items()]
        graph = helper.make_graph(self.nodes, name, [image], [scores], tensors)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="edge_vision")
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)
