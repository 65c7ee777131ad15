"""What comes to the joiner: bad stamps, ids and clocks; names, covariances and calibrations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_vision.datatypes import Tracks, TrackState
from edge_vision.multi_camera import GroundPlane, JoinParameters, MultiCamera, Rig, RigCamera

SECOND = 1_000_000_000


def above(x: float) -> RigCamera:
    """Looks straight down from (x, 0), 1 cm a pixel."""
    homography = np.array([[0.01, 0, x], [0, 0.01, 0], [0, 0, 1]])
    return RigCamera(f"at{x:g}", GroundPlane.from_homography(homography, (640, 480)), "centre")


def boxes_at(stamp: int, *places: tuple[int, float, float], **more) -> Tracks:
    """Tracks (id, x, y) of boxes of 40 px."""
    middle = np.array([place[1:] for place in places], np.float32).reshape(-1, 2)
    count = len(places)
    return Tracks(
        np.hstack([middle - 20, middle + 20]),
        np.full(count, 0.9, np.float32),
        np.zeros(count, np.int64),
        np.array([place[0] for place in places], np.int64),
        np.zeros((count, 2), np.float32),
        np.ones(count, np.float32),
        np.full(count, TrackState.CONFIRMED, np.uint8),
        stamp=stamp,
        **more,
    )


def test_a_frame_that_was_there_before_is_left_out() -> None:
    joiner = MultiCamera(Rig((above(0), above(3))))
    joiner.update("at0", boxes_at(10 * SECOND, (1, 100, 100)))
    again = joiner.update("at0", boxes_at(10 * SECOND, (1, 300, 300)))
    older = joiner.update("at0", boxes_at(9 * SECOND, (2, 300, 300)))
    np.testing.assert_array_equal(again.positions, older.positions)
    np.testing.assert_allclose(older.positions, [[0.995, 0.995]])
    assert (older.stamp, joiner.repeated) == (10 * SECOND, 2)
    assert older.members.tolist() == [[1, -1]]


def test_a_clock_that_is_behind_is_told_until_the_other_is_silent() -> None:
    joiner = MultiCamera(Rig((above(0), above(3))))
    for index in range(100):  # for longer than restart_after
        joiner.update("at0", boxes_at((100 + index // 10) * SECOND + index, (1, 100, 100)))
        with pytest.raises(ValueError, match=r"stamps of at3 are 9\d\.\d s behind those of at0: .*clock"):
            joiner.update("at3", boxes_at((8 + index // 10) * SECOND + index, (1, 100, 100)))
    accepted = None
    for index in range(40):
        try:
            accepted = joiner.update("at3", boxes_at(17 * SECOND + (index + 1) * SECOND // 10, (1, 100, 100)))
            break
        except ValueError:
            pass
    assert accepted is not None
    assert index == 20, "2 s after the other one's last"
    assert accepted.ids.tolist() == [2]


def test_ids_that_are_none_or_there_twice_make_no_object() -> None:
    joiner = MultiCamera(Rig((above(0),)))
    found = joiner.update("at0", boxes_at(SECOND, (-1, 100, 100), (5, 200, 200), (5, 300, 300)))
    assert found.members.tolist() == [[5]]
    np.testing.assert_allclose(found.positions, [[1.995, 1.995]])
    assert joiner.unused == 2


def test_names_of_classes_add_up_over_messages_that_name_their_own() -> None:
    joiner = MultiCamera(Rig((above(0), above(3))))
    joiner.update("at0", boxes_at(SECOND, labels=("", "", "washer")))
    found = joiner.update("at3", boxes_at(SECOND, labels=("nut",)))
    assert found.labels == ("nut", "", "washer")


@pytest.mark.parametrize(("anchor", "lower"), [("centre", 1.0), ("bottom", 2.0)])
def test_covariances_of_the_tracks_are_those_of_the_objects(anchor: str, lower: float) -> None:
    """px to cm; the lower edge has the variance of the centre and of half the height."""
    parameters = JoinParameters(alignment=0.0, correlation=4.0)
    joiner = MultiCamera(Rig((replace(above(0), anchor=anchor),), parameters))
    covariances = np.array([[[9.0, 2.0], [2.0, 4.0]]])
    found = joiner.update("at0", boxes_at(SECOND, (1, 300, 200), covariances=covariances))
    np.testing.assert_allclose(
        found.covariances[0, :2, :2], 4.0 * 1e-4 * np.array([[9.0, 2.0], [2.0, 4.0 * lower]]), rtol=1e-6
    )
    unknown = joiner.update("at0", boxes_at(2 * SECOND, (2, 300, 200), covariances=np.full((1, 2, 2), np.nan)))
    assert unknown.members.tolist() == [[-1]]


def test_a_better_calibration_is_taken_over_and_the_ids_stay() -> None:
    joiner = MultiCamera(Rig((above(0),)))
    joiner.update("at0", boxes_at(SECOND, (7, 100, 100)))
    moved = replace(above(0.05), name="at0")
    joiner.adopt(Rig((moved,), JoinParameters(lost_after=1.0)))
    found = joiner.update("at0", boxes_at(SECOND + SECOND // 10, (7, 100, 100)))
    assert (found.ids.tolist(), found.members.tolist()) == ([1], [[7]])
    assert found.positions[0, 0] > 1.02
    with pytest.raises(ValueError, match="must have the cameras at0"):
        joiner.adopt(Rig((above(3),)))
