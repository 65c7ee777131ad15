"""What the page shows and may ask for, and how it is told in JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, Protocol

from edge_vision.datatypes import CalibrationStatus, Outcome

COMMANDS = ("start", "stop", "add_view", "calibrate", "save", "load_samples", "reset", "commit")
WITH_FOLDER = ("save", "load_samples")
"""Commands whose argument is a folder on the robot; "" for the one that the calibration uses by itself."""

LONGEST_ARGUMENT = 4096
"""Characters of a folder, as Linux' PATH_MAX."""


class Control(Protocol):
    """What is behind the page. Every method may be called from any thread, several at once."""

    def status(self) -> CalibrationStatus:
        """The newest. Cheap: asked for five times a second while somebody looks."""

    def preview(self) -> bytes | None:
        """The newest picture as JPEG, None where there is none yet. A call also tells that somebody looks."""

    def command(self, name: str, argument: str = "") -> Outcome:
        """Does one of `COMMANDS`; ``argument``: see `WITH_FOLDER`. May take seconds."""


def status_json(status: CalibrationStatus) -> str:
    """The status as one line of JSON.

    Keys are `CalibrationStatus`' fields, NaN is null, arrays are lists (``next_outline`` N x 2 px, ``cells`` 10 rows of
    10). ``corners`` is their number alone: they are drawn in the picture.
    """
    s = status
    told: dict[str, Any] = {
        "state": s.state,
        "message": s.message,
        "board": s.board,
        "seen": bool(s.seen),
        "looked": s.looked,
        "corners": len(s.corners),
        "views": int(s.views),
        "width": int(s.width),
        "height": int(s.height),
        "x": _figure(s.x),
        "y": _figure(s.y),
        "size": _figure(s.size),
        "skew": _figure(s.skew),
        "coverage": _figure(s.coverage),
        "cells": [[bool(cell) for cell in row] for row in s.cells],
        "model": s.model,
        "rms": _figure(s.rms),
        "uncertainty_centre": _figure(s.uncertainty_centre),
        "uncertainty_corners": _figure(s.uncertainty_corners),
        "verdict": s.verdict,
        "reasons": list(s.reasons),
        "remedies": list(s.remedies),
        "next_view": s.next_view,
        "next_outline": [_figures(point) for point in s.next_outline],
        "next_rotation": [_figures(row) for row in s.next_rotation],
        "next_translation": _figures(s.next_translation),
        "next_gain": _figure(s.next_gain),
        "committed": bool(s.committed),
        "archive": s.archive,
        "stamp": int(s.stamp),
        "frame_id": s.frame_id,
    }
    return json.dumps(told, allow_nan=False, separators=(",", ":"))


def outcome_json(outcome: Outcome) -> str:
    return json.dumps({"success": bool(outcome.success), "message": outcome.message})


def argument_of(text: str, name: str) -> str:
    """The argument in a command's body. Raises ValueError where it is not {} or {"argument": "…"}, or fits not."""
    try:
        given = json.loads(text) if text.strip() else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"The command's body is no JSON: {error}") from error
    if not isinstance(given, dict) or not isinstance(given.get("argument", ""), str) or given.keys() - {"argument"}:
        raise ValueError('The command\'s body has to be {} or {"argument": "…"}')
    argument: str = given.get("argument", "").strip()
    if argument and name not in WITH_FOLDER:
        raise ValueError(f"{name} takes no argument")
    if len(argument) > LONGEST_ARGUMENT or "\0" in argument:
        raise ValueError("The argument is not the name of a folder")
    return argument


def _figure(value: float) -> float | None:
    """Six digits: more than a page shows, fewer than would make it longer than it need be."""
    value = float(value)
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _figures(values: Iterable[float]) -> list[float | None]:
    return [_figure(value) for value in values]
