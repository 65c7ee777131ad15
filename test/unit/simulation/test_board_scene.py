"""The twin's board scene: its pixels are where the lens puts them, bent, blurred and moved as asked."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from edge_vision.simulation.board_options import BoardOptions
from edge_vision.simulation.board_scene import BoardScene, Sheet
from edge_vision.simulation.movement import Hand, Manner, Pose, shown_poses

SQUARE, COLUMNS, ROWS = 0.025, 9, 6  # metres, inner corners
_y, _x = np.indices((ROWS, COLUMNS)).reshape(2, -1)
CORNERS = np.column_stack([_x, _y, np.zeros(ROWS * COLUMNS)]) * SQUARE
QUIET = BoardOptions(noise=False, still=True)


def chessboard(square: int = 100) -> Sheet:
    """10 x 7 squares of so many pixels with a white margin of a half."""
    squares = (np.indices((ROWS + 1, COLUMNS + 1)).sum(0) % 2 * 255).astype(np.uint8)
    half = square // 2
    image = np.pad(np.kron(squares, np.ones((square, square), np.uint8)), half, constant_values=255)
    scale, origin = square / SQUARE, half + square - 0.5  # the first corner lies between two pixels
    extent = np.array([CORNERS[:, :2].min(0), CORNERS[:, :2].max(0)])
    return Sheet(image, np.array([[scale, 0, origin], [0, scale, origin]]), extent)


SHEET = chessboard()


def held(scene: BoardScene, seed: int) -> Pose:
    """A pose that nobody chose so that pixels fall together with squares."""
    o = scene.options
    shown = shown_poses(scene.lens, o.width, o.height, SHEET.outline)
    hand = Hand(SHEET.outline.mean(0), Manner(degrees=6, share=0.04), seed)
    hand.aim(shown[seed % len(shown)], 0.0)
    pose = hand.pose(0.0)
    assert pose is not None
    return pose


def errors(scene: BoardScene, pose: Pose, index: int = 0) -> np.ndarray:
    """(N, 2) px: refined corners of the image less the projected ones, of those well inside it."""
    true = scene.project(CORNERS, pose)
    scene.show(pose)
    gray = cv2.cvtColor(scene.render(index).image, cv2.COLOR_BGR2GRAY)
    inside = ((true > 8) & (true < [scene.options.width - 9, scene.options.height - 9])).all(1)
    true = true[inside]
    found = true.astype(np.float32)[:, None].copy()
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 50, 1e-3)
    cv2.cornerSubPix(gray, found, (5, 5), (-1, -1), criteria)
    return found[:, 0] - true


@pytest.mark.parametrize(
    "options",
    [
        QUIET,
        replace(QUIET, noise=True),
        replace(QUIET, model="rational_polynomial", bow=2.0, bow_y=-1.5),
        replace(QUIET, model="equidistant", width=960, height=720),
        replace(QUIET, D="-0.3,0.1,0.002,-0.001,0.01", fx=500, fy=520, cx=300, cy=250, inverted=True),
        replace(QUIET, width=320, height=240, blur=0.8),
    ],
    ids=["plain", "noise", "rational, bent", "fisheye", "own lens, inverted", "small"],
)
def test_corners_are_where_the_lens_projects_them(options: BoardOptions) -> None:
    scene = BoardScene(options, SHEET)
    views = [errors(scene, held(scene, seed), seed) for seed in range(9)]
    every = np.concatenate(views)
    assert len(every) > 400
    assert np.abs(every.mean(0)).max() < 0.01
    assert max(np.abs(view.mean(0)).max() for view in views) < 0.03
    assert every.std() < 0.08


def test_a_pixel_is_the_mean_of_the_scene_over_its_area() -> None:
    options = replace(QUIET, width=160, height=120, blur=0.0)
    lens, times = options.lens(), 4
    finer = replace(
        options,
        width=160 * times, height=120 * times,
        fx=lens.K[0, 0] * times, fy=lens.K[1, 1] * times,
        cx=(lens.K[0, 2] + 0.5) * times - 0.5, cy=(lens.K[1, 2] + 0.5) * times - 0.5,
    )  # fmt: skip
    for seed in (1, 4):
        scene, reference = BoardScene(options, SHEET), BoardScene(finer, SHEET)
        pose = held(scene, seed)
        scene.show(pose)
        reference.show(pose)
        mean = cv2.resize(reference.radiance(0), (160, 120), interpolation=cv2.INTER_AREA)
        board = scene.project(CORNERS, pose)
        x0, y0 = np.ceil(board.min(0)).astype(int)
        x1, y1 = np.floor(board.max(0)).astype(int)
        off = scene.radiance(0)[y0:y1, x0:x1].astype(float) - mean[y0:y1, x0:x1]
        assert abs(off.mean()) < 0.5
        assert off.std() < 12  # of a contrast of 211: four samples of a sheet not much finer, not 64


def test_the_bow_is_millimetres_and_moves_what_is_seen() -> None:
    flat, bent = (BoardScene(replace(QUIET, bow=bow), SHEET) for bow in (0.0, 5.0))
    assert bent.deflected(CORNERS)[:, 2].max() == pytest.approx(5e-3)
    assert bent.deflected(CORNERS)[:, 2].min() == pytest.approx(0, abs=1e-12)
    pose = held(flat, 1)  # tilted
    assert np.abs(errors(bent, pose).mean(0)).max() < 0.03
    bent.show(pose)
    moved = np.abs(flat.project(CORNERS, pose) - bent.project(CORNERS, pose)).max()
    assert moved > 2


def test_a_board_with_its_back_to_the_camera_shows_no_print_and_one_behind_it_is_not_there() -> None:
    scene = BoardScene(QUIET, SHEET)
    middle = SHEET.outline.mean(0)
    facing = Pose(np.eye(3), np.array([0, 0, 0.5]) - middle)
    turned = np.diag([-1.0, 1.0, -1.0])
    scene.show(facing)
    front = scene.radiance(0)
    scene.show(Pose(turned, np.array([0, 0, 0.5]) - turned @ middle))
    back = scene.radiance(0)
    assert front[180:300, 250:390].std() > 80
    assert back[180:300, 250:390].std() < 1
    for away in (np.array([0, 0, -0.5]), np.array([9.0, 0, 0.5])):
        scene.show(Pose(np.eye(3), away - middle))
        empty = scene.radiance(0)
        assert empty[180:300, 250:390].std() < 40
        np.testing.assert_array_equal(empty[:60], front[:60])  # the wall
    edge_on = cv2.Rodrigues(np.array([0, math.pi / 2, 0]))[0]
    scene.show(Pose(edge_on, np.array([0, 0, 0.5]) - edge_on @ middle))
    assert scene.radiance(0).shape == (480, 640, 3)


def test_a_moving_board_is_blurred_along_its_way_alone() -> None:
    scene = BoardScene(replace(QUIET, blur=0.0), SHEET)
    still = Pose(np.eye(3), np.array([0, 0, 0.4]) - SHEET.outline.mean(0))
    moved = Pose(still.rotation, still.translation + [6 * 0.4 / scene.lens.K[0, 0], 0, 0])  # 6 px to the right

    def steepness(before: Pose | None) -> tuple[float, float]:
        scene.show(moved, before)
        gray = scene.radiance(0)[150:330, 200:440, 1].astype(float)
        return float(np.abs(np.diff(gray, axis=1)).max()), float(np.abs(np.diff(gray, axis=0)).max())

    sharp, blurred = steepness(None), steepness(still)
    assert blurred[0] < 0.5 * sharp[0]
    assert blurred[1] > 0.8 * sharp[1]
    scene = BoardScene(replace(QUIET, blur=0.0, motion_blur=False), SHEET)
    assert steepness(still) == sharp


def test_frames_depend_on_options_index_and_pose_alone() -> None:
    options = BoardOptions(width=160, height=120, seed=3)
    first, second = (BoardScene(options, SHEET) for _ in range(2))
    ahead = [first.render(i).image for i in range(40, 43)]
    back = [second.render(i).image for i in (42, 41, 40)]
    for a, b in zip(ahead, back[::-1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert (ahead[0] != ahead[1]).any()
    assert (BoardScene(replace(options, seed=4), SHEET).render(40).image != ahead[0]).any()
    assert first.stamp(30, 7) == 7 + 2_000_000_000


def test_exposure_and_gain_act_from_the_next_frame_on() -> None:
    scene = BoardScene(replace(QUIET, light=0.2), SHEET)
    begun = scene.render(0).image.mean() - 4.0
    scene.set_sensor(exposure=0.016, gain=1.0)
    assert scene.render(0).image.mean() - 4.0 == pytest.approx(2 * begun, rel=0.02)
    with pytest.raises(ValueError, match="'gain' is 0"):
        scene.set_sensor(exposure=0.016, gain=0.0)


def test_options_that_cannot_be_are_named() -> None:
    parsed = BoardOptions.from_uri("sim://board?model=equidistant&D=0.1,0.2&fx=300&bow=1.5&inverted=on&frames=none")
    assert parsed == BoardOptions(model="equidistant", D="0.1,0.2", fx=300.0, bow=1.5, inverted=True)
    lens = parsed.lens()
    assert lens.D.tolist() == [0.1, 0.2, 0, 0]
    assert lens.K[1, 1] == 300.0
    for query, said in (
        ("model=pinhole", "one of plumb_bob, rational_polynomial, equidistant"),
        ("D=a,b", "numbers with commas"),
        ("D=1,2,3,4,5,6", "6 coefficients: plumb_bob has 5"),
        ("bow=99", "'bow' is 99"),
        ("fx=wide", "expected a number"),
        ("bouw=1", "unknown option 'bouw'"),
    ):
        with pytest.raises(ValueError, match=said):
            BoardOptions.from_uri(f"sim://board?{query}")
    with pytest.raises(ValueError, match="expected sim://board"):
        BoardOptions.from_uri("sim://conveyor")


def test_the_truth_is_told_by_the_options() -> None:
    info = BoardOptions(width=1280, height=720).camera_info(5, "eye")
    assert (info.width, info.height, info.distortion_model, info.stamp, info.frame_id) == (
        1280,
        720,
        "plumb_bob",
        5,
        "eye",
    )
    assert info.K[0, 0] == pytest.approx(0.9 * 1280)
    assert 0 < abs(info.D).max() < 0.2
