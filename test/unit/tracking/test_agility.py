"""The noise follows the scene, and velocities fade where things turn."""

from __future__ import annotations

import numpy as np

from edge_vision.tracking import MotionNoise, motion
from edge_vision.tracking.agility import AdaptiveNoise

FULL = MotionNoise(agility=2.0)


def agility_after(jerk: float, seed: int = 0) -> float:
    """Agility used after 20 s at 20 frames/s of ten boxes whose velocity takes random steps of ``jerk`` sizes/s."""
    rng = np.random.default_rng(seed)
    noise = AdaptiveNoise(FULL, 0.5)
    boxes = np.hstack([rng.uniform(0, 2000, (10, 2)), np.full((10, 2), 80.0)])
    velocity = np.zeros((10, 2))
    state = motion.initiate(boxes, FULL)
    for _ in range(400):
        velocity += rng.normal(0, jerk * 80, (10, 2))
        boxes[:, :2] += velocity / 20
        velocity *= 0.95
        state = motion.predict(state, 1 / 20, noise.noise)
        found = boxes + rng.normal(0, 0.8, boxes.shape)
        if noise.due():
            noise.learn(state, slice(None), found, 1 / 20)
        motion.correct(state, slice(None), found, FULL)
    return noise.noise.agility


def test_calm_scenes_need_less_than_lively_ones() -> None:
    assert agility_after(0.0) == 1.0
    assert agility_after(1.5) == 2.0
    assert 1.0 <= agility_after(0.0) <= agility_after(0.4) <= agility_after(1.5) <= 2.0


def test_wrong_matches_have_no_say() -> None:
    """A tenth of wild boxes does not make a calm scene a lively one."""
    rng = np.random.default_rng(1)
    noise = AdaptiveNoise(FULL, 0.5)
    boxes = np.hstack([rng.uniform(0, 2000, (20, 2)), np.full((20, 2), 80.0)])
    state = motion.initiate(boxes, FULL)
    for _ in range(400):
        state = motion.predict(state, 1 / 20, noise.noise)
        found = boxes + rng.normal(0, 0.8, boxes.shape)
        found[:2, :2] += rng.normal(0, 60, (2, 2))
        if noise.due():
            noise.learn(state, np.arange(20), found, 1 / 20)
        motion.correct(state, slice(None), found, FULL)
    assert noise.noise.agility == 1.0


def test_can_be_switched_off() -> None:
    noise = AdaptiveNoise(FULL, 1.0)
    state = motion.initiate(np.array([[100.0, 100, 80, 80]]), FULL)
    for _ in range(50):
        state = motion.predict(state, 0.1, noise.noise)
        if noise.due():
            noise.learn(state, slice(None), state[:, motion.POSITION].copy(), 0.1)
        motion.correct(state, slice(None), state[:, motion.POSITION].copy(), FULL)
    assert noise.noise is FULL


def fade_after(keep: float, seconds: float, rate: float = 10.0, warm: AdaptiveNoise | None = None) -> AdaptiveNoise:
    """What is thought of six boxes that swing (keep 0: by a cosine of 1.2 s) or go straight on (keep 1)."""
    rng = np.random.default_rng(3)
    noise = warm or AdaptiveNoise(FULL, 0.5, 0.7)
    size, dt = 80.0, 1 / rate
    phase, speed = rng.uniform(0, 6, 6), rng.uniform(40, 120, 6)
    start = np.hstack([rng.uniform(0, 2000, (6, 2)), np.full((6, 2), size)])
    state = None
    for index in range(round(seconds * rate)):
        t = index * dt
        boxes = start.copy()
        boxes[:, 0] += speed * t if keep else 0.6 * size * np.cos(2 * np.pi * t / 1.2 + phase)
        found = boxes + rng.normal(0, 0.8, boxes.shape)
        if state is None:
            state = motion.initiate(found, FULL)
            continue
        state = motion.predict(state, dt, noise.noise)
        if noise.due():
            noise.learn(state, slice(None), found, dt)
        motion.correct(state, slice(None), found, FULL)
    return noise


def test_velocities_fade_where_things_turn_round_and_last_where_they_go_on() -> None:
    dancing = fade_after(0.0, 12.0)
    assert dancing.noise.fade > 0.5 / 0.7
    assert fade_after(1.0, 12.0).noise.fade == 0.0
    assert fade_after(1.0, 12.0, warm=dancing).noise.fade == 0.0  # the newest evidence counts


def test_fading_can_be_switched_off_alone() -> None:
    noise = fade_after(0.0, 12.0, warm=AdaptiveNoise(FULL, 0.5))
    assert noise.noise.fade == 0.0
    assert noise.noise.agility > 1.0
