"""The tracks of a sequence drawn on its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S, Tracks, TrackState
from edge_vision.evaluation.sequences import TrackingSequence
from edge_vision.evaluation.track_records import TrackedBoxes


def write_videos(
    path: Path,
    data: Sequence[TrackingSequence],
    frames: Mapping[str, NDArray[np.int64]],
    tracked: Mapping[str, Sequence[TrackedBoxes]],
) -> list[str]:
    """A video of each sequence that has images: ``path``, or NAME-SEQUENCE.mp4 where there are several. Returns what is
    to be told; OSError where a video cannot be written or an image not read."""
    drawn = [sequence for sequence in data if sequence.info.images is not None]
    notes = [f"no video of {s.name}: it has no folder of images (img1)" for s in data if s.info.images is None]
    for sequence in drawn:
        name = sequence.name
        target = path if len(drawn) == 1 else path.with_name(f"{path.stem}-{name}{path.suffix}")
        count = write_video(target, sequence, frames[name], tracked[name])
        notes.append(f"{target}: {count} frames of {name}")
    return notes


def write_video(
    path: Path, sequence: TrackingSequence, frames: NDArray[np.int64], tracked: Sequence[TrackedBoxes]
) -> int:
    """Draw the frames' tracks on images IMAGES/000001.jpg and so on; returns how many frames were written.

    The video has the sequence's speed: a frame that was left out leaves its time to the one before it.
    """
    import cv2

    from edge_vision.drawing import OverlayOptions, OverlayRenderer

    info = sequence.info
    assert info.images is not None
    renderer = OverlayRenderer(OverlayOptions(labels=False))
    steps = np.diff(frames, append=frames[-1] + 1) if len(frames) else frames
    writer: cv2.VideoWriter | None = None
    count = 0
    try:
        for frame, step, found in zip(frames.tolist(), steps.tolist(), tracked, strict=True):
            file = info.images / f"{frame:06d}{info.suffix}"
            image = cv2.imread(str(file))
            if image is None:
                raise OSError(f"{file} is not there or no image; --video needs every frame that is tracked")
            if writer is None:
                size = (image.shape[1], image.shape[0])
                writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), info.frame_rate, size)  # type: ignore[attr-defined]
                if not writer.isOpened():
                    raise OSError(
                        f"{path} cannot be written as a video; give a name that ends with .mp4, in a folder "
                        "that is there"
                    )
            stamp = round((frame - 1) * NS_PER_S / info.frame_rate)
            renderer.draw(image, _as_tracks(found, stamp), lines=(f"{sequence.name}  frame {frame}",), out=image)
            for _ in range(step):
                writer.write(image)
                count += 1
    finally:
        if writer is not None:
            writer.release()
    return count


def _as_tracks(found: TrackedBoxes, stamp: int) -> Tracks:
    count = len(found.ids)
    scores = np.ones(count) if found.scores is None else found.scores
    return Tracks(
        boxes=np.asarray(found.boxes, np.float32).reshape(-1, 4),
        scores=np.asarray(scores, np.float32),
        class_ids=np.zeros(count, np.int64),
        ids=np.asarray(found.ids, np.int64),
        velocities=np.zeros((count, 2), np.float32),
        ages=np.zeros(count, np.float32),
        states=np.full(count, TrackState.CONFIRMED, np.uint8),
        stamp=stamp,
    )
