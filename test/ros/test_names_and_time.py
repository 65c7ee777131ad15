"""Namespaces keep cameras apart; simulated time."""

from __future__ import annotations

from ros_harness import image_message, square, stamp_of
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray


def test_two_cameras_in_parallel_do_not_mix(observer, start, model, other_model, square_images) -> None:
    nodes = ("camera", "inference", "tracking", "overlay", "monitor")
    first, second = (
        start(
            "pipeline",
            *nodes,
            parameters={
                "source": square_images,
                "loop": True,
                "fps": 15.0,
                "model": chosen,
                "frame_id": f"{name}_optical",
                "camera.input_mode": "every",
            },
            namespace=f"/{name}",
        )
        for name, chosen in (("cam1", model), ("cam2", other_model))
    )
    heard = {
        (name, topic): observer.listen(Detection2DArray, f"/{name}/{topic}")
        for name in ("cam1", "cam2")
        for topic in ("detections", "tracks")
    }
    for received in heard.values():
        received.wait(10, first)
    for (name, _), received in heard.items():
        assert {message.header.frame_id for message in received} == {f"{name}_optical"}
        stamps = [stamp_of(message) for message in received]
        assert stamps == sorted(set(stamps)), "one publisher's"
    stamps = [{stamp_of(m) for m in heard[name, "detections"]} for name in ("cam1", "cam2")]
    assert not stamps[0] & stamps[1]

    # Everything but the common topics is below the namespace, so that nothing of one meets the other.
    topics = dict(observer.node.get_topic_names_and_types())
    common = {"/diagnostics", "/rosout", "/parameter_events"}
    for topic in (t for t in topics if not t.startswith(("/cam1/", "/cam2/")) and t not in common):
        ends = observer.node.get_publishers_info_by_topic(topic) + observer.node.get_subscriptions_info_by_topic(topic)
        assert {end.node_namespace for end in ends} & {"/cam1", "/cam2"} == set(), topic
    names = ["image_raw", "camera_info", "detections", "label_info", "tracks", "tracks/state", "overlay", "markers"]
    for name in ("cam1", "cam2"):
        assert {f"/{name}/{topic}" for topic in [*names, "node_stats", "pipeline_stats"]} <= set(topics)
        for node in nodes:
            assert observer.state(f"/{name}/{node}") == "active"
    assert first.alive
    assert second.alive
    for received in heard.values():
        received.close()


def test_simulated_time(observer, start, model) -> None:
    process = start("pipeline", "inference", "tracking", parameters={"model": model, "use_sim_time": True})
    # No clock yet: the node says how it is all the same.
    observer.fresh_values("inference", process)
    clock = observer.publisher(Clock, "/clock")
    images = observer.publisher(Image, "/image_raw")
    observer.wait_for_subscriber(clock, process, 2)
    with observer.listen(Detection2DArray, "/tracks") as tracks:

        def tick(second: int) -> None:
            message = Clock()
            message.clock.sec = second
            clock.publish(message)
            images.publish(image_message(square((64, 40, 128, 88)), second * 10**9))

        second = 1000

        def play() -> bool:
            nonlocal second
            second += 1
            tick(second)
            observer.spin_for(0.02)
            return len(tracks) >= 10 and any(track.detections for track in tracks)

        observer.spin_until(play, "tracks in simulated time", process)
        assert stamp_of(tracks[-1]) <= second * 10**9
        # The clock stands still now, five minutes after the newest image: that is its age, and it is still told.
        message = Clock()
        message.clock.sec = second + 300
        clock.publish(message)

        def age() -> float:
            text = observer.values("inference")["age of newest input [s]"]
            return float("nan") if text == "none yet" else float(text)

        observer.spin_until(lambda: 299 <= age() <= 302, "the age in simulated time", process)
    observer.node.destroy_publisher(clock)
    observer.node.destroy_publisher(images)
