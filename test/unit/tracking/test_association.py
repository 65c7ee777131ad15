"""Overlap as by hand, and the best choice as by trying all."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_vision.tracking import association
from edge_vision.tracking.association import assign, choose, far_negated, iou_matrix, listed, overlapping
from edge_vision.tracking.matching import once


def boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    low = rng.uniform(0, 100, (count, 2))
    return np.hstack([low, low + rng.uniform(1, 60, (count, 2))])


def iou_of_two(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.integers(0, 6))
def test_iou_equals_the_definition(seed: int, m: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = boxes(rng, m), boxes(rng, n)
    expected = [[iou_of_two(a, b) for b in second] for a in first]
    result = iou_matrix(first, second)
    assert result.shape == (m, n)
    np.testing.assert_allclose(result, np.reshape(expected, (m, n)), atol=1e-5)
    # Grown by margins: the definition on the grown boxes.
    margin = rng.uniform(0, 30, (m, 2))
    grown = [
        [
            iou_of_two(a + np.concatenate([-margin[i], margin[i]]), b + np.concatenate([-margin[i], margin[i]]))
            for b in second
        ]
        for i, a in enumerate(first)
    ]
    np.testing.assert_allclose(iou_matrix(first, second, margin), np.reshape(grown, (m, n)), atol=1e-5)


def test_iou_of_known_boxes() -> None:
    a = np.array([[0, 0, 10, 10]])
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 4]])
    np.testing.assert_allclose(iou_matrix(a, b)[0], [1.0, 1 / 3, 0.0, 0.04], atol=1e-6)


def best_gain(similarity: np.ndarray, gate: float) -> float:
    """By trying every one-to-one choice."""
    if similarity.shape[0] > similarity.shape[1]:
        similarity = similarity.T
    rows, columns = similarity.shape
    gain = np.maximum(similarity - gate, 0.0)
    return max(
        sum(gain[row, column] for row, column in enumerate(choice))
        for choice in itertools.permutations(range(columns), rows)
    )


matrices = hnp.arrays(
    np.float64,
    st.tuples(st.integers(0, 5), st.integers(0, 5)),
    elements=st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.55, 0.9, 1.0]),
)


@pytest.mark.parametrize("small", [0, 2500], ids=["decomposed", "whole"])
@given(matrices, st.sampled_from([0.0, 0.2, 0.5]))
def test_assignment_is_the_best_one(small: int, similarity: np.ndarray, gate: float) -> None:
    kept, association.SMALL = association.SMALL, small
    try:
        rows, columns = assign(similarity, gate)
    finally:
        association.SMALL = kept
    assert len(set(rows.tolist())) == len(rows) == len(columns) == len(set(columns.tolist()))
    assert (similarity[rows, columns] > gate).all()
    total = (similarity[rows, columns] - gate).sum()
    expected = best_gain(similarity, gate) if similarity.size else 0.0
    assert total == pytest.approx(expected, abs=1e-9)


def test_gate_is_part_of_the_choice() -> None:
    """A full assignment would pair both, at the price of the good pair: (0,0) and (1,1) sum to more than (0,1)."""
    similarity = np.array([[0.45, 0.9], [0.0, 0.5]])
    rows, columns = assign(similarity, 0.4)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 1)]


def test_thousands() -> None:
    rng = np.random.default_rng(1)
    grid = np.stack(np.meshgrid(np.arange(50) * 40.0, np.arange(50) * 40.0), -1).reshape(-1, 2)
    first = np.hstack([grid, grid + 38.0])
    order = rng.permutation(len(grid))
    rows, columns = assign(iou_matrix(first, (first + rng.normal(0, 2, first.shape))[order]), 0.1)
    assert len(rows) == 2500
    assert (order[columns] == rows).all()


def test_solver_comes_without_all_of_scipy_optimize() -> None:
    """Half a second and 45 MB for one function would be a tenth of what the whole pipeline may have."""
    src = str(Path(__file__).resolve().parents[3] / "src")
    code = (
        f"import sys; sys.path.insert(0, {src!r}); import numpy as np\n"
        "from edge_vision.tracking import Tracker\n"
        "from edge_vision.tracking.association import assign\n"
        "Tracker.from_preset('edge_vision')\n"
        "assert len(assign(np.array([[.5, .6], [.6, .5]]), .1)[0]) == 2\n"
        "print('scipy.optimize' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


def test_overlap_in_blocks_is_the_overlap() -> None:
    """Large matrices are computed a block of rows at a time, with and without margins."""
    rng = np.random.default_rng(2)
    low = rng.uniform(0, 500, (300, 2))
    boxes = np.hstack([low, low + rng.uniform(5, 80, (300, 2))])
    margin = rng.uniform(0, 10, (300, 2))
    whole, grown = iou_matrix(boxes, boxes), iou_matrix(boxes, boxes, margin)
    for k in (0, 57, 150, 299):
        np.testing.assert_array_equal(whole[k], iou_matrix(boxes[k : k + 1], boxes)[0])
        np.testing.assert_array_equal(grown[k], iou_matrix(boxes[k : k + 1], boxes, margin[k : k + 1])[0])


@given(st.integers(0, 10_000), st.integers(1, 120), st.integers(1, 120), st.floats(0.02, 1.0))
def test_pairs_that_overlap_are_those_of_the_matrix(seed: int, count: int, other: int, spread: float) -> None:
    """Whether they come from a sweep along x or from looking at all."""
    rng = np.random.default_rng(seed)
    a, b = boxes(rng, count) * [1 / spread, 1, 1 / spread, 1], boxes(rng, other) * [1 / spread, 1, 1 / spread, 1]
    turned_a, turned_b = far_negated(a), far_negated(b)
    areas = [np.prod(turned[:2] + turned[2:], axis=0) for turned in (turned_a, turned_b)]
    rows, columns, found = overlapping(turned_a, turned_b, *areas)
    matrix = np.zeros((count, other), np.float32)
    matrix[rows, columns] = found
    np.testing.assert_allclose(matrix, iou_matrix(a, b), atol=1e-6)
    assert (np.diff(rows) >= 0).all()


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 40), st.floats(0.05, 1.0))
def test_listed_pairs_are_chosen_as_from_the_whole_matrix(seed: int, count: int, other: int, filled: float) -> None:
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(seed)
    matrix = np.where(rng.random((count, other)) < filled, rng.random((count, other)), 0.0).astype(np.float32)
    rows, columns = choose(listed(matrix), 0.3, matrix.shape)
    gain = np.maximum(matrix - np.float32(0.3), 0.0)
    best = gain[linear_sum_assignment(gain, maximize=True)].sum()
    assert len(set(rows.tolist())) == len(rows) == len(set(columns.tolist()))
    np.testing.assert_allclose((matrix[rows, columns] - 0.3).sum(), best, atol=1e-4)


def test_doubles_of_other_classes() -> None:
    places = np.array([[0, 0, 10, 10], [0, 0, 10, 11], [0, 0, 10, 10], [50, 0, 60, 10]], np.float32)
    scores = np.array([0.8, 0.9, 0.8, 0.3], np.float32)
    assert once(places, scores, np.array([0, 1, 2, 0]), 0.75).tolist() == [False, True, False, True]
    assert once(places, scores, np.array([0, 0, 0, 0]), 0.75).all()
    assert once(places, np.full(4, 0.5, np.float32), np.array([0, 1, 2, 0]), 0.75).tolist() == [
        True,
        False,
        False,
        True,
    ]
