"""Who is who by looks: on a drawn video at 5 frames/s, with crops embedded by a real network, and part by part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S, Detections, Frame, Tracks
from edge_vision.inference import load_bundle
from edge_vision.inference.embedding import Embedder
from edge_vision.tracking import Tracker
from edge_vision.tracking.appearance import Likeness, covered
from edge_vision.tracking.crop_choice import CropChoice

WIDTH, HEIGHT, FPS = 640, 360, 5
PILLAR = slice(270, 390)
COLOURS = [((30, 30, 220), (20, 20, 20)), ((235, 20, 15), (235, 235, 235)), ((40, 200, 40), (30, 200, 230))]


def walkers() -> list[NDArray]:
    """Centres (T, 2) of three walkers who disappear behind a pillar, stay for 3 s and come out where they are not
    expected: two turn back on the other's line, the third comes out of the far side, lower."""
    speed = 16.0
    into = np.arange(60.0, 330.0, speed)
    stay = np.full(3 * FPS, 330.0)
    back = into[::-1]
    through = 660.0 - back
    first = [np.concatenate([into, stay, back]), 90.0, 250.0]
    second = [np.concatenate([660.0 - into, stay, 660.0 - back]), 250.0, 90.0]
    third = [np.concatenate([np.full(4, 60.0), into, np.full(1, 330.0), stay[:-5], through]), 170.0, 175.0]
    paths = []
    for x, before, after in (first, second, third):
        y = np.where(np.arange(len(x)) < len(into) + len(stay) // 2, before, after)
        paths.append(np.stack([x, y], 1))
    return paths


def scene() -> list[tuple[Frame, Detections, NDArray[np.int64]]]:
    """Frames, what a detector finds in them (the visible part of who is visible by a third), and who that is."""
    rng = np.random.default_rng(5)
    background = rng.integers(90, 150, (HEIGHT, WIDTH, 1), dtype=np.uint8).repeat(3, axis=2)
    paths = walkers()
    result = []
    for t in range(max(map(len, paths))):
        image = background.copy()
        boxes, who = [], []
        for name, path in enumerate(paths):
            if t >= len(path):
                continue
            x, y = path[t]
            x1, y1, x2, y2 = int(x - 20), int(y - 50), int(x + 20), int(y + 50)
            upper, lower = COLOURS[name]
            image[max(y1, 0) : (y1 + y2) // 2, max(x1, 0) : max(x2, 0)] = upper
            image[(y1 + y2) // 2 : y2, max(x1, 0) : max(x2, 0)] = lower
            left, right = max(x1, 0), min(x2, WIDTH)
            if left < PILLAR.start < right:
                right = PILLAR.start
            elif left < PILLAR.stop < right:
                left = PILLAR.stop
            elif PILLAR.start <= left and right <= PILLAR.stop:
                continue
            if right - left >= 14:
                boxes.append([left, max(y1, 0), right, y2])
                who.append(name)
        image[:, PILLAR] = (128, 128, 128)
        noise = rng.integers(-8, 9, image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
        found = np.array(boxes, np.float32).reshape(-1, 4)
        found += rng.normal(0, 0.7, found.shape).astype(np.float32)
        stamp = t * NS_PER_S // FPS
        scores = np.full(len(found), 0.9, np.float32)
        detections = Detections(found, scores, np.zeros(len(found), np.int64), ("person",), stamp=stamp)
        result.append((Frame(image, stamp), detections, np.array(who, np.int64)))
    return result


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory, write_embedding_model: Callable[..., Path]) -> Embedder:
    path = write_embedding_model(tmp_path_factory.mktemp("model") / "colours.onnx")
    return Embedder.load(load_bundle(path, decoder="embedding", mean=0.0, std=1.0), backend="onnxruntime")


def ids_of(tracks: Tracks, detections: Detections, who: NDArray, names: dict[int, list[int]]) -> None:
    """Adds to each true object the id of the track on its box."""
    for box, name in zip(detections.boxes, who, strict=True):
        off = np.abs(tracks.boxes - box).max(axis=1, initial=0) if len(tracks) else np.zeros(0)
        near = (off < 25).nonzero()[0]
        if near.size:
            names.setdefault(int(name), []).append(int(tracks.ids[near[off[near].argmin()]]))


@pytest.mark.parametrize("chosen", [False, True], ids=["every crop", "chosen crops"])
def test_ids_survive_a_long_absence_by_looks_and_not_without(embedder: Embedder, chosen: bool) -> None:
    frames = scene()
    outcome: dict[bool, dict[int, list[int]]] = {True: {}, False: {}}
    crops = 0
    for looks, names in outcome.items():
        tracker, tracks, choice = Tracker(), Tracks(), CropChoice(most=3, every=2)
        for frame, detections, who in frames:
            features = None
            if looks:
                rows = choice(detections, tracks) if chosen else np.arange(len(detections))
                features = np.full((len(detections), embedder.dimension), np.nan, np.float32)
                features[rows] = embedder.embed(frame, detections.boxes[rows])
                crops += len(rows)
            tracks = tracker.update(detections, features=features)
            ids_of(tracks, detections, who, names)
    with_looks, without = outcome[True], outcome[False]
    assert {name: set(ids) for name, ids in with_looks.items()} == {0: {1}, 1: {2}, 2: {3}}, with_looks
    assert len(set().union(*without.values())) == 6  # all come back as strangers
    total = sum(len(detections) for _, detections, _ in frames)
    assert crops < 0.7 * total if chosen else crops == total


def crossing(seed: int) -> list[tuple[Detections, NDArray, NDArray]]:
    """Two that meet, stop side by side for a moment and part as if each were the other; (detections, features, who)."""
    rng = np.random.default_rng(seed)
    looks = rng.normal(size=(2, 32))
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    along = np.concatenate([np.arange(0, 100, 8.0), np.full(8, 100.0), np.arange(100, 0, -8.0)])
    result = []
    for t, x in enumerate(along):
        centres = np.array([[100 + x, 100.0], [334 - x, 100.0]])
        # While they stand, they change places bit by bit: boxes alone tell a story of two who turn back.
        if 13 <= t < 21:
            shift = (t - 12) / 8 * 34
            centres = np.array([[200 + shift, 100 + 14.0], [234 - shift, 100 - 14.0]])
        elif t >= 21:
            centres = np.array([[334 - x, 100.0], [100 + x, 100.0]])
        boxes = np.concatenate([centres - [18, 40], centres + [18, 40]], 1) + rng.normal(0, 0.5, (2, 4))
        features = looks + rng.normal(0, 0.06, looks.shape)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        stamp = t * NS_PER_S // FPS
        detections = Detections(
            boxes.astype(np.float32), np.full(2, 0.9, np.float32), np.zeros(2, np.int64), stamp=stamp
        )
        result.append((detections, features.astype(np.float32), np.arange(2)))
    return result


@pytest.mark.parametrize("preset", ["edge_vision", "bytetrack", "ocsort", "sort"])
@pytest.mark.parametrize("seed", range(3))
def test_those_who_change_places_keep_their_ids(preset: str, seed: int) -> None:
    tracker = Tracker.from_preset(preset)
    given: dict[int, list[int]] = {}
    for detections, features, who in crossing(seed):
        ids_of(tracker.update(detections, features=features), detections, who, given)
    assert len(set(given[0][-8:])) == len(set(given[1][-8:])) == 1
    assert given[0][0] == given[0][-1]
    assert given[1][0] == given[1][-1]


def noisy(seed: int, count: int = 40) -> list[Detections]:
    """Random walkers with weak, missing, double and broken boxes."""
    rng = np.random.default_rng(seed)
    centres, speeds = rng.uniform(50, 550, (6, 2)), rng.normal(0, 6, (6, 2))
    frames = []
    for t in range(count):
        centres += speeds
        seen = rng.random(6) < 0.85
        boxes = np.concatenate([centres - [15, 30], centres + [15, 30]], 1)[seen] + rng.normal(0, 1.5, (seen.sum(), 4))
        extra = rng.uniform(0, 500, (2, 4))
        boxes = np.concatenate([boxes, extra, [[np.nan, 0, 10, 10]]]).astype(np.float32)
        scores = rng.uniform(0.05, 1, len(boxes)).astype(np.float32)
        frames.append(Detections(boxes, scores, rng.integers(0, 2, len(boxes)), stamp=t * NS_PER_S // 10))
    return frames


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["edge_vision", "bytetrack", "ocsort", "sort"]))
def test_unknown_looks_change_nothing(seed: int, preset: str) -> None:
    plain, looking = Tracker.from_preset(preset), Tracker.from_preset(preset)
    for detections in noisy(seed):
        unknown = np.full((len(detections), 16), np.nan, np.float32)
        one, other = plain.update(detections), looking.update(detections, features=unknown)
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(one.boxes, other.boxes)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["edge_vision", "bytetrack", "ocsort", "sort"]), st.booleans())
def test_looks_of_any_kind_keep_the_tracker_whole(seed: int, preset: str, alike: bool) -> None:
    rng = np.random.default_rng(seed)
    tracker = Tracker.from_preset(preset, appearance_gate=0.93 if alike else 0.6)
    returned = 0
    for detections in noisy(seed):
        features = rng.normal(size=(len(detections), 8)) * (0.0 if alike else 1.0) + (1.0 if alike else 0.0)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        features[rng.random(len(features)) < 0.3] = np.nan
        given_features = None if rng.random() < 0.2 else features.astype(np.float32)
        tracks = tracker.update(detections, features=given_features)
        assert len(set(tracks.ids.tolist())) == len(tracks)
        assert np.isfinite(tracks.boxes).all()
        if detections.stamp < 2 * NS_PER_S:
            returned = tracker._appearance.returned
    if alike:  # once that is known, who look like everybody are nobody in particular (in 1 of 800 draws 4 came back)
        assert tracker._appearance.returned - returned <= 5


def test_a_weight_of_nothing_and_a_gate_of_one_are_off() -> None:
    plain, off = Tracker(), Tracker.from_preset(appearance_weight=0.0, appearance_gate=1.0)
    rng = np.random.default_rng(3)
    for detections in noisy(3):
        features = rng.normal(size=(len(detections), 8)).astype(np.float32)
        np.testing.assert_array_equal(plain.update(detections).ids, off.update(detections, features=features).ids)


def test_features_of_another_shape_are_refused() -> None:
    detections = noisy(1)[:3]
    tracker = Tracker()
    with pytest.raises(ValueError, match=r"one row for each of \d+ detections, got an array of shape \(2, 4\)"):
        tracker.update(detections[0], features=np.zeros((2, 4), np.float32))
    tracker.update(detections[0], features=np.ones((len(detections[0]), 4), np.float32))
    tracker.update(detections[1], features=np.ones((len(detections[1]), 4), np.float32))
    with pytest.raises(ValueError, match="features of 4 numbers a row so far, now of 5"):
        tracker.update(detections[2], features=np.ones((len(detections[2]), 5), np.float32))


def test_likeness_is_learnt_from_the_stream() -> None:
    rng = np.random.default_rng(0)
    likeness = Likeness()
    cosines = np.linspace(-1, 1, 41).astype(np.float32)
    assert (likeness(cosines) == 0.5).all()
    for _ in range(60):
        likeness.learn(rng.normal(0.55, 0.05, 5), rng.normal(0.25, 0.08, 20))  # a network whose cosines are all low
    p = likeness(cosines)
    assert (np.diff(p) >= 0).all()
    assert likeness(np.float32([0.25, 0.55])) == pytest.approx([0.0, 1.0], abs=0.05)
    assert 0.2 < likeness(np.float32([0.435]))[0] < 0.8  # as far from the one as from the other
    assert likeness(np.float32([np.nan])) == 0.5
    blind = Likeness()
    for _ in range(60):
        blind.learn(rng.normal(0.8, 0.05, 5), rng.normal(0.8, 0.05, 20))  # one that tells nobody apart
    assert blind(np.float32([0.8])) == pytest.approx(0.5, abs=0.1)


def test_covered_is_the_largest_share_under_another_box() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [0, 0, 100, 100], [200, 200, 210, 210]], np.float32)
    assert covered(boxes) == pytest.approx([1.0, 1.0, 0.01, 0.0])
    assert covered(boxes[:1]) == [0.0]


def test_crops_go_to_those_of_whom_boxes_do_not_tell() -> None:
    def detections(boxes: list[list[float]], scores: list[float], frame: int) -> Detections:
        return Detections(
            np.array(boxes, np.float32), np.array(scores, np.float32), np.zeros(len(boxes), np.int64), stamp=frame
        )

    def known(boxes: list[list[float]]) -> Tracks:
        ids = np.arange(len(boxes)) + 10
        return Tracks(np.array(boxes, np.float32), ids=ids, velocities=np.zeros((len(boxes), 2), np.float32))

    apart = [[100 * k, 0, 100 * k + 40, 80] for k in range(4)]
    choice = CropChoice(most=3, every=4, least=0.3)
    assert choice(detections(apart, [0.9, 0.2, 0.8, np.nan], 0), Tracks()).tolist() == [0, 2]  # strangers
    turns = [choice(detections(apart, [0.9] * 4, 0), known(apart)).tolist() for _ in range(8)]
    assert [len(rows) for rows in turns] == [3, 1, 0, 0, 3, 1, 0, 0]  # settled: each every fourth frame
    near = [*apart[:2], [120, 0, 160, 80]]
    choice = CropChoice(most=3, every=4)
    choice(detections(near[:1], [0.9], 0), known(near[:1]))
    assert choice(detections(near, [0.9, 0.9, 0.9], 0), known(near)).tolist() == [1, 2]  # 0 is settled
    hidden = [*apart[:1], [5, 5, 25, 45]]
    assert choice(detections(hidden, [0.9, 0.9], 0), Tracks()).tolist() == [0]
    assert choice(Detections(), Tracks()).tolist() == []
    with pytest.raises(ValueError, match="at least one crop"):
        CropChoice(most=0)
