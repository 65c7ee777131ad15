"""Errors of the room: what is wrong, and what to do about it."""

from __future__ import annotations


class WebError(Exception):
    """The page cannot be served as asked. `problem` and `remedy` are the parts of the message."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}. {remedy}." if remedy else problem)
