"""What image_rect costs: the cached fixed-point maps beside float maps, and beside undistorting without any.

python -m edge_vision.benchmarks.rectification
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.benchmarks.results import Report, Row, Section, machine, text
from edge_vision.calibration.rectification import Rectifier
from edge_vision.datatypes import CameraInfo
from edge_vision.evaluation.latency import summarize

SIZES = ((640, 480), (1280, 720), (1920, 1080))
ROUNDS = 60
CACHED = "cached maps, fixed point (ours)"


def work() -> int:
    return len(SIZES) * ROUNDS


def rectification_sections(
    sizes: Sequence[tuple[int, int]] = SIZES, rounds: int = ROUNDS, done: Callable[[int], object] = lambda _: None
) -> tuple[Section, ...]:
    """A section for each size: the contenders in turns, one image each, with as many threads as OpenCV takes."""
    return tuple(_section(width, height, rounds, done) for width, height in sizes)


def lens(width: int, height: int) -> CameraInfo:
    """A usual one: 60 degrees wide, a barrel of a few per cent."""
    focal = 0.87 * width
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return CameraInfo(width, height, K, np.array([-0.28, 0.09, 1e-3, -7e-4, -0.01]))


def _section(width: int, height: int, rounds: int, done: Callable[[int], object]) -> Section:
    info = lens(width, height)
    rectifier = Rectifier(info)
    size = width, height
    x, y = cv2.initUndistortRectifyMap(info.K, info.D, np.eye(3), info.K, size, cv2.CV_32FC1)
    colour = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    grey = np.ascontiguousarray(colour[..., 0])
    sixteen = grey.astype(np.uint16) << 8
    contenders: dict[str, Callable[[], NDArray | Rectifier]] = {
        f"{CACHED}, bgr8": lambda: rectifier(colour),
        "cached maps, float, bgr8": lambda: cv2.remap(colour, x, y, cv2.INTER_LINEAR),
        "cv2.undistort, bgr8": lambda: cv2.undistort(colour, info.K, info.D),
        f"{CACHED}, mono8": lambda: rectifier(grey),
        f"{CACHED}, mono16": lambda: rectifier(sixteen),
        "making the maps, once": lambda: Rectifier(info),
    }
    taken: dict[str, list[int]] = {name: [] for name in contenders}
    for call in contenders.values():
        call()
    for _ in range(rounds):
        for name, call in contenders.items():
            start = time.perf_counter_ns()
            call()
            taken[name].append(time.perf_counter_ns() - start)
        done(1)
    rows = tuple(Row(name, summarize(values)) for name, values in taken.items())
    return Section(f"Rectification, {width}x{height}, plumb_bob", rows, baseline=rows[0].name)


if __name__ == "__main__":
    settings = {"OpenCV": cv2.__version__, "threads": cv2.getNumThreads()}
    print(text(Report("rectification", machine(), settings, rectification_sections())))
