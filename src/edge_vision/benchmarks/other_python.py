"""A child of another interpreter, bare but for what is compared: a request a line (JSON), an answer a line.

It finds the modules of ours that it needs by the folder of this package alone, so that nothing else of this environment
gets into its.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import edge_vision

_CODE = """
import importlib, sys, types
package = types.ModuleType("edge_vision")
package.__path__ = [sys.argv[1]]
sys.modules["edge_vision"] = package
importlib.import_module(sys.argv[2]).serve()
"""


class PeerFailed(RuntimeError):
    """An interpreter for peers cannot be used, or a peer ended with an error; the text says which and why."""


class OtherPython:
    """python: path of the interpreter; module: whose `serve` is the child's main; environ: set for it besides ours.

    scratch: a folder for what is too large for a line, gone with the child. Raises PeerFailed where it cannot start.
    """

    def __init__(self, python: str, module: str, environ: Mapping[str, str] | None = None) -> None:
        self.python = python
        self._folder = tempfile.TemporaryDirectory(prefix="edge_vision_peer_")
        self.scratch = Path(self._folder.name)
        try:
            self._process = subprocess.Popen(
                [python, "-c", _CODE, str(Path(edge_vision.__path__[0]).resolve()), module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | dict(environ or {}),
            )
        except OSError as error:
            self._folder.cleanup()
            raise PeerFailed(f"{python} cannot be started: {error.strerror}; give the path of a Python") from None

    def __enter__(self) -> OtherPython:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, **request: Any) -> Any:
        """The answer to a request. Raises PeerFailed where it is an error, or none because the child has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):  # it has ended; the empty answer tells
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise PeerFailed(f"{self.python} has ended (exit code {code}); its messages above say why")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerFailed(f"{self.python}: {answer['error']}")
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]], told: Callable[[Exception], str]) -> None:
    """A child's main loop: `answer` to each request, `told` of what it raises."""
    answers, sys.stdout = sys.stdout, sys.stderr  # prints of libraries are no answers
    for line in sys.stdin:
        try:
            found = answer(json.loads(line))
        except Exception as error:
            found = {"error": told(error)}
        answers.write(json.dumps(found) + "\n")
        answers.flush()
