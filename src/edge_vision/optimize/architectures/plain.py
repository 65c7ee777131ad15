"""A plain convolutional network of a few layers: a student, and what tests train in a second."""

from __future__ import annotations

from edge_vision.datatypes import Labels
from edge_vision.inference.preprocess import InputSpec
from edge_vision.optimize.architectures.writing import GraphWriter
from edge_vision.optimize.network import Network


def plain_cnn(
    labels: Labels,
    spec: InputSpec,
    *,
    channels: tuple[int, ...] = (8, 16, 32),
    seed: int = 0,
    probabilities: bool = False,
) -> Network:
    """3 x 3 convolutions of stride 2 with batch normalisation and ReLU, one for each of `channels`, then the mean and
    a linear layer, task `classify`. spec, probabilities: as of `mobilenet_v2`. Raises ValueError for no or one label,
    or no channels."""
    if len(labels) < 2 or not channels or min(channels) < 1:
        raise ValueError(f"{len(labels)} labels, channels {channels}: give two labels and one layer at least")
    writer = GraphWriter(spec, seed)
    x = writer.image()
    for number, count in enumerate(channels, 1):
        x = writer.convolution(x, f"layer{number}", count, 3, 2)
        x = writer.node("Relu", [x], f"layer{number}.relu", count)
    output = writer.head(x, len(labels), probabilities)
    made_by = {"architecture": "plain", "channels": list(channels), "seed": seed}
    return writer.network("plain_cnn", output, labels, made_by)
