"""The problem of a rig: its unknowns, their first guess, a fit, and the views that do not belong to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.initial import other_poses, pose_guess
from edge_vision.calibration.levenberg import Normal, minimise
from edge_vision.calibration.models import cross_matrices, parameters_of, rotation_matrices
from edge_vision.calibration.residuals import Corners, State, blocks, refine_poses, residuals
from edge_vision.calibration.result import DISTORTION, INTRINSICS, Calibration, CalibrationError
from edge_vision.calibration.views import View

Floats = NDArray[np.float64]

FEWEST_PAIRS = 3
_REMOVE = 3.0  # times the median RMS: a view of one camera that is so far off is removed


@dataclass(frozen=True, eq=False)
class Rig:
    """A point of the search."""

    shared: tuple[Floats, ...]
    """Of each camera, its parameters and the bow."""
    R: Floats
    """(C, 3, 3) from the reference camera."""
    t: Floats
    """(C, 3) m"""
    board_R: Floats
    """(V, 3, 3) board to reference camera."""
    board_t: Floats
    """(V, 3)"""

    def seen_by(self, camera: int) -> State:
        R, t = self.R[camera], self.t[camera]
        return State(self.shared[camera], R @ self.board_R, self.board_t @ R.T + t)


@dataclass(frozen=True, eq=False)
class Problem:
    models: tuple[str, ...]
    corners: tuple[Corners, ...]
    free: tuple[NDArray[np.int64], ...]
    """Of each camera, which of its shared parameters are unknowns."""

    @property
    def offsets(self) -> list[int]:
        """Where each camera's unknowns begin: intrinsics, then 6 of its place but for the first. One more: the end."""
        sizes = [len(free) + (6 if camera else 0) for camera, free in enumerate(self.free)]
        return np.concatenate([[0], np.cumsum(sizes)]).astype(int).tolist()

    def normal(self, rig: Rig, huber: float = np.inf) -> Normal:
        offsets, views = self.offsets, len(rig.board_R)
        n = offsets[-1]
        H, cross, poses = np.zeros((n, n)), np.zeros((views, n, 6)), np.zeros((views, 6, 6))
        g, g_poses, cost = np.zeros(n), np.zeros((views, 6)), 0.0
        for camera, model in enumerate(self.models):
            products, costs = blocks(model, self.corners[camera], rig.seen_by(camera), huber)
            cost += float(costs.sum())
            own = len(rig.shared[camera])
            R = rig.R[camera]
            to_board = np.zeros((6, 6))  # a small motion of the board in the reference's frame, as this camera has it
            to_board[:3, :3] = to_board[3:, 3:] = R
            left = np.zeros((views, own + 6, offsets[camera + 1] - offsets[camera]))
            left[:, self.free[camera], np.arange(len(self.free[camera]))] = 1.0
            if camera:  # exp(w) R_c moves a board at R_c t_v by w x R_c t_v too
                left[:, own : own + 3, -6:-3] = left[:, own + 3 :, -3:] = np.eye(3)
                left[:, own + 3 :, -6:-3] = -cross_matrices(rig.board_t @ R.T)
            part = slice(offsets[camera], offsets[camera + 1])
            inner = products[:, :-1, :-1] @ left
            H[part, part] += np.sum(left.transpose(0, 2, 1) @ inner, axis=0)
            cross[:, part] += inner[:, own:].transpose(0, 2, 1) @ to_board
            poses += to_board.T @ products[:, own:-1, own:-1] @ to_board
            g[part] += np.sum(left.transpose(0, 2, 1) @ products[:, :-1, -1:], axis=0)[:, 0]
            g_poses += products[:, own:-1, -1] @ to_board
        return Normal(H, cross, poses, g, g_poses, cost)

    def move(self, rig: Rig, d_shared: Floats, d_poses: Floats) -> Rig:
        offsets = self.offsets
        shared, R, t = [], rig.R.copy(), rig.t.copy()
        for camera, free in enumerate(self.free):
            moved = rig.shared[camera].copy()
            step = d_shared[offsets[camera] : offsets[camera + 1]]
            moved[free] += step[: len(free)]
            shared.append(moved)
            if camera:
                R[camera] = rotation_matrices(step[-6:-3])[0] @ R[camera]
                t[camera] = t[camera] + step[-3:]
        turned = rotation_matrices(d_poses[:, :3]) @ rig.board_R
        return Rig(tuple(shared), R, t, turned, rig.board_t + d_poses[:, 3:])

    def distances(self, rig: Rig) -> list[Floats]:
        parts = zip(self.models, self.corners, strict=True)
        return [np.hypot(*residuals(model, corners, rig.seen_by(c))) for c, (model, corners) in enumerate(parts)]


def start_of(
    names: list[str],
    kept: Mapping[str, Mapping[str, View]],
    instants: list[str],
    points: Floats,
    calibrations: Mapping[str, Calibration],
    joint: bool,
) -> tuple[Problem, Rig]:
    models = tuple(calibrations[name].model for name in names)
    corners, shared, free, own = [], [], [], []
    for name in names:
        calibration = calibrations[name]
        size = calibration.image_size
        empty = (np.zeros(0, np.int64), np.zeros((0, 2)), size)
        all_views = [kept[name].get(instant, View(instant, *empty)) for instant in instants]
        bow = np.zeros(2) if calibration.bow is None else calibration.bow
        shared.append(np.concatenate([parameters_of(calibration.model, calibration.K, calibration.D), bow]))
        corners.append(Corners.of(all_views, points))
        listed = (*INTRINSICS, *DISTORTION[calibration.model])
        chosen = [index for index, term in enumerate(listed) if joint and term in calibration.names]
        free.append(np.array(chosen, np.int64))
        own.append(_board_poses(calibration.model, corners[-1], shared[-1]))
    problem = Problem(models, tuple(corners), tuple(free))
    seen = check_links(names, problem, instants)
    R, t = _places(names, own, seen)
    board_R, board_t = np.tile(np.eye(3), (len(instants), 1, 1)), np.zeros((len(instants), 3))
    for view in range(len(instants)):
        camera = int(np.flatnonzero(seen[:, view])[0])
        board_R[view] = R[camera].T @ own[camera].rotations[view]
        board_t[view] = R[camera].T @ (own[camera].translations[view] - t[camera])
    return problem, Rig(tuple(shared), R, t, board_R, board_t)


def _board_poses(model: str, corners: Corners, shared: Floats) -> State:
    """(V) poses of the board in one camera; those of instants that it did not see mean nothing."""
    seen = corners.counts > 0
    some = corners.keep_views(seen)
    state, costs = refine_poses(model, some, pose_guess(model, some, shared))
    other, other_costs = refine_poses(model, some, other_poses(some, state))
    better = other_costs < costs
    R, t = np.tile(np.eye(3), (len(seen), 1, 1)), np.zeros((len(seen), 3))
    R[seen] = np.where(better[:, None, None], other.rotations, state.rotations)
    t[seen] = np.where(better[:, None], other.translations, state.translations)
    return State(shared, R, t)


def check_links(names: list[str], problem: Problem, instants: list[str]) -> NDArray[np.bool_]:
    """(C, V) who saw what. Raises CalibrationError where a camera is not linked to the reference."""
    seen = np.array([corners.counts > 0 for corners in problem.corners])
    linked = {0}
    while len(linked) < len(names):
        shares = {
            c: max(int((seen[c] & seen[other]).sum()) for other in linked) for c in range(len(names)) if c not in linked
        }
        best = max(shares, key=lambda camera: shares[camera])
        if shares[best] < FEWEST_PAIRS:
            raise CalibrationError(
                f"{names[best]} shares {shares[best]} usable views with the others, {FEWEST_PAIRS} are needed",
                "show the board where both cameras see it, and check that their images are taken at the same time",
            )
        linked.add(best)
    return seen


def _places(names: list[str], own: list[State], seen: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """(C, 3, 3), (C, 3) of each camera from the reference: the relative pose that most instants agree on."""
    R, t = np.tile(np.eye(3), (len(names), 1, 1)), np.zeros((len(names), 3))
    linked = [0]
    while len(linked) < len(names):
        _, camera, partner = max(
            (int((seen[c] & seen[other]).sum()), c, other)
            for c in range(len(names))
            if c not in linked
            for other in linked
        )
        both = seen[camera] & seen[partner]
        turn = own[camera].rotations[both] @ own[partner].rotations[both].transpose(0, 2, 1)
        shift = own[camera].translations[both] - np.einsum("vij,vj->vi", turn, own[partner].translations[both])
        apart = np.linalg.norm(turn[:, None] - turn[None, :], axis=(2, 3))
        scale = max(float(np.median(np.linalg.norm(own[camera].translations[both], axis=1))), 1e-9)
        apart += np.linalg.norm(shift[:, None] - shift[None, :], axis=2) / scale
        middle = int(np.argmin(np.median(apart, axis=1)))
        R[camera] = turn[middle] @ R[partner]
        t[camera] = turn[middle] @ t[partner] + shift[middle]
        linked.append(camera)
    return R, t


def fit(problem: Problem, rig: Rig, *, robust: bool) -> tuple[Rig, Normal]:
    huber = np.inf
    if robust:
        huber = max(2.5 * float(np.nanmedian(np.concatenate(problem.distances(rig)))), 0.1)
        rig, _, _ = minimise(lambda at: problem.normal(at, huber), problem.move, rig, iterations=20, tolerance=1e-3)
        huber = max(2.5 * float(np.nanmedian(np.concatenate(problem.distances(rig)))), 0.1)
    rig, normal, _ = minimise(lambda at: problem.normal(at, huber), problem.move, rig, iterations=50, damping=1e-5)
    return rig, normal


def wrong_views(problem: Problem, rig: Rig) -> list[tuple[int, int, str]]:
    """(camera, view, reason) of views much worse than that camera's others; both of a pair, as none can tell which."""
    instants = len(rig.board_R)
    rms = np.full((len(problem.models), instants), np.nan)
    for camera, distances in enumerate(problem.distances(rig)):
        corners = problem.corners[camera]
        squares = np.bincount(corners.view_of, weights=distances**2, minlength=instants)
        seen = corners.counts > 0
        rms[camera, seen] = np.sqrt(squares[seen] / corners.counts[seen])
    typical = np.nanmedian(rms, axis=1, keepdims=True)
    wrong = np.any(rms > np.maximum(_REMOVE * typical, 0.02), axis=0)
    if 2 * wrong.sum() > instants:
        return []  # were so many wrong, the solution is
    return [
        (
            camera,
            view,
            f"RMS {rms[camera, view]:.2f} px against {typical[camera, 0]:.2f} px: moved between the exposures?",
        )
        for camera in range(len(problem.models))
        for view in np.flatnonzero(wrong & np.isfinite(rms[camera])).tolist()
    ]


def without(problem: Problem, wrong: list[tuple[int, int, str]]) -> Problem:
    corners = []
    for camera, own in enumerate(problem.corners):
        stay = np.ones(len(own.names), bool)
        stay[[view for which, view, _ in wrong if which == camera]] = False
        corners.append(own.keep(stay[own.view_of]))
    return replace(problem, corners=tuple(corners))
