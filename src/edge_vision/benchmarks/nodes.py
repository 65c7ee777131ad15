"""The contenders with ROS: the project's own nodes in a real container, fed with frames from memory."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from edge_vision.benchmarks.child import Conversation
from edge_vision.benchmarks.frames import FrameFile
from edge_vision.benchmarks.pacing import Ticker
from edge_vision.benchmarks.usage import usage
from edge_vision.datatypes import Frame
from edge_vision.sources.base import BaseSource, Sample

_IDLE_S = 10.0  # what is on its way at the end of a round may take this long


class GatedSource(BaseSource):
    """Frames from memory, a number of them when told to, each stamped as it leaves, as a camera's driver does."""

    live = True

    def __init__(self, file: FrameFile) -> None:
        super().__init__("memory://bench")
        self.description = f"{file.count} frames in memory, {file.width}x{file.height}"
        self._images = file.open()
        self._wanted: range = range(0)
        self._ticker = Ticker(0.0)
        self._go = threading.Event()
        self._done = threading.Event()

    def play(self, first: int, count: int, rate: float) -> None:
        """Lets `count` frames out at `rate`; returns when the last has been taken and the reader asks for more."""
        self._wanted, self._ticker = range(first, first + count), Ticker(rate)
        self._done.clear()
        self._go.set()
        self._done.wait()

    def read(self) -> Sample | None:
        while not self._wanted:
            self._done.set()
            self._go.wait()
            self._go.clear()
            if self._closed.is_set():
                return None
        index, self._wanted = self._wanted[0], self._wanted[1:]
        self._ticker.wait()
        image = self._images[index % len(self._images)]
        return Sample(Frame(image, time.time_ns(), "camera_optical_frame", index))

    def close(self) -> None:
        super().close()
        self._done.set()
        self._go.set()


def serve(options: dict[str, Any], conversation: Conversation) -> None:
    """The child: nodes of options["nodes"] in one container, in the namespace options["namespace"].

    Requests: "begin" a round, "play" frames (where the camera is here), "collect" what the round gave.
    """
    from edge_vision.ros import runtime
    from edge_vision.ros.container import Container

    arguments = ["bench", "--ros-args", "-r", f"__ns:={options['namespace']}", "--log-level", "warn"]
    for name in ("model", "decoder", "backend", "hardware", "threads"):
        if options[name] != "":
            arguments += ["-p", f"{name}:={options[name]}"]
    runtime.initialise(arguments)
    container = Container()
    file = FrameFile.from_options(options["frames"])
    source = GatedSource(file) if "camera" in options["nodes"] else None
    for name in options["nodes"]:
        node: Any = container.add(name)
        if name == "camera":
            node._open = lambda: source  # the camera node is itself in all but where its frames come from
    if not container.start():
        raise RuntimeError("a node could not start; the lines above say why")
    round_ = Round(container, file)

    def play(first: int, count: int, rate: float) -> dict[str, Any]:
        assert source is not None
        source.play(first, count, rate)
        return {"played": count}

    def converse() -> None:
        conversation.say({"ready": True})
        conversation.serve({"begin": round_.begin, "play": play, "collect": round_.collect})
        container.finish("the measurement is over")

    thread = threading.Thread(target=converse, name="bench", daemon=True)
    thread.start()
    container.spin()
    container.stop()


class Round:
    """What the nodes of a container did since `begin`: every sample of every stage, drops, processor time."""

    def __init__(self, container: Any, file: FrameFile) -> None:
        self._container = container
        self._file = file
        self._counts: dict[tuple[str, str], int] = {}
        self._dropped = 0
        self._cpu_s = self._start = 0.0

    def _stages(self) -> dict[tuple[str, str], Any]:
        return {
            (node.get_name(), name): stage
            for node in self._container.nodes
            for name, stage in tuple(node.stages.items())
        }

    def _drops(self) -> int:
        return sum(node.statistics().dropped for node in self._container.nodes)

    def begin(self) -> dict[str, Any]:
        self._counts = {key: stage.count for key, stage in self._stages().items()}
        self._dropped = self._drops()
        self._cpu_s, self._start = usage().cpu_s, time.perf_counter()
        return {"begun": True}

    def collect(self) -> dict[str, Any]:
        """After what is still on its way has come through."""
        wall = time.perf_counter() - self._start
        deadline = time.monotonic() + _IDLE_S
        quiet = 0
        while quiet < 3 and time.monotonic() < deadline:
            quiet = quiet + 1 if all(node.idle() for node in self._container.nodes) else 0
            time.sleep(0.01)
        now = usage(without=self._file.path)
        samples = {}
        for (node, name), stage in self._stages().items():
            new = stage.count - self._counts.get((node, name), 0)
            samples[f"{node}/{name}"] = np.asarray(stage.newest(new)).tolist()
        return {
            "samples": samples,
            "cpu_s": now.cpu_s - self._cpu_s,
            "wall_s": wall,
            "rss_mb": now.rss_mb,
            "peak_mb": now.peak_mb,
            "dropped": self._drops() - self._dropped,
        }


def announce_first_tracks() -> None:
    """Has the tracking node of this process say on standard output when its first tracks are out (ns of the epoch)."""
    from edge_vision.nodes.tracking import TrackingNode

    update = TrackingNode.update

    def first(self: TrackingNode, detections: Any, features: Any = None) -> None:
        update(self, detections, features)
        print(time.time_ns(), flush=True)
        TrackingNode.update = update  # type: ignore[method-assign]

    TrackingNode.update = first  # type: ignore[method-assign]


def listen(options: dict[str, Any], conversation: Conversation) -> None:
    """A process that subscribes vision_msgs as a stranger does, with plain rclpy: results are really made and sent.

    options["topics"]: of Detection2DArray. Requests: "begin"; "collect" -> by topic the ages at arrival in ns (clock of
    the host against the header); "first" -> by topic when the first message came (ns of the epoch) or null.
    """
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from vision_msgs.msg import Detection2DArray

    from edge_vision.ros.runtime import use_shared_memory_profile

    use_shared_memory_profile()
    rclpy.init(args=["listener", "--ros-args", "--log-level", "warn"])
    node = rclpy.create_node("bench_listener")
    ages: dict[str, list[int]] = {topic: [] for topic in options["topics"]}
    first: dict[str, int] = {}

    def subscribe(topic: str) -> None:
        def arrived(message: Any) -> None:
            now = time.time_ns()
            first.setdefault(topic, now)
            ages[topic].append(now - message.header.stamp.sec * 1_000_000_000 - message.header.stamp.nanosec)

        node.create_subscription(Detection2DArray, topic, arrived, 10)

    for topic in ages:
        subscribe(topic)

    def begin() -> dict[str, Any]:
        for values in ages.values():
            values.clear()
        return {"begun": True}

    over = threading.Event()

    def converse() -> None:
        conversation.say({"ready": True})
        conversation.serve(
            {
                "begin": begin,
                "collect": lambda: {"ages": ages},
                "first": lambda: {"first": {topic: first.get(topic) for topic in ages}},
            }
        )
        over.set()

    threading.Thread(target=converse, daemon=True).start()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not over.is_set():
        executor.spin_once(timeout_sec=0.1)
    node.destroy_node()
    rclpy.try_shutdown()
