"""`choose`: which camera model and which of its terms, by the error on views that were not fitted, not by RMS.

RMS falls with every term that is added. What counts is whether views that the solution has not seen are projected
better, and how uncertain the image's corners become: a rational model on a narrow lens has the RMS of a plumb_bob and
corners that nobody can rely on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_vision.calibration.covariance import corner_pixels, projection_sigma
from edge_vision.calibration.initial import pose_guess
from edge_vision.calibration.models import parameters_of, rotation_matrices, unproject
from edge_vision.calibration.residuals import Corners, State, refine_poses
from edge_vision.calibration.result import BOW, Calibration, CalibrationError
from edge_vision.calibration.solving import solve
from edge_vision.calibration.views import View

Floats = NDArray[np.float64]

MODELS = ("plumb_bob", "equidistant", "rational_polynomial")
"""In the order in which they are preferred: what everybody reads, few terms, many."""

STEPS: dict[str, tuple[tuple[str, ...], ...]] = {
    "plumb_bob": (("k1",), ("k2",), ("p1", "p2"), ("k3",)),
    "rational_polynomial": (("k1", "k2", "k3", "k4", "k5", "k6"), ("p1", "p2")),
    "equidistant": (("k1",), ("k2",), ("k3",), ("k4",)),
}
"""Terms in the order in which they are tried, those of a step together (rational ones only mean something at once)."""

SIGNIFICANT = 2.0  # sigmas that a term must be away from zero
UNCERTAINTY = 1.2  # times, by which a term may raise the uncertainty of the image's corners
NEEDED = 0.9  # times the hold-out error: a term that lowers it below this is needed whatever it costs in uncertainty
MOST_VIEWS = 40  # that are asked for the choice
CERTAIN = 5.0  # sigmas: without a term so far from zero the corners would be certain of something wrong
BETTER = 0.98  # times the hold-out error of a leaner one, that a richer model must get below


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model that was tried. ``hold_out`` is px an axis, on views that were not fitted, NaN where the fit alone told
    against it; ``verdict`` in words."""

    model: str
    terms: tuple[str, ...]
    bow: bool
    hold_out: float
    corner_sigma: float
    """px, the largest one-sigma projection uncertainty of the image's four corners; infinite where it has none."""
    verdict: str


@dataclass(frozen=True, eq=False)
class Choice:
    """The calibration chosen, with its ``notes``, and everything that was tried on the way."""

    calibration: Calibration
    hold_out: float
    candidates: tuple[Candidate, ...]


def choose(
    views: Sequence[View],
    points: ArrayLike,
    *,
    models: Sequence[str] = MODELS,
    bow: bool | None = None,
    folds: int = 5,
    start: Calibration | None = None,
) -> Choice:
    """The best of ``models`` for these views, with the terms that the views determine.

    Within a model terms are added one step after the other. A step stays where its terms are more than 2 sigma from
    zero (one term: its value; more: together, Wald's test), it lowers the hold-out error, and it raises the uncertainty
    of the image's corners by no more than 20 %; the last does not count where the hold-out error falls by more than
    10 % or the term is 5 sigma from zero, because then the leaner model was certain of something wrong.

    The first of ``models`` within 2 % of the best hold-out error is taken; one that folds back inside the image only
    where all do. ``bow`` None tries it on the chosen model and keeps it by the same rule. Of many views those that say
    most are asked for the choice, and all are fitted to it. Raises CalibrationError as `solve` does.
    """
    points = np.asarray(points, np.float64).reshape(-1, 3)
    asked = _most(views)
    tried: list[Candidate] = []
    finals: list[tuple[Calibration, float]] = []
    problem: CalibrationError | None = None
    for model in models:
        try:
            finals.append(_grow(model, asked, points, bool(bow), folds, start, tried))
        except CalibrationError as raised:
            problem = raised
    if not finals:
        raise problem or CalibrationError("no camera model was given", f"use one of {', '.join(MODELS)}")
    whole = [final for final in finals if _corner_sigma(final[0]) < np.inf] or finals
    best = min(held_out for _, held_out in whole)
    chosen, error = next(final for final in whole if final[1] <= best / BETTER)
    if bow is None:
        bent, bent_error = _fit(chosen, _terms(chosen), asked, points, True), float("nan")
        if keep := _significance(bent, BOW) > SIGNIFICANT:
            bent_error = hold_out_error(bent, asked, points, folds=folds)
            keep = bent_error < BETTER * error
        tried.append(_candidate(bent, bent_error, "kept" if keep else "the board is flat as far as can be told"))
        if keep:  # and its terms anew: those of before had to make up for the bow
            chosen, error = _grow(chosen.model, asked, points, True, folds, None, tried)
    if len(asked) < len(views):
        terms, bent_board = _terms(chosen), chosen.bow is not None
        chosen = solve(views, points, model=chosen.model, terms=terms, bow=bent_board, start=chosen)
    notes = (
        *chosen.notes,
        f"{chosen.model} with {', '.join(_terms(chosen)) or 'no distortion'}: hold-out {error:.3f} px",
    )
    return Choice(replace(chosen, notes=notes), error, tuple(tried))


def hold_out_error(calibration: Calibration, views: Sequence[View], points: ArrayLike, *, folds: int = 5) -> float:
    """px an axis: each view solved without it, its own pose fitted, what is left. Infinite where a fold fails.

    ``views`` may hold more than the calibration kept: only those that it kept, and of them the corners, are used.
    Each fold leaves out every ``folds``-th view, so that neighbours in time are not all left out together.
    """
    points = np.asarray(points, np.float64).reshape(-1, 3)
    kept = _kept_views(calibration, views)
    folds = min(folds, len(kept))
    squares, freedom = 0.0, 0
    for fold in range(folds):
        held = [view for index, view in enumerate(kept) if index % folds == fold]
        rest = [view for index, view in enumerate(kept) if index % folds != fold]
        try:
            found = solve(
                rest,
                points,
                model=calibration.model,
                terms=_terms(calibration),
                bow=calibration.bow is not None,
                start=calibration,
                rejection=None,
            )
        except CalibrationError:
            return float("inf")
        costs, count = pose_only_costs(found, held, points, start=calibration)
        squares += float(costs.sum())
        freedom += 2 * count - 6 * len(held)
    return float(np.sqrt(squares / max(freedom, 1)))


def pose_only_costs(
    calibration: Calibration, views: Sequence[View], points: ArrayLike, *, start: Calibration | None = None
) -> tuple[Floats, int]:
    """Sums of squared residuals (V,) px^2 of views with only their poses fitted, and how many corners they have.

    Infinite for a view that the model cannot project. ``start`` has first guesses of the poses of views of its names.
    """
    corners = Corners.of(views, np.asarray(points, np.float64).reshape(-1, 3))
    shared = np.concatenate(
        [
            parameters_of(calibration.model, calibration.K, calibration.D),
            np.zeros(2) if calibration.bow is None else calibration.bow,
        ]
    )
    if start is not None and set(corners.names) <= set(start.views):
        rows = [start.views.index(name) for name in corners.names]
        state = State(shared, rotation_matrices(start.rotations[rows]), start.translations[rows])
    else:
        state = pose_guess(calibration.model, corners, shared)
    _, costs = refine_poses(calibration.model, corners, state)
    return costs, corners.board.shape[1]


def _most(views: Sequence[View]) -> list[View]:
    """At most MOST_VIEWS of them: those whose corners spread over most of the image, in their order."""
    spread = [float(np.prod(np.ptp(view.pixels, axis=0))) if len(view.ids) else 0.0 for view in views]
    chosen = np.sort(np.argsort(-np.array(spread), kind="stable")[:MOST_VIEWS])
    return [views[index] for index in chosen]


def _grow(
    model: str,
    views: Sequence[View],
    points: Floats,
    bow: bool,
    folds: int,
    start: Calibration | None,
    tried: list[Candidate],
) -> tuple[Calibration, float]:
    """The model's terms, step by step; what was decided is appended to ``tried``."""
    terms: tuple[str, ...] = ()
    steps = list(STEPS[model])
    if model == "rational_polynomial":
        terms, steps = steps[0], steps[1:]
    # Outliers are those of the richest model, so that all compete on the same corners.
    rich = solve(
        views, points, model=model, terms=tuple(term for step in STEPS[model] for term in step), bow=bow, start=start
    )
    current = solve(_kept_views(rich, views), points, model=model, terms=terms, bow=bow, rejection=None)
    current = replace(current, outliers=rich.outliers, removed=(*rich.removed, *current.removed))
    error = hold_out_error(current, views, points, folds=folds)
    tried.append(_candidate(current, error, "where the search starts"))
    for step in steps:
        richer = _fit(current, (*terms, *step), views, points, bow)
        if (significance := _significance(richer, step)) < SIGNIFICANT:  # no need to ask views that were not fitted
            verdict = f"{', '.join(step)} only {significance:.1f} sigma from zero"
            tried.append(_candidate(richer, float("nan"), verdict))
            continue
        richer_error = hold_out_error(richer, views, points, folds=folds)
        verdict = _reason_against(current, error, richer, richer_error, significance, step)
        tried.append(_candidate(richer, richer_error, verdict or "kept"))
        if not verdict:
            terms, current, error = (*terms, *step), richer, richer_error
    return current, error


def _fit(current: Calibration, terms: tuple[str, ...], views: Sequence[View], points: Floats, bow: bool) -> Calibration:
    kept = _kept_views(current, views)
    found = solve(kept, points, model=current.model, terms=terms, bow=bow, start=current, rejection=None)
    return replace(found, outliers=current.outliers, removed=current.removed)


def _reason_against(
    current: Calibration,
    error: float,
    richer: Calibration,
    richer_error: float,
    significance: float,
    step: tuple[str, ...],
) -> str:
    if richer_error >= error:
        return f"hold-out error {richer_error:.3f} px against {error:.3f} px without"
    before, after = _corner_sigma(current), _corner_sigma(richer)
    needed = richer_error < NEEDED * error or (significance > CERTAIN and after < np.inf)
    if after > UNCERTAINTY * before and not needed:
        raised = f"{after / before:.1f} times" if np.isfinite(after) else "without bound"
        gain = 100.0 * (1.0 - richer_error / error)
        return f"raises the uncertainty of the image's corners {raised} for {gain:.1f} % less error"
    return ""


def _significance(calibration: Calibration, names: Sequence[str]) -> float:
    """Sigmas from zero: of one parameter |value| / sigma, of several the root of Wald's statistic over their number."""
    rows = [calibration.names.index(name) for name in names]
    named = calibration.values
    values = np.array([named[name] for name in names])
    covariance: Floats = calibration.covariance[np.ix_(rows, rows)]
    scale = 1.0 / np.sqrt(np.maximum(np.diag(covariance), 1e-300))
    statistic = float(
        (values * scale) @ np.linalg.pinv(covariance * scale[:, None] * scale, rcond=1e-12) @ (values * scale)
    )
    return float(np.sqrt(max(statistic, 0.0) / len(rows)))


def _corner_sigma(calibration: Calibration) -> float:
    """px; infinite where a corner of the image has no ray. (0.02 of the size inwards, as rectification keeps.)"""
    pixels = corner_pixels(calibration.image_size, 0.02)
    if not np.all(np.isfinite(unproject(calibration.model, calibration.parameters[: 4 + len(calibration.D)], pixels))):
        return float("inf")
    return float(projection_sigma(calibration, pixels).max())


def _kept_views(calibration: Calibration, views: Sequence[View]) -> list[View]:
    """The views as the calibration used them, in its order: without outliers."""
    given = {view.name: view for view in views}
    return [
        View(name, ids, pixels, calibration.image_size, given[name].stamp if name in given else 0)
        for name, ids, pixels in zip(calibration.views, calibration.ids, calibration.pixels, strict=True)
    ]


def _terms(calibration: Calibration) -> tuple[str, ...]:
    return tuple(name for name in calibration.names if name[0] in "kp")


def _candidate(calibration: Calibration, error: float, verdict: str) -> Candidate:
    return Candidate(
        calibration.model,
        _terms(calibration),
        calibration.bow is not None,
        error,
        _corner_sigma(calibration),
        verdict,
    )
