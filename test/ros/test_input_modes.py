"""latest and every: what is dropped is counted and seen, and where nothing may be lost nothing is."""

from __future__ import annotations

import itertools

import cv2
import pytest
from rclpy.qos import QoSProfile
from ros_harness import RELIABLE, image_message, square, stamp_of
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

FRAMES = 150


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """150 images (320 x 240, 25 per second) of a square that moves, blue, then green, then red."""
    path = tmp_path_factory.mktemp("recording") / "square.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (320, 240))
    assert writer.isOpened()
    for index in range(FRAMES):
        writer.write(square((index, 60, index + 40, 100), index // 50, 320, 240))
    writer.release()
    return path


def test_every_frame_of_a_recording_in_order(observer, start, model, recording) -> None:
    """As fast as the consumers take them: back-pressure on the source, and not one is lost."""
    deep = QoSProfile(depth=2 * FRAMES)
    found = observer.listen(Detection2DArray, "/whole/detections", deep)
    tracks = observer.listen(Detection2DArray, "/whole/tracks", deep)
    process = start(
        "pipeline",
        "camera",
        "inference",
        "tracking",
        parameters={"source": recording, "model": model, "pace": "fast", "input_mode": "every", "autostart": False},
        namespace="/whole",
    )
    for transition in ("configure", "activate"):
        for node in ("tracking", "inference", "camera"):
            assert observer.change_state(f"/whole/{node}", transition), process.log
        if transition == "configure":
            observer.spin_until(lambda: observer.node.count_publishers("/whole/tracks"), "publishers", process)
            observer.spin_for(0.5)
    process.wait_for_log("the source has ended")
    observer.spin_until(lambda: len(tracks) >= FRAMES and len(found) >= FRAMES, "every frame", process)
    values = {name: observer.fresh_values(f"whole/{name}", process) for name in ("camera", "inference", "tracking")}
    assert len(found) == len(tracks) == FRAMES
    stamps = [stamp_of(message) for message in found]
    assert stamps == sorted(set(stamps)) == [stamp_of(message) for message in tracks]
    steps = {round((later - earlier) / 1e6) for earlier, later in itertools.pairwise(stamps)}
    assert steps == {40}, "25 frames per second of header time, not of the clock on the wall"
    colours = [message.detections[0].results[0].hypothesis.class_id for message in found]
    assert colours == [str(index // 50) for index in range(FRAMES)]
    for name, counted in values.items():
        assert counted["dropped"] == "0", name
        assert counted["published"] == str(FRAMES), name
    found.close()
    tracks.close()


def test_the_latest_frame_and_the_drops_counted(observer, start, model, recording) -> None:
    """Without back-pressure a source without pauses overruns the model: what it misses is in the diagnostics."""
    process = start(
        "pipeline",
        "camera",
        "inference",
        "tracking",
        parameters={"source": recording, "model": model, "pace": "fast", "input_mode": "latest", "loop": True},
        namespace="/newest",
    )
    with observer.listen(Detection2DArray, "/newest/detections", QoSProfile(depth=1000)) as found:
        found.wait(50, process)
        observer.spin_until(lambda: int(observer.values("newest/inference").get("dropped", 0)) > 0, "drops", process)
        values = observer.fresh_values("newest/inference", process)
        stamps = [stamp_of(message) for message in found]
    assert stamps == sorted(set(stamps)), "in order, each once"
    received, published, dropped = (int(values[key]) for key in ("received", "published", "dropped"))
    assert received > published
    assert received == pytest.approx(published + dropped, abs=3), "each is answered, dropped or on its way"
    assert int(observer.values("newest/tracking")["dropped"]) == 0, "results are never dropped"


def test_every_across_processes(observer, start, model) -> None:
    """input_mode:=every asks for images reliably; a burst is answered in order, or what is dropped of it counted."""
    process = start("inference", parameters={"model": model, "input_mode": "every"}, namespace="/burst")
    publisher = observer.publisher(Image, "/burst/image_raw", RELIABLE)

    def send(stamp: int) -> None:
        publisher.publish(image_message(square((64, 40, 128, 88)), stamp))

    with observer.listen(Detection2DArray, "/burst/detections") as found:

        def connected() -> bool:
            send(1)
            observer.spin_for(0.1)
            return bool(found)

        observer.spin_until(connected, "the first answer", process)
        (info,) = observer.node.get_subscriptions_info_by_topic("/burst/image_raw")
        assert info.qos_profile.reliability.name == "RELIABLE"
        before = int(observer.fresh_values("burst/inference", process)["dropped"])
        for index in range(4):
            send(10**18 + index)
        observer.spin_until(lambda: stamp_of(found[-1]) >= 10**18, "an answer to the burst", process)
        dropped = int(observer.fresh_values("burst/inference", process)["dropped"]) - before
        answered = [stamp_of(message) - 10**18 for message in found if stamp_of(message) >= 10**18]
    assert answered == sorted(answered)
    assert answered[0] == 0, "the first of a burst is never the one that goes"
    assert len(answered) + dropped == 4
    observer.node.destroy_publisher(publisher)
