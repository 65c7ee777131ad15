"""A detector's data from the twin: whole frames, `sim://conveyor?train=1600&density=0.7`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_vision.datatypes import Labels
from edge_vision.inference.preprocess import InputSpec
from edge_vision.optimize.data import Split
from edge_vision.optimize.loading.common import SPLITS, DataError, Fitting, Limits, MakeBar, as_detections
from edge_vision.optimize.loading.keeping import Item, kept
from edge_vision.optimize.loading.rendering import rendered, twin_digest
from edge_vision.simulation import LABELS, Conveyor, ConveyorOptions
from edge_vision.simulation.options import named_options

USUAL = {"train": 1600, "calibration": 128, "test": 500}
FIRST_SEED = {"train": 100_000, "calibration": 60_000, "test": 9_001}
"""Where each split's clips begin. scripts/train_detector.py trains on seeds from 100,000 up and on none below."""
FRAMES_A_CLIP = {"train": 8, "calibration": 4, "test": 10}


@dataclass(frozen=True)
class Clip:
    """One task of rendering. base: options that all clips have; fixed: names of those that must not be varied."""

    seed: int
    frames: int
    varied: bool
    base: ConveyorOptions
    fixed: frozenset[str]
    spec: InputSpec


def scene_counts(reference: str, limits: Limits, usual: dict[str, int]) -> tuple[dict[str, int], str]:
    """Images by split, which the reference may name (`train=...`, `calibration=...`, `test=...`), and the reference
    without them. Raises DataError."""
    named = named_options(reference)
    counts = limits.counts(usual)
    for name in SPLITS:
        if name in named:
            text = named.pop(name)
            if not text.isdigit() or int(text) < 1:
                raise DataError(reference, f"{name} is {text!r}", "give a number of images, at least 1")
            if getattr(limits, name) is None:
                counts[name] = int(text)
    scene = reference.partition("?")[0]
    return counts, scene + ("?" + "&".join(f"{k}={v}" for k, v in named.items()) if named else "")


def check_labels(reference: str, labels: Labels) -> list[int]:
    """Places of the twin's classes among `labels`. Raises DataError where one is missing."""
    missing = [name for name in LABELS if name not in labels]
    if missing:
        problem = f"shows {', '.join(missing)}, which the model does not know (it knows {', '.join(labels[:20])})"
        raise DataError(reference, problem, "give data of the model's classes")
    return [labels.index(name) for name in LABELS]


def conveyor_split(
    reference: str, split: str, count: int, spec: InputSpec, labels: Labels, cache: Path | None, bar: MakeBar | None
) -> Split:
    """`count` frames of one split with their truth. reference: without counts. Raises DataError."""
    place = np.array(check_labels(reference, labels))
    try:
        base = ConveyorOptions.from_uri(reference)
    except ValueError as error:
        raise DataError(reference, str(error), "docs/simulation.md lists the options") from error
    fixed = frozenset(named_options(reference))
    each = FRAMES_A_CLIP[split]
    starts = range(0, count, each)
    clips = [
        Clip(FIRST_SEED[split] + k, min(each, count - start), split == "train", base, fixed, spec)
        for k, start in enumerate(starts)
    ]
    fitting = Fitting(spec)
    depends = {
        "reference": reference,
        "split": split,
        "options": {field.name: getattr(base, field.name) for field in fields(base)},
        "fitting": fitting.key(),
        "program": twin_digest(__file__),
    }

    def make() -> Iterator[Item]:
        progress = bar(f"rendering {split}", count) if bar else None
        try:
            yield from rendered(render_clip, clips, count, progress)
        finally:
            if progress is not None:
                progress.close()

    found = kept(f"conveyor-{split}", depends, count, (spec.width, spec.height), make, cache)
    truth = []
    for rows in found.rows:
        own = rows.copy()
        own[:, 0] = place[rows[:, 0].astype(np.int64)]
        truth.append(as_detections(own, labels))
    return Split(found.images, tuple(truth), found.clips)


def render_clip(clip: Clip) -> list[Item]:
    """Frames of one seed, some seconds apart, fitted to the network's input."""
    conveyor = Conveyor(_options(clip))
    fitting = Fitting(clip.spec)
    rng = np.random.default_rng([clip.seed, 8])
    items = []
    for index in np.cumsum(rng.integers(40, 120, clip.frames)):
        shot = conveyor.render(int(index))
        image, boxes = fitting(shot.frame.image, shot.truth.boxes)
        rows = np.concatenate([shot.truth.class_ids[:, None].astype(np.float32), boxes], 1)
        items.append(Item(image.copy(), rows, clip.seed))
    return items


def _options(clip: Clip) -> ConveyorOptions:
    """Half of the training clips have the options as they are; in the others all that is not fixed is varied."""
    rng = np.random.default_rng([clip.seed, 7])
    options = replace(clip.base, seed=clip.seed, frames=None)
    if not clip.varied or rng.random() < 0.5:
        return options
    exposure = 0.004 * 2.0 ** rng.uniform(-1, 1)
    varied: dict[str, Any] = {
        "density": rng.uniform(0.2, 0.8),
        "speed": rng.uniform(30, 300),
        "exposure": exposure,
        # Brightness within 0.55 .. 1.4 of the default's, whatever the exposure.
        "gain": 0.004 / exposure * 2.0 ** rng.uniform(-0.85, 0.5),
        "light": rng.uniform(0.85, 1.1),
        "read_noise": rng.uniform(2, 25),
        "distortion": rng.uniform(0, 1.2),
    }
    return replace(options, **{name: value for name, value in varied.items() if name not in clip.fixed})
