"""Sequences of the digital twin for `edge_vision evaluate tracking`: its truth, and what a detector finds in it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edge_vision.evaluation.mot_files import SequenceInfo
from edge_vision.evaluation.sequences import TrackingSequence, as_records
from edge_vision.evaluation.track_records import NO_ID, BoxRecords, Role, TrackedBoxes, TruthRecords
from edge_vision.paths import find_model

SCHEME = "sim://"
SCORE_THRESHOLD = 0.05  # below the tracker's own


def twin_sequences(source: str, model: str, *, frames: int, seeds: Sequence[int]) -> list[TrackingSequence]:
    """One sequence of ``frames`` frames a seed of the scene ``source`` (sim://conveyor?...), detected by ``model``.

    Frames follow each other as the camera takes them; classes are the detector's. Raises ValueError for a source that
    is no scene of the twin, and what `Engine.load` raises.
    """
    from tqdm import tqdm

    from edge_vision.inference import Engine, load_bundle
    from edge_vision.simulation import Conveyor, ConveyorOptions

    if frames < 1 or not seeds:
        raise ValueError("nothing to evaluate: give at least one frame and one seed")
    options = ConveyorOptions.from_uri(source)
    engine = Engine.load(load_bundle(find_model(model)), score_threshold=SCORE_THRESHOLD)
    numbers = np.arange(1, frames + 1)
    result = []
    with tqdm(total=frames * len(seeds), desc="detecting", unit="frame", file=sys.stderr) as bar:
        for seed in seeds:
            conveyor = Conveyor(replace(options, seed=seed, frames=None))
            truth, found, classes = [], [], []
            for index in range(frames):
                shot = conveyor.render(index)
                detections = engine.infer(shot.frame)
                truth.append(TrackedBoxes(shot.truth.boxes, shot.truth.ids))
                found.append(TrackedBoxes(detections.boxes, np.full(len(detections), NO_ID), detections.scores))
                classes.append(detections.class_ids)
                bar.update()
            true, boxes = as_records(truth, numbers), as_records(found, numbers)
            roles = np.full(len(true), Role.COUNTED, np.uint8)
            result.append(
                TrackingSequence(
                    SequenceInfo(f"seed-{seed}", options.fps, frames, options.width, options.height),
                    TruthRecords(true.frames, true.ids, true.boxes, roles, np.full(len(true), -1)),
                    BoxRecords(boxes.frames, boxes.ids, boxes.boxes, boxes.scores, np.concatenate(classes)),
                    labels=engine.labels,
                )
            )
    return result
