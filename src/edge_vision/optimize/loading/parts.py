"""A classifier's data from the twin: crops of its parts, `sim://parts?train=4000`.

Made to be hard enough that capacity shows: frames of few pixels, little light and so noise, blur of a fast belt,
neighbours in view, boxes as a detector finds them (moved and scaled). A hex nut and a defective one differ by a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Frame, Labels
from edge_vision.inference.crops import Crops
from edge_vision.inference.preprocess import InputSpec
from edge_vision.optimize.data import Split
from edge_vision.optimize.loading.common import DataError, Fitting, MakeBar
from edge_vision.optimize.loading.conveyor import check_labels
from edge_vision.optimize.loading.keeping import Item, kept
from edge_vision.optimize.loading.rendering import rendered, twin_digest
from edge_vision.simulation import Conveyor, ConveyorOptions

USUAL = {"train": 4000, "calibration": 400, "test": 2000}
FIRST_SEED = {"train": 200_000, "calibration": 70_000, "test": 10_001}
FRAMES_A_CLIP, CROPS_A_FRAME = 3, 6
LINES = (150, 300)  # of the frames; a part is 60 to 100 of 480 of them
LEAST_SIDE = 12  # px of a box: what the image's edge leaves of a part may be less


@dataclass(frozen=True)
class Clip:
    seed: int
    spec: InputSpec


def parts_split(
    reference: str, split: str, count: int, spec: InputSpec, labels: Labels, cache: Path | None, bar: MakeBar | None
) -> Split:
    """`count` crops of one split with their classes. reference: without counts. Raises DataError."""
    place = np.array(check_labels(reference, labels))
    if "?" in reference:
        raise DataError(reference, "has no such option", "it takes train=, calibration= and test= alone")
    each = FRAMES_A_CLIP * CROPS_A_FRAME
    # More clips than needed where frames are empty; those that are not needed are not rendered.
    clips = [Clip(FIRST_SEED[split] + k, spec) for k in range(2 * -(-count // each) + 2)]
    depends = {"reference": reference, "split": split, "fitting": Fitting(spec).key(), "program": twin_digest(__file__)}

    def make() -> Iterator[Item]:
        progress = bar(f"rendering {split}", count) if bar else None
        try:
            yield from rendered(render_clip, clips, count, progress)
        finally:
            if progress is not None:
                progress.close()

    found = kept(f"parts-{split}", depends, count, (spec.width, spec.height), make, cache)
    classes = np.concatenate([rows[:, 0] for rows in found.rows]).astype(np.int64)
    return Split(found.images, place[classes], found.clips)


def render_clip(clip: Clip) -> list[Item]:
    """Crops of some frames of one seed; its scene, and so all that is hard about it, is drawn from the seed alone."""
    rng = np.random.default_rng([clip.seed, 11])
    conveyor = Conveyor(_scene(clip.seed, rng))
    crops = Crops(Fitting(clip.spec).spec)
    items = []
    for index in np.cumsum(rng.integers(60, 160, FRAMES_A_CLIP)):
        shot = conveyor.render(int(index))
        boxes, ids = shot.truth.boxes, shot.truth.class_ids
        whole = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] >= LEAST_SIDE).all(1))
        chosen = rng.permutation(whole)[:CROPS_A_FRAME]
        height, width = shot.frame.image.shape[:2]
        for number, corners in zip(chosen.tolist(), _seen(boxes[chosen], rng, width, height), strict=True):
            image = crops.fill(Frame(shot.frame.image), [corners])[0].copy()
            row = np.array([[ids[number], 0, 0, clip.spec.width, clip.spec.height]], np.float32)
            items.append(Item(image, row, clip.seed))
    return items


def _scene(seed: int, rng: np.random.Generator) -> ConveyorOptions:
    lines = int(rng.integers(*LINES))
    exposure = 0.004 * 2.0 ** rng.uniform(-1, 1)
    light = 2.0 ** rng.uniform(-3, 0)  # few electrons: shot noise
    brightness = 2.0 ** rng.uniform(-1, 0.4)
    return ConveyorOptions(
        seed=seed,
        width=lines * 4 // 3,
        height=lines,
        density=rng.uniform(0.3, 0.8),
        speed=rng.uniform(30, 400),
        exposure=exposure,
        gain=0.004 / exposure * brightness / light,
        light=light,
        read_noise=rng.uniform(5, 30),
        distortion=rng.uniform(0, 1.2),
    )


def _seen(boxes: NDArray, rng: np.random.Generator, width: int, height: int) -> list[list[int]]:
    """Boxes as a detector gives them, with context: moved by up to a tenth, square, cut at the image's edge."""
    sides = (boxes[:, 2:] - boxes[:, :2]).max(1) * rng.uniform(1.0, 1.3, len(boxes))
    centres = (boxes[:, 2:] + boxes[:, :2]) / 2 + sides[:, None] * rng.uniform(-1 / 10, 1 / 10, (len(boxes), 2))
    corners = np.concatenate([centres - sides[:, None] / 2, centres + sides[:, None] / 2], 1)
    cut = np.clip(corners, 0, [width, height, width, height])
    cut[:, :2], cut[:, 2:] = np.floor(cut[:, :2]), np.ceil(cut[:, 2:])
    return cut.astype(int).tolist()
