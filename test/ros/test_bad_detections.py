"""What other nodes' detections can be at their worst, into a real tracking node."""

from __future__ import annotations

import numpy as np
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray, ObjectHypothesisWithPose

RATE = 20


def detections(step: int, boxes: list[tuple[float, float, float, float]], kind: str = "person") -> Detection2DArray:
    """boxes: centre x, centre y, width, height."""
    array = Detection2DArray()
    nanoseconds = 10**9 + step * 10**9 // RATE
    array.header.stamp.sec, array.header.stamp.nanosec = divmod(nanoseconds, 10**9)
    array.header.frame_id = "dock"
    for x, y, width, height in boxes:
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = kind, 0.9
        box = BoundingBox2D(size_x=width, size_y=height)
        box.center.position.x, box.center.position.y = x, y
        array.detections.append(Detection2D(header=array.header, results=[hypothesis], bbox=box))
    return array


def test_the_node_tracks_on_and_says_what_it_left_out(observer, start) -> None:
    process = start("tracking", namespace="/dock")
    source = observer.publisher(Detection2DArray, "/dock/detections")
    tracks = observer.listen(Detection2DArray, "/dock/tracks")
    observer.wait_for_subscriber(source, process)
    observer.spin_until(lambda: observer.node.count_publishers("/dock/tracks") == 1, "tracks are offered", process)

    def send(step: int, boxes: list, kind: str = "person") -> list[str]:
        source.publish(detections(step, boxes, kind))
        tracks.wait(1, process)
        return [d.id for d in tracks[-1].detections]

    person = (100.0, 100.0, 40.0, 90.0)
    for step in range(5):
        ids = send(step, [person])
    assert ids == ["1"]
    nan = float("nan")
    worst = [(nan, 50.0, 20.0, 20.0), (300.0, 50.0, -20.0, 20.0), (300.0, 50.0, 0.0, 0.0), (1e9, 0.0, 10.0, 10.0)]
    for step in range(5, 10):
        assert send(step, [person, *worst]) == ["1"]
    assert send(9, [person]) == ["1"], "the same stamp again"
    assert send(10, [person], kind="kind nobody has heard of") == ["1"]
    rng = np.random.default_rng(0)
    many = [(float(x), float(y), 15.0, 15.0) for x, y in rng.uniform(300, 3000, (3000, 2))]
    for step in range(11, 14):
        ids = send(step, [person, *many])
    assert "1" in ids
    assert len(ids) > 2000
    for step in range(14, 17):
        assert "1" in send(step, [person])
    values = observer.fresh_values("dock/tracking", process)
    assert values["boxes refused"] == "20"
    assert len(process.lines(r"boxes that are none .*the others are tracked")) == 1
