"""Where an input waits for the thread of its node.

A mailbox belongs to one node's event queue: it puts itself there when it has something, and the node's worker takes it
out. `queue.SimpleQueue` is C, so a hand-over between threads is a reference and one wake-up.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

EMPTY = object()


class Latest:
    """Holds the newest item only; an item replaced before it was taken counts as dropped.

    Between `hold` and `release` it is patient: up to so many items wait, in order, for as long as there is a backlog.
    """

    def __init__(self, events: SimpleQueue, callback: Callable[[Any], None]):
        self._events = events
        self.callback = callback
        self._lock = threading.Lock()
        self._items: deque[Any] = deque()
        self._depth = 1
        self._held = False
        self.dropped = 0

    def offer(self, item: Any) -> None:
        with self._lock:
            waiting = len(self._items)
            self._items.append(item)
            if waiting >= self._depth:  # the event of the one that goes stands for the one that came
                self._items.popleft()
                self.dropped += 1
                return
        self._events.put(self)

    def take(self) -> Any:
        with self._lock:
            item = self._items.popleft() if self._items else EMPTY
            if not self._items and not self._held:
                self._depth = 1
        return item

    def hold(self, depth: int) -> None:
        """From now on up to `depth` items wait."""
        with self._lock:
            self._held, self._depth = True, depth

    def release(self) -> None:
        """The newest alone again, once what waits has been taken."""
        with self._lock:
            self._held = False
            if not self._items:
                self._depth = 1

    def done(self) -> None:
        """The item taken last has been dealt with."""

    def open(self) -> None:
        """Begins empty, also of what a publisher offered while it was being closed."""
        with self._lock:
            self._items.clear()

    def close(self) -> None:
        self.open()

    def __len__(self) -> int:
        return len(self._items)


_BURST = 10  # what comes at once over DDS, as deep as its own queue


class Every:
    """Holds items in order; `offer` waits while `depth` of them are not dealt with (back-pressure).

    A thread that must not wait (`wait=False`, the ROS executor) may go beyond that, up to `_BURST` items that wait;
    then the newest is dropped.
    """

    def __init__(self, events: SimpleQueue, callback: Callable[[Any], None], depth: int = 4):
        self._events = events
        self.callback = callback
        self._items: deque[Any] = deque()
        self._depth = depth
        self._free = threading.Semaphore(depth)
        self._taken_within_depth = True
        self._closed = False
        self.dropped = 0

    def offer(self, item: Any, wait: bool = True) -> None:
        within_depth = self._free.acquire(blocking=wait)
        if not within_depth and len(self._items) >= _BURST:
            self.dropped += 1
            return
        if self._closed:
            if within_depth:
                self._free.release()
            return
        self._items.append((item, within_depth))
        self._events.put(self)

    def take(self) -> Any:
        try:
            item, self._taken_within_depth = self._items.popleft()
        except IndexError:
            return EMPTY
        return item

    def done(self) -> None:
        if self._taken_within_depth:
            self._free.release()

    def hold(self, depth: int) -> None:
        """Every item waits anyway."""

    def release(self) -> None:
        """See `hold`."""

    def close(self) -> None:
        """Drops what waits and lets go of whoever waits to offer."""
        self._closed = True
        self._items.clear()
        self._free.release(64)

    def open(self) -> None:
        self._items.clear()  # what a publisher offered while it was being closed
        self._free = threading.Semaphore(self._depth)
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)


Mailbox = Latest | Every
