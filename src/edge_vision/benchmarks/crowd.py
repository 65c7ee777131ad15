"""A synthetic crowd: boxes that move, come and go, are missed, found twice and found where nothing is. No pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_vision.datatypes import NS_PER_S, Detections, Tracks, TrackState

WIDTH, HEIGHT = 1920, 1080


@dataclass(frozen=True, slots=True)
class Crowd:
    """objects: in the image at any time; frames; rate in frames/s.

    missed: share of the objects that the detector does not find in a frame; weak: share of those found that score below
    0.6; false: false boxes a frame, as a share of the objects; life: mean seconds that an object stays.
    """

    objects: int
    frames: int
    rate: float = 30.0
    missed: float = 0.05
    weak: float = 0.2
    false: float = 0.05
    life: float = 5.0
    seed: int = 0


def make_crowd(crowd: Crowd) -> tuple[list[Detections], list[Tracks]]:
    """The detections of each frame, and the truth. The same for the same crowd, on every machine.

    Sizes shrink as the crowd grows, so that about a fifth of the boxes touch another, at every number of objects. An
    object that has gone is replaced at once by a new one elsewhere.
    """
    rng = np.random.default_rng([crowd.seed, crowd.objects])
    count = crowd.objects
    height = 0.35 * np.sqrt(WIDTH * HEIGHT / max(count, 4))
    ids = np.arange(1, count + 1)
    centres, sizes, speeds = _born(rng, count, height)
    accelerations = np.zeros_like(speeds)
    born = np.zeros(count)
    detections, truth = [], []
    for frame in range(crowd.frames):
        stamp = round(frame * NS_PER_S / crowd.rate)
        outside = (centres < 0).any(axis=1) | (centres > (WIDTH, HEIGHT)).any(axis=1)
        leaving = outside | (rng.random(count) < 1 / (crowd.life * crowd.rate))
        gone = np.flatnonzero(leaving & (frame > 0))
        centres[gone], sizes[gone], speeds[gone] = _born(rng, len(gone), height)
        ids[gone] = ids.max(initial=0) + 1 + np.arange(len(gone))
        born[gone] = frame
        boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
        truth.append(
            Tracks(
                boxes=boxes.astype(np.float32),
                scores=np.ones(count, np.float32),
                class_ids=np.zeros(count, np.int64),
                ids=ids.copy(),
                velocities=speeds.astype(np.float32),
                ages=((frame - born) / crowd.rate).astype(np.float32),
                states=np.full(count, TrackState.CONFIRMED, np.uint8),
                stamp=stamp,
            )
        )
        detections.append(_detected(rng, crowd, boxes, height, stamp))
        accelerations = 0.9 * accelerations + rng.normal(0, 0.4 * height, (count, 2))
        speeds += accelerations / crowd.rate
        centres += speeds / crowd.rate
    return detections, truth


def _born(rng: np.random.Generator, count: int, height: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    centres = rng.uniform((0, 0), (WIDTH, HEIGHT), (count, 2))
    tall = height * rng.uniform(0.7, 1.3, count)
    sizes = np.stack([tall * rng.uniform(0.4, 0.8, count), tall], axis=1)
    return centres, sizes, rng.normal(0, 0.8 * height, (count, 2))  # px/s: under its height a second, as people walk


def _detected(rng: np.random.Generator, crowd: Crowd, boxes: np.ndarray, height: float, stamp: int) -> Detections:
    found = boxes[rng.random(len(boxes)) >= crowd.missed]
    found = found + rng.normal(0, 0.03 * height, found.shape)
    false_centres, false_sizes, _ = _born(rng, int(rng.poisson(crowd.false * crowd.objects)), height)
    false = np.concatenate([false_centres - false_sizes / 2, false_centres + false_sizes / 2], axis=1)
    scores = np.where(rng.random(len(found)) < crowd.weak, rng.uniform(0.15, 0.6, len(found)), 0.9)
    scores = np.clip(scores + rng.uniform(-0.08, 0.08, len(found)), 0.05, 0.99)
    scores = np.concatenate([scores, rng.uniform(0.1, 0.7, len(false))])
    everything = np.concatenate([found, false])
    order = np.argsort(-scores)  # as detectors put them out
    return Detections(
        everything[order].astype(np.float32),
        scores[order].astype(np.float32),
        np.zeros(len(order), np.int64),
        ("object",),
        stamp=stamp,
    )
