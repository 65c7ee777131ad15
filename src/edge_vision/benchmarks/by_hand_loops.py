"""Whole detectors written by hand, a model family each: what `Engine.infer` is measured against.

As an engineer writes them who knows OpenCV, NumPy and the model, for one model, one image size and one camera: OpenCV's
resize and `blobFromImage`, a vectorised decode, OpenCV's NMS. They share no code with pre-processing and decoders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.inference.bundle import Bundle, Thresholds
from edge_vision.inference.preprocess import InputSpec

Found = tuple[NDArray, NDArray, NDArray]
"""Boxes (N, 4) x, y, width, height in source pixels, scores (N,), class ids (N,)."""


@dataclass(frozen=True, slots=True)
class Loop:
    """prepare: image (H, W, 3) uint8 BGR -> the network's input; finish: raw outputs -> detections."""

    prepare: Callable[[NDArray], NDArray]
    finish: Callable[[list[NDArray]], Found]


def loop_for(bundle: Bundle, spec: InputSpec, width: int, height: int) -> Loop | None:
    """The loop for a bundle's family, fed as `spec` says with images of this size; None where none is written."""
    family = _FAMILIES.get(bundle.decoder)
    if family is None or spec.colour == "mono" or spec.dtype == "float16" or any(s != spec.std[0] for s in spec.std):
        return None
    place = _Place.of(spec, width, height)
    return Loop(_prepare(spec, place), family(bundle, spec, place))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the image lies in the input: size resized to, and the corner; factors back to source pixels."""

    size: tuple[int, int]
    left: int
    top: int
    back: tuple[float, float]

    @classmethod
    def of(cls, spec: InputSpec, width: int, height: int) -> _Place:
        if spec.resize == "stretch":
            size = (spec.width, spec.height)
        else:
            ratio = min(spec.width / width, spec.height / height)
            size = (round(width * ratio), round(height * ratio))
        centred = spec.resize == "letterbox"
        left, top = ((spec.width - size[0]) // 2, (spec.height - size[1]) // 2) if centred else (0, 0)
        return cls(size, left, top, (width / size[0], height / size[1]))


def _prepare(spec: InputSpec, place: _Place) -> Callable[[NDArray], NDArray]:
    inside = (slice(place.top, place.top + place.size[1]), slice(place.left, place.left + place.size[0]))
    canvas = np.full((spec.height, spec.width, 3), spec.pad_value, np.uint8)
    whole = place.size == (spec.width, spec.height)
    window = canvas[inside]

    def resized(image: NDArray) -> NDArray:
        if whole:
            return cv2.resize(image, place.size, dst=canvas)
        window[...] = cv2.resize(image, place.size)
        return canvas

    if spec.layout == "nhwc" and not spec.normalised and spec.dtype == "uint8":
        if spec.colour == "rgb":
            return lambda image: cv2.cvtColor(resized(image), cv2.COLOR_BGR2RGB)[None]
        tensor = canvas[None]

        def pixels(image: NDArray) -> NDArray:
            resized(image)
            return tensor

        return pixels
    scale = spec.scale / spec.std[0]
    mean = tuple(value / spec.scale for value in spec.mean)  # blobFromImage subtracts first
    swap = spec.colour == "rgb"

    def blob(image: NDArray) -> NDArray:
        return cv2.dnn.blobFromImage(resized(image), scale, mean=mean, swapRB=swap)

    if spec.layout == "nchw":
        return blob
    return lambda image: np.ascontiguousarray(blob(image).transpose(0, 2, 3, 1))


def _suppress(boxes: NDArray, scores: NDArray, ids: NDArray, limits: Thresholds) -> Found:
    """boxes: x, y, width, height."""
    batched = getattr(cv2.dnn, "NMSBoxesBatched", None)
    if batched is None:  # OpenCV before 4.7
        moved = boxes.copy()
        moved[:, 0] += ids * 4096.0
        found = cv2.dnn.NMSBoxes(moved, scores, limits.score, limits.iou)  # type: ignore[arg-type]
    else:
        found = batched(boxes, scores, ids, limits.score, limits.iou)
    kept: NDArray = np.array(found, int).reshape(-1)[: limits.max_detections]
    return boxes[kept], scores[kept], ids[kept]


def _source(boxes: NDArray, place: _Place) -> NDArray:
    """Boxes x, y, width, height of the network's input in source pixels."""
    x, y = place.back
    return (boxes - (place.left, place.top, 0, 0)) * (x, y, x, y)


_NOTHING: Found = (np.empty((0, 4)), np.empty(0), np.empty(0, int))


def _yolox(bundle: Bundle, spec: InputSpec, place: _Place) -> Callable[[list[NDArray]], Found]:
    """As Megvii's demo_utils.py: cells of the strides, exp of the sizes; rows below the threshold left out first."""
    strides = bundle.decoder_options.get("strides", (8, 16, 32))
    cells, sizes = [], []
    for stride in strides:
        rows, columns = -(-spec.height // stride), -(-spec.width // stride)
        y, x = np.mgrid[:rows, :columns]
        cells.append(np.stack([x, y], -1).reshape(-1, 2))
        sizes.append(np.full((rows * columns, 1), stride))
    grid, stride_of = np.concatenate(cells).astype(np.float32), np.concatenate(sizes).astype(np.float32)
    limits, decoded = bundle.thresholds, bool(bundle.decoder_options.get("decoded", False))

    def finish(outputs: list[NDArray]) -> Found:
        rows = outputs[0][0]
        index = np.nonzero(rows[:, 4] >= limits.score)[0]
        if not len(index):
            return _NOTHING
        rows = rows[index]
        ids = rows[:, 5:].argmax(1)
        scores = rows[:, 4] * rows[:, 5:].max(1)
        if decoded:
            centres, extent = rows[:, :2], rows[:, 2:4]
        else:
            centres = (rows[:, :2] + grid[index]) * stride_of[index]
            extent = np.exp(rows[:, 2:4]) * stride_of[index]
        boxes = _source(np.hstack([centres - extent / 2, extent]), place)
        return _suppress(boxes, scores, ids, limits)

    return finish


def _fastestdet(bundle: Bundle, spec: InputSpec, place: _Place) -> Callable[[list[NDArray]], Found]:
    """As FastestDet's utils/tool.py, for the cells that pass alone."""
    limits = bundle.thresholds
    least = limits.score ** (1 / 0.6)

    def finish(outputs: list[NDArray]) -> Found:
        grid = outputs[0][0]
        if grid.shape[0] * spec.width == grid.shape[1] * spec.height:  # a TFLite file has the channels last
            grid = grid.transpose(2, 0, 1)  # (5 + classes, rows, columns)
        y, x = np.nonzero(grid[0] >= least)
        if not len(y):
            return _NOTHING
        rows = grid[:, y, x]
        ids = rows[5:].argmax(0)
        scores = rows[0] ** 0.6 * rows[5:].max(0) ** 0.4
        columns, lines = grid.shape[2], grid.shape[1]
        extent = 1 / (1 + np.exp(-rows[3:5])) * [[spec.width], [spec.height]]
        centres = (np.tanh(rows[1:3]) + [x, y]) * [[spec.width / columns], [spec.height / lines]]
        boxes = _source(np.vstack([centres - extent / 2, extent]).T, place)
        return _suppress(boxes, scores, ids, limits)

    return finish


def _yolov8(bundle: Bundle, spec: InputSpec, place: _Place) -> Callable[[list[NDArray]], Found]:
    """As ultralytics' examples/YOLOv8-OpenCV-ONNX-Python does, without its loop."""
    limits = bundle.thresholds

    def finish(outputs: list[NDArray]) -> Found:
        columns = outputs[0][0]  # (4 + classes, N)
        scores = columns[4:].max(0)
        index = np.nonzero(scores >= limits.score)[0]
        if not len(index):
            return _NOTHING
        kept = columns[:, index]
        boxes = kept[:4].T.copy()
        boxes[:, :2] -= boxes[:, 2:] / 2
        return _suppress(_source(boxes, place), scores[index], kept[4:].argmax(0), limits)

    return finish


_FAMILIES: Mapping[str, Callable[[Bundle, InputSpec, _Place], Callable[[list[NDArray]], Found]]] = {
    "yolox": _yolox,
    "fastestdet": _fastestdet,
    "yolov8": _yolov8,
}
