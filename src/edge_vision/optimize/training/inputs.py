"""Images as network inputs, many at once, and their augmentation while they are still bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_vision.datatypes import Detections
from edge_vision.inference.preprocess import InputSpec
from edge_vision.optimize.training.errors import TrainingError


def input_tensor(images: NDArray[np.uint8], spec: InputSpec, device: torch.device | str = "cpu") -> Tensor:
    """(N, H, W, 3) uint8 BGR images of the network's size as its input, equal to `inference.preprocess` bit by bit.

    Channels lie innermost in memory also where the layout is nchw (PyTorch's channels_last), which is what its
    convolutions are fastest with.
    """
    expected = (spec.height, spec.width, 3)
    if images.shape[1:] != expected or images.dtype != np.uint8:
        raise TrainingError(
            f"images of shape {images.shape[1:]} {images.dtype} do not fit an input of {spec.width} x {spec.height}",
            "take the data at the network's size (Data.at)",
        )
    if spec.dtype == "float16":
        raise TrainingError("the network takes float16", "train before the pass `half`")
    count = len(images)
    if spec.colour == "mono":
        grey = cv2.cvtColor(images.reshape(count * spec.height, spec.width, 3), cv2.COLOR_BGR2GRAY)
        images = np.asarray(grey, np.uint8).reshape(count, spec.height, spec.width, 1)
    tensor = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    if spec.colour == "rgb":
        tensor = tensor.flip(3)
    if spec.dtype == "float32":
        mean, std = (np.resize(np.asarray(v, np.float64), spec.channels) for v in (spec.mean, spec.std))
        gain, bias = (spec.scale / std).astype(np.float32), (-mean / std).astype(np.float32)
        tensor = tensor.float()
        if (gain != 1.0).any():
            tensor *= torch.from_numpy(gain).to(device)
        if bias.any():
            tensor += torch.from_numpy(bias).to(device)
    return tensor if spec.layout == "nhwc" else tensor.permute(0, 3, 1, 2)


LEAST_SEEN = 0.3
"""Share of a box that has to be left in the image for its object to be learnt."""


@dataclass(frozen=True)
class Moves:
    """Where the pixels of some images have gone: flips (N, 2) bool, horizontally and vertically; then shifts (N, 2) int
    px to the right and down."""

    flips: NDArray[np.bool_]
    shifts: NDArray[np.int64]

    def boxes(self, number: int, boxes: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
        """(M, 4) xyxy boxes of the image `number` as they lie now, cut at the image's border; those of which less than
        `LEAST_SEEN` is left are (0, 0, 0, 0)."""
        moved = boxes.astype(np.float32, copy=True)
        if self.flips[number, 0]:
            moved[:, [0, 2]] = width - moved[:, [2, 0]]
        if self.flips[number, 1]:
            moved[:, [1, 3]] = height - moved[:, [3, 1]]
        moved += np.tile(self.shifts[number], 2).astype(np.float32)
        cut = np.clip(moved, 0, np.array([width, height] * 2, np.float32))
        area, left = ((b[:, 2:] - b[:, :2]).clip(min=0).prod(1) for b in (moved, cut))
        cut[left < LEAST_SEEN * area] = 0
        return cut


def boxes_of(truth: Sequence[Detections], moves: Moves | None, width: int, height: int) -> NDArray[np.float32]:
    """Objects of some images as (B, M, 5) class and xyxy, of class -1 where an image has fewer than another."""
    padded = np.zeros((len(truth), max(1, *(len(one) for one in truth)), 5), np.float32)
    padded[..., 0], padded[..., 3:] = -1, 1
    for number, one in enumerate(truth):
        boxes = one.boxes if moves is None else moves.boxes(number, one.boxes, width, height)
        seen = (boxes[:, 2:] > boxes[:, :2]).all(1)
        count = int(np.count_nonzero(seen))
        padded[number, :count, 0] = one.class_ids[seen]
        padded[number, :count, 1:] = boxes[seen]
    return padded


@dataclass(frozen=True)
class Augmentation:
    """How images are varied, every time anew.

    horizontal_flip, vertical_flip: the probability is a half; only for what looks the same mirrored. shift: largest
    displacement as a share of the size, the border repeated. brightness: largest relative change; colour: the same of
    each channel alone.
    """

    horizontal_flip: bool = False
    vertical_flip: bool = False
    shift: float = 0.0
    brightness: float = 0.0
    colour: float = 0.0

    def __post_init__(self) -> None:
        for name in ("shift", "brightness", "colour"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, which is not between 0 and 1")

    def __call__(self, images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """New images (N, H, W, 3); the given ones are not written to."""
        return self.moving(images, rng)[0]

    def moving(self, images: NDArray[np.uint8], rng: np.random.Generator) -> tuple[NDArray[np.uint8], Moves]:
        """The same, and where pixels have gone."""
        count, height, width = images.shape[:3]
        flips = rng.random((count, 2)) < 0.5
        places = np.rint(rng.uniform(-self.shift, self.shift, (count, 2)) * (width, height)).astype(int)
        gains = (1 + rng.uniform(-self.brightness, self.brightness, (count, 1))) * (
            1 + rng.uniform(-self.colour, self.colour, (count, 3))
        )
        moves = Moves(flips & [self.horizontal_flip, self.vertical_flip], places)
        if self == Augmentation():
            return images, moves
        result = np.empty_like(images)
        for image, into, flip, place, gain in zip(images, result, flips, places, gains, strict=True):
            if self.horizontal_flip and flip[0]:
                image = image[:, ::-1]
            if self.vertical_flip and flip[1]:
                image = image[::-1]
            if place.any():
                image = _shifted(np.ascontiguousarray(image), *place)
            if self.brightness or self.colour:
                table = np.arange(256, dtype=np.float32)[:, None] * gain.astype(np.float32)
                image = cv2.LUT(
                    np.ascontiguousarray(image), np.rint(table).clip(0, 255).astype(np.uint8).reshape(1, 256, 3)
                )
            into[...] = image
        return result, moves


def _shifted(image: NDArray[np.uint8], right: int, down: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    inside = image[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
    return np.asarray(
        cv2.copyMakeBorder(inside, max(0, down), max(0, -down), max(0, right), max(0, -right), cv2.BORDER_REPLICATE),
        np.uint8,
    )
