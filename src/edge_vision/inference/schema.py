"""Typed reading of a YAML mapping, where every problem names the file, the key, what is wrong and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from edge_vision.inference.errors import ModelError

T = TypeVar("T")

_NAMES: dict[Any, str] = {str: "text", int: "a whole number", float: "a number", dict: "a mapping", list: "a list"}


class _Required:
    """Marks a key that has no default."""


REQUIRED: Any = _Required()


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ModelError for what is none."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        lines = " ".join(str(error).split())
        raise ModelError(path, f"not readable as YAML: {lines}", "correct that line") from error
    if not isinstance(content, dict):
        raise ModelError(
            path, f"holds {_kind(content)} instead of keys and values", "see docs/inference.md for the format"
        )
    return content


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    return _NAMES.get(type(value), type(value).__name__)


class Section:
    """One mapping of a file: keys are taken one after another, and `finish` refuses those that nobody took."""

    def __init__(self, content: Mapping[str, Any], file: Path, prefix: str = "") -> None:
        self.content = content
        self.file = file
        self.prefix = prefix
        self.taken: list[str] = []

    def error(self, key: str, problem: str, remedy: str = "") -> ModelError:
        return ModelError(self.file, problem, remedy, f"{self.prefix}{key}")

    def take(self, key: str, kind: type[T], default: Any = REQUIRED, choices: tuple[str, ...] = ()) -> T:
        """The value of `key`, checked to be of `kind` (an int passes as float) and, where given, one of `choices`."""
        self.taken.append(key)
        value = self.content.get(key)
        if value is None:
            if default is REQUIRED:
                raise self.error(key, "missing", f"add `{key}:` with {self._wanted(kind, choices)}")
            return default
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(key, f"is {value!r}, {_kind(value)}", f"give {self._wanted(kind, choices)}")
        if choices and value not in choices:
            raise self.error(key, f"is {value!r}", f"give {self._wanted(kind, choices)}{_nearest(str(value), choices)}")
        return value

    def numbers(self, key: str, default: tuple[float, ...], length: int) -> tuple[float, ...]:
        """A list of `length` numbers; a single number stands for that many of it."""
        self.taken.append(key)
        value = self.content.get(key)
        if value is None:
            return default
        values = value if isinstance(value, (list, tuple)) else [value] * length
        if len(values) != length or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
            raise self.error(key, f"is {value!r}", f"give a list of {length} numbers")
        return tuple(float(v) for v in values)

    def section(self, key: str, default: Any = REQUIRED) -> Section:
        content = self.take(key, dict, default)
        return Section(content, self.file, f"{self.prefix}{key}.")

    def sections(self, key: str, default: Any = REQUIRED) -> list[Section]:
        """A list of mappings."""
        items = self.take(key, list, default)
        for index, item in enumerate(items):
            if not isinstance(item, dict):
                raise self.error(f"{key}[{index}]", f"is {item!r}, {_kind(item)}", "give a mapping of keys and values")
        return [Section(item, self.file, f"{self.prefix}{key}[{index}].") for index, item in enumerate(items)]

    def finish(self) -> None:
        """Refuse unknown keys: a misspelt one would otherwise be ignored without a word."""
        for key in self.content:
            if key not in self.taken:
                known = tuple(self.taken)
                remedy = f"known here: {', '.join(known)}{_nearest(str(key), known)}"
                raise self.error(str(key), "unknown key", remedy)

    @staticmethod
    def _wanted(kind: type, choices: tuple[str, ...]) -> str:
        return f"one of {', '.join(choices)}" if choices else _NAMES.get(kind, kind.__name__)


def _nearest(value: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(value, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
