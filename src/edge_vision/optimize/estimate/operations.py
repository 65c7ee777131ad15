"""What a network asks of a machine: its operators, each with its work and the numbers that it moves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

COMPUTE_KINDS = ("winograd", "dense", "pointwise", "depthwise")
"""Kinds whose rates of multiply-accumulates differ on most machines. Convolutions over all channels: 3 x 3, stride 1,
which Winograd's algorithm computes with fewer multiplications; any other k x k; 1 x 1, with products with a constant
matrix. And those of one channel a group (or few)."""

KINDS = (*COMPUTE_KINDS, "moving", "free")
"""`moving`: pooling, sums, activations that stand alone, concatenations, resizing: their time is that of the memory.
`free`: no work (views, and what runtimes fold into the operator before)."""

BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
"""Bytes of a number in a precision."""


@dataclass(frozen=True)
class Operation:
    """One operator of a graph, batch 1.

    macs: multiply-accumulates. inputs, weights, outputs: how many numbers it reads, holds and writes. type: the
    operator's name in its format (`Conv`). A `free` one has no macs and is not counted as a call.
    """

    name: str
    type: str
    kind: str
    macs: int
    inputs: int
    weights: int
    outputs: int

    def moved(self, precision: str) -> int:
        """Bytes through the memory, every number once."""
        return (self.inputs + self.weights + self.outputs) * BYTES[precision]


def total_macs(operations: Iterable[Operation]) -> int:
    return sum(operation.macs for operation in operations)


def total_weights(operations: Iterable[Operation]) -> int:
    return sum(operation.weights for operation in operations)


def convolution_kind(kernel: tuple[int, int], stride: int, group: int, in_channels: int) -> str:
    """kernel: height and width. Groups of a few channels run on the depthwise kernels or no faster than those; Winograd
    needs some channels to pay for its transformations (runtimes ask for 8 to 16)."""
    if group > 1 and in_channels // group < 8:
        return "depthwise"
    if kernel == (1, 1):
        return "pointwise"
    return "winograd" if kernel == (3, 3) and stride == 1 and group == 1 and in_channels >= 16 else "dense"
