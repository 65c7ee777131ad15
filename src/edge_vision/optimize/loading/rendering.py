"""Scenes of the twin rendered by two processes, one clip a task."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

import cv2

import edge_vision.simulation as simulation
from edge_vision.optimize.loading.keeping import Item, sources_digest
from edge_vision.optimize.passes import Bar

PROCESSES = 2
_ALONE = 40  # images below which starting processes takes longer than rendering
_AHEAD = 4 * PROCESSES  # clips that wait to be taken: what is not bounded would hold all in memory

T = TypeVar("T")


def rendered(
    render: Callable[[T], list[Item]], clips: Sequence[T], images: int, bar: Bar | None = None
) -> Iterator[Item]:
    """The images of all clips, in their order. render: a function of a module; images: how many there will be.
    bar: is updated with 1 for every image."""
    for part in _parts(render, clips, images):
        for item in part:
            yield item
            if bar is not None:
                bar.update(1)


def _parts(render: Callable[[T], list[Item]], clips: Sequence[T], images: int) -> Iterator[list[Item]]:
    done = 0
    if images > _ALONE:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(PROCESSES, context, initializer=cv2.setNumThreads, initargs=(1,))
        try:
            waiting: list[Future[list[Item]]] = []
            for clip in clips:
                waiting.append(pool.submit(render, clip))
                if len(waiting) >= _AHEAD:
                    part = waiting.pop(0).result()
                    done += 1
                    yield part
            for future in waiting:
                part = future.result()
                done += 1
                yield part
        except BrokenProcessPool:
            pass  # a main module that cannot be imported again (an interactive session): rendered here
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    for clip in clips[done:]:
        yield render(clip)


def twin_digest() -> str:
    """Changes when the twin, or what makes data of it, is changed."""
    return sources_digest([Path(simulation.__file__).parent, Path(__file__).parent])
