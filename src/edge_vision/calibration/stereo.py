"""Where cameras stand to each other, from views of one board that they took at the same time.

All cameras and all poses of the board are solved together: a camera's residuals hang on its intrinsics, its place in
the rig and the board's pose at that instant, R_c (R_v x + t_v) + t_c. The board's poses are eliminated as in `solve`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_vision.calibration.covariance import noise_of, shared_covariance
from edge_vision.calibration.levenberg import Normal, invert_scaled, reduce
from edge_vision.calibration.models import (
    matrix_of,
    rotation_vectors,
)
from edge_vision.calibration.residuals import residuals
from edge_vision.calibration.result import (
    DISTORTION,
    INTRINSICS,
    Calibration,
    CalibrationError,
    RemovedView,
    StereoCalibration,
)
from edge_vision.calibration.stereo_geometry import epipolar_distances
from edge_vision.calibration.stereo_rig import Problem, Rig, check_links, fit, start_of, without, wrong_views
from edge_vision.calibration.views import View

Floats = NDArray[np.float64]


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
    problem, rig = start_of(names, kept, instants, points, calibrations, joint)
    rig, normal = fit(problem, rig, robust=True)
    for _ in range(5):
        wrong = wrong_views(problem, rig)
        if not wrong:
            break
        for camera, view, reason in wrong:
            removed.append(RemovedView(f"{names[camera]}: {instants[view]}", reason))
        problem = without(problem, wrong)
        check_links(names, problem, instants)
        rig, normal = fit(problem, rig, robust=False)
    rig, normal = fit(problem, rig, robust=False)
    return _results(names, problem, rig, normal, instants, kept, calibrations, removed, joint)


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


def _results(
    names: list[str],
    problem: Problem,
    rig: Rig,
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


def _from_intrinsics(problem: Problem, rig: Rig, used: NDArray[np.bool_], calibrations: list[Calibration]) -> Floats:
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
    calibration: Calibration, problem: Problem, rig: Rig, camera: int, covariance: Floats, noise: float
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
