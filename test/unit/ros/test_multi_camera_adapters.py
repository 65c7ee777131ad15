"""Objects on the ground plane: message and back, markers, tracks with global ids."""

from __future__ import annotations

import numpy as np
import pytest
from edge_vision.msg import CameraTrack, GroundObject, GroundObjectArray
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from rclpy.serialization import deserialize_message, serialize_message
from visualization_msgs.msg import Marker

from edge_vision.datatypes import Tracks, TrackState
from edge_vision.multi_camera import GlobalTracks
from edge_vision.ros.adapters import BadMessage
from edge_vision.ros.multi_camera_adapters import GROUND_OBJECTS, ground_markers, markers_adapter, with_global_ids

STAMP = 1_700_000_000_123_456_789
LABELS = ("nut", "", "washer")


def ground(positions, velocities, members, class_ids, states, covariances) -> GlobalTracks:
    count = len(positions)
    return GlobalTracks(
        np.arange(1, count + 1) * 1000,
        positions,
        velocities,
        covariances,
        class_ids,
        states,
        np.arange(count) * 0.5,
        members,
        ("door", "hall"),
        LABELS,
        STAMP,
        "map",
    )


THREE = ground(
    np.array([[1.5, -2.25], [0.0, 1e-3], [1e4, 3.0]]),
    np.array([[0.5, 0.0], [0.0, 0.0], [-1.0, 2.0]]),
    np.array([[4, -1], [0, 7], [-1, -1]]),
    np.array([0, 2, 5]),
    np.array([TrackState.CONFIRMED, TrackState.CONFIRMED, TrackState.LOST], np.uint8),
    np.arange(48.0).reshape(3, 4, 4),
)


def there_and_back(objects: GlobalTracks) -> tuple[GroundObjectArray, GlobalTracks]:
    """As over DDS: message, bytes, message, object."""
    message = deserialize_message(serialize_message(GROUND_OBJECTS.to_message(objects)), GroundObjectArray)
    return message, GROUND_OBJECTS.from_message(message)


def test_objects_come_back_as_they_went() -> None:
    message, back = there_and_back(THREE)
    for name in ("ids", "positions", "velocities", "covariances", "class_ids", "states", "ages", "members"):
        np.testing.assert_array_equal(getattr(back, name), getattr(THREE, name), name)
        assert getattr(back, name).dtype == getattr(THREE, name).dtype or name == "ids"
    assert (back.stamp, back.frame_id, back.cameras) == (STAMP, "map", ("door", "hall"))
    assert back.labels == ("nut", "", "washer", "", "", "")
    first, second, third = message.objects
    assert (first.id, first.class_id, first.class_name, first.state) == ("1000", "0", "nut", GroundObject.CONFIRMED)
    assert [(m.camera, m.id) for m in second.members] == [("door", "0"), ("hall", "7")]
    assert (third.class_name, third.state, third.members) == ("", GroundObject.LOST, [])
    assert back.of("hall") == {7: 2000}


numbers = st.floats(-1e6, 1e6)


@given(
    st.integers(0, 5).flatmap(
        lambda n: st.tuples(
            arrays.arrays(np.float64, (n, 2), elements=numbers),
            arrays.arrays(np.float64, (n, 2), elements=numbers),
            arrays.arrays(np.int64, (n, 2), elements=st.integers(-1, 2**40)),
            arrays.arrays(np.int64, n, elements=st.integers(-1, 90)),
            arrays.arrays(np.uint8, n, elements=st.integers(1, 2)),
            arrays.arrays(np.float64, (n, 4, 4), elements=numbers),
        )
    )
)
def test_any_objects_come_back(columns: tuple) -> None:
    objects = ground(*columns)
    _, back = there_and_back(objects)
    assert len(back) == len(objects)
    np.testing.assert_array_equal(back.positions, objects.positions)
    np.testing.assert_array_equal(back.covariances, objects.covariances)
    for camera in back.cameras:
        column = back.members[:, back.cameras.index(camera)]
        np.testing.assert_array_equal(column, objects.members[:, objects.cameras.index(camera)])
    shown = ground_markers(objects, 0.5).markers
    assert len(shown) >= 2 * len(objects)


def test_ids_that_are_no_numbers_are_told() -> None:
    wrong = GroundObject(id="1", class_id="0", members=[CameraTrack(camera="door", id="c0ffee")])
    with pytest.raises(BadMessage, match="c0ffee"):
        GROUND_OBJECTS.from_message(GroundObjectArray(objects=[wrong]))


def test_markers_stand_on_the_plane_and_point_where_it_goes() -> None:
    shown = markers_adapter(0.4).to_message(THREE).markers
    bodies = [m for m in shown if m.type == Marker.CYLINDER]
    arrows = [m for m in shown if m.type == Marker.ARROW]
    names = [m.text for m in shown if m.type == Marker.TEXT_VIEW_FACING]
    assert next((m.pose.position.x, m.pose.position.y, m.pose.position.z) for m in bodies) == (1.5, -2.25, 0.2)
    assert names == ["nut 1000", "washer 2000", "5 3000"]
    assert [m.id for m in arrows] == [1000, 3000], "what stands has no arrow"
    start, end = arrows[1].points
    assert (end.x - start.x, end.y - start.y) == (-1.0, 2.0)
    assert [m.color.a for m in bodies] == [1.0, 1.0, 0.5]
    assert {(m.header.frame_id, m.header.stamp.sec) for m in shown} == {("map", STAMP // 10**9)}
    assert len({(m.ns, m.id) for m in shown}) == len(shown)


def test_tracks_with_an_object_get_its_id_and_the_others_go() -> None:
    boxes = np.arange(12, dtype=np.float32).reshape(3, 4)
    tracks = Tracks(
        boxes,
        np.array([0.5, 0.6, 0.7], np.float32),
        np.array([0, 1, 2]),
        np.array([4, 5, 6]),
        np.zeros((3, 2), np.float32),
        np.zeros(3, np.float32),
        np.ones(3, np.uint8),
        LABELS,
        STAMP,
        "door_optical",
        np.arange(12.0).reshape(3, 2, 2),
    )
    found = with_global_ids(tracks, {6: 2000, 4: 1000, 9: 3000})
    assert found.ids.tolist() == [1000, 2000]
    np.testing.assert_array_equal(found.boxes, boxes[[0, 2]])
    np.testing.assert_array_equal(found.covariances, tracks.covariances[[0, 2]])
    assert (found.stamp, found.frame_id, found.labels) == (STAMP, "door_optical", LABELS)
    assert len(with_global_ids(tracks, {})) == 0
