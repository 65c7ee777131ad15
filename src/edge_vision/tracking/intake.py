"""Which detections can be tracked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Detections
from edge_vision.tracking import kernels, matching, steps
from edge_vision.tracking.parameters import TrackerParameters

MAX_COORDINATE = 1e6  # px; what lies beyond is no image coordinate and would drown float32


def accept(
    parameters: TrackerParameters, detections: Detections, fast: bool
) -> tuple[tuple[NDArray, NDArray, NDArray], NDArray[np.bool_] | None, int]:
    """Boxes, scores and class ids of what can be tracked; which those are, None for all; and how many are no boxes.

    Left out are boxes that are none (not finite, inverted, beyond `MAX_COORDINATE`), scores that are no numbers, what
    scores too low, and of one object that was found as two classes the one that scores less. fast: for the kernels.
    """
    boxes, scores, class_ids = detections.boxes, detections.scores, detections.class_ids
    if not len(boxes):
        return (boxes, scores, class_ids), None, 0
    low = parameters.low_score
    if fast:
        boxes, scores = np.ascontiguousarray(boxes, np.float32), np.ascontiguousarray(scores, np.float32)
        class_ids = np.ascontiguousarray(class_ids, np.int64)
    sound, several = (kernels if fast else steps).sound(boxes, scores, class_ids, low, MAX_COORDINATE)
    keep, refused = None, 0
    if not sound:
        good = (np.abs(boxes) <= MAX_COORDINATE).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        good &= np.isfinite(scores)
        refused = len(boxes) - int(np.count_nonzero(good))
        keep = good & (scores >= low)
        boxes, scores, class_ids = boxes[keep], scores[keep], class_ids[keep]
    if several and parameters.double_iou < 1.0 and parameters.class_agnostic:
        once = matching.once(boxes, scores, class_ids, parameters.double_iou)
        if np.count_nonzero(once) < len(once):
            if keep is None:
                keep = once
            else:
                keep[keep] = once
            boxes, scores, class_ids = boxes[once], scores[once], class_ids[once]
    return (boxes, scores, class_ids), keep, refused
