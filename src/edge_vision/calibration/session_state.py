"""What a session is made with, what it knows at a time, and the status that it tells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge_vision.calibration.assessment import Assessment, assess
from edge_vision.calibration.boards import Board
from edge_vision.calibration.choice import Candidate
from edge_vision.calibration.guidance import Suggestion, suggest
from edge_vision.calibration.knowledge import ENOUGH_GAIN, Knowledge, known_before, known_from
from edge_vision.calibration.result import Calibration, CalibrationError
from edge_vision.calibration.sampling import Selection, tilted_sides
from edge_vision.calibration.steps import LensOptions, solve_from_scratch, solver_like
from edge_vision.calibration.verdict import Level, Verdict, judge
from edge_vision.calibration.views import View

STOPS = {"usable": Level.USABLE, "good": Level.GOOD, "never": None}
BOWS = {"auto": None, "on": True, "off": False}


@dataclass(frozen=True)
class SessionOptions:
    """Of a `Session`. Raises CalibrationError for what it does not know.

    model: of the lens, or "auto"; bow: whether the board's is estimated, "auto" where it shows, "on" or "off".
    least_gain: share by which a view must lower the uncertainty to be kept for that; most_views: after so many the
    final solution is made whatever the verdict. stop_at: the verdict at which the session ends by itself ("never": at
    most_views). archive: folder into which samples are written as they are kept, each run in one of its own; "": none.
    max_speed: px of the image's width a second, per 1280, that the board may move: a rolling shutter shears it.
    """

    model: str = "auto"
    bow: str = "auto"
    least_gain: float = ENOUGH_GAIN
    most_views: int = 80
    stop_at: str = "good"
    archive: str = ""
    camera_name: str = "camera"
    max_speed: float = 60.0

    def __post_init__(self) -> None:
        self.lens  # noqa: B018 - raises for a model that is not known
        if self.stop_at not in STOPS:
            raise CalibrationError(f"unknown stop_at '{self.stop_at}'", f"use one of {', '.join(STOPS)}")
        if self.bow not in BOWS:
            raise CalibrationError(f"unknown bow '{self.bow}'", f"use one of {', '.join(BOWS)}")
        if not 0 <= self.least_gain < 1:
            raise CalibrationError(f"least_gain {self.least_gain} is no share", "give 0.02 or the like")
        if self.most_views < 3:
            raise CalibrationError(f"most_views {self.most_views} are too few to solve", "give 3 or more, best 80")
        if not self.max_speed > 0:
            raise CalibrationError(f"max_speed {self.max_speed} must be above 0", "give 60, or inf for any")
        name = self.camera_name
        if not name or name.startswith(".") or any(c in name for c in "/\\\0"):
            raise CalibrationError(f"camera_name '{name}' names files", "give one without / and without a dot in front")

    @property
    def lens(self) -> LensOptions:
        return LensOptions(self.model, None, BOWS.get(self.bow))

    @property
    def wanted(self) -> Level | None:
        return STOPS[self.stop_at]


@dataclass(frozen=True, eq=False)
class Solution:
    """Of `count` samples. final: from scratch, with the model chosen and cross-validated."""

    calibration: Calibration
    assessment: Assessment
    verdict: Verdict
    count: int
    final: bool = False
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True, eq=False)
class Guidance:
    """What is known after `count` samples, and the view to add."""

    knowledge: Knowledge
    sides: frozenset[int]
    count: int
    next: Suggestion | None = None
    answered: bool = False
    """A view was added since `next` was found: it is shown until there is a newer one, but no reason to keep a view."""

    @property
    def asked(self) -> Suggestion | None:
        return None if self.answered else self.next

    def added(self, view: View) -> Guidance:
        """With one more."""
        sides = self.sides | tilted_sides(self.knowledge, [view])
        return replace(self, knowledge=self.knowledge.added(view), sides=sides, count=self.count + 1, answered=True)


def first_guidance(board: Board, size: tuple[int, int], model: str, views: list[View]) -> Guidance:
    """Before a solution: a usual lens is taken."""
    knowledge = known_before(size, board, views, "equidistant" if model == "equidistant" else "plumb_bob")
    return Guidance(knowledge, tilted_sides(knowledge, views), len(views))


def guided(guidance: Guidance, views: list[View]) -> Guidance:
    """With the next view (0.2 to 0.6 s)."""
    return replace(guidance, next=next(iter(suggest(guidance.knowledge, views)), None), answered=False)


def guidance_from(calibration: Calibration, board: Board, views: list[View]) -> Guidance:
    """After a solution, with the next view."""
    knowledge = known_from(calibration, board)
    return guided(Guidance(knowledge, tilted_sides(knowledge, views), len(views)), views)


def provisional(calibration: Calibration, board: Board, count: int) -> Solution:
    """As far as it can be told while more comes: without cross-validation."""
    assessment = assess(calibration, board)
    return Solution(calibration, assessment, judge(assessment), count)


def final_solution(views: list[View], board: Board, lens: LensOptions) -> Solution:
    """Depends on the views alone. Raises CalibrationError."""
    calibration, candidates = solve_from_scratch(views, board, lens)
    assessment = assess(calibration, board, solver_like(calibration, board))
    return Solution(calibration, assessment, judge(assessment), len(views), True, candidates)


def sample_fields(selection: Selection | None) -> dict[str, Any]:
    """Of the status: what the samples cover."""
    if selection is None:
        return {}
    x, y, size, skew = selection.spans
    return {
        "views": len(selection.views),
        "width": selection.image_size[0],
        "height": selection.image_size[1],
        "x": x,
        "y": y,
        "size": size,
        "skew": skew,
        "coverage": selection.coverage,
        "cells": selection.cells,
    }


def solution_fields(solution: Solution | None) -> dict[str, Any]:
    """Of the status: how good the newest solution is."""
    if solution is None:
        return {}
    blamed = solution.verdict.blamed
    return {
        "model": solution.calibration.model,
        "rms": solution.calibration.rms,
        "uncertainty_centre": solution.assessment.uncertainty.centre,
        "uncertainty_corners": solution.assessment.uncertainty.worst_corner,
        "verdict": str(solution.verdict.level),
        "reasons": tuple(reason.text for reason in blamed),
        "remedies": tuple(reason.remedy for reason in blamed),
    }


def next_fields(guidance: Guidance | None) -> dict[str, Any]:
    """Of the status: the view to add."""
    asked = guidance.next if guidance is not None else None
    if asked is None:
        return {}
    return {
        "next_view": asked.text,
        "next_outline": asked.outline.astype(np.float32),
        "next_rotation": asked.rotation,
        "next_translation": asked.translation,
        "next_gain": asked.gain,
    }
