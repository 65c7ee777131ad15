"""The plane from above: what is drawn where."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.drawing.ground import GroundView
from edge_vision.drawing.palette import colour_of

VIEWS = {"door": np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 3.0], [0.0, 3.0]]), "hall": np.zeros((0, 2))}
STILL = np.zeros((1, 2))


def test_an_object_is_where_it_is_with_x_to_the_right_and_y_up() -> None:
    view = GroundView(VIEWS, width=448)
    assert view.size == (448, 348), "100 px a metre, and 0.24 m around"
    np.testing.assert_allclose(view.to_pixels(np.array([[0.0, 0.0], [4.0, 3.0]])), [[24, 324], [424, 24]])
    empty = view.draw([], [], np.zeros((0, 2)), np.zeros((0, 2)), [])
    image = view.draw([5], ["cart"], np.array([[1.0, 1.0]]), STILL, [False])
    assert tuple(image[224, 124].tolist()) == colour_of(5)
    rows, columns = np.nonzero((image != empty).any(axis=2))
    assert rows.max() <= 224 + 10
    assert columns.min() >= 124 - 10
    np.testing.assert_array_equal(view.draw([], [], np.zeros((0, 2)), np.zeros((0, 2)), []), empty, "the plan stays")
    gone = view.draw([5], ["cart"], np.array([[1.0, 1.0]]), STILL, [True])
    assert tuple(gone[224, 124].tolist()) != colour_of(5), "hollow"


def test_an_arrow_goes_to_where_it_is_in_a_second() -> None:
    view = GroundView(VIEWS, width=448)
    image = view.draw([1], [""], np.array([[1.0, 1.0]]), np.array([[1.5, 0.0]]), [False])
    still = view.draw([1], [""], np.array([[1.0, 1.0]]), STILL, [False])
    rows, columns = np.nonzero((image != still).any(axis=2))
    assert columns.max() == pytest.approx(274, abs=3)
    assert abs(np.median(rows) - 224) < 3


def test_names_make_room_for_each_other() -> None:
    view = GroundView(VIEWS, width=448)
    places = np.full((3, 2), 2.0) + np.arange(3)[:, None] * 0.02
    image = view.draw([1, 2, 3], ["cart"] * 3, places, np.zeros((3, 2)), [False] * 3)
    areas = [np.count_nonzero((image == colour_of(number)).all(axis=2)) for number in (1, 2, 3)]
    assert min(areas) > 0.5 * max(areas), "none is hidden by another"


@given(st.lists(st.tuples(st.floats(), st.floats(), st.floats(), st.floats()), min_size=1, max_size=3))
def test_nothing_that_comes_breaks_it(rows: list) -> None:
    view = GroundView(VIEWS, width=120)
    moves = np.array(rows)
    with np.errstate(all="ignore"):
        image = view.draw(list(range(len(rows))), ["x"] * len(rows), moves[:, :2], moves[:, 2:], [False] * len(rows))
    assert image.shape == (view.size[1], view.size[0], 3)


def test_no_view_is_told() -> None:
    with pytest.raises(ValueError, match="no camera of the rig sees the ground plane"):
        GroundView({"hall": np.zeros((0, 2))})
