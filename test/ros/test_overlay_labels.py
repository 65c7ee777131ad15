"""Tracks that come as messages carry numbers for classes: the overlay draws the names that label_info gave."""

from __future__ import annotations

import cv2
import numpy as np
from ros_harness import RELIABLE, image_message, stamp_of
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2D, Detection2DArray, LabelInfo, ObjectHypothesisWithPose, VisionClass

from edge_vision.datatypes import Tracks, TrackState
from edge_vision.drawing import OverlayOptions, OverlayRenderer
from edge_vision.ros import qos

SECOND = 10**9


def tracked(stamp: int) -> Detection2DArray:
    array = Detection2DArray()
    array.header.stamp.sec, array.header.frame_id = stamp // SECOND, "dock"
    detection = Detection2D(header=array.header, id="7", results=[ObjectHypothesisWithPose()])
    detection.results[0].hypothesis.class_id, detection.results[0].hypothesis.score = "1", 0.9
    centre = detection.bbox.center.position
    centre.x, centre.y, detection.bbox.size_x, detection.bbox.size_y = 160.0, 120.0, 80.0, 60.0
    array.detections = [detection]
    return array


def drawn(image: np.ndarray, labels: tuple[str, ...]) -> np.ndarray:
    tracks = Tracks(
        np.array([[120, 90, 200, 150]], np.float32),
        np.array([0.9], np.float32),
        np.array([1]),
        np.array([7]),
        np.zeros((1, 2), np.float32),
        np.zeros(1, np.float32),
        np.full(1, TrackState.CONFIRMED, np.uint8),
        labels,
    )
    return OverlayRenderer(OverlayOptions(trail=0.0)).draw(image, tracks, lines=())


def test_names_of_label_info_are_drawn(observer, start) -> None:
    parameters = {"status": False, "trail": 0.0}
    process = start("overlay", parameters=parameters, namespace="/named")
    images = observer.publisher(Image, "/named/image_raw", RELIABLE)
    tracks = observer.publisher(Detection2DArray, "/named/tracks")
    labels = observer.publisher(LabelInfo, "/named/label_info", qos.LATCHED)
    background = np.full((240, 320, 3), 90, np.uint8)
    stamp = 0
    with observer.listen(Image, "/named/overlay", RELIABLE) as pictures:
        for publisher in (images, tracks, labels):
            observer.wait_for_subscriber(publisher, process)
        observer.spin_until(lambda: observer.node.count_publishers("/named/overlay") == 1, "pictures", process)

        def shown() -> np.ndarray:
            nonlocal stamp
            before = len(pictures)

            def seen() -> bool:
                nonlocal stamp
                stamp += SECOND
                images.publish(image_message(background, stamp))
                observer.spin_for(0.2)  # frames and tracks come on two ways
                tracks.publish(tracked(stamp))
                observer.spin_for(0.2)
                return len(pictures) > before and stamp_of(pictures[-1]) == stamp

            observer.spin_until(seen, "a picture", process)
            return np.frombuffer(pictures[-1].data, np.uint8).reshape(240, 320, 3)

        without, named = drawn(background, ()), drawn(background, ("nut", "bolt"))
        assert cv2.norm(without, named) > 0
        np.testing.assert_array_equal(shown(), without)
        labels.publish(
            LabelInfo(class_map=[VisionClass(class_id=i, class_name=n) for i, n in enumerate(("nut", "bolt"))])
        )
        observer.spin_for(0.3)
        np.testing.assert_array_equal(shown(), named)
