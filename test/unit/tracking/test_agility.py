"""The noise follows the scene."""

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
        noise.learn(state, slice(None), found)
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
        noise.learn(state, np.arange(20), found)
        motion.correct(state, slice(None), found, FULL)
    assert noise.noise.agility == 1.0


def test_can_be_switched_off() -> None:
    noise = AdaptiveNoise(FULL, 1.0)
    state = motion.initiate(np.array([[100.0, 100, 80, 80]]), FULL)
    for _ in range(50):
        state = motion.predict(state, 0.1, noise.noise)
        noise.learn(state, slice(None), state[:, motion.POSITION].copy())
        motion.correct(state, slice(None), state[:, motion.POSITION].copy(), FULL)
    assert noise.noise is FULL
