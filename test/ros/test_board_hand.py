"""A board in a hand before the simulated camera: it shows what a calibration asks for, over topics."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from edge_vision.msg import CalibrationStatus
from geometry_msgs.msg import Point32, Pose, PoseStamped
from ros_harness import RELIABLE
from sensor_msgs.msg import CameraInfo, Image

from edge_vision.calibration.boards import find_board
from edge_vision.calibration.detection import detect
from edge_vision.calibration.views import View

BOARD = find_board("charuco_9x7_25mm")
EXACT = {"error_degrees": 0.0, "error_share": 0.0}


def asking(turn: float, x: float, y: float, z: float, state: str = "collecting") -> CalibrationStatus:
    """A calibration that wants the board turned about the vertical, its origin at x, y, z."""
    message = CalibrationStatus(state=state, next_view="nearer, tilted", width=640, height=480)
    message.cells = [False] * 100
    message.next_pose.position.x, message.next_pose.position.y, message.next_pose.position.z = x, y, z
    message.next_pose.orientation.y, message.next_pose.orientation.w = math.sin(turn / 2), math.cos(turn / 2)
    message.next_outline = [Point32(x=1.0, y=2.0)]
    return message


def near(pose: Pose, wanted: Pose, metres: float = 1e-4) -> bool:
    a, b = ([p.position.x, p.position.y, p.position.z] for p in (pose, wanted))
    p, q = ([p.orientation.x, p.orientation.y, p.orientation.z, p.orientation.w] for p in (pose, wanted))
    return bool(np.allclose(a, b, atol=metres) and abs(np.dot(p, q)) > 1 - 1e-5)


def test_the_hand_shows_its_own_poses_and_then_what_is_asked(observer, start) -> None:
    hand = start("board_hand", parameters=EXACT | {"speed": 2.0, "hold": 0.2}, namespace="/hand")
    with observer.listen(PoseStamped, "/hand/board_pose") as poses:
        observer.spin_until(lambda: len({round(m.pose.position.z, 3) for m in poses}) > 5, "poses of its own", hand)
        assert poses[-1].header.frame_id == "camera_optical_frame"
        stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in poses]
        assert stamps == sorted(stamps)
        assert stamps[0] > 0

        calibration = observer.publisher(CalibrationStatus, "/hand/calibration_status")
        observer.wait_for_subscriber(calibration, hand)
        for wanted in (asking(0.4, -0.1, -0.05, 0.5), asking(-0.3, 0.0, -0.1, 0.4)):
            calibration.publish(wanted)
            observer.spin_until(lambda: near(poses[-1].pose, wanted.next_pose), "the pose asked for", hand)  # noqa: B023
        calibration.publish(asking(0.1, 0.0, 0.0, 0.9, state="done"))  # nobody looks any more: it rests
        begun = len(poses)
        observer.spin_until(lambda: len(poses) > begun + 30, "a second at rest", hand)
        assert near(poses[-1].pose, wanted.next_pose)


def test_a_hands_speed_and_error_can_be_changed_while_it_moves(observer, start) -> None:
    hand = start("board_hand", parameters={"hold": 0.1, "speed": 3.0}, namespace="/live")
    observer.spin_until(lambda: "live/board_hand" in observer.diagnostics, "the hand's diagnostics", hand)
    assert observer.set_parameter("/live/board_hand", "speed", 0.5) == (True, "")
    assert observer.set_parameter("/live/board_hand", "error_degrees", 0.0) == (True, "")
    refused, reason = observer.set_parameter("/live/board_hand", "speed", 0.0)
    assert not refused
    assert "speed" in reason
    assert observer.fresh_values("live/board_hand", hand)["asked for"] == "no calibration heard of"


def test_a_board_that_is_not_there_is_said(start) -> None:
    process = start("board_hand", parameters={"board": "nonesuch"}, namespace="/none")
    process.wait_for_log("no board 'nonesuch'.*charuco_9x7_25mm")


def test_the_camera_sees_the_board_where_the_hand_takes_it(observer, start) -> None:
    """The whole way: a pose asked for, the hand, board_pose, the camera's image, and the board found in it."""
    source = "sim://board?calibrated=true&motion_blur=off&seed=4"
    camera = start("camera", parameters={"source": source}, namespace="/seen")
    hand = start("board_hand", parameters=EXACT | {"speed": 2.0, "hold": 0.5}, namespace="/seen")
    calibration = observer.publisher(CalibrationStatus, "/seen/calibration_status")
    observer.wait_for_subscriber(calibration, hand)
    wanted = asking(0.5, -0.08, -0.06, 0.42)
    calibration.publish(wanted)
    with (
        observer.listen(PoseStamped, "/seen/board_pose") as poses,
        observer.listen(CameraInfo, "/seen/camera_info") as infos,
        observer.listen(Image, "/seen/image_raw", RELIABLE) as images,
    ):
        infos.wait(1, camera)
        K, D = np.array(infos[-1].k).reshape(3, 3), np.array(infos[-1].d)
        observer.spin_until(lambda: len(poses) and near(poses[-1].pose, wanted.next_pose), "the pose", hand)
        turn = cv2.Rodrigues(np.array([0.0, 0.5, 0.0]))[0]
        place = np.array([-0.08, -0.06, 0.42])
        true = cv2.projectPoints(BOARD.points, turn, place, K, D)[0][:, 0]

        def seen() -> bool:
            images.wait(1, camera)
            message = images[-1]
            view = detect(np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3), BOARD)
            return isinstance(view, View) and float(np.abs(view.pixels - true[view.ids]).mean()) < 0.2

        observer.spin_until(seen, "the board where it was taken", camera)


def test_a_camera_without_a_board_does_not_listen_for_one(observer, start) -> None:
    camera = start("camera", parameters={"source": "sim://conveyor?width=64&height=48"}, namespace="/belt")
    with observer.listen(Image, "/belt/image_raw", RELIABLE) as images:
        images.wait(2, camera)
    assert observer.node.count_subscribers("/belt/board_pose") == 0


@pytest.mark.parametrize(("field", "value"), [("w", 0.0), ("x", math.nan)])
def test_a_pose_that_is_none_is_refused_and_the_camera_goes_on(observer, start, field: str, value: float) -> None:
    camera = start("camera", parameters={"source": "sim://board?width=64&height=48"}, namespace="/bad")
    poses = observer.publisher(PoseStamped, "/bad/board_pose")
    observer.wait_for_subscriber(poses, camera)
    message = PoseStamped()
    message.pose.position.z = 0.5
    setattr(message.pose.orientation, field, value)
    poses.publish(message)
    camera.wait_for_log("board_pose: ")
    with observer.listen(Image, "/bad/image_raw", RELIABLE) as images:
        images.wait(2, camera)
