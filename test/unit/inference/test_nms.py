"""Non-maximum suppression against the rule written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_vision.inference import nms
from edge_vision.inference.nms import non_maximum_suppression


def greedy(boxes: NDArray, scores: NDArray, class_ids: NDArray, iou: float, most: int, agnostic: bool) -> list[int]:
    """The rule, one pair at a time in doubles."""
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        for j in kept:
            if not agnostic and class_ids[i] != class_ids[j]:
                continue
            a, b = boxes[i].astype(float), boxes[j].astype(float)
            width = min(a[2], b[2]) - max(a[0], b[0])
            height = min(a[3], b[3]) - max(a[1], b[1])
            shared = max(width, 0.0) * max(height, 0.0)
            union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
            if union > 0 and shared / union > iou:
                break
        else:
            kept.append(i)
    return kept[:most]


def scene(seed: int, count: int) -> tuple[NDArray, NDArray, NDArray]:
    """Clustered boxes, as a detector gives them."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, 300, (max(count // 6, 1), 2))
    corners = centres[rng.integers(0, len(centres), count)] + rng.normal(0, 4, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(15, 40, (count, 2))], 1).astype(np.float32)
    return boxes, rng.uniform(0.01, 1, count).astype(np.float32), rng.integers(0, 4, count)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 60),
    iou=st.sampled_from([0.0, 0.3, 0.45, 0.5, 0.7, 1.0]),
    agnostic=st.booleans(),
    most=st.sampled_from([1, 5, 300]),
)
def test_as_the_rule_says(seed: int, count: int, iou: float, agnostic: bool, most: int) -> None:
    boxes, scores, class_ids = scene(seed, count)
    kept = non_maximum_suppression(boxes, scores, class_ids, iou, most, agnostic)
    assert kept.tolist() == greedy(boxes, scores, class_ids, iou, most, agnostic)


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("limits", [{"FEW": 1000}, {}, {"OPENCV_LIMIT": 24}])
def test_all_three_ways_agree(monkeypatch: pytest.MonkeyPatch, agnostic: bool, limits: dict[str, int]) -> None:
    boxes, scores, class_ids = scene(3, 700)
    for name, value in limits.items():
        monkeypatch.setattr(nms, name, value)
    kept = non_maximum_suppression(boxes, scores, class_ids, 0.5, 300, agnostic)
    assert kept.tolist() == greedy(boxes, scores, class_ids, 0.5, 300, agnostic)


def test_equal_scores_keep_their_order() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [50, 5, 60, 9], [30, 5, 40, 9]], np.float32)
    scores = np.full(4, 0.5, np.float32)
    kept = non_maximum_suppression(boxes, scores, np.zeros(4, np.int64), 0.5, 300)
    assert kept.tolist() == [0, 2, 3]


def test_classes_suppress_each_other_only_when_agnostic() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10]], np.float32)
    scores, class_ids = np.array([0.6, 0.9], np.float32), np.array([0, 79])
    assert non_maximum_suppression(boxes, scores, class_ids, 0.5, 300).tolist() == [1, 0]
    assert non_maximum_suppression(boxes, scores, class_ids, 0.5, 300, agnostic=True).tolist() == [1]
