"""Two cameras over one belt, each with a tracking process of its own, and the node that gives their objects one id."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from edge_vision.msg import GroundObject, GroundObjectArray, Track, TrackArray
from ros_harness import corners, stamp_of
from sensor_msgs.msg import Image
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray, ObjectHypothesisWithPose
from visualization_msgs.msg import Marker, MarkerArray

from edge_vision.calibration.camera_info_file import write_camera_info
from edge_vision.drawing.palette import colour_of
from edge_vision.simulation import LABELS, Conveyor, ConveyorOptions

SECOND = 10**9
BEGIN = 1000 * SECOND
METRE = 1e-3  # a unit of the twin is taken for a millimetre
OVERLAP = 300.0
ASSOCIATION = "association: {alignment: 0.002, max_deviation: 0.1, initial_speed: 0.3, agility: 0.1}\n"


@pytest.fixture
def scenes() -> dict[str, Conveyor]:
    options = ConveyorOptions(seed=3)
    return {"first": Conveyor(options), "second": Conveyor(replace(options, shift=640.0 - OVERLAP))}


@pytest.fixture
def rig(tmp_path: Path, scenes: dict[str, Conveyor]) -> Path:
    """The plane: x along the belt, y away from the image's top, z up; both cameras look straight down."""
    text = "cameras:\n"
    for name, scene in scenes.items():
        info = scene.camera_info()
        write_camera_info(tmp_path / f"{name}.yaml", info)
        x, y = (info.K[:2, 2] + 0.5) / scene.scale
        place = (METRE * np.array([x + scene.options.shift, -y, info.K[0, 0] / scene.scale])).tolist()
        text += (
            f"  {name}: {{camera_info: {name}.yaml, anchor: centre, pose: {{xyz: {place}, rpy: [{np.pi!r}, 0, 0]}}}}\n"
        )
    path = tmp_path / "rig.yaml"
    path.write_text(text + ASSOCIATION)
    return path


@pytest.fixture
def floor(tmp_path: Path) -> Path:
    """Two cameras of 640 x 480 px straight above a floor, 1 cm a pixel, the second 3 m further along x."""
    path = tmp_path / "floor.yaml"
    path.write_text(
        "cameras:\n"
        "  north: {homography: [0.01, 0, 0, 0, 0.01, 0, 0, 0, 1], image_size: [640, 480], anchor: centre}\n"
        "  south: {homography: [0.01, 0, 3, 0, 0.01, 0, 0, 0, 1], image_size: [640, 480], anchor: centre}\n"
    )
    return path


def since_begin(messages: list) -> list:
    return [message for message in messages if stamp_of(message) >= BEGIN]


def detections(scene: Conveyor, index: int) -> Detection2DArray:
    """What a detector without fault would publish of that frame."""
    truth = scene.truth(index, BEGIN)
    array = Detection2DArray()
    array.header.stamp.sec, array.header.stamp.nanosec = divmod(truth.stamp, SECOND)
    array.header.frame_id = "belt"
    for box, class_id in zip(truth.boxes.tolist(), truth.class_ids.tolist(), strict=True):
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = str(class_id), 0.9
        bbox = BoundingBox2D(size_x=box[2] - box[0], size_y=box[3] - box[1])
        bbox.center.position.x, bbox.center.position.y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        array.detections.append(Detection2D(header=array.header, results=[hypothesis], bbox=bbox))
    return array


def seen_ids(array: Detection2DArray, scene: Conveyor, index: int) -> dict[int, str]:
    """True id -> the id that the box over it was given."""
    truth = scene.truth(index, BEGIN)
    result = {}
    for detection in array.detections:
        distance = np.abs(truth.boxes - corners(detection)).max(axis=1)
        if distance.min() < 12.0:
            result[int(truth.ids[distance.argmin()])] = detection.id
    return result


def test_what_both_cameras_see_has_one_id_in_both(observer, start, rig: Path, scenes: dict[str, Conveyor]) -> None:
    trackers = {name: start("tracking", namespace=f"/hall/{name}") for name in scenes}
    process = start("multi_camera", parameters={"rig": rig, "frame_id": "belt_plane"}, namespace="/hall")
    objects = observer.listen(GroundObjectArray, "/hall/objects")
    markers = observer.listen(MarkerArray, "/hall/objects/markers")
    pictures = observer.listen(Image, "/hall/objects/view")
    views = {name: observer.listen(Detection2DArray, f"/hall/{name}/tracks/global") for name in scenes}
    sends = {name: observer.publisher(Detection2DArray, f"/hall/{name}/detections") for name in scenes}
    for name in scenes:
        observer.wait_for_subscriber(sends[name], trackers[name])

    clock = [BEGIN - 60 * SECOND]

    def heard() -> bool:
        """Whether the whole way is there: frames without objects go all of it."""
        clock[0] += SECOND // 100
        for send in sends.values():
            array = Detection2DArray()
            array.header.stamp.sec, array.header.stamp.nanosec = divmod(clock[0], SECOND)
            send.publish(array)
        observer.spin_for(0.05)
        return all((objects, markers, pictures, *views.values()))

    observer.spin_until(heard, "frames without objects", process)
    frames = 60
    for index in range(frames):
        for name, scene in scenes.items():
            sends[name].publish(detections(scene, index))
        observer.spin_until(
            lambda index=index: all(len(since_begin(view)) > index for view in views.values()),
            f"both views of {index}",
            trackers["first"],
        )
    observer.spin_until(lambda: len(since_begin(objects)) == 2 * frames, "objects with every image", process)

    in_both = same = 0
    for index in range(10, frames):
        first, second = (seen_ids(since_begin(views[name])[index], scene, index) for name, scene in scenes.items())
        for thing in first.keys() & second.keys():
            in_both += 1
            same += first[thing] == second[thing]
    assert in_both > 100
    assert same >= 0.99 * in_both
    assert views["first"][-1].header.frame_id == "belt", "the header is that of the image"

    newest = objects[-1]
    assert newest.header.frame_id == "belt_plane"
    assert stamp_of(newest) == scenes["first"].truth(frames - 1, BEGIN).stamp
    joined = [o for o in newest.objects if len(o.members) == 2]
    assert joined
    assert {m.camera for o in joined for m in o.members} == {"first", "second"}
    given = {d.id for d in views["first"][-1].detections} & {d.id for d in views["second"][-1].detections}
    assert given == {o.id for o in joined}
    for o in joined:
        assert o.class_id.isdigit()
        assert int(o.class_id) < len(LABELS)
        assert o.state == GroundObject.CONFIRMED
        assert 0.1 < o.velocity.x < 0.2, "the belt runs at 140 units a second, a part up to 30 % off"
        assert abs(o.velocity.y) < 0.02
        covariance = np.array(o.covariance).reshape(4, 4)
        assert (np.linalg.eigvalsh(covariance) > 0).all()
        assert METRE * (610.0 - OVERLAP) < o.position.x < METRE * 670.0, "where both look, at the edges to half a part"
        assert -0.48 < o.position.y < 0.0

    shown = markers.wait(0)[-1].markers
    assert {m.type for m in shown} == {Marker.CYLINDER, Marker.TEXT_VIEW_FACING, Marker.ARROW}
    assert {m.header.frame_id for m in shown} == {"belt_plane"}
    picture = pictures.wait(0)[-1]
    assert len(since_begin(pictures)) < 2 * frames / 2, "10 a second, of header time"
    image = np.frombuffer(picture.data, np.uint8).reshape(picture.height, picture.width, 3)
    assert (picture.width, picture.header.frame_id) == (800, "belt_plane")
    colours = {tuple(pixel) for pixel in image.reshape(-1, 3).tolist()}
    shown_ids = [int(o.id) for o in objects[-1].objects if o.state == GroundObject.CONFIRMED]
    assert sum(colour_of(number) in colours for number in shown_ids) > len(shown_ids) / 2
    values = observer.fresh_values("hall/multi_camera", process)
    assert values["objects"] == str(len(newest.objects))
    assert values["joined"] == str(len(joined))
    assert values["cameras"] == "first, second"


def track_array(stamp: int, *places: tuple[int, float, float]) -> TrackArray:
    """Tracks (id, x, y) of boxes of 40 px, known to 2 px."""
    array = TrackArray()
    array.header.stamp.sec, array.header.stamp.nanosec = divmod(stamp, SECOND)
    array.header.frame_id = "north_optical"
    for number, x, y in places:
        track = Track(id=str(number), class_id="2", class_name="cart", score=0.9, age=1.0, state=Track.CONFIRMED)
        track.bbox = BoundingBox2D(size_x=40.0, size_y=40.0)
        track.bbox.center.position.x, track.bbox.center.position.y = x, y
        track.position_covariance = np.array([4.0, 0.0, 0.0, 4.0], np.float32)
        array.tracks.append(track)
    return array


def test_a_camera_that_comes_late_is_told_of_and_joins_what_is_there(observer, start, floor: Path) -> None:
    process = start(
        "multi_camera", parameters={"rig": floor, "topics": "south=/elsewhere/tracks/state"}, namespace="/floor"
    )
    objects = observer.listen(GroundObjectArray, "/floor/objects")
    mine = observer.listen(Detection2DArray, "/elsewhere/tracks/global")
    north = observer.publisher(TrackArray, "/floor/north/tracks/state")
    south = observer.publisher(TrackArray, "/elsewhere/tracks/state")
    for publisher in (north, south):
        observer.wait_for_subscriber(publisher, process)
    observer.spin_until(lambda: observer.node.count_publishers("/floor/objects") == 1, "objects are offered", process)

    clock = [BEGIN]

    def north_goes_on() -> None:
        clock[0] += SECOND // 20
        north.publish(track_array(clock[0], (4, 500.0, 200.0)))
        objects.wait(1, process)

    north_goes_on()
    assert [(o.id, o.class_name, [(m.camera, m.id) for m in o.members]) for o in objects[-1].objects] == [
        ("1", "cart", [("north", "4")])
    ]
    north_goes_on()
    here = objects[-1].objects[0].position
    assert (here.x, here.y) == pytest.approx((5.005, 2.005), abs=0.02)

    def told() -> bool:
        north_goes_on()
        status = observer.diagnostics.get("floor/multi_camera")
        return status is not None and status.level == DiagnosticStatus.ERROR

    observer.spin_until(told, "the silent camera is told of", process)
    status = observer.diagnostics["floor/multi_camera"]
    assert "no tracks from camera south (/elsewhere/tracks/state)" in status.message
    assert observer.values("floor/multi_camera")["silent cameras"] == "south"

    clock[0] += SECOND // 20
    south.publish(track_array(clock[0], (9, 200.0, 200.0), (10, 600.0, 100.0)))
    mine.wait(1, process)
    assert [(d.id, corners(d)) for d in mine[-1].detections] == [
        ("1", [180.0, 180.0, 220.0, 220.0]),
        ("2", [580.0, 80.0, 620.0, 120.0]),
    ]
    objects.wait(0, process)
    observer.spin_until(lambda: any(len(o.members) == 2 for o in objects[-1].objects), "one object in both", process)

    def both_go_on() -> bool:
        north_goes_on()
        south.publish(track_array(clock[0], (9, 200.0, 200.0)))
        objects.wait(1, process)
        return observer.diagnostics["floor/multi_camera"].level == DiagnosticStatus.OK

    observer.spin_until(both_go_on, "all is well", process)
    assert process.lines("camera south is back")


def test_a_clock_that_is_wrong_is_told_of_and_a_recording_that_loops_begins_anew(observer, start, floor: Path) -> None:
    process = start("multi_camera", parameters={"rig": floor}, namespace="/clocks")
    objects = observer.listen(GroundObjectArray, "/clocks/objects")
    cameras = [observer.publisher(TrackArray, f"/clocks/{name}/tracks/state") for name in ("north", "south")]
    for publisher in cameras:
        observer.wait_for_subscriber(publisher, process)
    observer.spin_until(lambda: observer.node.count_publishers("/clocks/objects") == 1, "objects are offered", process)
    for index in range(10):
        cameras[0].publish(track_array(BEGIN + index * SECOND // 20, (4, 100.0, 200.0)))
        observer.spin_until(lambda index=index: len(objects) > index, "what the first one sees", process)
        cameras[1].publish(track_array(BEGIN + index * SECOND // 20 - 10 * SECOND, (4, 100.0, 200.0)))
    assert process.wait_for_log(r"stamps of south are (9.9|10.0) s behind those of north: the cameras need one clock")
    assert [[(o.id, len(o.members)) for o in array.objects] for array in objects] == [[("1", 1)]] * 10
    observer.spin_until(
        lambda: observer.values("clocks/multi_camera").get("rejected") == "10", "south's are counted", process
    )
    cameras[0].publish(track_array(BEGIN, (4, 100.0, 200.0)))
    cameras[0].publish(track_array(BEGIN - 60 * SECOND, (4, 100.0, 200.0)))
    objects.wait(2, process)
    assert [o.id for o in objects[-2].objects] == ["1"], "a stamp that was there before changes nothing"
    assert stamp_of(objects[-1]) == BEGIN - 60 * SECOND
    assert [o.id for o in objects[-1].objects] == ["2"], "an id is not used again"
    assert observer.fresh_values("clocks/multi_camera", process)["repeated stamps"] == "1"


def test_a_rig_that_cannot_be_leaves_the_node_saying_why(observer, start, tmp_path: Path, floor: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("cameras: {north: {homography: [1, 2, 3], image_size: [640, 480]}}")
    process = start("multi_camera", parameters={"rig": wrong}, namespace="/wrong")
    process.wait_for_log(r"cannot configure: .*wrong\.yaml: cameras\.north\.homography is \[1, 2, 3\]")
    assert observer.state("/wrong/multi_camera") == "unconfigured"
    good, why = observer.set_parameter("/wrong/multi_camera", "rig", str(floor))
    assert good, why
    assert observer.change_state("/wrong/multi_camera", "configure")
    assert observer.change_state("/wrong/multi_camera", "activate")

    good, why = observer.set_parameter("/wrong/multi_camera", "rig", str(wrong))
    assert not good
    assert "wrong.yaml" in why
    good, why = observer.set_parameter("/wrong/multi_camera", "keep_gate", 1.0)
    assert not good
    assert "keep_gate (1.0) must not be below gate" in why
    assert observer.set_parameter("/wrong/multi_camera", "lost_after", 0.5) == (True, "")
    other = tmp_path / "other.yaml"
    other.write_text(floor.read_text().replace("south", "east"))
    good, why = observer.set_parameter("/wrong/multi_camera", "rig", str(other))
    assert not good
    assert "has the cameras north, east instead of north, south" in why
    assert observer.state("/wrong/multi_camera") == "active"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "the parameter rig is empty"),
        ({"rig": "/nowhere.yaml"}, "no such rig file: /nowhere.yaml"),
        (
            {"topics": "west=/a/tracks/state"},
            "'west=/a/tracks/state' must be camera=topic, of the rig's cameras north,",
        ),
        ({"topics": "north=2nd/tracks"}, "'2nd/tracks' of camera 'north' is no ROS topic"),
    ],
)
def test_what_cannot_be_is_one_clear_line(start, floor: Path, given: dict, says: str) -> None:
    parameters = given if not given or "rig" in given else {"rig": floor, **given}
    process = start("multi_camera", "--must-start", parameters=parameters)
    assert process.wait() == 1
    assert len(process.lines("cannot configure")) == 1
    assert says in process.log
