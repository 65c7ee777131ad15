"""How the simulated board moves: by itself, and in a hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vision.simulation.board_options import BoardOptions
from edge_vision.simulation.movement import (
    Choreography,
    GuidedHand,
    Hand,
    Manner,
    Pose,
    between,
    shown_poses,
    smooth,
    way,
)

OUTLINE = np.array([[-0.02, -0.02, 0], [0.22, -0.02, 0], [0.22, 0.17, 0], [-0.02, 0.17, 0]])
PIVOT = OUTLINE.mean(0)
EXACT = Manner(speed=0.2, degrees=0.0, share=0.0, hold=1.0)


def poses(up: bool = False) -> list[Pose]:
    outline = OUTLINE * [1, -1, 1] if up else OUTLINE
    return shown_poses(BoardOptions().lens(), 640, 480, outline, up)


def middle(pose: Pose) -> np.ndarray:
    return pose.rotation @ PIVOT + pose.translation


def same(a: Pose | None, b: Pose) -> bool:
    return a is not None and np.allclose(a.rotation, b.rotation) and np.allclose(a.translation, b.translation)


@pytest.mark.parametrize("model", ["plumb_bob", "rational_polynomial", "equidistant"])
@pytest.mark.parametrize("up", [False, True])
def test_boards_are_shown_whole_and_with_the_printed_side_to_the_camera(model: str, up: bool) -> None:
    outline = OUTLINE * [1, -1, 1] if up else OUTLINE
    lens = BoardOptions(model=model).lens()
    tilts = []
    for pose in shown_poses(lens, 640, 480, outline, up):
        seen = outline @ pose.rotation.T + pose.translation
        pixels = lens.project(seen)
        assert (pixels > 0).all()
        assert (pixels < [639, 479]).all()
        assert np.linalg.det(pose.rotation) == pytest.approx(1)
        towards = float(pose.rotation[:, 2] @ seen.mean(0)) / np.linalg.norm(seen.mean(0))
        assert towards * (-1 if up else 1) > 0.7
        tilts.append(math.degrees(math.acos(abs(towards))))
    assert min(tilts) < 1
    assert max(tilts) > 25


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 1), st.integers(0, 8), st.integers(0, 8))
def test_on_the_way_the_middle_goes_straight(share: float, a: int, b: int) -> None:
    start, end = poses()[a], poses()[b]
    pose = between(start, end, share, PIVOT)
    np.testing.assert_allclose(pose.rotation @ pose.rotation.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(middle(pose), middle(start) * (1 - share) + middle(end) * share, atol=1e-12)
    assert way(start, pose, PIVOT) <= way(start, end, PIVOT) + 1e-9


def test_moves_are_smooth_and_end_at_rest() -> None:
    assert (smooth(-1), smooth(0), smooth(0.5), smooth(1), smooth(2)) == (0, 0, pytest.approx(0.5), 1, 1)
    assert smooth(1e-3) < 1e-7


def test_the_choreography_holds_still_at_every_pose_and_begins_anew() -> None:
    shown = poses()
    dance = Choreography(shown, PIVOT, speed=0.1, hold=1.0)
    assert same(dance.pose(0), shown[0])
    assert same(dance.pose(0.9), shown[0])
    steps = [way(dance.pose(t), dance.pose(t + 0.02), PIVOT) / 0.02 for t in np.arange(0, 60, 0.05)]
    assert max(steps) < 0.1 * 1.9  # 1.875 times the mean, for motions of least jerk
    still = np.mean(np.array(steps) < 1e-9)
    assert 0.1 < still < 0.9
    seen = [dance.pose(t) for t in np.arange(0, 100, 0.4)]
    assert all(any(same(pose, each) for pose in seen) for each in shown)


def test_a_hand_arrives_when_its_speed_lets_it_and_is_off_by_its_error() -> None:
    a, b = poses()[:2]
    hand = Hand(PIVOT, EXACT)
    assert hand.pose(0.0) is None
    hand.aim(a, 10.0)
    assert same(hand.pose(10.0), a)
    hand.aim(b, 20.0)
    duration = way(a, b, PIVOT) / 0.2
    assert not same(hand.pose(20.0 + 0.9 * duration), b)
    assert same(hand.pose(20.0 + duration), b)
    assert hand.rested(20.0 + duration + 1.5) == pytest.approx(0.5)

    turns, shifts = [], []
    for seed in range(200):
        clumsy = Hand(PIVOT, Manner(degrees=3.0, share=0.05), seed)
        clumsy.aim(a, 0.0)
        pose = clumsy.pose(0.0)
        assert pose is not None
        turns.append(math.degrees(math.acos(min((np.trace(pose.rotation @ a.rotation.T) - 1) / 2, 1))))
        shifts.append(np.linalg.norm(middle(pose) - middle(a)) / np.linalg.norm(middle(a)))
    assert np.sqrt(np.mean(np.square(turns))) == pytest.approx(3.0, rel=0.15)
    assert np.sqrt(np.mean(np.square(shifts))) == pytest.approx(0.05, rel=0.15)


def test_a_guided_hand_shows_its_own_poses_until_it_is_asked_and_then_what_is_asked() -> None:
    own, asked = poses(), Pose(np.eye(3), np.array([0.1, 0.0, 0.8]))
    guided = GuidedHand(Hand(PIVOT, EXACT), own, patience=3.0)
    for pose in own[:3]:
        t = guided.hand.arrival + 1.0 if math.isfinite(guided.hand.arrival) else 0.0
        guided.pose(t, None)
        assert same(guided.pose(guided.hand.arrival, None), pose)
    t = guided.hand.arrival
    guided.pose(t + 0.9, asked)  # still held
    assert same(guided.pose(t + 0.9, asked), own[2])
    guided.pose(t + 1.0, asked)
    arrived = guided.hand.arrival
    assert same(guided.pose(arrived, asked), asked)
    assert same(guided.pose(arrived + 3.9, asked), asked)  # it waits to be taken
    assert same(guided.pose(arrived + 3.9, Pose(asked.rotation, asked.translation + 1e-4)), asked)
    other = own[5]
    guided.pose(arrived + 3.9, other)
    assert same(guided.pose(guided.hand.arrival, other), other)


def test_what_is_asked_for_again_and_again_is_shown_with_more_care_and_at_last_something_else() -> None:
    own, asked = poses(), poses()[4]
    missed = np.zeros((20, 4))
    for seed, row in enumerate(missed):
        guided = GuidedHand(Hand(PIVOT, Manner(1.0, degrees=10.0, share=0.1, hold=0.5), seed), own, patience=2.0)
        t = 0.0
        for attempt in range(4):
            guided.pose(t, asked)
            pose = guided.pose(guided.hand.arrival, asked)
            assert pose is not None
            row[attempt] = way(pose, asked, PIVOT)
            t = guided.hand.arrival + 3.0
        guided.pose(t, asked)
        elsewhere = guided.pose(guided.hand.arrival, asked)
        assert elsewhere is not None
        assert way(elsewhere, own[0], PIVOT) < way(elsewhere, asked, PIVOT)
    assert (np.diff(np.sqrt(np.mean(missed**2, axis=0))) < 0).all()


def test_nobody_looks_then_the_hand_rests() -> None:
    guided = GuidedHand(Hand(PIVOT, EXACT), poses(), patience=1.0)
    first = guided.pose(0.0, None, wanted=False)
    assert same(first, poses()[0])  # somewhere it must be
    assert same(guided.pose(100.0, poses()[3], wanted=False), poses()[0])
