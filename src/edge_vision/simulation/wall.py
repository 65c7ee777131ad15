"""The wall behind the twin's board: evenly lit, with soft patches and things of many shapes, no squares in a grid."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_A_RADIAN = 700  # pixels of the texture
_SIDE = 2048


def wall(rays: NDArray[np.float32], seed: int) -> NDArray[np.uint8]:
    """What is seen along rays (H, W, 3): (H, W, 3) uint8 radiance, 255 is white. The wall is far away: what is seen
    depends on a ray's direction alone, so that two lenses at one place see the same."""
    texture = _texture(seed)
    across = np.hypot(rays[..., 0], rays[..., 1])
    angle = np.arctan2(across, rays[..., 2])
    scale = (angle / np.maximum(across, 1e-12)).astype(np.float32) * np.float32(_A_RADIAN)
    middle = np.float32(_SIDE / 2)
    x, y = rays[..., 0] * scale + middle, rays[..., 1] * scale + middle
    seen = cv2.remap(texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(seen, np.uint8)


def _texture(seed: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng([seed, 0x3A11])
    canvas = np.full((_SIDE, _SIDE, 3), (104, 112, 118), np.uint8)
    for _ in range(90):
        x, y = rng.uniform(0, _SIDE, 2)
        long, wide = rng.uniform(40, 220), rng.uniform(25, 130)
        grey = rng.uniform(45, 165)
        colour = np.clip(grey * (1 + rng.normal(0, 0.13, 3)), 20, 190).tolist()
        box = cv2.boxPoints(((float(x), float(y)), (float(long), float(wide)), float(rng.uniform(0, 90))))
        if rng.random() < 0.4:
            box = box[:3]  # a triangle
        cv2.fillConvexPoly(canvas, np.round(box * 16).astype(np.int32), colour, cv2.LINE_AA, 4)
    patches = np.zeros((_SIDE, _SIDE), np.float32)
    for cells, amplitude in ((9, 7.0), (60, 5.0), (420, 4.0)):
        noise = rng.normal(0, amplitude, (cells, cells)).astype(np.float32)
        patches += cv2.resize(noise, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.add(canvas, cv2.merge([patches] * 3), dtype=cv2.CV_8U), np.uint8)
