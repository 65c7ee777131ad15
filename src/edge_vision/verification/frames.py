"""The frames that a model is verified on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Labels, Tracks
from edge_vision.drawing.image import to_bgr8
from edge_vision.sources import Sample, open_source

COUNT = 100
TWIN = "sim://conveyor?seed=9001"
"""The scene for models of the twin's classes; the bundled detector was trained on no seed below 100000."""

TWIN_RATE = 2.0
"""Frames a second of a scene: half a second of belt between two, so that frames differ."""


@dataclass(frozen=True)
class Frames:
    """images: (H, W, 3) uint8 BGR each; truth: of every image where the source knows it, else None; source: its URI,
    passwords hidden; warnings: what the source could not give."""

    images: tuple[NDArray[np.uint8], ...]
    source: str
    truth: tuple[Tracks, ...] | None = None
    warnings: tuple[str, ...] = ()


def take_frames(uri: str, count: int = COUNT) -> Frames:
    """`count` frames of a video, folder, image or `sim://` scene, evenly spread from the first to the last, all where
    there are fewer; of a source without a known length (a camera, a stream) the first `count`. They are all held in
    memory: 100 of 1920x1080 are 620 MB.

    Raises ValueError for a count below 1 or a source without frames, SourceError for one that cannot be read.
    """
    if count < 1:
        raise ValueError(f"{count} frames are nothing to verify on: give at least 1")
    samples: list[Sample] = []
    with open_source(uri, fps=TWIN_RATE if uri.strip().startswith("sim:") else None) as source:
        wanted = np.arange(count)
        if source.length is not None and source.length > count:
            wanted = np.unique(np.linspace(0, source.length - 1, count).round().astype(int))
        read = 0
        for place in wanted.tolist():
            sample = None
            for _ in range(place + 1 - read):
                sample = source.read()
            read = place + 1
            if sample is None:
                break
            samples.append(sample)
        name, warnings = source.uri, tuple(source.warnings)
    if not samples:
        raise ValueError(f"{name} has no frames to verify on: give a video, a folder of images or a sim:// scene")
    truth = tuple(sample.truth for sample in samples if sample.truth is not None)
    images = tuple(to_bgr8(sample.frame.image)[0] for sample in samples)
    return Frames(images, name, truth if len(truth) == len(images) else None, warnings)


def usual_source(labels: Labels) -> str | None:
    """Where frames for a model of these classes come from if nobody says: the twin for its own, None for others."""
    with open_source(TWIN) as source:
        sample = source.read()
    known = sample.truth.labels if sample is not None and sample.truth is not None else ()
    return TWIN if labels and tuple(labels) == tuple(known) else None
