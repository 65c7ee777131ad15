"""The parts lit for their rotation, as sprites to lay onto the belt."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_vision.simulation.parts import LABELS, PartShape, build_part

SHADOW_REACH = (7.5, 6.5, 12.5, 13.5)  # units that a shadow can be seen beyond its part: left, top, right, bottom
_LIGHT = np.array([-0.60, -0.80])  # towards the lamp, in the image plane
_SHADOW_OFFSET = 4.5  # units, away from the lamp
_SHADOW_DEPTH = 0.62
_ANGLE_STEP = math.radians(4.0)  # shading is baked for every 4 degrees; a part at an angle between has the nearest's

# Finishes: BGR reflectance of the metal, and how strong the highlights are.
_FINISHES: dict[str, tuple[tuple[float, float, float], float]] = {
    "steel": ((0.67, 0.65, 0.63), 0.85),
    "brass": ((0.33, 0.60, 0.75), 0.70),
    "dark_oxide": ((0.44, 0.41, 0.40), 0.80),
    "zinc_yellow": ((0.38, 0.66, 0.74), 0.55),
    "blue_coat": ((0.62, 0.44, 0.27), 0.35),
    "copper": ((0.35, 0.48, 0.74), 0.70),
}
FINISHES_OF = {
    "hex_nut": ("steel", "brass"),
    "bolt": ("steel", "dark_oxide"),
    "washer": ("steel", "copper"),
    "gear": ("brass", "steel"),
    "bracket": ("zinc_yellow", "blue_coat"),
    "spring": ("steel", "copper"),
    "defective_nut": ("steel", "brass"),
}


def light_part(part: PartShape, finish: str, angle: float, pixels_per_unit: float) -> NDArray:
    """The part lit for rotation ``angle`` (rad, clockwise in the image), still drawn at angle 0.

    Returns (h, w, 4) uint8: premultiplied BGR, and the share of the background that is left (in 255ths), which
    holds both the part's opacity and its soft shadow: ``out = background * share / 255 + bgr``.
    """
    tint, gloss = _FINISHES[finish]
    c, s = math.cos(angle), math.sin(angle)
    lx, ly = c * _LIGHT[0] + s * _LIGHT[1], -s * _LIGHT[0] + c * _LIGHT[1]  # the lamp in the part's frame
    facing = np.float32(lx) * part.nx + np.float32(ly) * part.ny
    # Turned metal shines in two lobes across the lamp's direction: cos^2 of the polar angle to it, sharpened.
    lobes = 2 * math.atan2(ly, lx) - 1.2
    lobe = np.float32(0.5 * math.cos(lobes)) * part.cos2 + np.float32(0.5 * math.sin(lobes)) * part.sin2 + 0.5
    lobe *= lobe
    turned = part.spun * (lobe * lobe * lobe * 0.42 - 0.10)
    # A wide lamp reflected in flat metal: a slow gradient across the part, brighter on the lamp's side.
    n = part.alpha.shape[0]
    axis = (np.arange(n, dtype=np.float32) + 0.5 - n / 2) * np.float32(0.10 / (30.0 * pixels_per_unit))
    sheen = axis[None, :] * np.float32(lx) + axis[:, None] * np.float32(ly)
    diffuse = part.albedo * (0.78 + 0.55 * facing + sheen)
    glint = np.maximum(facing - 0.22, 0)
    highlight = np.clip(gloss * (glint * glint * 1.5 + turned), -0.2, 1) * 0.8
    offset = -_SHADOW_OFFSET * pixels_per_unit * np.array([lx, ly])
    moved = cv2.warpAffine(part.soft, np.array([[1, 0, offset[0]], [0, 1, offset[1]]]), (n, n))
    planes = [np.clip(diffuse * np.float32(t) + highlight, 0.015, 1) * part.alpha for t in tint]
    planes.append(part.light_left * (1 - _SHADOW_DEPTH * moved))
    return cv2.add(cv2.merge(planes) * np.float32(255), (0.0,) * 4, dtype=cv2.CV_8U)  # type: ignore[call-overload]


class PartSprites:
    """Lit sprites of every part at one resolution, made when first needed and kept up to ``limit`` bytes."""

    def __init__(self, pixels_per_unit: float, limit: int = 24 << 20) -> None:
        self.scale = pixels_per_unit
        self.shapes = tuple(build_part(label, pixels_per_unit) for label in LABELS)
        self._lit: OrderedDict[tuple[int, int, int], NDArray] = OrderedDict()
        self._bytes = 0
        self._limit = limit
        self._lock = threading.Lock()  # scenes of several threads share the sprites

    def get(self, class_id: int, finish: int, angle: float) -> NDArray[np.uint8]:
        """The sprite (see `light_part`) whose baked lighting is nearest to ``angle`` rad."""
        step = round(angle / _ANGLE_STEP) % round(2 * math.pi / _ANGLE_STEP)
        key = (class_id, finish, step)
        with self._lock:
            sprite = self._lit.get(key)
            if sprite is None:
                shape = self.shapes[class_id]
                sprite = light_part(shape, FINISHES_OF[shape.label][finish], step * _ANGLE_STEP, self.scale)
                self._lit[key] = sprite
                self._bytes += sprite.nbytes
                while self._bytes > self._limit and len(self._lit) > 1:
                    self._bytes -= self._lit.popitem(last=False)[1].nbytes
            else:
                self._lit.move_to_end(key)
        return sprite


@lru_cache(maxsize=2)
def part_sprites(pixels_per_unit: float) -> PartSprites:
    """The sprites of a resolution, shared by all scenes of it: they do not depend on the seed."""
    return PartSprites(pixels_per_unit)
