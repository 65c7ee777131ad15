"""`edge_vision dataset measure`: hit rate and false alarms of the leak check, on the digital twin or a video."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from edge_vision.cli.dataset_check import fail

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DESCRIPTION = (
    "Makes near-duplicates whose truth is known (the frames next to those of a clip, the same frame compressed, "
    "brightened, shrunk, cropped), and counts how many the leak check finds, and how many pairs it reports between "
    "clips of the twin that share no object, or between frames of a video that are far apart."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", nargs="?", default="sim://conveyor", help="scene of the twin, or a video file")
    parser.add_argument("--clips", type=int, default=40, help="clips of the twin, or pieces of the video")
    parser.add_argument("--apart", type=int, default=150, help="frames between pieces of a video")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from edge_vision.sources import SourceError

    try:
        with tqdm(desc="frames", unit="frame", file=sys.stderr) as bar:
            clips = _clips(arguments, bar.update)
    except (SourceError, ValueError, OSError) as error:
        return fail(str(error))
    facts = measure(clips)
    if arguments.json:
        print(json.dumps({"source": arguments.source} | facts, indent=2))
        return 0
    print(f"{arguments.source}: {facts['clips']} clips, {facts['frames']} frames\n")
    for name, rate in facts["hits"].items():
        print(f"{name:<34}{rate:>8.1%} found")
    print(f"{'different clips':<34}{facts['false_pairs']:>8} of {facts['different_pairs']} pairs reported", end="")
    print(f" ({facts['false_frames']:.1%} of the frames have one)")
    return 0


OFFSETS = (0, 1, 2, 4)
"""Frames of each clip: the first, and those so far behind it."""


def _clips(arguments: argparse.Namespace, advance) -> list[list[NDArray[np.uint8]]]:  # type: ignore[no-untyped-def]
    """For every clip its images at OFFSETS."""
    from dataclasses import replace

    from edge_vision.simulation import Conveyor, ConveyorOptions
    from edge_vision.sources import open_source

    clips = []
    if arguments.source.startswith("sim://conveyor"):
        options = ConveyorOptions.from_uri(arguments.source)
        for seed in range(arguments.clips):
            conveyor = Conveyor(replace(options, seed=seed + 1, frames=None))
            shots = []
            for offset in OFFSETS:
                shots.append(conveyor.render(60 + offset).frame.image)
                advance(1)
            clips.append(shots)
        return clips
    piece: list[NDArray[np.uint8]] = []
    with open_source(arguments.source) as source:
        for index in range(arguments.clips * arguments.apart):
            sample = source.read()
            if sample is None:
                break
            place = index % arguments.apart
            if place in OFFSETS:
                piece.append(sample.frame.image.copy())
            if place == OFFSETS[-1]:
                clips.append(piece)
                piece = []
            advance(1)
    if len(clips) < 2:
        raise ValueError(f"{arguments.source} has {len(clips)} pieces {arguments.apart} frames apart; lower --apart")
    return clips


def measure(clips: list[list[NDArray[np.uint8]]]) -> dict:
    """Hit rate of each kind of copy against the first frames of all clips, and pairs reported between clips."""
    import tempfile
    from pathlib import Path

    import cv2
    import numpy as np

    from edge_vision.datasets.hashing import thumbnails
    from edge_vision.datasets.leaks import near_duplicates

    def coded(image: NDArray, quality: int) -> NDArray:
        return np.asarray(
            cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
        )

    def cropped(image: NDArray) -> NDArray:
        h, w = image.shape[:2]
        inner = image[h * 2 // 100 : h - h * 2 // 100, w * 2 // 100 : w - w * 2 // 100]
        return cv2.resize(inner, (w, h), interpolation=cv2.INTER_LINEAR)

    firsts = [clip[0] for clip in clips]
    copies: dict[str, list[NDArray]] = {
        f"{offset} frames on": [clip[k] for clip in clips] for k, offset in enumerate(OFFSETS) if k
    }
    copies |= {
        "JPEG of quality 30": [coded(image, 30) for image in firsts],
        "brighter by 30 %": [cv2.convertScaleAbs(image, alpha=1.3) for image in firsts],
        "half the size": [cv2.resize(i, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for i in firsts],
        "2 % cropped off each side": [cropped(image) for image in firsts],
    }
    with tempfile.TemporaryDirectory() as folder:

        def small(images: list) -> NDArray[np.uint8]:
            files = [Path(folder) / f"{i}.png" for i in range(len(images))]
            for file, image in zip(files, images, strict=True):
                cv2.imwrite(str(file), image)
            return thumbnails(files)[0]

        base = small(firsts)
        hits, false_pairs, false_frames = {}, set(), set()
        count = len(firsts)
        groups = np.repeat([0, 1], count)
        for name, images in copies.items():
            pairs = near_duplicates(np.concatenate([base, small(images)]), groups)
            hits[name] = sum(pair.second - count == pair.first for pair in pairs) / count
            wrong = {(pair.first, pair.second - count) for pair in pairs if pair.second - count != pair.first}
            false_pairs |= {(name, *pair) for pair in wrong}
            false_frames |= {(name, pair[1]) for pair in wrong}
    tried = len(copies) * count
    return {
        "clips": count,
        "frames": count * (1 + len(copies)),
        "hits": hits,
        "false_pairs": len(false_pairs),
        "different_pairs": tried * (count - 1),
        "false_frames": len(false_frames) / tried,
    }
