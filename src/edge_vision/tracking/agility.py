"""How abruptly things move here, and for how long one way, from how well the filter foretells them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_vision.tracking import motion
from edge_vision.tracking.motion import MotionNoise

EVERY = 4  # updates: looking at each would cost more and tell little more
RATE = 0.02  # by how much (log) the median moves for each track that lies above or below it
LIVELY = 0.1  # median at which all of the noise is needed; people who walk past a still camera have 0.03, dancers 0.13

MOST = 0.3  # nats: the most that one track may say for or against fading at a time
DOUBT = 0.5  # nats of evidence below which velocities last
GRADES = 10  # of fading between none and all


class AdaptiveNoise:
    """Lets the motion noise follow what moves: how agile it is, and whether it keeps its velocity.

    Agility is scaled with the median of the normalised squared innovations of the centre. A filter that is told of
    more agility than there is follows the detector's errors and takes a wrong turn when an object is hidden; one that
    is told of less loses what turns. The innovations tell which (innovation-based adaptive estimation: Mehra,
    Approaches to adaptive filtering, IEEE Trans. Automatic Control 1972). The median, tracked by steps, as wrong
    matches have no say in it. A camera that moves shows as agility, too, and no more where its warp is given.

    Whether velocities last is decided by the ratio of the likelihoods of what was seen, if they do and if they fade
    within ``lasting`` seconds (multiple-model estimation: Bar-Shalom et al. 2001, section 11.6, with one decision for
    all tracks of a camera): the log ratio is gathered within 0..1, so that the newest evidence counts.

    full: the noise of a lively scene; least: the smallest part of its agility that is used, 1: all, always; lasting:
    s, how long velocities last where they do not; inf: they always do.
    """

    def __init__(self, full: MotionNoise, least: float, lasting: float = math.inf) -> None:
        self.full, self.least, self.lasting = full, least, lasting
        self.noise = full
        self.adapts = least < 1.0 or lasting < math.inf
        self._median = LIVELY
        self._fading = 0.0  # nats of evidence
        self._turn = 0

    def due(self) -> bool:
        """Whether it is time to `learn`. To be asked at each update."""
        self._turn = (self._turn + 1) % EVERY
        return self.adapts and not self._turn

    def learn(
        self, state: motion.State, rows: NDArray[np.intp] | slice, centred: NDArray[np.float64], dt: float
    ) -> None:
        """What is about to be corrected: tracks ``rows`` of the state predicted over ``dt`` s, with their boxes."""
        columns = state.T
        part = columns[:, rows] if isinstance(rows, slice) else columns.take(rows, 1)
        known = part[motion.VAR_VELOCITY] < 0.7 * self.full.initial_velocity**2  # those seen once tell nothing
        off = centred.T[motion.CENTRE] - part[motion.CENTRE]
        expected = (part[motion.VAR_POSITION] + self.noise.measurement**2) * part[2] * part[3]
        if dt > 0.0 and self.lasting < math.inf:
            self._weigh(off, part[motion.CENTRE_VELOCITY], expected, known, dt)
        off *= off
        above = off[0] + off[1] > 2.0 * self._median * expected
        above &= known
        balance = 2 * int(np.count_nonzero(above)) - int(np.count_nonzero(known))
        self._median = min(max(self._median * math.exp(RATE * max(-25, min(25, balance))), 1e-4), 1.0)
        part_needed = min(1.0, max(self.least, math.sqrt(self._median / LIVELY)))
        graded = round(GRADES * max(0.0, self._fading - DOUBT) / (1.0 - DOUBT)) / GRADES
        self.noise = replace(self.full, agility=self.full.agility * part_needed, fade=graded / self.lasting)

    def _weigh(self, off: NDArray, velocities: NDArray, expected: NDArray, known: NDArray[np.bool_], dt: float) -> None:
        """Gathers the evidence of one step. off, velocities: (2, M) innovations and predicted velocities."""
        left, far = motion.reach(dt, self.noise.fade)
        _, faded = motion.reach(dt, 1.0 / self.lasting)
        # Where the innovations would be with either, less the same square: a difference of two squares in one product.
        lasts = off + velocities * ((far - dt) / left)
        fades = off + velocities * ((far - faded) / left)
        nats = np.einsum("ij,ij->j", lasts - fades, lasts + fades) / (2.0 * expected)
        np.clip(nats, -MOST, MOST, out=nats)
        self._fading = min(1.0, max(0.0, self._fading + float(nats.dot(known))))
