"""`edge_vision calibrate board BOARD.yaml -o FILE`: a board to print, in millimetres that are millimetres."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_vision.calibration.boards import Board

DESCRIPTION = (
    "Draws a calibration board true to scale, with a ruler to check the printer by. Print it at 100 %, without fitting "
    "it to the page, measure the ruler and one row of the board, and glue it to something flat: glass, aluminium."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("board", metavar="BOARD.yaml", help="the board's description, ours or Kalibr's")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="what to write: .pdf, .svg or .png")
    parser.add_argument(
        "--paper",
        default="auto",
        choices=["auto", "a4", "a3", "a2", "a1", "a0", "letter", "board"],
        help="the sheet; auto: the smallest of a4 to a0 that holds it; board: as large as the board needs",
    )
    parser.add_argument("--dpi", type=_dpi, default=300.0, help="of a PNG")


def run(arguments: argparse.Namespace) -> int:
    from edge_vision.calibration.boards import BoardError, find_board
    from edge_vision.calibration.printing import ruler_length, sheet_pattern, write_board

    try:
        board = find_board(arguments.board)
        paper = write_board(board, arguments.output, paper=arguments.paper, dpi=arguments.dpi)
        sheet, _ = sheet_pattern(board, paper)
    except BoardError as error:
        print(f"edge_vision calibrate board: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"edge_vision calibrate board: cannot write {arguments.output}: {error.strerror}; take another folder",
            file=sys.stderr,
        )
        return 1
    name = f"{paper} sheet" if paper != "board" else "sheet"
    print(f"{arguments.output}: {board}")
    print(f"  on a {name} of {sheet.width:g} x {sheet.height:g} mm, to print at 100 % (no fitting to the page)")
    print(f"  then measure: the ruler must be {ruler_length(sheet.width)} mm; {_check(board)}")
    if board.ambiguous:
        print("  turned by 180 degrees it looks the same: for stereo take one even and one odd number of corners")
    return 0


def _check(board: Board) -> str:
    """A length of the board itself that is long enough to measure well."""
    points = board.points
    length = 1000 * (points[board.point_columns - 1, 0] - points[0, 0])
    what = {"circles": "centres of a row", "acircles": "centres of a row"}.get(board.kind, "corners of a row")
    return f"the first and the last of the {what} must be {length:g} mm apart (else correct the sizes in the file)"


def _dpi(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 30 <= value <= 4800:
        raise argparse.ArgumentTypeError(f"{text!r} is no resolution: give 30 to 4800 dots an inch")
    return value
