"""One candidate on all frames, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Detections
from edge_vision.inference.bundle import Bundle
from edge_vision.inference.errors import BackendError, InferenceError
from edge_vision.inference.opening import Choice, EngineDescription
from edge_vision.inference.worker import Loaded, Worker

SCORE_FLOOR = 0.001
"""Detections are taken down to this score, as the COCO protocol wants. Suppression goes by falling score, so those at
the bundle's threshold are the same as if it had been in force."""

RAW_FRAMES = 16  # raw outputs are compared on so many frames, evenly spread: of a large model they are megabytes each
CHUNK = 10  # frames in one message to the process
TIMEOUT = 600.0  # seconds for one answer: a compiler may need minutes
TIMED_SECONDS, MOST_TIMED = 0.4, 50


@dataclass(frozen=True)
class Run:
    """What a candidate gave.

    detections: of every frame, down to `SCORE_FLOOR`; raw: outputs of some frames (`raw_frames`), as the decoder reads
    them; final: whether those are lists of detections; p50: milliseconds of the backend's call.
    """

    description: EngineDescription
    detections: tuple[Detections, ...]
    raw: tuple[list[NDArray], ...]
    final: bool
    p50: float


class NotOffered(BackendError):
    """The backend does not compute in the precision asked for here, which says nothing about the model."""


def run(
    bundle: Bundle,
    choice: Choice,
    images: Sequence[NDArray[np.uint8]],
    step: Callable[[int], None] | None = None,
) -> Run:
    """Open `choice` and run it on images (H, W, 3) BGR. step: is told how many frames were done since the last call.

    Raises NotOffered where the backend is to compute an fp32 file in another precision, and does not here; other
    InferenceErrors are the candidate's own, or say how its process ended; OSError where no process can be started.
    """
    low = replace(bundle, thresholds=replace(bundle.thresholds, score=min(SCORE_FLOOR, bundle.thresholds.score)))
    with Worker(TIMEOUT) as worker:
        loaded = _open(worker, low, choice)
        raw = worker.raw([images[index] for index in raw_frames(len(images))])
        detections: list[Detections] = []
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK]
            detections += worker.detect(chunk)
            if step:
                step(len(chunk))
        times = worker.times(3)
        times = worker.times(int(np.clip(TIMED_SECONDS * 1e3 / max(float(np.median(times)), 1e-3), 3, MOST_TIMED)))
    return Run(loaded.description, tuple(detections), tuple(raw), loaded.final, float(np.median(times)))


def _open(worker: Worker, bundle: Bundle, choice: Choice) -> Loaded:
    """Open it; where the backend itself is to make the precision of an fp32 file, it must really do so."""
    own = choice.precision == choice.variant.precision
    try:
        loaded = worker.open(bundle, choice)
    except InferenceError as error:
        if own:
            raise
        worker.usage()  # raises where the process is dead: that is a failure in any precision
        raise NotOffered(error.problem, error.remedy, error.where) from error
    taken = loaded.description.precision
    if taken != choice.precision and not own:
        raise NotOffered(f"computes in {taken} here, not in {choice.precision}")
    return loaded


def raw_frames(count: int) -> list[int]:
    """Which of `count` frames the raw outputs are compared on."""
    return np.unique(np.linspace(0, count - 1, min(count, RAW_FRAMES)).round().astype(int)).tolist()
