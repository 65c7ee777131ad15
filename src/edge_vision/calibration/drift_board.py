"""Is a stored calibration still valid: by a board, of which some views are collected.

Each view's pose is fitted with the stored intrinsics; then the intrinsics are let go too, held only by the wide belief
of `drift.prior_root`, together with the board's bow. The change that results, with its covariance, is what the views
say about the stored numbers: no view alone tells focal length from distance, a few that are tilted do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.boards import Board
from edge_vision.calibration.camera_info_file import size_mismatch
from edge_vision.calibration.difference import motion_jacobian
from edge_vision.calibration.drift import (
    LEAST_CHECKED,
    Check,
    Figure,
    Limits,
    Shift,
    Stored,
    prior_root,
    shift_over_image,
)
from edge_vision.calibration.knowledge import locate
from edge_vision.calibration.models import bow_shape, bowed, rotation_matrices
from edge_vision.calibration.projection import Camera
from edge_vision.calibration.views import View

Floats = NDArray[np.float64]

_BOW = 0.0015  # one sigma of the board's deflection, of its length: 1 mm over 0.7 m was seen at mrcal's
_NOMINAL_NOISE, _LEAST_NOISE = 0.2, 0.03  # px an axis
_SAME_VIEW = 0.02  # of the image's width that corners must have moved, or the board still stands there
_STILL = 0.3  # px that corners may have moved for the view to tell nothing new
_FEWEST_VIEWS = 4  # to say how far the lens has shifted: fewer are too easily explained by it
_WORSE_FIT = 1.5  # times the residuals of the best fit nearby
_WORSE_NOISE = 2.5  # times the noise it was calibrated with
_HUBER = 2.5  # sigmas


@dataclass(frozen=True, eq=False)
class BoardFit:
    """The views fitted with the stored intrinsics, and with intrinsics nearby."""

    change: Floats
    """(n,) of the camera's parameters"""
    root: Floats
    """(n, n): root @ root.T is its covariance, px and 1"""
    noise: float
    """px an axis, of the corners about the best fit nearby"""
    rms_stored: float
    """px, 2-D, with the stored intrinsics"""
    rms: float
    """px, 2-D, with those nearby"""
    excess: float
    """By how many sigmas (of chi squared) the stored ones fit worse than noise lets expect"""
    residuals: Floats
    """(N, 2) px of all views, seen minus projected with the stored intrinsics"""


class BoardCheck:
    """Collects views of a board and judges the stored calibration by them: by the newest ``most`` different views."""

    def __init__(self, stored: Stored, board: Board, limits: Limits | None = None, *, most: int = 24) -> None:
        self.stored = stored
        self.board = board
        self.limits = limits or Limits()
        self.most = most
        self.views: list[View] = []
        self.size: str | None = None
        """What is wrong with the newest image's size, None where it fits."""
        self._judged: tuple[Limits, Check] | None = None

    def add(self, view: View) -> bool:
        """Whether the view can be used: False where it has another size than the calibration, or no pose.

        One of a board that has not moved since tells nothing new, and takes the place of none."""
        self.size = size_mismatch(self.stored.info, *view.image_size)
        if self.size is not None or locate(self.stored.camera, self.board, view) is None:
            return False
        moved = [_moved(each, view) for each in self.views]
        near = _SAME_VIEW * view.image_size[0]
        if min(moved, default=np.inf) > _STILL:
            self.views = [each for each, by in zip(self.views, moved, strict=True) if by > near][-self.most + 1 :]
            self.views.append(view)
            self._judged = None
        return True

    def check(self) -> Check:
        """What the views say so far."""
        if self.size is not None:
            return size_check(self.size, self.stored)
        if not self.views:
            return Check("unknown", "views", "the board was not seen", "show it to the camera, still and evenly lit")
        if self._judged is None or self._judged[0] is not self.limits:
            self._judged = self.limits, judge_board(self.stored, self.board, self.views, self.limits)
        return self._judged[1]


def size_check(mismatch: str, stored: Stored) -> Check:
    """The check of images of another size than the calibration."""
    problem, _, remedy = mismatch.partition(": ")
    return Check("drifted", "size", f"the image size differs, {problem}", remedy, image_size=stored.camera.image_size)


def judge_board(stored: Stored, board: Board, views: Sequence[View], limits: Limits | None = None) -> Check:
    """The verdict on a stored calibration by views (all of its image size) of a board."""
    camera = stored.camera
    limit = (limits or Limits()).scaled(camera.image_size[0]).lens
    located = [(view, pose) for view in views if (pose := locate(camera, board, view)) is not None]
    views, poses = [view for view, _ in located], [pose for _, pose in located]
    if not views:
        return Check(
            "doubtful",
            "fit",
            "the board has no pose that fits the stored calibration",
            "calibrate again",
            (),
            camera.image_size,
        )
    fit = fit_board(camera, board, views, poses, stored.noise)
    pixels = np.concatenate([view.pixels for view in views])
    shift = shift_over_image(stored, fit.change, fit.root, pixels, limit)
    residuals = fit.residuals
    noise = stored.noise if np.isfinite(stored.noise) else float("nan")
    figures = (
        shift.figure,
        Figure("checked share of the image", 100 * shift.share, "%"),
        Figure("views", len(views), ""),
        Figure("RMS with the stored calibration", fit.rms_stored),
        Figure("RMS with the best nearby", fit.rms, limit=_WORSE_NOISE * noise * np.sqrt(2)),
        Figure("pattern of the residuals", pattern(pixels, residuals, camera.image_size)),
        Figure("straightness", straightness(camera, board, views)),
        Figure("straightness with the best nearby", straightness(moved(camera, fit.change), board, views)),
        *parameter_figures(camera, fit.change, fit.root),
    )
    verdict, cause, reason, remedy = _judged(shift, fit, noise, len(views))
    everything = np.ones(len(pixels), bool)
    return Check(verdict, cause, reason, remedy, figures, camera.image_size, pixels, residuals, everything, shift)


def _judged(shift: Shift, fit: BoardFit, noise: float, views: int) -> tuple[str, str, str, str]:
    where = f"over the {shift.share:.0%} of the image that {views} view{'s' if views > 1 else ''} tell of"
    shifted = f"the lens shift is {shift.figure.text} {where}"
    verdict = shift.verdict
    if verdict in ("drifted", "doubtful"):
        if views >= _FEWEST_VIEWS:
            return verdict, "lens", shifted, "calibrate again"
        verdict = "unknown"
    if np.isfinite(noise) and fit.noise > _WORSE_NOISE * max(noise, 0.1):
        return (
            "doubtful",
            "fit",
            f"no calibration near the stored one fits the board: {fit.noise:.2f} px of residual an axis, "
            f"{noise:.2f} px when it was calibrated",
            "look whether the board is flat and its file right, clean the lens, then calibrate again",
        )
    if verdict == "unknown":
        if fit.excess > 6 and fit.rms_stored > _WORSE_FIT * fit.rms:
            return (
                "doubtful",
                "fit",
                f"the board fits the stored calibration by {fit.rms_stored:.2f} px RMS, one nearby by {fit.rms:.2f} px",
                "show more views, tilted and in the image's corners, to see how far it is off; or calibrate again",
            )
        more = "show the board nearer, tilted by 20 to 50 degrees, and in the image's corners"
        if shift.share < LEAST_CHECKED:
            told = f"{views} view{'s' if views > 1 else ''} tell the lens shift in {shift.share:.0%} of the image only"
            return "unknown", "views", told, more
        return "unknown", "views", f"{shifted}, too uncertain to say more", more
    return "valid", "", shifted, ""


# --- the fit ----------------------------------------------------------------------------------------------------------


def fit_board(
    camera: Camera,
    board: Board,
    views: Sequence[View],
    poses: Sequence[tuple[Floats, Floats]],
    stored_noise: float = float("nan"),
) -> BoardFit:
    """Poses with the stored intrinsics, then poses, intrinsics and bow, weighed against what lenses do.

    poses: of each view to begin with, (3, 3) and (3,), board to camera.
    """
    work = _Work(camera, board, views)
    R, t = np.stack([pose[0] for pose in poses]), np.stack([pose[1] for pose in poses])
    first = stored_noise if np.isfinite(stored_noise) else _NOMINAL_NOISE
    zero = np.zeros(work.unknowns)
    R, t, _, _ = work.solve(zero, R, t, first, held=True)
    at_stored = work.residuals(zero, R, t)
    noise, found, H = first, zero, np.eye(work.unknowns)
    for _ in range(2):  # the second time with the noise that the first has found
        R, t, found, H = work.solve(found, R, t, noise, held=False)
        left = work.residuals(found, R, t)
        noise = max(work.noise(left, H), _LEAST_NOISE)
    _, _, found, H = work.solve(found, R, t, noise, held=False)
    left = work.residuals(found, R, t)
    squares = [float(np.sum(np.minimum(np.sum(each**2, axis=1), (4 * noise) ** 2))) for each in (at_stored, left)]
    freedoms = len(camera.parameters)
    excess = ((squares[0] - squares[1]) / noise**2 - freedoms) / np.sqrt(2 * freedoms)
    whitened = np.linalg.inv(np.linalg.cholesky(H)).T  # H = L L': (L')^-1 is a root of its inverse
    root = (work.prior @ whitened)[: len(camera.parameters)]
    return BoardFit(
        (work.prior @ found)[: len(camera.parameters)],
        root,
        noise,
        _rms(at_stored),
        _rms(left),
        float(excess),
        at_stored,
    )


class _Work:
    """Gauss-Newton over whitened intrinsics and bow (standard normal, times the prior's root), poses eliminated."""

    def __init__(self, camera: Camera, board: Board, views: Sequence[View]) -> None:
        self.camera = camera
        self.board = board
        self.views = views
        self.pixels = np.concatenate([view.pixels for view in views])
        self.ids = np.concatenate([view.ids for view in views])
        counts = [len(view) for view in views]
        self.view_of = np.repeat(np.arange(len(views)), counts)
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        self.shapes = bow_shape(board.points).T[self.ids]
        extent = float(np.ptp(board.points[:, :2], axis=0).max())
        count = len(camera.parameters)
        self.prior = np.zeros((count + 2, count + 2))
        self.prior[:count, :count] = prior_root(camera)
        self.prior[count:, count:] = np.eye(2) * _BOW * extent
        self.unknowns = count + 2

    def at(self, unknown: Floats) -> tuple[Camera, Floats]:
        change = self.prior @ unknown
        camera = moved(self.camera, change[:-2])
        return camera, bowed(self.board.points, change[-2:])

    def seen(self, points: Floats, R: Floats, t: Floats) -> Floats:
        """(N, 3) in the camera's frame"""
        return np.einsum("nij,nj->ni", R[self.view_of], points[self.ids]) + t[self.view_of]

    def residuals(self, unknown: Floats, R: Floats, t: Floats) -> Floats:
        """(N, 2) px, seen minus projected"""
        camera, points = self.at(unknown)
        return self.pixels - camera.project(self.seen(points, R, t))

    def cost(self, residuals: Floats, unknown: Floats, noise: float) -> float:
        """Huber's, of the 2-D distance in sigmas, and the prior's."""
        d = np.sqrt(np.sum(residuals**2, axis=1)) / noise
        total = float(unknown @ unknown + np.sum(np.where(d <= _HUBER, d**2, 2 * _HUBER * d - _HUBER**2)))
        return total if np.isfinite(total) else np.inf

    def solve(
        self, unknown: Floats, R: Floats, t: Floats, noise: float, *, held: bool
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """The poses, the unknowns and their information (whitened, the prior's in it). held: poses alone are fitted."""
        damping, cost = 1e-6, self.cost(self.residuals(unknown, R, t), unknown, noise)
        H = np.eye(self.unknowns)
        for _ in range(30):
            H, gradient, blocks = self.normal(unknown, R, t, noise)
            while True:
                damped = H + damping * np.diag(np.diag(H))
                step = np.zeros_like(unknown) if held else np.linalg.solve(damped, gradient)
                new_R, new_t = R.copy(), t.copy()
                for i, (B, E, g, centre) in enumerate(blocks):
                    inner = B + damping * np.diag(np.diag(B))
                    pose = np.linalg.solve(inner, g - E.T @ step)
                    turn = rotation_matrices(pose[:3])[0]
                    new_R[i] = turn @ R[i]
                    new_t[i] = turn @ (t[i] - centre) + centre + pose[3:]
                new = unknown + step
                new_cost = self.cost(self.residuals(new, new_R, new_t), new, noise)
                if new_cost <= cost or damping > 1e6:
                    break
                damping = max(damping, 1e-6) * 10
            if new_cost > cost:
                break
            done = cost - new_cost < 1e-6 * (1 + cost)
            unknown, R, t, cost = new, new_R, new_t, new_cost
            damping = max(damping / 10, 1e-9)
            if done:
                break
        return R, t, unknown, self.normal(unknown, R, t, noise)[0]

    def normal(self, unknown: Floats, R: Floats, t: Floats, noise: float):
        """Reduced information and gradient of the unknowns; per view pose block, cross block, gradient, centre."""
        camera, points = self.at(unknown)
        H, gradient, blocks = np.eye(self.unknowns), -unknown, []
        seen = self.seen(points, R, t)
        centres = np.add.reduceat(seen, self.starts[:-1]) / np.diff(self.starts)[:, None]
        pixels, J, by_point = camera.project_with_jacobians(seen)
        normals = R[self.view_of][:, :, 2]
        by_bow = np.einsum("nij,nj->ni", by_point, normals)[:, :, None] * self.shapes[:, None, :]
        J = np.concatenate([J, by_bow], axis=2) @ self.prior
        M = motion_jacobian(seen - centres[self.view_of], by_point)
        r = self.pixels - pixels
        d = np.sqrt(np.sum(r**2, axis=1)) / noise
        good = np.isfinite(d)
        weights = np.where(good, np.sqrt(np.minimum(1.0, _HUBER / np.maximum(d, 1e-9))), 0.0)[:, None] / noise
        every = np.concatenate([J, M, r[:, :, None]], axis=2) * weights[:, None]
        every[~good] = 0.0
        count = self.unknowns
        for i, (start, end) in enumerate(pairwise(self.starts)):
            rows = every[start:end].reshape(-1, every.shape[2])
            N = rows.T @ rows
            B, E, g = N[count:-1, count:-1] + 1e-12 * np.eye(6), N[:count, count:-1], N[count:-1, -1]
            reduced = np.linalg.solve(B, np.column_stack([E.T, g]))
            H = H + N[:count, :count] - E @ reduced[:, :-1]
            gradient = gradient + N[:count, -1] - E @ reduced[:, -1]
            blocks.append((B, E, g, centres[i]))
        return (H + H.T) / 2, gradient, blocks

    def noise(self, residuals: Floats, H: Floats) -> float:
        """px an axis, robust: clipped squares over what freedom is left."""
        d = np.sqrt(np.sum(residuals**2, axis=1))
        usual = 1.2011 * float(np.median(d)) / np.sqrt(2)  # median of a Rayleigh is 1.1774 sigma
        clipped = np.minimum(d, 4 * max(usual, 1e-9))
        effective = self.unknowns - float(np.trace(np.linalg.inv(H)))
        return float(np.sqrt(np.sum(clipped**2) / max(2 * len(d) - 6 * len(self.views) - effective, 1)))


def moved(camera: Camera, change: Floats) -> Camera:
    """The camera with its parameters changed."""
    return Camera(camera.model, camera.image_size, camera.parameters + change)


# --- figures ----------------------------------------------------------------------------------------------------------


def parameter_figures(camera: Camera, change: Floats, root: Floats) -> tuple[Figure, ...]:
    """The shifts of fx, fy, cx, cy."""
    sigmas = np.linalg.norm(root, axis=1)
    return tuple(
        Figure(f"shift of {name}", float(change[i]), "px", float(sigmas[i]))
        for i, name in enumerate(camera.parameter_names[:4])
    )


def pattern(pixels: Floats, residuals: Floats, image_size: tuple[int, int]) -> float:
    """px: root mean square of the residuals' means in 7 x 5 parts of the image, less what noise gives such means."""
    width, height = image_size
    column = np.clip((pixels[:, 0] + 0.5) * 7 / width, 0, 6).astype(int)
    row = np.clip((pixels[:, 1] + 0.5) * 5 / height, 0, 4).astype(int)
    total, used = 0.0, 0
    for part in np.unique(row * 7 + column):
        each = residuals[row * 7 + column == part]
        if len(each) < 4:
            continue
        mean, spread = each.mean(axis=0), each.var(axis=0, ddof=1).sum() / len(each)
        total += float(mean @ mean - spread) * len(each)
        used += len(each)
    return float(np.sqrt(max(total / used, 0.0))) if used else float("nan")


def straightness(camera: Camera, board: Board, views: Sequence[View]) -> float:
    """px RMS of rows' inner corners from the line through their ends in the rectified image, as `assessment` has it."""
    total, count = 0.0, 0
    every = camera.unproject(np.concatenate([view.pixels for view in views]))
    starts = np.cumsum([0, *(len(view) for view in views)])
    for view, start in zip(views, starts[:-1], strict=True):
        rays = every[start : start + len(view)]
        with np.errstate(invalid="ignore", divide="ignore"):
            flat = rays[:, :2] / np.where(rays[:, 2:] > np.cos(np.radians(70)), rays[:, 2:], np.nan)
        flat = flat * camera.parameters[:2]
        rows = view.ids // board.point_columns
        for row in np.unique(rows):
            line = flat[rows == row]
            line = line[np.isfinite(line).all(axis=1)]
            if len(line) < 3 or board.kind == "acircles":
                continue
            along, offsets = line[-1] - line[0], line[1:-1] - line[0]
            across = (offsets[:, 0] * along[1] - offsets[:, 1] * along[0]) / np.hypot(*along)
            total, count = total + float(np.sum(across**2)), count + len(across)
    return float(np.sqrt(total / count)) if count else float("nan")


def _rms(residuals: Floats) -> float:
    return float(np.sqrt(np.mean(np.sum(residuals**2, axis=1))))


def _moved(a: View, b: View) -> float:
    """px that the corners both show have moved, root mean square; far where they share too few."""
    _, in_a, in_b = np.intersect1d(a.ids, b.ids, return_indices=True)
    if len(in_a) < 4:
        return float("inf")
    return float(np.sqrt(np.mean(np.sum((a.pixels[in_a] - b.pixels[in_b]) ** 2, axis=1))))
