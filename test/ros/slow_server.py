"""A process for test_slow_services: a node with a slow service, one that fails, and a quick one, over one executor."""

from __future__ import annotations

import sys
import time

import rclpy
from rclpy.executors import SingleThreadedExecutor
from std_srvs.srv import Trigger

from edge_vision.datatypes import Outcome
from edge_vision.ros.container import Container
from edge_vision.ros.slow_services import SlowService, on_executor


class Loop(Container):
    """The container's way to call functions on the executor's thread, without its nodes."""

    def __init__(self, events: bool) -> None:
        super().__init__()
        if not events:
            self._executor = SingleThreadedExecutor()

    def serve(self, node) -> None:
        self._executor.add_node(node)
        self.spin()


def main() -> None:
    rclpy.init()
    node = rclpy.create_node("slow")
    loop = Loop(events=sys.argv[1] == "events")
    # What the slow one waits for is an answer to this node: it comes only where the executor is not held up.
    client = node.create_client(Trigger, "/helper")
    answers: list[str] = []

    def slow(_: Trigger.Request) -> Outcome:
        time.sleep(1.0)
        future = on_executor(loop.call_soon, lambda: client.call_async(Trigger.Request()), 10)
        while not future.done():
            time.sleep(0.01)
        answers.append(future.result().message)
        return Outcome(True, f"{answers[-1]}, {len(answers)} times")

    def failing(_: Trigger.Request) -> Outcome:
        raise KeyError("left")

    def quick(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = True, f"{len(answers)} answers by now"
        return response

    services = [
        SlowService(node, Trigger, "/slow", slow, loop.call_soon),
        SlowService(node, Trigger, "/joined", slow, loop.call_soon, joined=True),
        SlowService(node, Trigger, "/failing", failing, loop.call_soon),
    ]
    node.create_service(Trigger, "/quick", quick)
    print("serving")
    loop.serve(node)
    for service in services:
        service.close()
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
