"""The figures are what they say: uncertainty is the spread of repeated calibrations, a bad set is told from a good."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_vision.calibration.assessment import assess, hull_share, residual_figures, straightness
from edge_vision.calibration.boards import Board
from edge_vision.calibration.difference import difference
from edge_vision.calibration.models import rotation_matrices
from edge_vision.calibration.projection import Camera
from edge_vision.calibration.solving import solve
from edge_vision.calibration.uncertainty import fitted_pixels, outermost, projection_uncertainty
from edge_vision.calibration.verdict import Level, Thresholds, field_of_view, judge
from edge_vision.calibration.views import View

PLUMB_BOB = Camera("plumb_bob", (1280, 720), np.array([900.0, 905, 650, 350, -0.3, 0.1, 1e-3, -1e-3, 0]))
FISHEYE = Camera("equidistant", (1280, 720), np.array([500.0, 500, 640, 360, 0.02, -0.01, 0.001, -0.0005]))
CHESSBOARD = Board("chessboard", 9, 6, 0.025)
APRILGRID = Board("aprilgrid", 6, 6, 0.035, 0.025)


def random_views(camera: Camera, board: Board, count: int, rng) -> list[View]:
    """All over the image, exact corners."""
    own = np.diag([1.0, -1.0, -1.0]) if board.kind == "aprilgrid" else np.eye(3)
    size, views = np.array(camera.image_size), []
    while len(views) < count:
        ray = camera.unproject((rng.uniform(0.15, 0.85, 2) * size)[None])[0]
        R = rotation_matrices(rng.uniform(-0.7, 0.7, 3) * [1, 1, 0.5])[0] @ own
        pixels = camera.project(board.points @ R.T + ray * rng.uniform(0.25, 0.7) - R @ board.points.mean(axis=0))
        inside = ((pixels >= 0) & (pixels <= size - 1)).all(axis=1)
        if inside.mean() >= (0.4 if board.partial else 1):
            views.append(View(f"v{len(views)}", np.flatnonzero(inside), pixels[inside], camera.image_size))
    return views


def noisy(views: list[View], sigma: float, rng) -> list[View]:
    return [replace(view, pixels=view.pixels + rng.normal(0, sigma, view.pixels.shape)) for view in views]


@pytest.mark.parametrize(("camera", "board"), [(PLUMB_BOB, CHESSBOARD), (FISHEYE, APRILGRID)])
def test_the_uncertainty_is_the_spread_of_repeated_calibrations(camera, board):
    """At the centre, the edges and the corners of the image, within a factor of 1.3."""
    rng = np.random.default_rng(1)
    exact = random_views(camera, board, 12, rng)
    found, told = [], []
    fit = np.concatenate([view.pixels for view in exact])[::5]
    for _ in range(24):
        calibration = solve(noisy(exact, 0.2, rng), board.points, model=camera.model)
        found.append(difference(camera, calibration, columns=5, rows=3, fit=fit).lengths)
        uncertainty = projection_uncertainty(calibration, columns=5, rows=3, fitted=fit)
        told.append(np.trace(uncertainty.covariances, axis1=-2, axis2=-1))
    spread, reported = np.sqrt(np.mean(np.square(found), axis=0)), np.sqrt(np.mean(told, axis=0))
    known = np.isfinite(reported)
    assert known.sum() >= 11
    ratios = (spread / reported)[known]
    assert 1 / 1.3 < np.sqrt(np.mean(ratios**2)) < 1.3
    assert (ratios > 1 / 1.6).all()  # a single place has the noise of 24 draws
    assert (ratios < 1.6).all()


def test_cross_validation_is_one_where_the_model_fits_and_more_where_it_does_not():
    rng = np.random.default_rng(2)
    views = noisy(random_views(PLUMB_BOB, CHESSBOARD, 16, rng), 0.2, rng)
    ratios = {}
    for terms in (("k1", "k2", "p1", "p2"), ()):
        calibration = solve(views, CHESSBOARD.points, terms=terms, rejection=None)
        assessment = assess(
            calibration, CHESSBOARD, lambda half, t=terms: solve(half, CHESSBOARD.points, terms=t, rejection=None)
        )
        assert assessment.cross_validation is not None
        ratios[terms] = assessment.cross_validation.ratio
        if not terms:
            assert judge(assessment).level == Level.NOT_YET
    assert 0.2 < ratios["k1", "k2", "p1", "p2"] < 2
    assert ratios[()] > 2


def test_four_views_alike_are_not_good_and_the_reasons_say_why():
    rng = np.random.default_rng(3)
    R = rotation_matrices(np.array([0.25, 0.2, 0.0]))[0]
    views = []
    for index in range(4):
        turn = rotation_matrices(rng.normal(0, 0.01, 3))[0] @ R
        pixels = PLUMB_BOB.project(CHESSBOARD.points @ turn.T + [-0.1, -0.06, 0.4])
        views.append(View(f"v{index}", np.arange(54), pixels + rng.normal(0, 0.15, pixels.shape), (1280, 720)))
    assessment = assess(
        solve(views, CHESSBOARD.points, terms=("k1",)), CHESSBOARD, lambda half: solve(half, CHESSBOARD.points)
    )
    verdict = judge(assessment)
    assert verdict.level == Level.NOT_YET
    assert assessment.residuals.rms < 0.25  # and the RMS does not tell
    blamed = {reason.name for reason in verdict.blamed}
    assert {"views", "uncertainty at the corners", "sigma of focal length", "coverage"} <= blamed
    assert all(reason.remedy for reason in verdict.blamed)
    assert verdict.text.startswith("not yet: ")
    assert assessment.cross_validation is None
    assert "4 views are too few" in assessment.cross_validation_note


def test_many_good_views_are_good():
    rng = np.random.default_rng(4)
    exact = random_views(PLUMB_BOB, CHESSBOARD, 60, rng)
    calibration = solve(noisy(exact, 0.05, rng), CHESSBOARD.points)
    assessment = assess(calibration, CHESSBOARD, lambda half: solve(half, CHESSBOARD.points))
    verdict = judge(assessment)
    assert verdict.text == "good: every figure is within its threshold"
    assert judge(assessment, Thresholds(views=(100, 61))).level == Level.NOT_YET


def test_bouguets_images_are_short_of_corners(shared_data):
    """The classic set: well-fitting, and unsure at the image's corners, which no board was shown in."""
    import cv2

    from edge_vision.calibration.detection import detect

    board = Board("chessboard", 9, 6, 0.03)
    views = []
    for path in sorted((shared_data / "calibration" / "opencv_left").glob("*.jpg")):
        view = detect(cv2.imread(str(path), 0), board, name=path.name)
        assert isinstance(view, View)
        views.append(view)
    assessment = assess(solve(views, board.points), board, lambda half: solve(half, board.points))
    assert assessment.residuals.rms < 0.22
    assert abs(assessment.calibration.K[0, 0] - 533.0) < 1.08
    assert assessment.straightness is not None
    assert assessment.straightness < 0.2
    assert 1 < assessment.uncertainty.worst_corner < 4
    assert assessment.uncertainty.centre < 0.05
    assert assessment.cross_validation is not None
    assert assessment.cross_validation.ratio < 2
    verdict = judge(assessment)
    assert {reason.name for reason in verdict.blamed} >= {"views", "uncertainty at the corners", "coverage"}
    assert "RMS" not in {reason.name for reason in verdict.blamed}
    four = assess(solve(views[:4], board.points), board, lambda half: solve(half, board.points))
    assert judge(four).level == Level.NOT_YET
    assert four.residuals.rms < 0.22
    assert max(four.uncertainty.corners) > assessment.uncertainty.worst_corner


def test_residuals_are_opencvs_and_placed_in_their_region():
    rng = np.random.default_rng(5)
    calibration = solve(noisy(random_views(PLUMB_BOB, CHESSBOARD, 8, rng), 0.3, rng), CHESSBOARD.points)
    figures = residual_figures(calibration)
    assert figures.rms == pytest.approx(calibration.rms)
    assert figures.rms == pytest.approx(np.hypot(figures.rms_x, figures.rms_y))
    assert figures.region_count.sum() == calibration.corner_count
    weighted = np.nansum(figures.region_rms**2 * figures.region_count) / figures.region_count.sum()
    assert np.sqrt(weighted) == pytest.approx(figures.rms)
    name, corner, distance = figures.worst
    residuals = calibration.residuals[calibration.views.index(name)]
    at = list(calibration.ids[calibration.views.index(name)]).index(corner)
    assert np.hypot(*residuals[at]) == pytest.approx(distance)
    assert distance == pytest.approx(max(np.hypot(*each.T).max() for each in calibration.residuals))


def test_rows_are_straight_after_rectification_by_the_truth():
    rng = np.random.default_rng(6)
    exact = solve(random_views(PLUMB_BOB, CHESSBOARD, 8, rng), CHESSBOARD.points, rejection=None)
    assert straightness(exact, CHESSBOARD) < 1e-3
    bent = replace(exact, D=exact.D * 0.5)
    assert straightness(bent, CHESSBOARD) > 0.5


def test_hull_of_the_corners():
    assert hull_share(np.array([[0, 0], [99, 0], [99, 99], [0, 99.0]]), (100, 100)) == pytest.approx(0.98, abs=0.01)
    assert hull_share(np.array([[0, 0], [99, 0]]), (100, 100)) == 0


def test_a_fisheyes_corners_are_where_its_image_ends():
    narrow = replace(FISHEYE, parameters=np.array([500.0, 500, 640, 360, 0.02, -0.2, 0.0, 0.0]))
    assert not np.isfinite(narrow.unproject(np.array([[0.0, 0.0]]))).all()
    ends = outermost(narrow)
    assert np.isfinite(narrow.unproject(ends)).all()
    assert ((ends > 0) & (ends < [1279, 719])).all()
    np.testing.assert_array_equal(outermost(PLUMB_BOB)[3], [1279, 719])


def test_more_corners_make_it_surer_by_the_root_of_their_number():
    rng = np.random.default_rng(7)
    views = random_views(PLUMB_BOB, CHESSBOARD, 10, rng)
    twice = [*views, *(replace(view, name=view.name + "b") for view in views)]
    once, doubled = (solve(noisy(each, 0.2, rng), CHESSBOARD.points) for each in (views, twice))
    fit = fitted_pixels(once)
    ratio = (
        projection_uncertainty(once, fitted=fit).worst_corner / projection_uncertainty(doubled, fitted=fit).worst_corner
    )
    assert ratio == pytest.approx(np.sqrt(2), rel=0.12)


def test_field_of_view():
    assert field_of_view(PLUMB_BOB) == pytest.approx(81, abs=1)
    assert field_of_view(FISHEYE) > 110
