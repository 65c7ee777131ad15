"""Managed by services, as any lifecycle node, and ended by signals."""

from __future__ import annotations

import signal
import time

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from ros_harness import Process, stamp_of
from vision_msgs.msg import Detection2DArray

NODES = ("camera", "inference", "tracking")


@pytest.fixture
def pipeline(start, model, square_images):
    def begin(*nodes: str, namespace: str = "", **more: object) -> Process:
        parameters = {"source": square_images, "model": model, "loop": True, "fps": 20.0, **more}
        return start("pipeline", *(nodes or NODES), parameters=parameters, namespace=namespace or None)

    return begin


def test_a_pipeline_is_managed(observer, pipeline) -> None:
    process = pipeline(autostart=False, namespace="/managed")
    nodes = [f"/managed/{name}" for name in NODES]
    assert [observer.state(node) for node in nodes] == ["unconfigured"] * 3
    status = observer.wait_for_status("managed/inference", DiagnosticStatus.WARN, process)
    assert status.message == "not active"
    assert process.log.strip() == "", "nothing to complain of"

    tracks = observer.listen(Detection2DArray, "/managed/tracks")

    def all_nodes(transition: str, *chosen: str) -> None:
        for node in chosen or nodes:
            assert observer.change_state(node, transition), f"{transition} {node}:\n{process.log}"

    for _ in range(2):  # all of it a second time, from the beginning
        all_nodes("configure")
        assert [observer.state(node) for node in nodes] == ["inactive"] * 3
        observer.spin_for(0.3)
        assert not tracks
        all_nodes("activate", *reversed(nodes))
        assert [observer.state(node) for node in nodes] == ["active"] * 3
        tracks.wait(5, process)

        # One in the middle stops: nothing comes out of it any more, then it goes on.
        all_nodes("deactivate", nodes[1])
        silent(observer, tracks)
        all_nodes("activate", nodes[1])
        tracks.wait(5, process)

        # The camera stops and begins its recording anew, with stamps that go on.
        all_nodes("deactivate", nodes[0])
        newest = silent(observer, tracks)
        all_nodes("activate", nodes[0])
        tracks.wait(10, process)
        assert stamp_of(tracks[-1]) > newest
        stamps = [stamp_of(message) for message in tracks]
        assert stamps == sorted(stamps)

        all_nodes("deactivate")
        all_nodes("cleanup")
        assert [observer.state(node) for node in nodes] == ["unconfigured"] * 3
        observer.spin_until(lambda: observer.node.count_publishers("/managed/tracks") == 0, "publishers gone", process)
        tracks.clear()

    all_nodes("shutdown")
    assert [observer.state(node) for node in nodes] == ["finalized"] * 3
    assert process.alive, "the process ends by a signal, not by its nodes"
    tracks.close()
    assert process.lines(r"\[(ERROR|WARN)\]|Traceback") == []
    assert process.stop() == 0
    assert process.lines(r"\[(ERROR|WARN)\]|Traceback") == []


def silent(observer, received) -> int:
    """Asserts that nothing more comes (what was on its way may); returns the newest stamp."""
    observer.spin_for(0.3)
    count = len(received)
    observer.spin_for(0.4)
    assert len(received) == count
    return stamp_of(received[-1])


def test_transitions_that_do_not_fit_the_state_are_refused(observer, pipeline) -> None:
    process = pipeline("inference", "tracking", namespace="/wrong")
    process.wait_for_log("brightest on")
    observer.spin_until(lambda: observer.state("/wrong/tracking") == "active", "active", process)
    for transition in ("configure", "activate", "cleanup"):
        assert not observer.change_state("/wrong/tracking", transition)
        assert observer.state("/wrong/tracking") == "active"
    assert process.alive
    assert "Traceback" not in process.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_a_running_pipeline(observer, pipeline, number) -> None:
    """Camera, model, overlay (drawn for us) and monitor at work; 5 s are the promise to whoever stops it."""
    process = pipeline("camera", "inference", "tracking", "overlay", "monitor", namespace=f"/{number.name.lower()}")
    with observer.listen(Detection2DArray, f"/{number.name.lower()}/tracks") as tracks:
        tracks.wait(3, process)
    process.send(number)
    assert process.wait(timeout=5.0) == 0
    assert len(process.lines(rf"ending: {number.name} received")) == 1
    assert process.lines(r"\[(ERROR|WARN)\]|Traceback") == []
    assert process.segments() == []


@pytest.mark.parametrize("moment", [0.2, 0.8])
def test_a_signal_during_the_start(pipeline, moment) -> None:
    """Whether Python, ROS or the model is being loaded: it ends at once, by the signal or in order."""
    process = pipeline(namespace="/early")
    time.sleep(moment)
    process.send(signal.SIGTERM)
    assert process.wait(timeout=10.0) in (0, -signal.SIGTERM)
    assert "Traceback" not in process.log


def test_a_node_that_never_was_configured_ends_quietly(observer, pipeline) -> None:
    process = pipeline("camera", "inference", "tracking", "overlay", "monitor", autostart=False, namespace="/idle")
    assert observer.state("/idle/monitor") == "unconfigured"
    assert process.stop() == 0
    assert process.lines(r"\[(ERROR|WARN)\]|Traceback") == []


def test_at_the_end_of_a_recording_the_process_ends_by_itself(observer, pipeline) -> None:
    """Every frame is used, whatever the nodes behind the camera take for it, and the exit code is 0."""
    with observer.listen(Detection2DArray, "/once/tracks", 200) as tracks:
        process = pipeline(
            namespace="/once", loop=False, pace="fast", input_mode="every", exit_at_end=True, autostart=False
        )
        observer.spin_until(lambda: observer.node.count_publishers("/once/tracks") == 0, "nothing yet")
        for name in reversed(NODES):
            assert observer.change_state(f"/once/{name}", "configure")
        observer.spin_until(lambda: observer.node.count_publishers("/once/tracks") == 1, "the publisher", process)
        for name in reversed(NODES):
            assert observer.change_state(f"/once/{name}", "activate")
        observer.spin_until(lambda: not process.alive, "the end", timeout=30)
        assert process.wait() == 0
        assert process.lines("the source has ended")
        assert len(tracks) == 40
        stamps = [stamp_of(message) for message in tracks]
        assert stamps == sorted(set(stamps))
