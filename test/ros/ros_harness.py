"""Real executables in processes of their own, and an observer that speaks plain ROS to them.

Imports nothing of the project but its messages: what is tested is what anybody on the network sees.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

#: Bounds of every wait. Generous, as the machine may be busy: they are reached only where something is broken.
PATIENCE_S = 40.0
_ASK_AGAIN_S = 8.0
_SETTLE_S = 0.5
SHARED_MEMORY = Path("/dev/shm")

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """In the child: even a killed pytest leaves no process behind (Linux)."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def executable(name: str) -> str:
    """Path of an installed executable of the package: lib/edge_vision is on the PATH (scripts/env.sh)."""
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        path = Path(prefix) / "lib" / "edge_vision" / name
        if path.is_file():
            return str(path)
    found = shutil.which(name)
    assert found, f"{name} is not installed: run scripts/setup.sh, then . scripts/env.sh"
    return found


def ros_arguments(
    parameters: Mapping[str, Any], remaps: Mapping[str, str], namespace: str | None, parameter_files: tuple[Path, ...]
) -> list[str]:
    arguments = [f"-p {name}:={_yaml(value)}" for name, value in parameters.items()]
    arguments += [f"-r {old}:={new}" for old, new in remaps.items()]
    if namespace:
        arguments.append(f"-r __ns:={namespace}")
    arguments += [f"--params-file {path}" for path in parameter_files]
    split = [part for argument in arguments for part in argument.split(" ", 1)]
    return ["--ros-args", *split] if split else []


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Process:
    """A program with its log in a file; ended hard where it does not end by itself."""

    running: list[Process] = []  # noqa: RUF012  every process of the session, for the check at its end
    pids: list[int] = []  # noqa: RUF012

    def __init__(self, command: list[str], log: Path, environment: Mapping[str, str] | None = None):
        self.command = command
        self.log_path = log
        self._log = log.open("wb")
        self._popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            cwd=log.parent,
            preexec_fn=_die_with_parent,
        )
        self.pid = self._popen.pid
        Process.running.append(self)
        Process.pids.append(self.pid)

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def lines(self, pattern: str) -> list[str]:
        """The lines of the log that the pattern is found in."""
        return [line for line in self.log.splitlines() if re.search(pattern, line)]

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def wait_for_log(self, pattern: str, count: int = 1, timeout: float = PATIENCE_S) -> list[str]:
        """Until the pattern is in `count` lines of the log; returns them."""
        deadline = time.monotonic() + timeout
        while len(found := self.lines(pattern)) < count:
            assert self.alive, f"ended with {self._popen.returncode} before {pattern!r} was logged:\n{self.log}"
            assert time.monotonic() < deadline, f"{pattern!r} not logged {count} times in {timeout:g} s:\n{self.log}"
            time.sleep(0.02)
        return found

    def wait(self, timeout: float = PATIENCE_S) -> int:
        """The exit code, once it has ended by itself."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout:g} s:\n{self.log}") from None
        finally:
            self.kill()

    def send(self, number: int) -> None:
        self._popen.send_signal(number)

    def stop(self, number: int = signal.SIGINT, timeout: float = 20.0) -> int:
        """Asks for the end; returns the exit code."""
        if self.alive:
            self.send(number)
        return self.wait(timeout)

    def kill(self) -> None:
        if self.alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(self.pid).children(recursive=True):  # of a launch: its nodes
                    child.kill()
            self._popen.kill()
        self._popen.wait(10)
        self._log.close()
        if self in Process.running:
            Process.running.remove(self)

    def segments(self) -> list[str]:
        """Its files of frames in shared memory."""
        return segments_of(self.pid)


def segments_of(pid: int) -> list[str]:
    return sorted(path.name for path in SHARED_MEMORY.glob(f"edge_vision_{pid}_*"))


class Start:
    """Starts processes and ends them together."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._started: list[Process] = []

    def __call__(
        self,
        name: str,
        *arguments: str,
        parameters: Mapping[str, Any] | None = None,
        remaps: Mapping[str, str] | None = None,
        namespace: str | None = None,
        parameter_files: tuple[Path, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Process:
        """An executable of the package."""
        ros = ros_arguments(parameters or {}, remaps or {}, namespace, parameter_files)
        return self.command([executable(name), *arguments, *ros], name, environment)

    def script(self, path: Path, *arguments: str) -> Process:
        """A Python script that uses the environment's ROS and nothing else."""
        return self.command([sys.executable, "-u", str(path), *arguments], path.stem)

    def command(self, command: list[str], name: str, environment: Mapping[str, str] | None = None) -> Process:
        process = Process(command, self._folder / f"{len(self._started)}_{name}.log", environment)
        self._started.append(process)
        return process

    def stop_all(self) -> None:
        for process in self._started:
            if process.alive:
                process.send(signal.SIGTERM)
        for process in self._started:
            with contextlib.suppress(AssertionError):
                process.wait(15.0)
        self._started.clear()


class Observer:
    """A node of the test's own. Spun by the test's thread, and only while it waits for something."""

    def __init__(self, name: str = "observer"):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node(name, context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._clients: dict[str, Any] = {}
        #: newest diagnostics by name of node, and how many came
        self.diagnostics: dict[str, DiagnosticStatus] = {}
        self.diagnostics_count: dict[str, int] = {}
        self._diagnostics_stamp: dict[str, int] = {}
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 50)

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            self.diagnostics[status.name] = status
            self._diagnostics_stamp[status.name] = stamp_of(array)
            self.diagnostics_count[status.name] = self.diagnostics_count.get(status.name, 0) + 1

    # --- waiting -----------------------------------------------------------------------------------------------------

    def spin_until(
        self, done: Callable[[], Any], what: str, process: Process | None = None, timeout: float = PATIENCE_S
    ) -> None:
        """Spins until `done()`; AssertionError names `what` did not come, with the log of the process at fault."""
        deadline = time.monotonic() + timeout
        while not done():
            log = f":\n{process.log}" if process else ""
            assert process is None or process.alive, f"the process ended while waiting for {what}{log}"
            assert time.monotonic() < deadline, f"{what}: not within {timeout:g} s{log}"
            self._executor.spin_once(timeout_sec=0.05)

    def spin_for(self, seconds: float) -> None:
        """Only where something must NOT come."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left, 0.05))

    # --- topics ------------------------------------------------------------------------------------------------------

    def listen(self, kind: type, topic: str, profile: QoSProfile | int = 100) -> Received:
        return Received(self, kind, topic, profile)

    def publisher(self, kind: type, topic: str, profile: QoSProfile | int = 10) -> Any:
        return self.node.create_publisher(kind, topic, profile)

    def wait_for_subscriber(self, publisher: Any, process: Process, count: int = 1) -> None:
        """Until the process listens, and a moment more: that it knows who listens to it cannot be seen from here, and
        what it answers before is lost."""
        self.spin_until(
            lambda: publisher.get_subscription_count() >= count, f"subscriber of {publisher.topic}", process
        )
        self.spin_for(_SETTLE_S)

    # --- services ----------------------------------------------------------------------------------------------------

    def call(self, kind: type, name: str, request: Any, timeout: float = PATIENCE_S) -> Any:
        """The answer of a service. Asked again now and then: DDS loses an answer whose reader it has not met yet."""
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = self.node.create_client(kind, name)
        self.spin_until(client.service_is_ready, f"service {name}", timeout=timeout)
        deadline = time.monotonic() + timeout
        while True:
            future = client.call_async(request)
            again = min(deadline, time.monotonic() + _ASK_AGAIN_S)
            self.spin_until(
                lambda: future.done() or time.monotonic() > again,  # noqa: B023  called in this turn of the loop only
                f"answer of {name}",
            )
            if future.done():
                return future.result()
            assert time.monotonic() < deadline, f"no answer of {name} in {timeout:g} s"

    def state(self, node: str) -> str:
        return self.call(GetState, f"{node}/get_state", GetState.Request()).current_state.label

    def change_state(self, node: str, transition: str) -> bool:
        """Asks the node for a transition by its label (configure, activate, ...); whether it succeeded."""
        request = ChangeState.Request()
        if transition == "shutdown":  # its number depends on the state: the label is looked up by the node
            request.transition = Transition(id=_SHUTDOWN[self.state(node)], label=transition)
        else:
            request.transition = Transition(id=_TRANSITIONS[transition], label=transition)
        try:
            return self.call(ChangeState, f"{node}/change_state", request, timeout=_ASK_AGAIN_S).success
        except AssertionError:  # not to be asked twice: whether it was done is seen by the state
            return self.state(node) == _STATES[transition]

    def set_parameter(self, node: str, name: str, value: Any) -> tuple[bool, str]:
        """(successful, reason), as `ros2 param set` gets it."""
        request = SetParameters.Request(parameters=[Parameter(name=name, value=_parameter_value(value))])
        result = self.call(SetParameters, f"{node}/set_parameters", request).results[0]
        return result.successful, result.reason

    def parameter(self, node: str, name: str) -> Any:
        value = self.call(GetParameters, f"{node}/get_parameters", GetParameters.Request(names=[name])).values[0]
        return {
            ParameterType.PARAMETER_BOOL: value.bool_value,
            ParameterType.PARAMETER_INTEGER: value.integer_value,
            ParameterType.PARAMETER_DOUBLE: value.double_value,
            ParameterType.PARAMETER_STRING: value.string_value,
        }[value.type]

    # --- diagnostics -------------------------------------------------------------------------------------------------

    def values(self, name: str) -> dict[str, str]:
        """The newest diagnostics of a node, {} where none has come."""
        status = self.diagnostics.get(name)
        return {} if status is None else {pair.key: pair.value for pair in status.values}

    def fresh_values(self, name: str, process: Process | None = None) -> dict[str, str]:
        """Diagnostics made wholly after this call: by their stamp, or the second from now on (simulated time)."""
        now, goal = time.time_ns(), self.diagnostics_count.get(name, 0) + 2

        def fresh() -> bool:
            return self._diagnostics_stamp.get(name, 0) >= now or self.diagnostics_count.get(name, 0) >= goal

        self.spin_until(fresh, f"diagnostics of {name}", process)
        return self.values(name)

    def wait_for_status(
        self, name: str, level: bytes, process: Process | None = None, timeout: float = PATIENCE_S
    ) -> DiagnosticStatus:
        self.spin_until(
            lambda: name in self.diagnostics and self.diagnostics[name].level == level,
            f"level {level!r} of {name} (newest: {self.diagnostics.get(name)})",
            process,
            timeout,
        )
        return self.diagnostics[name]

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


_TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}
_STATES = {
    "configure": "inactive",
    "activate": "active",
    "deactivate": "inactive",
    "cleanup": "unconfigured",
    "shutdown": "finalized",
}
_SHUTDOWN = {
    "unconfigured": Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
    "inactive": Transition.TRANSITION_INACTIVE_SHUTDOWN,
    "active": Transition.TRANSITION_ACTIVE_SHUTDOWN,
}


def _parameter_value(value: Any) -> ParameterValue:
    if isinstance(value, bool):
        return ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=value)
    if isinstance(value, int):
        return ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=value)
    if isinstance(value, float):
        return ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
    return ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=value)


class Received(list):
    """The messages of one topic in the order of their coming. A context manager: unsubscribes at its end."""

    def __init__(self, observer: Observer, kind: type, topic: str, profile: QoSProfile | int):
        super().__init__()
        self._observer = observer
        self._topic = topic
        self._subscription = observer.node.create_subscription(kind, topic, self.append, profile)

    def wait(self, count: int, process: Process | None = None, timeout: float = PATIENCE_S) -> Received:
        """Until `count` more than now have come."""
        goal = len(self) + count
        self._observer.spin_until(
            lambda: len(self) >= goal, f"{count} messages on {self._topic} (of {goal}: {len(self)})", process, timeout
        )
        return self

    def close(self) -> None:
        self._observer.node.destroy_subscription(self._subscription)

    def __enter__(self) -> Received:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# --- images and models that the tests make themselves ----------------------------------------------------------------

BEST_EFFORT = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
#: As deep as a test sends at a time: a reader that is kept waiting by a busy machine still gets them all.
RELIABLE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)

#: colours in BGR, in the order of the test model's classes
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


def square(
    box: tuple[int, int, int, int] | None, colour: int = 0, width: int = 256, height: int = 192, grey: int = 20
) -> np.ndarray:
    """A dark BGR image with one bright rectangle (x1, y1, x2, y2), which the test model finds."""
    image = np.full((height, width, 3), grey, np.uint8)
    if box is not None:
        x1, y1, x2, y2 = box
        image[y1:y2, x1:x2] = COLOURS[colour]
    return image


def image_message(image: np.ndarray, stamp: int, encoding: str = "bgr8", frame_id: str = "dock") -> Image:
    """An honest Image message; stamp in ns."""
    message = Image(height=image.shape[0], width=image.shape[1], encoding=encoding)
    message.header.frame_id = frame_id
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
    message.step = image.nbytes // image.shape[0]
    message.data = image.tobytes()
    return message


def stamp_of(message: Any) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def corners(detection: Any) -> list[float]:
    """xyxy of a vision_msgs/Detection2D."""
    centre, box = detection.bbox.center.position, detection.bbox
    return [
        centre.x - box.size_x / 2,
        centre.y - box.size_y / 2,
        centre.x + box.size_x / 2,
        centre.y + box.size_y / 2,
    ]
