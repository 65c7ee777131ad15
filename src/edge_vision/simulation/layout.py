"""Which parts lie on the belt, and how far the belt has run: the scene without its pixels.

The belt's travel has a closed form. Its speed is ``v (1 + variation (0.7 sin(w1 t + p1) + 0.3 sin(w2 t + p2)))``,
and parts lie in the cells of a grid that moves with it, each cell's content drawn from (seed, column, lane). So the
scene at any time is known without those before it.

Lengths are units: pixels of a 480-line image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from edge_vision.simulation.belt import BELT_BOTTOM, BELT_TOP
from edge_vision.simulation.options import ConveyorOptions
from edge_vision.simulation.parts import LABELS
from edge_vision.simulation.sprites import FINISHES_OF

_LANES = 4
_PITCH = 88.0  # between columns of cells along the belt
_LANE_HEIGHT = (BELT_BOTTOM - BELT_TOP) / _LANES
_JITTER = (30.0, 17.0)  # how far from its cell's centre a part may lie, along and across
_PART_REACH = 60.0  # no part and no shadow reaches farther from the part's centre
# Share of each class among the parts, in the order of LABELS.
_SHARES = np.array([0.18, 0.15, 0.15, 0.12, 0.13, 0.12, 0.15])


@dataclass(frozen=True, slots=True)
class Part:
    """A part as it was put on the belt.

    u: its place along the belt: at the belt's travel s its centre is at x = s - shift - u. y: across the image. angle,
    turning: rad at time 0 and rad/s, clockwise. size: factor. order: of two that overlap the larger lies on top.
    """

    id: int
    class_id: int
    finish: int
    u: float
    y: float
    angle: float
    turning: float
    size: float
    order: float


class BeltLayout:
    """The parts on the belt for some options. margin: units beyond the image's edges that the lens sees."""

    def __init__(self, options: ConveyorOptions, margin: float) -> None:
        self.options = options
        self._width = options.width * 480.0 / options.height
        self._reach = _PART_REACH + _JITTER[0] + margin
        rng = np.random.default_rng([options.seed, 1])
        phases = rng.uniform(0, 2 * math.pi, 2).tolist()
        frequencies = rng.uniform((0.5, 1.5), (1.1, 2.9)).tolist()  # rad/s
        swings = 0.7 * options.variation, 0.3 * options.variation
        self._swings = tuple(zip(swings, frequencies, phases, strict=True))
        self._column0 = self._columns(0.0)[0]
        self._part = lru_cache(maxsize=512)(self._place)
        self.entry_time = lru_cache(maxsize=512)(self._entry_time)

    def travel(self, t: float) -> float:
        """How far the belt has run at ``t`` s, in units (pixels of a 480-line image)."""
        swing = sum(a / w * (math.cos(p) - math.cos(w * t + p)) for a, w, p in self._swings)
        return self.options.speed * (t + swing)

    def belt_speed(self, t: float) -> float:
        """Speed of the belt at ``t`` s in units/s: the derivative of `travel`."""
        return self.options.speed * (1 + sum(a * math.sin(w * t + p) for a, w, p in self._swings))

    def parts(self, t: float) -> tuple[list[Part], float]:
        """The parts that may show at ``t`` s, lowest first, and the belt's travel past the camera's left edge."""
        travel = self.travel(t) - self.options.shift
        first, last = self._columns(travel)
        cells = (self._part(column, lane) for column in range(first, last + 1) for lane in range(_LANES))
        parts = [part for part in cells if part is not None]
        parts.sort(key=lambda part: part.order)
        return parts, travel

    def _columns(self, travel: float) -> tuple[int, int]:
        """First and last column of cells that may show in the image once the belt has run ``travel`` units."""
        # Columns count upwards in order of appearance: the oldest are at the right.
        return (
            math.floor((travel - self._width - self._reach) / _PITCH),
            math.ceil((travel + self._reach) / _PITCH),
        )

    def _place(self, column: int, lane: int) -> Part | None:
        """What lies in one cell of the belt, or None."""
        # Columns before the first are negative and a seed must not be: fold the sign into the key.
        rng = np.random.Generator(np.random.SFC64([self.options.seed, abs(column), int(column < 0), lane]))
        draw = rng.random(9)
        if draw[0] >= self.options.density:
            return None
        class_id = int(np.searchsorted(np.cumsum(_SHARES), draw[1] * _SHARES.sum(), side="right"))
        class_id = min(class_id, len(LABELS) - 1)
        lane_centre = BELT_TOP + (lane + 0.5) * _LANE_HEIGHT
        y = float(np.clip(lane_centre + (2 * draw[3] - 1) * _JITTER[1], BELT_TOP + 50, BELT_BOTTOM - 50))
        return Part(
            id=(column - self._column0) * _LANES + lane + 1,
            class_id=class_id,
            finish=int(draw[2] * len(FINISHES_OF[LABELS[class_id]])),
            u=column * _PITCH + (2 * draw[4] - 1) * _JITTER[0] + (lane % 2) * _PITCH / 2,
            y=y,
            angle=draw[5] * 2 * math.pi,
            turning=math.radians(self.options.rotation) * (2 * draw[6] - 1),
            size=0.92 + 0.16 * draw[7],
            order=draw[8],
        )

    def _entry_time(self, part_u: float) -> float:
        """When, in s, a part came to the camera's left edge, by Newton's method; 0 for what had passed it already."""
        part_u += self.options.shift
        if self.options.speed <= 0 or part_u <= 0:
            return 0.0
        t = part_u / self.options.speed
        for _ in range(12):
            t -= (self.travel(t) - part_u) / self.belt_speed(t)
        return max(t, 0.0)
