"""Frames to network inputs, and boxes back: resize rule, colour order, normalisation, layout.

Coordinates are continuous (pixel (0, 0) covers [0, 1) x [0, 1)), as everywhere in the project and in OpenCV's
resize: a point x of the source lies at x * scale + offset of the network's input. The scale is that of the integer
size really resized to, an axis at a time, so that the way back is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Frame

RESIZE_RULES = ("letterbox", "letterbox_corner", "stretch")
INTERPOLATIONS = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA, "nearest": cv2.INTER_NEAREST}
COLOURS = ("bgr", "rgb", "mono")
LAYOUTS = ("nhwc", "nchw")
DTYPES = ("uint8", "float32", "float16")

ENCODINGS = {"bgr8": 3, "rgb8": 3, "mono8": 1, "mono16": 1, "bgra8": 4, "rgba8": 4}
"""Frame encodings that are read, with their channels."""

CONVERSIONS = {
    ("bgr8", "rgb"): cv2.COLOR_BGR2RGB,
    ("rgb8", "bgr"): cv2.COLOR_RGB2BGR,
    ("mono8", "bgr"): cv2.COLOR_GRAY2BGR,
    ("mono8", "rgb"): cv2.COLOR_GRAY2RGB,
    ("bgra8", "bgr"): cv2.COLOR_BGRA2BGR,
    ("bgra8", "rgb"): cv2.COLOR_BGRA2RGB,
    ("rgba8", "rgb"): cv2.COLOR_RGBA2RGB,
    ("rgba8", "bgr"): cv2.COLOR_RGBA2BGR,
    ("bgr8", "mono"): cv2.COLOR_BGR2GRAY,
    ("rgb8", "mono"): cv2.COLOR_RGB2GRAY,
    ("bgra8", "mono"): cv2.COLOR_BGRA2GRAY,
    ("rgba8", "mono"): cv2.COLOR_RGBA2GRAY,
}


@dataclass(frozen=True, slots=True)
class InputSpec:
    """How a network wants its image.

    tensor = (pixel * scale - mean) / std, in the order of `colour`; pixel is 0..255. resize: `letterbox` (keeps the
    aspect, padding on both sides), `letterbox_corner` (padding right and below) or `stretch`. pad_value is a pixel
    value, before normalisation. interpolation: `linear`, the default, is what the usual training pipelines use and
    the fastest that does not alias at a factor of 2; `area` averages all pixels, which is worth its 3 ms at 1080p
    only for fine texture; `nearest`. name: the input tensor, "" for the only one. batch: images a run takes; the most
    where the model leaves it open.
    """

    width: int
    height: int
    name: str = ""
    layout: str = "nchw"
    dtype: str = "float32"
    colour: str = "rgb"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    resize: str = "letterbox"
    pad_value: int = 114
    interpolation: str = "linear"
    batch: int = 1

    @property
    def channels(self) -> int:
        return 1 if self.colour == "mono" else 3

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the tensor."""
        if self.layout == "nhwc":
            return (self.batch, self.height, self.width, self.channels)
        return (self.batch, self.channels, self.height, self.width)

    @property
    def normalised(self) -> bool:
        """Whether values differ from the pixels'."""
        return self.scale != 1.0 or any(self.mean) or any(s != 1.0 for s in self.std)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where a source image lies in the network's input: network = source * scale + offset, an axis at a time.

    width, height: the source's; content: (left, top, width, height) of the image within the input, whole pixels.
    """

    width: int
    height: int
    content: tuple[int, int, int, int]
    scale: NDArray[np.float64] = field(compare=False)  # (4,): x, y, x, y
    offset: NDArray[np.float64] = field(compare=False)  # (4,)
    limit: NDArray[np.float32] = field(compare=False)  # (4,): width, height, width, height

    def to_network(self, boxes: NDArray) -> NDArray[np.float64]:
        """Boxes (N, 4) xyxy in source pixels, in network pixels."""
        return boxes * self.scale + self.offset

    def to_source(self, boxes: NDArray) -> NDArray[np.float32]:
        """Boxes (N, 4) xyxy in network pixels, in source pixels; the inverse of `to_network` up to float32's
        rounding of the result, not clipped. (Computed in doubles: behind wide padding, float32 alone would lose
        0.004 px.)"""
        return ((boxes - self.offset) / self.scale).astype(np.float32)

    def clip(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes in source pixels limited, in place, to the image."""
        np.maximum(boxes, 0, out=boxes)  # np.clip costs twice as much on a few boxes
        return np.minimum(boxes, self.limit, out=boxes)


def geometry(spec: InputSpec, width: int, height: int) -> Geometry:
    """The place of a `width` x `height` image in the input that `spec` describes."""
    if spec.resize == "stretch":
        new_width, new_height = spec.width, spec.height
    else:
        ratio = min(spec.width / width, spec.height / height)
        new_width = min(max(round(width * ratio), 1), spec.width)
        new_height = min(max(round(height * ratio), 1), spec.height)
    left = top = 0
    if spec.resize == "letterbox":
        left, top = (spec.width - new_width) // 2, (spec.height - new_height) // 2
    scale = np.array([new_width / width, new_height / height] * 2)
    offset = np.array([left, top] * 2, np.float64)
    limit = np.array([width, height] * 2, np.float32)
    return Geometry(width, height, (left, top, new_width, new_height), scale, offset, limit)


def check_frame(frame: Frame) -> tuple[NDArray, str]:
    """Image and encoding of a frame. Raises ValueError, naming the remedy, for an encoding that is not in `ENCODINGS`
    or an image that is not of it."""
    image, encoding = frame.image, frame.encoding
    channels = ENCODINGS.get(encoding)
    if channels is None:
        raise ValueError(f"frames of encoding {encoding!r} cannot be read; convert them to {', '.join(ENCODINGS)}")
    found = image.shape[2] if image.ndim == 3 else 1
    dtype = np.uint16 if encoding == "mono16" else np.uint8
    if image.ndim not in (2, 3) or found != channels or image.dtype != dtype or image.size == 0:
        raise ValueError(
            f"a frame of encoding {encoding} has an image of shape {image.shape} {image.dtype}; "
            f"give ({'H, W' if channels == 1 else f'H, W, {channels}'}) {np.dtype(dtype).name}, not empty"
        )
    return image, encoding


class Preprocessor:
    """Frames into one reused input tensor.

    The tensor that `__call__` returns is the same buffer every time: it is valid until the next call. The padding is
    drawn when the size of the source changes, not for every frame.
    """

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec
        self.tensor = np.zeros(spec.shape, spec.dtype)
        self.interpolation = INTERPOLATIONS[spec.interpolation]
        mean, std = (np.resize(np.asarray(v, np.float64), spec.channels) for v in (spec.mean, spec.std))
        self.gain = (spec.scale / std).astype(np.float32)
        self.bias = (-mean / std).astype(np.float32)
        self.geometry: Geometry | None = None
        self.direct = spec.layout == "nhwc" and spec.dtype == "uint8"
        self.pixels = self.tensor[0]  # (h, w, c) uint8 of the image's place; the tensor itself where that is possible
        self.planes: list[NDArray[np.uint8]] = []
        self.content: NDArray = self.tensor[0]

    def __call__(self, frame: Frame) -> tuple[NDArray, Geometry]:
        """The tensor for `frame` and where the image lies in it.

        Raises ValueError, naming the remedy, for an encoding that is not in `ENCODINGS` or an image that is not of it.
        """
        image, encoding = check_frame(frame)
        height, width = image.shape[:2]
        place = self.geometry
        if place is None or place.width != width or place.height != height:
            place = self._place(width, height)
        size = place.content[2:]
        convert = self._conversion(encoding)
        if convert is None:
            cv2.resize(image, size, dst=self.pixels, interpolation=self.interpolation)
        else:
            self._convert(image, size, encoding, convert)
        if not self.direct:
            self._fill()
        return self.tensor, place

    def _conversion(self, encoding: str) -> int | None:
        """OpenCV's colour conversion for frames of this encoding; None where resizing alone gives the pixels."""
        if encoding == "mono16":
            encoding = "mono8" if self.spec.colour != "mono" else "mono16"
        if encoding == "mono16":
            return -1
        return CONVERSIONS.get((encoding, self.spec.colour))

    def _convert(self, image: NDArray, size: tuple[int, int], encoding: str, conversion: int) -> None:
        # The smaller of the two sizes is converted; a colour conversion and an interpolation commute up to rounding.
        first = size[0] * size[1] > image.shape[0] * image.shape[1]
        if not first:
            image = cv2.resize(image, size, interpolation=self.interpolation)
        if encoding == "mono16":
            image = cv2.convertScaleAbs(image, alpha=1 / 257)  # full range to full range: 65535 to 255
        if first:
            converted = image if conversion < 0 else cv2.cvtColor(image, conversion)
            cv2.resize(converted, size, dst=self.pixels, interpolation=self.interpolation)
        elif conversion < 0:
            np.copyto(self.pixels, image.reshape(self.pixels.shape))
        else:
            cv2.cvtColor(image, conversion, dst=self.pixels)

    def _place(self, width: int, height: int) -> Geometry:
        """Lay the input out for sources of this size: padding, and the views that a frame is written into."""
        spec = self.spec
        place = geometry(spec, width, height)
        left, top, new_width, new_height = place.content
        rows, columns = slice(top, top + new_height), slice(left, left + new_width)
        padding = spec.pad_value * self.gain + self.bias
        if spec.layout == "nhwc":
            self.tensor[0] = padding
            self.content = self.tensor[0, rows, columns]
        else:
            self.tensor[0] = padding[:, None, None]
            self.content = self.tensor[0, :, rows, columns]
        shape = (new_height, new_width) if spec.channels == 1 else (new_height, new_width, spec.channels)
        self.pixels = self.content.reshape(shape) if self.direct else np.empty(shape, np.uint8)
        self.planes = [np.empty((new_height, new_width), np.uint8) for _ in range(spec.channels)]
        self.geometry = place
        return place

    def _fill(self) -> None:
        """Pixels into the tensor: one pass over each plane, while it is in the cache."""
        spec = self.spec
        if spec.layout == "nhwc":
            pixels = self.pixels.reshape(self.content.shape)
            if spec.dtype == "float32":
                gain = self.gain[0] if (self.gain == self.gain[0]).all() else self.gain
                np.multiply(pixels, gain, out=self.content, dtype=np.float32)
                if self.bias.any():
                    self.content += self.bias
            else:
                self.content[...] = pixels * self.gain + self.bias
            return
        planes = self.planes
        if spec.channels == 1:
            planes = [self.pixels]
        elif spec.dtype == "uint8":
            cv2.split(self.pixels, list(self.content))
            return
        else:
            cv2.split(self.pixels, planes)
        for plane, content, gain, bias in zip(planes, self.content, self.gain, self.bias, strict=True):
            if spec.dtype == "uint8":
                content[...] = plane
            elif spec.dtype == "float32":
                np.multiply(plane, gain, out=content, dtype=np.float32)
                if bias:
                    content += bias
            else:
                content[...] = plane * gain + bias
