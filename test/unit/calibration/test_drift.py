"""Verdicts on a stored calibration: what blames and what does not, by a board's views and by features; the alarm."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vision.benchmarks.drift import (
    CHARUCO,
    FISHEYE,
    PLUMB_BOB,
    calibrated,
    changed,
    info_of,
    random_view,
    scene_stream,
)
from edge_vision.calibration.boards import Board
from edge_vision.calibration.detection import detect
from edge_vision.calibration.drift import Check, DriftWatch, Limits, Stored, prior_root, read_stored, worse
from edge_vision.calibration.drift_board import BoardCheck, judge_board
from edge_vision.calibration.drift_scene import judge_scene
from edge_vision.calibration.files import format_ros
from edge_vision.calibration.solving import solve
from edge_vision.datatypes import NS_PER_S

CAMERAS = pytest.mark.parametrize("camera", [PLUMB_BOB, FISHEYE], ids=["plumb_bob", "equidistant"])


def check_of(verdict: str) -> Check:
    return Check(verdict, "", verdict)


# --- what is stored, alarms -------------------------------------------------------------------------------------------


def test_the_figures_of_a_calibration_are_read_from_its_file(tmp_path):
    record = {"noise": 0.15, "uncertainty_centre": 0.05, "uncertainty_corners": [0.3, 0.5, None, 0.4]}
    path = tmp_path / "camera.yaml"
    path.write_text(format_ros(info_of(PLUMB_BOB), record))
    stored = read_stored(path)
    assert (stored.noise, stored.centre, stored.corners) == (0.15, 0.05, 0.5)
    assert np.allclose(stored.uncertainty(np.array([[639.5, 359.5], [0, 0]])), [0.05, np.hypot(0.05, 0.45)])
    path.write_text(format_ros(info_of(PLUMB_BOB)))
    plain = read_stored(path)
    assert np.isnan(plain.noise)
    assert plain.uncertainty(np.zeros((2, 2))).tolist() == [0, 0]


@CAMERAS
def test_the_belief_about_drift_has_a_finite_effect_on_pixels(camera):
    root = prior_root(camera)
    assert np.linalg.matrix_rank(root) == len(camera.parameters)
    assert np.allclose(np.linalg.norm(root[:2], axis=1) / camera.parameters[:2], 0.02, rtol=0.02)


def test_an_alarm_needs_blame_for_as_long_as_it_must_hold_and_ends_the_same_way():
    watch = DriftWatch(hold=4.0)
    seen = [
        (0, "drifted", False),
        (2, "drifted", False),
        (3, "valid", False),  # begins anew
        (4, "doubtful", False),
        (6, "unknown", False),  # tells nothing, and ends nothing
        (8, "drifted", True),
        (10, "unknown", True),
        (11, "valid", True),
        (13, "drifted", True),
        (14, "valid", True),
        (18, "valid", False),
    ]
    for second, verdict, alarm in seen:
        assert (watch.update(check_of(verdict), second * NS_PER_S) is not None) == alarm, second
    assert DriftWatch(hold=0.0).update(check_of("drifted"), 5) is not None


def test_a_clock_that_goes_back_raises_no_alarm():
    watch = DriftWatch(hold=4.0)
    assert watch.update(check_of("drifted"), 100 * NS_PER_S) is None
    assert watch.update(check_of("drifted"), 1 * NS_PER_S) is None
    assert watch.update(check_of("drifted"), 5 * NS_PER_S) is not None


@pytest.mark.parametrize(
    ("a", "b", "chosen"),
    [("valid", "drifted", "drifted"), ("unknown", "valid", "valid"), ("doubtful", "unknown", "doubtful")],
)
def test_of_two_checks_the_one_that_deserves_attention_is_told(a, b, chosen):
    assert worse(check_of(a), check_of(b)).verdict == chosen
    assert worse(check_of(b), check_of(a)).verdict == chosen


# --- a board ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored() -> Stored:
    return calibrated(PLUMB_BOB, CHARUCO, np.random.default_rng(3))


def test_a_camera_that_is_well_is_valid_and_one_that_drifted_is_told_with_figure_and_remedy(stored):
    verdicts = {}
    for name, change in {"well": {}, "longer": {"f": 0.02}, "bent": {"k1": 0.03}}.items():
        rng, now = np.random.default_rng(5), changed(PLUMB_BOB, **change)
        views = [random_view(now, CHARUCO, 0.2, rng) for _ in range(14)]
        verdicts[name] = judge_board(stored, CHARUCO, views)
    assert verdicts["well"].verdict == "valid"
    for name in ("longer", "bent"):
        check = verdicts[name]
        assert (check.blamed, check.cause, check.remedy) == (True, "lens", "calibrate again")
        assert check.reason.startswith("the lens shift is ")
        assert check.figure("lens shift").value > check.figure("lens shift").limit
    assert verdicts["longer"].verdict == "drifted"
    shift = verdicts["longer"].figure("shift of fx")
    assert abs(shift.value - 18) < 4 * shift.sigma + 2
    with pytest.raises(KeyError, match="no figure 'nonsense'"):
        verdicts["well"].figure("nonsense")


def test_one_view_is_not_enough_to_say_anything(stored):
    check = judge_board(stored, CHARUCO, [random_view(PLUMB_BOB, CHARUCO, 0.2, np.random.default_rng(1))])
    assert check.verdict == "unknown"
    assert "1 view tell the lens shift in" in check.reason
    assert "tilted by 20 to 50 degrees" in check.remedy


def test_a_board_that_stands_still_is_one_view_and_is_judged_once(stored):
    watched = BoardCheck(stored, CHARUCO)
    view = random_view(PLUMB_BOB, CHARUCO, 0.2, np.random.default_rng(1))
    assert watched.check().reason == "the board was not seen"
    assert watched.add(view)
    first = watched.check()
    assert watched.add(replace(view, pixels=view.pixels + 0.05))
    assert watched.check() is first
    assert watched.add(replace(view, pixels=view.pixels + [3.0, 0]))  # moved, but not far: takes the other's place
    assert watched.check() is not first
    assert len(watched.views) == 1


def test_images_of_another_size_are_told_as_such(stored):
    watched = BoardCheck(stored, CHARUCO)
    view = random_view(PLUMB_BOB, CHARUCO, 0.2, np.random.default_rng(1))
    assert not watched.add(replace(view, image_size=(640, 360)))
    check = watched.check()
    assert (check.verdict, check.cause) == ("drifted", "size")
    assert "the image size differs" in check.reason
    assert "set the camera to the size it was calibrated at" in check.remedy


def test_a_board_that_no_calibration_fits_is_doubtful(stored):
    rng = np.random.default_rng(2)
    views = [random_view(PLUMB_BOB, CHARUCO, 1.5, rng) for _ in range(10)]
    check = judge_board(stored, CHARUCO, views)
    assert (check.verdict, check.cause) == ("doubtful", "fit")
    assert "board is flat" in check.remedy


def test_real_views_of_the_camera_that_was_calibrated_are_not_blamed_and_a_changed_file_is(shared_data):
    board = Board("chessboard", 9, 6, 0.03)
    views = []
    for path in sorted((shared_data / "calibration" / "opencv_left").glob("*.jpg")):
        found = detect(cv2.imread(str(path)), board, name=path.name)
        if found:
            views.append(found)
    assert len(views) > 8
    info = solve(views[::2], board.points).camera_info()
    assert judge_board(Stored.of(info), board, views[1::2]).verdict in ("valid", "unknown")
    full = solve(views, board.points).camera_info()
    assert judge_board(Stored.of(full), board, views).verdict == "valid"
    other = replace(full, K=full.K * [[1.02, 1, 1], [1, 1.02, 1], [1, 1, 1]])
    assert judge_board(Stored.of(other), board, views).verdict == "drifted"


# --- a scene ----------------------------------------------------------------------------------------------------------


@CAMERAS
@pytest.mark.parametrize(
    ("change", "verdict", "cause"),
    [
        ({}, "valid", ""),
        ({"f": 0.01}, "drifted", "lens"),
        ({"k1": 0.01}, "drifted", "lens"),
        ({"turn": 0.5}, "drifted", "mount"),
        ({"roll": 1.0}, "drifted", "mount"),
        ({"f": 0.01, "turn": 0.5}, "drifted", "lens and mount"),
    ],
)
def test_what_has_moved_is_told_from_what_the_lens_does(camera, change, verdict, cause):
    checks = [scene_stream(camera, change, np.random.default_rng(seed))() for seed in range(6)]
    told = [(check.verdict, check.cause) for check in checks]
    assert told.count((verdict, cause)) >= 5, told  # a sixth may be told otherwise where half of the scene moves
    if not change:
        assert told == [("valid", "")] * 6
    if set(change) == {"turn"}:
        check = next(check for check in checks if check.cause == "mount")
        assert abs(check.figure("mount rotation").value - change["turn"]) < 0.02
        assert "measure where it is mounted" in check.remedy


def still(count: int = 120):
    rng = np.random.default_rng(0)
    points = rng.uniform([20, 20], [1260, 700], (count, 2))
    return points, points + rng.normal(0, 0.1, points.shape), Stored.of(info_of(PLUMB_BOB))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(share=st.floats(0.0, 0.6), dx=st.floats(-30, 30), dy=st.floats(-30, 30), seed=st.integers(0, 1000))
def test_what_moves_by_itself_is_never_an_alarm(share, dx, dy, seed):
    points, found, stored = still()
    middle = np.random.default_rng(seed).uniform([200, 150], [1080, 570])
    block = np.argsort(np.abs(points - middle).max(axis=1))[: int(share * len(points))]
    found[block] += [dx, dy]
    assert judge_scene(stored, points, found).verdict in ("valid", "unknown")


def test_too_few_features_or_another_scene_are_unknown_with_the_reason():
    points, found, stored = still()
    lost = found.copy()
    lost[10:] = np.nan
    check = judge_scene(stored, points, lost)
    assert (check.verdict, check.cause) == ("unknown", "features")
    assert check.reason == "only 10 of 120 features of the reference were found again, 24 are needed"
    anywhere = np.random.default_rng(1).uniform([20, 20], [1260, 700], found.shape)
    check = judge_scene(stored, points, anywhere)
    assert (check.verdict, check.cause) == ("unknown", "scene")
    assert "features agree" in check.reason


def test_limits_are_those_asked_for_and_grow_with_the_image():
    points, _, stored = still()
    exact = changed(PLUMB_BOB, f=0.004).project(PLUMB_BOB.unproject(points))
    assert judge_scene(stored, points, exact).verdict == "drifted"
    assert judge_scene(stored, points, exact, Limits(lens=3.0)).verdict == "doubtful"
    assert judge_scene(stored, points, exact, Limits(lens=10.0)).verdict == "valid"
    assert Limits(1.0, 2.0).scaled(3840) == Limits(2.0, 4.0)
