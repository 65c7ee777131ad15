"""`solve`: intrinsics, poses and the board's bow from views; what does not fit is left out and listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_vision.calibration.covariance import corner_pixels, noise_of, pose_sigmas, shared_covariance
from edge_vision.calibration.initial import converted, initial_guess, most_telling, pose_guess
from edge_vision.calibration.levenberg import Normal
from edge_vision.calibration.models import matrix_of, parameters_of, rotation_matrices, rotation_vectors, unproject
from edge_vision.calibration.residuals import (
    Corners,
    State,
    blocks,
    refine_poses,
    residuals,
)
from edge_vision.calibration.result import (
    BOW,
    DISTORTION,
    INTRINSICS,
    Calibration,
    Outlier,
)
from edge_vision.calibration.solving_checks import (
    DEFAULT_TERMS,
    FEWEST_CORNERS,
    FEWEST_VIEWS,
    check_terms,
    check_views,
    enough,
    usable_views,
)
from edge_vision.calibration.solving_work import (
    MEDIAN,
    Work,
    distances_of,
    free_of,
    huber_limit,
    huber_of,
    noise_in,
    only,
    projectable,
    turn,
)
from edge_vision.calibration.views import View

__all__ = ["DEFAULT_TERMS", "FEWEST_CORNERS", "FEWEST_VIEWS", "Rejection", "solve"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Rejection:
    """What is left out. Limits are in sigmas of the noise of what is kept, and so they follow the data."""

    corner: float = 5.0
    """sigmas an axis; a corner further off is an outlier (of normal ones, 1 in 270,000)"""
    share: float = 0.3
    """a view with a larger share of outliers is removed"""
    view: float = 3.0
    """a view whose RMS is larger than so many times the median view's is removed"""
    smallest: float = 0.02
    """px; a corner nearer than this is never an outlier"""


def solve(
    views: Sequence[View],
    points: ArrayLike,
    *,
    model: str = "plumb_bob",
    terms: Sequence[str] | None = None,
    fix: Mapping[str, float] | None = None,
    aspect: float | None = None,
    bow: bool = False,
    start: Calibration | None = None,
    rejection: Rejection | None = Rejection(),
    tolerance: float = 1e-9,
) -> Calibration:
    """Calibrates a camera from ``views`` of a board whose ``points`` are (M, 3) m, flat.

    ``terms`` are the coefficients to estimate (default: DEFAULT_TERMS), the others stay zero; ``fix`` holds parameters
    at values; ``aspect`` holds fx / fy. ``bow`` estimates how far the board is bent in x and in y. ``start`` is an
    earlier solution to go on from (its poses are used for views of the same name). ``rejection`` None keeps all corners
    and views that can be projected. ``tolerance``: it ends where a step lowers the cost by less than this share of it.

    Minimises squared pixel distances by Levenberg-Marquardt, first with Huber's loss. Raises CalibrationError where
    views are too few, of different sizes, or do not belong to these points.
    """
    points = np.asarray(points, np.float64).reshape(-1, 3)
    fix = dict(fix or {})
    terms = check_terms(model, terms, fix)
    size = check_views(views, points)
    usable, removed = usable_views(views, points)
    enough(usable, removed, views, fewest=1 if fix or start else FEWEST_VIEWS)
    corners = Corners.of(usable, points)
    free, names = free_of(model, terms, fix, aspect, bow)
    prior = np.zeros(len(free))
    if bow:
        extent = float(np.ptp(points[:, :2], axis=0).max())
        prior[-2:] = (0.25 / (0.005 * extent)) ** 2  # 0.25 px of residual for 0.5 % of the board's length
    work = Work(model, corners, _start(model, corners, size, terms, fix, aspect, start), free, prior, removed)
    _approach(work, cold=start is None or start.model != model, rejection=rejection)
    kept, normal = _settle(work, rejection, tolerance)
    return _result(work, kept, normal, size, names, bow)


def _start(
    model: str,
    corners: Corners,
    size: tuple[int, int],
    terms: tuple[str, ...],
    fix: Mapping[str, float],
    aspect: float | None,
    start: Calibration | None,
) -> State:
    all_names = (*INTRINSICS, *DISTORTION[model])
    if start is not None and start.model == model:
        parameters = parameters_of(model, start.K, start.D)
        for index, name in enumerate(all_names):
            if index >= 4 and name not in terms:
                parameters[index] = 0.0
        shared = np.concatenate([parameters, np.zeros(2) if start.bow is None else start.bow])
        for name, value in fix.items():
            shared[all_names.index(name)] = value
        known = {name: index for index, name in enumerate(start.views)}
        if known.keys() >= set(corners.names):
            rows = [known[name] for name in corners.names]
            return State(shared, rotation_matrices(start.rotations[rows]), start.translations[rows])
        state = pose_guess(model, corners, shared)
        R, t = state.rotations.copy(), state.translations.copy()
        for view, name in enumerate(corners.names):
            if name in known:
                R[view] = rotation_matrices(start.rotations[known[name]])[0]
                t[view] = start.translations[known[name]]
        return refine_poses(model, corners, State(shared, R, t), huber=3.0, iterations=5)[0]
    some = most_telling(corners)
    few = corners.keep_views(some)
    ideal, state = initial_guess(few, size, aspect=aspect or 1.0)
    if ideal == "equidistant" != model:  # a wide lens: let the model that describes it settle before it is converted
        state = _coarse(Work(ideal, few, state, free_of(ideal, ("k1", "k2"), {}, aspect, False)[0], np.zeros(10)))
    shared = converted(ideal, model, state.shared, few.pixels, terms)
    for name, value in fix.items():
        shared[all_names.index(name)] = value
    state = State(shared, state.rotations, state.translations)
    few, state = projectable(model, few, state)
    free, _ = free_of(model, terms, fix, aspect, False)
    state = _coarse(Work(model, few, state, free, np.zeros(len(free))))
    if len(few.names) == len(corners.names):
        return state
    return refine_poses(
        model,
        corners,
        pose_guess(model, corners, state.shared),
        huber=10.0 * huber_of(model, few, state),
        iterations=4,
    )[0]


def _coarse(work: Work) -> State:
    """From an ideal projection to the model's: few parameters first, then all, with the better pose of each view."""
    few = only(work.free, keep=(0, 1, 4))  # focal lengths and k1
    work.fit(work.corners, free=few, huber=huber_limit(work), iterations=12, tolerance=1e-2)
    turn(work)
    work.fit(work.corners, huber=huber_limit(work), iterations=15, tolerance=1e-2)
    return work.state


def _approach(work: Work, *, cold: bool, rejection: Rejection | None) -> None:
    """From the start to the robust solution of all views."""
    _, costs = blocks(work.model, work.corners, work.state)
    work.remove(
        {
            int(view): f"a corner lies where {work.model} cannot project to (90 degrees or more from the axis)"
            for view in np.flatnonzero(~np.isfinite(costs))
        }
    )
    enough(work.corners.names, work.removed, work.corners.names, fewest=1)
    if cold and not np.all(most_telling(work.corners)):  # the others had no part in the start
        turn(work)
    if rejection is not None:
        work.fit(work.corners, huber=huber_limit(work), iterations=20, tolerance=1e-3, damping=1e-5)
        work.fit(work.corners, huber=huber_limit(work), iterations=20, tolerance=1e-4, damping=1e-6)


def _settle(work: Work, rejection: Rejection | None, tolerance: float) -> tuple[Mask, Normal]:
    """Least squares on what fits, again until what fits does not change; which corners were kept."""
    kept = np.ones(work.corners.board.shape[1], bool)
    if rejection is None:
        return kept, work.fit(work.corners, tolerance=tolerance, damping=1e-5)
    noise = float(np.median(distances_of(work))) / MEDIAN
    for attempt in range(10):
        fits = distances_of(work) <= _limits(work, noise, rejection)
        reasons = _views_to_remove(work, fits, rejection)
        if attempt and not reasons and np.array_equal(fits, kept):
            break
        if reasons:
            view_of = work.corners.view_of
            fits = fits[work.remove(reasons)[view_of]]
            enough(work.corners.names, work.removed, work.corners.names, fewest=1)
        kept = fits
        normal = work.fit(work.corners.keep(kept), tolerance=1e-4, damping=1e-6)
        noise = noise_in(work, kept)
    normal = work.fit(work.corners.keep(kept), tolerance=tolerance, damping=1e-7)
    return kept, normal


def _limits(work: Work, noise: float, rejection: Rejection) -> Floats:
    """(N,) px: how far off a corner may be: by the noise of all, or of its own view where that is more.

    A view out of focus, or where the model bends a little otherwise than the lens, has large residuals that belong
    together: they are no outliers, and without them the solution would only look better.
    """
    corners = work.corners
    distances = distances_of(work)
    own = np.array([np.median(distances[a:b]) if b > a else 0.0 for a, b in pairwise(corners.starts)])
    counts = np.maximum(2.0 * corners.counts, 7.0)
    own = own / MEDIAN * np.sqrt(counts / (counts - 6.0))
    limits: Floats = np.maximum(rejection.corner * np.maximum(own, noise), rejection.smallest)[corners.view_of]
    return limits


def _views_to_remove(work: Work, fits: Mask, rejection: Rejection) -> dict[int, str]:
    corners = work.corners
    view_of = corners.view_of
    total = corners.counts
    good = np.bincount(view_of[fits], minlength=len(total))
    squares = np.bincount(view_of[fits], weights=distances_of(work)[fits] ** 2, minlength=len(total))
    rms = np.sqrt(squares / np.maximum(good, 1))
    typical = float(np.median(rms))
    reasons = {}
    for view in range(len(total)):
        out = int(total[view] - good[view])
        if good[view] < FEWEST_CORNERS or out > rejection.share * total[view]:
            reasons[view] = f"{out} of its {total[view]} corners do not fit: moved, bent or wrongly detected board"
        elif len(total) > 3 and rms[view] > max(rejection.view * typical, rejection.smallest):
            reasons[view] = f"RMS {rms[view]:.2f} px against {typical:.2f} px of the others: blurred or moving board"
    # Never more than a half at once: were so many wrong, the solution is, and not they.
    if len(reasons) > len(total) // 2:
        return {}
    return reasons


def _result(
    work: Work, kept: Mask, normal: Normal, size: tuple[int, int], names: tuple[str, ...], bow: bool
) -> Calibration:
    all_residuals = residuals(work.model, work.corners, work.state)
    corners = work.corners.keep(kept)
    inner = all_residuals[:, kept]
    squares = float(np.sum(inner**2))
    count = inner.shape[1]
    unknowns = work.free.shape[1] + 6 * len(corners.names)
    noise = noise_of(squares, count, unknowns)
    full = work.free @ shared_covariance(normal, noise) @ work.free.T
    full_names = (*INTRINSICS, *DISTORTION[work.model], *BOW)
    rows = [full_names.index(name) for name in names]
    view_of = work.corners.view_of
    outliers = tuple(
        Outlier(
            work.corners.names[view_of[index]],
            int(work.corners.ids[index]),
            (float(all_residuals[0, index]), float(all_residuals[1, index])),
        )
        for index in np.flatnonzero(~kept)
    )
    parts = [slice(a, b) for a, b in pairwise(corners.starts)]
    parameters = work.state.shared[:-2]
    return Calibration(
        model=work.model,
        image_size=size,
        K=matrix_of(parameters),
        D=parameters[4:].copy(),
        names=names,
        covariance=full[np.ix_(rows, rows)],
        views=corners.names,
        rotations=rotation_vectors(work.state.rotations),
        translations=work.state.translations.copy(),
        ids=tuple(corners.ids[part] for part in parts),
        pixels=tuple(np.ascontiguousarray(corners.pixels[:, part].T) for part in parts),
        residuals=tuple(np.ascontiguousarray(inner[:, part].T) for part in parts),
        rms=float(np.sqrt(squares / max(count, 1))),
        noise=noise,
        outliers=outliers,
        removed=tuple(work.removed),
        bow=work.state.shared[-2:].copy() if bow else None,
        iterations=work.iterations,
        notes=_notes(work, size),
        pose_sigmas=pose_sigmas(normal, noise),
    )


def _notes(work: Work, size: tuple[int, int]) -> tuple[str, ...]:
    rays = unproject(work.model, work.state.shared[:-2], corner_pixels(size))
    if np.all(np.isfinite(rays)):
        return ()
    return (
        f"{work.model} folds back before the image's corners: what is seen there has no direction. "
        "Cover the corners with the board, or take a leaner model",
    )
