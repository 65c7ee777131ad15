"""Matching of boxes: by hand, and against the rule written out in plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vision.datatypes import Detections
from edge_vision.verification.matching import Matches, match, overlaps, total

BOX, OTHER = (10.0, 10.0, 50.0, 40.0), (100.0, 20.0, 160.0, 80.0)


def detections(*rows: tuple[tuple[float, float, float, float], float, int]) -> Detections:
    return Detections(
        np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], np.float32),
        np.array([row[2] for row in rows], np.int64),
        ("nut", "bolt"),
    )


def test_equal_lists_match_wholly_in_any_order() -> None:
    a = detections((BOX, 0.9, 0), (OTHER, 0.5, 1))
    b = detections((OTHER, 0.5, 1), (BOX, 0.9, 0))
    found = match(a, b, 0.3)
    assert found == Matches(reference=2, candidate=2, found=2, backed=2, both=2)
    assert (found.share, found.strict_share, found.missing, found.extra, found.crossed) == (1, 1, 0, 0, 0)


def test_boxes_too_many_count_as_boxes_too_few_do() -> None:
    one, two = detections((BOX, 0.9, 0)), detections((BOX, 0.9, 0), (OTHER, 0.5, 1))
    assert match(two, one, 0.3).share == match(one, two, 0.3).share == 0.5
    assert (match(two, one, 0.3).missing, match(one, two, 0.3).extra) == (1, 1)


def test_another_class_or_a_shifted_box_is_no_match() -> None:
    a = detections((BOX, 0.9, 0))
    assert match(a, detections((BOX, 0.9, 1)), 0.3).share == 0
    assert match(a, detections(((11.0, 10.0, 51.0, 40.0), 0.9, 0)), 0.3).share == 1  # IoU 39/41
    assert match(a, detections(((13.0, 10.0, 53.0, 40.0), 0.9, 0)), 0.3).share == 0  # IoU 37/43


def test_a_box_that_crossed_the_threshold_matches_and_is_counted_apart() -> None:
    a = detections((BOX, 0.301, 0), (OTHER, 0.9, 1))
    b = detections((BOX, 0.299, 0), (OTHER, 0.88, 1))
    found = match(a, b, 0.3)
    assert (found.reference, found.candidate, found.share, found.crossed) == (2, 1, 1.0, 1)
    assert found.strict_share == 0.5
    assert found.score_difference == pytest.approx(0.02, abs=1e-6)
    assert match(b, a, 0.3).crossed == 1


def test_a_box_far_below_the_threshold_is_missing() -> None:
    a, b = detections((BOX, 0.31, 0)), detections((BOX, 0.2, 0))
    assert (match(a, b, 0.3).missing, match(a, b, 0.3).share) == (1, 0.0)
    # What both have below the threshold is nobody's business.
    assert match(b, b, 0.3) == Matches()


def test_frames_add_up() -> None:
    a, b = Matches(4, 4, 4, 3, 3, 0.01), Matches(2, 0, 1, 0, 0, 0.04)
    assert total([a, b]) == Matches(6, 4, 5, 3, 3, 0.04)
    assert total([]) == Matches()


coordinate = st.integers(0, 12)
box = st.tuples(coordinate, coordinate, st.integers(0, 6), st.integers(0, 6)).map(
    lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3]))
)
frame = st.lists(st.tuples(box, st.sampled_from([0.1, 0.25, 0.27, 0.3, 0.5, 0.9]), st.integers(0, 1)), max_size=8)


def iou_by_hand(a: tuple, b: tuple) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


@settings(max_examples=200, deadline=None)
@given(a=frame, b=frame, iou=st.sampled_from([0.3, 0.5, 0.9]))
def test_as_the_rule_in_plain_loops(a: list, b: list, iou: float) -> None:
    threshold, margin = np.float32(0.3), 0.05
    ours = [row for row in a if np.float32(row[1]) >= threshold - margin]
    theirs = [row for row in b if np.float32(row[1]) >= threshold - margin]
    left = [
        (iou_by_hand(x[0], y[0]), i, j)
        for i, x in enumerate(ours)
        for j, y in enumerate(theirs)
        if x[2] == y[2] and iou_by_hand(x[0], y[0]) >= iou
    ]
    pairs = []
    while left:
        best = left[0]
        for pair in left:  # the first of equal ones
            if pair[0] > best[0]:
                best = pair
        pairs.append(best)
        left = [pair for pair in left if pair[1] != best[1] and pair[2] != best[2]]
    over = lambda row: np.float32(row[1]) >= threshold  # noqa: E731
    found = match(detections(*a), detections(*b), float(threshold), margin, iou)
    assert found.reference == sum(map(over, ours))
    assert found.candidate == sum(map(over, theirs))
    assert found.found == sum(over(ours[i]) for _, i, _ in pairs)
    assert found.backed == sum(over(theirs[j]) for _, _, j in pairs)
    assert found.both == sum(over(ours[i]) and over(theirs[j]) for _, i, j in pairs)
    gaps = [abs(ours[i][1] - theirs[j][1]) for _, i, j in pairs if over(ours[i]) or over(theirs[j])]
    assert found.score_difference == pytest.approx(max(gaps, default=0.0), abs=1e-6)
    assert 0 <= found.strict_share <= found.share <= 1


def test_overlaps_of_nothing_and_of_boxes_without_area() -> None:
    assert overlaps(np.zeros((0, 4)), np.array([BOX])).shape == (0, 1)
    flat = np.array([[5.0, 5.0, 5.0, 9.0]])
    assert overlaps(flat, flat).item() == 0.0
