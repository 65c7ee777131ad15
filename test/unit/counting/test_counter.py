"""Crossings and visits against what a hand computes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vision.counting import Counter, Line, Zone
from edge_vision.datatypes import NS_PER_S, Counts, Tracks, TrackState

# Upwards in the image, so that `in` is to the right.
UP = Line("door", (100, 200), (100, 0))
ROOM = Zone("room", ((50, 50), (150, 50), (150, 150), (50, 150)))
SIZE = 20.0


def tracks(points, time_s=0.0, ids=None, classes=None, state=TrackState.CONFIRMED) -> Tracks:
    """Boxes of SIZE whose centres are the points."""
    centres = np.array(points, np.float32).reshape(-1, 2)
    count = len(centres)
    return Tracks(
        np.hstack((centres - SIZE / 2, centres + SIZE / 2)),
        np.ones(count, np.float32),
        np.array(classes or [0] * count, np.int64),
        np.arange(count) if ids is None else np.array(ids, np.int64),
        np.zeros((count, 2), np.float32),
        np.zeros(count, np.float32),
        np.full(count, state, np.uint8),
        ("cat", "dog"),
        round(time_s * NS_PER_S),
        "camera",
    )


def walk(counter: Counter, path, fps=10.0, **more) -> Counts:
    """One object along a path; what was counted in the end."""
    for i, point in enumerate(path):
        counts = counter.update(tracks([point], 100 + i / fps, **more))
    return counts


def centred(*regions, **more) -> Counter:
    lines = [r for r in regions if isinstance(r, Line)]
    zones = [r for r in regions if isinstance(r, Zone)]
    return Counter(lines, zones, anchor="centre", **more)


def totals(counts: Counts) -> tuple[int, int]:
    return int(counts.ins.sum()), int(counts.outs.sum())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ([(80, 100), (120, 100)], (1, 0)),
        ([(120, 100), (80, 100)], (0, 1)),
        ([(80, 100), (120, 100), (80, 100)], (1, 1)),
        ([(80, 250), (120, 250)], (0, 0)),  # past the end of the segment, across the line that goes on
        ([(80, 190), (120, 230)], (0, 0)),  # meets that line at (100, 210)
        ([(80, 170), (120, 210)], (1, 0)),  # and the segment at (100, 190)
        ([(80, 100), (80, 300), (120, 300), (120, 100)], (0, 0)),  # around it
        ([(120, 100)], (0, 0)),
    ],
)
def test_a_move_across_the_segment_counts_in_its_direction(path, expected) -> None:
    assert totals(walk(centred(UP), path)) == expected


def test_in_is_the_right_hand_of_who_walks_from_start_to_end() -> None:
    to_the_right = Line("level", (0, 100), (200, 100))  # its right hand is down
    assert totals(walk(centred(to_the_right), [(50, 80), (50, 120)])) == (1, 0)


def test_by_default_the_middle_of_the_lower_edge_moves() -> None:
    level = Line("level", (0, 100), (200, 100))
    path = [(50, 80), (50, 96)]  # the centre stays above, the lower edge goes from 90 to 106
    assert totals(walk(Counter([level]), path)) == (1, 0)
    assert totals(walk(centred(level), path)) == (0, 0)


def test_jitter_on_the_line_counts_once_for_who_goes_through_and_not_for_who_turns_back() -> None:
    jitter = [(99, 100), (101, 100)] * 20  # the band is 0.1 * SIZE = 2 px wide on each side
    assert totals(walk(centred(UP), [(80, 100), *jitter])) == (0, 0)
    assert totals(walk(centred(UP), [(80, 100), *jitter, (120, 100)])) == (1, 0)
    assert totals(walk(centred(UP), [(80, 100), *jitter, (80, 100)])) == (0, 0)


def test_who_ends_on_the_line_is_counted_when_it_is_forgotten() -> None:
    counter = centred(UP, forget_after=2.0)
    assert totals(walk(counter, [(80, 100), (101, 100)])) == (0, 0)
    assert totals(counter.update(tracks([], 101))) == (0, 0)
    assert totals(counter.update(tracks([], 103))) == (1, 0)
    assert len(counter._memory) == 0


def test_classes_are_counted_apart_and_named() -> None:
    counter = centred(UP)
    counter.update(tracks([(80, 20), (80, 60), (120, 100)], 0, ids=[9, 3, 5], classes=[1, 1, 0]))
    counts = counter.update(tracks([(80, 100), (120, 20), (120, 60)], 0.1, ids=[5, 9, 3], classes=[0, 1, 1]))
    assert counts.class_ids.tolist() == [0, 1]
    assert counts.ins.tolist() == [[0, 2]]
    assert counts.outs.tolist() == [[1, 0]]
    assert counts.labels == ("cat", "dog")
    assert (counts.stamp, counts.frame_id) == (NS_PER_S // 10, "camera")


def test_a_new_class_between_known_ones_keeps_the_totals_where_they_were() -> None:
    counter = centred(UP)
    walk(counter, [(80, 9), (120, 9)], classes=[7])
    counts = walk(counter, [(80, 9), (120, 9)], classes=[2], ids=[4])
    assert counts.class_ids.tolist() == [2, 7]
    assert counts.ins.tolist() == [[1, 1]]


def test_a_zone_counts_who_enters_stays_and_leaves() -> None:
    counter = centred(ROOM)
    seen = [
        (totals(c), int(c.present.sum()))
        for i, x in enumerate((20, 80, 100, 120, 180))
        for c in [counter.update(tracks([(x, 100)], i))]
    ]
    assert seen == [((0, 0), 0), ((1, 0), 1), ((1, 0), 1), ((1, 0), 1), ((1, 1), 0)]
    assert counter.update(tracks([], 5)).dwell.tolist() == [[3.0]]  # from 1 s to 4 s


def test_who_vanishes_in_a_zone_leaves_it_after_a_while_of_header_time() -> None:
    counter = centred(ROOM, vanish_after=1.0)
    counter.update(tracks([(100, 100)], 10))
    counter.update(tracks([(100, 100)], 12))
    assert counter.update(tracks([], 12.9)).present.sum() == 1
    counts = counter.update(tracks([], 13.1))
    assert counts.present.sum() == 0
    assert totals(counts) == (1, 1)
    assert counts.dwell.tolist() == [[2.0]]  # until it was last seen


def test_jitter_on_the_edge_of_a_zone_is_no_visit() -> None:
    path = [(20, 100), *[(49, 100), (51, 100)] * 20, (20, 100)]
    assert totals(walk(centred(ROOM), path)) == (0, 0)


def test_a_visit_ends_under_the_class_that_it_began_under() -> None:
    counter = centred(ROOM)
    counter.update(tracks([(100, 100)], 0, classes=[0]))
    counts = counter.update(tracks([(300, 100)], 1, classes=[1]))
    assert counts.ins.tolist() == [[1, 0]] == counts.outs.tolist()


def test_stamps_that_go_backwards_forget_positions_and_keep_totals() -> None:
    counter = centred(UP, ROOM)
    walk(counter, [(20, 100), (120, 100)])
    counts = counter.update(tracks([(20, 100)], 1))  # a jump of the bag, not a move across the line
    assert counts.ins.sum(1).tolist() == [1, 1]
    assert counts.outs.sum(1).tolist() == [0, 1]
    assert counts.present.sum() == 0


def test_predicted_and_tentative_tracks_are_not_seen() -> None:
    for state in (TrackState.LOST, TrackState.TENTATIVE):
        counter = centred(UP, ROOM)
        counts = walk(counter, [(80, 100), (120, 100)], state=state)
        assert counts.ins.sum() == 0


def test_what_is_no_box_or_has_no_id_is_passed_over_and_the_rest_counts() -> None:
    counter = centred(UP)
    bad = np.array(
        [[np.nan, 0, 1, 1], [0, 0, np.inf, 1], [9, 9, 1, 1], [70, 70, 90, 90], [70, 90, 90, 110]], np.float32
    )
    for x in (0, 40):
        boxes = bad + np.array([x, 0, x, 0], np.float32)
        given = tracks(np.zeros((5, 2)), x / 40, ids=[1, 2, 3, -1, 5])
        counts = counter.update(Tracks(boxes, *(getattr(given, f) for f in Tracks.__slots__[1:])))
    assert totals(counts) == (1, 0)
    assert counter.rejected == 8


def test_the_same_id_twice_in_one_image_is_one_object() -> None:
    counter = centred(UP)
    counter.update(tracks([(80, 100), (80, 100)], 0, ids=[1, 1]))
    assert totals(counter.update(tracks([(120, 100), (120, 100)], 1, ids=[1, 1]))) == (1, 0)


def test_memory_ends_where_time_stands_still() -> None:
    counter = centred(ROOM)
    for i in range(3000):
        counts = counter.update(tracks([(100, 100)], 0, ids=[i]))
    assert len(counter._memory) <= 1001
    assert counts.ins.sum() == counts.outs.sum() + counts.present.sum() == 3000


def test_without_regions_and_without_tracks() -> None:
    assert Counter().update(tracks([(1, 1)])).ins.shape == (0, 1)
    assert centred(UP, ROOM).update(Tracks()).ins.shape == (2, 0)


@pytest.mark.parametrize("wrong", [{"anchor": "top"}, {"band": -1}, {"vanish_after": float("nan")}])
def test_values_that_cannot_be_are_named(wrong) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Counter(**wrong)


POINT = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda p: (p[0] * 5.0, p[1] * 5.0))


@settings(max_examples=150, deadline=None)
@given(st.lists(POINT, min_size=2, max_size=12), POINT, POINT)
def test_the_way_back_counts_the_opposite(path, start, end) -> None:
    if start == end:
        return
    counters = [centred(Line("l", start, end)) for _ in range(2)]
    for counter, points in zip(counters, (path, path[::-1]), strict=True):
        walk(counter, points)
    (ins, outs), (ins_back, outs_back) = (totals(counter.update(tracks([], 1000))) for counter in counters)
    assert ins - outs == outs_back - ins_back


def test_a_jump_of_time_is_no_move() -> None:
    counter = centred(UP, forget_after=10.0)
    counter.update(tracks([(80, 100)], 0))
    assert totals(counter.update(tracks([(120, 100)], 11))) == (0, 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(POINT, min_size=2, max_size=20))
def test_net_crossings_are_the_change_of_side_for_a_line_through_the_image(path) -> None:
    counter = centred(Line("l", (101.0, 1000.0), (101.0, -1000.0)), forget_after=1.0)
    walk(counter, path)
    ins, outs = totals(counter.update(tracks([], 1000)))
    assert ins - outs == (path[-1][0] > 101) - (path[0][0] > 101)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 6), POINT), max_size=6), max_size=12))
def test_who_entered_and_did_not_leave_is_present(images) -> None:
    counter = centred(ROOM, Zone("corner", ((0, 0), (120, 0), (0, 120))), UP, vanish_after=0.15)
    for i, image in enumerate(images):
        counts = counter.update(tracks([p for _, p in image], i * 0.1, ids=[n for n, _ in image]))
        zones = slice(1, None)
        assert ((counts.ins - counts.outs)[zones] == counts.present[zones]).all()
        assert (counts.present >= 0).all()
        assert (counts.dwell >= 0).all()
