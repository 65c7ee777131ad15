"""How abruptly things move here, from how well the filter foretells them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_vision.tracking import motion
from edge_vision.tracking.motion import MotionNoise

EVERY = 4  # updates: looking at each would cost more and tell little more
RATE = 0.02  # by how much (log) the median moves for each track that lies above or below it
LIVELY = 0.1  # median at which all of the noise is needed; people who walk past a still camera have 0.03, dancers 0.13


class AdaptiveNoise:
    """Scales the agility of the noise with the median of the normalised squared innovations of the centre.

    A filter that is told of more agility than there is follows the detector's errors and takes a wrong turn when an
    object is hidden; one that is told of less loses what turns. The innovations tell which (innovation-based adaptive
    estimation: Mehra, Approaches to adaptive filtering, IEEE Trans. Automatic Control 1972). The median, tracked by
    steps, as wrong matches have no say in it. A camera that moves shows as agility, too, and no more where its warp is
    given.

    full: the noise of a lively scene; least: the smallest part of its agility that is used.
    """

    def __init__(self, full: MotionNoise, least: float) -> None:
        self.full, self.least = full, least
        self.noise = full
        self._median = LIVELY
        self._turn = 0

    def learn(self, state: motion.State, rows: NDArray[np.intp] | slice, centred: NDArray[np.float64]) -> None:
        """What is about to be corrected: tracks ``rows`` of the predicted state, with their boxes."""
        self._turn = (self._turn + 1) % EVERY
        if self._turn or self.least >= 1.0:
            return
        columns = state.T
        part = columns[:, rows] if isinstance(rows, slice) else columns.take(rows, 1)
        known = part[motion.VAR_VELOCITY] < 0.7 * self.full.initial_velocity**2  # those seen once tell nothing
        off = centred.T[motion.CENTRE] - part[motion.CENTRE]
        off *= off
        expected = (part[motion.VAR_POSITION] + self.noise.measurement**2) * part[2] * part[3]
        above = off[0] + off[1] > 2.0 * self._median * expected
        above &= known
        balance = 2 * int(np.count_nonzero(above)) - int(np.count_nonzero(known))
        self._median = min(max(self._median * float(np.exp(RATE * max(-25, min(25, balance)))), 1e-4), 1.0)
        part_needed = min(1.0, max(self.least, float(np.sqrt(self._median / LIVELY))))
        self.noise = replace(self.full, agility=self.full.agility * part_needed)
