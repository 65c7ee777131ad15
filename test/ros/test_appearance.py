"""Appearance over real DDS: two who go away and come back elsewhere keep their ids where the node sees the images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ros_harness import image_message, stamp_of
from sensor_msgs.msg import Image
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray, ObjectHypothesisWithPose

PERIOD = 200_000_000  # ns
CARD = """
format: 1
name: colours
task: re-identification
input: {width: 32, height: 64, layout: nchw, dtype: float32, colour: rgb, resize: stretch, batch: 4}
variants: [{backend: onnxruntime, file: model.onnx}]
"""
SEEN, AWAY, BACK = 30, 12, 8  # frames; who is away for longer than 1.5 s has ended
COLOURS = ((30, 30, 230), (230, 30, 30))


def places(frame: int) -> list[tuple[float, float]]:
    """Centres of the two: on the left, away for 2.4 s, then on the right, the upper one below. Long before: none."""
    if frame < 0:
        return []
    if frame < SEEN:
        return [(60.0 + 3.0 * frame, 60.0), (60.0 + 3.0 * frame, 170.0)]
    return [] if frame < SEEN + AWAY else [(250.0, 170.0), (250.0, 60.0)]


def messages(frame: int) -> tuple[Image, Detection2DArray]:
    stamp = 10**18 + frame * PERIOD - (10**10 if frame < 0 else 0)
    image = np.full((240, 320, 3), 128, np.uint8)
    array = Detection2DArray()
    for (x, y), colour in zip(places(frame), COLOURS, strict=False):
        image[int(y) - 40 : int(y) + 40, int(x) - 20 : int(x) + 20] = colour
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = "0", 0.9
        box = BoundingBox2D(size_x=40.0, size_y=80.0)
        box.center.position.x, box.center.position.y = x, y
        array.detections.append(Detection2D(results=[hypothesis], bbox=box))
    picture = image_message(image, stamp)
    array.header = picture.header
    return picture, array


@pytest.fixture
def colours(tmp_path: Path, write_embedding_model: Callable[..., Path]) -> dict[str, str]:
    """Parameters with a bundle that tells colours apart."""
    write_embedding_model(tmp_path / "colours" / "model.onnx")
    (tmp_path / "colours" / "model.yaml").write_text(CARD)
    return {"appearance_model": str(tmp_path / "colours"), "appearance_backend": "onnxruntime"}


@pytest.mark.parametrize("looks", [True, False])
def test_ids_come_back_with_the_objects(
    start: Callable, observer: object, colours: dict[str, str], looks: bool
) -> None:
    process = start("tracking", parameters={"camera_motion": "off"} | (colours if looks else {}))
    tracks = observer.listen(Detection2DArray, "tracks")
    detections = observer.publisher(Detection2DArray, "detections")
    images = observer.publisher(Image, "image_raw")
    observer.wait_for_subscriber(detections, process)
    if looks:
        observer.wait_for_subscriber(images, process)
    for early in range(-100, 0):  # until both ends know each other
        if not tracks:
            detections.publish(messages(early)[1])
            observer.spin_for(0.05)
    frames = SEEN + AWAY + BACK
    for frame in range(frames):
        picture, found = messages(frame)
        if frame % 3 == 2:  # the image comes late
            detections.publish(found)
            images.publish(picture)
        else:
            images.publish(picture)
            detections.publish(found)
        observer.spin_until(lambda: tracks and stamp_of(tracks[-1]) == stamp_of(found), f"frame {frame}", process)  # noqa: B023
    before = {d.id: d.bbox.center.position.y for d in tracks[-1 - BACK - AWAY].detections}
    after = {d.id: d.bbox.center.position.y for d in tracks[-1].detections}
    assert len(before) == len(after) == 2
    assert (before.keys() == after.keys()) == looks
    values = observer.fresh_values("tracking", process)
    if looks:
        assert all(abs(before[name] - after[name]) > 90 for name in before)  # each is where the other was
        assert int(values["crops embedded"]) > 8
        missed = int(values["detections without image"])
        detections.publish(messages(frames)[1])  # and its image never comes, nor anything else
        tracks.wait(1, process)
        values = observer.fresh_values("tracking", process)
        assert int(values["detections without image"]) == missed + 1
    else:
        assert "appearance" not in values


def test_every_frame_of_a_recording_with_its_image(
    start: Callable, observer: object, colours: dict[str, str], model: Path, square_images: Path
) -> None:
    """Image, detections and back-pressure in one process, as fast as the node goes."""
    tracks = observer.listen(Detection2DArray, "/whole/tracks")
    parameters = {"source": str(square_images), "model": str(model), "pace": "fast", "input_mode": "every"}
    process = start(
        "pipeline",
        "camera",
        "inference",
        "tracking",
        parameters=parameters | colours | {"appearance_every": 1, "autostart": False},
        namespace="/whole",
    )
    for transition in ("configure", "activate"):
        for node in ("tracking", "inference", "camera"):
            assert observer.change_state(f"/whole/{node}", transition), process.log
        if transition == "configure":
            observer.spin_until(lambda: observer.node.count_publishers("/whole/tracks"), "publishers", process)
    process.wait_for_log("the source has ended")
    values = observer.fresh_values("whole/tracking", process)
    assert values["published"] == "40"
    assert values["crops embedded"] == "32"  # in 16 of every 20 images there is a square
    assert values["detections without image"] == values["detections skipped, being behind"] == "0"
    assert tracks
    tracks.close()


def test_a_model_that_is_none_is_refused_with_the_remedy(start: Callable, tmp_path: Path) -> None:
    process = start("tracking", parameters={"appearance_model": str(tmp_path / "none.onnx")})
    process.wait_for_log(r"appearance_model: .*none\.onnx: there is no such file or folder")
