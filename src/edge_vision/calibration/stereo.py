"""Where cameras stand to each other, from views of one board that they took at the same time; rectification.

All cameras and all poses of the board are solved together: a camera's residuals hang on its intrinsics, its place in
the rig and the board's pose at that instant, R_c (R_v x + t_v) + t_c. The board's poses are eliminated as in `solve`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_vision.calibration.covariance import noise_of, shared_covariance
from edge_vision.calibration.initial import other_poses, pose_guess
from edge_vision.calibration.levenberg import Normal, invert_scaled, minimise, reduce
from edge_vision.calibration.models import (
    cross_matrices,
    matrix_of,
    parameters_of,
    rotation_matrices,
    rotation_vectors,
    unproject,
)
from edge_vision.calibration.residuals import Corners, State, blocks, refine_poses, residuals
from edge_vision.calibration.result import (
    DISTORTION,
    INTRINSICS,
    Calibration,
    CalibrationError,
    RemovedView,
    StereoCalibration,
)
from edge_vision.calibration.views import View
from edge_vision.datatypes import CameraInfo

Floats = NDArray[np.float64]

FEWEST_PAIRS = 3
_ZERO_DISPARITY = 1024  # CALIB_ZERO_DISPARITY, under another name in cv2.fisheye of each OpenCV: one principal point
_REMOVE = 3.0  # times the median RMS: a view of one camera that is so far off is removed


@dataclass(frozen=True, eq=False)
class Rectification:
    """Of a pair, as ROS and OpenCV have it: rows of the two rectified images see the same."""

    R: tuple[Floats, Floats]
    """(3, 3) each: from the camera's frame to that of its rectified image."""
    P: tuple[Floats, Floats]
    """(3, 4) each; P[1][0, 3] (or [1, 3] of a vertical pair) is -f times the baseline in m."""
    Q: Floats
    """(4, 4): (x, y, disparity, 1) to a point, homogeneous, m."""
    infos: tuple[CameraInfo, CameraInfo]


@dataclass(frozen=True, eq=False)
class _Rig:
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
class _Problem:
    models: tuple[str, ...]
    corners: tuple[Corners, ...]
    free: tuple[NDArray[np.int64], ...]
    """Of each camera, which of its shared parameters are unknowns."""

    @property
    def offsets(self) -> list[int]:
        """Where each camera's unknowns begin: intrinsics, then 6 of its place but for the first. One more: the end."""
        sizes = [len(free) + (6 if camera else 0) for camera, free in enumerate(self.free)]
        return np.concatenate([[0], np.cumsum(sizes)]).astype(int).tolist()

    def normal(self, rig: _Rig, huber: float = np.inf) -> Normal:
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

    def move(self, rig: _Rig, d_shared: Floats, d_poses: Floats) -> _Rig:
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
        return _Rig(tuple(shared), R, t, turned, rig.board_t + d_poses[:, 3:])

    def distances(self, rig: _Rig) -> list[Floats]:
        parts = zip(self.models, self.corners, strict=True)
        return [np.hypot(*residuals(model, corners, rig.seen_by(c))) for c, (model, corners) in enumerate(parts)]


def solve_stereo(
    pairs: Sequence[tuple[View, View]],
    points: ArrayLike,
    first: Calibration,
    second: Calibration,
    *,
    joint: bool = True,
) -> StereoCalibration:
    """Where the second camera stands, ``x_second = R x_first + T``, from views of the board at the same instants.

    The two views of a pair need not show the same corners. ``joint`` refines the intrinsics with it; without, they are
    held, and what their own sigmas mean for the place is added to its covariance. Corners and views that the
    calibrations left out are left out here. Raises CalibrationError.
    """
    names = [f"{a.name} + {b.name}" for a, b in pairs]
    views = {
        "first": {name: pair[0] for name, pair in zip(names, pairs, strict=True)},
        "second": {name: pair[1] for name, pair in zip(names, pairs, strict=True)},
    }
    return solve_rig(views, points, {"first": first, "second": second}, joint=joint)["second"]


def solve_rig(
    views: Mapping[str, Mapping[str, View]],
    points: ArrayLike,
    calibrations: Mapping[str, Calibration],
    *,
    reference: str | None = None,
    joint: bool = True,
) -> dict[str, StereoCalibration]:
    """The place of every camera but ``reference`` (default: the first), by name. ``views`` are by camera and instant.

    Cameras need not all see the board at once: a chain of cameras that do in twos or more is enough. See
    `solve_stereo`. Raises CalibrationError where a camera shares too few instants with the others.
    """
    points = np.asarray(points, np.float64).reshape(-1, 3)
    names = list(views)
    reference = reference or names[0]
    names.sort(key=lambda name: name != reference)
    removed: list[RemovedView] = []
    kept = {name: _kept(views[name], calibrations[name], removed) for name in names}
    instants = sorted({instant for own in kept.values() for instant in own})
    problem, rig = _start(names, kept, instants, points, calibrations, joint)
    rig, normal = _fit(problem, rig, robust=True)
    for _ in range(5):
        wrong = _wrong_views(problem, rig)
        if not wrong:
            break
        for camera, view, reason in wrong:
            removed.append(RemovedView(f"{names[camera]}: {instants[view]}", reason))
        problem = _without(problem, wrong)
        _check_links(names, problem, instants)
        rig, normal = _fit(problem, rig, robust=False)
    rig, normal = _fit(problem, rig, robust=False)
    return _results(names, problem, rig, normal, instants, kept, calibrations, removed, joint)


def rectify(
    stereo: StereoCalibration, *, alpha: float = 0.0, names: tuple[str, str] = ("left", "right")
) -> Rectification:
    """Rectifies a pair (Bouguet's method, by OpenCV). ``alpha`` 0 shows valid pixels only, 1 all of both images.

    Raises CalibrationError where the two are of different size, or one is equidistant and the other is not.
    """
    one, two = stereo.first, stereo.second
    if one.image_size != two.image_size:
        raise CalibrationError(f"images of {one.image_size} and {two.image_size}", "use cameras of the same size")
    wide = [each.model == "equidistant" for each in (one, two)]
    if wide[0] != wide[1]:
        raise CalibrationError(f"a pair of {one.model} and {two.model}", "calibrate both with the same model")
    T = stereo.T.reshape(3, 1)
    if wide[0]:
        R1, R2, P1, P2, Q = cv2.fisheye.stereoRectify(
            one.K,
            one.D.reshape(4, 1),
            two.K,
            two.D.reshape(4, 1),
            one.image_size,
            stereo.R,
            T,
            flags=_ZERO_DISPARITY,
            balance=alpha,
        )
    else:
        R1, R2, P1, P2, Q = cv2.stereoRectify(
            one.K, one.D, two.K, two.D, one.image_size, stereo.R, T, flags=_ZERO_DISPARITY, alpha=alpha
        )[:5]
    turns = (np.asarray(R1, np.float64), np.asarray(R2, np.float64))
    projections = (np.asarray(P1, np.float64), np.asarray(P2, np.float64))
    left = replace(one.camera_info(names[0]), R=turns[0], P=projections[0])
    right = replace(two.camera_info(names[1]), R=turns[1], P=projections[1])
    return Rectification(turns, projections, np.asarray(Q, np.float64), (left, right))


def epipolar_distances(stereo: StereoCalibration, first: ArrayLike, second: ArrayLike) -> Floats:
    """(N, 2) px: how far pixels (N, 2) of the same points lie from their partners' epipolar planes, in each camera.

    The angle between ray and plane times the focal length, which for a pinhole camera is the distance from the epipolar
    line in the undistorted image, and holds for a fisheye too.
    """
    rays = [
        unproject(camera.model, parameters_of(camera.model, camera.K, camera.D), pixels)
        for camera, pixels in ((stereo.first, first), (stereo.second, second))
    ]
    turned = rays[0] @ stereo.R.T
    direction = stereo.T / max(stereo.baseline, 1e-12)
    out = np.empty((len(turned), 2))
    for side, (ray, partner, camera) in enumerate(((turned, rays[1], stereo.first), (rays[1], turned, stereo.second))):
        normal = np.cross(direction, partner)
        length = np.maximum(np.linalg.norm(normal, axis=1), 1e-12)
        out[:, side] = np.arcsin(np.clip(np.sum(ray * normal, axis=1) / length, -1, 1)) * np.sqrt(
            camera.K[0, 0] * camera.K[1, 1]
        )
    return out


# --- parts of the search ---------------------------------------------------------------------------------------------


def _kept(views: Mapping[str, View], calibration: Calibration, removed: list[RemovedView]) -> dict[str, View]:
    """Without the views and corners that the camera's own calibration left out."""
    gone = {view.name: view.reason for view in calibration.removed}
    outliers: dict[str, set[int]] = {}
    for outlier in calibration.outliers:
        outliers.setdefault(outlier.view, set()).add(outlier.id)
    kept = {}
    for instant, view in views.items():
        if view.image_size != calibration.image_size:
            raise CalibrationError(
                f"image of {view.image_size}, calibrated at {calibration.image_size}", "use one size", view.name
            )
        if view.name in gone:
            removed.append(RemovedView(instant, f"{view.name}: {gone[view.name]}"))
            continue
        good = np.array([int(each) not in outliers.get(view.name, set()) for each in view.ids], bool)
        if good.sum() >= 6:
            kept[instant] = View(view.name, view.ids[good], view.pixels[good], view.image_size, view.stamp)
    return kept


def _start(
    names: list[str],
    kept: Mapping[str, Mapping[str, View]],
    instants: list[str],
    points: Floats,
    calibrations: Mapping[str, Calibration],
    joint: bool,
) -> tuple[_Problem, _Rig]:
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
    problem = _Problem(models, tuple(corners), tuple(free))
    seen = _check_links(names, problem, instants)
    R, t = _places(names, own, seen)
    board_R, board_t = np.tile(np.eye(3), (len(instants), 1, 1)), np.zeros((len(instants), 3))
    for view in range(len(instants)):
        camera = int(np.flatnonzero(seen[:, view])[0])
        board_R[view] = R[camera].T @ own[camera].rotations[view]
        board_t[view] = R[camera].T @ (own[camera].translations[view] - t[camera])
    return problem, _Rig(tuple(shared), R, t, board_R, board_t)


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


def _check_links(names: list[str], problem: _Problem, instants: list[str]) -> NDArray[np.bool_]:
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


def _fit(problem: _Problem, rig: _Rig, *, robust: bool) -> tuple[_Rig, Normal]:
    huber = np.inf
    if robust:
        huber = max(2.5 * float(np.nanmedian(np.concatenate(problem.distances(rig)))), 0.1)
        rig, _, _ = minimise(lambda at: problem.normal(at, huber), problem.move, rig, iterations=20, tolerance=1e-3)
        huber = max(2.5 * float(np.nanmedian(np.concatenate(problem.distances(rig)))), 0.1)
    rig, normal, _ = minimise(lambda at: problem.normal(at, huber), problem.move, rig, iterations=50, damping=1e-5)
    return rig, normal


def _wrong_views(problem: _Problem, rig: _Rig) -> list[tuple[int, int, str]]:
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


def _without(problem: _Problem, wrong: list[tuple[int, int, str]]) -> _Problem:
    corners = []
    for camera, own in enumerate(problem.corners):
        stay = np.ones(len(own.names), bool)
        stay[[view for which, view, _ in wrong if which == camera]] = False
        corners.append(own.keep(stay[own.view_of]))
    return replace(problem, corners=tuple(corners))


def _results(
    names: list[str],
    problem: _Problem,
    rig: _Rig,
    normal: Normal,
    instants: list[str],
    kept: Mapping[str, Mapping[str, View]],
    calibrations: Mapping[str, Calibration],
    removed: list[RemovedView],
    joint: bool,
) -> dict[str, StereoCalibration]:
    seen = np.array([corners.counts > 0 for corners in problem.corners])
    used = np.any(seen, axis=0)
    poses = Normal(normal.shared, normal.cross[used], normal.poses[used], normal.g_shared, normal.g_poses[used], 0.0)
    distances = problem.distances(rig)
    count = sum(len(each) for each in distances)
    unknowns = problem.offsets[-1] + 6 * int(used.sum())
    noise = noise_of(float(sum(np.sum(each**2) for each in distances)), count, unknowns)
    covariance = shared_covariance(poses, noise)
    if not joint:
        covariance = covariance + _from_intrinsics(problem, rig, used, [calibrations[name] for name in names])
    offsets = problem.offsets
    refined = []
    for camera, name in enumerate(names):
        part = slice(offsets[camera], offsets[camera] + len(problem.free[camera]))
        refined.append(
            _refined(calibrations[name], problem, rig, camera, covariance[part, part], noise)
            if joint
            else calibrations[name]
        )
    results = {}
    for camera in range(1, len(names)):
        both = seen[0] & seen[camera]
        place = slice(offsets[camera + 1] - 6, offsets[camera + 1])
        pairs = tuple(instants[view] for view in np.flatnonzero(both))
        stereo = StereoCalibration(
            R=rig.R[camera],
            T=rig.t[camera],
            covariance=covariance[place, place],
            rms=float(np.sqrt(np.mean(np.concatenate([distances[0], distances[camera]]) ** 2))),
            epipolar_rms=float("nan"),
            pairs=pairs,
            corner_count=0,
            first=refined[0],
            second=refined[camera],
            removed=tuple(removed),
        )
        one, two = _common(kept[names[0]], kept[names[camera]], pairs)
        off = epipolar_distances(stereo, one, two)
        epipolar = float(np.sqrt(np.nanmean(off**2))) if len(off) else float("nan")
        results[names[camera]] = replace(stereo, epipolar_rms=epipolar, corner_count=len(one))
    return results


def _from_intrinsics(problem: _Problem, rig: _Rig, used: NDArray[np.bool_], calibrations: list[Calibration]) -> Floats:
    """What is added to the covariance of the places by that of intrinsics that were held: S C S', S = -H_ee^-1 H_ei."""
    free, known = [], []
    for calibration in calibrations:
        listed = (*INTRINSICS, *DISTORTION[calibration.model])
        free.append(np.array([listed.index(name) for name in calibration.names if name in listed], np.int64))
        rows = [row for row, name in enumerate(calibration.names) if name in listed]
        known.append(calibration.covariance[np.ix_(rows, rows)])
    whole = replace(problem, free=tuple(free))
    normal = whole.normal(rig)
    reduced, _ = reduce(
        Normal(normal.shared, normal.cross[used], normal.poses[used], normal.g_shared, normal.g_poses, 0.0)
    )
    inner = np.zeros(len(reduced), bool)
    C = np.zeros_like(reduced)
    for camera, offset in enumerate(whole.offsets[:-1]):
        part = slice(offset, offset + len(free[camera]))
        inner[part] = True
        C[part, part] = known[camera]
    S = -invert_scaled(reduced[np.ix_(~inner, ~inner)]) @ reduced[np.ix_(~inner, inner)]
    added: Floats = S @ C[np.ix_(inner, inner)] @ S.T
    return added


def _common(one: Mapping[str, View], two: Mapping[str, View], pairs: Sequence[str]) -> tuple[Floats, Floats]:
    """(N, 2) each: the pixels of the corners that both cameras saw."""
    first, second = [np.zeros((0, 2))], [np.zeros((0, 2))]
    for pair in pairs:
        _, a, b = np.intersect1d(one[pair].ids, two[pair].ids, return_indices=True)
        first.append(one[pair].pixels[a])
        second.append(two[pair].pixels[b])
    return np.concatenate(first), np.concatenate(second)


def _refined(
    calibration: Calibration, problem: _Problem, rig: _Rig, camera: int, covariance: Floats, noise: float
) -> Calibration:
    corners = problem.corners[camera]
    state = rig.seen_by(camera)
    seen = corners.counts > 0
    off = residuals(calibration.model, corners, state)
    parts = [slice(a, b) for a, b in zip(corners.starts[:-1], corners.starts[1:], strict=True) if b > a]
    parameters = rig.shared[camera][:-2]
    listed = (*INTRINSICS, *DISTORTION[calibration.model])
    return replace(
        calibration,
        K=matrix_of(parameters),
        D=parameters[4:].copy(),
        names=tuple(listed[index] for index in problem.free[camera]),
        covariance=covariance,
        views=tuple(name for name, there in zip(corners.names, seen, strict=True) if there),
        rotations=rotation_vectors(state.rotations[seen]),
        translations=state.translations[seen],
        ids=tuple(corners.ids[part] for part in parts),
        pixels=tuple(np.ascontiguousarray(corners.pixels[:, part].T) for part in parts),
        residuals=tuple(np.ascontiguousarray(off[:, part].T) for part in parts),
        rms=float(np.sqrt(np.mean(np.sum(off**2, axis=0)))),
        noise=noise,
        pose_sigmas=np.full((int(seen.sum()), 6), np.nan),
    )
