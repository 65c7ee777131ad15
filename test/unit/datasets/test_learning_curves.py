from __future__ import annotations

import math
import os
from collections import Counter

import numpy as np
import pytest

from edge_vision.datasets.curve_report import as_dict, page, text
from edge_vision.datasets.learning_curves import FEWEST_EPOCHS, NAMES, REMEDIES, Diagnosis, diagnose
from edge_vision.datasets.smoothing import falling, noise, slope, smooth
from edge_vision.datasets.training_log import TrainingLog

# More of them, with `pytest -s -k each_kind`, print the rates that docs/diagnose_training.md gives.
SEEDS = int(os.environ.get("EDGE_VISION_CURVE_SEEDS", "60"))


def log_of(train, val=None, score=None) -> TrainingLog:
    train = np.asarray(train, float)
    stated = np.ones(len(train), bool)
    val = None if val is None else np.asarray(val, float)
    epochs = np.arange(1.0, len(train) + 1)
    return TrainingLog("x.csv", epochs, train, val, stated, None if val is None else stated, score, {"train": "loss"})


def curves(kind: str, rng: np.random.Generator, epochs: int = 0) -> TrainingLog:
    """A training of that kind: exponential falls with noise in proportion, everything drawn at random."""
    n = epochs or int(rng.integers(20, 150))
    t = np.arange(n)
    start, floor, tau = rng.uniform(0.5, 8), rng.uniform(0.05, 0.35), n * rng.uniform(0.05, 0.15)
    noise_t = rng.uniform(0.003, 0.03)
    noise_v = noise_t * rng.uniform(1, 2)
    drop = floor + (1 - floor) * np.exp(-t / tau)
    train = start * drop
    val = train * rng.uniform(1.02, 1.12)
    if kind == "overfitting":
        turn = n * rng.uniform(0.2, 0.6)
        train = start * (floor * np.exp(-2 * t / n) + (1 - floor) * np.exp(-t / tau))
        val = start * (drop * 1.05 + rng.uniform(0.15, 0.8) * np.clip(t - turn, 0, None) / n)
    elif kind == "underfitting, still falling":
        train = start * (floor + (1 - floor) * np.exp(-t / (n * rng.uniform(0.5, 1.2))))
        val = train * rng.uniform(1.02, 1.12)
    elif kind == "underfitting, plateau":
        floor = rng.uniform(0.7, 0.92)
        train = start * (floor + (1 - floor) * np.exp(-t / tau))
        val = train * rng.uniform(1.0, 1.1)
    elif kind == "unrepresentative training data":
        train = start * 0.6 * (rng.uniform(0.05, 0.2) + 0.9 * np.exp(-t / tau))
        val = start * (rng.uniform(0.3, 0.55) + 0.6 * np.exp(-t / tau))
    elif kind == "noisy validation":
        noise_v, noise_t = rng.uniform(0.12, 0.4), min(noise_t, 0.02)
    elif kind == "validation below":
        val = train * rng.uniform(0.5, 0.82)
    elif kind == "diverged to NaN":
        train = train.copy()
        train[rng.integers(1, n) :] = rng.choice([np.nan, np.inf])
    elif kind == "diverged upwards":
        turn = int(n * rng.uniform(0.4, 0.8))
        rise = start * rng.uniform(0.6, 5) * (np.clip(t - turn, 0, None) / (n - turn)) ** 1.5
        train, val = train + rise, val + rise
    elif kind == "learning rate too high":
        floor, height = rng.uniform(0.4, 0.8), rng.uniform(0.15, 0.4)
        train = start * (floor + (1 - floor) * np.exp(-t / tau))
        if rng.random() < 0.5:
            train = train * (1 + height * np.sin(2 * np.pi * t / rng.uniform(2, 8) + rng.uniform(0, 6)))
        else:
            train = train * np.exp(height * rng.standard_normal(n))
        val = train * 1.05
    elif kind == "learning rate too low":
        train = start * (1 - rng.uniform(0.05, 0.2) * t / n)
        noise_t = noise_v = min(noise_t, 0.01)
        val = train * rng.uniform(1.0, 1.05)
    else:
        assert kind == "good fit"
    return log_of(train * (1 + noise_t * rng.standard_normal(n)), val * (1 + noise_v * rng.standard_normal(n)))


KINDS = {
    "good fit": "good fit",
    "overfitting": "overfitting",
    "underfitting, still falling": "underfitting, still falling",
    "underfitting, plateau": "underfitting, plateau",
    "unrepresentative training data": "unrepresentative training data",
    "noisy validation": "unrepresentative validation data",
    "validation below": "unrepresentative validation data",
    "diverged to NaN": "diverged",
    "diverged upwards": "diverged",
    "learning rate too high": "learning rate too high",
    "learning rate too low": "learning rate too low",
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_named_in_95_of_100_trainings_with_noise(kind):
    found = Counter(diagnose(curves(kind, np.random.default_rng([seed, 7]))).name for seed in range(SEEDS))
    print(f"{kind}: {found[KINDS[kind]] / SEEDS:.1%} of {SEEDS} named right, {dict(found)}")
    assert found[KINDS[kind]] >= 0.95 * SEEDS, found


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"diverged to NaN"}))
def test_nothing_is_claimed_of_a_few_epochs(kind):
    for epochs in range(1, FEWEST_EPOCHS):
        assert diagnose(curves(kind, np.random.default_rng(epochs), epochs)).name == "too short"


def test_nan_is_a_divergence_however_few_epochs_there_are():
    assert diagnose(log_of([1.0, math.nan])).name == "diverged"
    assert diagnose(log_of([1.0, 0.9], [1.0, math.inf])).rule.epoch == 2


def test_scale_of_the_loss_does_not_matter():
    for kind in KINDS:
        log = curves(kind, np.random.default_rng(3))
        for factor in (1e-4, 1e4):
            assert diagnose(log_of(log.train * factor, np.asarray(log.val) * factor)).name == diagnose(log).name


def test_without_validation_neither_overfitting_nor_a_good_fit_is_claimed():
    for kind in KINDS:
        name = diagnose(log_of(curves(kind, np.random.default_rng(5)).train)).name
        assert name not in (
            "good fit",
            "overfitting",
            "unrepresentative training data",
            "unrepresentative validation data",
        )
    assert diagnose(log_of(curves("good fit", np.random.default_rng(5)).train)).name == "undecided"


def test_a_high_score_says_that_a_high_plateau_is_none():
    log = curves("underfitting, plateau", np.random.default_rng(1))
    scored = log_of(log.train, log.val, np.full(len(log), 0.97))
    assert diagnose(log).name == "underfitting, plateau"
    assert diagnose(scored).name == "good fit"


def test_a_long_log_by_step_is_thinned_and_says_the_same():
    diagnosis = diagnose(curves("overfitting", np.random.default_rng(2), 50_000))
    assert diagnosis.name == "overfitting"
    assert len(diagnosis.log) <= 600


def test_flat_and_constant_curves_do_not_break():
    assert diagnose(log_of(np.ones(30), np.ones(30))).name == "underfitting, plateau"
    assert diagnose(log_of(np.zeros(30), np.zeros(30))).name in NAMES


def test_the_rule_is_shown_with_figures_and_thresholds_everywhere():
    diagnosis = diagnose(curves("overfitting", np.random.default_rng(0)))
    assert all(condition.holds for condition in diagnosis.rule.conditions)
    found, shown, drawn = as_dict(diagnosis), text(diagnosis), page(diagnosis)
    assert found["diagnosis"] == "overfitting"
    assert found["rule"]["conditions"][0]["value"] > found["rule"]["conditions"][0]["threshold"]
    assert found["best_epoch"] == diagnosis.rule.epoch
    for condition in diagnosis.rule.conditions:
        assert str(condition) in shown
    assert REMEDIES["overfitting"] in shown
    assert "<svg" in drawn
    assert "lowest validation loss, epoch" in drawn
    assert set(REMEDIES) == set(NAMES)


# -- real trainings --------------------------------------------------------------------------------------------------


def train_network(
    width: int, samples: int, epochs: int, rate: float, *, flipped: float = 0.0, seed: int = 0
) -> Diagnosis:
    """A network with one hidden layer learns by gradient descent to tell the two halves of a ring pattern."""
    rng = np.random.default_rng(seed)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.uniform(-1, 1, (count, 2))
        y = ((np.hypot(x[:, 0], x[:, 1]) * 2.2).astype(int) % 2).astype(float)
        wrong = rng.random(count) < flipped
        return x, np.where(wrong, 1 - y, y)

    (x, y), (vx, vy) = draw(samples), draw(400)
    w1, b1 = rng.normal(0, 2, (2, width)), rng.normal(0, 1, width)
    w2, b2 = rng.normal(0, 0.1 / np.sqrt(width), width), 0.0
    moments = [[np.zeros_like(p), np.zeros_like(p)] for p in (w1, b1, w2, np.float64(b2))]

    def loss(x: np.ndarray, y: np.ndarray) -> float:
        z = np.tanh(x @ w1 + b1) @ w2 + b2
        return float(np.mean(np.logaddexp(0, z) - y * z))

    history = []
    step = 0
    for _ in range(epochs):
        for _ in range(4):
            h = np.tanh(x @ w1 + b1)
            error = (1 / (1 + np.exp(-np.clip(h @ w2 + b2, -60, 60))) - y) / len(y)
            back = error[:, None] * w2 * (1 - h * h)
            gradients = [x.T @ back, back.sum(0), h.T @ error, error.sum()]
            step += 1
            updates = []
            for (m, s), g in zip(moments, gradients, strict=True):  # Adam
                m[...] = 0.9 * m + 0.1 * g
                s[...] = 0.99 * s + 0.01 * g * g
                updates.append(rate * (m / (1 - 0.9**step)) / (np.sqrt(s / (1 - 0.99**step)) + 1e-8))
            w1, b1, w2, b2 = w1 - updates[0], b1 - updates[1], w2 - updates[2], b2 - float(updates[3])
        history.append((loss(x, y), loss(vx, vy)))
    return diagnose(log_of(*np.array(history).T))


@pytest.mark.parametrize("seed", range(3))
def test_a_large_network_on_few_samples_with_wrong_labels_overfits(seed):
    found = train_network(width=200, samples=60, epochs=80, rate=0.03, flipped=0.2, seed=seed)
    assert found.name == "overfitting", text(found)


@pytest.mark.parametrize("seed", range(3))
def test_a_network_of_one_neuron_underfits(seed):
    found = train_network(width=1, samples=2000, epochs=80, rate=0.03, seed=seed)
    assert found.name == "underfitting, plateau", text(found)


@pytest.mark.parametrize("seed", range(3))
def test_a_training_that_was_stopped_early_is_still_falling(seed):
    found = train_network(width=60, samples=2000, epochs=25, rate=0.01, seed=seed)
    assert found.name == "underfitting, still falling", text(found)


@pytest.mark.parametrize("seed", range(3))
def test_a_training_with_a_tiny_rate_is_told(seed):
    found = train_network(width=60, samples=2000, epochs=60, rate=0.0003, seed=seed)
    assert found.name in ("learning rate too low", "underfitting, still falling"), text(found)


# -- smoothing -------------------------------------------------------------------------------------------------------


def test_smoothing_keeps_lines_and_takes_single_outliers_out():
    line = np.linspace(5, 1, 40)
    assert smooth(line) == pytest.approx(line)
    spiked = line.copy()
    spiked[20] += 50
    assert np.abs(smooth(spiked) - line).max() < 0.2


def test_noise_is_that_of_the_points_and_not_of_the_trend():
    rng = np.random.default_rng(0)
    trend = 3 * np.exp(-np.arange(400) / 80)
    assert noise(trend) < 0.002
    assert noise(trend + 0.1 * rng.standard_normal(400)) == pytest.approx(0.1, rel=0.15)


def test_the_nearest_falling_curve_pools_what_rises():
    assert falling(np.array([3.0, 1, 2, 2, 0])).tolist() == pytest.approx([3, 5 / 3, 5 / 3, 5 / 3, 0])
    rng = np.random.default_rng(1)
    y = rng.standard_normal(60)
    best = falling(y)
    assert (np.diff(best) <= 1e-12).all()
    others = -np.sort(-rng.standard_normal((200, 60)), axis=1)
    assert ((y - best) ** 2).sum() <= ((y - others) ** 2).sum(1).min()


def test_slope_is_not_moved_by_a_few_outliers():
    y = 2.0 - 0.1 * np.arange(30)
    y[[4, 17]] += 30
    assert slope(y) == pytest.approx(-0.1, abs=0.005)
