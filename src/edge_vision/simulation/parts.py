"""The parts on the belt, drawn procedurally: a shape, a height field for shading, and its outlines as truth.

Units: one unit is one pixel of a 480-line image, so the same part is 2.25 times as many pixels at 1080 lines.
A part's own frame has its origin in the part's centre, x right and y down, angle 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

LABELS = ("hex_nut", "bolt", "washer", "gear", "bracket", "spring", "defective_nut")

_SUPERSAMPLING = 3
_SHADOW_BLUR = 3.2  # units, sigma
_PAD = 15.0  # units around a part, room for its shadow


@dataclass(frozen=True)
class PartShape:
    """One class of part at one resolution, unlit.

    Planes, all (h, w) float32. alpha, albedo, nx, ny, spun: coverage 0..1, reflectance, the surface normal's
    image-plane components, and the weight of the turned-metal highlight. cos2, sin2: of twice the polar angle.
    soft: the blurred coverage that makes the shadow; light_left: what the part and its contact shadow leave of the
    belt. rings (P, 2) float64: the outer outline and those of the holes, one after the other, in units about the
    part's centre; ring_starts: where each hole's begins. area: square units; half_size: half its width and height.
    """

    label: str
    alpha: NDArray
    albedo: NDArray
    nx: NDArray
    ny: NDArray
    spun: NDArray
    cos2: NDArray
    sin2: NDArray
    soft: NDArray
    light_left: NDArray
    rings: NDArray
    ring_starts: tuple[int, ...]
    area: float
    half_size: tuple[float, float]


class _Sheet:
    """A supersampled drawing sheet in the part's units."""

    def __init__(self, half: float, pixels_per_unit: float) -> None:
        self.k = pixels_per_unit * _SUPERSAMPLING
        self.n = math.ceil(2 * (half + _PAD) * pixels_per_unit) * _SUPERSAMPLING
        self.mask = np.zeros((self.n, self.n), np.uint8)
        axis = (np.arange(self.n, dtype=np.float32) + 0.5 - self.n / 2) / self.k
        self.x, self.y = np.meshgrid(axis, axis)
        self.r = np.hypot(self.x, self.y)

    def _fixed(self, points: NDArray) -> NDArray:
        # Drawing has pixel centres at integers: 0.5 less than the continuous coordinate; 4 fractional bits.
        return np.round((np.asarray(points, np.float64) * self.k + self.n / 2 - 0.5) * 16).astype(np.int32)

    def polygon(self, points: NDArray, value: int = 255) -> None:
        cv2.fillPoly(self.mask, [self._fixed(points)], value, cv2.LINE_8, 4)

    def disc(self, centre: tuple[float, float], radius: float, value: int = 255) -> None:
        angles = np.linspace(0, 2 * math.pi, 96, endpoint=False)
        self.polygon(np.array(centre) + radius * np.stack([np.cos(angles), np.sin(angles)], 1), value)

    def box(self, x0: float, y0: float, x1: float, y1: float, value: int = 255) -> None:
        self.polygon(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), value)

    def depth(self) -> NDArray:
        """Distance of every point of the part to its nearest edge, in units."""
        return cv2.distanceTransform(self.mask, cv2.DIST_L2, 5) / self.k


def _regular(n: int, radius: float, phase: float = 0.0) -> NDArray:
    angles = phase + np.arange(n) * 2 * math.pi / n
    return radius * np.stack([np.cos(angles), np.sin(angles)], 1)


# A painter draws into the sheet's mask and returns (height in units, albedo factor, spun weight).
_Paint = tuple[NDArray, NDArray, NDArray]


def _nut(sheet: _Sheet) -> _Paint:
    sheet.polygon(_regular(6, 35.0))
    sheet.disc((0, 0), 16.0, 0)
    height = np.minimum(sheet.depth() / 1.6, 1.0) * 1.6
    height = np.minimum(height, 1.6 - np.clip(sheet.r - 27.5, 0, None) * 0.32)  # the chamfer cuts the corners
    height -= np.clip(19.5 - sheet.r, 0, None) * 0.7  # countersink and thread
    thread = np.where(sheet.r < 18.2, 0.72 + 0.1 * np.sin(sheet.r * 6.0), 1.0).astype(np.float32)
    return height, thread, np.where((sheet.r > 19.5) & (sheet.r < 28), 0.5, 0.0).astype(np.float32)


def _defective_nut(sheet: _Sheet) -> _Paint:
    height, albedo, spun = _nut(sheet)
    # A broken-out chunk from the bore to the rim, with a ragged edge, and a crack on the far side.
    chunk = np.array([[8, -15], [13, -9], [14.5, -4], [12, 1], [14, 8], [21, 13], [26, 11], [31, 17], [40, 16],
                      [42, -6], [40, -24], [24, -36], [19, -25], [14, -23]], np.float64)  # fmt: skip
    sheet.polygon(chunk, 0)
    crack = np.array([[-20.5, 8.5], [-24, 7], [-28, 10.5], [-36, 10.5], [-36, 16], [-27, 14], [-24, 10.5]],
                     np.float64)  # fmt: skip
    sheet.polygon(crack, 0)
    fracture = np.minimum(sheet.depth() / 1.2, 1.0)
    rough = np.random.default_rng(5).normal(0, 1, sheet.mask.shape).astype(np.float32)
    rough = cv2.GaussianBlur(rough, (0, 0), sheet.k * 0.8) * sheet.k
    near = np.exp(-np.square(sheet.depth() / 3.0)) * (sheet.r > 19)
    return np.minimum(height, fracture * 1.6) + 0.5 * rough * near, albedo, spun


def _washer(sheet: _Sheet) -> _Paint:
    sheet.disc((0, 0), 31.0)
    sheet.disc((0, 0), 15.0, 0)
    height = np.minimum(sheet.depth() / 2.0, 1.0) * 1.0
    grooves = (1.0 + 0.03 * np.sin(sheet.r * 5.5)).astype(np.float32)
    return height, grooves, np.full_like(sheet.x, 1.0)


def _gear(sheet: _Sheet) -> _Paint:
    teeth, root, tip = 16, 38.0, 46.0
    points = []
    for tooth in range(teeth):
        middle = tooth * 2 * math.pi / teeth
        for offset, radius in ((-0.5, root), (-0.27, root), (-0.15, tip), (0.15, tip), (0.27, root)):
            angle = middle + offset * 2 * math.pi / teeth
            points.append((radius * math.cos(angle), radius * math.sin(angle)))
    sheet.polygon(np.array(points))
    sheet.disc((0, 0), 7.5, 0)
    sheet.box(-2.2, -10.5, 2.2, 0, 0)  # keyway
    for hole in range(5):
        angle = hole * 2 * math.pi / 5 + 0.3
        sheet.disc((22.5 * math.cos(angle), 22.5 * math.sin(angle)), 5.6, 0)
    height = np.minimum(sheet.depth() / 1.4, 1.0) * 1.4
    web = np.clip((sheet.r - 14.0) / 2.0, 0, 1) * np.clip((31.5 - sheet.r) / 2.0, 0, 1)
    height -= 1.6 * web
    albedo = (1.0 - 0.22 * web).astype(np.float32)
    return height, albedo, (1.0 - 0.5 * web).astype(np.float32)


def _cylinder(sheet: _Sheet, radius: float) -> NDArray:
    """Height of a rod of the given radius that fills the mask, from the distance to its edge."""
    inside = np.clip(1.0 - sheet.depth() / radius, 0, 1)
    return radius * np.sqrt(np.clip(1.0 - np.square(inside), 0, 1))


def _bolt(sheet: _Sheet) -> _Paint:
    sheet.polygon(np.array([[-48, -16], [-46, -18.5], [-30, -18.5], [-28.5, -17], [-28.5, 17], [-30, 18.5],
                            [-46, 18.5], [-48, 16]], np.float64))  # fmt: skip
    head = sheet.mask.copy()
    flanks = np.linspace(-6, 47, 24)  # the thread's profile along the shank
    upper = [(x, -9.6 - (0.9 if i % 2 else -0.4)) for i, x in enumerate(flanks)]
    shank = [(-29.0, -9.0), (-8.0, -9.0), *upper, (49.5, -7.5), (49.5, 7.5)]
    shank += [(x, -y) for x, y in reversed(upper)] + [(-8.0, 9.0), (-29.0, 9.0)]
    sheet.polygon(np.array(shank))
    across = np.clip(np.abs(sheet.y) / 10.5, 0, 1)
    height = 7.0 * np.sqrt(1.0 - np.square(across) * 0.96)
    pitch = 53 / 23 * 2
    threaded = (sheet.x > -6) & (sheet.x < 48.5)
    turns = np.sin((sheet.x + 0.12 * sheet.y) * 2 * math.pi / pitch)
    height = np.where(threaded, height + 0.75 * turns, height)
    facets = 9.0 - 0.55 * np.clip(np.abs(sheet.y) - 8.5, 0, None) - np.clip(-44 - sheet.x, 0, None) * 0.6
    height = np.where(head > 0, facets, height)
    albedo = np.where(threaded, 0.92 + 0.16 * turns, 1.0) * np.where(head > 0, 1.04, 1.0)
    return height.astype(np.float32), albedo.astype(np.float32), np.zeros_like(sheet.x)


def _bracket(sheet: _Sheet) -> _Paint:
    outline = [(-40, -34), (-37, -37), (-15, -37), (-12, -34), (-12, 6), (-9, 9), (36, 9), (40, 13), (40, 33),
               (36, 37), (-36, 37), (-40, 33)]  # fmt: skip
    sheet.polygon(np.array(outline, np.float64))
    for centre in ((-26.0, -23.0), (-26.0, 2.0), (27.0, 23.0)):
        sheet.disc(centre, 5.2, 0)
    sheet.disc((-4.0, 23.0), 4.4, 0)
    sheet.disc((6.0, 23.0), 4.4, 0)
    sheet.box(-4, 18.6, 6, 27.4, 0)
    height = np.minimum(sheet.depth() / 1.8, 1.0) * 1.3
    rib = np.exp(-np.square((sheet.x + 26 - (sheet.y - 14) * 0.0) / 2.2)) * (sheet.y > 11) * (sheet.y < 34)
    return (height + 1.2 * rib).astype(np.float32), np.ones_like(sheet.x), np.zeros_like(sheet.x)


def _spring(sheet: _Sheet) -> _Paint:
    wire, radius, coils, length = 2.9, 14.0, 8, 76.0
    pitch = length / coils
    height = np.zeros_like(sheet.x)
    # Back halves of the turns first, then the front halves over them.
    for front in (False, True):
        for turn in range(coils + 1):
            x = -length / 2 + turn * pitch
            if not front and turn == coils:
                continue
            start, end = np.array([x, radius]), np.array([x + (-pitch / 2 if front else pitch / 2), -radius])
            along = (end - start) / np.linalg.norm(end - start)
            dx, dy = sheet.x - start[0], sheet.y - start[1]
            position = np.clip(dx * along[0] + dy * along[1], 0, np.linalg.norm(end - start))
            distance = np.hypot(dx - position * along[0], dy - position * along[1])
            rod = np.sqrt(np.clip(wire**2 - np.square(distance), 0, None)) + (0.0 if not front else 2.0)
            inside = distance < wire
            height = np.where(inside, np.maximum(rod, height) if not front else rod, height)
            sheet.mask[inside] = 255
    albedo = np.where(height > 2.0, 1.0, 0.6).astype(np.float32)
    return (height * 0.8).astype(np.float32), albedo, np.zeros_like(sheet.x)


_PAINTERS: dict[str, tuple[Callable[[_Sheet], _Paint], float]] = {
    "hex_nut": (_nut, 36.0),
    "bolt": (_bolt, 51.0),
    "washer": (_washer, 32.0),
    "gear": (_gear, 47.0),
    "bracket": (_bracket, 54.0),
    "spring": (_spring, 48.0),
    "defective_nut": (_defective_nut, 36.0),
}


def _outlines(mask: NDArray, pixels_per_unit: float) -> tuple[NDArray, tuple[NDArray, ...], float]:
    """Outer outline, holes and area of a mask, in units about its centre."""
    contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    centre = mask.shape[0] / 2 - 0.5

    def units(contour: NDArray) -> NDArray:
        return (cv2.approxPolyDP(contour, 0.6, True)[:, 0].astype(np.float64) - centre) / pixels_per_unit

    outer_index = max((i for i, h in enumerate(hierarchy[0]) if h[3] < 0), key=lambda i: cv2.contourArea(contours[i]))
    # Specks of a few samples are drawing artefacts, not holes.
    holes = tuple(
        units(c)
        for c, h in zip(contours, hierarchy[0], strict=True)
        if h[3] == outer_index and cv2.contourArea(c) > 4 * _SUPERSAMPLING**2
    )
    return units(contours[outer_index]), holes, float(np.count_nonzero(mask)) / pixels_per_unit**2


def build_part(label: str, pixels_per_unit: float) -> PartShape:
    """The unlit part ``label`` at ``pixels_per_unit`` image pixels a unit. Raises KeyError for an unknown label."""
    paint, half = _PAINTERS[label]
    sheet = _Sheet(half, pixels_per_unit)
    height, albedo, spun = paint(sheet)
    grain = np.random.default_rng(LABELS.index(label)).normal(0, 1, sheet.mask.shape).astype(np.float32)
    brushed: NDArray = cv2.GaussianBlur(grain, (0, 0), sigmaX=3.0 * sheet.k, sigmaY=0.35 * sheet.k)
    brushed /= brushed.std()
    height = cv2.GaussianBlur(height.astype(np.float32), (0, 0), 0.45 * sheet.k)
    dy, dx = np.gradient(height, 1.0 / sheet.k)
    norm = np.sqrt(1.0 + np.square(dx) + np.square(dy))
    outer, holes, area = _outlines(sheet.mask, sheet.k)
    size = (sheet.n // _SUPERSAMPLING,) * 2

    def down(image: NDArray) -> NDArray:
        return cv2.resize(np.ascontiguousarray(image, np.float32), size, interpolation=cv2.INTER_AREA)

    alpha = down(sheet.mask / np.float32(255))
    # Contact shadow: darker right at the part's edge, where little light gets in.
    contact = cv2.GaussianBlur(alpha, (0, 0), 1.3 * pixels_per_unit)
    n = alpha.shape[0]
    axis = np.arange(n, dtype=np.float32) + 0.5 - n / 2
    doubled = 2 * np.arctan2(axis[:, None], axis[None, :])
    return PartShape(
        label,
        alpha=alpha,
        albedo=down(albedo * (1 + 0.035 * brushed)),
        nx=down(-dx / norm),
        ny=down(-dy / norm),
        spun=down(spun),
        cos2=np.cos(doubled),
        sin2=np.sin(doubled),
        soft=cv2.GaussianBlur(alpha, (0, 0), _SHADOW_BLUR * pixels_per_unit),
        light_left=(1 - alpha) * (1 - 0.35 * contact),
        rings=np.concatenate([outer, *holes]),
        ring_starts=tuple(np.cumsum([len(outer), *map(len, holes)])[:-1].tolist()),
        area=area,
        half_size=(float(np.abs(outer[:, 0]).max()), float(np.abs(outer[:, 1]).max())),
    )
