"""The contenders of `edge_vision bench transport`: senders and receivers, ours and plain rclpy's.

Stamps are CLOCK_MONOTONIC, which all processes of a machine share; the frame's number travels in frame_id.
"""

from __future__ import annotations

import array
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edge_vision.benchmarks.child import Conversation
from edge_vision.benchmarks.frames import FrameFile
from edge_vision.datatypes import Frame

_TOPIC = "image_raw"
_NS = 1_000_000_000


def _frames(options: dict[str, Any]) -> Callable[[int], np.ndarray]:
    images = FrameFile.from_options(options["frames"]).open()
    return lambda number: images[number % len(images)]


def _report(conversation: Conversation, number: str, stamp: int) -> None:
    conversation.say({"number": int(number), "ns": time.monotonic_ns() - stamp})


# --- edge_vision's transport -----------------------------------------------------------------------------------------


def ours_inside(options: dict[str, Any], conversation: Conversation) -> None:
    _ours(options, conversation, sends=True, receives=True)


def ours_send(options: dict[str, Any], conversation: Conversation) -> None:
    _ours(options, conversation, sends=True)


def ours_receive_shared(options: dict[str, Any], conversation: Conversation) -> None:
    _ours(options, conversation, receives=True)


def ours_receive_image(options: dict[str, Any], conversation: Conversation) -> None:
    _ours(options, conversation, receives=True, shareable=False)


def _ours(
    options: dict[str, Any],
    conversation: Conversation,
    *,
    sends: bool = False,
    receives: bool = False,
    shareable: bool = True,
) -> None:
    """Two nodes, or one, on the project's node base: publisher, mailbox and worker thread as any node has them."""
    from dataclasses import replace

    from edge_vision.ros import adapters, runtime
    from edge_vision.ros.container import Container
    from edge_vision.ros.node import VisionNode

    class Sender(VisionNode):
        def configure(self) -> None:
            self.frames = self.publisher(Frame, _TOPIC)

    class Receiver(VisionNode):
        def configure(self) -> None:
            adapter = adapters.IMAGE if shareable else replace(adapters.IMAGE, shareable=False)
            self.subscription(Frame, _TOPIC, self.arrived, adapter=adapter)

        def arrived(self, frame: Frame) -> None:
            _report(conversation, frame.frame_id, frame.stamp)

    runtime.initialise(["hop", "--ros-args", "-r", f"__ns:={options['namespace']}", "--log-level", "warn"])
    container = Container()
    sender = Sender("sender", container) if sends else None
    receiver = Receiver("receiver", container) if receives else None
    for node in (sender, receiver):
        if node is not None:
            container.adopt(node)
    if not container.start():
        raise RuntimeError("a node could not start; the lines above say why")
    image = _frames(options)

    def send(number: int) -> None:
        assert sender is not None
        pixels = image(number)
        sender.frames.publish(Frame(pixels, time.monotonic_ns(), str(number)))

    def converse() -> None:
        conversation.say({"ready": True})
        conversation.serve({"send": send})
        container.finish("the measurement is over")

    threading.Thread(target=converse, name="bench", daemon=True).start()
    container.spin()
    container.stop()


# --- plain rclpy, as one writes it from the tutorials ----------------------------------------------------------------


def _plain_node(options: dict[str, Any], name: str) -> Any:
    import rclpy

    rclpy.init(args=[name, "--ros-args", "-r", f"__ns:={options['namespace']}", "--log-level", "warn"])
    return rclpy.create_node(name)


def _plain_publish(publisher: Any, image: np.ndarray, number: int) -> None:
    from sensor_msgs.msg import Image

    stamp = time.monotonic_ns()
    message = Image()
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, _NS)
    message.header.frame_id = str(number)
    message.height, message.width = image.shape[:2]
    message.encoding = "bgr8"
    message.step = image.shape[1] * 3
    message.data = image.tobytes()
    publisher.publish(message)


def _plain_subscription(node: Any, conversation: Conversation) -> None:
    from sensor_msgs.msg import Image

    def arrived(message: Image) -> None:
        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        assert pixels.nbytes == message.step * message.height
        stamp = message.header.stamp
        _report(conversation, message.header.frame_id, stamp.sec * _NS + stamp.nanosec)

    node.create_subscription(Image, _TOPIC, arrived, 10)


def plain_send(options: dict[str, Any], conversation: Conversation) -> None:
    from sensor_msgs.msg import Image

    node = _plain_node(options, "sender")
    publisher = node.create_publisher(Image, _TOPIC, 10)
    image = _frames(options)
    conversation.say({"ready": True})
    conversation.serve({"send": lambda number: _plain_publish(publisher, image(number), number)})
    node.destroy_node()


def plain_receive(options: dict[str, Any], conversation: Conversation) -> None:
    from rclpy.executors import SingleThreadedExecutor

    node = _plain_node(options, "receiver")
    _plain_subscription(node, conversation)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    over = threading.Event()

    def converse() -> None:
        conversation.say({"ready": True})
        conversation.serve({})
        over.set()

    threading.Thread(target=converse, daemon=True).start()
    while not over.is_set():
        executor.spin_once(timeout_sec=1.0)
    node.destroy_node()


def plain_inside(options: dict[str, Any], conversation: Conversation) -> None:
    """One thread publishes and spins: rclpy at its best, nothing competes for the interpreter."""
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import Image

    node = _plain_node(options, "both")
    publisher = node.create_publisher(Image, _TOPIC, 10)
    _plain_subscription(node, conversation)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    image = _frames(options)
    conversation.say({"ready": True})
    for line in sys.stdin:
        number = json.loads(line)["number"]
        _plain_publish(publisher, image(number), number)
        executor.spin_once(timeout_sec=0.2)
    node.destroy_node()


# --- building a message ----------------------------------------------------------------------------------------------


def building(options: dict[str, Any], conversation: Conversation) -> None:
    """Nanoseconds of putting the pixels into an Image, by way, once a frame over all frames three times."""
    from sensor_msgs.msg import Image

    from edge_vision.ros.runtime import keep_freed_memory

    if options["tuned"]:
        keep_freed_memory()
    images = FrameFile.from_options(options["frames"]).open()
    samples: dict[str, list[int]] = {"tobytes": [], "array.frombytes": []}
    for index in range(3 * len(images)):
        pixels = images[index % len(images)]
        for name, values in samples.items():
            start = time.perf_counter_ns()
            message = Image()
            if name == "tobytes":
                message.data = pixels.tobytes()
            else:
                data = array.array("B")
                data.frombytes(pixels.data)
                message.data = data
            values.append(time.perf_counter_ns() - start)
            del message
    conversation.say({f"Image.data by {name}": values for name, values in samples.items()})
    conversation.serve({})
