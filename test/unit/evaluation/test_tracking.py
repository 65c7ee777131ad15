"""Tracking scores against numbers computed by hand, and against motmetrics."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pytest

from edge_vision.benchmarks.crowd import Crowd, make_crowd
from edge_vision.evaluation.track_records import Role, TrackedBoxes, TruthFrame
from edge_vision.evaluation.tracking import Scores, evaluate_tracking, iou

BOX = (100.0, 100.0, 200.0, 200.0)
FAR = (500.0, 500.0, 600.0, 600.0)


@pytest.fixture(autouse=True)
def _trackeval() -> None:
    pytest.importorskip("trackeval", reason="trackeval is not installed: pip install --no-deps trackeval==1.3.0")


def tracked(*objects: tuple[int, tuple[float, ...]]) -> TrackedBoxes:
    return TrackedBoxes(
        np.array([box for _, box in objects]).reshape(-1, 4), np.array([i for i, _ in objects], np.int64)
    )


def true(*objects: tuple[int, tuple[float, ...], Role]) -> TruthFrame:
    boxes = np.array([box for _, box, _ in objects]).reshape(-1, 4)
    roles = np.array([role for _, _, role in objects], np.uint8)
    return TruthFrame(boxes, np.array([i for i, _, _ in objects], np.int64), roles)


def one_object(frames: int) -> list[TruthFrame]:
    return [true((1, BOX, Role.COUNTED))] * frames


def score(truth: Sequence[TruthFrame], found: Sequence[TrackedBoxes]) -> Scores:
    return evaluate_tracking({"a": truth}, {"a": found}).sequences["a"]


def test_perfect_tracks() -> None:
    got = score(one_object(4), [tracked((9, BOX))] * 4)
    assert (got.hota, got.deta, got.assa, got.loca, got.mota, got.idf1) == pytest.approx((1,) * 6)
    assert (got.idsw, got.fp, got.fn, got.frames, got.objects, got.identities) == (0, 0, 0, 4, 4, 1)


def test_no_tracks() -> None:
    got = score(one_object(3), [tracked()] * 3)
    assert (got.hota, got.mota, got.idf1, got.fn, got.fp) == pytest.approx((0, 0, 0, 3, 0))


def test_an_id_that_changes_half_way() -> None:
    got = score(one_object(4), [tracked((1, BOX))] * 2 + [tracked((2, BOX))] * 2)
    assert got.idsw == 1
    assert got.mota == pytest.approx(1 - 1 / 4)
    assert got.idf1 == pytest.approx(2 * 2 / (4 + 4))  # 2 of 4 boxes under the better id
    assert got.deta == pytest.approx(1)
    assert got.assa == pytest.approx(2 / (2 + 2 + 0))  # for each box 2 common, 2 missed by its id
    assert got.hota == pytest.approx(np.sqrt(0.5))


def test_one_miss_and_one_false_box() -> None:
    got = score(one_object(2), [tracked((1, BOX)), tracked((2, FAR))])
    assert (got.fp, got.fn, got.idsw) == (1, 1, 0)
    assert got.mota == pytest.approx(0)
    assert got.deta == pytest.approx(1 / 3)
    assert got.assa == pytest.approx(1 / 2)
    assert got.hota == pytest.approx(np.sqrt(1 / 6))
    assert got.idf1 == pytest.approx(2 / (2 + 2))


def test_two_objects_that_swap() -> None:
    truth = [true((1, BOX, Role.COUNTED), (2, FAR, Role.COUNTED))] * 4
    got = score(truth, [tracked((1, BOX), (2, FAR))] * 2 + [tracked((2, BOX), (1, FAR))] * 2)
    assert got.idsw == 2
    assert got.mota == pytest.approx(1 - 2 / 8)
    assert got.idf1 == pytest.approx(0.5)


def test_hota_looks_at_every_threshold() -> None:
    shifted = (120.0, 100.0, 220.0, 200.0)  # IoU 80 / 120: a match at 13 of the 19 thresholds
    assert iou(np.array([BOX]), np.array([shifted]))[0, 0] == pytest.approx(2 / 3)
    assert score(one_object(2), [tracked((1, shifted))] * 2).hota == pytest.approx(13 / 19)


@pytest.mark.parametrize(("role", "false"), [(Role.NEUTRAL, 0), (Role.PASSIVE, 1), (Role.COUNTED, 0)])
def test_results_on_distractors_are_removed(role: Role, false: int) -> None:
    truth = [true((1, BOX, Role.COUNTED), (2, FAR, role))]
    got = score(truth, [tracked((1, BOX), (2, FAR))])
    assert got.fp == false
    assert got.objects == 1 + (role == Role.COUNTED)


def test_a_distractor_takes_only_the_result_that_fits_it_best() -> None:
    near = (110.0, 100.0, 210.0, 200.0)
    truth = [true((1, BOX, Role.COUNTED), (2, near, Role.NEUTRAL))]
    got = score(truth, [tracked((1, BOX), (2, near))])
    assert (got.fp, got.fn, got.results) == (0, 0, 1)


def test_regions_excuse_what_matches_nothing() -> None:
    wide = (400.0, 400.0, 800.0, 800.0)
    truth = [true((1, BOX, Role.COUNTED), (-1, wide, Role.REGION))]
    low = (900.0, 100.0, 950.0, 120.0)  # under KITTI's 25 px
    tall = (900.0, 100.0, 950.0, 160.0)
    got = score(truth, [tracked((1, BOX), (2, FAR), (3, low), (4, tall))])
    assert (got.fp, got.fn) == (1, 0)


def test_groups_add_counts_up() -> None:
    good, bad = [tracked((1, BOX))] * 4, [tracked()] * 2
    got = evaluate_tracking(
        {"a": one_object(4), "b": one_object(2)}, {"a": good, "b": bad}, {"both": ["a", "b"], "good": ["a"]}
    )
    assert got.groups["both"].fn == 2
    assert got.groups["both"].mota == pytest.approx(1 - 2 / 6)
    assert got.mean("mota") == pytest.approx((1 - 2 / 6 + 1) / 2)
    assert got.combined == got.groups["both"]
    assert got.as_dict()["sequences"]["a"]["hota"] == pytest.approx(1)


def test_truth_of_the_twin_counts_in_full() -> None:
    _, truth = make_crowd(Crowd(5, 6))
    got = evaluate_tracking({"twin": truth}, {"twin": truth})
    assert got.sequences["twin"].hota == pytest.approx(1)
    assert got.sequences["twin"].objects == 30


@pytest.mark.parametrize(
    ("truth", "found", "groups", "says"),
    [
        ({}, {}, None, "no sequence"),
        ({"a": one_object(1)}, {}, None, "same sequences; only one has a"),
        ({"a": one_object(2)}, {"a": [tracked()]}, None, "a: 2 frames of truth but 1"),
        ({"a": one_object(1)}, {"a": [tracked((1, BOX), (1, FAR))]}, None, "frame 1 of 1: the results have id 1 twice"),
        ({"a": one_object(1)}, {"a": [tracked((1, (np.nan,) * 4))]}, None, "not finite"),
        ({"a": one_object(1)}, {"a": [tracked()]}, {"g": ["b"]}, "not so b"),
        ({"a": one_object(1)}, {"a": [tracked()]}, {"g": []}, "an empty group"),
    ],
)
def test_what_makes_no_sense_is_told(truth: dict, found: dict, groups: dict | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        evaluate_tracking(truth, found, groups)


def test_without_trackeval_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackeval.metrics", None)
    with pytest.raises(ImportError, match="pip install --no-deps trackeval"):
        evaluate_tracking({"a": one_object(1)}, {"a": [tracked()]})


def test_motmetrics_says_the_same() -> None:
    motmetrics = pytest.importorskip("motmetrics", reason="motmetrics is not installed: a second opinion, not needed")
    _, truth = make_crowd(Crowd(12, 40, seed=3))
    rng = np.random.default_rng(3)
    found = []
    for index, frame in enumerate(truth):
        kept = rng.random(len(frame)) > 0.1
        ids = frame.ids[kept] + 1000 * (index >= 20)  # all of them change half way
        noise = rng.normal(0, 4, (int(kept.sum()), 4))
        found.append(TrackedBoxes(frame.boxes[kept] + noise, ids))
    ours = evaluate_tracking({"a": truth}, {"a": found}).sequences["a"]
    events = motmetrics.MOTAccumulator(auto_id=True)
    for frame, boxes in zip(truth, found, strict=True):
        distance = 1 - iou(frame.boxes, boxes.boxes)
        events.update(frame.ids, boxes.ids, np.where(distance > 0.5, np.nan, distance))
    other = motmetrics.metrics.create().compute(events, metrics=["mota", "idf1", "num_switches"], name="a")
    assert ours.idsw > 5
    assert ours.mota == pytest.approx(other.loc["a", "mota"], abs=1e-9)
    assert ours.idf1 == pytest.approx(other.loc["a", "idf1"], abs=1e-9)
    assert ours.idsw == other.loc["a", "num_switches"]
