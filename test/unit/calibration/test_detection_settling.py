"""Corners are where they are near the border too, and none is put onto a marker's corner."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge_vision.calibration import opencv_aruco
from edge_vision.calibration.boards import Board, find_board
from edge_vision.calibration.detection import detect
from edge_vision.calibration.detection_lattice import least_spacing
from edge_vision.calibration.detection_settling import half_window, homographies_at_origin, refine_corners, settle
from edge_vision.calibration.views import View
from edge_vision.simulation.board_options import BoardOptions
from edge_vision.simulation.board_scene import BoardScene
from edge_vision.simulation.movement import Pose
from edge_vision.sources.board_scene import sheet_of

needs_aruco = pytest.mark.skipif(
    not opencv_aruco.available(), reason=f"OpenCV {cv2.__version__} without its aruco module"
)


def checkered(spacing: float, shift: float, blur: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Squares turned by 17 degrees, of which five corners lie ``shift`` px right of the left border and on."""
    n, (width, height) = 3, (130, 200)
    y, x = np.mgrid[: height * n, : width * n].astype(np.float64)
    x, y = (x - (n - 1) / 2) / n - shift, (y - (n - 1) / 2) / n - height / 2
    cos, sin = np.cos(0.3), np.sin(0.3)
    a, b = cos * x + sin * y, -sin * x + cos * y
    raster = (np.floor(a / spacing) + np.floor(b / spacing)) % 2 * 190 + 30
    image = cv2.GaussianBlur(cv2.resize(raster, (width, height), interpolation=cv2.INTER_AREA), (0, 0), blur)
    image += np.random.default_rng(seed).normal(0, 2, image.shape)
    i, j = (part.ravel() * spacing for part in np.mgrid[-1:2, -1:2])
    truth = np.column_stack([shift + cos * i - sin * j, height / 2 + sin * i + cos * j])
    return image.astype(np.uint8), truth


@pytest.mark.parametrize("blur", [0.8, 1.6])
@pytest.mark.parametrize("spacing", [32.0, 44.0])
def test_near_the_border_no_window_is_too_small_for_its_blur(spacing, blur):
    """With 5 px and more of a window a corner is off by a tenth of a pixel; with less it is left out."""
    half = half_window(0.25, spacing)
    near, inner, left_out = [], [], 0
    for seed, shift in enumerate(np.linspace(4.3, 12.5, 14)):
        image, truth = checkered(spacing, shift, blur, seed)
        begin = truth + np.random.default_rng(seed).uniform(-0.7, 0.7, truth.shape)
        kept, refined = refine_corners(image, begin, half)
        room = np.minimum(begin, np.array(image.shape[::-1]) - 1 - begin).min(1)
        np.testing.assert_array_equal(kept, room >= 1 + min(half, 5))
        off, at_border = refined - truth[kept], room[kept] < 1 + half
        near.append(off[at_border])
        inner.append(off[~at_border])
        left_out += int((~kept).sum())
    assert left_out > 0
    rms = np.sqrt(np.mean(np.concatenate(inner) ** 2))
    assert rms < 0.05
    beside = np.concatenate(near)
    assert len(beside) >= 5
    assert np.sqrt(np.mean(beside**2)) < 0.12


def wide_views(name: str, spacing: float, seeds: tuple[int, ...]):
    """A board before a fisheye lens, off its axis: images, and where OpenCV's fisheye model says that corners are."""
    options = BoardOptions.from_uri(f"sim://board?board={name}&model=equidistant&still=1")
    board, info = find_board(name), options.camera_info()
    scene = BoardScene(options, sheet_of(board, 1600))
    up = np.diag([1.0, -1.0, -1.0]) if board.kind == "aprilgrid" else np.eye(3)
    for seed in seeds:
        generator = np.random.default_rng(seed)
        away, around = np.radians(generator.uniform(25, 55)), generator.uniform(0, 2 * np.pi)
        sight = np.array([np.sin(away) * np.cos(around), np.sin(away) * np.sin(around), np.cos(away)])
        axis = np.cross([0.0, 0.0, 1.0], sight)
        R = cv2.Rodrigues(axis / np.linalg.norm(axis) * away)[0]
        R = R @ cv2.Rodrigues(generator.uniform(-0.5, 0.5, 3))[0] @ up
        T = info.K[0, 0] * board.spacing / spacing * sight - R @ board.points.mean(0)
        scene.show(Pose(R, T))
        truth = cv2.fisheye.projectPoints(board.points[:, None], cv2.Rodrigues(R)[0], T, info.K, info.D)[0][:, 0]
        yield board, scene.render(seed).image, truth


@needs_aruco
@pytest.mark.parametrize(("name", "spacing"), [("charuco_9x7_25mm", 30), ("aprilgrid_6x6_22mm", 42)])
def test_no_corner_of_a_wide_view_is_put_onto_a_marker(name, spacing):
    """Markers place a corner some pixels off there, in reach of a marker's corner."""
    count = 0
    for board, image, truth in wide_views(name, spacing, (1, 2, 3, 4, 5, 6)):
        view = detect(image, board)
        if not isinstance(view, View):  # OpenCV 4.6 finds few of touching markers
            assert view.code in ("few_corners", "small")
            continue
        assert np.hypot(*(view.pixels - truth[view.ids]).T).max() < 0.5
        count += len(view)
    assert count > 100


@needs_aruco
def test_a_corner_is_found_from_its_neighbours_and_a_wrong_one_is_not_kept():
    board, image, truth = next(wide_views("charuco_9x7_25mm", 30, (1,)))
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    ids = np.arange(len(truth))[((truth > 8) & (truth < np.array(gray.shape[::-1]) - 9)).all(1)]
    given = truth[ids].copy()
    given[::7] += [4.0, -3.0]  # towards markers
    settled, pixels = settle(gray, board, ids, given, 3)
    assert len(settled) >= len(ids) - 1
    assert np.hypot(*(pixels - truth[settled]).T).max() < 0.5
    blank, nothing = settle(np.full_like(gray, 128), board, ids, given, 3)
    assert len(blank) == len(nothing) == 0


def test_tags_that_stand_alone_tell_the_gap_to_the_next():
    """Else the window would reach over the gap that separates a corner from the next tag's."""
    board = Board("aprilgrid", 6, 6, 0.03, 0.0231)
    pixels = board.points[:, :2] * 1000 + 50
    whole = least_spacing(board, np.arange(len(pixels)), pixels)
    assert whole == pytest.approx(6.9)
    alone = np.array([0, 1, 12, 13, 28, 29, 40, 41])  # two tags, with others between them
    assert least_spacing(board, alone, pixels[alone]) == pytest.approx(whole)


def test_homographies_put_the_origin_where_they_map_it():
    generator = np.random.default_rng(1)
    H = np.array([[30.0, 4, 200], [-3, 28, 100], [0.02, -0.03, 1]])
    source = generator.uniform(-3, 3, (5, 9, 2))
    plane = np.concatenate([source, np.ones((5, 9, 1))], 2) @ H.T
    target = plane[..., :2] / plane[..., 2:]
    used = np.ones((5, 9))
    used[:, 7:] = 0
    target[:, 7:] += 50  # not used
    np.testing.assert_allclose(homographies_at_origin(source, target, used), np.tile([200.0, 100.0], (5, 1)), atol=1e-3)
