"""Boards: their points, their YAML and Kalibr's, and what is said of one that cannot be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.calibration.boards import DICTIONARIES, KINDS, Board, BoardError, parse_board, read_board

KALIBR = {"target_type": "aprilgrid", "tagCols": 6, "tagRows": 5, "tagSize": 0.088, "tagSpacing": 0.3}


def test_chessboard_points_are_inner_corners_row_by_row():
    points = Board("chessboard", 9, 6, 0.03).points
    assert points.shape == (54, 3)
    assert points.dtype == np.float64
    np.testing.assert_allclose(points[[0, 8, 9, 53]], [[0, 0, 0], [0.24, 0, 0], [0, 0.03, 0], [0.24, 0.15, 0]])


def test_charuco_points_are_the_corners_between_its_squares():
    board = Board("charuco", 9, 7, 0.04, 0.02, "4x4_100")
    assert board.points.shape == (48, 3)
    assert len(board.markers) == 31
    # The first marker is in square (1, 0): above point 0, which is the corner of the first four squares.
    np.testing.assert_allclose(board.markers[0].mean(0), [0.02, -0.02, 0], atol=1e-12)
    assert board.dictionary == "DICT_4X4_100"


@pytest.mark.parametrize(("rows", "square"), [(4, (0, 0)), (3, (1, 0))])
def test_a_legacy_charuco_has_its_first_marker_where_opencv_before_4_6_drew_it(rows, square):
    board = Board("charuco", 5, rows, 0.04, 0.02, "DICT_4X4_50", legacy=True)
    np.testing.assert_allclose(board.markers[0].mean(0)[:2] / 0.04 + 0.5, square, atol=1e-9)


def test_aprilgrid_points_are_numbered_as_kalibr_does():
    """The order in the comment of Kalibr's GridCalibrationTargetAprilgrid: rows of corners from the bottom, y up."""
    board = parse_board(KALIBR)
    points = board.points
    assert points.shape == (6 * 5 * 4, 3)
    np.testing.assert_allclose(points[:4, 0], [0, 0.088, 0.088 * 1.3, 0.088 * 2.3])
    np.testing.assert_allclose(points[[12, 24], 1], [0.088, 0.088 * 1.3])
    np.testing.assert_allclose(points.max(0), [0.088 * (6 + 0.3 * 5), 0.088 * (5 + 0.3 * 4), 0])
    assert board.border == 2


def test_acircles_points_are_opencvs_asymmetric_grid():
    points = Board("acircles", 4, 11, 0.02).points
    assert points.shape == (44, 3)
    np.testing.assert_allclose(points[[0, 1, 4, 8], :2], [[0, 0], [0.04, 0], [0.02, 0.02], [0, 0.04]])


@pytest.mark.parametrize(
    ("board", "ambiguous"),
    [
        (Board("chessboard", 9, 6, 0.03), False),
        (Board("chessboard", 8, 6, 0.03), True),
        (Board("circles", 7, 6, 0.03), True),
        (Board("acircles", 4, 11, 0.03), False),
        (Board("charuco", 8, 8, 0.03, 0.02, "4x4_50"), False),
    ],
)
def test_which_boards_look_the_same_upside_down(board, ambiguous):
    assert board.ambiguous is ambiguous


@given(
    kind=st.sampled_from(KINDS),
    columns=st.integers(3, 12),
    rows=st.integers(3, 12),
    spacing=st.floats(0.005, 0.2),
    share=st.floats(0.3, 0.9),
)
def test_a_board_is_flat_within_its_outline_and_the_same_from_its_yaml(
    tmp_path_factory, kind, columns, rows, spacing, share
):
    content = {"kind": kind, "columns": columns, "rows": rows, "spacing": spacing}
    if kind != "chessboard":
        content["marker"] = spacing * share
    if kind in ("charuco", "aprilgrid"):
        content["dictionary"] = "DICT_APRILTAG_36h11"
    board = parse_board(content)
    points, outline = board.points, board.outline
    assert len(points) == board.point_columns * board.point_rows
    assert (points[:, 2] == 0).all()
    assert (points >= outline.min(0) - 1e-12).all()
    assert (points <= outline.max(0) + 1e-12).all()
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)[~np.eye(len(points), dtype=bool)]
    assert distances.min() > 0.09 * spacing
    path = tmp_path_factory.getbasetemp() / "board.yaml"
    path.write_text("\n".join(f"{key}: {value}" for key, value in content.items()))
    assert read_board(path).points.tolist() == points.tolist()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"kind": "chessbord", "columns": 9, "rows": 6, "spacing": 0.03}, "did you mean chessboard"),
        ({"kind": "chessboard", "colums": 9, "rows": 6, "spacing": 0.03}, "colums: no such key; did you mean columns"),
        ({"kind": "chessboard", "columns": 9, "rows": 6}, "spacing is missing"),
        ({"kind": "chessboard", "columns": 9, "rows": 6, "spacing": 30}, "give it in metres"),
        ({"kind": "chessboard", "columns": 9.5, "rows": 6, "spacing": 0.03}, "columns is 9.5; a whole number"),
        ({"kind": "chessboard", "columns": "9", "rows": 6, "spacing": 0.03}, "columns is '9'; a number"),
        ({"kind": "chessboard", "columns": 2, "rows": 6, "spacing": 0.03}, "needs 3 to 200"),
        ({"kind": "chessboard", "columns": 9, "rows": 6, "spacing": 0.03, "marker": 0.02}, "was charuco meant"),
        ({"kind": "charuco", "columns": 9, "rows": 6, "spacing": 0.03}, "marker is missing"),
        ({"kind": "charuco", "columns": 9, "rows": 6, "spacing": 0.03, "marker": 0.02}, "dictionary is missing"),
        (
            {"kind": "charuco", "columns": 9, "rows": 6, "spacing": 0.03, "marker": 0.04, "dictionary": "4x4_50"},
            "must be smaller than spacing",
        ),
        (
            {"kind": "charuco", "columns": 20, "rows": 20, "spacing": 0.03, "marker": 0.02, "dictionary": "4x4_50"},
            "take a larger dictionary",
        ),
        (
            {"kind": "charuco", "columns": 9, "rows": 6, "spacing": 0.03, "marker": 0.02, "dictionary": "4x4_51"},
            "dictionary: '4x4_51' is not known",
        ),
        ({"kind": "circles", "columns": 9, "rows": 6, "spacing": 0.03, "marker": 0.04}, "circles touch"),
        ({**KALIBR, "tagSpacing": 26}, "share of tagSize"),
        ({**KALIBR, "target_type": "aprilboard"}, "target_type"),
        ({"target_type": "aprilgrid", "tagCols": 6}, "tagRows is missing"),
        (["kind"], "describes no board"),
    ],
)
def test_errors_name_file_key_and_remedy(content, said):
    with pytest.raises(BoardError, match=r"^my\.yaml") as error:
        parse_board(content, "my.yaml")
    assert said in str(error.value)


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(BoardError, match="no such board file"):
        read_board(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("kind: [")
    with pytest.raises(BoardError, match="not valid YAML"):
        read_board(tmp_path / "bad.yaml")
    with pytest.raises(BoardError, match="cannot read"):
        read_board(tmp_path)


def test_the_examples_are_boards_of_every_kind(repository):
    boards = [read_board(path) for path in sorted((repository / "config" / "boards").glob("*.yaml"))]
    assert {board.kind for board in boards} == set(KINDS)
    assert all(board.name for board in boards)


def test_dictionaries_hold_what_opencv_says():
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2, "aruco"):
        pytest.skip(f"OpenCV {cv2.__version__} without its aruco module")
    for name, count in DICTIONARIES.items():
        if hasattr(cv2.aruco, name):  # MIP_36h12 came with 4.7
            table = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name))
            assert len(table.bytesList) == count, name
