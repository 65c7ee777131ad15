"""How a network is quantised to 8 bits; shared by the passes int8 and qat."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Literal

from edge_vision.inference.hardware import detect_hardware


@dataclass(frozen=True)
class Quantisation:
    """calibration: how the range of a tensor is found; `auto` tries all three and keeps the one with the least error on
    calibration images held back. percentile: share of the values, in percent, that `percentile` keeps in range.
    images: calibration images used at most, spread over the clips, and a quarter as many, of other clips where there
    are several, held back.
    activations: `auto` is uint8 on x86-64, where ONNX Runtime's int8 kernels want it so (measured here: with int8 it
    computes half of the layers in float), and int8 elsewhere. reduce_range: weights of 7 bits; `auto` where the CPU
    adds products in 16 bits and may saturate (x86-64 with AVX2 or AVX-512 but no VNNI).
    per_channel: a scale for each output channel of the weights, but for clustered ones.
    lower: say parts of the graph in another way that integer kernels run faster (`quantisation.lowering`).
    heads: whether what the last layers give to the decode tail is rounded to 8 bits, too.
    fallback: `auto` takes the most sensitive layers back to float until the error is at most max_error: noise over
    signal power, mean over the channels of what the last layers give (0.03 is 15 dB). most_float: the part of the
    layers that may go back. float_layers: names of layers that stay float in any case.
    """

    calibration: Literal["auto", "minmax", "entropy", "percentile"] = "auto"
    percentile: float = 99.99
    images: int = 64
    activations: Literal["auto", "uint8", "int8"] = "auto"
    reduce_range: Literal["auto", "yes", "no"] = "auto"
    per_channel: bool = True
    lower: bool = True
    heads: Literal["float", "int8"] = "float"
    fallback: Literal["auto", "none"] = "auto"
    max_error: float = 0.03
    most_float: float = 0.5
    float_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 90 < self.percentile <= 100:
            raise ValueError(f"percentile is {self.percentile}: give more than 90 and at most 100")
        if self.images < 1:
            raise ValueError(f"images is {self.images}: give at least 1")
        if self.max_error <= 0:
            raise ValueError(f"max_error is {self.max_error}: give a share of the signal's power above 0, such as 0.03")
        if not 0 <= self.most_float <= 1:
            raise ValueError(f"most_float is {self.most_float}: give 0 to 1")


def saturates() -> bool:
    """Whether this machine's integer kernels add pairs of products in 16 bits, which full 8-bit weights overflow."""
    flags = detect_hardware().flags
    vector = any(flag in flags for flag in ("avx2", "avx512f"))
    return vector and not any(flag in flags for flag in ("avx512_vnni", "avx_vnni", "amx_int8"))


def activation_type(choice: str) -> str:
    """`uint8` or `int8` for this machine."""
    if choice != "auto":
        return choice
    return "uint8" if platform.machine() in ("x86_64", "AMD64") else "int8"
