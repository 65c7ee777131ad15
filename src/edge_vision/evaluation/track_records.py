"""Boxes over the frames of a sequence, as files of truth, detections and results hold them: structs of arrays."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

NO_ID = -1


class Role(IntEnum):
    """What a box of the truth does to the score.

    COUNTED: an object that is to be tracked. NEUTRAL: a result that matches it is removed before scoring, be it right
    or wrong (MOTChallenge's distractors, KITTI's vans and hidden cars). PASSIVE: takes part in that matching, and is
    then forgotten: results on it stay, and are false. REGION: an area where unmatched results are removed (KITTI's
    DontCare).
    """

    COUNTED = 0
    NEUTRAL = 1
    PASSIVE = 2
    REGION = 3


@dataclass(frozen=True, slots=True)
class TruthRecords:
    """The truth of a sequence, rows in the order of frames.

    frames (N,) int64 from 1; ids (N,) int64, NO_ID where the truth has none; boxes (N, 4) float64 xyxy in continuous
    pixels from (0, 0); roles (N,) uint8 of `Role`; class_ids (N,) int64 as in the file, -1 where it has none.
    """

    frames: NDArray[np.int64]
    ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    roles: NDArray[np.uint8]
    class_ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True, slots=True)
class BoxRecords:
    """Detections or results of a sequence, rows in the order of frames.

    frames (N,) int64 from 1; ids (N,) int64, NO_ID for detections; boxes (N, 4) float64 xyxy in continuous pixels from
    (0, 0); scores (N,) float64 as in the file (`as_probabilities` for those of a tracker); class_ids (N,) int64, -1
    where the file has none.
    """

    frames: NDArray[np.int64]
    ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    class_ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def tracked(self) -> bool:
        """Whether these are results of a tracker: every box has an id."""
        return bool(len(self)) and bool((self.ids >= 0).all())


@dataclass(frozen=True, slots=True)
class TruthFrame:
    """The truth of one frame: boxes (N, 4) xyxy, ids (N,) int64, roles (N,) of `Role`."""

    boxes: NDArray
    ids: NDArray[np.int64]
    roles: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class TrackedBoxes:
    """What a tracker says about one frame: boxes (N, 4) xyxy, ids (N,) int64; scores (N,) where it has any."""

    boxes: NDArray
    ids: NDArray[np.int64]
    scores: NDArray | None = None


SCORE_SCALES = ("auto", "probability", "logit")


def as_probabilities(scores: NDArray[np.float64], scale: str = "auto") -> NDArray[np.float64]:
    """Scores in 0..1. scale: "probability" (they are; ValueError where not), "logit" (through the logistic function),
    or "auto": logits where any lies outside 0..1, as raw outputs of a network do (KITTI's PointRCNN)."""
    if scale not in SCORE_SCALES:
        raise ValueError(f"unknown score scale '{scale}': choose one of {', '.join(SCORE_SCALES)}")
    outside = bool(len(scores)) and not (scores.min() >= 0.0 and scores.max() <= 1.0)
    if scale == "probability" and outside:
        raise ValueError(
            f"scores from {scores.min():g} to {scores.max():g} are no probabilities: give them in 0..1, or as logits "
            "with --scores logit"
        )
    if scale == "logit" or outside:
        return 0.5 * (1.0 + np.tanh(0.5 * scores))  # the logistic function, without overflow
    return scores
