"""What image quality figures cost: SSIM and PSNR beside scikit-image's on the same pair, and the no-reference report.

One thread for everybody. The contenders take turns, each with one call, in another order in every round. The images
are a frame of the twin and the same one blurred, with noise: what a comparison meets.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.benchmarks import quality_peer
from edge_vision.benchmarks.quality_peer import ScikitImage
from edge_vision.benchmarks.results import Check, Row, Section
from edge_vision.datatypes import Frame
from edge_vision.evaluation.latency import summarize
from edge_vision.quality.full_reference import gaussian, psnr, ssim
from edge_vision.quality.multi_scale import SMALLEST, ms_ssim
from edge_vision.quality.pair import luma

OURS, PEER, BY_HAND = "edge_vision", "scikit-image", "OpenCV, five filters"
RATIO_LIMIT = 1 / 5
SSIM_TOLERANCE, PSNR_TOLERANCE = 1e-5, 1e-6
REPORT_LIMITS_MS = {(640, 480): 4.0, (1920, 1080): 8.0}
_RANGE = 255.0

Call = Callable[[], tuple[float, int]]
"""One call: its value, and the ns it took."""


@dataclass(frozen=True, slots=True)
class Settings:
    """calls: of each contender; sizes: (width, height) that SSIM is measured at; pythons: interpreters that may have
    scikit-image; report: time the no-reference report, too."""

    calls: int = 30
    sizes: tuple[tuple[int, int], ...] = ((1280, 720),)
    pythons: tuple[str, ...] = ()
    report: bool = True
    seed: int = 0


def work(settings: Settings) -> int:
    """How often `measure` calls its `advance` with 1."""
    return settings.calls * (len(settings.sizes) + (len(REPORT_LIMITS_MS) if _has_report(settings) else 0))


def measure(settings: Settings, advance: Callable[[int], Any] = lambda steps: None) -> tuple[Section, ...]:
    """A section a size for SSIM, then one a size for the no-reference report. Raises PeerFailed where the peer ends."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with ExitStack() as stack:
            peer, reasons = quality_peer.find(settings.pythons)
            if peer is not None:
                stack.enter_context(peer)
            notes = [f"{PEER} {peer.version}"] if peer else [f"not compared: {reason}" for reason in reasons]
            notes.append(f"OpenCV {cv2.__version__}, NumPy {np.__version__}, one thread")
            sections = [_ssim(settings, size, peer, notes, advance) for size in settings.sizes]
        if _has_report(settings):
            sections += [_report(settings, size, limit, advance) for size, limit in REPORT_LIMITS_MS.items()]
        return tuple(sections)
    finally:
        cv2.setNumThreads(threads)


def scene(width: int, height: int, count: int = 1) -> list[Frame]:
    """Frames of the twin, a third of a second of belt between two."""
    from edge_vision.simulation import Conveyor, ConveyorOptions

    conveyor = Conveyor(ConveyorOptions(width=width, height=height))
    return [conveyor.render(10 * index).frame for index in range(count)]


def degraded(image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """The image with a blur of sigma 1 and noise of sigma 4."""
    noise = np.random.default_rng(seed).normal(0, 4, image.shape)
    return np.clip(np.round(cv2.GaussianBlur(image, (0, 0), 1.0) + noise), 0, 255).astype(np.uint8)


def by_hand(image: NDArray[np.uint8], reference: NDArray[np.uint8]) -> float:
    """SSIM as it is usually written with OpenCV: five float32 filters over the whole images."""

    def mean(plane: NDArray) -> NDArray:
        return cv2.sepFilter2D(plane, cv2.CV_32F, window, window)[5:-5, 5:-5]

    window = gaussian().astype(np.float32)
    x, y = image.astype(np.float32), reference.astype(np.float32)
    c1, c2 = (0.01 * _RANGE) ** 2, (0.03 * _RANGE) ** 2
    mean_x, mean_y = mean(x), mean(y)
    xx, yy, xy = mean_x * mean_x, mean_y * mean_y, mean_x * mean_y
    var_x, var_y, cov = mean(x * x) - xx, mean(y * y) - yy, mean(x * y) - xy
    return float(np.mean((2 * xy + c1) * (2 * cov + c2) / ((xx + yy + c1) * (var_x + var_y + c2))))


def _ssim(
    settings: Settings,
    size: tuple[int, int],
    peer: ScikitImage | None,
    notes: list[str],
    advance: Callable[[int], Any],
) -> Section:
    reference = luma(scene(*size)[0].image)
    image = degraded(reference, settings.seed)
    calls: dict[str, Call] = {
        OURS: lambda: _timed(lambda: ssim(image, reference)),
        BY_HAND: lambda: _timed(lambda: by_hand(image, reference)),
    }
    others: dict[str, Call] = {f"{OURS} PSNR": lambda: _timed(lambda: psnr(image, reference))}
    if min(size) >= SMALLEST:
        others[f"{OURS} MS-SSIM"] = lambda: _timed(lambda: ms_ssim(image, reference))
    if peer is not None:
        peer.load(image, reference, _RANGE)
        calls[PEER] = lambda: peer.call("ssim")
        others[f"{PEER} PSNR"] = lambda: peer.call("psnr")
    values, taken = _in_turns(calls | others, settings, advance)
    rows = [Row(name, summarize(taken[name])) for name in calls]
    checks = []
    if peer is not None:
        apart = abs(values[OURS] - values[PEER]), abs(values[f"{OURS} PSNR"] - values[f"{PEER} PSNR"])
        checks = [
            Check(f"SSIM of {OURS} against {PEER}", rows[0].latency.p50 / rows[-1].latency.p50, RATIO_LIMIT),
            Check("difference in SSIM", apart[0], SSIM_TOLERANCE),
            Check("difference in PSNR", apart[1], PSNR_TOLERANCE, " dB"),
        ]
        faster = rows[-1].latency.p50 / rows[0].latency.p50
        notes = [f"differences: SSIM {apart[0]:.1e}, PSNR {apart[1]:.1e} dB", *notes]
        notes.insert(0, f"{faster:.1f} x as fast as {PEER}")
    said = ", ".join(f"{name} {values[name]:.6f}" for name in calls)
    title = f"SSIM at {size[0]}x{size[1]}, grey, 8 bit"
    stages = {name: summarize(taken[name]) for name in others}
    return Section(title, tuple(rows), stages, tuple(checks), (f"SSIM: {said}", *notes), OURS)


def _report(settings: Settings, size: tuple[int, int], limit: float, advance: Callable[[int], Any]) -> Section:
    from edge_vision.quality.no_reference import QualityAnalyser

    frames = scene(*size, count=4)
    analyse = QualityAnalyser().analyse
    taken = []
    for frame in frames:
        analyse(frame)
    for index in range(settings.calls):
        start = time.perf_counter_ns()
        analyse(frames[index % len(frames)])
        taken.append(time.perf_counter_ns() - start)
        advance(1)
    rows = (Row(OURS, summarize(taken)),)
    checks = (Check("p50 of the report", rows[0].latency.p50, limit, " ms"),)
    return Section(f"no-reference report at {size[0]}x{size[1]}, BGR", rows, {}, checks)


def _has_report(settings: Settings) -> bool:
    return settings.report and find_spec("edge_vision.quality.no_reference") is not None


def _in_turns(
    calls: dict[str, Call], settings: Settings, advance: Callable[[int], Any]
) -> tuple[dict[str, float], dict[str, list[int]]]:
    """The value of each, and the ns of every call; the first call of each is not counted."""
    values = {name: call()[0] for name, call in calls.items()}
    taken: dict[str, list[int]] = {name: [] for name in calls}
    order = list(calls)
    shuffle = random.Random(settings.seed)
    for _ in range(settings.calls):
        shuffle.shuffle(order)
        for name in order:
            taken[name].append(calls[name]()[1])
        advance(1)
    return values, taken


def _timed(call: Callable[[], float]) -> tuple[float, int]:
    start = time.perf_counter_ns()
    value = call()
    return value, time.perf_counter_ns() - start
