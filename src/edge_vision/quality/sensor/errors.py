"""The error of sensor measurement: what is wrong with the data, where, and what to do."""

from __future__ import annotations

from pathlib import Path


class SensorDataError(ValueError):
    """Images or their descriptor cannot be measured. `file` and `line` (from 1, or None) say where."""

    def __init__(self, problem: str, remedy: str = "", file: str | Path = "", line: int | None = None) -> None:
        self.problem = problem
        self.remedy = remedy
        self.file = str(file)
        self.line = line
        where = f"{file}, line {line}: " if line is not None else f"{file}: " if str(file) else ""
        super().__init__(f"{where}{problem}" + (f". {remedy[:1].upper()}{remedy[1:]}." if remedy else ""))
