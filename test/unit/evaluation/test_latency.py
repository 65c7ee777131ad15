from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.evaluation.latency import summarize


def test_known_figures() -> None:
    summary = summarize([n * 1_000_000 for n in range(1, 102)])
    assert summary.count == 101
    assert (summary.p50, summary.p95, summary.p99) == pytest.approx((51, 96, 100))
    assert (summary.mean, summary.max) == pytest.approx((51, 101))


def test_nothing_measured() -> None:
    summary = summarize([])
    assert summary.count == 0
    assert math.isnan(summary.p50)
    assert math.isnan(summary.max)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=50))
def test_order(samples: list[int]) -> None:
    summary = summarize(np.array(samples))
    slack = 1e-9 * max(samples) + 1e-12
    assert min(samples) * 1e-6 - slack <= summary.p50 <= summary.p95 + slack
    assert summary.p95 <= summary.p99 + slack
    assert summary.p99 <= summary.max + slack
    assert summary.mean <= summary.max + slack
