"""A service that takes long: its caller gets the true answer, and the node serves others meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from std_srvs.srv import Trigger


@pytest.mark.parametrize("executor", ["events", "single"])
def test_the_answer_comes_when_it_is_known_and_others_are_served_meanwhile(observer, start, executor) -> None:
    process = start.script(Path(__file__).parent / "slow_server.py", executor)
    process.wait_for_log("serving")
    node = observer.node
    helper = node.create_service(Trigger, "/helper", _help)
    clients = {name: node.create_client(Trigger, f"/{name}") for name in ("slow", "joined", "quick", "failing")}
    try:
        for client in clients.values():
            observer.spin_until(client.service_is_ready, client.srv_name, process)
        observer.spin_until(lambda: observer.call(Trigger, "/quick", Trigger.Request()).success, "an answer", process)
        two = [clients["slow"].call_async(Trigger.Request()) for _ in range(2)]
        quick = clients["quick"].call_async(Trigger.Request())
        observer.spin_until(quick.done, "the quick answer", process)
        assert quick.result().message == "0 answers by now"
        assert not two[0].done()
        observer.spin_until(lambda: all(f.done() for f in two), "the slow answers", process)
        assert {f.result().message for f in two} == {"help is here, 1 times", "help is here, 2 times"}
        two = [clients["joined"].call_async(Trigger.Request()) for _ in range(2)]
        observer.spin_until(lambda: all(f.done() for f in two), "the joined answers", process)
        assert {f.result().message for f in two} == {"help is here, 3 times"}, "the work was done once for both"
        failed = observer.call(Trigger, "/failing", Trigger.Request())
        assert (failed.success, failed.message) == (False, "KeyError: 'left'")
        process.wait_for_log("KeyError: 'left'")
        assert observer.call(Trigger, "/quick", Trigger.Request()).message == "3 answers by now"
    finally:
        for client in clients.values():
            node.destroy_client(client)
        node.destroy_service(helper)
    assert process.stop() == 0


def _help(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
    response.success, response.message = True, "help is here"
    return response
