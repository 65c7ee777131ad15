"""Processes that take part in a measurement, and the words that the measuring process has with them.

A child reads one JSON object a line, {"do": NAME, ...}, and answers each with one line. Nothing is sent while
something is being timed.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, Any

Handler = Callable[..., Any]
_END_S = 10.0


class ChildFailed(RuntimeError):
    """A process of the measurement ended or refused; the text says which, and its standard error says why."""


class Child:
    """A process running `<module>.<function>(options, conversation)`, ready to be asked."""

    def __init__(
        self, name: str, function: str, options: Mapping[str, Any], environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        code = "from edge_vision.benchmarks.child import run; run()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, function, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the parent, which ends its children in order
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests: IO[bytes] = self._process.stdin
        self._answers: IO[bytes] = self._process.stdout
        self._read = b""  # of answers, and not looked at yet

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, do: str, **arguments: Any) -> None:
        """Sends a request; the answer is to be read with `answer`."""
        try:
            self._requests.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        except OSError:
            raise self._ended() from None

    def answer(self, timeout_s: float | None = None) -> Any:
        """The next answer, None where none comes in time. Raises ChildFailed for an error, or where the child ends."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while b"\n" not in self._read:
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._answers], [], [], remaining)[0]:
                return None
            more = os.read(self._answers.fileno(), 1 << 20)
            if not more:
                raise self._ended()
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        answer = json.loads(line)
        if isinstance(answer, dict) and "error" in answer:
            raise ChildFailed(f"{self.name}: {answer['error']}")
        return answer

    def ask(self, do: str, **arguments: Any) -> Any:
        self.tell(do, **arguments)
        return self.answer()

    def close(self) -> None:
        """Ends the process, by force where it does not go."""
        with suppress(OSError):
            self._requests.close()  # end of its input: time to go
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        self._answers.close()

    def _ended(self) -> ChildFailed:
        code = self._process.wait()
        return ChildFailed(f"the process '{self.name}' has ended (exit code {code}); its messages above say why")


# --- the child's side ------------------------------------------------------------------------------------------------


class Conversation:
    """The requests on standard input, the answers on what was standard output; prints of libraries go to stderr."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def say(self, answer: Any) -> None:
        self._answers.write(json.dumps(answer) + "\n")

    def serve(self, handlers: Mapping[str, Handler]) -> None:
        """Answers requests until the input ends. A handler that returns None is not answered."""
        for line in sys.stdin:
            request = json.loads(line)
            handler = handlers[request.pop("do")]
            try:
                answer = handler(**request)
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            if answer is not None:
                self.say(answer)


def run() -> None:
    """The child's main: argv is FUNCTION (with its module) and the options as JSON."""
    from importlib import import_module

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    module, _, function = sys.argv[1].rpartition(".")
    conversation = Conversation()
    try:
        getattr(import_module(module), function)(json.loads(sys.argv[2]), conversation)
    except Exception as error:
        conversation.say({"error": f"{type(error).__name__}: {error}"})
        raise SystemExit(1) from error
