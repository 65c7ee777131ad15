"""Images with their truth, as passes and measurements take them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Detections, Labels


@dataclass(frozen=True)
class Split:
    """images (N, H, W, 3) uint8 BGR, resized to the network's input as the engine does it; truth: class ids (N,) int64
    of a classifier, or of a detector one `Detections` an image, boxes in pixels of these images. sequences (N,) int64:
    which clip an image comes from; neighbours in a clip are alike, so what is estimated from a sample of images is
    estimated from clips."""

    images: NDArray[np.uint8]
    truth: NDArray[np.int64] | tuple[Detections, ...]
    sequences: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)

    def part(self, chosen: NDArray) -> Split:
        """The images of an index array or mask."""
        truth = self.truth
        if isinstance(truth, tuple):
            indices = np.arange(len(self))[chosen]
            return Split(self.images[chosen], tuple(truth[i] for i in indices), self.sequences[chosen])
        return Split(self.images[chosen], truth[chosen], self.sequences[chosen])


@dataclass(frozen=True)
class Data:
    """Three splits without a common clip, but that calibration may be a part of train. at(width, height): the same data
    for another size of the network's input."""

    name: str
    labels: Labels
    train: Split
    calibration: Split
    test: Split
    at: Callable[[int, int], Data]
