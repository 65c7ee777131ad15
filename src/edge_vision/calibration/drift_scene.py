"""Is a stored calibration, and the camera's mount, still as it was: by a scene that stands still.

A camera that is bolted to a machine sees the same edges and corners every day. Where they have moved in the image, a
rotation of the camera explains one part of it (its mount has moved: the extrinsics are wrong), a change of the focal
length, centre and distortion another (the intrinsics are). Both are fitted together to what most features agree on.

What cannot be told apart from images of one place: a camera that comes nearer to a flat scene looks like a longer focal
length, one that is pushed aside like one that is turned, and a shift of the centre, but for a small rest, like a turn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_vision.calibration.difference import motion_jacobian
from edge_vision.calibration.drift import (
    SURE,
    Check,
    Figure,
    Limits,
    Stored,
    cells,
    implied_turn,
    prior_root,
    shift_over_image,
    turn_over_image,
)
from edge_vision.calibration.drift_board import moved, parameter_figures
from edge_vision.calibration.models import rotation_matrices, rotation_vectors
from edge_vision.calibration.projection import Camera

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

LEAST_FEATURES = 15
_LEAST_FOUND = 0.2  # of the reference's features
_LEAST_AGREE = 0.45  # of the features found
_LEAST_SPREAD = 0.35  # of the area that the reference's features span
_STILL_SHARE, _STILL_SPREAD = 0.3, 0.6  # features unmoved, from which the camera has not moved, whatever else has
_WITHIN = 3.5  # sigmas of those that agree
_LEAST_NOISE, _LEAST_BAND = 0.02, 0.25  # px an axis
_CONTRADICTION = 0.1  # of the features found
_LOOSE = 0.006  # of the image's width: what a lens may add to a rotation before it is fitted
_SURROUNDINGS = 21  # px
_TRIES = 120
_RAYLEIGH = 1.1774  # median of a 2-D distance whose coordinates have sigma 1


def judge_scene(
    stored: Stored, points: Floats, found: Floats, limits: Limits | None = None, noise: float = 0.0
) -> Check:
    """The verdict by features at ``points`` (N, 2) px of the reference, seen at ``found`` (N, 2) px now, NaN where not.

    noise: px an axis, of a feature from frame to frame when the reference was taken.
    """
    camera = stored.camera
    limits = (limits or Limits()).scaled(camera.image_size[0])
    rays = camera.unproject(points)
    seen: Mask = np.asarray(np.isfinite(np.hstack([found, rays])).all(axis=1))
    none = np.zeros(len(points), bool)
    shifts = np.where(seen[:, None], found - points, np.nan)

    def unknown(cause: str, reason: str, remedy: str) -> Check:
        return Check("unknown", cause, reason, remedy, (), camera.image_size, points, shifts, none)

    least = max(LEAST_FEATURES, round(_LEAST_FOUND * len(points)))
    if seen.sum() < least:
        return unknown(
            "features",
            f"only {seen.sum()} of {len(points)} features of the reference were found again, {least} are needed",
            "it is dark, something stands before the camera, or the scene is another: look, or take a new reference",
        )
    fit = _agreed(camera, points[seen], rays[seen], found[seen], noise, limits)
    agree = none.copy()
    agree[np.flatnonzero(seen)[fit.agree]] = True
    share, spread = fit.agree.mean(), hull_area(points[agree]) / max(hull_area(points), 1e-9)
    if not fit.still:
        remedy = "too much moves, or the scene is another: take the reference where little moves, or take a new one"
        if fit.agree.sum() < least or share < _LEAST_AGREE or spread < _LEAST_SPREAD:
            reason = f"only {share:.0%} of the features agree on where they have gone, over {spread:.0%} of the scene"
            return unknown("scene", reason, remedy)
        if fit.contradiction > _CONTRADICTION:
            reason = f"{share:.0%} of the features have moved alike, but {fit.contradiction:.0%} have not moved at all"
            return unknown("scene", reason, remedy)
    everywhere = cells(camera.image_size)
    shift = shift_over_image(stored, fit.change, fit.root[3:], everywhere, limits.lens)
    # What a change of the intrinsics does as a turn of the camera would, is told as one: both spoil the extrinsics.
    follows = implied_turn(camera, everywhere)
    turn, turn_root = fit.turn - follows @ fit.change, fit.root[:3] - follows @ fit.root[3:]
    turn_rms, turn_sigma = turn_over_image(camera, turn, turn_root)
    limit = limits.mount
    mount = "valid"
    if turn_rms - SURE * turn_sigma > limit:
        mount = "drifted"
    elif turn_rms - SURE * turn_sigma > limit / 2:
        mount = "doubtful"
    lens = shift.verdict
    sigmas = np.linalg.norm(turn_root, axis=1)
    d = fit.residuals[fit.agree]

    def degrees(angle: float | np.floating) -> float:
        return float(np.degrees(angle))

    figures = (
        shift.figure,
        Figure("mount shift", turn_rms, "px", turn_sigma, limit),
        Figure("mount rotation", degrees(np.linalg.norm(turn)), "degrees", degrees(np.linalg.norm(turn_root, 2))),
        *(
            Figure(f"rotation about {axis}", degrees(each), "degrees", degrees(sigma))
            for axis, each, sigma in zip("xyz", turn, sigmas, strict=True)
        ),
        Figure("scene shift", float(np.sqrt(np.mean(np.sum(shifts[agree] ** 2, axis=1)))), "px"),
        Figure("features that agree", int(agree.sum()), f"of {int(seen.sum())} found, {len(points)} in the reference"),
        Figure("scatter of the features", float(np.sqrt(np.mean(d**2))), "px"),
        Figure("checked share of the image", 100 * shift.share, "%"),
        *parameter_figures(camera, fit.change, fit.root[3:]),
    )
    verdict, cause, reason, remedy = _judged(lens, mount, figures, fit)
    return Check(verdict, cause, reason, remedy, figures, camera.image_size, points, shifts, agree, shift)


def _judged(lens: str, mount: str, figures: tuple[Figure, ...], fit: SceneFit) -> tuple[str, str, str, str]:
    by_name = {figure.name: figure for figure in figures}
    lens_text, mount_text = (f"{name} is {by_name[name].text}" for name in ("lens shift", "mount shift"))
    angle = by_name["mount rotation"].text
    bad = ("doubtful", "drifted")
    if lens in bad and mount in bad:
        verdict = "drifted" if "drifted" in (lens, mount) else "doubtful"
        remedy = "calibrate again, then measure where the camera is mounted and take a new reference"
        return verdict, "lens and mount", f"the {lens_text}, the {mount_text}, a rotation by {angle}", remedy
    if lens in bad:
        scale = fit.scale
        or_nearer = f" (focal length {scale:+.2%}, or the camera has come so much nearer)" if abs(scale) > 5e-4 else ""
        return lens, "lens", f"the {lens_text}{or_nearer}", "calibrate again, then take a new reference"
    if mount in bad:
        return (
            mount,
            "mount",
            f"the camera has turned by {angle}: the {mount_text}; the intrinsics are not blamed",
            "fasten the camera, measure where it is mounted (extrinsics), then take a new reference",
        )
    if lens == "unknown":
        return (
            "unknown",
            "features",
            f"the {lens_text}, told in {by_name['checked share of the image'].value:.0f} % of the image only; "
            f"the {mount_text}",
            "take the reference with more of the scene in view and in focus",
        )
    return "valid", "", f"the {lens_text}, the {mount_text}", ""


def agreement(camera: Camera, points: Floats, found: Floats) -> float:
    """The share of the features, 0 to 1, that a rotation of the camera brings near to where they are now."""
    rays = camera.unproject(points)
    seen = np.isfinite(np.hstack([found, rays])).all(axis=1)
    if seen.sum() < 2:
        return 0.0
    loose = _LOOSE * camera.image_size[0]
    still = float((np.hypot(*(found[seen] - points[seen]).T) < loose).sum()) / len(points)
    if still > 0.5 * seen.mean():
        return still
    turn = _rotation_by_trial(camera, rays[seen], found[seen], loose)
    return float((_distances(camera, rays[seen], found[seen], turn) < loose).sum()) / len(points)


# --- what most features agree on --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SceneFit:
    """The rotation and the change of the intrinsics that most features agree on."""

    turn: Floats
    """(3,) rad, Rodrigues: of what the camera sees, in its frame"""
    change: Floats
    """(n,) of the camera's parameters"""
    root: Floats
    """(3 + n, m): root @ root.T is the covariance of a small rotation and of the parameters"""
    agree: Mask
    residuals: Floats
    """(N, 2) px about the fit"""
    noise: float
    """px an axis"""
    still: bool
    """Enough features, all over the scene, have not moved."""
    contradiction: float
    """Share of the features that have not moved though the fit wants them to"""
    scale: float
    """Share by which the focal length has changed"""


def _agreed(camera: Camera, points: Floats, rays: Floats, found: Floats, noise: float, limits: Limits) -> SceneFit:
    """Robust: a rotation by trial, then rotation and intrinsics with ever narrower a band of what agrees.

    Where enough features all over the scene have not moved, the camera has not: then these are what is fitted, and what
    has moved, however much of the image it fills, moved by itself.
    """
    lengths = np.hypot(*(found - points).T)
    band = max(limits.lens / 2, _LEAST_BAND)
    unmoved = lengths < band
    whole = max(hull_area(points), 1e-9)
    still = bool(unmoved.mean() >= _STILL_SHARE and hull_area(points[unmoved]) / whole >= _STILL_SPREAD)
    loose = max(_LOOSE * camera.image_size[0], 4 * band)
    turn = np.zeros(3) if still else _rotation_by_trial(camera, rays, found, loose)
    unknown = np.zeros(len(camera.parameters))
    agree = unmoved if still else _distances(camera, rays, found, turn) < loose
    widest = band if still else loose
    root, sigma, H = prior_root(camera), max(noise, _LEAST_NOISE), np.eye(3 + len(unknown))
    for _ in range(16):
        if agree.sum() < 4:
            break
        turn, unknown, H, residuals, sigma = _fit(camera, rays, found, agree, turn, unknown, root, noise, widest / 2, 2)
        d = np.hypot(*residuals.T)
        usual = float(np.median(d[agree])) / _RAYLEIGH
        narrower = max(widest / 1.7, _WITHIN * max(usual, noise), _LEAST_BAND)
        new = d < narrower
        if still:
            new &= lengths < 2 * band
        done = narrower > 0.95 * widest and np.array_equal(new, agree)
        agree, widest = new, min(narrower, widest)
        if done:
            break
    if agree.sum() >= 4:
        turn, unknown, H, residuals, sigma = _fit(camera, rays, found, agree, turn, unknown, root, noise, np.inf, 8)
    else:
        residuals = np.full_like(found, np.nan)
    whitened = np.linalg.inv(np.linalg.cholesky(H)).T
    # Of those that have not moved, those that should have, were the camera to blame.
    contradiction = float((unmoved & ~agree).mean())
    full = np.vstack([whitened[:3], root @ whitened[3:]]) * np.sqrt(_crowd(points[agree]))
    change = root @ unknown
    return SceneFit(
        turn,
        change,
        full,
        agree,
        residuals,
        sigma,
        still,
        contradiction,
        float(np.mean(change[:2] / camera.parameters[:2])),
    )


def _fit(
    camera: Camera,
    rays: Floats,
    found: Floats,
    agree: Mask,
    turn: Floats,
    unknown: Floats,
    root: Floats | None,
    floor: float,
    scale: float,
    steps: int,
) -> tuple[Floats, Floats, Floats, Floats, float]:
    """Gauss-Newton of the rotation and, with a root of the prior, the whitened intrinsics, to the features that agree.

    floor: px an axis, the least noise. scale: px from which a feature weighs less (Geman, McClure 1985), or inf.
    Returns both, the information, the residuals (N, 2) of all features and the noise, px an axis.
    """
    count = 3 + (len(unknown) if root is not None else 0)
    floor = max(floor, _LEAST_NOISE)
    sigma, H = floor, np.eye(count)
    prior = np.zeros(count)
    prior[3:] = 1.0
    for _ in range(steps):
        R = rotation_matrices(turn)[0]
        seen = rays[agree] @ R.T
        pixels, J, by_point = _changed(camera, unknown, root).project_with_jacobians(seen)
        r = found[agree] - pixels
        good = np.isfinite(r).all(axis=1)
        r = r[good]
        M = motion_jacobian(seen, by_point)[..., :3]
        A = (M if root is None else np.concatenate([M, J @ root], axis=2))[good]
        weights = 1 / (1 + np.sum(r**2, axis=1) / scale**2) ** 2
        freedom = max(2 * weights.sum() - count, 1)
        sigma = max(float(np.sqrt(np.sum(weights * np.sum(r**2, axis=1)) / freedom)), floor)
        weighted = (A * weights[:, None, None]).reshape(-1, count)
        A = A.reshape(-1, count)
        H = weighted.T @ A / sigma**2 + np.diag(prior)
        gradient = weighted.T @ r.ravel() / sigma**2
        gradient[3:] -= unknown[: count - 3]
        step = np.linalg.solve(H + 1e-9 * np.eye(count), gradient)
        turn = rotation_vectors(rotation_matrices(step[:3]) @ R)[0]
        if root is not None:
            unknown = unknown + step[3:]
        if np.abs(A @ step).max(initial=0.0) < 1e-3:
            break
    residuals = found - _changed(camera, unknown, root).project(rays @ rotation_matrices(turn)[0].T)
    return turn, unknown, (H + H.T) / 2, np.where(np.isfinite(residuals), residuals, 1e6), sigma


def _changed(camera: Camera, unknown: Floats, root: Floats | None) -> Camera:
    return camera if root is None else moved(camera, root @ unknown)


def _distances(camera: Camera, rays: Floats, found: Floats, turn: Floats) -> Floats:
    d = np.hypot(*(found - camera.project(rays @ rotation_matrices(turn)[0].T)).T)
    return np.where(np.isfinite(d), d, np.inf)


def _rotation_by_trial(camera: Camera, rays: Floats, found: Floats, band: float) -> Floats:
    """The rotation, of two features each of some hundred pairs, that brings most features within ``band`` px."""
    now = camera.unproject(found)
    usable = np.flatnonzero(np.isfinite(now).all(axis=1))
    if len(usable) < 2:
        return np.zeros(3)
    rng = np.random.default_rng(0)
    pairs = usable[rng.integers(0, len(usable), (_TRIES, 2))]
    pairs = pairs[np.einsum("ij,ij->i", rays[pairs[:, 0]], rays[pairs[:, 1]]) < 0.9998]  # more than a degree apart
    U, _, Vt = np.linalg.svd(np.swapaxes(now[pairs], 1, 2) @ rays[pairs])
    mirror = np.linalg.det(U) * np.linalg.det(Vt)
    U[:, :, 2] *= np.sign(mirror)[:, None]
    tried = np.concatenate([np.eye(3)[None], U @ Vt])
    seen = camera.project((rays @ np.swapaxes(tried, 1, 2)).reshape(-1, 3)).reshape(len(tried), -1, 2)
    with np.errstate(invalid="ignore"):
        near = (np.sum((seen - found) ** 2, axis=2) < band**2).sum(axis=1)
    return rotation_vectors(tried[int(np.argmax(near))])[0]


def _crowd(pixels: Floats) -> float:
    """Features that share their surroundings share their errors: how many do on average, itself too."""
    if len(pixels) < 2:
        return 1.0
    far = np.max(np.abs(pixels[:, None] - pixels[None]), axis=2)
    return float(np.sum(np.maximum(0.0, 1 - far / _SURROUNDINGS)) / len(pixels))


def hull_area(pixels: Floats) -> float:
    """px² inside the hull of pixels (N, 2)."""
    import cv2

    if len(pixels) < 3:
        return 0.0
    return float(cv2.contourArea(cv2.convexHull(pixels.astype(np.float32).reshape(-1, 1, 2))))
