"""Is a stored calibration still that of its camera: what a check says, by which limits, and when it becomes an alarm.

The evidence comes from a board (`drift_board`) or from a scene that stands still (`drift_scene`). Both give the shift
of the camera's parameters that explains it best, with its covariance, starting from a wide belief about what lenses do
(`prior_root`); what is judged is how far that shift moves pixels (`shift_over_image`), since parameters can trade with
one another and pixels cannot. The turn of the camera is taken out, as in `difference`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from edge_vision.calibration.difference import image_grid, motion_jacobian
from edge_vision.calibration.files import RECORD, read_calibration
from edge_vision.calibration.models import rotation_matrices
from edge_vision.calibration.projection import Camera
from edge_vision.datatypes import NS_PER_S, CameraInfo

Floats = NDArray[np.float64]

VERDICTS = ("valid", "unknown", "doubtful", "drifted")
"""From well to bad. unknown: what was seen does not tell; never an alarm."""

SURE = 3.0
"""Sigmas by which a shift must exceed a limit to be blamed."""
_CLEAR = 2.0  # sigmas that a shift may be off zero, or must stay below the limit, to be called valid
_KNOWN = 0.4  # of the limit: where the shift's sigma is below it, it is judged
_CELLS = (9, 7)
LEAST_CHECKED = 0.3  # share of the image in which the shift must be known, to be called valid
_LEAST_BLAMED = 0.2  # to be blamed
_REFERENCE_WIDTH = 1920  # limits in px grow with the width above that, as those of the verdict do
_PRIOR_FOCAL, _PRIOR_ASPECT, _PRIOR_CENTRE = 0.02, 0.002, 0.01  # shares of the focal length and of the width
_PRIOR_RADIAL, _PRIOR_TANGENTIAL = 0.005, 0.001  # shares of the radius, at the image's corner, of each term


@dataclass(frozen=True)
class Limits:
    """From which a calibration is called drifted; doubtful from half of it. px, root mean square over the image, for
    images up to 1920 px wide. A stored calibration that was never that good is measured by three times its own sigma.
    """

    lens: float = 1.0
    """Of what the intrinsics explain."""
    mount: float = 2.0
    """Of what a rotation of the camera explains."""

    def scaled(self, width: int) -> Limits:
        scale = max(1.0, width / _REFERENCE_WIDTH)
        return Limits(self.lens * scale, self.mount * scale)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that the verdict rests on, or that tells more. NaN: not known, no limit, no sigma."""

    name: str
    value: float
    unit: str = "px"
    sigma: float = float("nan")
    limit: float = float("nan")

    @property
    def text(self) -> str:
        sigma = f" ± {self.sigma:.2g}" if np.isfinite(self.sigma) else ""
        limit = f" (limit {self.limit:.3g})" if np.isfinite(self.limit) else ""
        return f"{self.value:.3g}{sigma} {self.unit}".rstrip() + limit


@dataclass(frozen=True, eq=False)
class Check:
    """What a check found."""

    verdict: str
    """One of VERDICTS."""
    cause: str
    """"" (valid), "lens", "mount", "lens and mount", "size", "fit", or of unknown: "views", "features", "scene"."""
    reason: str
    """A sentence with the figure and its limit."""
    remedy: str = ""
    figures: tuple[Figure, ...] = ()
    image_size: tuple[int, int] = (0, 0)
    pixels: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    """(N, 2) px where something was seen, for a picture."""
    residuals: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    """(N, 2) px: where it was seen minus where the stored calibration (and the reference) has it."""
    trusted: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    """(N,) what the judgement rests on: not what moves by itself."""
    shift: Shift | None = None
    """Of the intrinsics, over the image."""

    @property
    def text(self) -> str:
        remedy = f": {self.remedy}" if self.remedy else ""
        return f"{self.verdict}: {self.reason}{remedy}"

    @property
    def blamed(self) -> bool:
        return self.verdict in ("doubtful", "drifted")

    def figure(self, name: str) -> Figure:
        """Raises KeyError where there is none of that name."""
        for each in self.figures:
            if each.name == name:
                return each
        raise KeyError(f"no figure '{name}': there are {', '.join(each.name for each in self.figures)}")


@dataclass(frozen=True, eq=False)
class Stored:
    """A calibration as it lies in its file, with what that says of how good it was (NaN where it says nothing)."""

    info: CameraInfo
    camera: Camera
    noise: float = float("nan")
    """px an axis, of the corners it was made from"""
    centre: float = float("nan")
    """px, one sigma of projection at the image's centre"""
    corners: float = float("nan")
    """px, at the worst corner"""

    @staticmethod
    def of(info: CameraInfo, record: Mapping[str, Any] | None = None) -> Stored:
        """Raises CalibrationError for a model that is not known here."""
        record = record or {}
        ends = record.get("uncertainty_corners") or []
        ends = [float(each) for each in ends if isinstance(each, (int, float))]
        return Stored(
            info,
            Camera.of(info),
            _number(record.get("noise")),
            _number(record.get("uncertainty_centre")),
            max(ends, default=float("nan")),
        )

    def uncertainty(self, pixels: Floats) -> Floats:
        """(N,) px, one sigma at pixels (N, 2); 0 where nothing is known of it.

        From the centre to the corners it grows like the radius' square, as that of distortion does.
        """
        if not (np.isfinite(self.centre) and np.isfinite(self.corners)):
            return np.zeros(len(pixels))
        half = (np.array(self.camera.image_size) - 1) / 2
        share = np.sum((pixels - half) ** 2, axis=1) / np.sum(half**2)
        return np.hypot(self.centre, (self.corners - self.centre) * share)


def read_stored(path: str | os.PathLike[str], camera: str = "") -> Stored:
    """A calibration's file of any form, with the figures of how good it is where it is ours. Raises CameraInfoError."""
    info = read_calibration(path, camera)
    record = None
    name = os.path.expanduser(os.fspath(path).removeprefix("file://"))
    with open(name, encoding="utf-8") as file:
        text = file.read()
    if RECORD in text:
        try:
            content = yaml.safe_load(text)
            record = content.get(RECORD) if isinstance(content, dict) else None
        except yaml.YAMLError:
            record = None
    return Stored.of(info, record if isinstance(record, Mapping) else None)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else float("nan")


# --- what lenses do, and what that does to pixels --------------------------------------------------------------------


def prior_root(camera: Camera) -> Floats:
    """(n, n) L, L L' the covariance of a drift nobody has measured: 2 % of focal length (x and y alike to 0.2 %), 1 %
    of the width for the centre, 0.5 % of the radius at the image's corner by each radial term.

    Views that tell overrule it: it keeps what they hardly tell from growing without bound, and a shift from being
    overrated."""
    fx, fy = camera.parameters[:2]
    width, height = camera.image_size
    corner = np.hypot(width / 2 / fx, height / 2 / fy)
    powers = {"k1": 2, "k2": 4, "k3": 6, "k4": 2, "k5": 4, "k6": 6}
    if camera.model == "equidistant":
        powers = {"k1": 2, "k2": 4, "k3": 6, "k4": 8}
        corner = min(corner, np.pi / 2)
    sigmas = [_PRIOR_FOCAL * fx, _PRIOR_FOCAL * fy, _PRIOR_CENTRE * width, _PRIOR_CENTRE * width]
    sigmas += [
        _PRIOR_RADIAL / corner ** powers[name] if name in powers else _PRIOR_TANGENTIAL / corner
        for name in camera.parameter_names[4:]
    ]
    root = np.diag(sigmas)
    share = _PRIOR_ASPECT / _PRIOR_FOCAL / 2  # half of the difference to each of the two
    root[:2, :2] = [[sigmas[0], sigmas[0] * share], [sigmas[1], -sigmas[1] * share]]
    return root


@dataclass(frozen=True, eq=False)
class Shift:
    """How far a change of the intrinsics moves what is seen, over the image, the camera's turn taken out."""

    pixels: Floats
    """(K, 2) px: the middles of 9 x 7 cells that have a ray."""
    vectors: Floats
    """(K, 2) px"""
    sigmas: Floats
    """(K,) px, in the direction where it is largest"""
    known: NDArray[np.bool_]
    """(K,) where sigma is below 0.4 of the limit: only there is judged"""
    rms: float
    """px over the known cells, less what its own noise adds"""
    sigma: float
    """px, of rms; an upper bound (all of the uncertainty lying along the shift)"""
    limit: float
    """px: what was asked for, or three sigmas of the stored calibration where that is more"""

    @property
    def share(self) -> float:
        """Of the image, in which the shift is known."""
        return float(self.known.mean()) if len(self.known) else 0.0

    @property
    def verdict(self) -> str:
        if self.share >= _LEAST_BLAMED:
            if self.rms - SURE * self.sigma > self.limit:
                return "drifted"
            if self.rms - SURE * self.sigma > self.limit / 2:
                return "doubtful"
        # At the limit itself: with sigma 0.3 of it at most, one drift in twelve of just that size is called valid.
        well = self.rms <= _CLEAR * self.sigma or self.rms + _CLEAR * self.sigma < self.limit
        return "valid" if well and self.share >= LEAST_CHECKED else "unknown"

    @property
    def figure(self) -> Figure:
        return Figure("lens shift", self.rms, "px", self.sigma, self.limit)


def shift_over_image(stored: Stored, change: Floats, root: Floats, fitted: Floats, limit: float) -> Shift:
    """The shift by a change (n,) of the parameters whose covariance is root @ root.T.

    fitted: (N, 2) px where something was seen; the camera's turn is fitted there.
    """
    camera = stored.camera
    pixels = cells(camera.image_size)
    J, M = _jacobians(camera, pixels)
    G = J + M @ implied_turn(camera, fitted)
    usable = np.isfinite(G).all(axis=(1, 2))
    pixels, G = pixels[usable], G[usable]
    vectors, spread = G @ change, G @ root
    covariances = spread @ np.swapaxes(spread, 1, 2)
    sigmas = np.sqrt(np.maximum(np.linalg.eigvalsh(covariances)[:, -1], 0))
    own = stored.uncertainty(pixels)
    known = sigmas < _KNOWN * limit
    if known.any():
        limit = max(limit, SURE * float(np.sqrt(np.mean(own[known] ** 2))))
        known = sigmas < _KNOWN * limit
    if not known.any():
        return Shift(pixels, vectors, sigmas, known, float("nan"), float("inf"), limit)
    rms, sigma = rms_and_sigma(vectors[known], spread[known])
    return Shift(pixels, vectors, sigmas, known, rms, sigma, limit)


def implied_turn(camera: Camera, fitted: Floats) -> Floats:
    """(3, n): the turn of the camera, rad, that takes back most of what a change of its parameters does at ``fitted``
    (N, 2) px (as in `uncertainty`)."""
    J, M = _jacobians(camera, fitted[:: max(1, len(fitted) // 400)])
    usable = np.isfinite(J).all(axis=(1, 2)) & np.isfinite(M).all(axis=(1, 2))
    J, M = J[usable].reshape(-1, J.shape[-1]), M[usable].reshape(-1, 3)
    return -np.asarray(np.linalg.lstsq(M, J, rcond=None)[0], np.float64)


def _jacobians(camera: Camera, pixels: Floats) -> tuple[Floats, Floats]:
    """(N, 2, n) of pixels by the parameters, (N, 2, 3) by a small rotation of what is seen."""
    rays = camera.unproject(pixels)
    _, J, by_point = camera.project_with_jacobians(rays)
    return J, motion_jacobian(rays, by_point)[..., :3]


def turn_over_image(camera: Camera, turn: Floats, root: Floats) -> tuple[float, float]:
    """px RMS by which a rotation (3,) rad of what is seen moves the image, and its sigma, from (3, m) root @ root.T."""
    rays = camera.unproject(cells(camera.image_size))
    rays = rays[np.isfinite(rays).all(axis=1)]
    at, _, by_point = camera.project_with_jacobians(rays)
    vectors = camera.project(rays @ rotation_matrices(turn)[0].T) - at
    spread = motion_jacobian(rays, by_point)[..., :3] @ root
    good = np.isfinite(vectors).all(axis=1) & np.isfinite(spread).all(axis=(1, 2))
    return rms_and_sigma(vectors[good], spread[good]) if good.any() else (float("inf"), 0.0)


def rms_and_sigma(vectors: Floats, spread: Floats) -> tuple[float, float]:
    """Root mean square length of vectors (K, 2) whose covariance is spread @ spread' with spread (K, 2, n), less the
    length that noise gives them; and its sigma at most."""
    count = len(vectors)
    flat = spread.reshape(2 * count, -1)
    noise = np.sum(flat**2) / count
    rms = np.sqrt(max(np.sum(vectors**2) / count - noise, 0.0))
    sigma = np.linalg.norm(flat, 2) / np.sqrt(count)
    return float(rms), float(sigma)


def cells(image_size: tuple[int, int]) -> Floats:
    """(63, 2) px: the middles of 9 x 7 cells of the image."""
    columns, rows = _CELLS
    width, height = image_size
    inner = image_grid((width - width // columns, height - height // rows), columns, rows)
    return (inner + [width // columns / 2, height // rows / 2]).reshape(-1, 2)


def worse(a: Check, b: Check) -> Check:
    """The one of two checks that deserves attention: a known one before one that could not tell, then the worse."""
    if "unknown" in (a.verdict, b.verdict):
        return b if a.verdict == "unknown" else a
    return a if VERDICTS.index(a.verdict) >= VERDICTS.index(b.verdict) else b


class DriftWatch:
    """Makes an alarm of checks that blame for longer than ``hold`` seconds; ends it when they are well for as long.

    What could not be told neither raises nor ends one.
    """

    def __init__(self, hold: float = 10.0) -> None:
        self.hold = hold
        self.alarm: Check | None = None
        """The newest check that blamed, while there is an alarm."""
        self.newest: Check | None = None
        self._since: int | None = None  # of the run of checks that are of the other kind than the state

    def update(self, check: Check, stamp: int) -> Check | None:
        """stamp: ns. Returns the alarm, None while there is none."""
        self.newest = check
        if check.verdict == "unknown":
            return self.alarm
        if check.blamed == (self.alarm is not None):
            self._since = None
            if check.blamed:
                self.alarm = check
            return self.alarm
        if self._since is None or stamp < self._since:
            self._since = stamp
        if stamp - self._since >= self.hold * NS_PER_S:
            self.alarm = check if check.blamed else None
            self._since = None
        return self.alarm
