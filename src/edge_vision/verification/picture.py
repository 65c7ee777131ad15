"""The frame in which a candidate differs most from the reference, with the boxes of both."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import Detections
from edge_vision.drawing.palette import DARK, LIGHT
from edge_vision.verification.matching import MARGIN, at_least, pair_up
from edge_vision.verification.verifying import FAILED, Report, Row

REFERENCE, CANDIDATE = (60, 200, 60), (60, 60, 235)  # B, G, R
FONT = cv2.FONT_HERSHEY_SIMPLEX
LEAST_WIDTH = 1280  # pixels: small frames are enlarged, or differences of a pixel could not be seen


def worst_row(report: Report) -> Row | None:
    """The row that ran and is furthest off: failed before passed, then by matched boxes and scores."""
    rows = [row for row in report.rows if row.figures is not None]

    def badness(row: Row) -> tuple[bool, float, float, float]:
        figures = row.figures
        assert figures is not None
        matches = figures.matches
        return row.state == FAILED, -matches.share, -matches.strict_share, matches.score_difference

    return max(rows, key=badness, default=None)


def picture(report: Report) -> NDArray[np.uint8] | None:
    """The worst frame of the worst candidate, (H, W, 3) uint8 BGR; None where none ran.

    The reference's boxes are green and wide, the candidate's red and narrow on top of them, so that equal boxes show
    both colours. A box without partner has its label and score; one whose partner lies just below the threshold has its
    own score and the partner's.
    """
    row = worst_row(report)
    if row is None or row.figures is None:
        return None
    index = row.figures.worst_frame
    image = report.frames.images[index]
    scale = max(1, -(-LEAST_WIDTH // image.shape[1]))
    canvas = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    canvas = cv2.addWeighted(canvas, 0.75, np.full_like(canvas, 255), 0.25, 0)  # so that the boxes stand out
    low = report.threshold - MARGIN
    theirs, ours = at_least(report.expected[index], low), at_least(row.detections[index], low)
    partners = pair_up(theirs, ours).tolist()
    of_theirs, of_ours = dict(partners), {b: a for a, b in partners}
    tags: list[tuple[NDArray, str, tuple[int, int, int], bool]] = []
    for detections, others, partner, colour, width, lower in (
        (theirs, ours, of_theirs, REFERENCE, 5, False),
        (ours, theirs, of_ours, CANDIDATE, 2, True),
    ):
        for number in np.flatnonzero(detections.scores >= report.threshold).tolist():
            box = detections.boxes[number] * scale
            cv2.rectangle(canvas, _point(box[:2]), _point(box[2:]), colour, width, cv2.LINE_AA)
            tag = _tag(detections, number, others, partner.get(number), report.threshold)
            if tag:
                tags.append((box, tag, colour, lower))
    for box, tag, colour, lower in tags:
        _write(canvas, box, tag, colour, lower)
    matches = row.figures.frames[index]
    lines = (
        f"{report.model}: {row.choice} (red) against {report.reference} (green)",
        f"frame {index + 1} of {len(report.frames.images)}, the worst: {matches.missing} of {matches.reference} boxes "
        f"missing, {matches.extra} of {matches.candidate} extra, {matches.crossed} crossed the threshold "
        f"{report.threshold:g}; scores differ by up to {matches.score_difference:.3f}",
    )
    return np.vstack([_bar(lines, canvas.shape[1]), canvas])


def _tag(detections: Detections, number: int, others: Detections, partner: int | None, threshold: float) -> str:
    class_id = int(detections.class_ids[number])
    label = detections.labels[class_id] if class_id < len(detections.labels) else f"class_{class_id}"
    own = f"{label} {detections.scores[number]:.2f}"
    if partner is None:
        return own
    return f"{own} ({others.scores[partner]:.2f})" if others.scores[partner] < threshold else ""


def _point(corner: NDArray) -> tuple[int, int]:
    return round(float(corner[0])), round(float(corner[1]))


def _write(canvas: NDArray, box: NDArray, tag: str, colour: tuple[int, int, int], lower: bool) -> None:
    """The tag above the box, or below it, within the picture."""
    (width, height), depth = cv2.getTextSize(tag, FONT, 0.6, 1)
    x = max(0, min(int(box[0]), canvas.shape[1] - width - 6))
    y = int(box[3]) + 4 if lower else int(box[1]) - height - depth - 6
    y = max(0, min(y, canvas.shape[0] - height - depth - 4))
    cv2.rectangle(canvas, (x, y), (x + width + 6, y + height + depth + 2), colour, cv2.FILLED)
    cv2.putText(canvas, tag, (x + 3, y + height + 1), FONT, 0.6, DARK, 1, cv2.LINE_AA)


def _bar(lines: tuple[str, ...], width: int) -> NDArray[np.uint8]:
    """The lines, to stand above the picture so that they hide none of it; as large as the longest allows."""
    size = 0.8
    while size > 0.3 and max(cv2.getTextSize(line, FONT, size, 1)[0][0] for line in lines) > width - 20:
        size -= 0.02  # widths are not in proportion to sizes
    step = round(36 * size) + 6
    bar = np.full((step * len(lines) + 8, width, 3), DARK, np.uint8)
    for number, line in enumerate(lines, 1):
        cv2.putText(bar, line, (10, number * step - 4), FONT, size, LIGHT, 1, cv2.LINE_AA)
    return bar
