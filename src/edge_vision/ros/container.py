"""Runs one node, or any set of them, in one process: executor, start, orderly end, exit code.

Everything that makes, destroys or spins ROS entities happens on the main thread: rclpy's events executor locks up when
another thread makes or destroys entities, or shuts it down, while it spins. Worker threads publish, which is safe.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import get_logger

from edge_vision.ros import registry
from edge_vision.ros.node import Unusable, VisionNode
from edge_vision.ros.shared_frames import remove_stale_segments
from edge_vision.ros.transport import Bus

DRAIN_S = 10.0  # what is on its way through the nodes may take this long at the end
_SPIN_S = 0.1  # a signal is seen after this long at the latest
KILL_S = 20.0  # an end that takes longer is cut short
_SAME_REQUEST_S = 1.0  # ros2 launch sends its own SIGINT right after the one that Ctrl-C sends to all


def make_executor() -> Executor:
    """The events executor where this rclpy has it (half the CPU of the other), else the single-threaded one."""
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError:
        return SingleThreadedExecutor()
    return EventsExecutor()


class Container:
    """The nodes of this process. rclpy must have been initialised (`runtime.initialise`)."""

    def __init__(self) -> None:
        self.bus = Bus()
        self.nodes: list[VisionNode] = []
        self.exit_code = 0
        self.reason = ""
        self._end = threading.Event()
        self._soon: deque[Callable[[], None]] = deque()
        self._signalled: float | None = None
        self._executor = make_executor()

    def add(self, name: str) -> VisionNode:
        """Makes the node and gives it to the executor. Raises Unusable for parameters that cannot be."""
        return self.adopt(registry.node_class(name)(name, self))

    def adopt(self, node: VisionNode) -> VisionNode:
        """Gives a node that was made for this container to the executor; consumers after what they consume."""
        self.nodes.append(node)
        self._executor.add_node(node)
        return node

    def finish(self, reason: str, exit_code: int = 0) -> None:
        """Asks for the end of the process, from any thread. The first reason and the worst code count."""
        self.reason = self.reason or reason
        self.exit_code = max(self.exit_code, exit_code)
        self._end.set()

    def call_soon(self, function: Callable[[], None]) -> None:
        """Has the main thread call `function` between two callbacks of ROS; may be called by any thread."""
        self._soon.append(function)
        self._executor.wake()

    def fail(self, exit_code: int) -> None:
        """Something was lost: the process goes on, but will not end with code 0."""
        self.exit_code = max(self.exit_code, exit_code)

    @property
    def finishing(self) -> bool:
        return self._end.is_set()

    def start(self) -> bool:
        """Configures, then activates the nodes that start by themselves, consumers before sources.

        False where one could not: it stays as it is (its log and its diagnostics say why) and the others run.
        """
        wanted = [node for node in self.nodes if node.parameters.autostart]
        configured = [node for node in wanted if node.start_configure()]
        activated = [node for node in reversed(configured) if node.start_activate()]
        return len(activated) == len(wanted)

    def spin(self) -> None:
        """Serves ROS until `finish` is called or a signal comes."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        try:
            while not self._end.is_set():
                self._executor.spin_once(timeout_sec=_SPIN_S)
                while self._soon:
                    self._soon.popleft()()
        except ExternalShutdownException:
            self.finish("ROS was shut down")

    def stop(self) -> None:
        """Ends the nodes from the sources on; each gets what is on its way to it first."""
        watchdog = threading.Timer(KILL_S, self._kill)
        watchdog.daemon = True
        watchdog.start()
        deadline = time.monotonic() + DRAIN_S
        for node in self.nodes:
            while not node.idle() and time.monotonic() < deadline:
                time.sleep(0.002)
            if node.active:
                node.trigger_deactivate()
        for node in self.nodes:
            node.end()
            self._executor.remove_node(node)
        for node in self.nodes:
            node.destroy_node()
        self._executor.shutdown(timeout_sec=1.0)
        rclpy.try_shutdown()
        watchdog.cancel()

    def _on_signal(self, number: int, _frame: Any) -> None:
        now = time.monotonic()
        if self._signalled is None:
            self._signalled = now
            self.finish(f"{signal.Signals(number).name} received")
        elif now - self._signalled > _SAME_REQUEST_S:  # asked twice: at once
            self._kill()

    def _kill(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self.exit_code or 1)


def run(names: Sequence[str], *, must_start: bool = False) -> int:
    """Runs the nodes until they end; returns the exit code.

    must_start: a node that cannot start ends the process with code 1. Otherwise it stays, to be mended and managed.
    """
    remove_stale_segments()
    container = Container()
    log = get_logger("edge_vision")
    try:
        for name in names:
            container.add(name)
    except Unusable as error:
        log.error(str(error))
        rclpy.try_shutdown()
        return 1
    if not container.start() and must_start:
        container.finish("a node could not start", 1)
    container.spin()
    log.info(f"ending: {container.reason}")
    container.stop()
    # The interpreter's own end takes a moment, in which Ctrl-C's second signal (that of ros2 launch) would kill it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return container.exit_code
