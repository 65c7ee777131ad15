"""Who runs what, and in which order, when nodes of one process hand results to each other."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
import rclpy
from ros_harness import Observer
from vision_msgs.msg import Detection2DArray

from edge_vision.datatypes import Detections, Frame
from edge_vision.ros.container import Container
from edge_vision.ros.node import VisionNode

PATIENCE_S = 10.0


class Source(VisionNode):
    def configure(self) -> None:
        self.frames = self.publisher(Frame, "frames")


class Middle(VisionNode):
    """Frames in, detections out, with the same stamp; may be held up by `gate`."""

    def configure(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.takes_s = 0.0
        self.results = self.publisher(Detections, "results")
        self.subscription(Frame, "frames", self.work, every=True)

    def work(self, frame: Frame) -> None:
        self.entered.set()
        self.gate.wait(PATIENCE_S)
        if self.takes_s:
            time.sleep(self.takes_s)
        self.results.publish(Detections(stamp=frame.stamp, frame_id=frame.frame_id))


class Sink(VisionNode):
    direct = True

    def configure(self) -> None:
        self.seen: list[int] = []
        self.threads: set[str] = set()
        self.reached = threading.Condition()
        self.needed = True
        self.subscription(Detections, "results", self.take, direct=self.direct, needed=lambda: self.needed)

    def take(self, detections: Detections) -> None:
        self.threads.add(threading.current_thread().name)
        with self.reached:
            self.seen.append(detections.stamp)
            self.reached.notify_all()
        if detections.frame_id == "bad":
            raise ValueError("this one cannot be used")

    def wait(self, count: int) -> None:
        with self.reached:
            assert self.reached.wait_for(lambda: len(self.seen) >= count, PATIENCE_S), f"{len(self.seen)} of {count}"


@pytest.fixture
def nodes():
    rclpy.init()
    container = Container()
    made = [container.adopt(kind(kind.__name__.lower(), container)) for kind in (Source, Middle, Sink)]
    assert container.start()
    yield made
    container.stop()


def frame(stamp: int, frame_id: str = "camera") -> Frame:
    return Frame(np.zeros((2, 2, 3), np.uint8), stamp, frame_id)


def until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(0.002)


def settle(*nodes: VisionNode) -> None:
    until(lambda: all(node.idle() for node in nodes), "the nodes come to rest")


def test_a_direct_subscription_runs_on_the_thread_of_a_publisher_that_has_nothing_else_to_do(nodes) -> None:
    source, middle, sink = nodes
    for stamp in range(1, 6):
        source.frames.publish(frame(stamp))
        sink.wait(stamp)
        settle(middle, sink)
    assert sink.seen == [1, 2, 3, 4, 5]
    assert sink.threads == {"middle"}
    assert sink.input_rate.total == 5


def test_it_runs_after_the_publishers_callback_and_before_anything_leaves_the_process(nodes) -> None:
    source, middle, sink = nodes
    sent = []
    outside = middle.results._ros.publish
    middle.results._always = True
    middle.results._ros.publish = lambda message: (sent.append(list(sink.seen)), outside(message))
    source.frames.publish(frame(7))
    sink.wait(1)
    settle(middle, sink)
    middle.results._ros.publish = outside
    assert sent == [[7]]
    assert middle.stages["send"].count == 1


def test_a_publisher_with_more_to_do_leaves_it_to_the_other_thread_and_the_order_stays(nodes) -> None:
    source, middle, sink = nodes
    middle.gate.clear()
    source.frames.publish(frame(0))
    assert middle.entered.wait(PATIENCE_S)
    waiting = threading.Thread(target=lambda: [source.frames.publish(frame(stamp)) for stamp in range(1, 40)])
    waiting.start()
    until(lambda: not middle._events.empty(), "a frame waits")
    middle.gate.set()
    sink.wait(40)
    waiting.join(PATIENCE_S)
    settle(middle, sink)
    assert sink.seen == list(range(40))
    assert "sink" in sink.threads


def test_the_order_stays_whichever_thread_is_quicker(nodes) -> None:
    source, middle, sink = nodes
    rng = np.random.default_rng(1)
    pauses = rng.choice([0.0, 0.0, 1e-5, 1e-4, 1e-3], 1500)
    efforts = rng.choice([0.0, 1e-4, 1e-3], 1500)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads change as often as they can
    try:
        for stamp, pause in enumerate(pauses):
            middle.takes_s = efforts[stamp]
            source.frames.publish(frame(stamp))
            if pause:
                time.sleep(pause)
        sink.wait(len(pauses))
    finally:
        sys.setswitchinterval(interval)
    assert sink.seen == list(range(len(pauses)))
    assert sink.threads == {"middle", "sink"}, "both ways were taken"


def test_what_fails_in_the_follower_is_the_followers_alone(nodes) -> None:
    source, middle, sink = nodes
    source.frames.publish(frame(1, "bad"))
    source.frames.publish(frame(2))
    sink.wait(2)
    settle(middle, sink)
    assert (sink.statistics().rejected, middle.statistics().rejected) == (1, 0)
    assert middle.statistics().published == 2


def test_a_follower_that_is_busy_gets_it_into_its_mailbox(nodes) -> None:
    source, middle, sink = nodes
    with sink._turn:
        source.frames.publish(frame(1))
        settle(middle)
        assert sink.seen == []
    sink.wait(1)
    assert sink.threads == {"sink"}


def test_a_follower_that_is_switched_off_holds_up_nobody(nodes) -> None:
    source, middle, sink = nodes
    sink.trigger_deactivate()
    source.frames.publish(frame(1))
    settle(middle)
    sink.trigger_activate()
    source.frames.publish(frame(2))
    sink.wait(1)
    settle(middle, sink)
    assert sink.seen == [2]


def test_what_is_not_needed_is_counted_and_wakes_nobody(nodes) -> None:
    source, middle, sink = nodes
    sink.needed = False
    source.frames.publish(frame(1))
    settle(middle, sink)
    sink.needed = True
    source.frames.publish(frame(2))
    sink.wait(1)
    assert sink.seen == [2]
    assert sink.input_rate.total == 2


def test_a_listener_that_comes_later_is_found_and_one_that_goes_is_forgotten(nodes) -> None:
    source, middle, sink = nodes
    observer = Observer("late")
    stamp = 10

    def publish() -> None:
        nonlocal stamp
        stamp += 1
        source.frames.publish(frame(stamp))
        settle(middle, sink)

    def came() -> bool:
        publish()
        return bool(messages)

    messages: list[Detection2DArray] = []
    try:
        listening = observer.node.create_subscription(Detection2DArray, "/results", messages.append, 10)
        observer.spin_until(came, "a message to the late listener")
        observer.node.destroy_subscription(listening)

        def forgotten() -> bool:
            publish()
            return not middle.results._audience.present()

        observer.spin_until(forgotten, "the listener forgotten")
    finally:
        observer.close()


def test_a_plain_subscription_always_runs_on_its_own_thread(nodes) -> None:
    source, _, sink = nodes
    sink.trigger_deactivate()
    sink.trigger_cleanup()
    sink.direct = False
    assert sink.start()
    source.frames.publish(frame(3))
    sink.wait(1)
    assert sink.threads == {"sink"}
