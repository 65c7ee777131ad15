"""What the solvers minimise: the corners of all views in one array, and the normal equations of their residuals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.levenberg import Normal
from edge_vision.calibration.models import bow_shape, project_with_jacobian, rotation_matrices
from edge_vision.calibration.views import View

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Corners:
    """The N corners of V views, view after view. Component-major, as models.py has it."""

    names: tuple[str, ...]
    starts: NDArray[np.int64]
    """(V + 1,) view i has the corners starts[i]:starts[i + 1]."""
    ids: NDArray[np.int64]
    """(N,) rows of the board's points."""
    board: Floats
    """(3, N) m, flat."""
    shape: Floats
    """(2, N) of the bow (models.bow_shape)."""
    pixels: Floats
    """(2, N)"""

    @classmethod
    def of(cls, views: Sequence[View], points: Floats) -> Corners:
        points = np.asarray(points, np.float64)
        counts = [len(view) for view in views]
        ids = np.concatenate([view.ids for view in views]) if views else np.zeros(0, np.int64)
        pixels = np.concatenate([view.pixels for view in views]).T if views else np.zeros((2, 0))
        return cls(
            tuple(view.name for view in views),
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            ids,
            np.ascontiguousarray(points[ids].T),
            np.ascontiguousarray(bow_shape(points)[:, ids]),
            np.ascontiguousarray(pixels),
        )

    @property
    def counts(self) -> NDArray[np.int64]:
        return np.diff(self.starts)

    @property
    def view_of(self) -> NDArray[np.int64]:
        """(N,) the view of each corner."""
        return np.repeat(np.arange(len(self.names)), self.counts)

    def keep(self, corners: NDArray[np.bool_]) -> Corners:
        """Without the corners that are False. Views may become empty; they stay in their places."""
        counts = np.bincount(self.view_of[corners], minlength=len(self.names))
        return replace(
            self,
            starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            ids=self.ids[corners],
            board=np.ascontiguousarray(self.board[:, corners]),
            shape=np.ascontiguousarray(self.shape[:, corners]),
            pixels=np.ascontiguousarray(self.pixels[:, corners]),
        )

    def keep_views(self, views: NDArray[np.bool_]) -> Corners:
        """Only the views that are True, with their corners."""
        kept = self.keep(views[self.view_of])
        return replace(
            kept,
            names=tuple(name for name, stays in zip(self.names, views, strict=True) if stays),
            starts=np.concatenate([[0], np.cumsum(self.counts[views])]).astype(np.int64),
        )


@dataclass(frozen=True, eq=False)
class State:
    """A point of the search."""

    shared: Floats
    """(n + 2,) fx, fy, cx, cy, the coefficients, the bow."""
    rotations: Floats
    """(V, 3, 3) board to camera"""
    translations: Floats
    """(V, 3) m"""

    def keep_views(self, views: NDArray[np.bool_]) -> State:
        return replace(self, rotations=self.rotations[views], translations=self.translations[views])


def to_camera(corners: Corners, state: State) -> tuple[Floats, Floats, Floats]:
    """Points in the camera (3, N), the same before translation (3, N), and the board's normals (3, N)."""
    R = np.repeat(state.rotations.reshape(-1, 9).T, corners.counts, axis=1)
    t = np.repeat(state.translations.T, corners.counts, axis=1)
    x, y, z = corners.board
    z = z + state.shared[-2] * corners.shape[0] + state.shared[-1] * corners.shape[1]
    turned = np.stack([R[row] * x + R[row + 1] * y + R[row + 2] * z for row in (0, 3, 6)])
    return turned + t, turned, R[2::3]


def residuals(model: str, corners: Corners, state: State) -> Floats:
    """(2, N) seen minus projected, px; NaN for a point behind a pinhole camera."""
    points, _, _ = to_camera(corners, state)
    pixels, _, _ = project_with_jacobian(model, state.shared[:-2], points)
    return corners.pixels - pixels


def blocks(model: str, corners: Corners, state: State, huber: float = np.inf) -> tuple[Floats, Floats]:
    """(V, m, m) products of [d/d shared, d/d rotation, d/d translation, residual] summed over each view; costs (V,).

    Rotations are small ones applied on the left, ``exp(w) R``. Corners further off than ``huber`` px weigh less (Huber
    1964, on the 2-D distance), and the cost is Huber's. A view with a point that cannot be projected costs infinity.
    """
    points, turned, normals = to_camera(corners, state)
    pixels, d_shared, d_points = project_with_jacobian(model, state.shared[:-2], points)
    own = d_shared.shape[1]
    count = points.shape[1]
    J = np.empty((2, own + 9, count))
    J[:, :own] = d_shared
    along_normal = d_points[:, 0] * normals[0] + d_points[:, 1] * normals[1] + d_points[:, 2] * normals[2]
    np.multiply(along_normal, corners.shape[0], out=J[:, own])
    np.multiply(along_normal, corners.shape[1], out=J[:, own + 1])
    x, y, z = turned
    J[:, own + 2] = d_points[:, 2] * y - d_points[:, 1] * z
    J[:, own + 3] = d_points[:, 0] * z - d_points[:, 2] * x
    J[:, own + 4] = d_points[:, 1] * x - d_points[:, 0] * y
    J[:, own + 5 : own + 8] = d_points
    J[:, own + 8] = corners.pixels - pixels
    distance2 = np.sum(J[:, own + 8] ** 2, axis=0)
    corner_cost = distance2
    if np.isfinite(huber):
        far = distance2 > huber * huber
        if np.any(far):
            distance = np.sqrt(np.where(far, distance2, 1.0))
            J *= np.where(far, np.sqrt(huber / distance), 1.0)
            corner_cost = np.where(far, huber * (2.0 * distance - huber), distance2)
    starts = corners.starts
    products = np.empty((len(corners.names), own + 9, own + 9))
    for view, (start, end) in enumerate(pairwise(starts.tolist())):
        first, second = J[0, :, start:end], J[1, :, start:end]
        products[view] = first @ first.T + second @ second.T
    sums = np.concatenate([[0.0], np.cumsum(corner_cost)])
    if np.isnan(sums[-1]):
        costs = np.array([corner_cost[a:b].sum() for a, b in pairwise(starts)])
        return products, np.where(np.isnan(costs), np.inf, costs)
    return products, sums[starts[1:]] - sums[starts[:-1]]


def normal_equations(
    model: str, corners: Corners, state: State, free: Floats, prior: Floats, huber: float = np.inf
) -> Normal:
    """`Normal` of all views, for the unknowns q of shared = constant + ``free`` @ q, free (n + 2, q).

    ``prior`` (n + 2,) is a weight on the square of each shared parameter: how strongly it is drawn to zero.
    """
    products, costs = blocks(model, corners, state, huber)
    n = len(state.shared)
    cost = float(costs.sum())
    if not np.isfinite(cost):
        products = np.zeros_like(products)
    shared = products[:, :n, :n].sum(axis=0) + np.diag(prior)
    gradient = products[:, :n, -1].sum(axis=0) - prior * state.shared
    return Normal(
        free.T @ shared @ free,
        np.matmul(free.T, products[:, :n, n:-1]),
        products[:, n:-1, n:-1],
        free.T @ gradient,
        products[:, n:-1, -1],
        cost + float(prior @ state.shared**2),
    )


def advance(state: State, d_shared: Floats, d_poses: Floats) -> State:
    """The state after a step of the shared parameters (n + 2,) and of the poses (V, 6)."""
    return State(
        state.shared + d_shared,
        rotation_matrices(d_poses[:, :3]) @ state.rotations,
        state.translations + d_poses[:, 3:],
    )


def refine_poses(
    model: str, corners: Corners, state: State, *, huber: float = np.inf, iterations: int = 15
) -> tuple[State, Floats]:
    """The state with each view's pose fitted by itself, the shared parameters as they are; costs (V,), px^2."""
    damping = np.full(len(corners.names), 1e-3)
    products, costs = blocks(model, corners, state, huber)
    none = np.zeros_like(state.shared)
    index = np.arange(6)
    for _ in range(iterations):
        H = products[:, -7:-1, -7:-1].copy()
        usable = np.all(np.isfinite(H), axis=(1, 2))
        H[~usable] = np.eye(6)
        scale = 1.0 / np.sqrt(np.maximum(H[:, index, index], 1e-300))
        H *= scale[:, :, None] * scale[:, None, :]
        H[:, index, index] += damping[:, None] + 1e-12
        gradient = np.where(usable[:, None], products[:, -7:-1, -1], 0.0)
        step = scale * np.linalg.solve(H, (scale * gradient)[:, :, None])[:, :, 0]
        trial = advance(state, none, step)
        found, found_costs = blocks(model, corners, trial, huber)
        better = found_costs < costs
        small = ~better
        small[better] = costs[better] - found_costs[better] < 1e-9 * costs[better]
        state = State(
            state.shared,
            np.where(better[:, None, None], trial.rotations, state.rotations),
            np.where(better[:, None], trial.translations, state.translations),
        )
        products = np.where(better[:, None, None], found, products)
        costs = np.where(better, found_costs, costs)
        stuck = small & (better | (damping > 1e3))
        damping = np.where(better, np.maximum(damping * 0.2, 1e-9), damping * 8.0)
        if np.all(stuck | (costs == 0)):
            break
    return state, costs
