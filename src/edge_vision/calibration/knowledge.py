"""What views tell of a camera: the information they add to its parameters, and what that does to its uncertainty.

The information of a view is that of its corners' Jacobian on the parameters, less what its own unknown pose takes
(the Schur complement): S = (J'J - J'M (M'M)^-1 M'J) / noise². Information of views adds up; covariance is its inverse.
(After Peng, Sturm: Calibration Wizard, ICCV 2019, and Richardson, Strom, Olson: AprilCal, IROS 2013, but scored by the
uncertainty of projection over the image, not by that of the parameters.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import Board
from edge_vision.calibration.difference import image_grid, motion_jacobian
from edge_vision.calibration.models import bow_shape, bowed, rotation_matrices
from edge_vision.calibration.projection import Camera
from edge_vision.calibration.result import BOW, Calibration
from edge_vision.calibration.uncertainty import Propagation, fitted_pixels
from edge_vision.calibration.views import View

Floats = NDArray[np.float64]

ENOUGH_GAIN = 0.02
"""The share by which a view must lower the uncertainty to be worth keeping."""

_NOMINAL_NOISE = 0.2  # px an axis, of corners in a usual image, before a solve has measured it
_PRIOR = {"f": 0.3, "c": 0.1, "k": 0.3, "p": 0.01}
"""One-sigma of a camera nobody has calibrated: shares of the focal length and of the width; coefficients by letter."""


@dataclass(frozen=True, eq=False)
class Knowledge:
    """A camera as it is known now. `uncertainty` says how well, `gain` what a view would add."""

    camera: Camera
    board: Board
    names: tuple[str, ...]
    """The P parameters that are estimated."""
    root: Floats
    """(P, P): root @ root.T is their covariance."""
    noise: float
    """px an axis of a corner"""
    map: Floats
    """(2 K, P): the pixels of a 7x5 grid by the parameters, the camera's motion compensated"""
    bow: Floats | None = None
    """(2,) m as `Calibration.bow`; None where it is not estimated"""

    @property
    def uncertainty(self) -> float:
        """px: the root mean square over the image of projection's one-sigma (2-D)."""
        return float(np.sqrt(2 * np.mean(np.sum((self.map @ self.root) ** 2, axis=1))))

    def gain(self, view: View) -> float:
        """The share, 0 to 1, by which the uncertainty would fall with this view. 0 where it has no pose."""
        return float(self.gains_of(self.information_of(view)[None])[0])

    def gains(self, rotations: Floats, translations: Floats, visible: NDArray[np.bool_] | None = None) -> Floats:
        """(C,) shares by which the uncertainty would fall with one view of the board at each pose.

        rotations (C, 3, 3), translations (C, 3): board to camera; visible: (M,) or (C, M) of the board's points.
        """
        return self.gains_of(self.information(rotations, translations, visible))

    def gains_of(self, information: Floats) -> Floats:
        """(C,) shares by which the uncertainty would fall with each (C, P, P)."""
        whitened = self.root.T @ information @ self.root
        on_map = self.map @ self.root
        after = np.linalg.solve(np.eye(len(self.names)) + whitened, (on_map.T @ on_map)[None])
        return 1 - np.sqrt(np.maximum(np.trace(after, axis1=1, axis2=2), 0) / np.sum(on_map**2))

    def added(self, view: View) -> Knowledge:
        """What is known with this view too; the camera's parameters stay as they are until the next solve."""
        return self.told(self.information_of(view))

    def told(self, information: Floats) -> Knowledge:
        """What is known with (P, P) more of information."""
        values, vectors = np.linalg.eigh(np.eye(len(self.names)) + self.root.T @ information @ self.root)
        return replace(self, root=self.root @ (vectors / np.sqrt(values)))

    def forgotten(self) -> Knowledge:
        """The same camera as if nobody had calibrated it: a wide guess of every parameter."""
        return replace(self, root=_prior(self.camera, self.names, self.board))

    def information_of(self, view: View) -> Floats:
        """(P, P) that a view adds; zeros where it has no pose."""
        pose = locate(self.camera, self.board, view)
        if pose is None:
            return np.zeros((len(self.names), len(self.names)))
        visible = np.isin(np.arange(len(self.board.points)), view.ids)
        return self.information(pose[0][None], pose[1][None], visible)[0]

    def information(self, rotations: Floats, translations: Floats, visible: NDArray[np.bool_] | None) -> Floats:
        """(C, P, P) of ``names``, in 1 over their units squared."""
        H = self.normal_matrices(rotations, translations, visible)
        count = len(self.names)
        # Columns of one size solve safely: fx in px and k3 differ by ten orders.
        scale = np.sqrt(np.maximum(np.diagonal(H, axis1=1, axis2=2), 1e-24))
        H = H / (scale[:, :, None] * scale[:, None, :])
        cross, pose = H[:, :count, count:], H[:, count:, count:] + 1e-12 * np.eye(6)
        S = H[:, :count, :count] - cross @ np.linalg.solve(pose, np.swapaxes(cross, 1, 2))
        S = S * (scale[:, :count, None] * scale[:, None, :count]) / self.noise**2
        return (S + np.swapaxes(S, 1, 2)) / 2

    def normal_matrices(self, rotations: Floats, translations: Floats, visible: NDArray[np.bool_] | None) -> Floats:
        """(C, P + 6, P + 6): J'J of ``names`` and of the pose (a rotation on the left, a translation)."""
        points, by_bow = bowed(self.board.points, self.bow), bow_shape(self.board.points).T
        if visible is None:
            visible = np.ones(len(points), bool)
        visible = np.broadcast_to(visible, (len(rotations), len(points)))
        used = visible.any(axis=0)
        points, by_bow, visible = points[used], by_bow[used], visible[:, used]
        seen = np.einsum("cij,mj->cmi", rotations, points) + translations[:, None]
        flat = seen.reshape(-1, 3)
        _, J, by_point = self.camera.project_with_jacobians(flat)
        parts = [J[..., [self.camera.parameter_names.index(name) for name in self.names if name not in BOW]]]
        if self.bow is not None:
            along = np.broadcast_to(rotations[:, None, :, 2], seen.shape).reshape(-1, 3)
            slopes = np.broadcast_to(by_bow, (len(rotations), *by_bow.shape)).reshape(-1, len(BOW))
            moved = np.einsum("nij,nj->ni", by_point, along)
            parts.append(moved[..., None] * slopes[:, None, [BOW.index(n) for n in self.names if n in BOW]])
        # About the board: else turning it and moving it are nearly one, and inverses lose digits.
        parts.append(motion_jacobian((seen - seen.mean(axis=1, keepdims=True)).reshape(-1, 3), by_point))
        both = np.concatenate(parts, axis=-1)
        both = both.reshape(len(rotations), len(points), 2, len(self.names) + 6)
        good = visible & np.isfinite(both).all(axis=(2, 3))
        both = np.where(good[..., None, None], both, 0.0).reshape(len(rotations), -1, both.shape[-1])
        return np.swapaxes(both, 1, 2) @ both


def known_from(calibration: Calibration, board: Board) -> Knowledge:
    """What a solve left."""
    camera = Camera.of(calibration)
    # Of the correlations: fx in px and k3 differ by ten orders.
    sigmas = np.sqrt(np.maximum(np.diag(calibration.covariance), 1e-300))
    values, vectors = np.linalg.eigh(calibration.covariance / np.outer(sigmas, sigmas))
    root = sigmas[:, None] * vectors * np.sqrt(np.maximum(values, 0))
    propagation = Propagation(camera, fitted_pixels(calibration))
    return Knowledge(
        camera,
        board,
        calibration.names,
        root,
        max(calibration.noise, 0.02),
        _map(propagation, calibration.names),
        calibration.bow,
    )


def known_before(
    image_size: tuple[int, int], board: Board, views: Sequence[View] = (), model: str = "plumb_bob"
) -> Knowledge:
    """What is known before the first solve: a usual lens (60 degrees wide; equidistant: 120), and these views."""
    camera = Camera.nominal(image_size, model)
    coefficients = ("k1", "k2", "p1", "p2") if model != "equidistant" else ("k1", "k2")
    names = ("fx", "fy", "cx", "cy", *coefficients)
    root = _prior(camera, names, board)
    propagation = Propagation(camera, None)
    knowledge = Knowledge(camera, board, names, root, _NOMINAL_NOISE, _map(propagation, names))
    for view in views:
        knowledge = knowledge.added(view)
    return knowledge


def locate(camera: Camera, board: Board, view: View) -> tuple[Floats, Floats] | None:
    """Rotation (3, 3) and translation (3,) m of the board in the camera's frame; None where the view has no pose."""
    import cv2

    rays = camera.unproject(view.pixels)
    ahead = np.isfinite(rays).all(axis=1) & (rays[:, 2] > 0.05)
    if ahead.sum() < 4:
        return None
    normalised = np.ascontiguousarray(rays[ahead, :2] / rays[ahead, 2:])
    points = np.ascontiguousarray(board.points[view.ids[ahead]])
    try:
        found, rotation, translation = cv2.solvePnP(
            points, normalised, np.eye(3), None, flags=cv2.SOLVEPNP_IPPE if len(points) > 4 else cv2.SOLVEPNP_SQPNP
        )
    except cv2.error:
        return None
    if not found or not np.isfinite(translation).all() or translation[2, 0] <= 0:
        return None
    return rotation_matrices(rotation.ravel())[0], np.asarray(translation, np.float64).ravel()


def _prior(camera: Camera, names: tuple[str, ...], board: Board) -> Floats:
    """(P, P) root of the covariance of a camera that nobody has calibrated."""
    focal, bent = camera.parameters[0], 0.005 * float(np.ptp(board.points, axis=0).max())
    sigmas = {"f": _PRIOR["f"] * focal, "c": _PRIOR["c"] * camera.image_size[0], "b": bent}
    root = np.diag([sigmas.get(name[0], _PRIOR.get(name[0], 1.0)) for name in names])
    if names[:2] == ("fx", "fy"):  # one unknown scale and a small difference, not two unknowns
        root[:2, :2] = sigmas["f"] * np.array([[1.0, 0.02], [1.0, -0.02]])
    return root


def _map(propagation: Propagation, names: tuple[str, ...]) -> Floats:
    """(70, P): the grid's pixels by ``names``; those the model has no ray for are left out."""
    J = propagation(image_grid(propagation.camera.image_size, 7, 5)).reshape(-1, 2, len(propagation.camera.parameters))
    J = J[np.isfinite(J).all(axis=(1, 2))]
    rows = J.reshape(-1, J.shape[-1])
    result = np.zeros((len(rows), len(names)))
    for column, name in enumerate(names):
        if name not in BOW:
            result[:, column] = rows[:, propagation.camera.parameter_names.index(name)]
    return result


def depth_correlations(knowledge: Knowledge, calibration: Calibration) -> Floats:
    """(V,) between fx and the distance along the axis of each view's board: near 1 means that the views cannot tell a
    longer focal length from a board farther away (tilted boards can)."""
    result = np.zeros(len(calibration.views))
    covariance = knowledge.root @ knowledge.root.T
    if "fx" not in knowledge.names:
        return result
    fx = knowledge.names.index("fx")
    rotations = rotation_matrices(calibration.rotations)
    for index, ids in enumerate(calibration.ids):
        visible = np.isin(np.arange(len(knowledge.board.points)), ids)
        H = knowledge.normal_matrices(rotations[index : index + 1], calibration.translations[index][None], visible)[0]
        count = len(knowledge.names)
        pose = np.linalg.inv(H[count:, count:])
        follow = -pose @ H[count:, :count]  # how the pose follows the parameters
        depth = 5
        variance = pose[depth, depth] * knowledge.noise**2 + follow[depth] @ covariance @ follow[depth]
        result[index] = (follow[depth] @ covariance[:, fx]) / np.sqrt(max(variance * covariance[fx, fx], 1e-300))
    return result
