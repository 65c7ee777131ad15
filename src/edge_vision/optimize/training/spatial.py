"""Convolutions, pooling, normalisation, padding and resizing of ONNX in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edge_vision.optimize.training.node_view import NodeView
from edge_vision.optimize.training.operators import Function, operator


def _padding(node: NodeView, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """Padding as ONNX has it, all beginnings and then all ends; `auto_pad` worked out."""
    count = len(kernel)
    rule = node.attribute("auto_pad", "NOTSET")
    if rule == "NOTSET":
        return [int(v) for v in node.attribute("pads", [0] * 2 * count)]
    if rule == "VALID":
        return [0] * 2 * count
    begins, ends = [], []
    for size, k, s, d in zip(node.shape()[2:], kernel, strides, dilations, strict=True):
        total = max(0, (math.ceil(size / s) - 1) * s + (k - 1) * d + 1 - size)
        small, large = total // 2, total - total // 2
        begins.append(small if rule == "SAME_UPPER" else large)
        ends.append(large if rule == "SAME_UPPER" else small)
    return begins + ends


def _torch_padding(pads: Sequence[int]) -> list[int]:
    """ONNX's order (all begins, all ends) in that of torch.nn.functional.pad (last axis first)."""
    half = len(pads) // 2
    return [v for i in reversed(range(half)) for v in (pads[i], pads[half + i])]


@operator("Conv")
def _conv(node: NodeView) -> Function:
    kernel = node.shape(1)[2:]
    count = len(kernel)
    if not 1 <= count <= 3:
        raise node.error(f"a convolution over {count} axes")
    strides = list(node.attribute("strides", [1] * count))
    dilations = list(node.attribute("dilations", [1] * count))
    groups = int(node.attribute("group", 1))
    pads = _padding(node, kernel, strides, dilations)
    function = (F.conv1d, F.conv2d, F.conv3d)[count - 1]
    if pads[:count] == pads[count:]:
        same = pads[:count]
        return lambda x, w, b=None: function(x, w, b, strides, same, dilations, groups)
    uneven = _torch_padding(pads)
    return lambda x, w, b=None: function(F.pad(x, uneven), w, b, strides, 0, dilations, groups)


@operator("ConvTranspose")
def _conv_transpose(node: NodeView) -> Function:
    kernel = node.shape(1)[2:]
    count = len(kernel)
    if not 1 <= count <= 2 or node.attribute("output_shape") is not None:
        raise node.error("a transposed convolution over three axes or with `output_shape`")
    strides = list(node.attribute("strides", [1] * count))
    dilations = list(node.attribute("dilations", [1] * count))
    extra = list(node.attribute("output_padding", [0] * count))
    groups = int(node.attribute("group", 1))
    pads = [int(v) for v in node.attribute("pads", [0] * 2 * count)]
    if pads[:count] != pads[count:] or node.attribute("auto_pad", "NOTSET") != "NOTSET":
        raise node.error("a transposed convolution with uneven or automatic padding")
    function = (F.conv_transpose1d, F.conv_transpose2d)[count - 1]
    return lambda x, w, b=None: function(x, w, b, strides, pads[:count], extra, groups, dilations)


@operator("MaxPool")
def _max_pool(node: NodeView) -> Function:
    kernel, strides, dilations, pads, ceil = _window(node)
    count = len(kernel)
    if len(node.proto.output) > 1 and node.proto.output[1]:
        raise node.error("the places of the maxima as an output")
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[count - 1]
    even = pads[:count] == pads[count:] and all(2 * p <= k for p, k in zip(pads, kernel, strict=False))
    if even:
        return lambda x: function(x, kernel, strides, pads[:count], dilations, ceil)
    around = _torch_padding(pads)
    return lambda x: function(F.pad(x, around, value=-torch.inf), kernel, strides, 0, dilations, ceil)


@operator("AveragePool")
def _average_pool(node: NodeView) -> Function:
    kernel, strides, dilations, pads, ceil = _window(node)
    count = len(kernel)
    if any(d != 1 for d in dilations) or count > 2:
        raise node.error("an average over three axes or with dilations")
    function = (F.avg_pool1d, F.avg_pool2d)[count - 1]
    with_padding = bool(node.attribute("count_include_pad", 0))
    if pads[:count] == pads[count:] and all(2 * p <= k for p, k in zip(pads, kernel, strict=False)):
        return lambda x: function(x, kernel, strides, pads[:count], ceil, with_padding)
    around = _torch_padding(pads)
    if with_padding:
        return lambda x: function(F.pad(x, around), kernel, strides, 0, ceil)
    inside = function(F.pad(torch.ones(1, 1, *node.shape()[2:]), around), kernel, strides, 0, ceil)
    return lambda x: function(F.pad(x, around), kernel, strides, 0, ceil) / inside.to(x.device)


def _window(node: NodeView) -> tuple[list[int], list[int], list[int], list[int], bool]:
    kernel = [int(v) for v in node.attribute("kernel_shape")]
    strides = list(node.attribute("strides", [1] * len(kernel)))
    dilations = list(node.attribute("dilations", [1] * len(kernel)))
    return kernel, strides, dilations, _padding(node, kernel, strides, dilations), bool(node.attribute("ceil_mode", 0))


@operator("Pad")
def _pad(node: NodeView) -> Function:
    pads = node.numbers(1, "the padding") if node.given(1) else [int(v) for v in node.attribute("pads")]
    value = float(node.attribute("value", 0.0))
    if node.given(2):
        value = float(node.constant(2, "the value of the padding").item())
    count = len(node.shape())
    if node.given(3):
        full = [0] * 2 * count
        axes = node.numbers(3, "the axes")
        for place, axis in enumerate(axes):
            full[axis % count], full[axis % count + count] = pads[place], pads[place + len(axes)]
        pads = full
    node.take(0)
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}.get(node.attribute("mode", "constant"))
    if mode is None:
        raise node.error(f"padding of mode {node.attribute('mode')}")
    if not any(pads):
        return lambda x: x
    if mode == "constant":
        around = _torch_padding(pads)
        return lambda x: F.pad(x, around, value=value)
    if any(pads[:2] + pads[count : count + 2]):
        raise node.error(f"padding of mode {mode} of batch or channels")
    around = _torch_padding(pads[2:count] + pads[count + 2 :])
    return lambda x: F.pad(x, around, mode)


@operator("BatchNormalization")
def _batch_norm(node: NodeView) -> Function:
    """Statistics of the batch while the module trains, moving the running ones by 1 - ONNX's momentum."""
    epsilon, momentum = node.attribute("epsilon", 1e-5), 1.0 - node.attribute("momentum", 0.9)

    def normalise(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, training: bool) -> Tensor:
        return F.batch_norm(x, mean, variance, scale, bias, training, momentum, epsilon)

    return normalise


@operator("Resize", "Upsample")
def _resize(node: NodeView) -> Function:
    source = node.shape()
    sizes: list[int] | None
    if node.proto.op_type == "Upsample":
        scales = node.constant(1, "the scales").tolist() if node.given(1) else list(node.attribute("scales"))
        sizes, rule = None, "asymmetric"
    else:
        place = 1 if node.opset < 11 else 2
        sizes = node.numbers(3, "the sizes") if node.given(3) else None
        scales = [] if sizes else node.constant(place, "the scales").tolist()
        rule = node.attribute("coordinate_transformation_mode", "half_pixel" if node.opset >= 11 else "asymmetric")
    node.take(0)
    if node.attribute("axes") is not None or node.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise node.error("a resize of some axes or with an aspect ratio")
    mode = node.attribute("mode", "nearest")
    if len(source) != 4 or mode not in ("nearest", "linear") or node.attribute("antialias", 0):
        raise node.error(f"a resize of mode {mode} over {len(source)} axes", "use nearest or linear over height, width")
    if sizes is not None:
        size = sizes[2:]
        factors = [size[i] / source[2 + i] for i in range(2)]
    else:
        factors = [float(v) for v in scales[2:]]
        size = [math.floor(source[2 + i] * factors[i]) for i in range(2)]
    if mode == "linear":
        if rule in ("half_pixel", "pytorch_half_pixel") and min(size) > 1:
            return lambda x: F.interpolate(x, size, mode="bilinear", align_corners=False)
        if rule == "align_corners":
            return lambda x: F.interpolate(x, size, mode="bilinear", align_corners=True)
        lines = [_places(node, rule, source[2 + i], size[i], factors[i]) for i in range(2)]
        return lambda x: _linear(_linear(x, 2, lines[0]), 3, lines[1])
    nearest = node.attribute("nearest_mode", "round_prefer_floor" if node.opset >= 11 else "floor")
    if node.proto.op_type == "Upsample":
        nearest = "floor"
    rows, columns = (
        _rounded(_places(node, rule, source[2 + i], size[i], factors[i]), nearest).clip(0, source[2 + i] - 1)
        for i in range(2)
    )
    repeated = [np.arange(size[i]) * source[2 + i] // size[i] for i in range(2)]
    if np.array_equal(rows, repeated[0]) and np.array_equal(columns, repeated[1]):
        return lambda x: F.interpolate(x, size, mode="nearest")
    y, x_ = torch.from_numpy(rows), torch.from_numpy(columns)
    return lambda x: x.index_select(2, y.to(x.device)).index_select(3, x_.to(x.device))


def _places(node: NodeView, rule: str, length: int, size: int, factor: float) -> np.ndarray:
    """Where each pixel of the result lies in the source, (size,) float64."""
    at = np.arange(size, dtype=np.float64)
    if rule in ("half_pixel", "pytorch_half_pixel"):
        return (at + 0.5) / factor - 0.5 if size > 1 or rule == "half_pixel" else at * 0
    if rule == "asymmetric":
        return at / factor
    if rule == "align_corners":
        return at * (length - 1) / max(size - 1, 1)
    raise node.error(f"a resize with coordinates {rule}")


def _rounded(places: np.ndarray, mode: str) -> np.ndarray:
    if mode == "floor":
        return np.floor(places).astype(np.int64)
    if mode == "ceil":
        return np.ceil(places).astype(np.int64)
    if mode == "round_prefer_ceil":
        return np.floor(places + 0.5).astype(np.int64)
    return np.ceil(places - 0.5).astype(np.int64)


def _linear(x: Tensor, axis: int, places: np.ndarray) -> Tensor:
    length = x.shape[axis]
    places = places.clip(0, length - 1)
    low = np.floor(places).astype(np.int64)
    high = np.minimum(low + 1, length - 1)
    weight = torch.tensor(places - low, dtype=x.dtype, device=x.device)
    weight = weight.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    first = x.index_select(axis, torch.from_numpy(low).to(x.device))
    second = x.index_select(axis, torch.from_numpy(high).to(x.device))
    return first + (second - first) * weight


@operator("DepthToSpace")
def _depth_to_space(node: NodeView) -> Function:
    block = int(node.attribute("blocksize"))
    if node.attribute("mode", "DCR") == "CRD":
        return lambda x: F.pixel_shuffle(x, block)

    def deal(x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.reshape(b, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
        return x.reshape(b, c // block**2, h * block, w * block)

    return deal


@operator("SpaceToDepth")
def _space_to_depth(node: NodeView) -> Function:
    block = int(node.attribute("blocksize"))

    def gather(x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.reshape(b, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
        return x.reshape(b, c * block**2, h // block, w // block)

    return gather
