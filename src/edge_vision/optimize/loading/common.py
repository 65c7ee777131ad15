"""What every kind of data shares: how many images, how they are fitted to a network, and the error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Detections, Frame, Labels
from edge_vision.inference.preprocess import InputSpec, Preprocessor
from edge_vision.optimize.passes import Bar

SPLITS = ("train", "calibration", "test")

MakeBar = Callable[[str, int], Bar]
Warn = Callable[[str], None]


class DataError(Exception):
    """Data cannot be used: what is wrong, where, and what to do about it."""

    def __init__(self, where: object, problem: str, remedy: str = "") -> None:
        self.where, self.problem, self.remedy = str(where), problem, remedy
        super().__init__(f"{where}: {problem}" + (f". {remedy[:1].upper()}{remedy[1:]}." if remedy else ""))


@dataclass(frozen=True)
class Limits:
    """The most images of each split, None for what is usual of the kind of data. Raises ValueError for less than 1."""

    train: int | None = None
    calibration: int | None = None
    test: int | None = None

    def __post_init__(self) -> None:
        for name in SPLITS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}: give at least one image")

    def counts(self, usual: Mapping[str, int]) -> dict[str, int]:
        """By split, with what is usual where nothing is said."""
        return {name: usual[name] if getattr(self, name) is None else getattr(self, name) for name in SPLITS}


class Fitting:
    """Images and boxes brought to a network's input as the engine does it, but left uint8 BGR (H, W, 3)."""

    def __init__(self, spec: InputSpec) -> None:
        plain = replace(spec, layout="nhwc", dtype="uint8", colour="bgr", scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
        self.spec = replace(plain, batch=1)
        self._preprocessor = Preprocessor(self.spec)

    def __call__(self, image: NDArray[np.uint8], boxes: NDArray) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """The fitted image, valid until the next call, and boxes (N, 4) xyxy in its pixels."""
        tensor, place = self._preprocessor(Frame(image))
        return tensor[0], place.to_network(boxes).astype(np.float32).reshape(-1, 4)

    def key(self) -> dict[str, Any]:
        """What the fitted pixels depend on."""
        names = ("width", "height", "resize", "pad_value", "interpolation")
        return {name: getattr(self.spec, name) for name in names}


def as_detections(rows: NDArray, labels: Labels) -> Detections:
    """Truth from rows (N, 5) of class and box xyxy."""
    ones = np.ones(len(rows), np.float32)
    return Detections(rows[:, 1:].astype(np.float32), ones, rows[:, 0].astype(np.int64), labels)
