"""Parameter services whose answer may take long: the work is done on a thread of its own while the node goes on.

rclpy answers a request to set parameters within the executor's callback, so that loading a model there would keep the
whole process from serving ROS: images of other processes would be lost meanwhile. Its events executor does not await
coroutines in services (rclpy 7.1); what it does is to send what the callback returns. Here the callback may return a
promise instead, which is kept with the request's header and answered later, on the executor's thread again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.parameter_service import ParameterService

Work = Callable[[], None]


class Preparing(Protocol):
    """What a node offers: the long part of a change, None where it has none. Raises nothing; the work may."""

    def preparation(self, updates: Sequence[Parameter]) -> Work | None: ...

    def refusal(self, error: Exception) -> str: ...


class _Promise:
    """Stands for a response that is not there yet."""

    def __init__(self) -> None:
        self.header: Any = None


class LiveParameterService(ParameterService):
    """rclpy's parameter services, but for long changes: see the module. One long change at a time; others are refused
    meanwhile, short ones are not."""

    def __init__(self, node: Node, preparing: Preparing, call_soon: Callable[[Callable[[], None]], None]) -> None:
        """call_soon: has the executor's thread call a function; may be called by any thread."""
        self._preparing = preparing
        self._call_soon = call_soon
        self._finish: Callable[[], None] | None = None  # there while a long change is being prepared
        known = set(node.services)
        super().__init__(node)
        for service in node.services:
            if service not in known and service.srv_type in (SetParameters, SetParametersAtomically):
                self._allow_promises(service)

    @staticmethod
    def _allow_promises(service: Any) -> None:
        send = service.send_response

        def send_or_keep(response: Any, header: Any) -> None:
            if isinstance(response, _Promise):
                response.header = header
            else:
                send(response, header)

        service.send_response = send_or_keep

    def _set_parameters_callback(self, request: Any, response: Any) -> Any:
        waiting = [[Parameter.from_parameter_msg(message)] for message in request.parameters]
        return self._answer(SetParameters, waiting, response.results.append, response)

    def _set_parameters_atomically_callback(self, request: Any, response: Any) -> Any:
        def take(result: SetParametersResult) -> None:
            response.result = result

        together = [Parameter.from_parameter_msg(message) for message in request.parameters]
        return self._answer(SetParametersAtomically, [together], take, response)

    def _answer(
        self,
        kind: type,
        waiting: list[list[Parameter]],
        take: Callable[[SetParametersResult], Any],
        response: Any,
        promise: _Promise | None = None,
    ) -> Any:
        """Set each group of `waiting`; the response, or a promise of it from the first that takes long."""
        while waiting:
            updates = waiting.pop(0)
            work = self._preparing.preparation(updates)
            if work is None:
                take(self._set(updates))
                continue
            if self._finish is not None:
                reason = "another change of the kind is being made; try again in a moment"
                take(SetParametersResult(successful=False, reason=reason))
                continue
            promise = promise or _Promise()
            self._prepare(work, updates, take, partial(self._answer, kind, waiting, take, response, promise))
            return promise
        if promise is not None:
            service = next(s for s in self._get_node().services if s.srv_type is kind)
            service.send_response(response, promise.header)
        return response

    def _prepare(
        self, work: Work, updates: list[Parameter], take: Callable[[SetParametersResult], Any], then: Callable[[], Any]
    ) -> None:
        failure: list[Exception] = []

        def run() -> None:
            try:
                work()
            except Exception as error:  # told to whoever asked for the change
                failure.append(error)
            self._call_soon(self._continue)

        def finish() -> None:
            if failure:
                take(SetParametersResult(successful=False, reason=self._preparing.refusal(failure[0])))
            else:
                take(self._set(updates))
            then()

        self._finish = finish
        threading.Thread(target=run, name="prepare", daemon=True).start()

    def _continue(self) -> None:
        finish, self._finish = self._finish, None
        if finish is not None:
            finish()

    def _set(self, updates: list[Parameter]) -> SetParametersResult:
        try:
            return self._get_node().set_parameters_atomically(updates)
        except Exception as error:  # not declared, or of a type that ROS refuses
            return SetParametersResult(successful=False, reason=str(error))
