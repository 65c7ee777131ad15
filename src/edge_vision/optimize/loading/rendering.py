"""Scenes of the twin rendered by two processes, one clip a task.

The processes run `serve`: multiprocessing's own would import the caller's main module again, which a script without
a guard, or an interactive session, does not stand.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import cv2

import edge_vision.simulation as simulation
from edge_vision.optimize.loading.keeping import Item, sources_digest
from edge_vision.optimize.passes import Bar

PROCESSES = 2
_ALONE = 40  # images below which starting processes takes longer than rendering
_AHEAD = 3 * PROCESSES  # clips that are given out before the first of them is taken

T = TypeVar("T")


def rendered(
    render: Callable[[T], list[Item]], clips: Sequence[T], images: int, bar: Bar | None = None
) -> Iterator[Item]:
    """The images of all clips, in their order. render: a function of a module; images: how many there will be.
    bar: is updated with 1 for every image. What a process raises is raised here."""
    parts = _parts(render, clips) if images > _ALONE else map(render, clips)
    for part in parts:
        for item in part:
            yield item
            if bar is not None:
                bar.update(1)


def _parts(render: Callable[[T], list[Item]], clips: Sequence[T]) -> Iterator[list[Item]]:
    with ExitStack() as stack:
        workers = [stack.enter_context(_Worker(render)) for _ in range(PROCESSES)]
        for place in range(len(clips) + _AHEAD):
            if place < len(clips):
                workers[place % PROCESSES].give(clips[place])
            if 0 <= place - _AHEAD < len(clips):
                yield workers[(place - _AHEAD) % PROCESSES].take()


class _Worker:
    """A process that renders what it is given, in that order."""

    def __init__(self, render: Callable[[T], list[Item]]) -> None:
        paths = [path or os.getcwd() for path in sys.path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, "-c", f"from {__name__} import serve; serve()"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self._write(render)

    def give(self, clip: object) -> None:
        self._write(clip)

    def take(self) -> list[Item]:
        assert self._process.stdout is not None
        try:
            result = pickle.load(self._process.stdout)
        except EOFError:
            code = self._process.wait()
            raise OSError(f"the process that renders the twin ended with status {code}") from None
        if isinstance(result, Exception):
            raise result
        return result

    def _write(self, thing: object) -> None:
        assert self._process.stdin is not None
        pickle.dump(thing, self._process.stdin)
        self._process.stdin.flush()

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait()


def serve() -> None:
    """What the process does: a function first, then clips, until its input ends."""
    tasks, results = sys.stdin.buffer, sys.stdout.buffer
    cv2.setNumThreads(1)
    render: Callable[[object], list[Item]] = pickle.load(tasks)
    while True:
        try:
            clip = pickle.load(tasks)
        except EOFError:
            return
        try:
            result: list[Item] | Exception = render(clip)
        except Exception as error:  # told to who asked
            result = error
        pickle.dump(result, results, protocol=pickle.HIGHEST_PROTOCOL)
        results.flush()


def twin_digest(*modules: str) -> str:
    """Changes when the twin is changed, or one of the files that make data of it."""
    return sources_digest([Path(simulation.__file__).parent, *map(Path, modules)])
