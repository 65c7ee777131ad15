"""The compiled steps against NumPy's: the same tracks, whatever comes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vision.benchmarks.crowd import Crowd, make_crowd
from edge_vision.datatypes import Detections, Tracks
from edge_vision.tracking import PRESETS, Tracker, kernels, matching, motion
from edge_vision.tracking.association import assign
from edge_vision.tracking.record import CONFIRMED, LOST, RECORD, TENTATIVE, begin

pytestmark = pytest.mark.skipif(
    kernels.compiled is None, reason="the kernels are not built: scripts/setup.sh builds them, or pip with a compiler"
)

S = 1_000_000_000
DEFAULT = PRESETS["edge_vision"]


def both(monkeypatch: pytest.MonkeyPatch, preset: str = "edge_vision", **overrides: object) -> tuple[Tracker, Tracker]:
    """One by the kernels, one by NumPy."""
    fast = Tracker.from_preset(preset, **overrides)
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "compiled", None)
        plain = Tracker.from_preset(preset, **overrides)
    assert fast._fast
    assert not plain._fast
    return fast, plain


def assert_same(a: Tracks, b: Tracks) -> None:
    for name in ("ids", "class_ids", "states"):
        x, y = getattr(a, name), getattr(b, name)
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y, name)
    for name in ("boxes", "velocities", "scores", "ages"):
        x, y = getattr(a, name), getattr(b, name)
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        assert x.flags.c_contiguous
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("count", [1, 10, 50, 150])
@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"class_agnostic": False},
        {"coast": 1.0},
        {"publish_lost": True, "publish_tentative": True},
        {"fuse_score": False, "shape": 0.0, "low_slack": 0.0, "class_memory": 1.0},
    ],
    ids=["default", "by class", "no coasting", "all shown", "plain overlap"],
)
def test_crowds_are_followed_alike(count: int, overrides: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    fast, plain = both(monkeypatch, **overrides)
    for seed in range(2):
        for frame in make_crowd(Crowd(count, 40, seed=seed))[0]:
            classes = (np.arange(len(frame)) % 3).astype(np.int64)
            frame = replace(frame, class_ids=classes, stamp=frame.stamp + seed * 3600 * S)
            assert_same(fast.update(frame), plain.update(frame))
            np.testing.assert_allclose(fast.covariances(), plain.covariances(), rtol=1e-9)


@st.composite
def frames(draw: st.DrawFn) -> list[Detections]:
    """Few boxes that crowd a small place, some of them none, at any times."""
    made = []
    stamp = 0
    for _ in range(draw(st.integers(1, 12))):
        count = draw(st.integers(0, 12))
        random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        corner, size = random.uniform(0, 120, (count, 2)), random.uniform(-5, 80, (count, 2))
        boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
        if count and draw(st.booleans()):
            boxes[random.integers(count), random.integers(4)] = np.nan
        made.append(
            Detections(
                boxes=boxes,
                scores=random.uniform(0, 1, count).astype(np.float32),
                class_ids=random.integers(0, 3, count),
                stamp=stamp,
            )
        )
        stamp += draw(st.sampled_from([0, S // 60, S // 30, S // 5, 2 * S, 5 * S, -S]))
    return made


@settings(max_examples=150, deadline=None)
@given(frames())
def test_any_frames_are_followed_alike(scene: list[Detections]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fast, plain = both(patch)
    for detections in scene:
        assert_same(fast.update(detections), plain.update(detections))
        assert fast.rejected == plain.rejected


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 40), st.integers(1, 90), st.integers(0, 2**32 - 1))
def test_the_best_choice_is_made(tracks: int, found: int, seed: int) -> None:
    """Boxes that overlap many others: what the kernels choose is worth as much as the exact solution."""
    random = np.random.default_rng(seed)

    def boxes(count: int) -> np.ndarray:
        corner = random.uniform(0, 60, (count, 2))
        return np.concatenate([corner, corner + random.uniform(20, 90, (count, 2))], axis=1).astype(np.float32)

    there, scores = boxes(found), random.uniform(0.1, 1, found).astype(np.float32)
    at, classes = boxes(tracks), random.integers(0, 2, found)
    record = begin(1, 0, at, np.full(tracks, 0.9, np.float32), random.integers(0, 2, tracks), CONFIRMED)
    record["state"] = random.choice([TENTATIVE, CONFIRMED, LOST], tracks)
    state = motion.initiate(motion.to_centre(at), DEFAULT.noise)
    state[:, motion.VAR_POSITION] = random.uniform(0.001, 0.2, tracks)
    chosen = kernels.pairs(DEFAULT, record, state, there, scores, classes, 0.5)
    assert chosen is not None
    (rows, columns), left_over = chosen
    assert left_over == pytest.approx(max(np.delete(scores, columns), default=-np.inf), abs=1e-5)
    strong = scores >= 0.5
    candidates = matching.overlapping(*matching._areas(state, there))
    matching.by_class(DEFAULT, candidates, record["class_id"], classes)
    matching._by_shape(DEFAULT, state, there, candidates)
    r, c, worth = matching._at_once(DEFAULT, record, state, candidates, there, scores, strong)
    matrix = np.zeros((tracks, found))
    matrix[r, c] = worth
    best = assign(matrix, DEFAULT.match_gate)
    assert (np.diff(rows) > 0).all()
    assert len(set(columns.tolist())) == len(columns)
    gains = matrix - DEFAULT.match_gate
    assert gains[rows, columns].min(initial=1.0) > -1e-5
    np.testing.assert_allclose(gains[rows, columns].sum(), gains[best].sum(), atol=1e-4)


def test_what_the_kernels_do_not_know_is_left_to_numpy() -> None:
    for preset in PRESETS:
        assert Tracker.from_preset(preset)._fast == (preset == "edge_vision")
    assert not Tracker.from_preset("edge_vision", output_box="detected")._fast
    tracker = Tracker()
    tracker.parameters = replace(tracker.parameters, output_box="detected")  # while it runs
    tracker.update(make_crowd(Crowd(3, 1))[0][0])
    assert not tracker._fast


def test_more_pairs_than_memory_was_made_for_go_to_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, plain = both(monkeypatch)
    box = np.tile(np.array([[10, 10, 90, 90]], np.float32), (60, 1)) + np.arange(60, dtype=np.float32)[:, None] / 60
    for step in range(4):
        frame = Detections(box, np.full(60, 0.9, np.float32), np.zeros(60, np.int64), stamp=step * S // 30)
        assert len(fast.update(frame)) == len(plain.update(frame)) == 60


def test_other_number_types_and_orders_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, plain = both(monkeypatch)
    for frame in make_crowd(Crowd(10, 5, seed=1))[0]:
        odd = replace(
            frame,
            boxes=np.asfortranarray(frame.boxes.astype(np.float64)),
            scores=frame.scores.astype(np.float64),
            class_ids=frame.class_ids.astype(np.int32),
        )
        assert_same(fast.update(odd), plain.update(frame))


def test_memory_that_does_not_fit_is_refused() -> None:
    compiled = kernels.compiled
    assert compiled is not None
    record, state = np.zeros(3, RECORD), np.zeros((12, 3))
    boxes, scores, classes = np.zeros((2, 4), np.float32), np.zeros(2, np.float32), np.zeros(2, np.int64)
    rows = np.zeros(1, np.intp)
    for wrong in (state[:, :2].copy(), state.astype(np.float32), state.T):
        with pytest.raises((ValueError, BufferError)):
            compiled.settle(record, wrong, rows)
    with pytest.raises(ValueError, match="array 3"):
        compiled.sound(boxes, scores, classes[:1], 0.1, 1e6)
    with pytest.raises(ValueError, match="out of range"):
        compiled.correct(record, state, rows + 3, rows, boxes, scores, classes, 0, 0.05, 1, 10.0, 1)
    with pytest.raises(ValueError, match="out of range"):
        compiled.correct(record, state, rows, rows - 1, boxes, scores, classes, 0, 0.05, 1, 10.0, 1)
    state.setflags(write=False)
    with pytest.raises((ValueError, BufferError)):
        compiled.settle(record, state, rows)
