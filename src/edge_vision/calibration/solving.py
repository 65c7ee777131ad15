"""`solve`: intrinsics, poses and the board's bow from views; what does not fit is left out and listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_vision.calibration.covariance import corner_pixels, noise_of, pose_sigmas, shared_covariance
from edge_vision.calibration.initial import converted, initial_guess, most_telling, other_poses, pose_guess
from edge_vision.calibration.levenberg import Normal, minimise
from edge_vision.calibration.models import matrix_of, parameters_of, rotation_matrices, rotation_vectors, unproject
from edge_vision.calibration.residuals import (
    Corners,
    State,
    advance,
    blocks,
    normal_equations,
    refine_poses,
    residuals,
)
from edge_vision.calibration.result import (
    BOW,
    DISTORTION,
    INTRINSICS,
    Calibration,
    CalibrationError,
    Outlier,
    RemovedView,
)
from edge_vision.calibration.views import View

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

DEFAULT_TERMS = {
    "plumb_bob": ("k1", "k2", "p1", "p2"),
    "rational_polynomial": DISTORTION["rational_polynomial"],
    "equidistant": DISTORTION["equidistant"],
}
"""Estimated where nobody says: k3 is left at zero, as it makes the corners uncertain unless they are well covered."""

_MEDIAN = float(np.sqrt(2.0 * np.log(2.0)))  # distance of normal noise of sigma 1 an axis (Rayleigh's median)

FEWEST_CORNERS = 6  # of a view: 12 numbers, of which its own pose takes 6
FEWEST_VIEWS = 3  # Zhang 2000: 4 intrinsics and 2 equations a view, and one to spare


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


@dataclass
class _Work:
    """What the stages of one solve pass on."""

    model: str
    corners: Corners
    state: State
    free: Floats
    prior: Floats
    removed: list[RemovedView] = field(default_factory=list)
    iterations: int = 0

    def fit(self, corners: Corners, *, free: Floats | None = None, huber: float = np.inf, **limits: float) -> Normal:
        chosen = self.free if free is None else free

        def evaluate(state: State) -> Normal:
            return normal_equations(self.model, corners, state, chosen, self.prior, huber)

        def move(state: State, d_free: Floats, d_poses: Floats) -> State:
            return advance(state, chosen @ d_free, d_poses)

        self.state, normal, count = minimise(
            evaluate,
            move,
            self.state,
            iterations=int(limits.get("iterations", 60)),
            tolerance=limits.get("tolerance", 1e-9),
            damping=limits.get("damping", 1e-3),
        )
        self.iterations += count
        return normal

    def remove(self, reasons: Mapping[int, str]) -> Mask:
        """Takes views out, by their index; the mask of those that stay."""
        stay = np.ones(len(self.corners.names), bool)
        for view, reason in reasons.items():
            stay[view] = False
            self.removed.append(RemovedView(self.corners.names[view], reason))
        if reasons:
            self.corners = self.corners.keep_views(stay)
            self.state = self.state.keep_views(stay)
        return stay


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
    terms = _check_terms(model, terms, fix)
    size = _check(views, points)
    usable, removed = _usable(views, points)
    _enough(usable, removed, views, fewest=1 if fix or start else FEWEST_VIEWS)
    corners = Corners.of(usable, points)
    free, names = _free(model, terms, fix, aspect, bow)
    prior = np.zeros(len(free))
    if bow:
        extent = float(np.ptp(points[:, :2], axis=0).max())
        prior[-2:] = (0.25 / (0.005 * extent)) ** 2  # 0.25 px of residual for 0.5 % of the board's length
    work = _Work(model, corners, _start(model, corners, size, terms, fix, aspect, start), free, prior, removed)
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
        state = _coarse(_Work(ideal, few, state, _free(ideal, ("k1", "k2"), {}, aspect, False)[0], np.zeros(10)))
    shared = converted(ideal, model, state.shared, few.pixels, terms)
    for name, value in fix.items():
        shared[all_names.index(name)] = value
    state = State(shared, state.rotations, state.translations)
    few, state = _projectable(model, few, state)
    free, _ = _free(model, terms, fix, aspect, False)
    state = _coarse(_Work(model, few, state, free, np.zeros(len(free))))
    if len(few.names) == len(corners.names):
        return state
    return refine_poses(
        model,
        corners,
        pose_guess(model, corners, state.shared),
        huber=10.0 * _huber_of(model, few, state),
        iterations=4,
    )[0]


def _coarse(work: _Work) -> State:
    """From an ideal projection to the model's: few parameters first, then all, with the better pose of each view."""
    few = _without(work.free, keep=(0, 1, 4))  # focal lengths and k1
    work.fit(work.corners, free=few, huber=_huber(work), iterations=12, tolerance=1e-2)
    _turn(work)
    work.fit(work.corners, huber=_huber(work), iterations=15, tolerance=1e-2)
    return work.state


def _approach(work: _Work, *, cold: bool, rejection: Rejection | None) -> None:
    """From the start to the robust solution of all views."""
    _, costs = blocks(work.model, work.corners, work.state)
    work.remove(
        {
            int(view): f"a corner lies where {work.model} cannot project to (90 degrees or more from the axis)"
            for view in np.flatnonzero(~np.isfinite(costs))
        }
    )
    _enough(work.corners.names, work.removed, work.corners.names, fewest=1)
    if cold and not np.all(most_telling(work.corners)):  # the others had no part in the start
        _turn(work)
    if rejection is not None:
        work.fit(work.corners, huber=_huber(work), iterations=20, tolerance=1e-3, damping=1e-5)
        work.fit(work.corners, huber=_huber(work), iterations=20, tolerance=1e-4, damping=1e-6)


def _settle(work: _Work, rejection: Rejection | None, tolerance: float) -> tuple[Mask, Normal]:
    """Least squares on what fits, again until what fits does not change; which corners were kept."""
    kept = np.ones(work.corners.board.shape[1], bool)
    if rejection is None:
        return kept, work.fit(work.corners, tolerance=tolerance, damping=1e-5)
    noise = float(np.median(_distances(work))) / _MEDIAN
    for attempt in range(10):
        fits = _distances(work) <= _limits(work, noise, rejection)
        reasons = _views_to_remove(work, fits, rejection)
        if attempt and not reasons and np.array_equal(fits, kept):
            break
        if reasons:
            view_of = work.corners.view_of
            fits = fits[work.remove(reasons)[view_of]]
            _enough(work.corners.names, work.removed, work.corners.names, fewest=1)
        kept = fits
        normal = work.fit(work.corners.keep(kept), tolerance=1e-4, damping=1e-6)
        noise = _noise(work, kept)
    normal = work.fit(work.corners.keep(kept), tolerance=tolerance, damping=1e-7)
    return kept, normal


def _limits(work: _Work, noise: float, rejection: Rejection) -> Floats:
    """(N,) px: how far off a corner may be: by the noise of all, or of its own view where that is more.

    A view out of focus, or where the model bends a little otherwise than the lens, has large residuals that belong
    together: they are no outliers, and without them the solution would only look better.
    """
    corners = work.corners
    distances = _distances(work)
    own = np.array([np.median(distances[a:b]) if b > a else 0.0 for a, b in pairwise(corners.starts)])
    counts = np.maximum(2.0 * corners.counts, 7.0)
    own = own / _MEDIAN * np.sqrt(counts / (counts - 6.0))
    limits: Floats = np.maximum(rejection.corner * np.maximum(own, noise), rejection.smallest)[corners.view_of]
    return limits


def _views_to_remove(work: _Work, fits: Mask, rejection: Rejection) -> dict[int, str]:
    corners = work.corners
    view_of = corners.view_of
    total = corners.counts
    good = np.bincount(view_of[fits], minlength=len(total))
    squares = np.bincount(view_of[fits], weights=_distances(work)[fits] ** 2, minlength=len(total))
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
    work: _Work, kept: Mask, normal: Normal, size: tuple[int, int], names: tuple[str, ...], bow: bool
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


def _notes(work: _Work, size: tuple[int, int]) -> tuple[str, ...]:
    rays = unproject(work.model, work.state.shared[:-2], corner_pixels(size))
    if np.all(np.isfinite(rays)):
        return ()
    return (
        f"{work.model} folds back before the image's corners: what is seen there has no direction. "
        "Cover the corners with the board, or take a leaner model",
    )


# --- checks ----------------------------------------------------------------------------------------------------------


def _check_terms(model: str, terms: Sequence[str] | None, fix: Mapping[str, float]) -> tuple[str, ...]:
    if model not in DISTORTION:
        raise CalibrationError(f"unknown camera model '{model}'", f"use one of {', '.join(DISTORTION)}")
    chosen = DEFAULT_TERMS[model] if terms is None else tuple(terms)
    unknown = [name for name in chosen if name not in DISTORTION[model]]
    unknown += [name for name in fix if name not in (*INTRINSICS, *DISTORTION[model])]
    if unknown:
        raise CalibrationError(
            f"{model} has no {', '.join(unknown)}", f"it has {', '.join((*INTRINSICS, *DISTORTION[model]))}"
        )
    return tuple(chosen)


def _check(views: Sequence[View], points: Floats) -> tuple[int, int]:
    if not views:
        raise CalibrationError("there are no views", f"show the board from at least {FEWEST_VIEWS} directions")
    if np.ptp(points[:, 2]) > 1e-9:
        raise CalibrationError("the board's points are not in one plane", "a bent board is described flat, with bow")
    sizes: dict[tuple[int, int], str] = {}
    for view in views:
        sizes.setdefault((int(view.image_size[0]), int(view.image_size[1])), view.name)
        if len(view.ids) and not 0 <= view.ids.min() <= view.ids.max() < len(points):
            raise CalibrationError(
                f"corner {view.ids.max()} of a board of {len(points)}", "detect with the same board", view.name
            )
        if not np.all(np.isfinite(view.pixels)):
            raise CalibrationError("a corner is not finite", "detect the view again", view.name)
    if len(sizes) > 1:
        listed = ", ".join(f"{w}x{h} ({name})" for (w, h), name in sizes.items())
        raise CalibrationError(f"images of different sizes: {listed}", "calibrate each size for itself")
    return next(iter(sizes))


def _usable(views: Sequence[View], points: Floats) -> tuple[list[View], list[RemovedView]]:
    usable, removed = [], []
    for view in views:
        if len(view.ids) < FEWEST_CORNERS:
            removed.append(RemovedView(view.name, f"{len(view.ids)} corners, {FEWEST_CORNERS} are needed"))
        elif _flatness(points[view.ids, :2]) < 0.01 or _flatness(view.pixels) < 0.01:
            removed.append(RemovedView(view.name, "its corners lie on one line"))
        else:
            usable.append(view)
    return usable, removed


def _flatness(xy: Floats) -> float:
    """0 for points on a line to 1 for points spread alike."""
    values = np.linalg.svd(xy - xy.mean(axis=0), compute_uv=False)
    return float(values[1] / max(values[0], 1e-300))


def _enough(left: Sequence[object], removed: Sequence[RemovedView], views: Sequence[object], *, fewest: int) -> None:
    if len(left) < fewest:
        why = f" ({removed[-1].name}: {removed[-1].reason})" if removed else ""
        raise CalibrationError(
            f"{len(left)} usable views, {fewest} are needed{why}",
            "show the board from more directions, tilted 20 to 50 degrees; 15 to 40 views make a good calibration",
        )


# --- parts of the search ---------------------------------------------------------------------------------------------


def _free(
    model: str, terms: tuple[str, ...], fix: Mapping[str, float], aspect: float | None, bow: bool
) -> tuple[Floats, tuple[str, ...]]:
    """(n + 2, q) how the parameters follow from the unknowns, and the names of those that are not held."""
    all_names = (*INTRINSICS, *DISTORTION[model], *BOW)
    wanted = {*INTRINSICS, *terms, *(BOW if bow else ())} - set(fix)
    names = tuple(name for name in all_names if name in wanted)
    columns = [np.eye(len(all_names))[all_names.index(name)] for name in names]
    if aspect is not None and {"fx", "fy"} <= wanted:
        columns[1] = columns[1] + aspect * columns[0]
        columns = columns[1:]
    return np.stack(columns, axis=1) if columns else np.zeros((len(all_names), 0)), names


def _without(free: Floats, keep: tuple[int, ...]) -> Floats:
    """The columns of ``free`` that move only the parameters in ``keep``."""
    others = np.ones(len(free), bool)
    others[list(keep)] = False
    return free[:, ~np.any(free[others] != 0, axis=0)]


def _turn(work: _Work) -> None:
    """Takes the other pose of a view where, refined, it fits clearly better."""
    huber = _huber(work)
    _, costs = blocks(work.model, work.corners, work.state, huber)
    other, other_costs = refine_poses(
        work.model, work.corners, other_poses(work.corners, work.state), huber=huber, iterations=5
    )
    better = other_costs < 0.98 * costs
    if np.any(better):
        work.state = State(
            work.state.shared,
            np.where(better[:, None, None], other.rotations, work.state.rotations),
            np.where(better[:, None], other.translations, work.state.translations),
        )


def _distances(work: _Work) -> Floats:
    return np.hypot(*residuals(work.model, work.corners, work.state))


def _noise(work: _Work, kept: Mask) -> float:
    squares = float(np.sum(_distances(work)[kept] ** 2))
    unknowns = work.free.shape[1] + 6 * len(work.corners.names)
    return noise_of(squares, int(kept.sum()), unknowns)


def _huber(work: _Work) -> float:
    """2.5 sigmas: beyond, distances count instead of their squares."""
    return _huber_of(work.model, work.corners, work.state)


def _huber_of(model: str, corners: Corners, state: State) -> float:
    distances = np.hypot(*residuals(model, corners, state))
    return max(2.5 * float(np.nanmedian(distances)) / _MEDIAN, 0.02)


def _projectable(model: str, corners: Corners, state: State) -> tuple[Corners, State]:
    """Without the views of which the model cannot project a corner."""
    _, costs = blocks(model, corners, state)
    can = np.isfinite(costs)
    return (corners, state) if np.all(can) else (corners.keep_views(can), state.keep_views(can))
