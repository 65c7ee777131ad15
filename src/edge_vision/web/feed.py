"""A value that several listeners wait for, asked for only while there are any."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")

_LOG = logging.getLogger(__name__)
_LINGER = 1.0  # seconds: who asks for one value after another is a listener also between two of them


class Feed(Generic[T]):
    """Calls ``take`` in ``executor`` every ``interval`` seconds while somebody listens, and wakes the listeners when
    its value has changed. Whoever is slow gets the newest and misses those between. Of one event loop.
    """

    def __init__(self, take: Callable[[], T], interval: float, executor: Executor) -> None:
        self._take = take
        self._interval = interval
        self._executor = executor
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._listeners = 0
        self._left = 0.0
        self._fresh = False
        self._value: T | None = None
        self._version = 0
        self.closed = False

    @property
    def listeners(self) -> int:
        return self._listeners

    @contextmanager
    def listening(self) -> Iterator[None]:
        self._listeners += 1
        if self._task is None and not self.closed:
            self._fresh = False  # what is left of the last listener is old
            self._task = asyncio.get_running_loop().create_task(self._run())
        try:
            yield
        finally:
            self._listeners -= 1
            self._left = time.monotonic()

    async def newer(self, version: int, timeout: float) -> tuple[int, T] | None:
        """The newest value with its version once that is another than ``version``; None: nothing new in ``timeout``
        seconds, or the feed was closed. To be called while `listening`. Versions start at 1.
        """
        end = time.monotonic() + timeout
        while not self.closed:
            if self._fresh and self._value is not None and self._version != version:
                return self._version, self._value
            try:
                await asyncio.wait_for(self._changed.wait(), end - time.monotonic())
            except asyncio.TimeoutError:
                return None
        return None

    def close(self) -> None:
        self.closed = True
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._wake()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        told = ""
        while self._listeners or time.monotonic() - self._left < _LINGER:
            started = time.monotonic()
            try:
                value = await loop.run_in_executor(self._executor, self._take)
            except Exception as error:
                if str(error) != told:
                    _LOG.exception("The page's %s failed", getattr(self._take, "__name__", "source"))
                    told = str(error)
            else:
                if value != self._value:
                    self._value = value
                    self._version += 1
                    self._wake()
                elif not self._fresh:
                    self._wake()
                self._fresh = True
            await asyncio.sleep(max(0.0, self._interval - (time.monotonic() - started)))
        self._task = None

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
