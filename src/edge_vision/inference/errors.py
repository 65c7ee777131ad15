"""Errors of the inference room: what is wrong, where, and what to do about it."""

from __future__ import annotations

from pathlib import Path


class InferenceError(Exception):
    """Base of the room's errors. `problem` and `remedy` are the parts of the message."""

    def __init__(self, problem: str, remedy: str = "", where: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        self.where = where
        message = f"{where}: {problem}" if where else problem
        super().__init__(f"{message}. {_sentence(remedy)}." if remedy else message)


class ModelError(InferenceError):
    """A model or its description cannot be used. `file` and `key` (dotted, or empty) say where."""

    def __init__(self, file: str | Path, problem: str, remedy: str = "", key: str = "") -> None:
        self.file = Path(file)
        self.key = key
        super().__init__(problem, remedy, f"{file}: {key}" if key else str(file))


class BackendError(InferenceError):
    """A runtime is not installed, cannot open a model, or failed while running it."""


def _sentence(remedy: str) -> str:
    """With a capital, but for a command, which has to be typed as it is."""
    return remedy if remedy.startswith(("pip ", "sudo ")) else remedy[:1].upper() + remedy[1:]
