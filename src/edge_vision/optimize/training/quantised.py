"""QuantizeLinear and DequantizeLinear in PyTorch, with gradients.

The gradient goes straight through the rounding and is cut where a value was clipped (Jacob et al. 2018,
arXiv:1712.05877). Scales that are trained follow LSQ (Esser et al. 2020, arXiv:1902.08153).
"""

from __future__ import annotations

import math
from typing import Any

import onnx
import torch
from torch import Tensor

from edge_vision.optimize.training.node_view import NodeView
from edge_vision.optimize.training.operators import Function, operator

RANGES: dict[int, tuple[int, int]] = {
    onnx.TensorProto.INT8: (-128, 127),
    onnx.TensorProto.UINT8: (0, 255),
    onnx.TensorProto.INT16: (-32768, 32767),
    onnx.TensorProto.UINT16: (0, 65535),
    onnx.TensorProto.INT4: (-8, 7),
    onnx.TensorProto.UINT4: (0, 15),
    onnx.TensorProto.INT32: (-(2**31), 2**31 - 1),
}
"""Smallest and largest code of each of ONNX's types."""


def aligned(values: Tensor, shape: tuple[int, ...], axis: int, block: int = 0) -> Tensor:
    """Scales or zero points, shaped so that they broadcast over a tensor of this shape."""
    if values.numel() == 1:
        return values.reshape(())
    if block:
        return values.repeat_interleave(block, axis).narrow(axis, 0, shape[axis])
    return values.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])


class _Rounded(torch.autograd.Function):
    """Quantised and dequantised by broadcast scales; for what PyTorch's own functions do not cover."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
        codes = torch.round(x / scale) + zero
        inside = (codes >= low) & (codes <= high)
        ctx.save_for_backward(x, scale, zero, inside)
        ctx.range = low, high
        return (codes.clamp(low, high) - zero) * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, zero, inside = ctx.saved_tensors
        gradient = gradients[0]
        to_scale = None
        if ctx.needs_input_grad[1]:
            low, high = ctx.range
            position = x / scale
            step = torch.where(inside, torch.round(position) - position, (position + zero > high) * (high - zero))
            step = torch.where(~inside & (position + zero < low), low - zero, step)
            to_scale = (gradient * step).sum_to_size(scale.shape) / math.sqrt(x.numel() / scale.numel() * high)
        return gradient * inside, to_scale, None, None, None


class _RoundedByOne(torch.autograd.Function):
    """With one fixed scale. PyTorch's own function goes value by value and takes three times as long."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, low: int, high: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.limits = (low - 0.5) * scale, (high + 0.5) * scale
        return torch.div(x, scale).round_().clamp_(low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradients[0], x, *ctx.limits), None, None, None


def rounded(
    x: Tensor, scale: Tensor, zero: Tensor | None, limits: tuple[int, int], axis: int, block: int = 0
) -> Tensor:
    """x as it comes back from codes of these limits. scale, zero: one value, one a slice of `axis`, or one a `block` of
    it."""
    zero = torch.zeros_like(scale) if zero is None else zero.to(scale.dtype)
    shape = tuple(x.shape)
    return _Rounded.apply(x, aligned(scale, shape, axis, block), aligned(zero, shape, axis, block), *limits)


def fake_quantisation(scale: Tensor, zero: Tensor | None, limits: tuple[int, int], axis: int) -> Function:
    """`rounded` with fixed scales, by PyTorch's own kernels where they can."""
    low, high = limits
    if scale.numel() == 1:
        step, origin = float(scale), 0 if zero is None else int(zero)
        return lambda x: _RoundedByOne.apply(x, step, low - origin, high - origin)
    origins = torch.zeros(scale.numel(), dtype=torch.int32) if zero is None else zero.to(torch.int32)
    held: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def quantise(x: Tensor) -> Tensor:
        if x.device not in held:
            held[x.device] = scale.to(x.device), origins.to(x.device)
        return torch.fake_quantize_per_channel_affine(x, *held[x.device], axis % x.ndim, low, high)

    return quantise


@operator("QuantizeLinear")
def _quantize(node: NodeView) -> Function:
    """Codes as float32, so that what lies between Q and DQ passes gradients on."""
    limits = limits_of(node)
    axis, block = int(node.attribute("axis", 1)), int(node.attribute("block_size", 0))

    def quantise(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        shape = tuple(x.shape)
        position = x / aligned(scale, shape, axis, block)
        codes = position + (torch.round(position) - position).detach()
        if zero is not None:
            codes = codes + aligned(zero.to(x.dtype), shape, axis, block)
        return codes.clamp(*limits)

    return quantise


@operator("DequantizeLinear")
def _dequantize(node: NodeView) -> Function:
    axis, block = int(node.attribute("axis", 1)), int(node.attribute("block_size", 0))
    known, origin = node.constants[1], node.constants[2] if node.given(2) else None
    if known is not None and known.numel() == 1 and float(known) == 1.0 and (origin is None or not origin.any()):
        node.take(0)  # pixels as they are
        return lambda codes: codes.float()

    def dequantise(codes: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        shape, value = tuple(codes.shape), codes.to(scale.dtype)
        if zero is not None:
            value = value - aligned(zero.to(scale.dtype), shape, axis, block)
        return value * aligned(scale, shape, axis, block)

    return dequantise


def limits_of(node: NodeView) -> tuple[int, int]:
    """Smallest and largest code of a QuantizeLinear."""
    zero = node.constants[2] if node.given(2) else None
    if zero is not None:
        kind = {torch.int8: 3, torch.uint8: 2, torch.int16: 5, torch.uint16: 4, torch.int32: 6}.get(zero.dtype)
    else:
        kind = int(node.attribute("output_dtype", 0)) or int(onnx.TensorProto.UINT8)
    if kind not in RANGES:
        raise node.error("quantises to a type that training does not know", "use int8, uint8, int16 or uint16")
    return RANGES[kind]
