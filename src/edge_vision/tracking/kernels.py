"""The steps of an update that every object takes part in, compiled from `_kernels.c` where the build found a compiler.

Ten objects are no work, but a hundred calls into NumPy are: with the kernels an update of ten takes a third of the
time. Without them (`compiled` is None) the tracker does the same in NumPy (`steps`), as for what they do not know:
ByteTrack's cascade, OC-SORT's direction and recovery, looks, the detector's boxes as output. `test_kernels.py` holds
one against the other.

The functions take `record` arrays and states as `motion` has them, and detections as `datatypes` has them: boxes
(N, 4) and scores (N,) float32, class ids (N,) int64.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from edge_vision.tracking import motion, steps
from edge_vision.tracking.association import Pairs
from edge_vision.tracking.parameters import TrackerParameters
from edge_vision.tracking.record import RECORD

MOST_PAIRS = 1_000_000  # tracks x detections from which on NumPy's sweep along x is faster than looking at all

_LAYOUT = (
    (RECORD.itemsize, *(RECORD.fields[name][1] for name in RECORD.names)) if RECORD.names and RECORD.fields else ()
)


def _load() -> ModuleType | None:
    try:
        from edge_vision.tracking import _kernels  # type: ignore[attr-defined]
    except ImportError:
        return None
    return _kernels if _kernels.layout() == _LAYOUT else None  # an old build beside a new record


compiled = _load()


def fit(parameters: TrackerParameters) -> bool:
    """Whether the kernels are there and do what these parameters ask for."""
    return compiled is not None and not (parameters.cascade or parameters.direction or steps.needs_boxes(parameters))


def sound(boxes: NDArray, scores: NDArray, class_ids: NDArray, low: float, most: float) -> tuple[bool, bool]:
    """As `steps.sound`."""
    told = compiled.sound(boxes, scores, class_ids, low, most)  # type: ignore[union-attr]
    return bool(told & 1), bool(told & 2)


def predict(state: motion.State, dt: float, noise: motion.MotionNoise) -> motion.State:
    """As `motion.predict`."""
    if dt == 0.0 or not len(state):
        return state
    columns = np.empty((motion.COLUMNS, len(state)))
    compiled.predict(state.T, motion.transition(dt, noise), columns)  # type: ignore[union-attr]
    return columns.T


def pairs(
    parameters: TrackerParameters,
    record: NDArray[np.void],
    state: motion.State,
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    class_ids: NDArray[np.int64],
    high_score: float,
) -> tuple[Pairs, float] | None:
    """Rows and columns of the best pairs above match_gate, as `matching` finds them at once, and a score that no
    detection exceeds which is in none; None where so many are above the gate that the memory made for them is not
    enough."""
    tracks, found = len(record), len(boxes)
    room = 4 * (tracks + found) + 64
    rows, columns = np.empty(room, np.intp), np.empty(room, np.intp)
    gate = parameters.match_gate
    count, left_over = compiled.pairs(  # type: ignore[union-attr]
        record,
        state.T,
        boxes,
        scores,
        class_ids,
        rows,
        columns,
        high_score,
        gate,
        gate / max(parameters.low_gate, 1e-6),
        gate / max(parameters.tentative_gate, 1e-6),
        parameters.low_slack,
        parameters.shape,
        1.0 - parameters.class_change if parameters.class_agnostic else 0.0,
        parameters.noise.measurement,
        parameters.fuse_score,
    )
    return None if count < 0 else ((rows[:count], columns[:count]), left_over)


def correct(
    parameters: TrackerParameters,
    record: NDArray[np.void],
    state: motion.State,
    pairs: Pairs,
    detections: tuple[NDArray, NDArray, NDArray],
    stamp: int,
    step: int,
    young: bool,
) -> None:
    """As `steps.correct`."""
    compiled.correct(  # type: ignore[union-attr]
        record,
        state.T,
        *pairs,
        *detections,
        stamp,
        parameters.noise.measurement,
        young,
        parameters.class_memory,
        parameters.class_agnostic,
    )


def settle(record: NDArray[np.void], state: motion.State, rows: NDArray[np.intp]) -> int:
    """As `steps.settle`."""
    return compiled.settle(record, state.T, rows)  # type: ignore[union-attr]


def shown(
    parameters: TrackerParameters, record: NDArray[np.void], state: motion.State, returning: float
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """As `steps.shown`."""
    if parameters.publish_lost or parameters.publish_tentative:
        return steps.shown(parameters, record, state, returning)
    rows, chances = np.empty(len(record), np.intp), np.empty(len(record))
    count = compiled.shown(record, state.T, returning, parameters.coast, rows, chances)  # type: ignore[union-attr]
    return rows[:count], chances[:count]


def columns(
    parameters: TrackerParameters,
    record: NDArray[np.void],
    state: motion.State,
    rows: NDArray[np.intp],
    chances: NDArray[np.float64],
    stamp: int,
) -> tuple[NDArray, ...]:
    """As `steps.columns`."""
    count = len(rows)
    made = (
        np.empty((count, 4), np.float32),
        np.empty(count, np.float32),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
        np.empty((count, 2), np.float32),
        np.empty(count, np.float32),
        np.empty(count, np.uint8),
    )
    compiled.report(record, state.T, rows, chances, stamp, *made)  # type: ignore[union-attr]
    return made
