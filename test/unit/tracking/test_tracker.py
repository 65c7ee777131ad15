"""Who is who: scenes with a known answer, and properties that hold for any input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_vision.datatypes import Detections, Tracks, TrackState
from edge_vision.evaluation.formats import read_mot
from edge_vision.tracking import PRESETS, Tracker, TrackerParameters
from edge_vision.tracking.association import assign, iou_matrix

S = 1_000_000_000
LABELS = ("bolt", "nut", "washer")
EVERY_PRESET = pytest.mark.parametrize("preset", list(PRESETS))


def frame(boxes: list | np.ndarray, stamp: float, scores: float | list = 0.9, class_ids: int | list = 0) -> Detections:
    array = np.array(boxes, np.float32).reshape(-1, 4)
    count = len(array)
    return Detections(
        boxes=array,
        scores=np.broadcast_to(np.asarray(scores, np.float32), count).copy(),
        class_ids=np.broadcast_to(np.asarray(class_ids, np.int64), count).copy(),
        labels=LABELS,
        stamp=round(stamp * S),
        frame_id="camera",
    )


def box(x: float, y: float, width: float = 40, height: float = 30) -> list[float]:
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


@EVERY_PRESET
@pytest.mark.parametrize("rate", [5, 10, 30, 60])
def test_two_objects_keep_their_ids(preset: str, rate: int) -> None:
    """They cross the image at 60 px/s, one below the other, for two seconds."""
    tracker = Tracker.from_preset(preset)
    for step in range(2 * rate + 1):
        t = step / rate
        tracks = tracker.update(frame([box(100 + 60 * t, 100), box(300 - 60 * t, 200)], t))
    assert tracks.ids.tolist() == [1, 2]
    np.testing.assert_allclose(tracks.velocities, [[60, 0], [-60, 0]], atol=6)
    np.testing.assert_allclose(tracks.ages, [2.0, 2.0], atol=1e-5)
    np.testing.assert_allclose(tracks.boxes, [box(220, 100), box(180, 200)], atol=3)
    assert (tracks.states == TrackState.CONFIRMED).all()


def test_what_tracks_carry() -> None:
    detections = frame([box(100, 100)], 12.5, 0.75, 2)
    tracks = Tracker().update(detections)
    assert (tracks.stamp, tracks.frame_id, tracks.labels) == (detections.stamp, "camera", LABELS)
    assert tracks.class_ids.tolist() == [2]
    assert tracks.scores.tolist() == [0.75]
    assert tracks.ages.tolist() == [0.0]
    kinds = {name: getattr(tracks, name).dtype for name in ("boxes", "scores", "velocities", "ages")}
    assert set(kinds.values()) == {np.dtype(np.float32)}
    assert (tracks.ids.dtype, tracks.class_ids.dtype, tracks.states.dtype) == (np.int64, np.int64, np.uint8)


@EVERY_PRESET
def test_irregular_time(preset: str) -> None:
    """Frames come when they come; the object moves steadily all the same."""
    rng = np.random.default_rng(5)
    tracker = Tracker.from_preset(preset)
    t = 0.0
    for _ in range(60):
        tracks = tracker.update(frame([box(50 + 120 * t, 100 + 40 * t, 60, 60)], t))
        t += float(rng.choice([0.01, 0.033, 0.1, 0.2]))
    assert tracks.ids.tolist() == [1]
    np.testing.assert_allclose(tracks.velocities, [[120, 40]], rtol=0.1)


@EVERY_PRESET
def test_crossing_objects_keep_their_ids(preset: str) -> None:
    """Two parts pass each other on neighbouring lanes, half covering each other, for a moment side by side."""
    tracker = Tracker.from_preset(preset)
    for step in range(61):
        t = step / 30
        tracks = tracker.update(frame([box(100 + 150 * t, 100), box(400 - 150 * t, 115)], t))
    assert tracks.ids.tolist() == [1, 2]
    np.testing.assert_allclose(tracks.boxes[:, 0], [380, 80], atol=4)


@EVERY_PRESET
@pytest.mark.parametrize("rate", [10, 30])
def test_found_again_after_half_a_second_of_occlusion(preset: str, rate: int) -> None:
    tracker = Tracker.from_preset(preset, publish_lost=True)
    seen: list[int] = []
    for step in range(3 * rate):
        t = step / rate
        hidden = 1.0 <= t < 1.5
        tracks = tracker.update(frame([] if hidden else [box(50 + 60 * t, 100)], t))
        assert tracks.ids.tolist() == [1]
        assert (tracks.states[0] == TrackState.LOST) == hidden
        if hidden:  # it goes on moving where it should be
            seen.append(step)
            np.testing.assert_allclose(tracks.boxes[0], box(50 + 60 * t, 100), atol=8)
    assert len(seen) == rate // 2


@pytest.mark.parametrize("rate", [5, 30, 60])
def test_lost_tracks_live_for_seconds_not_frames(rate: int) -> None:
    def id_after(gap: float) -> list[int]:
        tracker = Tracker.from_preset("edge_vision", lost_after=1.0)
        for step in range(rate):
            tracker.update(frame([box(100, 100)], step / rate))
        last = (rate - 1) / rate
        for step in range(1, round(gap * rate)):
            assert len(tracker.update(frame([], last + step / rate))) == 0
        for step in range(3):
            tracks = tracker.update(frame([box(100, 100)], last + gap + step / rate))
        return tracks.ids.tolist()

    assert id_after(0.8) == [1]
    assert id_after(1.6) == [2]


def test_fast_objects_at_a_low_rate_are_met() -> None:
    """At 5 frames/s and 200 px/s a part of 40 px never overlaps itself from frame to frame."""
    tracker = Tracker.from_preset("edge_vision")
    for step in range(10):
        tracks = tracker.update(frame([box(50 + 40 * step, 100)], step / 5))
    assert tracks.ids.tolist() == [1]
    np.testing.assert_allclose(tracks.velocities, [[200, 0]], atol=10)


def test_confirmation() -> None:
    """Strong detections confirm in the second frame, weaker ones need more; a single flash never shows."""
    tracker = Tracker.from_preset("edge_vision")
    tracker.update(frame([], 0.0))
    shown = [len(tracker.update(frame([box(100, 100)], 0.1 * step, 0.9))) for step in range(1, 4)]
    assert shown == [0, 1, 1]
    tracker.reset()
    tracker.update(frame([], 1.0))
    shown = [len(tracker.update(frame([box(100, 100)], 1 + 0.1 * step, 0.6))) for step in range(1, 5)]
    assert shown == [0, 0, 1, 1]
    tracker.reset()
    flashes = [[], [box(100, 100)], [], [box(300, 100)], [], []]
    assert [len(tracker.update(frame(boxes, 2 + 0.1 * k))) for k, boxes in enumerate(flashes)] == [0] * 6


def blinking(tracker: Tracker, blinks: int, returns: bool = True) -> list[Tracks]:
    """What is reported in frames in which one object, moving at 90 px/s, is missed: every tenth of 30 frames a second.
    Without ``returns``, it is another object each time, elsewhere."""
    missed = []
    for step in range(10 * blinks):
        t = step / 30
        y = 100 if returns else 100 + 60 * (step // 10 % 9)
        unseen = step % 10 == 9
        tracks = tracker.update(frame([] if unseen else [box(100 + 90 * t, y)], t))
        if unseen:
            missed.append(tracks)
    return missed


def test_what_is_missed_for_a_moment_is_reported_where_things_come_back() -> None:
    """Two of five are taken to come back before anything is seen; after a few that did, it is more likely than not."""
    missed = blinking(Tracker(), 12)
    assert not len(missed[0])
    last = missed[-1]
    assert last.ids.tolist() == [1]
    assert last.states.tolist() == [TrackState.LOST]
    np.testing.assert_allclose(last.boxes, [box(100 + 90 * 119 / 30, 100)], atol=3)
    assert 0.45 < last.scores[0] < 0.85  # of 0.9, by the chance that it is there
    check(last)


def test_what_never_comes_back_is_not_reported() -> None:
    assert not any(len(tracks) for tracks in blinking(Tracker(), 30, returns=False))


def test_coasting_can_be_left_out() -> None:
    assert not any(len(tracks) for tracks in blinking(Tracker.from_preset(coast=1.0), 12))
    shown = blinking(Tracker.from_preset(publish_lost=True), 12)[-1]  # all lost ones, with the score they had
    assert shown.ids.tolist() == [1]
    assert shown.scores[0] == np.float32(0.9)


def test_coasting_ends_when_the_place_is_a_guess() -> None:
    tracker = Tracker()
    blinking(tracker, 20)
    shown = [len(tracker.update(frame([], (200 + step) / 30))) for step in range(30)]
    assert shown[0] == 1
    assert sum(shown) < 20
    assert sorted(shown, reverse=True) == shown
    assert not shown[-1]


@pytest.mark.parametrize("overrides", [{}, {"clutter": 0.0}], ids=["default", "whatever the clutter"])
def test_sure_starts_are_confirmed_at_once_where_starts_are_real(overrides: dict) -> None:
    tracker = Tracker.from_preset(**overrides)
    first_shown = []
    for step in range(60):  # another object joins every fifth frame, all of them stay
        boxes = [box(60 * k + 30, 100) for k in range(1 + step // 5)]
        scores = [0.7 if k == 11 else 0.9 for k in range(len(boxes))]
        tracks = tracker.update(frame(boxes, step / 30, scores))
        if step % 5 == 0 and step:
            first_shown.append(len(tracks) == len(boxes))
    assert not first_shown[0]
    assert first_shown[-2]
    assert not first_shown[-1]  # a weaker one has to be seen again


def test_a_detector_with_many_false_ones_has_to_be_surer() -> None:
    def frames_until_shown(flashes: int) -> int:
        rng = np.random.default_rng(0)
        tracker = Tracker.from_preset("edge_vision")
        tracker.update(frame([], 0.0))
        for k in range(flashes):
            tracker.update(frame([box(*rng.uniform(0, 2000, 2))], 0.1 + 0.1 * k, 0.9))
        for k in range(1, 10):
            if len(tracker.update(frame([box(100, 3000)], 0.1 * (flashes + k) + 0.1, 0.9))):
                return k
        return 10

    assert frames_until_shown(0) == 2
    assert frames_until_shown(60) in (3, 4)


def test_one_object_found_as_two_classes_is_one_track() -> None:
    """Detectors suppress doubles within a class only. The classes take turns in who scores higher."""
    tracker = Tracker.from_preset("edge_vision")
    for step in range(20):
        x = 100 + 4 * step
        found = [box(x, 100), box(x + 2, 101), box(x, 300)]
        scores = [0.8, 0.6, 0.9] if step % 3 else [0.6, 0.8, 0.9]
        tracks = tracker.update(frame(found, step / 30, scores, [0, 1, 2]))
        assert tracks.ids.tolist() == [1, 2], step
        assert tracks.class_ids.tolist() == [0, 2] or step < 3
    both = Tracker.from_preset("edge_vision", double_iou=1.0)
    for step in range(20):
        tracks = both.update(frame([box(100, 100), box(102, 101)], step / 30, 0.9, [0, 1]))
    assert len(tracks) == 2


def test_refused_and_doubled_boxes_together() -> None:
    """A box that is none and a double in one frame: the others are tracked with their own scores and classes."""
    tracker = Tracker.from_preset("edge_vision")
    for step in range(3):
        found = [box(100, 100), [np.nan, 0, 10, 10], box(101, 100), box(300, 100)]
        tracks = tracker.update(frame(found, step / 30, [0.7, 0.9, 0.8, 0.9], [0, 0, 1, 2]))
    assert tracks.class_ids.tolist() == [1, 2]
    np.testing.assert_allclose(tracks.scores, [0.8, 0.9])
    assert tracker.rejected == 3


def test_heights_tell_apart_what_overlaps_as_much() -> None:
    """Between two detections that overlap a track alike, the one of its own height continues it."""
    tracker = Tracker.from_preset("edge_vision")
    for step in range(10):
        tracker.update(frame([box(100, 100, 40, 100)], step / 30))
    # Both overlap by 0.66: one lies 8 px beside, the other is half as high again.
    tracks = tracker.update(frame([box(100, 100, 40, 152), box(108, 100, 40, 100)], 10 / 30))
    assert tracks.ids.tolist()[0] == 1
    assert abs(tracks.boxes[0, 3] - tracks.boxes[0, 1] - 100) < 10


def test_another_class_is_a_worse_match() -> None:
    """A false box of another class beside a person does not take the person over, nor end its track."""
    tracker = Tracker.from_preset("edge_vision")
    for step in range(20):
        found = [box(100, 100, 60, 120), box(130, 90, 50, 50)]
        tracks = tracker.update(
            frame(
                found[: 2 if step >= 5 else 1],
                step / 10,
                [0.7, 0.9][: 2 if step >= 5 else 1],
                [0, 1][: 2 if step >= 5 else 1],
            )
        )
        of_person = tracks.ids[tracks.class_ids == 0]
        assert of_person.tolist() == [1]
    # The person goes; what is left is the other thing, and no person.
    for step in range(20, 30):
        tracks = tracker.update(frame([box(130, 90, 50, 50)], step / 10, 0.9, 1))
    assert 1 not in tracks.ids.tolist()


def test_ocsort_finds_what_stopped_while_hidden_where_it_was_seen_last() -> None:
    def id_after(preset: str) -> list[int]:
        tracker = Tracker.from_preset(preset)
        for step in range(20):
            tracker.update(frame([box(100 + 10 * step, 100)], step / 20))
        for step in range(20, 36):
            tracker.update(frame([], step / 20))
        for step in range(36, 42):
            tracks = tracker.update(frame([box(296, 100)], step / 20))
        return tracks.ids.tolist()

    assert id_after("ocsort") == [1]
    assert id_after("sort") == [2]


def test_covariances_grow_while_unseen() -> None:
    tracker = Tracker.from_preset("edge_vision", publish_lost=True)
    for step in range(10):
        tracks = tracker.update(frame([box(100, 100), box(400, 100)], step / 10))
    seen = tracker.covariances()
    assert seen.shape == (len(tracks), 2, 2)
    tracks = tracker.update(frame([box(400, 100)], 1.2))
    after = tracker.covariances()
    assert tracks.states.tolist() == [TrackState.LOST, TrackState.CONFIRMED]
    assert after[0, 0, 0] > 5 * seen[0, 0, 0]
    assert after[1, 0, 0] < 2 * seen[1, 0, 0]
    tracker.reset()
    assert tracker.covariances().shape == (0, 2, 2)


def test_tentative_tracks_can_be_shown_and_kept() -> None:
    tracker = Tracker.from_preset("edge_vision", publish_tentative=True, tentative_lost_after=0.25, confirm_after=0.3)
    tracker.update(frame([], 0.0))
    assert tracker.update(frame([box(100, 100)], 0.1)).states.tolist() == [TrackState.TENTATIVE]
    assert len(tracker.update(frame([], 0.2))) == 1, "missed once, for less than 0.25 s"
    assert tracker.update(frame([box(100, 100)], 0.3)).states.tolist() == [TrackState.TENTATIVE]
    assert tracker.update(frame([box(100, 100)], 0.45)).states.tolist() == [TrackState.CONFIRMED]


def test_weak_detections_continue_but_never_start_tracks() -> None:
    tracker = Tracker.from_preset("bytetrack")
    for step in range(5):
        tracker.update(frame([box(100, 100)], step / 30))
    for step in range(5, 40):  # half covered: the score sinks
        tracks = tracker.update(frame([box(100, 100), box(300, 300)], step / 30, [0.2, 0.4]))
        assert tracks.ids.tolist() == [1]
        assert tracks.scores[0] == np.float32(0.2)


def test_class_votes() -> None:
    """A class that flickers does not change the track's; one that has changed for good does, within a second."""
    tracker = Tracker()
    flicker = [0, 0, 0, 1, 0, 0, 2, 0, 1, 0]
    classes = [tracker.update(frame([box(100, 100)], k / 30, 0.9, c)).class_ids[0] for k, c in enumerate(flicker)]
    assert classes == [0] * 10
    changed = [tracker.update(frame([box(100, 100)], (10 + k) / 30, 0.9, 1)).class_ids[0] for k in range(30)]
    assert changed[0] == 0
    assert changed[-1] == 1
    assert tracker.update(frame([box(100, 100)], 40 / 30)).ids.tolist() == [1]


def test_tracks_by_class() -> None:
    tracker = Tracker.from_preset("edge_vision", class_agnostic=False)
    for step in range(5):  # a nut on a washer: the same box, two objects
        tracks = tracker.update(frame([box(100, 100), box(100, 100)], step / 30, 0.9, [1, 2] if step % 2 else [2, 1]))
    assert sorted(zip(tracks.ids.tolist(), tracks.class_ids.tolist(), strict=True)) == [(1, 2), (2, 1)]


def test_stamps_that_repeat_jump_or_run_backwards() -> None:
    tracker = Tracker()
    boxes = [box(100, 100)]
    for t in (10.0, 10.1, 10.1, 10.1, 10.2):
        assert tracker.update(frame(boxes, t)).ids.tolist() == [1]
    looped = tracker.update(frame(boxes, 0.0))
    assert looped.ids.tolist() == [2], "a bag that loops starts anew, with a new id"
    assert looped.ages.tolist() == [0.0]
    assert tracker.update(frame(boxes, 0.1)).ids.tolist() == [2]
    assert tracker.update(frame(boxes, 60.0)).ids.tolist() == [3], "a minute away"
    tracker.reset()
    assert tracker.update(frame(boxes, 60.0)).ids.tolist() == [4]


def test_source_without_stamps() -> None:
    """All stamps zero: tracking goes on, and what is gone does not stay for ever."""
    tracker = Tracker.from_preset("edge_vision", publish_lost=True)
    for _ in range(5):
        assert tracker.update(frame([box(100, 100)], 0.0)).ids.tolist() == [1]
    for _ in range(150):
        tracks = tracker.update(frame([], 0.0))
    assert len(tracks) == 0


def test_what_is_no_box_is_dropped_and_counted() -> None:
    tracker = Tracker()
    nan, inf = float("nan"), float("inf")
    bad = [[nan, 0, 10, 10], [0, 0, inf, 10], [-inf, 0, 10, 10], [20, 20, 10, 30], [5, 5, 5, 9], [0, 0, 1e9, 10]]
    scores = [0.9] * 7 + [nan, inf]
    tracks = tracker.update(frame([*bad, box(100, 100), box(200, 200), box(300, 300)], 0.0, scores))
    assert tracker.rejected == 8
    np.testing.assert_allclose(tracks.boxes, [box(100, 100)])
    assert len(tracker.update(frame([[nan] * 4], 0.1))) == 0
    assert tracker.rejected == 9


def test_specks_are_boxes_too() -> None:
    """Their areas vanish in float32: no overlap, but no NaN in the assignment either."""
    tracker = Tracker()
    speck = [0, 0, 1e-30, 1e-30]
    for step in range(4):
        tracks = tracker.update(frame([speck, speck, box(1, 1), box(2, 1), box(100, 100)], step / 30))
        check(tracks)
    assert tracker.rejected == 0
    assert len(tracks) >= 3


def test_boxes_partly_outside_of_the_image_are_boxes() -> None:
    tracker = Tracker()
    for step in range(5):
        tracks = tracker.update(frame([[-30 - step, -20, 15 - step, 40]], step / 30))
    assert tracker.rejected == 0
    assert tracks.ids.tolist() == [1]


@pytest.mark.parametrize("kind", ["filtered", "detected"])
def test_output_box(kind: str) -> None:
    rng = np.random.default_rng(0)
    tracker = Tracker.from_preset("edge_vision", output_box=kind)
    errors, raw = [], []
    for step in range(60):
        noisy = np.array([box(100 + 2 * step, 100)]) + rng.normal(0, 2, (1, 4))
        tracks = tracker.update(frame(noisy, step / 30))
        errors.append(np.abs(tracks.boxes[0] - box(100 + 2 * step, 100)).mean())
        raw.append(np.abs(noisy[0] - box(100 + 2 * step, 100)).mean())
        if kind == "detected":
            np.testing.assert_allclose(tracks.boxes, noisy, rtol=1e-6)
    if kind == "filtered":
        assert np.mean(errors[10:]) < 0.8 * np.mean(raw[10:])


def test_thousands_of_objects() -> None:
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(np.arange(50) * 40.0, np.arange(40) * 40.0), -1).reshape(-1, 2)
    tracker = Tracker()
    for step in range(4):
        centres = grid + 3 * step
        boxes = np.hstack([centres - 15, centres + 15]) + rng.normal(0, 0.5, (len(grid), 4))
        order = rng.permutation(len(grid))
        tracks = tracker.update(frame(boxes[order], step / 30))
    assert len(tracks) == 2000
    by_id = np.argsort(tracks.ids)
    assert tracks.ids[by_id].tolist() == list(range(1, 2001))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            hnp.arrays(np.float32, st.tuples(st.integers(0, 6), st.just(4)), elements=st.floats(width=32)),
            st.integers(-3 * S, 3 * S),
        ),
        max_size=8,
    ),
    st.sampled_from(list(PRESETS)),
    st.booleans(),
)
def test_any_input(steps: list, preset: str, agnostic: bool) -> None:
    tracker = Tracker.from_preset(preset, class_agnostic=agnostic, publish_lost=True, publish_tentative=True)
    stamp, count = 10 * S, 0
    for boxes, step in steps:
        stamp += step
        count += len(boxes)
        scores = np.linspace(0, 1, len(boxes), dtype=np.float32)
        with np.errstate(all="ignore"):
            tracks = tracker.update(Detections(boxes, scores, np.arange(len(boxes)) % 3, LABELS, stamp=stamp))
        check(tracks)
        assert tracks.stamp == stamp
    assert 0 <= tracker.rejected <= count


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(list(PRESETS)))
def test_ids_are_unique_and_never_come_back(seed: int, preset: str) -> None:
    rng = np.random.default_rng(seed)
    tracker = Tracker.from_preset(preset, publish_lost=True, publish_tentative=True)
    gone: set[int] = set()
    alive: set[int] = set()
    t = 0.0
    for _ in range(40):
        t += float(rng.choice([0.0, 0.03, 0.2, 0.5]))
        count = int(rng.integers(0, 8))
        low = rng.uniform(0, 150, (count, 2))
        boxes = np.hstack([low, low + rng.uniform(5, 60, (count, 2))])
        tracks = tracker.update(frame(boxes, t, rng.uniform(0, 1, count).tolist(), rng.integers(0, 3, count).tolist()))
        check(tracks)
        now = set(tracks.ids.tolist())
        assert not now & gone
        gone |= alive - now
        alive = now


def check(tracks: Tracks) -> None:
    count = len(tracks)
    assert len(set(tracks.ids.tolist())) == count
    for name, shape in {"boxes": (count, 4), "velocities": (count, 2), "ages": (count,), "scores": (count,)}.items():
        value = getattr(tracks, name)
        assert value.shape == shape
        assert np.isfinite(value).all()
    assert (tracks.boxes[:, 2:] >= tracks.boxes[:, :2]).all()
    assert (tracks.ages >= 0).all()
    assert set(tracks.states.tolist()) <= set(TrackState)


def test_real_pedestrians(shared_data: Path) -> None:
    """TUD-Stadtmitte: most people are followed, most of the time by one id (8 people, 179 frames, 25 frames/s)."""
    folder = shared_data / "tracking" / "TUD-Stadtmitte"
    found, truth = read_mot(folder / "det.txt"), read_mot(folder / "gt.txt")
    tracker = Tracker()
    known: dict[int, int] = {}
    matched = switches = 0
    for number in range(1, 180):
        now = found.frames == number
        scores = found.scores[now].astype(np.float32)
        detections = frame(found.boxes[now], number / 25)
        tracks = tracker.update(replace(detections, scores=scores))
        people = truth.frames == number
        rows, columns = assign(iou_matrix(truth.boxes[people], tracks.boxes), 0.5)
        matched += len(rows)
        for person, track in zip(truth.ids[people][rows].tolist(), tracks.ids[columns].tolist(), strict=True):
            switches += known.get(person, track) != track
            known[person] = track
    assert matched > 0.7 * len(truth)
    assert switches <= 18


def test_results_are_the_callers_own() -> None:
    """What was handed out does not change with the next frame."""
    tracker = Tracker()
    first = tracker.update(frame([box(100, 100)], 0.0))
    kept = {
        name: getattr(first, name).copy() for name in ("boxes", "ids", "scores", "class_ids", "states", "velocities")
    }
    tracker.update(frame([], 0.1))
    tracker.update(frame([box(120, 100)], 0.2, 0.6, 2))
    for name, value in kept.items():
        assert (getattr(first, name) == value).all()


def test_presets_and_overrides() -> None:
    assert Tracker().parameters == PRESETS["edge_vision"]
    assert Tracker.from_preset("bytetrack", lost_after=2.0).parameters.lost_after == 2.0
    with pytest.raises(
        ValueError, match="unknown tracker preset 'deepsort': choose one of edge_vision, bytetrack, sort, ocsort"
    ):
        Tracker.from_preset("deepsort")
    with pytest.raises(ValueError, match="unknown tracker parameter track_buffer"):
        Tracker.from_preset("sort", track_buffer=30)
    for wrong in (
        {"low_score": 0.9},
        {"lost_after": -1.0},
        {"confirm_hits": 0},
        {"output_box": "x"},
        {"new_score": 2.0},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            TrackerParameters(**wrong)
