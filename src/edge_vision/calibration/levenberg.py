"""Levenberg-Marquardt for few shared unknowns and many poses, which are eliminated (Schur complement).

Shared are intrinsics, extrinsics, the board's bow. Each pose of the board (6 unknowns) touches only its own view, so
its block of the normal equations is 6x6, and a step costs what the shared block costs, whatever the number of views.
Source: Triggs et al., "Bundle adjustment - a modern synthesis", 2000, section 6; damping by Nielsen 1999.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
State = TypeVar("State")


@dataclass(frozen=True, eq=False)
class Normal:
    """Normal equations at one point, of residuals r = seen - projected: H = J'J in blocks, and J'r."""

    shared: Floats
    """(n, n)"""
    cross: Floats
    """(V, n, 6)"""
    poses: Floats
    """(V, 6, 6)"""
    g_shared: Floats
    """(n,)"""
    g_poses: Floats
    """(V, 6)"""
    cost: float
    """What is minimised; infinite where the point is no solution (a board behind a camera)."""


def minimise(
    evaluate: Callable[[State], Normal],
    advance: Callable[[State, Floats, Floats], State],
    state: State,
    *,
    iterations: int = 50,
    tolerance: float = 1e-9,
    damping: float = 1e-3,
) -> tuple[State, Normal, int]:
    """The state of least cost near ``state``, the normal equations there, and how many steps were tried.

    Ends when a step lowers the cost by less than ``tolerance`` of it, or none does.
    """
    normal = evaluate(state)
    growth = 2.0
    count = 0
    while count < iterations:
        count += 1
        d_shared, d_poses, predicted = _step(normal, damping)
        trial = advance(state, d_shared, d_poses)
        found = evaluate(trial)
        gain = normal.cost - found.cost
        if np.isfinite(found.cost) and gain > 0 and predicted > 0:
            small = gain <= tolerance * normal.cost
            damping = max(damping * max(1.0 / 3.0, 1.0 - (2.0 * gain / predicted - 1.0) ** 3), 1e-12)
            growth = 2.0
            state, normal = trial, found
            if small:
                break
        else:
            if predicted <= tolerance * normal.cost or damping > 1e12:
                break
            damping *= growth
            growth *= 2.0
    return state, normal, count


def _step(normal: Normal, damping: float) -> tuple[Floats, Floats, float]:
    """Step of the shared unknowns and of the poses (V, 6), and the decrease of cost that the linear model predicts."""
    shared_scale = np.maximum(np.diag(normal.shared), 1e-12 * max(1.0, float(np.trace(normal.shared))))
    poses = normal.poses.copy()
    diagonal = np.arange(6)
    scale = np.maximum(poses[:, diagonal, diagonal], 1e-12)
    poses[:, diagonal, diagonal] += damping * scale
    to_shared = _solve_poses(
        poses, np.concatenate([normal.cross.transpose(0, 2, 1), normal.g_poses[:, :, None]], axis=2)
    )
    reduced = (
        normal.shared
        + np.diag(damping * shared_scale)
        - np.tensordot(normal.cross, to_shared[:, :, :-1], ([0, 2], [0, 1]))
    )
    right = normal.g_shared - np.tensordot(normal.cross, to_shared[:, :, -1], ([0, 2], [0, 1]))
    d_shared = solve_scaled(reduced, right)
    d_poses = to_shared[:, :, -1] - to_shared[:, :, :-1] @ d_shared
    predicted = float(
        d_shared @ (damping * shared_scale * d_shared + normal.g_shared)
        + np.sum(d_poses * (damping * scale * d_poses + normal.g_poses))
    )
    return d_shared, d_poses, predicted


def reduce(normal: Normal) -> tuple[Floats, Floats]:
    """The shared block (n, n) with the poses eliminated, and (V, 6, n): inverse pose block times cross'."""
    to_shared = _solve_poses(normal.poses, normal.cross.transpose(0, 2, 1))
    return normal.shared - np.tensordot(normal.cross, to_shared, ([0, 2], [0, 1])), to_shared


def _solve_poses(poses: Floats, right: Floats) -> Floats:
    """Batched 6x6 solves, scaled: rotations and metres differ by orders of magnitude."""
    scale = 1.0 / np.sqrt(np.maximum(np.diagonal(poses, axis1=1, axis2=2), 1e-300))
    scaled = poses * scale[:, :, None] * scale[:, None, :]
    scaled[:, np.arange(6), np.arange(6)] += 1e-14  # a board seen edge on has no inverse
    solution: Floats = np.linalg.solve(scaled, right * scale[:, :, None]) * scale[:, :, None]
    return solution


def solve_scaled(matrix: Floats, right: Floats) -> Floats:
    """Solution of a symmetric positive (semi-)definite system after scaling its diagonal to ones."""
    if not len(matrix):
        return np.zeros(0)
    scale = 1.0 / np.sqrt(np.maximum(np.abs(np.diag(matrix)), 1e-300))
    scaled = matrix * scale[:, None] * scale[None, :]
    try:
        solution: Floats = scale * np.linalg.solve(scaled, scale * right)
    except np.linalg.LinAlgError:
        solution = scale * (np.linalg.pinv(scaled, rcond=1e-14) @ (scale * right))
    return solution


def invert_scaled(matrix: Floats) -> Floats:
    """Inverse of a symmetric matrix that should be positive definite.

    Directions that the views do not determine get a very large variance instead of an error or a negative one.
    """
    if not len(matrix):
        return matrix.copy()
    scale = 1.0 / np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    values, vectors = np.linalg.eigh(matrix * scale[:, None] * scale[None, :])
    inverse = (vectors / np.maximum(values, 1e-14)) @ vectors.T
    result: Floats = inverse * scale[:, None] * scale[None, :]
    return result
