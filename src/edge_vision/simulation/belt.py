"""The belt and its frame: a repeating rubber texture that moves, and the side rails that stand still."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

BELT_TOP, BELT_BOTTOM = 52.0, 428.0  # units: the edges of the belt in the image
TEXTURE_LENGTH = 1024  # units after which the belt repeats


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int], sx: float, sy: float) -> NDArray:
    """Unit-variance noise of correlation lengths sx, sy pixels that wraps round in x."""
    noise = rng.normal(0, 1, shape).astype(np.float32)
    pad = int(4 * sx) + 1
    wrapped = np.concatenate([noise[:, -pad:], noise, noise[:, :pad]], 1)
    smooth = cv2.GaussianBlur(wrapped, (0, 0), sigmaX=max(sx, 0.3), sigmaY=max(sy, 0.3))[:, pad:-pad]
    return smooth / smooth.std()


def belt_texture(scale: float, seed: int) -> NDArray[np.uint8]:
    """One length of dark rubber belt, (height, length, 3) uint8 radiance, repeating in x. scale: pixels a unit."""
    rng = np.random.default_rng([seed, 0xBE17])
    height, length = round((BELT_BOTTOM - BELT_TOP) * scale), round(TEXTURE_LENGTH * scale)
    shape = (height, length)
    u = (np.arange(length, dtype=np.float32) + 0.5)[None, :] * (TEXTURE_LENGTH / length)
    v = (np.arange(height, dtype=np.float32) + 0.5)[:, None] / scale
    base = np.full(shape, 0.215, np.float32)
    base += 0.016 * _smooth_noise(rng, shape, 40 * scale, 18 * scale)  # wear in patches
    base += 0.012 * _smooth_noise(rng, shape, 16 * scale, 0.8 * scale)  # streaks along the run
    base += 0.013 * _smooth_noise(rng, shape, 0.7 * scale, 0.7 * scale)  # grain of the rubber
    # A fine woven diamond pattern pressed into the rubber: 8 units, a divisor of the length.
    weave = np.sin((u + v) * (2 * np.pi / 8)) * np.sin((u - v) * (2 * np.pi / 8))
    base += 0.015 * weave
    # The splice of the belt: a slanted seam once per length.
    seam = np.abs(((u - 100 + 0.3 * v + TEXTURE_LENGTH / 2) % TEXTURE_LENGTH) - TEXTURE_LENGTH / 2)
    base += 0.03 * np.exp(-np.square((seam - 1.6) / 1.0)) - 0.05 * np.exp(-np.square(seam / 1.2))
    scuffs = np.zeros(shape, np.uint8)
    for _ in range(26):
        x, y = rng.uniform(30, TEXTURE_LENGTH - 90), rng.uniform(8, v[-1, 0] - 8)
        end = (int((x + rng.uniform(8, 55)) * scale), int((y + rng.uniform(-7, 7)) * scale))
        depth = int(rng.uniform(75, 255))
        cv2.line(scuffs, (int(x * scale), int(y * scale)), end, depth, max(1, round(0.8 * scale)), cv2.LINE_AA)
    base += scuffs * np.float32(0.05 / 255)
    edge = np.minimum(v, v[-1, 0] - v)  # the rails stand above the belt and shade its margins
    base = base * (1 - 0.5 * np.exp(-edge / 9.0))
    colour = base[..., None] * np.array([1.06, 1.0, 0.95], np.float32)
    return np.clip(np.rint(colour * 255), 2, 255).astype(np.uint8)


def draw_rails(canvas: NDArray, scale: float, top: float, left: float, seed: int) -> None:
    """Draws the frame above and below the belt into ``canvas`` (h, w, 3) uint8, whose pixel (0, 0) is at
    (left, top) in units."""
    height, width = canvas.shape[:2]
    rng = np.random.default_rng([seed, 0x4A11])
    y = top + (np.arange(height, dtype=np.float32) + 0.5) / scale
    brushed = _smooth_noise(rng, (height, width), 30 * scale, 0.6 * scale)
    for distance in (BELT_TOP - y, y - BELT_BOTTOM):
        rows = distance > 0
        d = distance[rows]
        profile = np.interp(d, [0, 1.5, 3, 8, 22, 30, 33, 36, 40, 90],
                            [0.14, 0.50, 0.80, 0.72, 0.60, 0.68, 0.36, 0.16, 0.11, 0.10])  # fmt: skip
        body = profile[:, None] * (1 + 0.035 * brushed[rows])
        tint = np.array([1.03, 1.0, 0.97], np.float32)
        canvas[rows] = np.clip(body[..., None] * tint * 255, 0, 255).astype(np.uint8)
    right = left + width / scale
    for x in np.arange(np.floor(left / 128) * 128 + 40, right + 20, 128.0):
        for centre in (BELT_TOP - 17.5, BELT_BOTTOM + 17.5):
            _screw(canvas, (x - left) * scale, (centre - top) * scale, scale, float(rng.uniform(0, 3.1)))


def _screw(canvas: NDArray, x: float, y: float, scale: float, angle: float) -> None:
    def fixed(px: float, py: float) -> tuple[int, int]:
        return round((px - 0.5) * 16), round((py - 0.5) * 16)

    def disc(dx: float, radius: float, value: int) -> None:
        colour = (value + 2, value, value - 3)
        cv2.circle(
            canvas, fixed(x + dx * scale, y + dx * scale), round(radius * scale * 16), colour, -1, cv2.LINE_AA, 4
        )

    disc(1.0, 6.4, 70)
    disc(0.0, 6.0, 120)
    disc(-0.5, 5.2, 172)
    disc(0.0, 4.6, 150)
    dx, dy = 3.6 * scale * np.cos(angle), 3.6 * scale * np.sin(angle)
    ends = fixed(x - dx, y - dy), fixed(x + dx, y + dy)
    cv2.line(canvas, *ends, (45, 44, 43), max(1, round(1.6 * scale)), cv2.LINE_AA, 4)
