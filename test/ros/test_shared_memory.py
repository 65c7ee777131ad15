"""Frames between processes of ours: through /dev/shm where that works, as Image messages where not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from edge_vision.msg import SharedFrame
from ros_harness import RELIABLE, SHARED_MEMORY, Observer, Process, Received, corners, stamp_of
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray


@pytest.fixture
def camera(start, square_images):
    """Starts a camera on the folder of images."""

    def begin(**more: object) -> Process:
        parameters = {"source": square_images, "loop": True, "fps": 20.0, **more}
        return start("camera", parameters=parameters)

    return begin


def image_subscribers(observer: Observer) -> int:
    return observer.node.count_subscribers("/image_raw")


@pytest.fixture
def shared(observer) -> Iterator[Received]:
    with observer.listen(SharedFrame, "/image_raw/shared", RELIABLE) as received:
        yield received


@pytest.fixture
def found(observer) -> Iterator[Received]:
    with observer.listen(Detection2DArray, "/detections") as received:
        yield received


def test_frames_come_through_shared_memory_and_again_after_the_camera_was_killed(
    observer, start, model, camera, square_box, shared, found
) -> None:
    inference = start("inference", parameters={"model": model})
    first = camera()
    found.wait(10, inference)
    shared.wait(1, first)

    # The Image subscription has gone, so nobody has Image messages built; results come from shared frames alone.
    observer.spin_until(lambda: image_subscribers(observer) == 0, "Image subscription gone", inference)
    beginning = stamp_of(shared[-1])
    found.wait(20, inference)
    shared.wait(1, first)
    frames = {stamp_of(message) for message in shared}
    answers = [message for message in found if stamp_of(message) > beginning]
    assert len(answers) > 10
    assert {stamp_of(message) for message in answers} <= frames
    boxes = {tuple(map(float, box)) for index in range(20) if (box := square_box(index))}
    assert {tuple(corners(d)) for message in answers for d in message.detections} <= boxes
    assert len(first.segments()) == 1
    assert shared[-1].segment == first.segments()[0]
    assert (SHARED_MEMORY / shared[-1].segment).stat().st_mode & 0o777 == 0o600, "nobody else reads the frames"

    # An orderly end takes the segment along, and the reader is back to Image messages from anybody.
    assert first.stop() == 0
    assert first.segments() == []
    observer.spin_until(lambda: image_subscribers(observer) == 1, "Image subscription back", inference)

    # A camera that is killed leaves its segment, which the next one removes.
    second = camera()
    observer.spin_until(lambda: shared[-1].segment in second.segments(), "second camera's frames", second)
    second.send(signal.SIGKILL)
    second.wait()
    assert len(second.segments()) == 1
    third = camera()
    observer.spin_until(lambda: shared[-1].segment in third.segments(), "third camera's frames", third)
    assert second.segments() == [], "what the killed one left is gone"
    beginning = stamp_of(shared[-1])
    observer.spin_until(lambda: stamp_of(found[-1]) > beginning, "answers to them", inference)
    observer.spin_until(lambda: image_subscribers(observer) == 0, "shared memory again", inference)
    assert inference.lines(r"\[(ERROR|WARN)\]") == []


def test_an_image_message_is_built_only_while_somebody_subscribes(observer, start, camera) -> None:
    process = camera()
    with observer.listen(Image, "/image_raw") as images:
        images.wait(3, process)
        assert images[-1].encoding == "bgr8"
        assert process.segments() == [], "nobody reads shared frames, so there is no segment"


def test_a_segment_that_cannot_be_reached_makes_the_reader_keep_to_images(
    observer, start, model, camera, found
) -> None:
    """As from another container: the file is not there under the name that the message gives."""
    inference = start("inference", parameters={"model": model})
    # A publisher of shared frames whose segment does not exist here, beside an honest image topic.
    liar = observer.publisher(SharedFrame, "/image_raw/shared")
    observer.wait_for_subscriber(liar, inference)
    message = SharedFrame(segment="edge_vision_1_elsewhere", generation=1, height=192, width=256, step=768)
    message.encoding = "bgr8"
    for _ in range(50):
        liar.publish(message)
        observer.spin_for(0.1)
        if inference.lines("not reachable"):
            break
    assert len(inference.lines(r"segment not reachable \(No such file or directory\), using Image messages")) == 1
    process = camera()
    found.wait(10, inference)
    assert image_subscribers(observer) == 1, "the reader stays with images"
    assert process.alive
    observer.node.destroy_publisher(liar)


def test_a_frame_that_was_written_over_counts_as_dropped(observer, start, model) -> None:
    """The message names generation 7; by the time it is read the slot holds another."""
    inference = start("inference", parameters={"model": model})
    path = SHARED_MEMORY / f"edge_vision_{os.getpid()}_test"
    path.write_bytes(bytes(64 + 192 * 768))
    try:
        publisher = observer.publisher(SharedFrame, "/image_raw/shared")
        observer.wait_for_subscriber(publisher, inference)
        message = SharedFrame(segment=path.name, generation=7, height=192, width=256, step=768, encoding="bgr8")

        def dropped() -> bool:
            publisher.publish(message)
            observer.spin_for(0.1)
            return int(observer.values("inference").get("dropped", 0)) > 0

        observer.spin_until(dropped, "a drop in the diagnostics", inference)
        values = observer.values("inference")
        assert (values["received"], values["published"], values["rejected"]) == ("0", "0", "0")
        observer.node.destroy_publisher(publisher)
    finally:
        path.unlink()


def test_a_name_that_leads_out_of_the_folder_is_not_opened(observer, start, model, tmp_path) -> None:
    target = tmp_path / "edge_vision_1_x"
    target.write_bytes(bytes(4096))
    inference = start("inference", parameters={"model": model})
    publisher = observer.publisher(SharedFrame, "/image_raw/shared")
    observer.wait_for_subscriber(publisher, inference)
    name = os.path.relpath(target, SHARED_MEMORY)
    message = SharedFrame(segment=name, generation=0, height=1, width=1, step=3, encoding="bgr8")
    for _ in range(50):
        publisher.publish(message)
        observer.spin_for(0.1)
        if inference.lines("not reachable"):
            break
    inference.wait_for_log(r"segment not reachable \(not the name of a segment\)")
    observer.node.destroy_publisher(publisher)
