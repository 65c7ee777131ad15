"""The border between weak and strong scores follows the detector."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.tracking.scores import ScoreBorder


def stream(border: ScoreBorder, rng: np.random.Generator, real: float, false: float, frames: int = 200) -> None:
    for _ in range(frames):
        scores = np.concatenate([rng.normal(real, 0.06, 8), rng.normal(false, 0.06, 8)])
        border.add(np.clip(scores, 0.0, 1.0).astype(np.float32))


@pytest.mark.parametrize(("real", "false", "expected"), [(0.8, 0.4, 0.6), (0.6, 0.2, 0.4), (0.7, 0.3, 0.5)])
def test_finds_the_valley(real: float, false: float, expected: float) -> None:
    border = ScoreBorder(0.45, 0.15)
    assert border.value == 0.45
    stream(border, np.random.default_rng(0), real, false)
    assert border.value == pytest.approx(expected, abs=0.051)


def test_follows_a_detector_that_changes() -> None:
    border, rng = ScoreBorder(0.45, 0.15), np.random.default_rng(0)
    stream(border, rng, 0.8, 0.4)
    stream(border, rng, 0.55, 0.15, frames=600)
    assert border.value == pytest.approx(0.35, abs=0.051)


def test_little_evidence_moves_nothing() -> None:
    border = ScoreBorder(0.45, 0.15)
    border.add(np.full(50, 0.45, np.float32))
    assert border.value == 0.45


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0), st.floats(0.0, 0.3))
def test_stays_within_reach(seed: int, start: float, reach: float) -> None:
    rng = np.random.default_rng(seed)
    border = ScoreBorder(start, reach)
    for _ in range(20):
        border.add(rng.beta(*rng.uniform(0.3, 3, 2), size=60).astype(np.float32))
        assert abs(border.value - start) <= reach + 1e-9
