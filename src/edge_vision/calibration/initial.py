"""A first guess of intrinsics and poses, for lenses from tele to fisheye, without one from the user.

Zhang's closed form (2000) takes a homography for each view, which a wide lens bends out of shape. Here the focal length
is looked for instead, under both ideal projections (pinhole r = f tan a, equidistant r = f a): each candidate turns
corners into rays, rays give each view's pose linearly, and the candidate whose poses project best is taken. The
coefficients of the model asked for are then fitted to that projection.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.models import project, unproject
from edge_vision.calibration.residuals import Corners, State, refine_poses, to_camera
from edge_vision.calibration.result import DISTORTION

Floats = NDArray[np.float64]

_LADDER = {"equidistant": 0.2 * 1.4 ** np.arange(5), "plumb_bob": 0.4 * 1.4 ** np.arange(9)}
"""Focal lengths to try, over the image's longer side: equidistant from 0.2 (fisheye of 280 degrees) to 0.77, beyond
which it is no different from a pinhole, and that from 0.4 to 5.9 (10 degrees)."""


def initial_guess(corners: Corners, image_size: tuple[int, int], *, aspect: float = 1.0) -> tuple[str, State]:
    """plumb_bob or equidistant, whichever fits better undistorted, with f, the centre, and a pose for each view.

    ``aspect`` is fx over fy.
    """
    centre = (np.array(image_size, np.float64) - 1.0) / 2.0
    some = corners.keep_views(most_telling(corners, 16))
    flat = _Flat(some)
    longer = float(max(image_size))

    def score(ideal: str, focal: float) -> float:
        state = _poses_of(ideal, some, _ideal_parameters(ideal, focal, centre, aspect), flat)
        return _typical_error(ideal, some, state)

    scores = {(ideal, f): score(ideal, f * longer) for ideal, ladder in _LADDER.items() for f in ladder}
    ideal, factor = min(scores, key=lambda candidate: scores[candidate])
    focal = _golden(lambda f: score(ideal, f), factor * longer / 1.4, factor * longer * 1.4)

    ideal_parameters = _ideal_parameters(ideal, focal, centre, aspect)
    state = _poses_of(ideal, corners, ideal_parameters, _Flat(corners))
    state, _ = refine_poses(ideal, corners, state, huber=_huber(ideal, corners, state), iterations=5)
    return ideal, state


class _Flat:
    """What the linear transform needs of the boards, for many sets of rays: points centred and scaled in each view."""

    def __init__(self, corners: Corners) -> None:
        self.starts = corners.starts
        self.view_of = corners.view_of
        count = len(corners.names)
        self.frames = np.zeros((count, 3, 3))
        for view, (start, end) in enumerate(pairwise(corners.starts.tolist())):
            xy = corners.board[:2, start:end]
            middle = xy.mean(axis=1)
            scale = 1.0 / max(float(np.abs(xy - middle[:, None]).max()), 1e-9)
            self.frames[view] = [[scale, 0, -middle[0] * scale], [0, scale, -middle[1] * scale], [0, 0, 1]]
        scale, x, y = self.frames[self.view_of][:, [0, 0, 1], [0, 2, 2]].T
        self.points = np.stack([scale * corners.board[0] + x, scale * corners.board[1] + y, np.ones_like(x)])
        self.outer = (self.points[:, None] * self.points[None, :]).reshape(9, -1)


def poses_from_rays(corners: Corners, rays: Floats, flat: _Flat | None = None) -> tuple[Floats, Floats]:
    """(V, 3, 3) rotations and (V, 3) translations of flat boards whose corners are seen along unit ``rays`` (3, N).

    The direct linear transform on rays instead of pixels, so that angles beyond 90 degrees are as good as others: the
    H that least squares makes d x (H p) zero, for all corners p of a view. Rays that are NaN do not count.
    """
    flat = flat or _Flat(corners)
    d = np.where(np.isfinite(rays), rays, 0.0)
    across = -(d[:, None] * d[None, :])  # |d x h|^2 = h' (|d|^2 I - d d') h
    across[[0, 1, 2], [0, 1, 2]] += np.sum(d * d, axis=0)
    across = across.reshape(9, -1)
    products = np.stack([across[:, a:b] @ flat.outer[:, a:b].T for a, b in pairwise(flat.starts.tolist())])
    products = products.reshape(-1, 3, 3, 3, 3).transpose(0, 1, 3, 2, 4).reshape(-1, 9, 9)
    _, vectors = np.linalg.eigh(products)
    H = vectors[:, :, 0].reshape(-1, 3, 3)
    seen = np.sum(d * np.einsum("nij,jn->in", H[flat.view_of], flat.points), axis=0)
    before = np.bincount(flat.view_of, weights=seen, minlength=len(H))  # the board is before the lens, not behind it
    H = H * np.where(before < 0, -1.0, 1.0)[:, None, None]
    frames = flat.frames
    H = H @ frames
    scale = 0.5 * (np.linalg.norm(H[:, :, 0], axis=1) + np.linalg.norm(H[:, :, 1], axis=1))
    H /= np.maximum(scale, 1e-300)[:, None, None]
    axes = np.stack([H[:, :, 0], H[:, :, 1], np.cross(H[:, :, 0], H[:, :, 1])], axis=2)
    left, _, right = np.linalg.svd(axes)
    handed = np.linalg.det(left @ right)
    left[:, :, 2] *= handed[:, None]
    return left @ right, H[:, :, 2]


def pose_guess(model: str, corners: Corners, shared: Floats) -> State:
    """A pose for each view with known intrinsics. ``shared`` is [fx, fy, cx, cy, *D, bow_x, bow_y]."""
    rays = unproject(model, shared[:-2], corners.pixels.T)
    rotations, translations = poses_from_rays(corners, rays.T)
    return State(shared, rotations, translations)


def other_poses(corners: Corners, state: State) -> State:
    """The second solution that a small or distant flat board has: tilted the other way about its line of sight."""
    middle = np.array([corners.board[:, a:b].mean(axis=1) for a, b in pairwise(corners.starts)])
    centre = np.einsum("vij,vj->vi", state.rotations, middle) + state.translations
    sight = centre / np.maximum(np.linalg.norm(centre, axis=1, keepdims=True), 1e-12)
    mirror = np.eye(3) - 2.0 * sight[:, :, None] * sight[:, None, :]
    rotations = mirror @ state.rotations @ np.diag([1.0, 1.0, -1.0])
    return State(state.shared, rotations, centre - np.einsum("vij,vj->vi", rotations, middle))


def _ideal_parameters(ideal: str, focal: float, centre: Floats, aspect: float) -> Floats:
    return np.concatenate([[focal * aspect, focal], centre, np.zeros(len(DISTORTION[ideal]))])


def _poses_of(ideal: str, corners: Corners, parameters: Floats, flat: _Flat) -> State:
    xy = (corners.pixels - parameters[2:4, None]) / parameters[:2, None]
    if ideal == "equidistant":
        angle = np.hypot(*xy)
        rays = np.stack([*(xy * np.sinc(angle / np.pi)), np.cos(angle)])
    else:
        rays = np.stack([*xy, np.ones(xy.shape[1])])
        rays /= np.linalg.norm(rays, axis=0)
    rotations, translations = poses_from_rays(corners, rays, flat)
    return State(np.concatenate([parameters, [0.0, 0.0]]), rotations, translations)


def _typical_error(ideal: str, corners: Corners, state: State) -> float:
    """The median view's RMS, px: a few wrong views do not decide. A little of the mean tells equals apart."""
    points, _, _ = to_camera(corners, state)
    radius = np.hypot(points[0], points[1])
    if ideal == "equidistant":
        scale = np.arctan2(radius, points[2]) / np.maximum(radius, 1e-12)
    else:
        scale = np.where(points[2] > 1e-9, 1.0 / np.where(points[2] > 1e-9, points[2], 1.0), 1e6)
    parameters = state.shared
    off = parameters[:2, None] * (points[:2] * scale) + parameters[2:4, None] - corners.pixels
    sums = np.bincount(corners.view_of, weights=off[0] ** 2 + off[1] ** 2, minlength=len(corners.names))
    errors = np.minimum(np.sqrt(sums / np.maximum(corners.counts, 1)), 1e4)
    return float(np.median(errors) + 0.01 * np.mean(errors))


def _huber(ideal: str, corners: Corners, state: State) -> float:
    return max(2.0 * _typical_error(ideal, corners, state), 1.0)


def most_telling(corners: Corners, count: int = 40) -> NDArray[np.bool_]:
    """(V,) True for the views that say most about the lens: with corners over a large part of the image."""
    extent = [np.prod(np.ptp(corners.pixels[:, a:b], axis=1)) for a, b in pairwise(corners.starts)]
    chosen = np.zeros(len(extent), bool)
    chosen[np.argsort(-np.array(extent), kind="stable")[:count]] = True
    return chosen


def _golden(function: Callable[[float], float], low: float, high: float, steps: int = 6) -> float:
    """Where a function of one bump is least."""
    ratio = (np.sqrt(5.0) - 1.0) / 2.0
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(steps):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return float(left if at_left < at_right else right)


def converted(source: str, target: str, shared: Floats, pixels: Floats, terms: tuple[str, ...]) -> Floats:
    """[fx, fy, cx, cy, *D, bow] of ``target`` that projects as ``source`` does where ``pixels`` (2, N) were seen.

    Only the radial coefficients among ``terms`` are used.
    """
    names = DISTORTION[target]
    coefficients = np.zeros(len(names))
    rays = unproject(source, shared[:-2], pixels.T)
    steepest = 85.0 if target != "equidistant" else 180.0
    angle = np.arctan2(np.hypot(rays[:, 0], rays[:, 1]), rays[:, 2])
    angle = np.linspace(0.02, min(float(np.nanmax(angle)), np.radians(steepest)), 80)
    along = np.stack([np.sin(angle), np.zeros_like(angle), np.cos(angle)], axis=1)
    radial = np.concatenate([[1.0, 1.0, 0.0, 0.0], _radial_only(source, shared[4:-2])])
    wanted = project(source, radial, along)[:, 0]
    if target == "equidistant":
        base = angle
        powers = {f"k{i}": base ** (2 * i + 1) for i in range(1, 5)}
    else:
        base = np.tan(angle)
        powers = {f"k{i}": base ** (2 * i + 1) for i in range(1, 4)}
        powers |= {f"k{i}": -wanted * base ** (2 * (i - 3)) for i in range(4, 7)}
    used = [name for name in names if name in powers and name in terms]
    if used:
        A = np.stack([powers[name] for name in used], axis=1)
        scale = 1.0 / np.linalg.norm(A, axis=0)
        solution = np.linalg.lstsq(A * scale, wanted - base, rcond=1e-10)[0] * scale
        for name, value in zip(used, solution, strict=True):
            coefficients[names.index(name)] = value
    return np.concatenate([shared[:4], coefficients, shared[-2:]])


def _radial_only(model: str, D: Floats) -> Floats:
    return np.array([0.0 if name.startswith("p") else d for name, d in zip(DISTORTION[model], D, strict=True)])
