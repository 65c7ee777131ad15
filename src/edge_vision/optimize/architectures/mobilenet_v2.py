"""MobileNetV2: inverted residuals with linear bottlenecks (Sandler et al. 2018, arXiv:1801.04381, table 2)."""

from __future__ import annotations

from edge_vision.datatypes import Labels
from edge_vision.inference.preprocess import InputSpec
from edge_vision.optimize.architectures.writing import GraphWriter
from edge_vision.optimize.network import Network

BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels at width 1, how many blocks, stride of the first of them."""
STEM, LAST = 32, 1280


def mobilenet_v2(
    labels: Labels,
    spec: InputSpec,
    *,
    width: float = 1.0,
    last: int | None = None,
    seed: int = 0,
    probabilities: bool = False,
) -> Network:
    """An untrained MobileNetV2 that tells `labels` apart, task `classify`.

    spec: its input, such as `pixels(96, 96)`; the map before the mean is a 32nd of it, rounded up. width: multiplier of
    all channels but the last. last: channels before the classifier; None: 1280, as in the paper, and as many times more
    as the width is above 1. probabilities: a softmax at the end; otherwise the output is logits.

    Batch normalisation is in nodes of its own behind every convolution. Raises ValueError for no or one label, a width
    that is not above 0, or an input smaller than a pixel of the last map.
    """
    if len(labels) < 2:
        raise ValueError(f"{len(labels)} labels: a classifier tells at least two classes apart")
    if not 0 < width <= 8:
        raise ValueError(f"width is {width}: give a multiplier above 0, at most 8")
    if min(spec.width, spec.height) < 32:
        raise ValueError(f"an input of {spec.width} x {spec.height} is too small: give at least 32 x 32")
    writer = GraphWriter(spec, seed)
    x = writer.relu6(writer.convolution(writer.image(), "stem", rounded(STEM * width), 3, 2))
    number = 0
    for expansion, channels, count, first_stride in BLOCKS:
        for place in range(count):
            number += 1
            stride = first_stride if place == 0 else 1
            x = _block(writer, x, f"block{number}", rounded(channels * width), expansion, stride)
    if last is None:
        last = rounded(LAST * max(1.0, width))
    x = writer.relu6(writer.convolution(x, "last", last, 1))
    output = writer.head(x, len(labels), probabilities)
    made_by = {"architecture": "MobileNetV2", "width": width, "last": last, "seed": seed}
    return writer.network(f"mobilenet_v2_{width:g}", output, labels, made_by)


def _block(writer: GraphWriter, x: str, name: str, channels: int, expansion: int, stride: int) -> str:
    inputs = writer.channels[x]
    y = x
    if expansion != 1:
        y = writer.relu6(writer.convolution(y, f"{name}.expand", inputs * expansion, 1))
    y = writer.relu6(writer.convolution(y, f"{name}.depthwise", inputs * expansion, 3, stride, depthwise=True))
    y = writer.convolution(y, f"{name}.project", channels, 1)
    if stride == 1 and inputs == channels:
        y = writer.node("Add", [x, y], f"{name}.sum", channels)
    return y


def rounded(channels: float, divisor: int = 8) -> int:
    """To a multiple of 8, but not more than a tenth down, as the authors' code does."""
    near = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return near + divisor if near < 0.9 * channels else near
