"""Operators of ONNX in PyTorch, with gradients: element by element, matrices, reductions, convolutions.

Each is made from its node once, by a function of `OPERATORS` that reads attributes and constant inputs and returns what
is called with the remaining inputs at every step. Definitions: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from edge_vision.optimize.training.node_view import NodeView

Function = Callable[..., Any]
Builder = Callable[[NodeView], Function]

OPERATORS: dict[str, Builder] = {}


def operator(*names: str) -> Callable[[Builder], Builder]:
    def register(builder: Builder) -> Builder:
        for name in names:
            OPERATORS[name] = builder
        return builder

    return register


def _plain(function: Any) -> Builder:
    return lambda node: function


def _divided(a: Tensor, b: Tensor) -> Tensor:
    if a.is_floating_point():
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


def _sum(*values: Tensor) -> Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


for _name, _function in {
    "Relu": F.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Abs": torch.abs,
    "Neg": torch.neg,
    "Erf": torch.erf,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Softplus": F.softplus,
    "Mish": F.mish,
    "HardSwish": F.hardswish,
    "Identity": lambda x: x,
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": _divided,
    "Pow": torch.pow,
    "MatMul": torch.matmul,
    "Sum": _sum,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Not": torch.logical_not,
    "Where": torch.where,
    "GlobalMaxPool": lambda x: x.amax(tuple(range(2, x.ndim)), keepdim=True),
    "GlobalAveragePool": lambda x: x.mean(tuple(range(2, x.ndim)), keepdim=True),
}.items():
    operator(_name)(_plain(_function))


@operator("Dropout")
def _dropout(node: NodeView) -> Function:
    node.take(0)
    return lambda x: x


@operator("Min", "Max")
def _extreme(node: NodeView) -> Function:
    function = torch.minimum if node.proto.op_type == "Min" else torch.maximum

    def reduce(*values: Tensor) -> Tensor:
        result = values[0]
        for value in values[1:]:
            result = function(result, value)
        return result

    return reduce


@operator("LeakyRelu")
def _leaky(node: NodeView) -> Function:
    slope = node.attribute("alpha", 0.01)
    return lambda x: F.leaky_relu(x, slope)


@operator("PRelu")
def _prelu(node: NodeView) -> Function:
    return lambda x, slope: torch.clamp(x, min=0) + slope * torch.clamp(x, max=0)


@operator("Elu")
def _elu(node: NodeView) -> Function:
    alpha = node.attribute("alpha", 1.0)
    return lambda x: F.elu(x, alpha)


@operator("HardSigmoid")
def _hard_sigmoid(node: NodeView) -> Function:
    alpha, beta = node.attribute("alpha", 0.2), node.attribute("beta", 0.5)
    return lambda x: torch.clamp(x * alpha + beta, 0.0, 1.0)


@operator("Gelu")
def _gelu(node: NodeView) -> Function:
    form = node.attribute("approximate", "none")
    return lambda x: F.gelu(x, approximate=form)


@operator("Clip")
def _clip(node: NodeView) -> Function:
    low, high = node.attribute("min"), node.attribute("max")
    if node.given(1):
        low = node.constant(1, "the lower limit").item()
    if node.given(2):
        high = node.constant(2, "the upper limit").item()
    node.take(0)
    if low == 0 and high == 6:
        return F.relu6
    if low is None and high is None:
        return lambda x: x
    return lambda x: torch.clamp(x, low, high)


class _Sign(torch.autograd.Function):
    """Sign with a straight-through gradient inside [-1, 1] (Hubara et al. 2016, arXiv:1602.02830). Sign of 0 is 0, as
    ONNX has it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.sign(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] * (x.abs() <= 1)


operator("Sign")(_plain(_Sign.apply))


class _Binarised(torch.autograd.Function):
    """-1 below a threshold and +1 from it on. The gradient goes straight through where the value is near it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: Tensor, clipped: bool) -> Tensor:
        distance = x - threshold
        if clipped:
            ctx.save_for_backward(distance.abs() <= 2 * distance.std())
        ctx.clipped, ctx.shape = clipped, threshold.shape
        return torch.where(distance < 0, -1.0, 1.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0] * ctx.saved_tensors[0] if ctx.clipped else gradients[0]
        return gradient, -gradient.sum_to_size(ctx.shape) if ctx.needs_input_grad[1] else None, None


def binarised(x: Tensor, threshold: Tensor, *, clipped: bool) -> Tensor:
    """Signs of x against a threshold (Hubara et al. 2016, arXiv:1602.02830). clipped: no gradient beyond two standard
    deviations, for activations; weights have theirs wherever they are."""
    return _Binarised.apply(x, threshold, clipped)


@operator("BitShift")
def _bit_shift(node: NodeView) -> Function:
    function = torch.bitwise_right_shift if node.attribute("direction") == "RIGHT" else torch.bitwise_left_shift
    return lambda x, by: function(x, by)


@operator("Mod")
def _mod(node: NodeView) -> Function:
    if node.attribute("fmod", 0):
        return torch.fmod
    return torch.remainder


@operator("Cast")
def _cast(node: NodeView) -> Function:
    kind = DTYPES.get(int(node.attribute("to")))
    if kind is None:
        raise node.error(f"casts to ONNX's type number {node.attribute('to')}")
    return lambda x: x.to(kind)


DTYPES = {  # onnx.TensorProto's numbers; half precision trains as float32
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float32,
    11: torch.float32,
    16: torch.float32,
}


@operator("Gemm")
def _gemm(node: NodeView) -> Function:
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    turn_a, turn_b = bool(node.attribute("transA", 0)), bool(node.attribute("transB", 0))

    def gemm(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        a = a.transpose(0, 1) if turn_a else a
        if alpha == 1.0 and beta == 1.0 and (c is None or c.ndim == 1):
            return F.linear(a, b if turn_b else b.transpose(0, 1), c)
        result = alpha * (a @ (b.transpose(0, 1) if turn_b else b))
        return result if c is None else result + beta * c

    return gemm


@operator("Softmax", "LogSoftmax")
def _softmax(node: NodeView) -> Function:
    function = F.softmax if node.proto.op_type == "Softmax" else F.log_softmax
    if node.opset >= 13:
        axis = int(node.attribute("axis", -1))
        return lambda x: function(x, axis)
    first = int(node.attribute("axis", 1)) % len(node.shape())
    if first == len(node.shape()) - 1:
        return lambda x: function(x, first)
    # Before opset 13 all axes from the first on are one.
    return lambda x: function(x.flatten(first), first).reshape(x.shape)


@operator("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceProd")
def _reduction(node: NodeView) -> Function:
    axes, keep = node.axes(1), bool(node.attribute("keepdims", 1))
    node.take(0)
    if axes is None or not axes:
        if axes is not None and node.attribute("noop_with_empty_axes", 0):
            return lambda x: x
        axes = list(range(len(node.shape())))
    dims = tuple(axes)
    if node.batch_axis() in {d % len(node.shape()) for d in dims}:
        raise node.error("reduces over the images of a batch")
    kind = node.proto.op_type
    if kind == "ReduceProd":
        if len(dims) > 1:
            raise node.error("a product over several axes")
        return lambda x: torch.prod(x, dims[0], keepdim=keep)
    function: Any = {
        "ReduceMean": torch.mean,
        "ReduceSum": torch.sum,
        "ReduceMax": torch.amax,
        "ReduceMin": torch.amin,
        "ReduceL2": lambda x, dim, keepdim: torch.linalg.vector_norm(x, 2, dim, keepdim),
    }[kind]
    return lambda x: function(x, dims, keepdim=keep)


@operator("ArgMax")
def _arg_max(node: NodeView) -> Function:
    axis, keep = int(node.attribute("axis", 0)), bool(node.attribute("keepdims", 1))
    return lambda x: torch.argmax(x, axis, keepdim=keep)


@operator("LayerNormalization")
def _layer_norm(node: NodeView) -> Function:
    epsilon = node.attribute("epsilon", 1e-5)
    size = node.shape()[int(node.attribute("axis", -1)) :]
    return lambda x, scale, bias=None: F.layer_norm(x, size, scale, bias, epsilon)


@operator("InstanceNormalization")
def _instance_norm(node: NodeView) -> Function:
    epsilon = node.attribute("epsilon", 1e-5)
    return lambda x, scale, bias: F.instance_norm(x, weight=scale, bias=bias, eps=epsilon)
