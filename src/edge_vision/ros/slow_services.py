"""Services whose answer takes long: the work is done on a thread of its own while the executor serves ROS.

rclpy answers a request with what the callback returns, within the executor's own thread; its events executor does not
await coroutines in services (rclpy 7.1), and a callback that waits for an answer of another service would wait for
ever. Here the callback returns a promise, which is kept with the request's header; the true answer follows when the
work is done, on the executor's thread again. The caller (``ros2 service call``) sees a service like any other.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from rclpy.node import Node

from edge_vision.datatypes import Outcome

T = TypeVar("T")

_MOST_WAITING = 8  # requests of one service that are worked on or wait at a time


class _Promise:
    """Stands for a response that is not there yet."""

    def __init__(self) -> None:
        self.header: Any = None


class SlowService:
    """A service whose response has `success` and `message` (std_srvs/Trigger and the like), worked on by threads.

    To be made and closed on the executor's thread. Requests are worked on at the same time: what must not be is for
    `work` to see to. Where they are `joined`, one that equals another that is being worked on gets that one's answer:
    callers that lost patience, and those whose answer DDS lost, ask again, and the work would only pile up.
    """

    def __init__(
        self,
        node: Node,
        kind: Any,
        name: str,
        work: Callable[[Any], Outcome],
        call_soon: Callable[[Callable[[], None]], None],
        *,
        joined: bool = False,
    ) -> None:
        """kind: the service's type. work: gets the request. call_soon: has the executor's thread call a function."""
        self._node = node
        self._work = work
        self._call_soon = call_soon
        self._joined = joined
        self._waiting: list[tuple[Any, list[tuple[Any, _Promise]]]] = []  # requests, and who gets the answer
        service: Any = node.create_service(kind, name, self._take)
        send = service.send_response

        def send_or_keep(response: Any, header: Any) -> None:
            if isinstance(response, _Promise):
                response.header = header
            else:
                send(response, header)

        service.send_response = send_or_keep
        self._service = service

    def close(self) -> None:
        """The service goes; who still waits for an answer gets none."""
        if self._service is not None:
            self._node.destroy_service(self._service)
            self._service = None

    def _take(self, request: Any, response: Any) -> Any:
        promise = _Promise()
        if self._joined:
            for other, callers in self._waiting:
                if other == request:
                    callers.append((response, promise))
                    return promise
        if len(self._waiting) >= _MOST_WAITING:
            return _fill(response, Outcome(False, f"{_MOST_WAITING} such requests are waiting; try again later"))
        task = request, [(response, promise)]
        self._waiting.append(task)
        threading.Thread(target=self._run, args=(task,), name="service", daemon=True).start()
        return promise

    def _run(self, task: tuple[Any, list[tuple[Any, _Promise]]]) -> None:
        try:
            outcome = self._work(task[0])
        except Exception as error:  # told to whoever asked
            self._node.get_logger().error(traceback.format_exc())
            outcome = Outcome(False, f"{type(error).__name__}: {error}")
        self._call_soon(lambda: self._answer(task, outcome))

    def _answer(self, task: tuple[Any, list[tuple[Any, _Promise]]], outcome: Outcome) -> None:
        """On the executor's thread, after the callbacks that made the promises."""
        self._waiting = [each for each in self._waiting if each is not task]
        for response, promise in task[1]:
            if self._service is None:
                return
            try:
                self._service.send_response(_fill(response, outcome), promise.header)
            except Exception as error:  # who asked may have gone
                self._node.get_logger().warning(f"an answer of {self._service.srv_name} was not sent: {error}")


def _fill(response: Any, outcome: Outcome) -> Any:
    response.success, response.message = outcome.success, outcome.message
    return response


def on_executor(call_soon: Callable[[Callable[[], None]], None], function: Callable[[], T], timeout: float) -> T:
    """What `function` returns (or raises) when the executor's thread calls it; for other threads.

    Raises TimeoutError where that did not come to it, which is at the end of the process.
    """
    done = threading.Event()
    result: list[T] = []
    failure: list[Exception] = []

    def call() -> None:
        try:
            result.append(function())
        except Exception as error:
            failure.append(error)
        done.set()

    call_soon(call)
    if not done.wait(timeout):
        raise TimeoutError("the process is ending, or busy for long")
    if failure:
        raise failure[0]
    return result[0]
