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

from edge_vision.calibration.covariance import corner_pixels, lens_sigma
from edge_vision.calibration.initial import pose_guess
from edge_vision.calibration.models import parameters_of, rotation_matrices, unproject
from edge_vision.calibration.residuals import Corners, State, refine_poses
from edge_vision.calibration.result import BOW, Calibration, CalibrationError
from edge_vision.calibration.solving import solve
from edge_vision.calibration.views import View

Floats = NDArray[np.float64]
HeldOut = dict[str, tuple[float, int]]

MODELS = ("plumb_bob", "rational_polynomial", "equidistant")
"""In the order in which they are preferred where hold-out errors cannot tell them apart: what everybody reads first."""

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
_TOLERANCE = 1e-6  # of the cost, while searching: far less than what tells candidates apart
UNCERTAIN = 2.0  # times the best model's uncertainty of the corners that a rational one may have to be preferred
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

    The first of ``models`` is taken whose hold-out error the best one's is not clearly below: by 2 %, and by one
    standard error of the difference over the views (Hastie, Tibshirani and Friedman, 7.10); a rational one only where
    the corners become no more than twice as uncertain. One that folds back inside the image is taken only where all do.
    ``bow`` None tries it on the chosen model and keeps it by the same rule. Of many views those that say most are asked
    for the choice, and all are fitted to it. Raises CalibrationError as `solve` does.
    """
    points = np.asarray(points, np.float64).reshape(-1, 3)
    asked = _most(views)
    tried: list[Candidate] = []
    finals: list[tuple[Calibration, HeldOut]] = []
    problem: CalibrationError | None = None
    for model in models:
        try:
            finals.append(_grow(model, asked, points, bool(bow), folds, start, tried))
        except CalibrationError as raised:
            problem = raised
    if not finals:
        raise problem or CalibrationError("no camera model was given", f"use one of {', '.join(MODELS)}")
    whole = [final for final in finals if _corner_sigma(final[0]) < np.inf] or finals
    chosen, held = _preferred(whole)
    error = _error(held)
    if bow is None:
        bent, bent_error = _fit(chosen, _terms(chosen), asked, points, True), float("nan")
        if keep := _significance(bent, BOW) > SIGNIFICANT:
            bent_error = hold_out_error(bent, asked, points, folds=folds)
            keep = bent_error < BETTER * error
        tried.append(_candidate(bent, bent_error, "kept" if keep else "the board is flat as far as can be told"))
        if keep:  # and its terms anew: those of before had to make up for the bow
            chosen, held = _grow(chosen.model, asked, points, True, folds, None, tried)
            error = _error(held)
    terms, bent_board = _terms(chosen), chosen.bow is not None
    if len(asked) < len(views):
        chosen = solve(views, points, model=chosen.model, terms=terms, bow=bent_board, start=chosen)
    else:
        chosen = _fit(chosen, terms, asked, points, bent_board, 1e-9)
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
    return _error(_held_out(calibration, views, np.asarray(points, np.float64).reshape(-1, 3), folds))


def _held_out(calibration: Calibration, views: Sequence[View], points: Floats, folds: int) -> HeldOut:
    """What is left of each view, by its name, that was not fitted: sum of squares px^2, and its degrees of freedom."""
    kept = _kept_views(calibration, views)
    folds = min(folds, len(kept))
    found: HeldOut = {}
    for fold in range(folds):
        held = [view for index, view in enumerate(kept) if index % folds == fold]
        rest = [view for index, view in enumerate(kept) if index % folds != fold]
        try:
            solved = solve(
                rest,
                points,
                model=calibration.model,
                terms=_terms(calibration),
                bow=calibration.bow is not None,
                start=calibration,
                rejection=None,
                tolerance=_TOLERANCE,
            )
            costs = pose_only_costs(solved, held, points, start=calibration)[0].tolist()
        except CalibrationError:
            costs = [float("inf")] * len(held)
        found |= {view.name: (cost, 2 * len(view) - 6) for view, cost in zip(held, costs, strict=True)}
    return found


def _error(held: HeldOut) -> float:
    return float(np.sqrt(sum(cost for cost, _ in held.values()) / max(sum(free for _, free in held.values()), 1)))


def _preferred(finals: Sequence[tuple[Calibration, HeldOut]]) -> tuple[Calibration, HeldOut]:
    """The first that is as good as the best as far as the views can tell."""
    best, best_held = min(finals, key=lambda final: _error(final[1]))
    for found, held in finals:
        uncertain = found.model == "rational_polynomial" and _corner_sigma(found) > UNCERTAIN * _corner_sigma(best)
        if found is best or not (uncertain or _clearly_below(best_held, held)):
            return found, held
    return best, best_held


def _clearly_below(best: HeldOut, other: HeldOut) -> bool:
    """By 2 %, and on average over the views by more than the standard error of that average."""
    if _error(best) >= BETTER * _error(other):
        return False
    names = [name for name in best if name in other]
    excess = np.array([other[name][0] / other[name][1] - best[name][0] / best[name][1] for name in names])
    if len(names) < 2 or not np.all(np.isfinite(excess)):
        return True
    return bool(excess.mean() > excess.std(ddof=1) / np.sqrt(len(names)))


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
) -> tuple[Calibration, HeldOut]:
    """The model's terms, step by step; what was decided is appended to ``tried``."""
    terms: tuple[str, ...] = ()
    steps = list(STEPS[model])
    if model == "rational_polynomial":
        terms, steps = steps[0], steps[1:]
    # Outliers are those of the richest model, so that all compete on the same corners.
    every = tuple(term for step in STEPS[model] for term in step)
    rich = solve(views, points, model=model, terms=every, bow=bow, start=start, tolerance=_TOLERANCE)
    current = _fit(rich, terms, views, points, bow)
    held = _held_out(current, views, points, folds)
    error = _error(held)
    tried.append(_candidate(current, error, "where the search starts"))
    for step in steps:
        richer = _fit(current, (*terms, *step), views, points, bow)
        if (significance := _significance(richer, step)) < SIGNIFICANT:  # no need to ask views that were not fitted
            verdict = f"{', '.join(step)} only {significance:.1f} sigma from zero"
            tried.append(_candidate(richer, float("nan"), verdict))
            continue
        richer_held = _held_out(richer, views, points, folds)
        richer_error = _error(richer_held)
        verdict = _reason_against(current, error, richer, richer_error, significance, step)
        tried.append(_candidate(richer, richer_error, verdict or "kept"))
        if not verdict:
            terms, current, held, error = (*terms, *step), richer, richer_held, richer_error
    return current, held


def _fit(
    current: Calibration,
    terms: tuple[str, ...],
    views: Sequence[View],
    points: Floats,
    bow: bool,
    tolerance: float = _TOLERANCE,
) -> Calibration:
    """The same corners with other terms, from the present solution."""
    kept = _kept_views(current, views)
    found = solve(
        kept, points, model=current.model, terms=terms, bow=bow, start=current, rejection=None, tolerance=tolerance
    )
    return replace(found, outliers=current.outliers, removed=(*current.removed, *found.removed))


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
    return float(lens_sigma(calibration, pixels).max())


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
