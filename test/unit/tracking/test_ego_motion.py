"""Warps from gyroscopes, odometry and tf: that they are right; what happens when samples are late, lost or rewound."""

from __future__ import annotations

import threading
import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vision.datatypes import NS_PER_S, CameraInfo, Detections, Frame
from edge_vision.tracking import Tracker
from edge_vision.tracking.attitude import MAX_AHEAD, MAX_GAP, AttitudeHistory, Gyroscope, Missing
from edge_vision.tracking.camera_motion import rotation_homography
from edge_vision.tracking.ego_motion import FORWARD, BodySource, EgoMotion, FlowFeed, TreeSource, parse_mount
from edge_vision.tracking.lens import Lens
from edge_vision.tracking.rotations import (
    IDENTITY,
    from_matrix,
    from_rpy,
    inverse,
    matrix,
    multiply,
    normalised,
    rotate,
    rotation_vector,
    slerp,
    turn,
)
from edge_vision.tracking.transform_tree import Transform, TransformTree

K = np.array([[500.0, 0, 319.5], [0, 510, 239.5], [0, 0, 1]])
INFO = CameraInfo(640, 480, K, frame_id="optical")
MS = NS_PER_S // 1000
BEGIN = 1_700_000_000 * NS_PER_S  # stamps beyond the exactness of a double

seeds = st.integers(0, 2**32 - 1)


def random_quaternion(rng: np.random.Generator):
    return normalised(tuple(rng.normal(size=4).tolist()))


def angle_between(a, b) -> float:
    return float(np.linalg.norm(rotation_vector(multiply(inverse(a), b))))


# --- rotations -------------------------------------------------------------------------------------------------------


@given(seeds)
def test_quaternions_do_what_their_matrices_do(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b, v = random_quaternion(rng), random_quaternion(rng), tuple(rng.normal(size=3).tolist())
    np.testing.assert_allclose(matrix(multiply(a, b)), matrix(a) @ matrix(b), atol=1e-12)
    np.testing.assert_allclose(rotate(a, v), matrix(a) @ v, atol=1e-12)
    np.testing.assert_allclose(matrix(inverse(a)), matrix(a).T, atol=1e-12)
    np.testing.assert_allclose(matrix(from_matrix(matrix(a))), matrix(a), atol=1e-9)
    np.testing.assert_allclose(matrix(turn(rotation_vector(a), 1.0)), matrix(a), atol=1e-9)
    vector = rng.normal(size=3) * 0.7
    np.testing.assert_allclose(matrix(turn(tuple(vector.tolist()), 2.0)), cv2.Rodrigues(2.0 * vector)[0], atol=1e-12)


@given(seeds, st.floats(0.0, 1.0))
def test_slerp_goes_the_short_way_at_a_constant_rate(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = random_quaternion(rng), random_quaternion(rng)
    middle = slerp(a, b, share)
    assert angle_between(a, middle) == pytest.approx(share * angle_between(a, b), abs=1e-6)
    assert angle_between(middle, b) == pytest.approx((1 - share) * angle_between(a, b), abs=1e-6)


def test_the_angles_of_a_mount_are_those_of_a_urdf() -> None:
    """Of a camera that looks forward: its z is the body's x, its x the body's -y, its y the body's -z."""
    for text in ("forward", "-1.5707963 0 -1.5707963", "-0.5 0.5 -0.5 0.5", "-0.5, 0.5, -0.5, 0.5"):
        mount = parse_mount(text)
        assert mount is not None
        np.testing.assert_allclose(matrix(mount), [[0, 0, 1], [-1, 0, 0], [0, -1, 0]], atol=1e-6)
    assert parse_mount("") is None
    assert parse_mount(" same ") == IDENTITY
    np.testing.assert_allclose(matrix(from_rpy(0.0, 0.0, np.pi / 2)) @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    for text in ("1 2", "a b c", "0 0 0 0", "nan 0 0 1"):
        with pytest.raises(ValueError, match="neither empty"):
            parse_mount(text)


def test_what_is_no_rotation_is_refused() -> None:
    with pytest.raises(ValueError, match="no orientation"):
        normalised((0.0, 0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="not a rotation matrix"):
        from_matrix(np.diag([1.0, 1, -1]))


# --- over time -------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_a_gyroscope_is_integrated_between_any_two_stamps(seed: int) -> None:
    """A camera that swings about all axes at up to 2 rad/s, sampled at 200 Hz with jitter, against fine steps."""
    rng = np.random.default_rng(seed)
    amplitude, phase, speed = rng.uniform(-1.2, 1.2, 3), rng.uniform(0, 6, 3), rng.uniform(1, 8, 3)

    def rate(seconds: float):
        return tuple((amplitude * np.sin(speed * seconds + phase)).tolist())

    gyroscope = Gyroscope()
    for index in range(200):
        stamp = 5 * MS * index + int(rng.integers(0, MS))
        gyroscope.add_rate(BEGIN + stamp, rate(stamp / NS_PER_S))
    begin, end = sorted(rng.uniform(0.01, 0.98, 2).tolist())
    truth, steps = IDENTITY, 2000
    for index in range(steps):
        truth = multiply(truth, turn(rate(begin + (end - begin) * (index + 0.5) / steps), (end - begin) / steps))
    a, b = (gyroscope.at(BEGIN + round(t * NS_PER_S)) for t in (begin, end))
    assert angle_between(multiply(inverse(a), b), truth) < 2e-4  # a tenth of a pixel at f = 500


def test_beyond_the_newest_sample_the_rate_goes_on_for_a_while() -> None:
    gyroscope = Gyroscope()
    for index in range(11):
        gyroscope.add_rate(BEGIN + 10 * MS * index, (0.0, 1.5, 0.0))
    newest = BEGIN + 100 * MS
    assert gyroscope.newest == newest
    begin = gyroscope.at(BEGIN)
    ahead = gyroscope.at(newest + MAX_AHEAD)
    assert rotation_vector(multiply(inverse(begin), ahead)) == pytest.approx((0, 1.5 * 0.12, 0))
    assert gyroscope.at(newest + MAX_AHEAD + 1) is Missing.LATE
    assert gyroscope.at(BEGIN - 1) is Missing.EARLY
    assert Gyroscope().at(BEGIN) is Missing.NOTHING


def test_orientations_go_on_at_the_rate_of_the_last_two() -> None:
    history = AttitudeHistory()
    for index in range(4):
        history.add(BEGIN + 20 * MS * index, turn((0.3, 0.0, 1.0), 0.02 * index))
    assert angle_between(history.at(BEGIN + 70 * MS), turn((0.3, 0.0, 1.0), 0.07)) < 1e-9
    assert history.at(BEGIN + 81 * MS) is Missing.LATE
    one = AttitudeHistory()
    one.add(BEGIN, IDENTITY)
    assert one.at(BEGIN) == IDENTITY
    assert one.at(BEGIN + 1) is Missing.LATE


def test_over_a_gap_nothing_is_made_up() -> None:
    history, gyroscope = AttitudeHistory(), Gyroscope()
    for stamp in (0, 100 * MS, 100 * MS + MAX_GAP + 1, 400 * MS):
        history.add(BEGIN + stamp, IDENTITY)
        gyroscope.add_rate(BEGIN + stamp, (0.0, 0.0, 1.0))
    assert history.at(BEGIN + 150 * MS) is Missing.GAP
    assert history.at(BEGIN + 50 * MS) == pytest.approx(IDENTITY)  # what was told stays: an orientation is absolute
    assert gyroscope.at(BEGIN + 50 * MS) is Missing.EARLY  # an integral is not
    assert gyroscope.at(BEGIN + 350 * MS) is not Missing.EARLY


def test_samples_out_of_order_and_a_bag_that_loops() -> None:
    history, gyroscope = AttitudeHistory(), Gyroscope()
    for stamp in (0, 20, 40, 10, 20):
        history.add(BEGIN + stamp * MS, turn((0.0, 0.0, 1.0), stamp / 1000))
        gyroscope.add_rate(BEGIN + stamp * MS, (0.0, 0.0, 1.0))
    assert angle_between(history.at(BEGIN + 10 * MS), turn((0.0, 0.0, 1.0), 0.01)) < 1e-12  # found its place
    assert gyroscope.refused == 2
    assert gyroscope.newest == BEGIN + 40 * MS
    for thing in (history, gyroscope):
        assert thing.newest is not None
    history.add(BEGIN - 2 * NS_PER_S, IDENTITY)
    gyroscope.add_rate(BEGIN - 2 * NS_PER_S, (0.0, 0.0, 1.0))
    assert history.newest == gyroscope.newest == BEGIN - 2 * NS_PER_S
    assert history.at(BEGIN - 2 * NS_PER_S) == gyroscope.at(BEGIN - 2 * NS_PER_S) == IDENTITY


def test_histories_forget_what_no_tracker_asks_for() -> None:
    gyroscope = Gyroscope()
    for index in range(60 * 200):
        gyroscope.add_rate(BEGIN + 5 * MS * index, (0.1, 0.2, 0.3))
    assert len(gyroscope._stamps) == len(gyroscope._attitudes) <= 2001 + 1
    newest = BEGIN + 5 * MS * (60 * 200 - 1)
    turned = multiply(inverse(gyroscope.at(newest - 4 * NS_PER_S)), gyroscope.at(newest))
    assert angle_between(turned, turn((0.1, 0.2, 0.3), 4.0)) < 1e-9
    assert np.linalg.norm(gyroscope.at(newest)) == pytest.approx(1.0, abs=1e-12)


def test_bias_is_learnt_at_rest_and_only_there() -> None:
    rng = np.random.default_rng(3)
    bias = np.array([0.02, -0.012, 0.004])
    gyroscope = Gyroscope()
    for index in range(600):  # three seconds at rest
        gyroscope.add_rate(BEGIN + 5 * MS * index, tuple((bias + rng.normal(0, 0.004, 3)).tolist()))
    np.testing.assert_allclose(gyroscope.bias, bias, atol=2e-3)
    learnt = gyroscope.bias
    for index in range(600, 1200):  # then it swings
        swing = 0.4 * np.sin(index / 20) * np.array([0, 1, 0])
        gyroscope.add_rate(BEGIN + 5 * MS * index, tuple((bias + swing).tolist()))
    assert gyroscope.bias == learnt
    for index in range(1200, 1800):  # then it turns steadily
        gyroscope.add_rate(BEGIN + 5 * MS * index, (0.0, 0.5, 0.0))
    assert gyroscope.bias == learnt


# --- tf --------------------------------------------------------------------------------------------------------------


def robot() -> TransformTree:
    """odom -> base_link (moves) -> mast (fixed) -> head (moves) -> optical (fixed); base_link -> imu_link (fixed)."""
    tree = TransformTree()
    for parent, child, rotation in (
        ("base_link", "mast", from_rpy(0.0, 0.2, 0.1)),
        ("head", "optical", FORWARD),
        ("base_link", "imu_link", from_rpy(0.1, 0.0, 0.5)),
    ):
        tree.set(Transform(parent, child, 0, rotation), static=True)
    for index in range(21):
        stamp = BEGIN + 20 * MS * index
        tree.set(Transform("odom", "base_link", stamp, from_rpy(0.0, 0.0, 0.01 * index)))
        tree.set(Transform("mast", "head", stamp, from_rpy(0.0, 0.0, -0.02 * index)))
    return tree


def test_rotations_over_a_tree_of_moving_and_fixed_frames() -> None:
    tree = robot()
    seconds = 0.05  # between two samples
    base, head = from_rpy(0, 0, 0.5 * seconds), from_rpy(0, 0, -1.0 * seconds)
    expected = matrix(base) @ matrix(from_rpy(0.0, 0.2, 0.1)) @ matrix(head) @ matrix(FORWARD)
    stamp = BEGIN + 50 * MS
    np.testing.assert_allclose(matrix(tree.rotation("odom", "optical", stamp)), expected, atol=1e-9)
    np.testing.assert_allclose(matrix(tree.rotation("optical", "odom", stamp)), expected.T, atol=1e-9)
    across = matrix(tree.rotation("imu_link", "optical", stamp))
    np.testing.assert_allclose(across, matrix(from_rpy(0.1, 0, 0.5)).T @ matrix(base).T @ expected, atol=1e-9)
    assert tree.newest("odom", "optical") == BEGIN + 400 * MS
    assert tree.newest("base_link", "imu_link") is None
    assert tree.rotation("odom", "odom", stamp) == IDENTITY


def test_what_tf_does_not_know() -> None:
    tree = robot()
    assert tree.rotation("map", "optical", BEGIN) is Missing.FRAMES
    assert tree.rotation("odom", "camera", BEGIN) is Missing.FRAMES
    assert tree.rotation("odom", "optical", BEGIN + NS_PER_S) is Missing.LATE
    assert tree.rotation("odom", "optical", BEGIN - 1) is Missing.EARLY
    assert tree.static_rotation("imu_link", "optical") is Missing.MOUNT  # the head moves between them
    found = tree.static_rotation("imu_link", "mast")
    np.testing.assert_allclose(
        matrix(found), matrix(from_rpy(0.1, 0, 0.5)).T @ matrix(from_rpy(0, 0.2, 0.1)), atol=1e-9
    )
    assert tree.frames == ("base_link", "head", "imu_link", "mast", "odom", "optical")


def test_a_frame_that_gets_another_parent_and_a_loop_of_frames() -> None:
    tree = robot()
    tree.set(Transform("map", "base_link", BEGIN, IDENTITY))
    assert tree.rotation("odom", "optical", BEGIN) is Missing.FRAMES
    assert tree.rotation("map", "base_link", BEGIN) == IDENTITY
    tree.set(Transform("base_link", "mast", 0, IDENTITY), static=True)  # a static transform may change
    np.testing.assert_allclose(
        matrix(tree.rotation("map", "optical", BEGIN)), matrix(multiply(from_rpy(0, 0, 0), FORWARD)), atol=1e-9
    )
    tree.set(Transform("optical", "map", BEGIN, IDENTITY))  # closes a loop
    assert tree.rotation("world", "optical", BEGIN) is Missing.FRAMES


# --- the lens --------------------------------------------------------------------------------------------------------


@given(seeds)
def test_without_distortion_the_warp_is_that_of_the_camera_model(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rotation = turn(tuple(rng.normal(0, 0.2, 3).tolist()), 1.0)
    ours = Lens(INFO).homography(rotation)
    # Ours counts pixels from the corner of the first, CameraInfo from its middle.
    shift = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    expected = shift @ rotation_homography(K, matrix(rotation)) @ np.linalg.inv(shift)
    np.testing.assert_allclose(ours, expected / expected[2, 2], atol=1e-9)


@pytest.mark.parametrize(
    ("model", "distortion", "focal"),
    [
        ("plumb_bob", (-0.3, 0.1, 0.0, 0.0, 0.0), 600.0),
        ("plumb_bob", (-0.28, 0.07, 0.001, -0.0005, -0.007), 350.0),
        ("rational_polynomial", (0.2, -0.1, 0.0, 0.0, 0.05, 0.5, 0.1, 0.02), 500.0),
        ("equidistant", (-0.01, 0.03, -0.01, 0.002), 285.0),
    ],
)
def test_with_distortion_the_warp_is_closer_than_without_regard_to_it(model, distortion, focal) -> None:
    matrix_k = np.array([[focal, 0, 320], [0, focal, 240], [0, 0, 1.0]])
    coefficients = np.array(distortion)

    def project(rays: np.ndarray) -> np.ndarray:
        flat = rays / rays[:, 2:]
        if model == "equidistant":
            return cv2.fisheye.distortPoints(flat[:, None, :2], matrix_k, coefficients)[:, 0]
        return cv2.projectPoints(flat[:, None], np.zeros(3), np.zeros(3), matrix_k, coefficients)[0][:, 0]

    x, y = np.meshgrid(np.linspace(-0.5, 0.5, 11), np.linspace(-0.38, 0.38, 9))
    rays = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=1)
    rays *= [0.9 * 640 / focal, 0.9 * 640 / focal, 1] if model != "equidistant" else [2.4, 2.4, 1]
    with_it = Lens(CameraInfo(640, 480, matrix_k, coefficients, distortion_model=model))
    without = Lens(CameraInfo(640, 480, matrix_k))
    assert not with_it.distortion_ignored
    for axis in ((0, 0.1, 0), (0.08, 0, 0), (0.05, -0.08, 0.03)):
        rotation = turn(axis, 1.0)
        before, after = project(rays), project(rays @ matrix(rotation).T)
        errors = []
        for lens in (with_it, without):
            points = np.hstack([before + 0.5, np.ones((len(before), 1))]) @ lens.homography(rotation).T
            errors.append(np.median(np.linalg.norm(points[:, :2] / points[:, 2:] - 0.5 - after, axis=1)))
        assert errors[0] < 0.5 * errors[1], (axis, errors)
        assert errors[0] < 0.12 * np.median(np.linalg.norm(after - before, axis=1))


def test_calibrations_that_cannot_serve_say_so() -> None:
    with pytest.raises(ValueError, match="not calibrated"):
        Lens(CameraInfo(640, 480, np.zeros((3, 3))))
    with pytest.raises(ValueError, match="no focal lengths in P"):
        Lens(INFO, rectified=True)
    with pytest.raises(ValueError, match=r"640 x 640 px and camera_info is for 640 x 480: cut out"):
        Lens(INFO, (640, 640))
    odd = Lens(CameraInfo(640, 480, K, np.array([0.1, 0.2]), distortion_model="home_made"))
    assert odd.distortion_ignored


def test_images_of_another_size_scale_the_calibration() -> None:
    rotation = turn((0.02, 0.05, -0.1), 1.0)
    full, half = Lens(INFO).homography(rotation), Lens(INFO, (320, 240))
    assert half.scaled
    shrink = np.diag([0.5, 0.5, 1])
    np.testing.assert_allclose(half.homography(rotation), shrink @ full @ np.linalg.inv(shrink), atol=1e-9)


def test_rectified_images_turn_in_the_rectified_frame() -> None:
    rectifying = matrix(from_rpy(0.02, -0.03, 0.01))
    projection = np.hstack([K, np.zeros((3, 1))])
    info = CameraInfo(640, 480, np.diag([9.0, 9, 1]), np.array([-0.3, 0.1]), rectifying, projection)
    rotation = turn((0.02, 0.05, -0.1), 1.0)
    expected = Lens(INFO).homography(from_matrix(rectifying @ matrix(rotation) @ rectifying.T))
    np.testing.assert_allclose(Lens(info, rectified=True).homography(rotation), expected, atol=1e-9)


# --- warps -----------------------------------------------------------------------------------------------------------


def pan(rate: float = 1.0, mount=FORWARD, until: int = 500) -> EgoMotion:
    """A robot with an IMU (x forward, z up) that turns left at `rate` rad/s; samples at 200 Hz up to `until` ms."""
    gyroscope = Gyroscope()
    for stamp in range(0, until + 1, 5):
        gyroscope.add_rate(BEGIN + stamp * MS, (0.0, 0.0, rate))
    motion = EgoMotion(BodySource(gyroscope, mount), patience=0.0)
    motion.learn_camera(INFO)
    return motion


def test_a_robot_that_turns_left_sees_the_world_go_right_over_the_true_interval() -> None:
    motion = pan()
    assert motion.warp(BEGIN + 100 * MS) is None  # the first
    for stamp in (150, 350):  # as if frames had been dropped between the two
        previous = motion._previous
        warp = motion.warp(BEGIN + stamp * MS)
        seconds = (BEGIN + stamp * MS - previous) / NS_PER_S
        x, y, w = warp @ [320.0, 240.0, 1.0]
        assert x / w == pytest.approx(320 + 500 * np.tan(seconds), abs=1e-3)
        assert y / w == pytest.approx(240)
    assert motion.given == 2
    assert not motion.missing


def test_where_there_is_no_interval_nothing_is_counted() -> None:
    motion = pan()
    for stamp in (100, 100, 50, 9000):  # first, the same again, backwards, after a pause
        assert motion.warp(BEGIN + stamp * MS) is None
    assert motion.given == 0
    assert not motion.missing


def test_updates_without_a_warp_are_counted_by_their_reason() -> None:
    motion = pan(until=300)
    for stamp in (-100, 100, 200, 400, 500):
        motion.warp(BEGIN + stamp * MS)
    assert motion.given == 1
    assert motion.missing == {Missing.EARLY: 1, Missing.LATE: 2}
    blind = EgoMotion(BodySource(Gyroscope(), FORWARD))
    blind.warp(BEGIN)
    assert blind.warp(BEGIN + MS) is Missing.CALIBRATION
    with pytest.raises(ValueError, match="not calibrated"):
        blind.learn_camera(CameraInfo(640, 480, np.zeros((3, 3))))
    assert blind.lens is None
    blind.learn_camera(INFO)
    assert blind.warp(BEGIN + 2 * MS) is Missing.NOTHING


def test_a_camera_that_turned_away_has_no_warp() -> None:
    motion = pan(rate=4.0)
    motion.warp(BEGIN)
    assert motion.warp(BEGIN + 400 * MS) is Missing.TURNED


def test_the_offset_moves_the_images_in_the_sensors_time() -> None:
    gyroscope = Gyroscope()
    for stamp in range(0, 501, 5):
        gyroscope.add_rate(BEGIN + stamp * MS, (0.0, 0.0, 1.0 if stamp < 250 else 0.0))
    motion = EgoMotion(BodySource(gyroscope, FORWARD), patience=0.0, offset=-0.1)
    motion.learn_camera(INFO)
    motion.warp(BEGIN + 300 * MS)
    warp = motion.warp(BEGIN + 340 * MS)  # 200 to 240 ms of the gyroscope, which still turned
    assert (warp @ [320, 240, 1])[0] / (warp @ [320, 240, 1])[2] == pytest.approx(320 + 500 * np.tan(0.04), abs=1e-3)


def test_it_waits_for_a_sample_that_comes_in_time_and_not_for_one_that_never_does() -> None:
    motion = pan(until=100)
    motion.patience = 5.0
    motion.warp(BEGIN + 50 * MS)
    asked = threading.Event()

    def later() -> None:
        asked.wait(5.0)
        while not motion._waiting:
            time.sleep(0.001)
        for stamp in range(105, 201, 5):
            motion.source.history.add_rate(BEGIN + stamp * MS, (0.0, 0.0, 1.0))
            motion.arrived()

    thread = threading.Thread(target=later)
    thread.start()
    asked.set()
    warp = motion.warp(BEGIN + 200 * MS)
    thread.join()
    x, _, w = warp @ [320.0, 240.0, 1.0]
    assert x / w == pytest.approx(320 + 500 * np.tan(0.15), abs=1e-3)

    motion.patience = 0.001
    waits = []
    wait = motion._news.wait
    motion._news.wait = lambda left: waits.append(left) or wait(left)
    for index in range(40):
        assert motion.warp(BEGIN + (300 + index) * MS) is Missing.LATE
    assert 0 < len(waits) <= 2 * 3  # then it has learnt that this source lags


def test_mounts_from_static_transforms_by_the_names_of_the_frames() -> None:
    tree = TransformTree()
    source = BodySource(AttitudeHistory(), None, tree)
    for index in range(20):
        source.history.add(BEGIN + index * 10 * MS, from_rpy(0, 0, 0.01 * index))
    assert source.turn(BEGIN, BEGIN + 100 * MS) is Missing.MOUNT  # no names yet
    source.learn_frames(body_frame="base_link")
    source.learn_frames(optical_frame="optical")
    assert source.turn(BEGIN, BEGIN + 100 * MS) is Missing.MOUNT
    tree.set(Transform("base_link", "optical", 0, FORWARD), static=True)
    # Turning left about the body's z is about the camera's -y; the world turns the other way.
    assert rotation_vector(source.turn(BEGIN, BEGIN + 100 * MS)) == pytest.approx((0, 0.1, 0), abs=1e-9)
    source.learn_frames(optical_frame="base_link")  # one frame for both needs no transform
    assert rotation_vector(source.turn(BEGIN, BEGIN + 100 * MS)) == pytest.approx((0, 0, -0.1), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_gyroscope_odometry_and_tf_of_one_robot_give_the_same_warps(seed: int) -> None:
    """And it is the one by which a far point moves."""
    rng = np.random.default_rng(seed)
    mount, axis = random_quaternion(rng), rng.normal(0, 0.6, 3)
    gyroscope, odometry, tree = Gyroscope(), AttitudeHistory(), TransformTree()
    tree.set(Transform("base", "optical", 0, mount), static=True)
    start = random_quaternion(rng)

    def attitude(seconds: float):
        return multiply(start, turn(tuple(axis.tolist()), seconds))

    for index in range(81):
        stamp = BEGIN + 5 * MS * index
        gyroscope.add_rate(stamp, tuple(axis.tolist()))
        if index % 4 == 0:
            odometry.add(stamp, attitude(0.005 * index))
            tree.set(Transform("odom", "base", stamp, attitude(0.005 * index)))
    tree_source = TreeSource(tree, "odom")
    tree_source.learn_frames(optical_frame="optical")
    warps = []
    for source in (BodySource(gyroscope, mount), BodySource(odometry, None, tree), tree_source):
        source.learn_frames(body_frame="base", optical_frame="optical")
        motion = EgoMotion(source)
        motion.learn_camera(INFO)
        motion.warp(BEGIN + 33 * MS)
        warps.append(motion.warp(BEGIN + 267 * MS))
    for warp in warps:
        assert not isinstance(warp, Missing)
        np.testing.assert_allclose(warp, warps[0], atol=1e-5, rtol=1e-6)
    before, after = (matrix(multiply(attitude(t), mount)) for t in (0.033, 0.267))
    far = before @ [rng.uniform(-0.3, 0.3), rng.uniform(-0.2, 0.2), 1.0]
    u, v = K @ (before.T @ far), K @ (after.T @ far)
    mapped = warps[0] @ [*(u[:2] / u[2] + 0.5), 1.0]
    np.testing.assert_allclose(mapped[:2] / mapped[2] - 0.5, v[:2] / v[2], atol=1e-3, rtol=1e-6)


# --- flow ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    rng = np.random.default_rng(11)
    return cv2.GaussianBlur(rng.integers(0, 255, (480, 900, 3), dtype=np.uint8), (0, 0), 3)


def view(scene: np.ndarray, index: int) -> Frame:
    """The camera pans right by 12 px a frame."""
    left = 12 * index
    return Frame(np.ascontiguousarray(scene[:, left : left + 640]), BEGIN + 100 * MS * index, "optical", index)


def test_flow_goes_between_the_images_that_were_tracked(scene) -> None:
    feed = FlowFeed()
    for index in range(9):
        feed.keep(view(scene, index))
    assert feed.warp(BEGIN) is None
    for index, step in ((1, 1), (4, 3), (5, 1)):  # two frames had no detections
        warp = feed.warp(BEGIN + 100 * MS * index)
        np.testing.assert_allclose(warp[:2, 2], [-12 * step, 0], atol=0.3)
        np.testing.assert_allclose(warp[:2, :2], np.eye(2), atol=5e-3)
    assert feed.given == 3


def test_flow_without_the_image_of_an_update_has_no_warp_there_and_at_the_next(scene) -> None:
    feed = FlowFeed()
    for index in (0, 1, 3, 4):
        feed.keep(view(scene, index))
    results = [feed.warp(BEGIN + 100 * MS * index) for index in (0, 1, 2, 3, 4)]
    assert [isinstance(result, np.ndarray) for result in results] == [False, True, False, False, True]
    assert feed.missing == {Missing.PICTURE: 2}
    np.testing.assert_allclose(results[-1][:2, 2], [-12, 0], atol=0.3)
    feed.keep(view(scene, 0))  # the source began anew
    assert len(feed._frames) == 1
    dark = FlowFeed()
    for index in range(2):
        dark.keep(Frame(np.zeros((48, 64), np.uint8), BEGIN + index))
    assert dark.warp(BEGIN) is None
    assert dark.warp(BEGIN + 1) is Missing.FEATURES


def test_frames_that_nobody_asks_for_go(scene) -> None:
    feed = FlowFeed()
    frames = [view(scene, index) for index in range(20)]
    for index in range(200):
        feed.keep(Frame(frames[index % 20].image, BEGIN + index))
    assert len(feed._frames) <= (64 << 20) // frames[0].image.nbytes + 1
    assert feed._bytes == sum(frame.image.nbytes for frame in feed._frames.values())


# --- and the tracker -------------------------------------------------------------------------------------------------


def swinging_boxes(seconds: float, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of the far objects are in the picture, and their boxes."""
    orientation = matrix(multiply(from_rpy(0.0, 0.0, swing(seconds)), FORWARD))
    seen = places @ orientation  # world to optical
    pixels = seen @ K.T
    pixels = pixels[:, :2] / pixels[:, 2:] + 0.5
    inside = (seen[:, 2] > 0) & (pixels > 0).all(axis=1) & (pixels < [640, 480]).all(axis=1)
    return inside, np.hstack([pixels - [14, 30], pixels + [14, 30]])


def swing(seconds: float) -> float:
    return 0.35 * np.sin(3.0 * seconds)


@pytest.mark.parametrize("rate", [5, 10])
def test_ids_stay_through_a_swing_with_warps_and_change_without(rate: int) -> None:
    rng = np.random.default_rng(2)
    bearings = np.linspace(-0.45, 0.45, 12)
    places = np.stack([np.cos(bearings), np.sin(bearings), rng.uniform(-0.2, 0.2, 12)], axis=1) * 30.0
    switches = {}
    for warped in (True, False):
        gyroscope, tracker = Gyroscope(), Tracker()
        motion = EgoMotion(BodySource(gyroscope, FORWARD), patience=0.0)
        motion.learn_camera(INFO)
        told, ids, count = 0, {}, 0
        for index in range(8 * rate):
            seconds = 1.0 + index / rate
            while told * 0.005 <= seconds:
                rate_z = (swing(told * 0.005 + 1e-5) - swing(told * 0.005 - 1e-5)) / 2e-5
                gyroscope.add_rate(BEGIN + told * 5 * MS, (0.0, 0.0, float(rate_z)))
                told += 1
            inside, boxes = swinging_boxes(seconds, places)
            stamp = BEGIN + round(seconds * 1000) * MS
            found = Detections(
                boxes[inside].astype(np.float32), np.full(inside.sum(), 0.9, np.float32),
                np.zeros(inside.sum(), np.int64), stamp=stamp,
            )  # fmt: skip
            warp = motion.warp(stamp)
            assert not isinstance(warp, Missing)
            tracks = tracker.update(found, warp if warped else None)
            for box, track_id in zip(tracks.boxes, tracks.ids.tolist(), strict=True):
                nearest = int(np.argmin(np.abs(boxes - box).sum(axis=1)))
                count += ids.setdefault(nearest, track_id) != track_id and inside[nearest]
                ids[nearest] = track_id
        switches[warped] = int(count)
    assert switches[False] >= 10, switches
    assert switches[True] <= 1 + switches[False] // 20, switches
