"""The vectorised filter is the textbook's, and time is continuous."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.tracking import MotionNoise, motion

NOISE = MotionNoise()


class TextbookFilter:
    """One box, eight states, matrices: x = [cx cy w h and their velocities] (Bar-Shalom et al. 2001, 5.2 and 6.2.2).

    The covariance is in units of the box's size, as all noise is.
    """

    def __init__(self, centred: np.ndarray, noise: MotionNoise) -> None:
        self.noise = noise
        self.x = np.concatenate([centred, np.zeros(4)])
        self.P = np.diag([noise.measurement**2] * 4 + [noise.initial_velocity**2] * 4)

    def predict(self, dt: float) -> None:
        eye, fade = np.eye(4), self.noise.fade
        agility, drift = self.noise.agility**2, self.noise.drift**2

        def flow(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return np.exp(-fade * t), t if fade == 0 else (1 - np.exp(-fade * t)) / fade

        left, far = (float(v) for v in flow(np.array(dt)))
        F = np.block([[eye, far * eye], [0 * eye, left * eye]])
        # The process noise by its definition: what white noise at each moment has become at the end (Gauss-Legendre).
        nodes, weights = np.polynomial.legendre.leggauss(12)
        lefts, fars = flow(dt * (nodes + 1) / 2)
        integral = lambda values: agility * dt / 2 * float(weights @ values)  # noqa: E731
        Q = np.block(
            [
                [eye * (drift * dt + integral(fars**2)), eye * integral(fars * lefts)],
                [eye * integral(fars * lefts), eye * integral(lefts**2)],
            ]
        )
        self.x = F @ self.x
        self.x[2:4] = np.maximum(self.x[2:4], motion.MIN_SIZE)
        self.P = F @ self.P @ F.T + Q

    def correct(self, z: np.ndarray) -> None:
        H = np.hstack([np.eye(4), np.zeros((4, 4))])
        K = self.P @ H.T @ np.linalg.inv(H @ self.P @ H.T + np.eye(4) * self.noise.measurement**2)
        self.x = self.x + K @ (z - H @ self.x)
        self.x[2:4] = np.maximum(self.x[2:4], motion.MIN_SIZE)
        self.P = (np.eye(8) - K @ H) @ self.P


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.sampled_from([0.0, 1e-4, 0.3, 1.4, 5.0]))
def test_equals_the_textbook(seed: int, count: int, fade: float) -> None:
    rng = np.random.default_rng(seed)
    noise = replace(NOISE, fade=fade)
    boxes = np.hstack([rng.uniform(-100, 2000, (count, 2)), rng.uniform(8, 400, (count, 2))])
    state = motion.initiate(boxes, noise)
    filters = [TextbookFilter(box, noise) for box in boxes]
    for _ in range(12):
        dt = float(rng.choice([0.0, 1 / 60, 1 / 30, 0.2, 1.0]))
        state = motion.predict(state, dt, noise)
        for each in filters:
            each.predict(dt)
        rows = np.flatnonzero(rng.random(count) < 0.7)
        found = boxes[rows] * rng.uniform(0.9, 1.1, (len(rows), 4))
        motion.correct(state, slice(None) if len(rows) == count else rows, found, noise)
        for row, z in zip(rows, found, strict=True):
            filters[row].correct(z)
    covariances = motion.centre_covariance(state)
    for row, each in enumerate(filters):
        np.testing.assert_allclose(state[row, motion.POSITION], each.x[:4], rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(state[row, motion.VELOCITY], each.x[4:], rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(state[row, motion.VAR_POSITION], np.diag(each.P)[:4], rtol=1e-7)
        np.testing.assert_allclose(state[row, motion.VAR_VELOCITY], np.diag(each.P)[4:], rtol=1e-7)
        np.testing.assert_allclose(state[row, motion.COVARIANCE], np.diag(each.P[:4, 4:]), rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(covariances[row], each.P[:2, :2] * each.x[2] * each.x[3], rtol=1e-6, atol=1e-9)


@given(st.floats(0.001, 2.0), st.integers(2, 10), st.sampled_from([0.0, 1.4]))
def test_many_short_steps_are_one_long_step(dt: float, parts: int, fade: float) -> None:
    noise = replace(NOISE, fade=fade)
    state = motion.initiate(np.array([[100.0, 50.0, 40.0, 20.0]]), noise)
    state[0, motion.CENTRE_VELOCITY] = 30.0, -10.0
    split = state.copy()
    state = motion.predict(state, dt, noise)
    for _ in range(parts):
        split = motion.predict(split, dt / parts, noise)
    np.testing.assert_allclose(split, state, rtol=1e-9)


@pytest.mark.parametrize("rate", [5.0, 15.0, 30.0, 60.0])
def test_learns_the_velocity_at_any_frame_rate(rate: float) -> None:
    """A part crossing at 200 px/s is known to be that fast within a second."""
    state = motion.initiate(np.array([[0.0, 100.0, 40.0, 30.0]]), NOISE)
    for step in range(1, int(rate) + 1):
        state = motion.predict(state, 1 / rate, NOISE)
        motion.correct(state, np.array([0]), np.array([[200.0 * step / rate, 100.0, 40.0, 30.0]]), NOISE)
    np.testing.assert_allclose(state[0, motion.CENTRE_VELOCITY], [200.0, 0.0], atol=4.0)


def test_no_time_and_no_tracks_change_nothing() -> None:
    state = motion.initiate(np.array([[100.0, 50.0, 40.0, 20.0]]), NOISE)
    before = state.copy()
    state = motion.predict(state, 0.0, NOISE)
    motion.correct(state, np.zeros(0, np.intp), np.zeros((0, 4)), NOISE)
    assert (state == before).all()
    empty = motion.initiate(np.zeros((0, 4)), NOISE)
    assert motion.predict(empty, 1.0, NOISE).shape == (0, motion.COLUMNS)


def test_a_shrinking_box_does_not_turn_inside_out() -> None:
    state = motion.initiate(np.array([[100.0, 50.0, 40.0, 20.0]]), NOISE)
    state[0, motion.SIZE_VELOCITY] = -500.0
    state = motion.predict(state, 1.0, NOISE)
    corners = motion.to_corners(state[:, motion.POSITION])
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


def turned(degrees: float) -> np.ndarray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])


def test_warps_move_centre_velocity_and_size() -> None:
    state = motion.initiate(np.array([[100.0, 50.0, 40.0, 20.0]]), NOISE)
    state[0, motion.VELOCITY] = 10.0, 0.0, 1.0, 2.0
    before = state.copy()
    motion.warp(state, np.eye(3))
    np.testing.assert_allclose(state, before, atol=1e-12)
    motion.warp(state, np.array([[1.0, 0, 7], [0, 1, -3], [0, 0, 1]]))
    np.testing.assert_allclose(state[0, :8], [107, 47, 40, 20, 10, 0, 1, 2])
    motion.warp(state, np.diag([2.0, 2.0, 1.0]))
    np.testing.assert_allclose(state[0, :8], [214, 94, 80, 40, 20, 0, 2, 4])
    motion.warp(state, turned(90))
    np.testing.assert_allclose(state[0, :8], [-94, 214, 80, 40, 0, 20, 2, 4], atol=1e-9)
    np.testing.assert_array_equal(state[0, 8:], before[0, 8:])


@given(st.integers(0, 2**32 - 1))
def test_a_homography_is_followed_to_first_order(seed: int) -> None:
    """A point that moves in the old image is seen, in the new one, moving as the mapped points do."""
    rng = np.random.default_rng(seed)
    matrix = np.eye(3) + rng.normal(0, 0.02, (3, 3))
    matrix[:2, 2] *= 500
    matrix[2] = *rng.normal(0, 1e-5, 2), 1.0
    centre, velocity = rng.uniform(0, 1000, 2), rng.normal(0, 50, 2)
    state = motion.initiate(np.array([[*centre, 40.0, 20.0]]), NOISE)
    state[0, motion.CENTRE_VELOCITY] = velocity
    motion.warp(state, matrix)

    def mapped(point: np.ndarray) -> np.ndarray:
        u, v, w = matrix @ [*point, 1.0]
        return np.array([u, v]) / w

    np.testing.assert_allclose(state[0, :2], mapped(centre), rtol=1e-9)
    moved = (mapped(centre + 1e-4 * velocity) - mapped(centre - 1e-4 * velocity)) / 2e-4
    np.testing.assert_allclose(state[0, motion.CENTRE_VELOCITY], moved, rtol=1e-3, atol=1e-3)


def test_what_has_no_image_stays() -> None:
    state = motion.initiate(np.array([[100.0, 50.0, 40.0, 20.0], [10.0, 5.0, 40.0, 20.0]]), NOISE)
    before = state.copy()
    motion.warp(state, np.array([[1.0, 0, 0], [0, 1, 0], [-0.02, 0, 1]]))  # the horizon stands at x = 50
    np.testing.assert_array_equal(state[0], before[0])
    assert state[1, 0] == pytest.approx(10 / 0.8)
