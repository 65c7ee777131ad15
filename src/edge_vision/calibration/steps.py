"""The steps from views to a result, as the command and the live session take them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_vision.calibration.boards import Board
from edge_vision.calibration.choice import MODELS, Candidate, choose
from edge_vision.calibration.result import DISTORTION, Calibration, CalibrationError
from edge_vision.calibration.solving import solve
from edge_vision.calibration.views import View

LENS_MODELS = ("auto", *DISTORTION)
_FEW = 6
"""Views below which terms are not chosen: there are too few to hold some out."""
_CLEARLY = 0.8
"""times the noise of a plumb_bob that an equidistant lens must have to be taken before views can be held out"""


@dataclass(frozen=True)
class LensOptions:
    """What is solved for. ``model``: one of LENS_MODELS; ``terms``: its coefficients, None: those that the views
    determine; ``bow``: whether the board's is estimated, None: where it shows."""

    model: str = "auto"
    terms: tuple[str, ...] | None = None
    bow: bool | None = None

    def __post_init__(self) -> None:
        if self.model not in LENS_MODELS:
            raise CalibrationError(f"unknown camera model '{self.model}'", f"use one of {', '.join(LENS_MODELS)}")
        if self.terms is not None and self.model == "auto":
            raise CalibrationError("coefficients are those of a model", "name the model, too")


def solve_from_scratch(
    views: Sequence[View], board: Board, options: LensOptions
) -> tuple[Calibration, tuple[Candidate, ...]]:
    """The solution that depends on the views alone, and the models that were tried. Raises CalibrationError."""
    if options.terms is not None:
        calibration = solve(views, board.points, model=options.model, terms=options.terms, bow=options.bow is True)
        return calibration, ()
    models = MODELS if options.model == "auto" else (options.model,)
    choice = choose(views, board.points, models=models, bow=options.bow)
    return choice.calibration, choice.candidates


def solve_quickly(
    views: Sequence[View], board: Board, options: LensOptions, before: Calibration | None = None
) -> Calibration:
    """A solution to go on collecting with: of the model and from the values of the one ``before``, where there is one.

    Without it: few terms, and of an unknown lens the likelier of plumb_bob and equidistant. Raises CalibrationError.
    """
    if before is not None:
        terms = tuple(name for name in DISTORTION[before.model] if name in before.names)
        bow = before.bow is not None
        return solve(views, board.points, model=before.model, terms=terms, bow=bow, start=before)
    if options.model != "auto":
        return solve(views, board.points, model=options.model, terms=options.terms or _few_terms(options.model, views))
    narrow = _or_problem(views, board, "plumb_bob")
    wide = _or_problem(views, board, "equidistant")
    if isinstance(narrow, CalibrationError):
        if isinstance(wide, CalibrationError):
            raise narrow
        return wide
    if isinstance(wide, CalibrationError) or wide.noise > _CLEARLY * narrow.noise:
        return narrow
    return wide


def solver_like(calibration: Calibration, board: Board) -> Callable[[Sequence[View]], Calibration]:
    """A solver of the same model and terms, that keeps every corner: outliers are gone already."""
    terms = tuple(name for name in DISTORTION[calibration.model] if name in calibration.names)

    def solver(views: Sequence[View]) -> Calibration:
        return solve(
            views,
            board.points,
            model=calibration.model,
            terms=terms,
            bow=calibration.bow is not None,
            start=calibration,
            rejection=None,
        )

    return solver


def _few_terms(model: str, views: Sequence[View]) -> tuple[str, ...]:
    if model == "equidistant" or len(views) < _FEW:
        return ("k1", "k2")
    return ("k1", "k2", "p1", "p2")


def _or_problem(views: Sequence[View], board: Board, model: str) -> Calibration | CalibrationError:
    try:
        return solve(views, board.points, model=model, terms=_few_terms(model, views))
    except CalibrationError as problem:
        return problem
