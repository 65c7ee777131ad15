"""The parts of the detection: a board's grid among points, saddles of brightness, dark ellipses."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vision.calibration.boards import Board
from edge_vision.calibration.detection_chessboard import is_crossing, saddles
from edge_vision.calibration.detection_circles import dark_ellipses
from edge_vision.calibration.detection_grid import find_grid
from edge_vision.calibration.detection_lattice import right_handed

CHESS = Board("chessboard", 7, 5, 0.03)
ACIRCLES = Board("acircles", 4, 7, 0.02)


def seen(board: Board, angle: float, tilt: float) -> np.ndarray:
    """Points of a board in an image of about 600 px: turned, and tilted so that one side is nearer."""
    xy = board.points[:, :2] - board.points[:, :2].mean(0)
    xy = xy / np.abs(xy).max() @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return 300 + 200 * xy / (1 + tilt * xy[:, :1])


@pytest.mark.parametrize("board", [CHESS, ACIRCLES], ids=["square", "shifted rows"])
@given(angle=st.floats(-3.1, 3.1), tilt=st.floats(0, 0.25), seed=st.integers(0, 99))
@settings(max_examples=12, deadline=None, derandomize=True)
def test_a_grid_is_found_among_other_points_however_it_is_turned(board, angle, tilt, seed):
    generator = np.random.default_rng(seed)
    truth = seen(board, angle, tilt)
    points = np.concatenate([truth + generator.normal(0, 0.3, truth.shape), generator.uniform(0, 80, (12, 2))])
    order = generator.permutation(len(points))
    places = find_grid(points[order], board)
    assert places is not None
    assert places.shape == (board.rows, board.columns)
    assert set(order[places.ravel()]) == set(range(len(truth)))
    grid = points[order][places]
    np.testing.assert_array_equal(right_handed(grid), grid)
    if board is CHESS:  # neighbours are neighbours
        rows, columns = np.divmod(order[places], board.columns)
        for axis in (0, 1):
            assert (np.abs(np.diff(rows, axis=axis)) + np.abs(np.diff(columns, axis=axis)) == 1).all()


def test_no_grid_is_made_of_too_few_of_a_larger_or_of_scattered_points():
    truth = seen(CHESS, 0.2, 0.1)
    assert find_grid(truth[:-1], CHESS) is None
    assert find_grid(np.random.default_rng(1).uniform(0, 600, (80, 2)), CHESS) is None
    assert find_grid(np.zeros((0, 2)), CHESS) is None
    assert find_grid(seen(Board("chessboard", 8, 6, 0.03), 0.2, 0.1), CHESS) is None  # it would fit at four places


def drawn(squares: int, side: int, turn: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """A chessboard on grey paper, and its inner corners px."""
    n = 3
    y, x = np.mgrid[: 240 * n, : 320 * n].astype(np.float64)
    x, y = (x - 1) / n - 160, (y - 1) / n - 120
    a, b = np.cos(turn) * x + np.sin(turn) * y, -np.sin(turn) * x + np.cos(turn) * y
    half = squares * side / 2
    board = (np.floor((a + half) / side) + np.floor((b + half) / side)) % 2 * 180 + 40
    board[(np.abs(a) > half) | (np.abs(b) > half)] = 220
    image = cv2.GaussianBlur(cv2.resize(board, (320, 240), interpolation=cv2.INTER_AREA), (0, 0), 0.8)
    steps = (np.arange(1, squares) * side - half).astype(np.float64)
    i, j = (part.ravel() for part in np.meshgrid(steps, steps))
    at = np.column_stack([160 + np.cos(turn) * i - np.sin(turn) * j, 120 + np.sin(turn) * i + np.cos(turn) * j])
    return image.astype(np.uint8), at


def test_saddles_are_a_chessboards_inner_corners_and_nothing_else():
    image, corners = drawn(6, 22)
    found = saddles(image)
    distance = np.hypot(*(found[:, None] - corners[None]).transpose(2, 0, 1))
    assert distance.min(0).max() < 0.5  # every corner
    assert (distance.min(1) < 0.5).all()  # and no other point, such as an outer corner or an edge
    assert len(saddles(np.full((60, 80), 90, np.uint8))) == 0
    disc = cv2.circle(np.full((120, 160), 200, np.uint8), (80, 60), 25, 30, -1, cv2.LINE_AA)
    assert len(saddles(disc)) == 0


def test_a_crossing_is_told_from_an_edge_and_from_the_corner_of_a_square():
    image, corners = drawn(6, 22)
    outer = np.array([[160.0, 120.0]]) + np.array(
        [[np.cos(0.3) * 66 - np.sin(0.3) * 66, np.sin(0.3) * 66 + np.cos(0.3) * 66]]
    )
    edge = corners[:1] + [11 * np.cos(0.3), 11 * np.sin(0.3)]
    paper = np.array([[12.0, 12.0]])
    np.testing.assert_array_equal(is_crossing(image, corners, 3.0), np.ones(len(corners), bool))
    assert not is_crossing(image, np.concatenate([outer, edge, paper]), 3.0).any()
    assert len(is_crossing(image, np.zeros((0, 2)), 3.0)) == 0


def test_dark_ellipses_are_discs_seen_from_the_side_and_not_bars_or_what_is_cut():
    image = np.full((240, 320), 210, np.uint8)
    discs = [((80, 60), (15, 9), 30), ((160, 60), (12, 12), 0), ((240, 120), (14, 6), 110)]
    for centre, axes, angle in discs:
        cv2.ellipse(image, centre, axes, angle, 0, 360, 40, -1, cv2.LINE_AA)
    cv2.rectangle(image, (60, 170), (130, 178), 40, -1)  # a bar
    cv2.circle(image, (318, 200), 12, 40, -1, cv2.LINE_AA)  # cut by the border
    cv2.circle(image, (200, 200), 12, 205, -1, cv2.LINE_AA)  # hardly darker than the paper
    found = dark_ellipses(cv2.GaussianBlur(image, (0, 0), 0.8), 0.25)
    assert len(found) == len(discs)
    distance = np.hypot(*(found[:, None] - np.array([centre for centre, *_ in discs])[None]).transpose(2, 0, 1))
    assert distance.min(0).max() < 0.3
    assert len(dark_ellipses(image, 0.25, 7)) == 0  # fewer than were asked for
