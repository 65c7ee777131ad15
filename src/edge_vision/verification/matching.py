"""Which boxes of two detectors on one image are the same object, found alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Detections

IOU = 0.9
MARGIN = 0.05
"""How far below the threshold a partner's score may be. A box whose score lies right at the threshold appears in one
list and not in the other by noise in the last digits; it is looked for below the line and counted apart."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Boxes of one image: reference, candidate: how many each has at the threshold; found: how many of the reference's
    have a partner among the candidate's at the threshold less the margin; backed: the other way round; both: pairs
    with both scores at the threshold; score_difference: largest of a pair that counts, 0 where there is none."""

    reference: int = 0
    candidate: int = 0
    found: int = 0
    backed: int = 0
    both: int = 0
    score_difference: float = 0.0

    @property
    def missing(self) -> int:
        """Boxes of the reference without a partner."""
        return self.reference - self.found

    @property
    def extra(self) -> int:
        """Boxes of the candidate without a partner."""
        return self.candidate - self.backed

    @property
    def share(self) -> float:
        """The smaller of two shares: of the reference's boxes that the candidate has, and of the candidate's that the
        reference has (so that boxes too many count as boxes too few do); a list without boxes has a share of 1."""
        return min(_share(self.found, self.reference), _share(self.backed, self.candidate))

    @property
    def strict_share(self) -> float:
        """The same without the margin: a box that crossed the threshold counts as not matched."""
        return min(_share(self.both, self.reference), _share(self.both, self.candidate))

    @property
    def crossed(self) -> int:
        """Boxes whose partner is below the threshold, within the margin."""
        return self.found + self.backed - 2 * self.both


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def match(
    reference: Detections, candidate: Detections, threshold: float, margin: float = MARGIN, iou: float = IOU
) -> Matches:
    """Match the boxes of one image: each with one at most, of its class, by falling intersection over union, at least
    `iou`.

    Both lists reach down to `threshold - margin` or below; what is lower is passed over. A pair counts where one of its
    scores is at the threshold. Order within the lists does not matter, but for pairs of equal IoU.
    """
    ours, theirs = at_least(reference, threshold - margin), at_least(candidate, threshold - margin)
    pairs = pair_up(ours, theirs, iou)
    a, b = ours.scores[pairs[:, 0]], theirs.scores[pairs[:, 1]]
    over_a, over_b = a >= threshold, b >= threshold
    counts = over_a | over_b
    gaps = np.abs(a[counts] - b[counts])
    return Matches(
        reference=int((ours.scores >= threshold).sum()),
        candidate=int((theirs.scores >= threshold).sum()),
        found=int(over_a.sum()),
        backed=int(over_b.sum()),
        both=int((over_a & over_b).sum()),
        score_difference=float(gaps.max(initial=0.0)),
    )


def total(matches: Sequence[Matches]) -> Matches:
    """Of several images: sums, and the largest score difference."""
    return Matches(
        reference=sum(one.reference for one in matches),
        candidate=sum(one.candidate for one in matches),
        found=sum(one.found for one in matches),
        backed=sum(one.backed for one in matches),
        both=sum(one.both for one in matches),
        score_difference=max((one.score_difference for one in matches), default=0.0),
    )


def pair_up(reference: Detections, candidate: Detections, iou: float = IOU) -> NDArray[np.int64]:
    """(P, 2) indices into the two lists, the pairs of the highest IoU first."""
    overlap = overlaps(reference.boxes, candidate.boxes)
    overlap[reference.class_ids[:, None] != candidate.class_ids[None, :]] = 0.0
    rows, columns = np.nonzero(overlap >= iou)
    order = np.argsort(-overlap[rows, columns], kind="stable")
    free_rows, free_columns = np.ones(len(reference), bool), np.ones(len(candidate), bool)
    pairs = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if free_rows[row] and free_columns[column]:
            free_rows[row] = free_columns[column] = False
            pairs.append((row, column))
    return np.array(pairs, np.int64).reshape(-1, 2)


def overlaps(a: NDArray, b: NDArray) -> NDArray[np.float64]:
    """(N, M) intersection over union of boxes (N, 4) and (M, 4), xyxy; 0 for those without area."""
    a, b = np.asarray(a, np.float64).reshape(-1, 4), np.asarray(b, np.float64).reshape(-1, 4)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0.0, None).prod(2)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0.0, None).prod(1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def at_least(detections: Detections, score: float) -> Detections:
    """Those with this score or more."""
    keep = detections.scores >= score
    return Detections(
        detections.boxes[keep], detections.scores[keep], detections.class_ids[keep], detections.labels, None
    )
