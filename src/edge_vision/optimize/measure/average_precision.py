"""COCO average precision of many weightings of the same images at once.

Matching is done once, by pycocotools. What is left, accumulating, is written for weighted images: an image of weight 2
counts as two copies of it, of which the order among themselves makes no difference to the curve's envelope. Precision
falls between true positives, so the envelope is made of those alone, which are few.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ClassMatches:
    """Detections of one class by falling score. images (D,): of each; hits (10, D): whether it is a true positive at
    each IoU; objects (N,): of the class in each image."""

    images: NDArray[np.int64]
    hits: NDArray[np.bool_]
    objects: NDArray[np.float64]


@dataclass(frozen=True)
class Matches:
    """Of every class in the truth. recalls (101,): where precision is read."""

    classes: tuple[ClassMatches, ...]
    recalls: NDArray[np.float64]

    @classmethod
    def of(cls, protocol: Any, images: int) -> Matches:
        """From pycocotools' COCOeval after `evaluate`, all areas, the most detections a frame."""
        parameters = protocol.params
        count, areas = len(parameters.imgIds), len(parameters.areaRng)
        found = []
        for place in range(len(parameters.catIds)):
            start = place * areas * count  # by class, area (the first is all), image
            rows = [row for row in protocol.evalImgs[start : start + count] if row is not None]
            objects = np.zeros(images)
            scores, owners = [np.zeros(0)], [np.zeros(0, np.int64)]
            hits = [np.zeros((len(parameters.iouThrs), 0), bool)]
            for row in rows:
                objects[row["image_id"]] = len(row["gtIds"])
                scores.append(np.asarray(row["dtScores"], np.float64))
                owners.append(np.full(len(row["dtScores"]), row["image_id"]))
                hits.append(np.asarray(row["dtMatches"]).reshape(len(parameters.iouThrs), -1) > 0)
            order = np.argsort(-np.concatenate(scores), kind="mergesort")
            found.append(ClassMatches(np.concatenate(owners)[order], np.concatenate(hits, 1)[:, order], objects))
        return cls(tuple(found), np.asarray(parameters.recThrs))


def average_precision(matches: Matches, weights: NDArray[np.float64], block: int = 64) -> NDArray[np.float64]:
    """mAP over the IoUs and classes (B,) for each weighting (B, N) of the images, whole numbers from 0.

    A class that has no object under a weighting is left out of its mean; NaN where none has one. block: weightings
    done at once, a matter of memory.
    """
    parts = [_block(matches, weights[start : start + block]) for start in range(0, len(weights), block)]
    return np.concatenate(parts)


def _block(matches: Matches, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    total, counted = np.zeros(len(weights)), np.zeros(len(weights))
    for one in matches.classes:
        objects = weights @ one.objects
        present = objects > 0
        if not present.any():
            continue
        each = weights[present][:, one.images]
        seen = np.cumsum(each, axis=1)
        precision = np.zeros(int(present.sum()))
        for hits in one.hits:
            precision += _envelope(each[:, hits], seen[:, hits], objects[present], matches.recalls)
        total[present] += precision / len(one.hits)
        counted[present] += 1
    with np.errstate(invalid="ignore"):
        return np.where(counted > 0, total / counted, np.nan)


def _envelope(
    hits: NDArray[np.float64], seen: NDArray[np.float64], objects: NDArray[np.float64], recalls: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean (B,) over the recalls of the highest precision at that recall or above. hits, seen (B, T): weight of each
    true positive, and of all detections down to it; objects (B,)."""
    found = np.zeros(len(hits))
    if not hits.shape[1]:
        return found
    right = np.cumsum(hits, axis=1)
    recall = right / objects[:, None]
    precision = right / np.maximum(seen, np.spacing(1))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.concatenate([best, np.zeros((len(best), 1))], 1)  # recalls that are not reached
    for row in range(len(hits)):
        found[row] = best[row, np.searchsorted(recall[row], recalls)].mean()
    return found
