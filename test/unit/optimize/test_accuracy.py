"""Accuracy: as pycocotools has it on the whole set and on every draw, paired, over clips, by a real backend."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vision.datatypes import Detections
from edge_vision.evaluation.detection import coco_protocol, evaluate_detections
from edge_vision.inference.bundle import load_bundle
from edge_vision.optimize.architectures import pixels, plain_cnn
from edge_vision.optimize.data import Split
from edge_vision.optimize.measure.accuracy import (
    accuracy,
    classified,
    draw_clips,
    drop,
    mean_average_precision,
    top1,
)
from edge_vision.optimize.measure.average_precision import Matches, average_precision
from edge_vision.optimize.network import Network

LABELS = ("bolt", "gear", "nut")


def found(seed: int, images: int, spread: float = 6.0) -> tuple[list[Detections], list[Detections]]:
    """Truth and detections of it: moved, some missing, some of another class, some of nothing."""
    rng = np.random.default_rng(seed)
    truth, detections = [], []
    for _ in range(images):
        n = int(rng.integers(0, 5))
        corner = rng.uniform(0, 60, (n, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(10, 40, (n, 2))], 1).astype(np.float32)
        ids = rng.integers(0, 3, n)
        truth.append(Detections(boxes, np.ones(n, np.float32), ids, LABELS))
        kept = rng.random(n) < 0.8
        moved = boxes[kept] + rng.normal(0, spread, (int(kept.sum()), 4)).astype(np.float32)
        extra = int(rng.integers(0, 4))
        corner = rng.uniform(0, 60, (extra, 2))
        wrong = np.concatenate([corner, corner + rng.uniform(10, 40, (extra, 2))], 1).astype(np.float32)
        both = np.concatenate([moved, wrong])
        both[:, 2:] = np.maximum(both[:, 2:], both[:, :2] + 1)
        classes = np.concatenate([np.where(rng.random(kept.sum()) < 0.9, ids[kept], 0), rng.integers(0, 3, extra)])
        detections.append(Detections(both, rng.random(len(both)).astype(np.float32), classes.astype(np.int64), LABELS))
    return truth, detections


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from([3.0, 8.0]))
def test_average_precision_is_pycocotools_own(seed: int, spread: float) -> None:
    truth, detections = found(seed, 25, spread)
    matches = Matches.of(coco_protocol(truth, detections), len(truth))
    expected = evaluate_detections(truth, detections).map50_95
    assert average_precision(matches, np.ones((1, 25)))[0] == pytest.approx(expected, abs=1e-12)


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_a_weighted_image_counts_as_so_many_copies(seed: int) -> None:
    truth, detections = found(seed, 20)
    matches = Matches.of(coco_protocol(truth, detections), len(truth))
    weights = draw_clips(20, draws=3)
    values = average_precision(matches, weights, block=2)
    for row, value in zip(weights.astype(int), values, strict=True):
        copies = np.repeat(np.arange(20), row)
        again = evaluate_detections([truth[i] for i in copies], [detections[i] for i in copies])
        assert value == pytest.approx(again.map50_95, abs=1e-12)


def test_what_no_object_is_left_for_has_no_precision() -> None:
    truth, detections = found(1, 6)
    matches = Matches.of(coco_protocol(truth, detections), 6)
    empty = np.array([[0.0 if len(t) else 1.0 for t in truth]])
    assert np.isnan(average_precision(matches, empty)).all()


def split_of(seed: int, clips: int, each: int) -> Split:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (clips * each, 32, 32, 3), dtype=np.uint8)
    return Split(images, rng.integers(0, 3, len(images)), np.repeat(np.arange(clips), each))


def rows(split: Split, right: np.ndarray) -> np.ndarray:
    assert isinstance(split.truth, np.ndarray)
    answers = np.where(right, split.truth, (split.truth + 1) % 3)
    return np.eye(3, dtype=np.float32)[answers]


def test_the_interval_is_of_clips_and_not_of_images() -> None:
    split = split_of(0, 40, 25)
    rng = np.random.default_rng(1)
    by_clip = np.repeat(rng.random(40) < 0.8, 25)  # whole clips right or wrong: 40 observations, not 1000
    clustered = top1(rows(split, by_clip), split)
    alone = top1(rows(split, by_clip), dataclasses.replace(split, sequences=np.arange(1000)))
    p = by_clip.mean()
    assert clustered.value == alone.value == pytest.approx(p)
    assert clustered.low < p < clustered.high
    assert (clustered.images, clustered.clips, alone.clips) == (1000, 40, 1000)
    width, narrow = clustered.high - clustered.low, alone.high - alone.low
    assert width == pytest.approx(2 * 1.96 * np.sqrt(p * (1 - p) / 40), rel=0.15)
    assert narrow == pytest.approx(2 * 1.96 * np.sqrt(p * (1 - p) / 1000), rel=0.15)


def test_the_difference_of_two_is_paired() -> None:
    split = split_of(0, 60, 10)
    rng = np.random.default_rng(2)
    first = rng.random(600) < 0.8
    second = first.copy()
    second[np.flatnonzero(first)[::40]] = False  # a few more wrong, the same otherwise
    a, b = top1(rows(split, first), split), top1(rows(split, second), split)
    lost = drop(a, b)
    assert lost.value == pytest.approx(first.mean() - second.mean())
    assert lost.low > 0
    assert lost.high - lost.low < 0.5 * (a.high - a.low)
    same = drop(a, top1(rows(split, first), split))
    assert (same.value, same.low, same.high) == (0, 0, 0)
    other = split_of(5, 60, 10)
    with pytest.raises(ValueError, match="not of the same images"):
        drop(a, top1(rows(other, first), other))


def test_detectors_are_drawn_by_clip_too() -> None:
    truth, detections = found(3, 60, 2.0)
    split = Split(np.zeros((60, 8, 8, 3), np.uint8), tuple(truth), np.repeat(np.arange(12), 5))
    result = mean_average_precision(detections, split)
    assert result.value == pytest.approx(evaluate_detections(truth, detections).map50_95, abs=1e-12)
    assert result.low < result.value < result.high
    assert (result.metric, result.images, result.clips) == ("mAP50-95", 60, 12)
    again = mean_average_precision(detections, split)
    assert (again.low, again.high) == (result.low, result.high)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "opencv"])
def test_a_classifier_is_run_by_the_backend_that_was_asked_for(backend: str) -> None:
    from edge_vision.inference.backends import backend as backend_module

    reason = backend_module(backend).available()
    if reason:
        pytest.skip(f"{backend}: {reason}")
    network = plain_cnn(LABELS, pixels(32, 32), seed=1)
    split = split_of(1, 4, 5)
    steps: list[float] = []

    class Bar:
        def update(self, n: float | None = 1) -> None:
            steps.append(n or 0)

        def set_postfix_str(self, s: str) -> None: ...

        def close(self) -> None: ...

    probabilities = classified(network, split, backend=backend)
    own = dataclasses.replace(split, truth=probabilities.argmax(1).astype(np.int64))
    result = accuracy(network, own, backend=backend, bar=Bar())
    assert (result.value, result.metric, sum(steps)) == (1.0, "top-1", 20)


def test_the_bundled_detector_on_images_new_to_it(repository: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    from edge_vision.optimize.loading import load_data

    bundle = load_bundle(repository / "models" / "conveyor_parts")
    network = Network(onnx.load(bundle.folder / "model.onnx"), bundle)
    data = load_data(
        "sim://conveyor?train=2&calibration=2&test=8", network.input, "detect", network.labels, cache=tmp_path
    )
    result = accuracy(network, data.test)
    assert result.images == 8
    assert result.value > 0.8


def test_what_does_not_fit_is_refused() -> None:
    network = plain_cnn(LABELS, pixels(32, 32))
    split = split_of(1, 2, 2)
    with pytest.raises(ValueError, match="no images"):
        accuracy(network, split.part(np.zeros(4, bool)))
    with pytest.raises(ValueError, match="32 x 32, the network takes 64 x 64"):
        accuracy(plain_cnn(LABELS, pixels(64, 64)), split)
    with pytest.raises(ValueError, match="not that of the task classify"):
        accuracy(network, Split(split.images, (Detections(),) * 4, split.sequences))
