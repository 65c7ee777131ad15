"""Errors of the quality room: what is wrong with an image or a measurement, and what to do about it."""

from __future__ import annotations


class QualityError(ValueError):
    """An input that no figure can be given for. `problem` and `remedy` are the parts of the message."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}. {remedy[:1].upper()}{remedy[1:]}." if remedy else problem)
