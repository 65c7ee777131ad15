"""Files of numbers in rows, read fast, and with the line named where they are broken."""

from __future__ import annotations

import os
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

Path = str | os.PathLike[str]


def read_rows(path: Path, columns: Collection[int], what: str, comma: bool = True) -> NDArray[np.float64]:
    """(N, C) float64 of a text file with C numbers a line, C one of ``columns`` and the same in every line.

    comma: numbers are separated by commas, otherwise by blanks or tabs. Empty lines are passed over. what: of which
    kind the file should be, for messages. ValueError names file, line and what is wrong; OSError where it cannot be
    read.
    """
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    texts = [line for line in lines if line.strip()]
    if not texts:
        return np.zeros((0, max(columns)))
    separator = "," if comma else None
    try:  # one call for the whole file; the slow way below only finds out what is wrong with it
        width = len(texts[0].split(separator))
        if width in columns and all(line.count(",") == width - 1 for line in texts if comma):
            table = np.loadtxt(texts, delimiter=separator, ndmin=2, comments=None)
            if np.isfinite(table).all():
                return table
    except ValueError:
        pass
    return np.array(_slowly(path, lines, columns, what, separator))


def _slowly(
    path: Path, lines: list[str], columns: Collection[int], what: str, separator: str | None
) -> list[list[float]]:
    expected = " or ".join(map(str, sorted(columns))) if len(columns) < 4 else f"{min(columns)} to {max(columns)}"
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        parts = line.split(separator)
        if len(parts) not in columns or (rows and len(parts) != len(rows[0])):
            wanted = str(len(rows[0])) if rows else expected
            apart = "comma-separated" if separator else "blank-separated"
            raise ValueError(
                f"{path}, line {number}: no {what} row, expected {wanted} {apart} columns, got {len(parts)}"
            )
        try:
            row = [float(part) for part in parts]
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: no {what} row, {error}") from None
        if not np.isfinite(row).all():
            raise ValueError(f"{path}, line {number}: no {what} row, every number must be finite")
        rows.append(row)
    return rows


def line_of(path: Path, row: int) -> int:
    """The line (from 1) of the file that row ``row`` (from 0) was read from: empty lines hold none."""
    with open(path, encoding="utf-8", errors="replace") as file:
        filled = (number for number, line in enumerate(file.read().splitlines(), 1) if line.strip())
        return next(number for index, number in enumerate(filled) if index == row)


def refuse(path: Path, bad: NDArray[np.bool_], problem: str) -> None:
    """Raise ValueError with file and line of the first row that is True in ``bad``."""
    rows = np.flatnonzero(bad)
    if rows.size:
        raise ValueError(f"{path}, line {line_of(path, int(rows[0]))}: {problem}")


def refuse_doubles(path: Path, frames: NDArray[np.int64], ids: NDArray[np.int64]) -> None:
    """Raise ValueError where an id (from 0 up) is there twice in one frame: it would be two objects in one."""
    order = np.lexsort((ids, frames))
    f, i = frames[order], ids[order]
    again = np.flatnonzero((f[1:] == f[:-1]) & (i[1:] == i[:-1]) & (i[1:] >= 0))
    if again.size:
        row = int(order[again + 1].min())
        raise ValueError(
            f"{path}, line {line_of(path, row)}: id {ids[row]} is there twice in frame {frames[row]}; "
            "an id is one object, give each its own"
        )
