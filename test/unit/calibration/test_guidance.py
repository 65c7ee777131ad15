"""The next view lowers the uncertainty as foretold, words and outline agree, views are judged by what they add."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_vision.calibration.boards import Board
from edge_vision.calibration.guidance import (
    Suggestion,
    choose_views,
    coverage_cells,
    is_worth_adding,
    suggest,
    tilt_direction,
)
from edge_vision.calibration.knowledge import known_before, known_from, locate
from edge_vision.calibration.models import rotation_matrices
from edge_vision.calibration.projection import Camera
from edge_vision.calibration.solving import solve
from edge_vision.calibration.views import View

PLUMB_BOB = Camera("plumb_bob", (1280, 720), np.array([900.0, 905, 650, 350, -0.3, 0.1, 1e-3, -1e-3, 0]))
FISHEYE = Camera("equidistant", (1280, 720), np.array([500.0, 500, 640, 360, 0.02, -0.01, 0.001, -0.0005]))
CHESSBOARD = Board("chessboard", 9, 6, 0.025)
APRILGRID = Board("aprilgrid", 6, 6, 0.035, 0.025)
CHARUCO = Board("charuco", 9, 7, 0.025, 0.018, "DICT_5X5_100")


def shot(camera: Camera, board: Board, R, t, rng, noise: float = 0.2, name: str = "view") -> View:
    pixels = camera.project(board.points @ R.T + t)
    inside = ((pixels >= 0) & (pixels <= np.array(camera.image_size) - 1)).all(axis=1)
    pixels = pixels + rng.normal(0, noise, pixels.shape)
    return View(name, np.flatnonzero(inside), pixels[inside], camera.image_size)


def front_views(camera: Camera, board: Board, count: int, rng) -> list[View]:
    """Near the middle of the image, tilted a little: what people take at first."""
    own = np.diag([1.0, -1.0, -1.0]) if board.kind == "aprilgrid" else np.eye(3)
    views = []
    for index in range(count):
        R = rotation_matrices(rng.uniform(-0.35, 0.35, 3))[0] @ own
        t = np.array([*rng.uniform(-0.03, 0.03, 2), rng.uniform(0.35, 0.5)]) - R @ board.points.mean(axis=0)
        views.append(shot(camera, board, R, t, rng, name=f"front{index}"))
    return views


def taken(camera: Camera, suggestion: Suggestion, board: Board, rng, name: str) -> View:
    return shot(camera, board, suggestion.rotation, suggestion.translation, rng, name=name)


@pytest.mark.parametrize(("camera", "board"), [(PLUMB_BOB, CHESSBOARD), (PLUMB_BOB, CHARUCO), (FISHEYE, APRILGRID)])
def test_the_uncertainty_falls_as_foretold(camera, board):
    rng = np.random.default_rng(3)
    views = front_views(camera, board, 6, rng)
    before = known_from(solve(views, board.points, model=camera.model), board)
    (best,) = suggest(before, views)
    assert best.gain > 0.15
    after = solve([*views, taken(camera, best, board, rng, "next")], board.points, model=camera.model)
    known = replace(known_from(after, board), map=before.map)
    fallen = 1 - known.uncertainty / before.uncertainty
    assert fallen == pytest.approx(best.gain, abs=0.2)


def test_guided_views_beat_front_views():
    rng = np.random.default_rng(4)
    views = front_views(PLUMB_BOB, CHESSBOARD, 4, rng)
    more = [*views, *front_views(PLUMB_BOB, CHESSBOARD, 5, rng)]
    for index in range(5):
        knowledge = known_from(solve(views, CHESSBOARD.points), CHESSBOARD)
        views.append(taken(PLUMB_BOB, suggest(knowledge, views)[0], CHESSBOARD, rng, f"guided{index}"))
    guided, unguided = (known_from(solve(each, CHESSBOARD.points), CHESSBOARD).uncertainty for each in (views, more))
    assert guided < unguided / 4


def test_there_is_guidance_before_the_first_solve():
    rng = np.random.default_rng(5)
    views: list[View] = []
    foretold = [known_before(PLUMB_BOB.image_size, CHESSBOARD).uncertainty]
    for index in range(4):
        knowledge = known_before(PLUMB_BOB.image_size, CHESSBOARD, views)
        foretold.append(knowledge.uncertainty)
        views.append(taken(PLUMB_BOB, suggest(knowledge, views)[0], CHESSBOARD, rng, f"guided{index}"))
    assert foretold == sorted(foretold, reverse=True)
    assert any(locate(PLUMB_BOB, CHESSBOARD, view) for view in views)
    found = solve([view for view in views if len(view) == 54], CHESSBOARD.points)
    assert found.K[0, 0] == pytest.approx(900, rel=0.02)


def test_several_suggestions_differ_and_fit_the_image():
    rng = np.random.default_rng(6)
    views = front_views(PLUMB_BOB, CHESSBOARD, 5, rng)
    found = suggest(known_from(solve(views, CHESSBOARD.points), CHESSBOARD), views, 3)
    assert len({each.text for each in found}) == 3
    for each in found:
        assert len(each.outline) >= 40
        # A chessboard must be seen whole: with its edge.
        assert (each.outline > -2).all()
        assert (each.outline < np.array(PLUMB_BOB.image_size) + 2).all()


def test_words_and_pose_say_the_same():
    rng = np.random.default_rng(7)
    views = front_views(PLUMB_BOB, CHESSBOARD, 5, rng)
    for each in suggest(known_from(solve(views, CHESSBOARD.points), CHESSBOARD), views, 4):
        middle = each.rotation @ CHESSBOARD.points.mean(axis=0) + each.translation
        angle, side = tilt_direction(each.rotation, middle)
        assert angle == pytest.approx(each.tilt, abs=0.5)
        if each.tilt:
            assert f"{('right', 'left', 'top', 'bottom')[side]} side towards" in each.text
        x, y = PLUMB_BOB.project(middle[None])[0]
        if "left" in each.text.split(", tilted")[0]:
            assert x < 640
        if "bottom" in each.text.split(", tilted")[0]:
            assert y > 360


@pytest.mark.parametrize(("turn", "side"), [((0, 0.5, 0), 0), ((0, -0.5, 0), 1), ((0.5, 0, 0), 2), ((-0.5, 0, 0), 3)])
@pytest.mark.parametrize("own", [np.eye(3), np.diag([1.0, -1.0, -1.0])], ids=["z in", "z out"])
def test_the_side_that_is_nearer(turn, side, own):
    R = rotation_matrices(np.array(turn))[0] @ own
    corners = np.array([[0.1, 0, 0], [-0.1, 0, 0], [0, -0.1, 0], [0, 0.1, 0]])  # right, left, top, bottom
    nearest = int(np.argmin((corners @ (R @ own.T).T)[:, 2]))
    assert tilt_direction(R, np.array([0, 0, 1.0])) == (pytest.approx(np.degrees(0.5)), side)
    assert nearest == side


def test_the_same_view_again_adds_little():
    rng = np.random.default_rng(8)
    views = front_views(PLUMB_BOB, CHESSBOARD, 8, rng)
    knowledge = known_from(solve(views, CHESSBOARD.points), CHESSBOARD)
    repeated = knowledge
    for _ in range(25):
        repeated = repeated.added(views[0])
    worth, gain = is_worth_adding(repeated, views[0])
    assert not worth
    assert gain < 0.02
    (best,) = suggest(knowledge, views)
    assert is_worth_adding(repeated, taken(PLUMB_BOB, best, CHESSBOARD, rng, "next"))[0]


def test_a_view_without_a_pose_adds_nothing():
    knowledge = known_before((640, 480), CHESSBOARD)
    assert knowledge.gain(View("three", np.arange(3), np.zeros((3, 2)), (640, 480))) == pytest.approx(0, abs=1e-12)


def test_of_many_frames_those_that_tell_most_are_kept():
    rng = np.random.default_rng(9)
    front = front_views(PLUMB_BOB, CHESSBOARD, 30, rng)
    knowledge = known_from(solve(front, CHESSBOARD.points), CHESSBOARD)
    told = [taken(PLUMB_BOB, each, CHESSBOARD, rng, f"told{i}") for i, each in enumerate(suggest(knowledge, front, 3))]
    chosen = choose_views(solve(front, CHESSBOARD.points), CHESSBOARD, [*front, *told], 8)
    assert len(chosen) == 8
    assert {view.name for view in told} <= {view.name for view in chosen}


def test_cells_are_those_of_the_image():
    cells = coverage_cells([np.array([[0.0, 0.0], [639, 479], [639, 0]])], (640, 480))
    assert cells.sum() == 3
    assert cells[0, 0]
    assert cells[9, 9]
    assert cells[0, 9]
