"""The vectorised filter is the textbook's, and time is continuous."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.tracking import MotionNoise, motion

NOISE = MotionNoise()


class TextbookFilter:
    """One box, eight states, matrices: x = [cx cy w h and their velocities] (Bar-Shalom et al. 2001, 5.2 and 6.2.2)."""

    def __init__(self, centred: np.ndarray, noise: MotionNoise) -> None:
        self.noise = noise
        self.x = np.concatenate([centred, np.zeros(4)])
        size = np.sqrt(centred[2] * centred[3])
        self.P = np.diag([(noise.measurement * size) ** 2] * 4 + [(noise.initial_velocity * size) ** 2] * 4)

    def predict(self, dt: float) -> None:
        eye = np.eye(4)
        F = np.block([[eye, dt * eye], [0 * eye, eye]])
        size = self.x[2] * self.x[3]
        agility, drift = self.noise.agility**2 * size, self.noise.drift**2 * size
        Q = np.block(
            [
                [eye * (drift * dt + agility * dt**3 / 3), eye * agility * dt**2 / 2],
                [eye * agility * dt**2 / 2, eye * agility * dt],
            ]
        )
        self.x = F @ self.x
        self.x[2:4] = np.maximum(self.x[2:4], motion.MIN_SIZE)
        self.P = F @ self.P @ F.T + Q

    def correct(self, z: np.ndarray) -> None:
        H = np.hstack([np.eye(4), np.zeros((4, 4))])
        R = np.eye(4) * self.noise.measurement**2 * self.x[2] * self.x[3]
        K = self.P @ H.T @ np.linalg.inv(H @ self.P @ H.T + R)
        self.x = self.x + K @ (z - H @ self.x)
        self.x[2:4] = np.maximum(self.x[2:4], motion.MIN_SIZE)
        self.P = (np.eye(8) - K @ H) @ self.P


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_equals_the_textbook(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = np.hstack([rng.uniform(-100, 2000, (count, 2)), rng.uniform(8, 400, (count, 2))])
    state = motion.initiate(boxes, NOISE)
    filters = [TextbookFilter(box, NOISE) for box in boxes]
    for _ in range(12):
        dt = float(rng.choice([0.0, 1 / 60, 1 / 30, 0.2, 1.0]))
        motion.predict(state, dt, NOISE)
        for each in filters:
            each.predict(dt)
        rows = np.flatnonzero(rng.random(count) < 0.7)
        found = boxes[rows] * rng.uniform(0.9, 1.1, (len(rows), 4))
        motion.correct(state, rows, found, NOISE)
        for row, z in zip(rows, found, strict=True):
            filters[row].correct(z)
    for row, each in enumerate(filters):
        np.testing.assert_allclose(state[motion.POSITION, row], each.x[:4], rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(state[motion.VELOCITY, row], each.x[4:], rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(state[motion.VAR_POSITION, row], np.diag(each.P)[:4], rtol=1e-7)
        np.testing.assert_allclose(state[motion.VAR_VELOCITY, row], np.diag(each.P)[4:], rtol=1e-7)
        np.testing.assert_allclose(state[motion.COVARIANCE, row], np.diag(each.P[:4, 4:]), rtol=1e-7, atol=1e-9)


@given(st.floats(0.001, 2.0), st.integers(2, 10))
def test_many_short_steps_are_one_long_step(dt: float, parts: int) -> None:
    state = motion.initiate(np.array([[100.0, 50.0, 40.0, 20.0]]), NOISE)
    state[motion.VELOCITY, 0, :2] = 30.0, -10.0
    split = state.copy()
    motion.predict(state, dt, NOISE)
    for _ in range(parts):
        motion.predict(split, dt / parts, NOISE)
    np.testing.assert_allclose(split, state, rtol=1e-9)


@pytest.mark.parametrize("rate", [5.0, 15.0, 30.0, 60.0])
def test_learns_the_velocity_at_any_frame_rate(rate: float) -> None:
    """A part crossing at 200 px/s is known to be that fast within a second."""
    state = motion.initiate(np.array([[0.0, 100.0, 40.0, 30.0]]), NOISE)
    for step in range(1, int(rate) + 1):
        motion.predict(state, 1 / rate, NOISE)
        motion.correct(state, np.array([0]), np.array([[200.0 * step / rate, 100.0, 40.0, 30.0]]), NOISE)
    np.testing.assert_allclose(state[motion.VELOCITY, 0, :2], [200.0, 0.0], atol=4.0)


def test_no_time_and_no_tracks_change_nothing() -> None:
    state = motion.initiate(np.array([[100.0, 50.0, 40.0, 20.0]]), NOISE)
    before = state.copy()
    motion.predict(state, 0.0, NOISE)
    motion.correct(state, np.zeros(0, np.intp), np.zeros((0, 4)), NOISE)
    assert (state == before).all()
    empty = motion.initiate(np.zeros((0, 4)), NOISE)
    motion.predict(empty, 1.0, NOISE)
    assert empty.shape == (5, 0, 4)


def test_a_shrinking_box_does_not_turn_inside_out() -> None:
    state = motion.initiate(np.array([[100.0, 50.0, 40.0, 20.0]]), NOISE)
    state[motion.VELOCITY, 0, 2:] = -500.0
    motion.predict(state, 1.0, NOISE)
    corners = motion.to_corners(state[motion.POSITION])
    assert (corners[:, 2:] > corners[:, :2]).all()


@given(st.integers(0, 2**32 - 1))
def test_corners_and_centres(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low = rng.uniform(-1000, 1000, (5, 2))
    boxes = np.hstack([low, low + rng.uniform(0.1, 500, (5, 2))])
    np.testing.assert_allclose(motion.to_corners(motion.to_centre(boxes)), boxes, atol=1e-9)


def test_impossible_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="'drift' must be zero or more"):
        MotionNoise(drift=-1.0)
    with pytest.raises(ValueError, match="'measurement' must be more than zero"):
        MotionNoise(measurement=0.0)
    with pytest.raises(ValueError, match="'agility'"):
        MotionNoise(agility=float("nan"))
