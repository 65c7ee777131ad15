"""Boards rendered under known homographies, blur and noise: corners to a tenth of a pixel, ids and reasons right."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edge_vision.calibration import opencv_aruco
from edge_vision.calibration.boards import Board
from edge_vision.calibration.detection import DetectionOptions, detect, to_gray
from edge_vision.calibration.detection_lattice import lattice, least_spacing, misplaced, tilt
from edge_vision.calibration.printing import board_pattern, rasterise
from edge_vision.calibration.views import REJECTIONS, Rejected, View

needs_aruco = pytest.mark.skipif(
    not opencv_aruco.available(), reason=f"OpenCV {cv2.__version__} without its aruco module"
)
CHESS = Board("chessboard", 9, 6, 0.025)
CHARUCO = Board("charuco", 9, 7, 0.03, 0.022, "4x4_100")
MARKED = [
    pytest.param(CHARUCO, id="charuco", marks=needs_aruco),
    pytest.param(Board("charuco", 8, 6, 0.03, 0.015, "5x5_50", first_marker=10, legacy=True), marks=needs_aruco),
    pytest.param(Board("aprilgrid", 6, 6, 0.03, 0.0231), id="aprilgrid", marks=needs_aruco),
]
BOARDS = [
    pytest.param(CHESS, id="chessboard"),
    pytest.param(Board("chessboard", 8, 6, 0.025), id="ambiguous"),
    pytest.param(Board("chessboard", 7, 7, 0.025), id="square"),
    *MARKED,
    pytest.param(Board("circles", 7, 5, 0.03), id="circles"),
    pytest.param(Board("acircles", 4, 11, 0.02), id="acircles"),
]


def render(
    board: Board,
    *,
    size=(800, 600),
    angle=0.0,
    axis=0.0,
    roll=0.0,
    fill=0.75,
    shift=(0.0, 0.0),
    blur=0.8,
    noise=2.0,
    seed=0,
):
    """A camera's image of a board, and where its points are: supersampled three times, then blurred, then noisy.

    ``angle``: degrees of tilt about the direction ``axis``; ``roll`` about the line of sight; ``fill``: the board's
    diagonal as a share of the image's height; ``shift`` of its middle as a share of the distance.
    """
    width, height = size
    K = np.array([[0.9 * width, 0, (width - 1) / 2], [0, 0.9 * width, (height - 1) / 2], [0, 0, 1]])
    outline = board.outline
    turn = np.radians(angle) * np.array([np.cos(np.radians(axis)), np.sin(np.radians(axis)), 0])
    R = cv2.Rodrigues(turn)[0] @ cv2.Rodrigues(np.array([0, 0, np.radians(roll)]))[0]
    if board.kind == "aprilgrid":  # its y is up
        R = R @ np.diag([1.0, -1.0, -1.0])
    distance = K[0, 0] * np.linalg.norm(np.ptp(outline, 0)) / (height * fill)
    T = distance * np.array([*shift, 1.0]) - R @ outline.mean(0)
    H = K @ np.column_stack([R[:, 0], R[:, 1], T])
    raster, drawn = rasterise(board_pattern(board, margin=board.spacing * 1000), 2.2 * K[0, 0] / distance / 1000)
    to_board, _ = cv2.findHomography(drawn, board.points[:, :2], 0)
    S = np.array([[3.0, 0, 1], [0, 3, 1], [0, 0, 1]])
    large = cv2.warpPerspective(raster, S @ H @ to_board, (3 * width, 3 * height), borderValue=150)
    image = cv2.resize(large, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    image = cv2.GaussianBlur(image, (0, 0), blur) if blur else image
    image = 25 + 0.75 * image + np.random.default_rng(seed).normal(0, noise, image.shape)
    truth = np.column_stack([board.points[:, :2], np.ones(len(board.points))]) @ H.T
    return np.clip(image, 0, 255).astype(np.uint8), truth[:, :2] / truth[:, 2:]


def errors(view: View, truth) -> np.ndarray:
    return np.hypot(*(view.pixels - truth[view.ids]).T)


@pytest.mark.parametrize("board", BOARDS)
# No shrinking: every example renders an image.
@settings(max_examples=6, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(
    angle=st.floats(0, 45),
    axis=st.floats(0, 360),
    roll=st.floats(-180, 180),
    fill=st.floats(0.7, 0.9),
    blur=st.floats(0.5, 1.2),
    seed=st.integers(0, 1000),
)
def test_corners_are_where_they_are(board, angle, axis, roll, fill, blur, seed):
    if board.ambiguous:  # numbered with the top up
        roll = roll / 180 * (35 if board.columns == board.rows else 60)
    # What is between markers is a fraction of them: where it has few pixels, corners are worse or not found.
    size = (1280, 960) if board.partial else (800, 600)
    image, truth = render(board, size=size, angle=angle, axis=axis, roll=roll, fill=fill, blur=blur, seed=seed)
    view = detect(image, board, name="one", stamp=7)
    assert isinstance(view, View), view
    assert (view.name, view.stamp, view.image_size) == ("one", 7, size)
    assert (np.diff(view.ids) > 0).all()
    assert len(view) == len(truth) if not board.partial else len(view) >= 0.3 * len(truth)
    off = errors(view, truth)
    # A circle's centre is not its image's: with a tilt of 45 degrees, some tenths of a pixel.
    limit = 0.4 if board.kind.endswith("circles") else 0.1
    assert np.sqrt((off**2).mean()) < limit
    assert off.max() < 4 * limit
    assert bool(view.warnings) == board.kind.endswith("circles")


@pytest.mark.parametrize("roll", [0, 60, 90, 135, 180, 225, 270, 330])
def test_a_chessboard_with_one_even_and_one_odd_number_is_numbered_alike_at_every_roll(roll):
    image, truth = render(CHESS, angle=20, axis=40, roll=roll)
    view = detect(image, CHESS)
    assert isinstance(view, View), view
    assert errors(view, truth).max() < 0.2


@pytest.mark.parametrize("board", [pytest.param(CHESS, id="chessboard"), *MARKED])
def test_a_large_image_is_searched_small_and_refined_at_full_size(board):
    image, truth = render(board, size=(1921, 1083), angle=30, axis=70, roll=15, blur=1.0)
    view = detect(image, board)
    assert isinstance(view, View), view
    assert np.sqrt((errors(view, truth) ** 2).mean()) < 0.06


@pytest.mark.parametrize("board", MARKED)
def test_a_part_of_a_marked_board_is_known_by_its_ids(board):
    image, truth = render(board, fill=1.4, shift=(0.25, 0.15), roll=20)
    view = detect(image, board)
    assert isinstance(view, View), view
    inside = ((truth > 2) & (truth < [797, 597])).all(1)
    assert 8 <= len(view) <= inside.sum()
    assert len(view) < 0.9 * len(truth)
    assert errors(view, truth).max() < 0.3


def test_a_chessboard_that_touches_the_border_is_kept_without_the_corners_that_cannot_be_refined():
    image, truth = render(CHESS, size=(1000, 600), fill=0.9)
    edge = truth[::9, 0].mean()  # the first column
    cut, moved = image[:, round(edge) - 2 :], truth - [round(edge) - 2, 0]
    view = detect(cut, CHESS)
    if isinstance(view, Rejected):  # OpenCV needs the squares around; then it must be said so
        assert view.code == "not_found"
        cut, moved = image[:, round(edge) - 14 :], truth - [round(edge) - 14, 0]
        view = detect(cut, CHESS)
    assert isinstance(view, View), view
    assert errors(view, moved).max() < 0.2
    assert view.pixels[:, 0].min() < 20


def test_figures_of_a_view():
    image, truth = render(CHESS, angle=40, axis=90, blur=1.5)
    view = detect(image, CHESS)
    assert isinstance(view, View), view
    assert view.edge_width == pytest.approx(2.56 * np.hypot(1.5, 0.3), rel=0.1)
    assert view.motion < 1.5
    assert view.saturated == 0
    assert view.tilt == pytest.approx(40, abs=4)
    steps = np.hypot(*np.diff(truth.reshape(6, 9, 2), axis=1).reshape(-1, 2).T)
    assert view.spacing == pytest.approx(steps.min(), abs=0.2)


@pytest.mark.parametrize("length", [3, 7, 11])
@pytest.mark.parametrize("direction", ["across", "down"])
def test_motion_is_measured_in_pixels(length, direction):
    image, _ = render(CHESS, roll=12, noise=0)
    smear = np.ones((1, length) if direction == "across" else (length, 1)) / length
    view = detect(cv2.filter2D(image, -1, smear), CHESS, options=DetectionOptions(max_motion=99, max_edge_width=99))
    assert isinstance(view, View), view
    assert view.motion == pytest.approx(length, rel=0.25)


def rejected(image, board=CHESS, **options) -> Rejected:
    answer = detect(image, board, options=DetectionOptions(**options))
    assert isinstance(answer, Rejected), answer
    assert answer.code in REJECTIONS
    assert not answer
    assert len(answer.reason) > 20
    return answer


def test_a_smeared_view_is_rejected():
    image, _ = render(CHESS, roll=12)
    assert rejected(cv2.blur(image, (9, 1))).code == "moving"


def test_a_blurred_view_is_rejected():
    image, _ = render(CHESS, blur=3.5)
    assert rejected(image).code == "blurred"


def test_an_overexposed_view_is_rejected_but_not_white_paper():
    image, _ = render(CHESS, blur=1.2, noise=0)
    bright = np.clip((image.astype(float) - 25) * 3 + 10, 0, 255).astype(np.uint8)
    assert rejected(bright).code == "saturated"
    white = np.clip((image.astype(float) - 25) * 1.36, 0, 255).astype(np.uint8)
    assert isinstance(detect(white, CHESS), View)


def test_a_dark_view_is_rejected():
    image, _ = render(CHESS, noise=0)
    assert rejected((image // 12).astype(np.uint8)).code in ("contrast", "not_found")
    assert rejected((image // 4).astype(np.uint8), min_contrast=60).code == "contrast"


def test_an_oblique_view_is_rejected():
    image, _ = render(CHESS, angle=60, axis=20)
    answer = rejected(image, max_tilt=50)
    assert answer.code == "oblique"
    assert "turn it towards the camera" in answer.reason


def test_a_far_board_is_rejected():
    image, _ = render(CHESS, fill=0.3)
    assert rejected(image, min_spacing=25).code == "small"


def test_no_board():
    image = np.random.default_rng(1).integers(0, 255, (480, 640), np.uint8)
    assert rejected(image).code == "not_found"
    assert "9x6 corners" in rejected(np.full((480, 640), 128, np.uint8)).reason


def test_a_wrong_size_is_told_when_asked():
    image, _ = render(CHESS)
    answer = rejected(image, Board("chessboard", 10, 7, 0.025), explain=True)
    assert answer.code == "wrong_size"
    assert "9x6 inner corners" in answer.reason


@pytest.mark.parametrize("board", [pytest.param(CHESS, id="chessboard"), MARKED[0]])
def test_an_inverted_board_is_told(board):
    image, _ = render(board)
    assert rejected(255 - image, board, explain=True).code == "inverted"


@needs_aruco
def test_markers_of_another_dictionary_are_told_when_asked():
    image, _ = render(Board("charuco", 9, 7, 0.03, 0.022, "6x6_50"))
    assert "DICT_6X6_50" in rejected(image, CHARUCO, explain=True).reason


@needs_aruco
def test_too_few_markers_are_told():
    image, _ = render(CHARUCO, roll=10)
    truth = render(CHARUCO, roll=10)[1]
    covered = np.full_like(image, 200)
    x, y = truth[20].astype(int)
    covered[y - 60 : y + 60, x - 60 : x + 60] = image[y - 60 : y + 60, x - 60 : x + 60]
    assert rejected(covered, CHARUCO).code in ("few_corners", "not_found")


@pytest.mark.parametrize("board", [board.values[0] for board in BOARDS])
def test_a_corner_that_is_off_is_found_and_no_other(board):
    truth = board.points[:, :2] * 2000 + 100
    ids = np.arange(len(truth))
    assert not misplaced(board, ids, truth).any()
    middle = lattice(board).triples[len(lattice(board).triples) // 2, 1]
    step = least_spacing(board, ids, truth)
    truth[middle] += [2 * step, 1.5 * step]
    assert misplaced(board, ids, truth)[middle]


def test_tilt_without_intrinsics():
    for angle in (0, 25, 50):
        _, truth = render(CHESS, angle=angle, axis=30, fill=0.4)
        assert tilt(CHESS, np.arange(54), truth) == pytest.approx(angle, abs=4 if angle else 6)


def test_images_of_every_kind():
    grey, truth = render(CHESS)
    colour = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    for image in (grey, grey[..., None], colour, cv2.cvtColor(grey, cv2.COLOR_GRAY2BGRA), grey.astype(np.uint16) * 16):
        view = detect(image, CHESS)
        assert isinstance(view, View), (image.shape, view)
        assert errors(view, truth).max() < 0.2
    for wrong in (
        np.zeros(5, np.uint8),
        np.zeros((0, 5), np.uint8),
        np.zeros((5, 5, 2), np.uint8),
        np.zeros((5, 5), bool),
    ):
        with pytest.raises(ValueError, match="an image is"):
            to_gray(wrong)


def test_a_view_checks_its_arrays():
    with pytest.raises(ValueError, match="must be"):
        View("a", np.arange(3), np.zeros((2, 2)), (640, 480))


def test_the_classic_images_are_all_found(shared_data):
    """Bouguet's images, OpenCV's left01 to left14: f within the published 533.00 +- 1.08, 533.15 +- 1.11 (3 sigma)."""
    folder = shared_data / "calibration" / "opencv_left"
    board = Board("chessboard", 9, 6, 0.03)
    views = [detect(cv2.imread(str(path)), board, name=path.name) for path in sorted(folder.glob("*.jpg"))]
    assert len(views) == 13
    assert all(isinstance(view, View) and len(view) == 54 for view in views), views
    rms, K = _calibrated(board, views)
    assert rms < 0.2
    assert abs(K[0, 0] - 533.00) < 1.08
    assert abs(K[1, 1] - 533.15) < 1.11


@needs_aruco
def test_the_charuco_photographs_are_all_found(shared_data):
    folder = shared_data / "calibration" / "charuco"
    board = Board("charuco", 9, 7, 0.04, 0.02, "DICT_4X4_100")
    views = [detect(cv2.imread(str(path)), board, name=path.name) for path in sorted(folder.glob("*.jpg"))]
    assert len(views) == 7
    assert all(isinstance(view, View) and len(view) >= 40 for view in views), views
    rms, K = _calibrated(board, views)
    assert rms < 0.35
    np.testing.assert_allclose(K[[0, 1, 0, 1], [0, 1, 2, 2]], [790.5, 795.8, 510, 379], atol=2)


def _calibrated(board, views):
    rms, K, *_ = cv2.calibrateCamera(
        [board.points[view.ids].astype(np.float32) for view in views],
        [view.pixels.astype(np.float32) for view in views],
        views[0].image_size,
        None,
        None,
        flags=cv2.CALIB_FIX_K3,
    )
    return rms, K
