"""What loss curves tell of a training: a few rules, each a formula over figures of the curves with its thresholds.

The vocabulary is the usual one (Goodfellow et al. 2016, Deep Learning, chapter 5; Brownlee 2019, How to use Learning
Curves to Diagnose Machine Learning Model Performance); the formulas and thresholds are the project's own, tried on
synthetic curves of each kind and on trainings (test/unit/datasets).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_vision.datasets.smoothing import Curve, falling, noise, slope, smooth
from edge_vision.datasets.training_log import TrainingLog

FEWEST_EPOCHS = 8
MOST_POINTS = 600

NAMES = {
    "too short": "too few epochs to tell",
    "diverged": "the training diverged",
    "learning rate too high": "the training loss oscillates: learning rate too high (or batches too small)",
    "unrepresentative validation data": "unrepresentative validation data: too few, or easier than the training data",
    "overfitting": "overfitting",
    "unrepresentative training data": "unrepresentative training data: they do not cover the validation data",
    "learning rate too low": "learning rate too low",
    "underfitting, still falling": "underfitting: stopped while still learning",
    "underfitting, plateau": "underfitting: the model cannot learn more",
    "good fit": "good fit",
    "undecided": "no rule applies",
}
"""The diagnoses in the order in which the first that applies is given."""

REMEDIES = {
    "too short": f"train for at least {FEWEST_EPOCHS} epochs",
    "diverged": "lower the learning rate tenfold, warm it up, clip gradients; look for broken samples (dataset check) "
    "and, with half precision, for overflow; go on from the checkpoint before the rise",
    "learning rate too high": "divide the learning rate by 3 to 10, let it decay, or enlarge the batch",
    "unrepresentative validation data": "enlarge the validation split, split anew by sequence and balanced by class "
    "(dataset split), look for leaks (dataset check). Where the loss in validation is lower: dropout, augmentation and "
    "label smoothing raise the training loss alone; measure both in the same mode before blaming the data",
    "overfitting": "take the checkpoint of the lowest validation loss (early stopping); more data or augmentation, "
    "weight decay, dropout, a smaller model",
    "unrepresentative training data": "record training data like those of the validation (other places, light, "
    "sensors, rare classes), compare both with dataset check; augment towards what is missing",
    "learning rate too low": "multiply the learning rate by 3 to 10, or train much longer",
    "underfitting, still falling": "train for more epochs, or with a higher learning rate at the start",
    "underfitting, plateau": "a larger model or input, less regularisation and augmentation, better features; check "
    "that labels are right (dataset check) and that the learning rate did not decay too early",
    "good fit": "nothing to mend; measure on the test split",
    "undecided": "look at the plot; a longer training or a larger validation split tells more",
}

DIVERGED_RISE = 0.5
DIVERGED_LEVEL = 0.2
OSCILLATION, OSCILLATION_OF_FALL = 0.08, 0.06
VAL_BELOW, VAL_BELOW_SHARE = 0.10, 0.9
VAL_NOISE, VAL_NOISE_RATIO = 0.07, 3.0
OVERFIT_RISE, OVERFIT_LEVEL, OVERFIT_NOISE = 0.05, 0.03, 3.5
GAP_LARGE, GAP_EARLY, BOTH_FALL = 0.35, 0.25, 0.15
SLOW_FALL, SLOW_LINEAR = 0.25, 0.6
STILL_FALLING, STILL_LEVEL, STILL_NOISE = 0.05, 0.01, 3.0
VAL_CALM = 4.0
PLATEAU, GAP_SMALL, SCORE_GOOD = 0.6, 0.25, 0.9
GAP_OF_FALL = 0.1


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of a rule: ``text`` = ``value`` ``sign`` ``threshold``, and whether it holds."""

    text: str
    value: float
    sign: str
    threshold: float

    @property
    def holds(self) -> bool:
        if not math.isfinite(self.value):
            return False
        return self.value > self.threshold if self.sign == ">" else self.value <= self.threshold

    def __str__(self) -> str:
        return f"{self.text} = {self.value:.3g} {self.sign if self.holds else 'not ' + self.sign} {self.threshold:.3g}"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as it was applied: it does where all its conditions hold. epoch: what the plot marks, or None."""

    name: str
    conditions: tuple[Condition, ...]
    epoch: float | None = None

    @property
    def applies(self) -> bool:
        return bool(self.conditions) and all(condition.holds for condition in self.conditions)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """name: of `NAMES`; rule: that which decided; rules: all that were tried; smooth_train, smooth_val: (N,) curves.

    also: names of further rules that apply. best: the epoch of the lowest smoothed validation loss, None without one.
    """

    name: str
    rule: Rule
    rules: tuple[Rule, ...]
    also: tuple[str, ...]
    log: TrainingLog
    smooth_train: Curve
    smooth_val: Curve | None
    best: float | None

    @property
    def title(self) -> str:
        return NAMES[self.name]

    @property
    def remedy(self) -> str:
        return REMEDIES[self.name]


def diagnose(log: TrainingLog) -> Diagnosis:
    """The first rule in the order of `NAMES` that applies. Below `FEWEST_EPOCHS` nothing is claimed but NaN."""
    broken = _broken(log)
    log = _thinned(log)
    train = _filled(log.train)
    val = _filled(log.val) if log.val is not None and np.isfinite(log.val).sum() >= 3 else None
    n = len(log)
    if n < 3 or train is None:
        rules: tuple[Rule, ...] = (broken,)
        smooth_train, smooth_val = log.train, log.val
    else:
        smooth_train = smooth(train)
        smooth_val = None if val is None else smooth(val)
        rules = (broken,)
        if n >= FEWEST_EPOCHS and not broken.applies:
            rules = _rules(log, train, val, smooth_train, smooth_val)
    best = None
    if smooth_val is not None and np.isfinite(smooth_val).any():
        best = float(log.epochs[int(np.nanargmin(smooth_val))])
    order = list(NAMES)
    applying = sorted((rule for rule in rules if rule.applies), key=lambda rule: order.index(rule.name))
    if applying:
        chosen = applying[0]
    elif n < FEWEST_EPOCHS:
        chosen = Rule("too short", (Condition("epochs", n, "<=", FEWEST_EPOCHS - 1),))
        rules = (chosen, *rules)
    else:
        chosen = Rule("undecided", ())
    also = tuple(dict.fromkeys(rule.name for rule in applying[1:] if rule.name not in (chosen.name, "good fit")))
    return Diagnosis(chosen.name, chosen, rules, also, log, smooth_train, smooth_val, best)


def _broken(log: TrainingLog) -> Rule:
    """NaN and infinity, which the log states: an empty cell is none."""
    bad = log.train_stated & ~np.isfinite(log.train)
    if log.val is not None and log.val_stated is not None:
        bad = bad | (log.val_stated & ~np.isfinite(log.val))
    epoch = float(log.epochs[int(np.argmax(bad))]) if bad.any() else None
    return Rule("diverged", (Condition("epochs with NaN or infinite loss", float(bad.sum()), ">", 0),), epoch)


def _thinned(log: TrainingLog) -> TrainingLog:
    """Logs by step are long: means of as many rows as bring them to MOST_POINTS."""
    step = -(-len(log) // MOST_POINTS)
    if step == 1:
        return log
    starts = np.arange(0, len(log), step)

    def mean(y: Curve | None) -> Curve | None:
        if y is None:
            return None
        known = np.isfinite(y)
        counts = np.add.reduceat(known.astype(np.float64), starts)
        sums = np.add.reduceat(np.where(known, y, 0.0), starts)
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)

    def stated(y: Curve | None) -> NDArray[np.bool_] | None:
        return None if y is None else np.isfinite(y)

    train, val = mean(log.train), mean(log.val)
    assert train is not None
    return replace(
        log,
        epochs=log.epochs[starts],
        train=train,
        val=val,
        train_stated=np.isfinite(train),
        val_stated=stated(val),
        score=mean(log.score),
    )


def _filled(y: Curve) -> Curve | None:
    """With gaps bridged by straight lines; None where there is nothing."""
    known = np.isfinite(y)
    if not known.any():
        return None
    return np.interp(np.arange(len(y)), np.flatnonzero(known), y[known])


def _rules(log: TrainingLog, t: Curve, v: Curve | None, st: Curve, sv: Curve | None) -> tuple[Rule, ...]:
    n = len(t)
    tail = max(3, n // 8)  # epochs that are the curves' end
    late = slice(n // 3, None)
    start_t, end_t, least_t = float(max(t[0], st[0])), float(np.median(t[-tail:])), float(st.min())
    fall_t = max(start_t - least_t, 1e-12)
    sigma_t = noise(t[n // 4 :])
    level_t = max(float(np.median(np.abs(t[late]))), 1e-12)
    wobble = float(np.sqrt(np.mean((t - falling(t))[late] ** 2)))
    quarter = n / 4
    third = max(5, n // 3)
    drop_t = -slope(t[-third:]) * quarter
    # What chance alone makes of that slope: its standard deviation is sigma / sqrt(third^3 / 12).
    chance = sigma_t * quarter / math.sqrt(third**3 / 12)
    score = float(np.nanmedian(log.score[-tail:])) if log.score is not None and np.isfinite(log.score).any() else 0.0

    rules = [
        Rule(
            "diverged",
            (
                Condition("(end - lowest) / fall of the training loss", (end_t - least_t) / fall_t, ">", DIVERGED_RISE),
                Condition("(end - lowest) / start", (end_t - least_t) / max(abs(start_t), 1e-12), ">", DIVERGED_LEVEL),
                Condition("(end - lowest) / noise", (end_t - least_t) / max(sigma_t, 1e-12), ">", 4),
            ),
            float(log.epochs[int(np.argmin(st))]),
        ),
        Rule(
            "learning rate too high",
            (
                Condition("oscillation / level of the training loss", wobble / level_t, ">", OSCILLATION),
                Condition("oscillation / fall of the training loss", wobble / fall_t, ">", OSCILLATION_OF_FALL),
            ),
        ),
    ]
    gap_small: tuple[Condition, ...] = ()
    val_calm: tuple[Condition, ...] = ()
    if v is not None and sv is not None:
        start_v, end_v, least_v = float(max(v[0], sv[0])), float(np.median(v[-tail:])), float(sv.min())
        fall_v = max(start_v - least_v, 1e-12)
        sigma_v = noise(v)
        best = int(np.argmin(sv))
        gap = end_v - end_t
        gap_best = float(sv[best] - st[best])
        early = slice(max(1, n // 20), max(3, n // 4))
        gap_early = float(np.median((v - t)[early]) / max(float(np.median(v[early])), 1e-12))
        below = (st - sv) / np.maximum(np.abs(st), 1e-12)
        later = slice(max(1, n // 10), None)
        level_v = max(float(np.median(np.abs(v[late]))), 1e-12)
        relative = gap / max(abs(end_v), 1e-12)
        rise = end_v - least_v
        rules += [
            Rule(
                "unrepresentative validation data",
                (
                    Condition("noise / level of the validation loss", noise(v[late]) / level_v, ">", VAL_NOISE),
                    Condition(
                        "its noise / that of training", noise(v[late]) / max(sigma_t, 1e-12), ">", VAL_NOISE_RATIO
                    ),
                ),
            ),
            Rule(
                "unrepresentative validation data",
                (
                    Condition("(train - val) / train, median", float(np.median(below[later])), ">", VAL_BELOW),
                    Condition("share of epochs below", float((below[later] > 0).mean()), ">", VAL_BELOW_SHARE),
                ),
            ),
            Rule(
                "overfitting",
                (
                    Condition("(end - lowest) / fall of the validation loss", rise / fall_v, ">", OVERFIT_RISE),
                    Condition("(end - lowest) / lowest", rise / max(abs(least_v), 1e-12), ">", OVERFIT_LEVEL),
                    Condition("(end - lowest) / noise", rise / max(sigma_v, 1e-12), ">", OVERFIT_NOISE),
                    Condition(
                        "(gap at the end - gap at the lowest) / rise", (gap - gap_best) / max(rise, 1e-12), ">", 0.5
                    ),
                    Condition("epochs since the lowest", n - 1 - best, ">", max(2, n // 20)),
                ),
                float(log.epochs[best]),
            ),
            Rule(
                "unrepresentative training data",
                (
                    Condition("gap at the end / validation loss", relative, ">", GAP_LARGE),
                    Condition("gap at the end / fall", gap / fall_v, ">", GAP_OF_FALL),
                    Condition("gap in the first quarter / validation loss", gap_early, ">", GAP_EARLY),
                    Condition("fall / start of the validation loss", fall_v / max(abs(start_v), 1e-12), ">", BOTH_FALL),
                    Condition("fall / start of the training loss", fall_t / max(abs(start_t), 1e-12), ">", BOTH_FALL),
                    Condition("(end - lowest) / fall of the validation loss", rise / fall_v, "<=", 2 * OVERFIT_RISE),
                ),
            ),
        ]
        allowed = max(GAP_SMALL, GAP_OF_FALL * fall_v / max(abs(end_v), 1e-12))
        gap_small = (Condition("gap at the end / validation loss", relative, "<=", allowed),)
        calm = max(2 * OVERFIT_RISE, VAL_CALM * sigma_v / fall_v)
        val_calm = (Condition("(end - lowest) / fall of the validation loss", rise / fall_v, "<=", calm),)
    falls = Condition("fall over the last quarter / whole fall", drop_t / fall_t, ">", STILL_FALLING)
    surely = Condition("fall over the last quarter / what noise makes", drop_t / max(chance, 1e-12), ">", STILL_NOISE)
    whole = fall_t / max(abs(start_t), 1e-12)
    second = t[n // 2 :]
    pace = slope(second) / min(slope(t), -1e-12)
    chance_half = sigma_t / math.sqrt(len(second) ** 3 / 12)
    surely_half = -slope(second) / max(chance_half, 1e-12)
    matters = Condition("fall over the last quarter / loss", drop_t / level_t, ">", STILL_LEVEL)
    rules += [
        Rule(
            "learning rate too low",
            (
                Condition("whole fall / start of the training loss", whole, "<=", SLOW_FALL),
                Condition("slope of the second half / slope of the whole", pace, ">", SLOW_LINEAR),
                Condition("slope of the second half / what noise makes", surely_half, ">", STILL_NOISE),
                matters,
            ),
        ),
        Rule("underfitting, still falling", (falls, matters, surely, *val_calm)),
    ]
    flat = Condition(falls.text, falls.value, "<=", STILL_FALLING)
    if not surely.holds:
        flat = Condition(surely.text, surely.value, "<=", STILL_NOISE)
    elif not matters.holds:
        flat = Condition(matters.text, matters.value, "<=", STILL_LEVEL)
    high = end_t / start_t if start_t > 0 else math.nan
    rules += [
        Rule(
            "underfitting, plateau",
            (
                flat,
                Condition("end / start of the training loss", high, ">", PLATEAU),
                Condition("score at the end", score, "<=", SCORE_GOOD),
                *gap_small,
            ),
        ),
        Rule(
            "good fit",
            (
                flat,
                Condition("end / start of the training loss", 0.0 if score > SCORE_GOOD else high, "<=", PLATEAU),
                *gap_small,
                *val_calm,
            ),
        ),
    ]
    return tuple(rules if v is not None else (rule for rule in rules if rule.name != "good fit"))
