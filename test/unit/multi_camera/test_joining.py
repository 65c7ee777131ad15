"""Objects that walk through the views of two cameras: one id each, in both."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edge_vision.datatypes import CameraInfo, Tracks, TrackState
from edge_vision.multi_camera import GlobalTracks, GroundPlane, JoinParameters, MultiCamera, Rig, RigCamera

K = np.array([[500.0, 0, 319.5], [0, 500.0, 239.5], [0, 0, 1]])
INFO = CameraInfo(640, 480, K, np.array([-0.1, 0.02, 0, 0, 0]))
SECOND = 1_000_000_000
FPS = 20.0

Walk = Callable[[float], tuple[float, float]]


def camera(name: str, x: float, y: float, yaw: float, down: float = 0.7, z: float = 4.0) -> RigCamera:
    forward = np.array([np.cos(yaw) * np.cos(down), np.sin(yaw) * np.cos(down), -np.sin(down)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    R = np.column_stack([right, np.cross(forward, right), forward])
    return RigCamera(name, GroundPlane.from_pose(INFO, np.array([x, y, z]), R))


def facing() -> Rig:
    """Two cameras 10 m apart that look at the same floor from opposite sides."""
    return Rig((camera("west", 0, 0, 0.0), camera("east", 10, 0, np.pi)))


class View:
    """One camera's tracks of people: boxes of 0.5 x 1.7 m at their feet, local ids of its own, noise of 1.5 px."""

    def __init__(self, seen_by: RigCamera, first_id: int, seed: int) -> None:
        self.camera, self.first_id = seen_by, first_id
        self.rng = np.random.default_rng(seed)

    def tracks(self, feet: np.ndarray, stamp: int, names: list[int] | None = None) -> Tracks:
        plane = self.camera.plane
        pixels = plane.to_image(feet).reshape(-1, 2)
        aside = plane.to_image(feet + [0.0, 0.25]).reshape(-1, 2)
        half = np.abs(aside - pixels).max(axis=1, keepdims=True)
        pixels = pixels + self.rng.normal(0, 1.5, pixels.shape)
        boxes = np.hstack([pixels - half * [1, 6.8], pixels + half * [1, 0]])
        shown = (np.isfinite(boxes)).all(axis=1) & (pixels > 0).all(axis=1) & (pixels < [640, 480]).all(axis=1)
        boxes = np.clip(boxes[shown], 0, [640, 480, 640, 480])
        ids = np.array(names if names is not None else range(len(feet)), np.int64)[shown] + self.first_id
        n = len(boxes)
        return Tracks(
            boxes=boxes.astype(np.float32),
            scores=np.full(n, 0.9, np.float32),
            class_ids=np.zeros(n, np.int64),
            ids=ids,
            velocities=np.zeros((n, 2), np.float32),
            ages=np.ones(n, np.float32),
            states=np.full(n, TrackState.CONFIRMED, np.uint8),
            labels=("person",),
            stamp=stamp,
        )


def run(
    rig: Rig, walks: list[Walk], seconds: float, offset: float = 0.0
) -> Iterator[tuple[str, GlobalTracks, dict[int, int]]]:
    """Both cameras in turns, the second half a frame later and its clock ``offset`` s wrong; camera, what came of it,
    and person -> global id in that camera."""
    joiner = MultiCamera(rig)
    views = [View(seen_by, 100 * (k + 1), k) for k, seen_by in enumerate(rig.cameras)]
    for step in range(int(seconds * FPS)):
        for k, view in enumerate(views):
            t = (step + 0.5 * k) / FPS
            feet = np.array([walk(t) for walk in walks])
            tracks = view.tracks(feet, int((t + offset * k + 100) * SECOND))
            result = joiner.update(view.camera.name, tracks)
            owner = {local - view.first_id: found for local, found in result.of(view.camera.name).items()}
            yield view.camera.name, result, owner


def line(x0: float, y0: float, vx: float, vy: float) -> Walk:
    return lambda t: (x0 + vx * t, y0 + vy * t)


def ids_of(rig: Rig, walks: list[Walk], seconds: float, offset: float = 0.0) -> list[dict[str, set[int]]]:
    """For every person, the global ids that each camera gave in the whole run."""
    found: list[dict[str, set[int]]] = [{camera.name: set() for camera in rig.cameras} for _ in walks]
    for name, _, owner in run(rig, walks, seconds, offset):
        for person, global_id in owner.items():
            found[person][name].add(global_id)
    return found


@pytest.mark.parametrize("offset", [0.0, 0.03, -0.03])
def test_crossing_people_have_one_id_in_both_views(offset: float) -> None:
    """Three cross in the middle; also where one camera's clock is 30 ms off (4 cm at this speed)."""
    walks = [line(5, -1.5, 0, 1.3), line(4.2, 1.5, 0.1, -1.2), line(4.0, 0.2, 0.7, 0.0)]
    found = ids_of(facing(), walks, 2.2, offset)
    for person in found:
        assert person["west"] == person["east"], found
        assert len(person["west"]) == 1, found
    assert len(set.union(*(person["west"] for person in found))) == 3


def test_two_people_half_a_metre_apart_stay_two() -> None:
    walks = [line(4.6, -1.0, 0.2, 0.5), line(4.6, -0.5, 0.2, 0.5)]
    found = ids_of(facing(), walks, 3.0)
    assert found[0]["west"] == found[0]["east"] != found[1]["west"] == found[1]["east"]
    assert all(len(person["west"]) == 1 for person in found)


def test_positions_velocities_and_their_covariances_are_true() -> None:
    walk = line(4.5, -1.2, 0.3, 0.8)
    normalised = []
    for _, result, _ in run(facing(), [walk], 3.0):
        truth = np.array([*walk(result.stamp / SECOND - 100), 0.3, 0.8])
        error = np.append(result.positions[0], result.velocities[0]) - truth
        normalised.append(error @ np.linalg.inv(result.covariances[0]) @ error)
    assert np.linalg.norm(error[:2]) < 0.1
    assert np.linalg.norm(error[2:]) < 0.2
    assert np.mean(normalised) < 4.5, "squared errors of 4 numbers in units of their covariance: 4 where it is true"


def test_hand_over_through_a_gap_that_no_camera_sees() -> None:
    rig = Rig((camera("first", 0, 0, 0.0, down=1.2), camera("second", 6.6, 0, 0.0, down=1.2)))
    walk = line(0.0, 0.2, 1.5, 0.0)
    seen, lost = [], 0
    for name, result, owner in run(rig, [walk], 6.0):
        if owner:
            seen.append((name, owner[0]))
        elif len(result):
            lost += int((result.states == TrackState.LOST).all())
    assert {name for name, _ in seen} == {"first", "second"}
    assert len({found for _, found in seen}) == 1
    assert lost > 10, "the views must not touch, or nothing was handed over"


def test_an_unseen_object_ends_and_its_id_is_never_used_again() -> None:
    joiner, view = MultiCamera(facing()), View(facing().cameras[0], 1, 0)
    here = np.array([[5.0, 0.0]])
    first = joiner.update("west", view.tracks(here, 10 * SECOND))
    kept = joiner.update("west", view.tracks(here[:0], 11 * SECOND))
    assert (kept.ids.tolist(), kept.states.tolist()) == (first.ids.tolist(), [TrackState.LOST])
    assert len(joiner.update("west", view.tracks(here[:0], 13 * SECOND))) == 0
    again = joiner.update("west", view.tracks(here, 14 * SECOND))
    assert again.ids[0] > first.ids[0]
    looped = joiner.update("west", view.tracks(here, 5 * SECOND))
    assert looped.ids[0] > again.ids[0]
    assert looped.stamp == 5 * SECOND


def test_tracks_of_one_object_that_drift_apart_are_split() -> None:
    """Two people come in as one, then one camera's track follows the other person."""
    rig = facing()
    joiner, west, east = MultiCamera(rig), View(rig.cameras[0], 1, 0), View(rig.cameras[1], 1, 1)
    for step in range(60):
        t = step / FPS
        apart = max(0.0, t - 1.0)
        joiner.update("west", west.tracks(np.array([[5.0, -apart]]), int(t * SECOND)))
        result = joiner.update("east", east.tracks(np.array([[5.0, apart]]), int(t * SECOND)))
        if t < 1.0:
            assert result.members.tolist() == [[1, 1]]
    assert sorted(result.members.tolist()) == [[-1, 1], [1, -1]]
    assert result.of("west")[1] == 1, "the view that had it first keeps the id"
    np.testing.assert_allclose(result.positions[:, 1], [-t + 1.0, t - 1.0], atol=0.15)


def test_two_objects_that_turn_out_to_be_one_are_merged() -> None:
    """One camera's boxes are off at first (a half hidden person), and right after."""
    rig = facing()
    joiner, west, east = MultiCamera(rig), View(rig.cameras[0], 1, 0), View(rig.cameras[1], 1, 1)
    counts = []
    for step in range(60):
        stamp = int(step / FPS * SECOND)
        joiner.update("west", west.tracks(np.array([[5.0, 0.0]]), stamp))
        result = joiner.update("east", east.tracks(np.array([[5.0, max(0.0, 1.5 - 0.05 * step)]]), stamp))
        counts.append(len(result))
    assert (counts[0], counts[-1]) == (2, 1)
    assert result.members.tolist() == [[1, 1]]
    assert result.ids.tolist() == [1], "the older id stays"


def test_ids_do_not_swap_where_people_brush_past_each_other() -> None:
    """25 cm apart for a moment: nearer than what the positions can tell apart."""
    walks = [line(5.0, -1.5, 0.0, 1.0), line(5.25, 1.5, 0.0, -1.0)]
    found = ids_of(facing(), walks, 3.0)
    assert found[0]["west"] == found[0]["east"] != found[1]["west"] == found[1]["east"]


def test_late_frames_correct_without_turning_time_back() -> None:
    rig = facing()
    joiner, west, east = MultiCamera(rig), View(rig.cameras[0], 1, 0), View(rig.cameras[1], 1, 1)
    walk = line(5.0, -1.5, 0.0, 1.0)
    for step in range(40):
        t = step / FPS
        newest = joiner.update("west", west.tracks(np.array([walk(t)]), int(t * SECOND)))
        if t >= 0.3:  # the other camera's frames come 0.3 s late
            result = joiner.update("east", east.tracks(np.array([walk(t - 0.3)]), int((t - 0.3) * SECOND)))
            assert result.stamp == newest.stamp
    assert result.members.tolist() == [[1, 1]]
    np.testing.assert_allclose(result.positions[0], walk(t), atol=0.12)


def test_a_class_that_never_agrees_can_be_kept_apart() -> None:
    rig = Rig(facing().cameras, JoinParameters(class_penalty=float("inf")))
    joiner, west, east = MultiCamera(rig), View(rig.cameras[0], 1, 0), View(rig.cameras[1], 1, 1)
    here = np.array([[5.0, 0.0]])
    for step in range(20):
        joiner.update("west", west.tracks(here, step * SECOND // 20))
        tracks = east.tracks(here, step * SECOND // 20)
        tracks.class_ids[:] = 1
        result = joiner.update("east", tracks)
    assert sorted(result.class_ids.tolist()) == [0, 1]


def test_what_is_not_on_the_plane_is_counted_and_unknown_cameras_are_told() -> None:
    rig = Rig((camera("low", 0, 0, 0.0, down=0.2),))
    joiner = MultiCamera(rig)
    sky = View(rig.cameras[0], 1, 0).tracks(np.array([[9.0, 0.0]]), 0)
    sky.boxes[:] = [300, 10, 320, 50]
    result = joiner.update("low", sky)
    assert (len(result), joiner.unused) == (0, 1)
    assert len(joiner.update("low", Tracks(stamp=1))) == 0
    with pytest.raises(ValueError, match="no camera 'high'; it has low"):
        joiner.update("high", sky)


def test_boxes_that_are_none_are_counted_and_leave_the_others_alone() -> None:
    rig = facing()
    joiner, west = MultiCamera(rig), View(rig.cameras[0], 1, 0)
    tracks = west.tracks(np.array([[5.0, 0.0], [5.0, 1.0], [5.5, -1.0]]), 0)
    tracks.boxes[0] = np.nan
    tracks.boxes[1] = [1e30, -1e30, 1e30, 1e30]
    result = joiner.update("west", tracks)
    assert (result.of("west"), joiner.unused) == ({3: 1}, 2)
    assert np.isfinite(result.covariances).all()
