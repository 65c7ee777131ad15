"""Camera motion over real DDS: a robot swings its camera past things that stand still, and says how it turns.

The robot publishes detections at 10 fps and its motion in header time, so nothing here hangs on how fast the machine
is: what an image's motion needs is sent before the detections of that image.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_harness import PATIENCE_S, corners, image_message, stamp_of
from sensor_msgs.msg import CameraInfo, Image, Imu
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray, ObjectHypothesisWithPose

MS = 10**6
WIDTH, HEIGHT, FOCAL = 640, 480, 500.0
CENTRE = 319.5, 239.5
FRAMES, PERIOD = 40, 100  # ms
BEARINGS = np.linspace(-0.45, 0.45, 12)
HEIGHTS = np.array([0.15, -0.1, 0.05, -0.2, 0.1, -0.05, 0.2, -0.15, 0.0, 0.12, -0.12, 0.03])


def heading(seconds: float) -> float:
    """Of the robot, to the left, rad."""
    return 0.35 * math.sin(3.0 * seconds)


def rate(seconds: float) -> float:
    return 0.35 * 3.0 * math.cos(3.0 * seconds)


def pixels(seconds: float) -> np.ndarray:
    """(12, 2): where the things are in the image of a camera that looks where the robot does; NaN outside of it."""
    away = BEARINGS - heading(seconds)
    x = CENTRE[0] + 0.5 - FOCAL * np.tan(away)  # left in the world is left in the image
    y = CENTRE[1] + 0.5 - FOCAL * HEIGHTS / np.cos(away)
    seen = (x > 0) & (x < WIDTH) & (y > 0) & (y < HEIGHT)
    return np.where(seen[:, None], np.stack([x, y], axis=1), np.nan)


def header(message, stamp: int, frame_id: str):
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
    message.header.frame_id = frame_id
    return message


def detections(stamp: int, places: np.ndarray) -> Detection2DArray:
    array = header(Detection2DArray(), stamp, "camera_optical")
    for x, y in places[np.isfinite(places[:, 0])].tolist():
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = "0", 0.9
        box = BoundingBox2D(size_x=28.0, size_y=60.0)
        box.center.position.x, box.center.position.y = x, y
        array.detections.append(Detection2D(header=array.header, results=[hypothesis], bbox=box))
    return array


def camera_info(stamp: int, focal: float = FOCAL) -> CameraInfo:
    info = header(CameraInfo(width=WIDTH, height=HEIGHT, distortion_model="plumb_bob"), stamp, "camera_optical")
    info.k = [focal, 0.0, CENTRE[0], 0.0, focal, CENTRE[1], 0.0, 0.0, 1.0 if focal else 0.0]
    return info


def yaw(angle: float) -> dict[str, float]:
    return {"z": math.sin(angle / 2), "w": math.cos(angle / 2)}


def quaternion(into, x: float = 0.0, y: float = 0.0, z: float = 0.0, w: float = 1.0) -> None:
    into.x, into.y, into.z, into.w = x, y, z, w


def imu(stamp: int, seconds: float) -> Imu:
    message = header(Imu(), stamp, "imu_link")
    message.angular_velocity.z = rate(seconds)
    return message


def odometry(stamp: int, seconds: float) -> Odometry:
    message = header(Odometry(child_frame_id="base_link"), stamp, "odom")
    quaternion(message.pose.pose.orientation, **yaw(heading(seconds)))
    return message


def transform(parent: str, child: str, stamp: int, **rotation: float) -> TransformStamped:
    message = header(TransformStamped(child_frame_id=child), stamp, parent)
    quaternion(message.transform.rotation, **rotation)
    return message


_noise = np.random.default_rng(4).uniform(0, 255, (64, 128))


def _smooth(rows: np.ndarray, columns: np.ndarray, cell: float) -> np.ndarray:
    """Noise whose grains are `cell` px wide."""
    row, column = np.floor(rows / cell).astype(int), np.floor(columns / cell).astype(int)
    down, across = (rows / cell - row)[:, None], (columns / cell - column)[None, :]
    upper, lower = (_noise[(row + k) % 64] for k in (0, 1))
    left, right = column % 128, (column + 1) % 128
    above = upper[:, left] * (1 - across) + upper[:, right] * across
    return above * (1 - down) + (lower[:, left] * (1 - across) + lower[:, right] * across) * down


def picture(stamp: int, seconds: float) -> Image:
    """A far wall with a pattern of fine and coarse grains, as the camera sees it."""
    columns = FOCAL * (np.arctan((np.arange(WIDTH) - CENTRE[0]) / FOCAL) - heading(seconds))
    rows = np.arange(HEIGHT, dtype=float)
    pattern = 0.5 * _smooth(rows, columns, 10.0) + 0.5 * _smooth(rows, columns, 50.0)
    return image_message(np.repeat(pattern.astype(np.uint8)[:, :, None], 3, axis=2), stamp, frame_id="camera_optical")


PATIENT = 1.0  # s that the node waits for the motion, which a busy machine may bring late


class Robot:
    """Publishes; after each image the tracks of it are waited for, so order and completeness are certain."""

    def __init__(self, observer, process, namespace: str):
        self.observer, self.process, self.namespace = observer, process, namespace
        self.start = time.time_ns()
        self.tracks = observer.listen(Detection2DArray, f"{namespace}/tracks")
        self.detections = observer.publisher(Detection2DArray, f"{namespace}/detections")
        observer.wait_for_subscriber(self.detections, process)
        observer.spin_until(
            lambda: observer.node.count_publishers(f"{namespace}/tracks") > 0, "the tracks' publisher", process
        )

    def publisher(self, kind: type, topic: str, profile: QoSProfile | int = 100):
        made = self.observer.publisher(kind, topic, profile)
        self.observer.wait_for_subscriber(made, self.process)
        return made

    def stamp(self, milliseconds: float) -> int:
        return self.start + round(milliseconds * MS)

    def look(self, milliseconds: float, places: np.ndarray | None = None) -> Detection2DArray:
        """Detections of that moment go out, the tracks of it come back."""
        stamp = self.stamp(milliseconds)
        self.detections.publish(detections(stamp, pixels(milliseconds / 1000) if places is None else places))
        self.observer.spin_until(
            lambda: self.tracks and stamp_of(self.tracks[-1]) == stamp, "tracks of these detections", self.process
        )
        return self.tracks[-1]

    def switches(self, tell: Callable[[float, float], None]) -> int:
        """How often a thing changed its id in 4 s. tell(begin, end): publishes the motion of (begin, end] ms."""
        known: dict[int, str] = {}
        count, told = 0, -50.0
        for index in range(FRAMES):
            now = index * PERIOD
            tell(told, now + 10)
            told = now + 10
            places = pixels(now / 1000)
            for track in self.look(now).detections:
                centre = track.bbox.center.position
                distance = np.nan_to_num(np.hypot(*(places - [centre.x, centre.y]).T), nan=1e9)
                nearest = int(distance.argmin())
                if distance[nearest] < 15:
                    count += known.get(nearest, track.id) != track.id
                    known[nearest] = track.id
        assert len(known) == len(BEARINGS)
        return count

    def values(self) -> dict[str, str]:
        return self.observer.fresh_values(f"{self.namespace.lstrip('/')}/tracking", self.process)


@pytest.fixture
def robot(observer, start, request) -> Callable[..., Robot]:
    def make(**parameters) -> Robot:
        namespace = f"/{request.node.originalname[5:30].strip('_')}_{len(Robot_numbers)}"
        Robot_numbers.append(namespace)
        return Robot(observer, start("tracking", parameters=parameters, namespace=namespace), namespace)

    return make


Robot_numbers: list[str] = []
without = SimpleNamespace(switches=None)


def switches_without(robot: Callable[..., Robot]) -> int:
    """Of the same scene with no word of the camera's motion: once a session."""
    if without.switches is None:
        without.switches = robot(camera_motion="off").switches(lambda begin, end: None)
    return without.switches


def every(begin: float, end: float, step: float):
    """Milliseconds in (begin, end] that are multiples of step."""
    return np.arange(math.floor(begin / step) + 1, math.floor(end / step) + 1) * step


def calibrated(robot: Robot) -> None:
    publisher = robot.publisher(CameraInfo, f"{robot.namespace}/camera_info")
    publisher.publish(camera_info(robot.stamp(0)))
    while "camera calibration" in robot.values():  # it is there by then, or the node says that it is not
        pass


def check(robot: Robot, switches: int, way: str, unwarped: int) -> None:
    assert unwarped >= 10, "the scene is to be hard without warps"
    assert switches <= unwarped // 5, (switches, unwarped)
    values = robot.values()
    assert values["camera motion"] == way, values
    assert int(values["warps given"]) >= FRAMES - 3, values
    assert "camera motion p50 [ms]" in values


def test_a_gyroscope_at_200_hz_keeps_the_ids(robot) -> None:
    unwarped = switches_without(robot)
    r = robot(camera_motion="imu", camera_rotation="forward", motion_patience=PATIENT)
    samples = r.publisher(Imu, f"{r.namespace}/imu")
    calibrated(r)

    def tell(begin: float, end: float) -> None:
        for at in every(begin, end, 5).tolist():
            samples.publish(imu(r.stamp(at), at / 1000))

    check(r, r.switches(tell), "imu", unwarped)


def test_auto_finds_odometry_and_no_more_than_it(robot, observer) -> None:
    unwarped = switches_without(robot)
    r = robot(camera_rotation="-1.5707963 0 -1.5707963", motion_patience=PATIENT)
    r.look(-10_000)
    assert r.values()["camera motion"] == "off: nobody publishes imu or odom"
    assert observer.node.count_subscribers(f"{r.namespace}/camera_info") == 0
    poses = r.publisher(Odometry, f"{r.namespace}/odom")  # it subscribes once it sees the publisher
    calibrated(r)
    r.look(-500)

    def tell(begin: float, end: float) -> None:
        for at in every(begin, end, 20).tolist():
            poses.publish(odometry(r.stamp(at), at / 1000))

    check(r, r.switches(tell), "odometry (auto)", unwarped)


def test_tf_keeps_the_ids(robot) -> None:
    messages = pytest.importorskip("tf2_msgs.msg", reason="tf2_msgs is not installed (ROS from PyPI has none)")
    unwarped = switches_without(robot)
    r = robot(camera_motion="tf", fixed_frame="odom", motion_patience=PATIENT)
    latched = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    fixed = r.publisher(messages.TFMessage, "/tf_static", latched)
    moving = r.publisher(messages.TFMessage, "/tf")
    mount = transform("base_link", "camera_optical", 0, x=-0.5, y=0.5, z=-0.5, w=0.5)
    fixed.publish(messages.TFMessage(transforms=[mount]))
    calibrated(r)

    def tell(begin: float, end: float) -> None:
        for at in every(begin, end, 20).tolist():
            pose = transform("odom", "base_link", r.stamp(at), **yaw(heading(at / 1000)))
            moving.publish(messages.TFMessage(transforms=[pose]))

    check(r, r.switches(tell), "tf", unwarped)


def test_without_tf2_msgs_what_needs_it_is_refused_with_the_remedy(observer, start, tmp_path) -> None:
    hidden = tmp_path / "hidden" / "tf2_msgs"  # in its place, for the node alone
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('no tf2_msgs here')\n")
    path = os.pathsep.join([str(hidden.parent), os.environ.get("PYTHONPATH", "")])
    for way, remedy in (("tf", "camera_motion:=imu or odometry"), ("imu", "with camera_rotation")):
        process = start(
            "tracking",
            parameters={"camera_motion": way},
            namespace=f"/refused_{way}",
            environment={"PYTHONPATH": path},
        )
        line = process.wait_for_log("cannot configure")[0]
        assert "tf2_msgs" in line
        assert remedy in line


def test_flow_keeps_the_ids(robot) -> None:
    unwarped = switches_without(robot)
    r = robot(camera_motion="flow", motion_patience=1.0)  # an image is larger than detections, and comes after them
    images = r.publisher(Image, f"{r.namespace}/image_raw", QoSProfile(depth=5))
    assert r.observer.node.count_subscribers(f"{r.namespace}/imu") == 0

    def tell(begin: float, end: float) -> None:
        at = end - 10
        images.publish(picture(r.stamp(at), at / 1000))

    switches = r.switches(tell)
    assert unwarped >= 10
    assert switches <= unwarped // 3, (switches, unwarped)
    values = r.values()
    assert int(values["warps given"]) >= FRAMES * 0.8, values
    assert float(values["flow [ms]"]) > 0


def test_what_is_missing_is_counted_said_and_costs_no_tracks(robot) -> None:
    r = robot(camera_motion="imu", camera_rotation="forward", motion_patience=0.001)
    samples = r.publisher(Imu, f"{r.namespace}/imu")
    r.look(0)
    for index in range(1, 25):  # no camera_info, no samples
        assert len(r.look(index * PERIOD, pixels(0.0)).detections) > 0
        r.observer.spin_for(0.05)
    assert "no usable camera_info" in r.process.wait_for_log("gives no warps")[0]
    infos = r.publisher(CameraInfo, f"{r.namespace}/camera_info")
    infos.publish(camera_info(r.stamp(0), focal=0.0))
    name = f"{r.namespace[1:]}/tracking"
    r.observer.spin_until(
        lambda: "not calibrated" in r.observer.values(name).get("camera calibration", ""), "what is wrong", r.process
    )
    infos.publish(camera_info(r.stamp(0)))
    r.observer.spin_until(lambda: "camera calibration" not in r.observer.values(name), "calibration", r.process)
    for index in range(25, 30):
        r.look(index * PERIOD)
    values = r.values()
    assert values["warps given"] == "0"
    assert "nothing received yet: 5" in values["warps missing because"]
    assert "no usable camera_info: 24" in values["warps missing because"]
    bad = imu(r.stamp(0), 0.0)
    bad.angular_velocity_covariance[0] = -1.0
    samples.publish(bad)
    assert "take one with a gyroscope" in r.process.wait_for_log("no angular velocity")[0]
    bad = imu(r.stamp(0), 0.0)
    bad.angular_velocity.x = math.nan
    samples.publish(bad)
    assert "rad/s" in r.process.wait_for_log("an angular velocity of")[0]
    for at in np.arange(2900, 3201, 5).tolist():
        samples.publish(imu(r.stamp(at), at / 1000))
    r.observer.spin_for(0.3)
    r.look(3000)
    r.look(3100)
    assert int(r.values()["warps given"]) >= 1


def test_a_real_sequence_is_tracked_as_by_the_tracker_alone(robot, shared_data: Path) -> None:
    """With the default, auto, where nobody says how the camera moves."""
    from edge_vision.datatypes import Detections
    from edge_vision.tracking import Tracker

    rows = np.loadtxt(shared_data / "tracking" / "TUD-Campus" / "det.txt", delimiter=",", ndmin=2)
    r, tracker = robot(), Tracker()
    for frame in range(1, 41):
        found = rows[rows[:, 0] == frame]
        boxes = np.hstack([found[:, 2:4], found[:, 2:4] + found[:, 4:6]]).astype(np.float32)
        stamp = r.stamp(frame * 40)
        array = header(Detection2DArray(), stamp, "camera")
        for (left, top, right, bottom), score in zip(boxes.tolist(), found[:, 6].tolist(), strict=True):
            hypothesis = ObjectHypothesisWithPose()
            hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = "0", score
            box = BoundingBox2D(size_x=right - left, size_y=bottom - top)
            box.center.position.x, box.center.position.y = (left + right) / 2, (top + bottom) / 2
            array.detections.append(Detection2D(header=array.header, results=[hypothesis], bbox=box))
        r.detections.publish(array)
        r.observer.spin_until(
            lambda: r.tracks and stamp_of(r.tracks[-1]) == stamp,  # noqa: B023  called in this turn of the loop only
            "tracks",
            r.process,
        )
        expected = tracker.update(
            Detections(boxes, found[:, 6].astype(np.float32), np.zeros(len(found), np.int64), stamp=stamp)
        )
        assert [track.id for track in r.tracks[-1].detections] == [str(i) for i in expected.ids.tolist()]
        for track, box in zip(r.tracks[-1].detections, expected.boxes, strict=True):
            np.testing.assert_allclose(corners(track), box, atol=0.01)
    assert len(expected) >= 3
    assert r.values()["camera motion"] == "off: nobody publishes imu or odom"


def test_a_wrong_mount_is_refused(start, observer) -> None:
    process = start("tracking", parameters={"camera_motion": "imu", "camera_rotation": "upside"}, namespace="/mounted")
    assert "roll pitch yaw" in process.wait_for_log("cannot configure")[0]


def test_images_of_another_shape_than_the_calibration_are_told(robot) -> None:
    r = robot(camera_motion="imu", camera_rotation="forward")
    calibrated(r)
    images = r.publisher(Image, f"{r.namespace}/image_raw")
    small = image_message(np.zeros((HEIGHT, HEIGHT, 3), np.uint8), r.stamp(0))

    def told() -> str:
        images.publish(small)
        return r.observer.values(f"{r.namespace[1:]}/tracking").get("camera calibration", "")

    r.observer.spin_until(told, "what the images' size is", r.process, PATIENCE_S)
    assert "480 x 480 px and camera_info is for 640 x 480" in told()
    topic = f"{r.namespace}/image_raw"
    r.observer.spin_until(lambda: r.observer.node.count_subscribers(topic) == 0, "no more images are taken", r.process)


def test_the_launch_knows_every_way() -> None:
    from edge_vision.deployment import ARGUMENTS
    from edge_vision.ros.motion_inputs import WAYS

    assert {a.name: a.choices for a in ARGUMENTS}["camera_motion"] == WAYS


def test_the_messages_are_read_as_ros_reads_them(tmp_path: Path) -> None:
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import RegionOfInterest

    from edge_vision.ros import motion_adapters as adapters
    from edge_vision.ros.adapters import BadMessage

    sample = imu(1_700_000_000_123_456_789, 0.3)
    sample.angular_velocity.x, sample.angular_velocity.y = 0.25, -0.5
    for frame_id in ("", "i", "imu_link", "a_longer_name_of_a_frame"):
        sample.header.frame_id = frame_id
        data = serialize_message(sample)
        read = adapters.IMU.from_message(data)
        assert read == adapters.AngularVelocity(1_700_000_000_123_456_789, frame_id, (0.25, -0.5, rate(0.3)))
        assert adapters.IMU.from_message(serialize_message(adapters.IMU.to_message(read))) == read
        for cut in (5, 12, 40, 120):
            with pytest.raises(BadMessage, match="truncated Imu"):
                adapters.IMU.from_message(data[:cut])
    pose = odometry(5 * 10**9, 0.2)
    pose.child_frame_id = "/base"
    read = adapters.ODOMETRY.from_message(serialize_message(pose))
    assert (read.stamp, read.frame_id, read.child_frame_id) == (5 * 10**9, "odom", "base")
    assert read.rotation == pytest.approx((0, 0, math.sin(heading(0.2) / 2), math.cos(heading(0.2) / 2)))
    pose.pose.pose.orientation.z = pose.pose.pose.orientation.w = 0.0
    with pytest.raises(BadMessage, match="Odometry without orientation"):
        adapters.ODOMETRY.from_message(serialize_message(pose))
    info = camera_info(0)
    info.roi = RegionOfInterest(x_offset=100, y_offset=40, width=400, height=200)
    info.binning_x = info.binning_y = 2
    sent = adapters.CAMERA_INFO.from_message(info)
    assert (sent.width, sent.height) == (200, 100)
    np.testing.assert_allclose(sent.K, [[250, 0, (319.5 - 100.5) / 2], [0, 250, (239.5 - 40.5) / 2], [0, 0, 1]])
    assert adapters.CAMERA_INFO.from_message(camera_info(0)).K[0, 2] == CENTRE[0]
