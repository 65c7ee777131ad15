"""The room's error: what is wrong with a dataset or a log, where, and what to do about it."""

from __future__ import annotations

import os


class DatasetError(Exception):
    """A dataset, split or training log cannot be used at all. ``where`` names the file or folder."""

    def __init__(self, where: str | os.PathLike[str], problem: str, remedy: str = "") -> None:
        self.where, self.problem, self.remedy = str(where), problem, remedy
        super().__init__(f"{self.where}: {problem}" + (f". {remedy[:1].upper()}{remedy[1:]}." if remedy else ""))
