"""`Board`: a flat calibration target, and the YAML that describes it.

    kind: charuco          # chessboard, charuco, aprilgrid, circles, acircles
    columns: 9
    rows: 7
    spacing: 0.040         # metres
    marker: 0.020          # metres
    dictionary: DICT_4X4_100

What ``columns``, ``rows`` and ``spacing`` count is said at `Board`. Kalibr's own target files (target_type, tagCols, …)
are read as they are.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from edge_vision.paths import share_directory

KINDS = ("chessboard", "charuco", "aprilgrid", "circles", "acircles")

DICTIONARIES = {
    **{f"DICT_{n}X{n}_{count}": count for n in (4, 5, 6, 7) for count in (50, 100, 250, 1000)},
    "DICT_ARUCO_ORIGINAL": 1024,
    "DICT_APRILTAG_16h5": 30,
    "DICT_APRILTAG_25h9": 35,
    "DICT_APRILTAG_36h10": 2320,
    "DICT_APRILTAG_36h11": 587,
    "DICT_ARUCO_MIP_36h12": 250,
}
"""How many markers each dictionary of OpenCV holds (objdetect/aruco_dictionary.hpp)."""

_LONGEST_SPACING = 1.0  # m; whatever is longer was meant in millimetres


class BoardError(ValueError):
    """A board's description cannot be used; the message says where, what is wrong with it and what to do."""


@dataclass(frozen=True, slots=True)
class Board:
    """A flat calibration target. Raises BoardError where it could not be printed or detected.

    | kind | columns x rows | spacing | marker | points |
    |---|---|---|---|---|
    | chessboard | inner corners | side of a square | | inner corners |
    | charuco | squares | side of a square | side of a marker | inner corners, (columns - 1) x (rows - 1) |
    | aprilgrid | tags | from tag to tag (tagSize x (1 + tagSpacing)) | side of a tag's black square | 4 corners a tag |
    | circles | centres | from centre to centre | diameter | centres |
    | acircles | centres in a row x rows | from row to row = half of that in a row (as OpenCV) | diameter | centres |

    The board's frame, seen from the printed side: x to the right, y down, z into the board, origin at point 0, the top
    left one, points row by row. The top left square of a chessboard is dark, that of a charuco too (but see legacy).
    An AprilGrid has Kalibr's frame: y up, z out of the board, origin at the bottom left corner of tag 0; its points are
    row by row of tag *corners* from the bottom, 2 x columns in a row, as Kalibr numbers them.
    """

    kind: str
    columns: int
    rows: int
    spacing: float
    """metres"""
    marker: float = 0.0
    """metres: a marker's side, a circle's diameter (default: half the spacing; acircles: the spacing); see above"""
    dictionary: str = ""
    """of the markers: OpenCV's name, one of DICTIONARIES"""
    first_marker: int = 0
    """id of the first marker, or tag; the others follow"""
    border: int = 0
    """cells, the width of a marker's black border; default 1, for an aprilgrid 2, as Kalibr prints its tags"""
    legacy: bool = False
    """charuco as OpenCV before 4.6 drew it: with an even number of rows, the top left square is white"""
    name: str = ""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def point_columns(self) -> int:
        """How many points a row of `points` has."""
        return {"charuco": self.columns - 1, "aprilgrid": 2 * self.columns}.get(self.kind, self.columns)

    @property
    def point_rows(self) -> int:
        return {"charuco": self.rows - 1, "aprilgrid": 2 * self.rows}.get(self.kind, self.rows)

    @property
    def points(self) -> NDArray[np.float64]:
        """(M, 3) metres in the board's frame, z = 0: row by row, `point_columns` in a row. Indices are stable ids."""
        row, column = (grid.ravel() for grid in np.indices((self.point_rows, self.point_columns)))
        if self.kind == "aprilgrid":
            x = (column // 2) * self.spacing + (column % 2) * self.marker
            y = (row // 2) * self.spacing + (row % 2) * self.marker
        elif self.kind == "acircles":
            x, y = (2 * column + row % 2) * self.spacing, row * self.spacing
        else:
            x, y = column * self.spacing, row * self.spacing
        return np.column_stack([x, y, np.zeros_like(x, dtype=np.float64)]).astype(np.float64)

    @property
    def outline(self) -> NDArray[np.float64]:
        """(4, 3) metres: the corners of the printed pattern in the board's frame, in order around it."""
        points = self.points
        gap = self.spacing - self.marker
        around = {"chessboard": self.spacing, "charuco": self.spacing, "aprilgrid": gap}.get(self.kind, self.marker / 2)
        (x0, y0, _), (x1, y1, _) = points.min(0) - around, points.max(0) + around
        return np.array([[x0, y0, 0], [x1, y0, 0], [x1, y1, 0], [x0, y1, 0]])

    @property
    def partial(self) -> bool:
        """True where a view of a part of the board tells which part it is."""
        return self.kind in ("charuco", "aprilgrid")

    @property
    def ambiguous(self) -> bool:
        """True where the pattern turned by half a turn (or a quarter) is the same pattern.

        Views of such a board are numbered as if its top were up in the image: no matter for one camera, but two cameras
        that see it must agree on what is up. One even and one odd number of corners avoid it.
        """
        if self.kind == "acircles":
            return self.rows % 2 == 0
        return self.kind == "circles" or (self.kind == "chessboard" and (self.columns + self.rows) % 2 == 0)

    @property
    def markers(self) -> NDArray[np.float64]:
        """(markers, 4, 3) metres in the board's frame: corners as seen on the print, clockwise from the top left.

        In the order of their ids. Charuco: one in each white square, row by row; aprilgrid: every tag, from the bottom.
        """
        if self.kind == "charuco":
            white = 0 if self.legacy and self.rows % 2 == 0 else 1  # parity of column + row
            cells = [(x, y) for y in range(self.rows) for x in range(self.columns) if (x + y) % 2 == white]
            # Point 0 is the corner between the first four squares: square (0, 0) begins at -spacing.
            low: NDArray[np.float64] = (np.array(cells) - 1.0) * self.spacing + (self.spacing - self.marker) / 2
            order = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
        elif self.kind == "aprilgrid":
            row, column = (grid.ravel() for grid in np.indices((self.rows, self.columns)))
            low = np.column_stack([column, row]).astype(np.float64) * self.spacing
            order = np.array([[0, 1], [1, 1], [1, 0], [0, 0]])
        else:
            return np.zeros((0, 4, 3))
        corners = low[:, None] + order * self.marker
        return np.concatenate([corners, np.zeros((len(corners), 4, 1))], 2)

    def __str__(self) -> str:
        sizes = f"{self.columns}x{self.rows}, {self.spacing * 1000:g} mm"
        if self.kind in ("charuco", "aprilgrid"):
            sizes += f", markers {self.marker * 1000:g} mm, {self.dictionary}"
        return f"{self.name + ': ' if self.name else ''}{self.kind} {sizes}"


def read_board(path: str | os.PathLike[str]) -> Board:
    """The board that a YAML file describes. Raises BoardError."""
    name = os.path.expanduser(os.fspath(path))
    try:
        content = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BoardError(f"no such board file: {name}; the current folder is {os.getcwd()}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise BoardError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise BoardError(f"cannot read the board file {name}: {error.strerror}") from error
    return parse_board(content, name)


def find_board(given: str) -> Board:
    """The board of a YAML file, or of config/boards by its name ("charuco_9x7_25mm"). Raises BoardError."""
    path = Path(given).expanduser()
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1 or path.is_file():
        return read_board(path)
    folder = share_directory() / "config" / "boards"
    bundled = folder / f"{given}.yaml"
    if given and bundled.is_file():
        return read_board(bundled)
    known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
    raise BoardError(f"there is no board '{given}'; give a YAML file that describes it, or one of {known}")


def parse_board(content: Any, where: str = "board") -> Board:
    """The board of a mapping (ours or Kalibr's); ``where`` names it in errors. Raises BoardError."""
    if not isinstance(content, Mapping):
        raise BoardError(f"{where} describes no board: it must have kind, columns, rows and spacing at its top")
    if "target_type" in content:
        content = _from_kalibr(content, where)
    allowed = {field.name: field.type for field in fields(Board)}
    for key in content:
        if key not in allowed:
            near = difflib.get_close_matches(str(key), allowed, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(allowed)}"
            raise BoardError(f"{where}: {key}: no such key; {hint}")
    for key in ("kind", "columns", "rows", "spacing"):
        if key not in content:
            raise BoardError(f"{where}: {key} is missing; give kind, columns, rows and spacing (metres)")
    values = {key: _typed(value, str(allowed[key]), f"{where}: {key}") for key, value in content.items()}
    values.setdefault("name", Path(where).stem if where.endswith((".yaml", ".yml")) else "")
    try:
        return Board(**values)
    except BoardError as error:
        raise BoardError(f"{where}: {error}") from None


def dictionary_name(given: str) -> str:
    """OpenCV's name of a dictionary: "4x4_100", "dict_4X4_100", "tag36h11" are understood. Raises BoardError."""
    wanted = given.strip().lower().removeprefix("dict_")
    if wanted.startswith("tag"):
        wanted = "apriltag_" + wanted.removeprefix("tag")
    for name in DICTIONARIES:
        if wanted in (name.lower().removeprefix("dict_"), name.lower().removeprefix("dict_apriltag_")):
            return name
    raise BoardError(f"dictionary: {given!r} is not known; known are {', '.join(DICTIONARIES)}")


def _from_kalibr(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Kalibr's target file in our keys (its wiki, "Calibration targets")."""
    kind = content["target_type"]
    keys = {
        "aprilgrid": ("tagCols", "tagRows", "tagSize", "tagSpacing"),
        "checkerboard": ("targetCols", "targetRows", "rowSpacingMeters", "colSpacingMeters"),
        "circlegrid": ("targetCols", "targetRows", "spacingMeters"),
    }.get(str(kind))
    if keys is None:
        raise BoardError(f"{where}: target_type: {kind!r} is not known; it is aprilgrid, checkerboard or circlegrid")
    for key in keys:
        if key not in content:
            raise BoardError(f"{where}: {key} is missing; Kalibr's {kind} has {', '.join(keys)}")
    number = {
        key: _typed(content[key], "int" if key.endswith(("Cols", "Rows")) else "float", f"{where}: {key}")
        for key in keys
    }
    if kind == "aprilgrid":
        size, gap = number["tagSize"], number["tagSpacing"]
        if not 0 < gap < 2:
            raise BoardError(
                f"{where}: tagSpacing is {gap:g}; it is the gap between tags as a share of tagSize, as 0.3"
            )
        return {
            "kind": "aprilgrid",
            "columns": number["tagCols"],
            "rows": number["tagRows"],
            "spacing": size * (1 + gap),
            "marker": size,
            "dictionary": "DICT_APRILTAG_36h11",
        }
    sizes = {"columns": number["targetCols"], "rows": number["targetRows"]}
    if kind == "checkerboard":
        across, down = number["colSpacingMeters"], number["rowSpacingMeters"]
        if not math.isclose(across, down, rel_tol=1e-9):
            raise BoardError(
                f"{where}: rowSpacingMeters {down:g} is not colSpacingMeters {across:g}: squares are needed"
            )
        return {"kind": "chessboard", **sizes, "spacing": across}
    asymmetric = content.get("asymmetricGrid", False)
    return {"kind": "acircles" if asymmetric else "circles", **sizes, "spacing": number["spacingMeters"]}


def _typed(value: Any, kind: str, where: str) -> Any:
    if kind == "str":
        if not isinstance(value, str):
            raise BoardError(f"{where} is {value!r}; a text is needed")
        return value
    if kind == "bool":
        if not isinstance(value, bool):
            raise BoardError(f"{where} is {value!r}; give true or false")
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise BoardError(f"{where} is {value!r}; a number is needed")
    if kind == "int":
        if value != int(value):
            raise BoardError(f"{where} is {value!r}; a whole number is needed")
        return int(value)
    return float(value)


def _check(board: Board) -> None:
    """Completes and checks a board's fields. Raises BoardError."""

    def put(key: str, value: Any) -> None:
        object.__setattr__(board, key, value)

    if board.kind not in KINDS:
        near = difflib.get_close_matches(str(board.kind), [*KINDS, "checkerboard"], 1)
        hint = f"; did you mean {near[0].replace('checker', 'chess')}?" if near else f"; known are {', '.join(KINDS)}"
        raise BoardError(f"kind: {board.kind!r} is not known{hint}")
    least = {"chessboard": 3, "charuco": 3, "aprilgrid": 1}.get(board.kind, 2)
    for key in ("columns", "rows"):
        if not least <= getattr(board, key) <= 200:
            raise BoardError(f"{key} is {getattr(board, key)}; a {board.kind} needs {least} to 200")
    for key in ("spacing", "marker"):
        value = getattr(board, key)
        if not 0 <= value <= _LONGEST_SPACING or (key == "spacing" and value == 0):
            raise BoardError(f"{key} is {value:g}; give it in metres (25 mm are 0.025)")
    marked = board.kind in ("charuco", "aprilgrid")
    if marked:
        if not board.marker:
            raise BoardError(f"marker is missing: the side of a {board.kind}'s markers in metres")
        if not board.dictionary:
            if board.kind == "charuco":
                raise BoardError("dictionary is missing: the markers' dictionary, as DICT_4X4_100")
            put("dictionary", "DICT_APRILTAG_36h11")
        put("dictionary", dictionary_name(board.dictionary))
        count = board.columns * board.rows
        count = count // 2 if board.kind == "charuco" else count
        put("border", board.border or (2 if board.kind == "aprilgrid" else 1))
        if not 1 <= board.border <= 4:
            raise BoardError(f"border is {board.border}; markers have 1 or 2 cells of black around them")
        held = DICTIONARIES[board.dictionary]
        if board.first_marker < 0 or board.first_marker + count > held:
            raise BoardError(
                f"{board.columns}x{board.rows} need the markers {board.first_marker} to "
                f"{board.first_marker + count - 1}, {board.dictionary} has {held}; take a larger dictionary"
            )
        if board.marker >= board.spacing:
            raise BoardError(f"marker {board.marker:g} must be smaller than spacing {board.spacing:g} (metres)")
    else:
        if board.dictionary or board.first_marker or board.border:
            raise BoardError(f"dictionary: a {board.kind} has no markers; was charuco or aprilgrid meant?")
        if board.kind == "chessboard" and board.marker:
            raise BoardError("marker: a chessboard has no markers; was charuco meant?")
        if board.kind in ("circles", "acircles"):
            closest = board.spacing * (math.sqrt(2) if board.kind == "acircles" else 1)
            put("marker", board.marker or closest / 2)
            if board.marker >= closest:
                raise BoardError(
                    f"marker {board.marker:g} (diameter) must be smaller than {closest:g}, or circles touch"
                )
    if board.legacy and board.kind != "charuco":
        raise BoardError(f"legacy: only a charuco board can be one, not a {board.kind}")
