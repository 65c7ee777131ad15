"""Nodes in one process: objects change hands, the worker thread does the work, errors cost one input."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import rclpy
from rclpy.signals import SignalHandlerOptions

from edge_vision.datatypes import Detections, Frame
from edge_vision.ros.container import Container
from edge_vision.ros.node import Unusable, VisionNode
from edge_vision.ros.parameters import NodeParameters, parameter


class Giver(VisionNode[NodeParameters]):
    def configure(self) -> None:
        self.frames = self.publisher(Frame, "image_raw")


@dataclass(frozen=True)
class TakerParameters(NodeParameters):
    wanted: bool = parameter(True, "Whether frames are taken.")


class Taker(VisionNode[TakerParameters]):
    parameters_type = TakerParameters

    def configure(self) -> None:
        self.got: list[Frame] = []
        self.threads: set[str] = set()
        self.found = self.publisher(Detections, "detections")
        self.subscription(Frame, "image_raw", self.take, every=True, needed=lambda: self.parameters.wanted)

    def take(self, frame: Frame) -> None:
        self.threads.add(threading.current_thread().name)
        if frame.sequence == 13:
            raise Unusable("thirteen is not taken")
        if frame.sequence == 14:
            raise ZeroDivisionError("a bug")
        self.got.append(frame)
        self.found.publish(Detections(stamp=frame.stamp))


class Process:
    def __init__(self) -> None:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self.container = Container()
        self.giver = self.container.adopt(Giver("giver", self.container))
        self.taker = self.container.adopt(Taker("taker", self.container))
        assert self.container.start()

    def give(self, sequence: int) -> Frame:
        frame = Frame(np.zeros((4, 6, 3), np.uint8), 1000 + sequence, "cam", sequence)
        self.giver.frames.publish(frame)
        return frame

    def wait(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not done():
            assert time.monotonic() < deadline
            time.sleep(0.002)


@pytest.fixture(scope="module")
def process() -> Iterator[Process]:
    process = Process()
    yield process
    process.container.stop()
    assert not rclpy.ok()
    assert {t.name for t in threading.enumerate()} & {"giver", "taker"} == set(), "no thread is left"


def test_the_object_itself_changes_hands(process) -> None:
    frame = process.give(1)
    process.wait(lambda: bool(process.taker.got))
    assert process.taker.got[-1] is frame
    assert process.taker.threads == {"taker"}, "on the node's own thread"
    assert process.taker.bus.age_ns(frame.stamp) is not None


def test_no_ros_subscription_stands_beside_a_publisher_of_the_process(process) -> None:
    assert process.giver.frames.has_subscribers
    assert process.giver.count_subscribers("/image_raw") == 0
    assert not process.taker.found.has_subscribers


def test_an_error_costs_one_input(process) -> None:
    process.taker.got.clear()
    frames = [process.give(sequence) for sequence in (12, 13, 14, 15)]
    process.wait(lambda: len(process.taker.got) == 2)
    assert [f.sequence for f in process.taker.got] == [12, 15]
    assert process.taker.got[1] is frames[3]
    assert process.taker.statistics().rejected == 2


def test_what_is_not_needed_is_counted_and_let_go(process) -> None:
    process.wait(process.taker.idle)
    process.taker.got.clear()
    before = process.taker.statistics()
    taken, refused = (
        process.taker.set_parameters([rclpy.parameter.Parameter("wanted", value=value)])[0] for value in (False, "no")
    )
    assert taken.successful
    assert not refused.successful
    assert refused.reason
    process.give(20)
    assert process.taker.set_parameters([rclpy.parameter.Parameter("wanted", value=True)])[0].successful
    process.give(21)
    process.wait(lambda: bool(process.taker.got))
    process.wait(process.taker.idle)
    assert [f.sequence for f in process.taker.got] == [21]
    after = process.taker.statistics()
    assert after.received == before.received + 2
    assert after.dropped == before.dropped


def test_a_node_that_is_not_active_gets_nothing(process) -> None:
    process.taker.got.clear()
    process.taker.trigger_deactivate()
    assert not process.giver.frames.has_subscribers
    process.give(30)
    process.taker.trigger_activate()
    process.give(31)
    process.wait(lambda: bool(process.taker.got))
    assert [f.sequence for f in process.taker.got] == [31]


def test_the_first_reason_and_the_worst_code_count(process) -> None:
    container = process.container
    assert not container.finishing
    container.finish("the file has ended")
    container.finish("the disk is full", 1)
    container.finish("again", 0)
    assert container.finishing
    assert (container.reason, container.exit_code) == ("the file has ended", 1)
