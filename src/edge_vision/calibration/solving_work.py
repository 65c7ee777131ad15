"""What the stages of one solve pass on, and the steps that they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.covariance import noise_of
from edge_vision.calibration.initial import other_poses
from edge_vision.calibration.levenberg import Normal, minimise
from edge_vision.calibration.residuals import Corners, State, advance, blocks, normal_equations, refine_poses, residuals
from edge_vision.calibration.result import BOW, DISTORTION, INTRINSICS, RemovedView

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

MEDIAN = float(np.sqrt(2.0 * np.log(2.0)))  # distance of normal noise of sigma 1 an axis (Rayleigh's median)


@dataclass
class Work:
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


def free_of(
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


def only(free: Floats, keep: tuple[int, ...]) -> Floats:
    """The columns of ``free`` that move only the parameters in ``keep``."""
    others = np.ones(len(free), bool)
    others[list(keep)] = False
    return free[:, ~np.any(free[others] != 0, axis=0)]


def turn(work: Work) -> None:
    """Takes the other pose of a view where, refined, it fits clearly better."""
    huber = huber_limit(work)
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


def distances_of(work: Work) -> Floats:
    return np.hypot(*residuals(work.model, work.corners, work.state))


def noise_in(work: Work, kept: Mask) -> float:
    squares = float(np.sum(distances_of(work)[kept] ** 2))
    unknowns = work.free.shape[1] + 6 * len(work.corners.names)
    return noise_of(squares, int(kept.sum()), unknowns)


def huber_limit(work: Work) -> float:
    """2.5 sigmas: beyond, distances count instead of their squares."""
    return huber_of(work.model, work.corners, work.state)


def huber_of(model: str, corners: Corners, state: State) -> float:
    distances = np.hypot(*residuals(model, corners, state))
    return max(2.5 * float(np.nanmedian(distances)) / MEDIAN, 0.02)


def projectable(model: str, corners: Corners, state: State) -> tuple[Corners, State]:
    """Without the views of which the model cannot project a corner."""
    _, costs = blocks(model, corners, state)
    can = np.isfinite(costs)
    return (corners, state) if np.all(can) else (corners.keep_views(can), state.keep_views(can))
