"""What samples span, as ROS counts it, and which views are kept."""

from __future__ import annotations

import numpy as np
import pytest

from edge_vision.calibration.boards import Board
from edge_vision.calibration.guidance import suggest
from edge_vision.calibration.knowledge import known_before
from edge_vision.calibration.models import rotation_matrices
from edge_vision.calibration.projection import Camera
from edge_vision.calibration.sampling import Selection, displacement, tilted_sides, view_spans
from edge_vision.calibration.views import View

SIZE = (640, 480)
CAMERA = Camera("plumb_bob", SIZE, np.array([554.0, 554, 319.5, 239.5, 0, 0, 0, 0, 0]))
BOARD = Board("chessboard", 9, 6, 0.025)
PARTIAL = Board("charuco", 9, 7, 0.025, 0.018, "DICT_5X5_100")


def shot(turn=(0.0, 0.0, 0.0), centre=(0.0, 0.0, 0.4), board: Board = BOARD, name: str = "view") -> View:
    R = rotation_matrices(np.array(turn, float))[0]
    pixels = CAMERA.project((board.points - board.points.mean(axis=0)) @ R.T + np.array(centre))
    inside = ((pixels >= 0) & (pixels < SIZE)).all(axis=1)
    return View(name, np.flatnonzero(inside), pixels[inside], SIZE)


def test_a_board_in_the_middle_that_faces_the_camera():
    x, y, size, skew = view_spans(shot(), BOARD)
    assert (x, y) == (pytest.approx(0.5, abs=0.01), pytest.approx(0.5, abs=0.01))
    assert size == pytest.approx(np.sqrt(0.2 * 0.125 * 554**2 / 0.16 / (640 * 480)), rel=1e-6)
    assert skew == pytest.approx(0, abs=1e-6)


def test_sides_distance_and_tilt_change_what_they_should():
    middle = view_spans(shot(), BOARD)
    assert view_spans(shot(centre=(0.15, 0, 0.4)), BOARD)[0] > 0.9
    assert view_spans(shot(centre=(0, -0.1, 0.4)), BOARD)[1] < 0.05
    assert view_spans(shot(centre=(0, 0, 0.8)), BOARD)[2] == pytest.approx(middle[2] / 2, rel=0.01)
    assert view_spans(shot(turn=(0.5, 0.5, 0)), BOARD)[3] > 0.1


def test_of_a_board_in_view_in_part_the_corners_seen_count():
    whole, part = shot(board=PARTIAL), shot(centre=(0.25, 0, 0.4), board=PARTIAL)
    assert len(part) < len(whole)
    x, _, size, skew = view_spans(part, PARTIAL)
    assert x == pytest.approx(1, abs=0.02)
    assert size < view_spans(whole, PARTIAL)[2]
    assert skew == pytest.approx(0, abs=1e-3)


def test_spans_and_coverage_of_samples():
    assert Selection(BOARD, SIZE).spans == (0, 0, 0, 0)
    selection = Selection(BOARD, SIZE, [shot(centre=(x, y, 0.4)) for x in (-0.1, 0.1) for y in (-0.1, 0.1)])
    assert min(selection.spans[:2]) > 0.9
    assert selection.coverage > 0.6
    assert selection.added(shot(centre=(0, 0, 0.3))).spans[2] > selection.spans[2]
    assert selection.cells.shape == (10, 10)


def test_how_far_a_board_moved():
    view = shot()
    moved = View("moved", view.ids, view.pixels + [3, 4], SIZE)
    assert displacement(view, moved) == pytest.approx(5)
    assert displacement(view, View("few", view.ids[:9], view.pixels[:9], SIZE)) == np.inf


def test_what_is_kept_and_why():
    knowledge = known_before(SIZE, BOARD)
    views = [shot(centre=(x, y, 0.4)) for x in (-0.08, 0, 0.08) for y in (-0.04, 0, 0.04)]
    selection = Selection(BOARD, SIZE, views)
    known = knowledge.added(views[0])
    again = selection.decide(shot(centre=(0.0005, 0, 0.4)), known, frozenset(), None, 0.0)
    assert not again.keep
    assert "this view already" in again.reason
    tilted = shot(turn=(0.6, 0, 0))
    assert selection.decide(tilted, known, frozenset(), None, 0.02).keep
    # From here on nothing lowers the uncertainty enough: what counts is what was never shown.
    turned = shot((0, 0.6, 0))
    (side,), (other,) = tilted_sides(knowledge, [tilted]), tilted_sides(knowledge, [turned])
    assert side != other
    decided = selection.decide(tilted, known, frozenset(range(4)) - {side}, None, 0.999)
    assert decided.keep
    assert "turns a side" in decided.reason
    assert not selection.decide(turned, known, frozenset(range(4)) - {side}, None, 0.999).keep
    corner = selection.decide(shot(centre=(0.2, 0.2, 0.8)), known, frozenset(range(4)), None, 0.999)
    assert corner.keep
    assert "no view has shown" in corner.reason


def test_the_view_that_was_asked_for_is_kept():
    knowledge = known_before(SIZE, BOARD)
    views = [shot(centre=(x, y, 0.4)) for x in (-0.1, 0, 0.1) for y in (-0.07, 0, 0.07)]
    views.append(shot(centre=(0, 0, 0.23)))
    selection = Selection(BOARD, SIZE, views)
    (asked,) = suggest(knowledge, views)
    middle = BOARD.points.mean(axis=0)
    shown = CAMERA.project(BOARD.points @ asked.rotation.T + asked.translation)
    view = View(
        "asked", np.arange(54), knowledge.camera.project(BOARD.points @ asked.rotation.T + asked.translation), SIZE
    )
    assert selection.follows(view, knowledge, asked)
    assert np.isfinite(shown).all()
    decided = selection.decide(view, knowledge, frozenset(range(4)), asked, 1.0)
    assert decided.keep
    far = View("far", np.arange(54), view.pixels + [120, 0], SIZE)
    assert not selection.follows(far, knowledge, asked)
    assert tilted_sides(knowledge, [view]) or asked.tilt < 15
    assert np.linalg.norm(asked.rotation @ middle + asked.translation) > 0.1
