"""The camera node as the camera of a sensor measurement: exposure by its parameter, frames from its topic."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from numpy.typing import NDArray
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import HistoryPolicy, QoSProfile
from sensor_msgs.msg import Image

from edge_vision.quality.sensor.errors import SensorDataError
from edge_vision.ros import qos, runtime
from edge_vision.ros.adapters import BadMessage, frame_from_serialized

_ASK_AGAIN_S = 5.0


class NodeCamera:
    """A camera node (ours, or any with a parameter ``exposure`` in seconds). A context manager: puts the parameters
    back and leaves ROS.

    node: its name, ``/camera``. topic: of its images; empty: image_raw in the node's namespace. settle: frames that
    are dropped after every change, since cameras have some under way. patience: s, for an answer or a frame.

    Raises SensorDataError where the node is not there, has no such parameter, refuses a value or sends no images.
    """

    def __init__(self, node: str, topic: str = "", settle: int = 5, patience: float = 20.0) -> None:
        self.name = node if node.startswith("/") else f"/{node}"
        self.topic = topic or f"{self.name.rsplit('/', 1)[0]}/image_raw"
        self._settle, self._patience = settle, patience
        self._images: deque[NDArray] = deque(maxlen=64)
        self._problem: BadMessage | None = None
        runtime.initialise([])
        self._node = rclpy.create_node("sensor_capture")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._clients: dict[str, Any] = {}
        self._before: dict[str, float] = {}
        self._skip = 0

    def __enter__(self) -> NodeCamera:
        try:
            self._before = {name: self._get(name) for name in ("exposure", "gain")}
            self._subscribe()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for name, value in self._before.items():
                self.set(name, value)
        finally:
            self.close()

    def close(self) -> None:
        """Leaves ROS; idempotent."""
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.try_shutdown()

    def expose(self, seconds: float) -> None:
        self.set("exposure", seconds)

    def frames(self, count: int) -> Sequence[NDArray]:
        """The next ``count`` images, those that were under way at the last change left out."""
        found: list[NDArray] = []
        self._images.clear()
        while len(found) < count:
            self._spin_until(
                lambda: bool(self._images), f"images on {self.topic}", "is the node active, the topic right?"
            )
            image = self._images.popleft()
            if self._skip > 0:
                self._skip -= 1
            else:
                found.append(image)
        return found

    def set(self, name: str, value: float) -> None:
        """Sets a parameter of the node; the next images are dropped, as ``settle`` says."""
        given = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=float(value))
        request = SetParameters.Request(parameters=[Parameter(name=name, value=given)])
        result = self._call(SetParameters, "set_parameters", request).results[0]
        if not result.successful:
            raise SensorDataError(f"{self.name} refuses {name} {value:g}: {result.reason}")
        self._skip = self._settle

    def _get(self, name: str) -> float:
        values = self._call(GetParameters, "get_parameters", GetParameters.Request(names=[name])).values
        if not values or values[0].type != ParameterType.PARAMETER_DOUBLE:  # none: not declared
            raise SensorDataError(
                f"{self.name} has no parameter {name!r}", "name edge_vision's camera node with --camera"
            )
        return values[0].double_value

    def _subscribe(self) -> None:
        """With the reliability of the topic's publishers, once there are some."""
        publishers: list[Any] = []

        def published() -> bool:
            publishers[:] = self._node.get_publishers_info_by_topic(self.topic)
            return bool(publishers)

        self._spin_until(published, f"publisher of {self.topic}", "name the topic with --topic")
        default = qos.IMAGE_INPUT.reliability
        reliability = qos.follow([info.qos_profile.reliability for info in publishers], default)
        profile = QoSProfile(depth=4, reliability=reliability, history=HistoryPolicy.KEEP_LAST)
        self._node.create_subscription(Image, self.topic, self._receive, profile, raw=True)

    def _receive(self, message: bytes) -> None:
        try:
            self._images.append(frame_from_serialized(message).image)
        except BadMessage as error:
            self._problem = error

    def _call(self, kind: type, service: str, request: Any) -> Any:
        client = self._clients.get(service)
        if client is None:
            client = self._clients[service] = self._node.create_client(kind, f"{self.name}/{service}")
        self._spin_until(
            client.service_is_ready, f"node {self.name}", "start the camera node, or name it with --camera"
        )
        deadline = time.monotonic() + self._patience
        while time.monotonic() < deadline:
            # Asked again now and then: DDS loses an answer whose reader it has not met yet.
            future = client.call_async(request)
            self._executor.spin_until_future_complete(future, _ASK_AGAIN_S)
            if future.done():
                return future.result()
        raise SensorDataError(f"{self.name} does not answer", "look at its log")

    def _spin_until(self, done: Callable[[], bool], what: str, remedy: str) -> None:
        deadline = time.monotonic() + self._patience
        while not done():
            if self._problem is not None:
                raise SensorDataError(f"{self.topic}: {self._problem}")
            if time.monotonic() > deadline:
                raise SensorDataError(f"no {what} within {self._patience:g} s", remedy)
            self._executor.spin_once(timeout_sec=0.05)
