"""Sheets to print: millimetres are millimetres in all three forms, and what is drawn is what is detected."""

from __future__ import annotations

import re
import struct
import zlib

import cv2
import numpy as np
import pytest

from edge_vision.calibration import opencv_aruco
from edge_vision.calibration.boards import Board, BoardError, read_board
from edge_vision.calibration.detection import detect
from edge_vision.calibration.printing import PAPERS, board_pattern, rasterise, sheet_pattern, write_board
from edge_vision.cli.main import main

needs_aruco = pytest.mark.skipif(
    not opencv_aruco.available(), reason=f"OpenCV {cv2.__version__} without its aruco module"
)
BOARDS = [
    pytest.param(Board("chessboard", 9, 6, 0.025), id="chessboard"),
    pytest.param(Board("charuco", 9, 7, 0.025, 0.018, "4x4_100"), id="charuco", marks=needs_aruco),
    pytest.param(Board("charuco", 7, 6, 0.025, 0.018, "4x4_50", legacy=True), id="legacy", marks=needs_aruco),
    pytest.param(Board("aprilgrid", 6, 6, 0.0286, 0.022), id="aprilgrid", marks=needs_aruco),
    pytest.param(Board("circles", 7, 5, 0.03), id="circles"),
    pytest.param(Board("acircles", 4, 11, 0.02), id="acircles"),
]


@pytest.mark.parametrize("board", BOARDS)
def test_a_sheet_holds_its_board_in_millimetres(board):
    sheet, paper = sheet_pattern(board)
    assert paper == "a4"
    assert sorted((sheet.width, sheet.height)) == list(PAPERS["a4"])
    for box in (sheet.rectangles, np.column_stack([sheet.circles[:, :2] - sheet.circles[:, 2:]] * 2)):
        assert (box >= 5).all()
    if len(sheet.rectangles):
        assert (sheet.rectangles[:, 2:] <= np.array([sheet.width, sheet.height]) - 5).all()
    # The same distances as in metres, turned over where the board's y is up.
    expected = np.linalg.norm(board.points[:, None] - board.points[None], axis=2) * 1000
    np.testing.assert_allclose(np.linalg.norm(sheet.points[:, None] - sheet.points[None], axis=2), expected, atol=1e-9)


@pytest.mark.parametrize("board", BOARDS)
def test_the_png_is_detected_where_it_was_drawn(board, tmp_path):
    write_board(board, tmp_path / "board.png", paper="a4", dpi=150)
    sheet, _ = sheet_pattern(board, "a4")
    view = detect(cv2.imread(str(tmp_path / "board.png")), board)
    assert view, view
    assert len(view) == len(board.points)
    truth = sheet.points * (150 / 25.4) - 0.5
    assert np.abs(view.pixels - truth[view.ids]).max() < 0.15


def test_the_png_says_how_large_its_pixels_are(tmp_path):
    write_board(Board("chessboard", 9, 6, 0.025), tmp_path / "board.png", dpi=200)
    data = (tmp_path / "board.png").read_bytes()
    assert data[37:41] == b"pHYs"
    across, down, unit = struct.unpack(">IIB", data[41:50])
    assert (across, down, unit) == (7874, 7874, 1)
    assert struct.unpack(">I", data[50:54])[0] == zlib.crc32(data[37:50])
    assert cv2.imread(str(tmp_path / "board.png")).shape[:2] == (round(210 / 25.4 * 200), round(297 / 25.4 * 200))


def test_the_svg_is_in_millimetres(tmp_path):
    write_board(Board("chessboard", 9, 6, 0.025, name="the <best> board"), tmp_path / "board.svg")
    text = (tmp_path / "board.svg").read_text()
    assert 'width="297mm" height="210mm" viewBox="0 0 297 210"' in text
    assert "the &lt;best&gt; board" in text
    boxes = re.findall(r"M([\d.]+) ([\d.]+)H([\d.]+)V([\d.]+)H[\d.]+Z", text)
    squares = [b for b in np.array(boxes, float) if np.allclose([b[2] - b[0], b[3] - b[1]], 25, atol=1e-3)]
    assert len(squares) == 35
    ruler = [b for b in np.array(boxes, float) if np.isclose(b[2] - b[0], 100.2, atol=1e-3)]
    assert len(ruler) == 1  # 100 mm between the middles of its end ticks, which are 0.2 mm wide


def test_the_pdf_is_in_points(tmp_path):
    pytest.importorskip("matplotlib")
    board = Board("chessboard", 9, 6, 0.025)
    write_board(board, tmp_path / "board.pdf")
    data = (tmp_path / "board.pdf").read_bytes()
    box = [float(number) for number in re.search(rb"/MediaBox \[ ?([\d. ]+?) ?\]", data)[1].split()]
    np.testing.assert_allclose(box, [0, 0, 297 / 25.4 * 72, 210 / 25.4 * 72], atol=1e-6)
    content = b"".join(
        zlib.decompress(part) for part in re.findall(rb"/FlateDecode >>\nstream\n(.*?)\nendstream", data, re.S)
    )
    found = re.findall(rb"([\d.]+) ([\d.]+) m\n([\d.]+) ([\d.]+) l\n([\d.]+) ([\d.]+) l", content)
    steps = np.array(found, float)
    square = np.isclose(steps[:, 2] - steps[:, 0], 25 / 25.4 * 72, atol=1e-3)
    assert square.sum() == 35
    first = steps[square][0, :2] * 25.4 / 72
    sheet, _ = sheet_pattern(board)
    np.testing.assert_allclose(first, [sheet.rectangles[0, 0], 210 - sheet.rectangles[0, 1]], atol=1e-3)


def test_a_sheet_that_is_too_small_says_which_is_not():
    board = Board("chessboard", 11, 8, 0.03)
    with pytest.raises(BoardError, match=r"needs 375 x 304 mm, a4 .* take a2"):
        sheet_pattern(board, "a4")
    assert sheet_pattern(board)[1] == "a2"
    assert sheet_pattern(Board("chessboard", 20, 15, 0.1))[1] == "board"
    with pytest.raises(BoardError, match="paper 'b5' is not known"):
        sheet_pattern(board, "b5")


def test_pixels_are_as_dark_as_they_are_covered():
    """A board at a scale where edges fall inside pixels keeps its ink to the fraction."""
    pattern = board_pattern(Board("chessboard", 3, 3, 0.01), margin=5)
    image, points = rasterise(pattern, 1.37)
    ink = (255.0 - image).sum() / 255 / 1.37**2
    assert ink == pytest.approx(8 * 100, rel=1e-3)
    np.testing.assert_allclose(points[0], 15 * 1.37 - 0.5)


@needs_aruco
def test_an_aprilgrid_shows_its_tags_as_apriltag_draws_them():
    """Code 0 of tag36h11 is 0xd5d628584 from the top left, row by row, white is 1 (AprilTag); Kalibr prints it so."""
    image, points = rasterise(board_pattern(Board("aprilgrid", 1, 1, 0.013, 0.010)), 10)
    left, bottom = points[0] + 0.5
    top = points[2][1] + 0.5
    cell = (bottom - top) / 10
    bits = [
        int(image[int(top + (row + 2.5) * cell), int(left + (column + 2.5) * cell)] > 127)
        for row in range(6)
        for column in range(6)
    ]
    assert int("".join(map(str, bits)), 2) == 0xD5D628584


def test_the_command_writes_and_says_what_to_measure(repository, tmp_path, capsys):
    board = repository / "config" / "boards" / "chessboard_9x6_25mm.yaml"
    assert main(["calibrate", "board", str(board), "-o", str(tmp_path / "a.svg")]) == 0
    said = capsys.readouterr().out
    assert "100 %" in said
    assert "ruler must be 100 mm" in said
    assert "200 mm apart" in said
    assert (tmp_path / "a.svg").stat().st_size > 1000
    assert main(["calibrate", "board", str(board), "-o", str(tmp_path / "a.jpg")]) == 1
    assert "as .pdf, .svg or .png" in capsys.readouterr().err
    assert main(["calibrate", "board", str(tmp_path / "no.yaml"), "-o", str(tmp_path / "a.svg")]) == 1
    assert "no such board file" in capsys.readouterr().err
    assert main(["calibrate", "board", str(board), "-o", str(tmp_path / "none" / "a.svg")]) == 1
    assert "cannot write" in capsys.readouterr().err
    assert read_board(board).kind == "chessboard"
