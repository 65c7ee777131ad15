"""Sources that come at their own pace: a thread of their own reads them and keeps only the newest frame."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from numpy.typing import NDArray

from edge_vision.datatypes import Frame
from edge_vision.sources.base import BaseSource, Sample, SourceError, SourceLost, encoding_of, resize

# How long close() waits for the thread; one that hangs in the driver releases the device itself when it comes back.
_CLOSE_WAIT = 1.0


class LiveCapture(BaseSource):
    """A camera or stream behind anything with OpenCV's VideoCapture manners.

    The thread alone opens, reads and releases the capture, so nothing ever touches it from two sides, and a driver or
    server that hangs holds up nobody: ``read`` and the constructor give up after ``read_timeout`` seconds. Frames that
    are not fetched in time are replaced (counted in ``dropped``), so that latency cannot build up; sequence numbers
    count the captured frames. Stamps are the system's time (ns since 1970) when the frame was grabbed.

    open_capture: returns the opened capture, or raises SourceError. Raises what it raises; SourceLost on a time-out.
    """

    live = True

    def __init__(
        self,
        uri: str,
        open_capture: Callable[[], Any],
        *,
        width: int | None = None,
        height: int | None = None,
        frame_id: str = "",
        read_timeout: float = 5.0,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(uri)
        self._open_capture = open_capture
        self._size = width, height
        self._frame_id = frame_id
        self._timeout = read_timeout
        self._now = now
        self._changed = threading.Condition()
        self._opened = False
        self._newest: tuple[NDArray, int, int] | None = None  # image, stamp, sequence
        self._failure: SourceError | None = None
        self._errands: deque[tuple[Callable[[Any], float], Future[float]]] = deque()
        # A daemon: a driver that never comes back must not keep the process alive.
        self._thread = threading.Thread(target=self._capture_frames, name=f"capture {self.uri}", daemon=True)
        self._thread.start()
        with self._changed:
            # FFmpeg's own time-out is the same and gives its reason: let it come first.
            self._changed.wait_for(lambda: self._opened or self._failure, read_timeout + 0.5)
            opened, failure = self._opened, self._failure
        if not opened:
            self.close()
            raise failure or SourceLost(
                f"{self.uri}: not open after {read_timeout:g} s: is it switched on and reachable?"
            )

    def read(self) -> Sample | None:
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._failure or self._closed.is_set(), self._timeout)
            if self._closed.is_set():
                return None
            if self._newest is None:
                raise self._failure or SourceLost(f"{self.uri}: no frame for {self._timeout:g} s")
            (image, stamp, sequence), self._newest = self._newest, None
        image = resize(image, *self._size)
        return Sample(Frame(image, stamp, self._frame_id, sequence, encoding_of(image)))

    def close(self) -> None:
        super().close()
        with self._changed:
            self._newest = None
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(_CLOSE_WAIT)

    def ask(self, errand: Callable[[Any], float]) -> float:
        """Has the reading thread call ``errand(capture)`` between two frames; its result. Raises what it raises, and
        SourceLost where the thread does not come to it within ``read_timeout`` seconds."""
        answer: Future[float] = Future()
        self._errands.append((errand, answer))
        if not self._thread.is_alive():
            raise self._failure or SourceLost(f"{self.uri}: closed")
        try:
            return answer.result(self._timeout)
        except FutureTimeout:
            raise SourceLost(f"{self.uri}: no answer for {self._timeout:g} s") from None

    def _run_errands(self, capture: Any) -> None:
        while self._errands:
            errand, answer = self._errands.popleft()
            try:
                answer.set_result(errand(capture))
            except Exception as error:  # for whoever asked
                answer.set_exception(error)

    def describe(self, capture: Any) -> None:
        """Called once when open, in the reading thread: fill in ``description``, ``rate``, ``warnings``."""

    def _capture_frames(self) -> None:
        capture = None
        try:
            capture = self._open_capture()
            self.describe(capture)
            with self._changed:
                self._opened = True
                self._changed.notify_all()
            sequence = 0
            while not self._closed.is_set():
                self._run_errands(capture)
                grabbed = capture.grab()
                stamp = self._now()
                ok, image = capture.retrieve() if grabbed else (False, None)
                if not ok:
                    raise SourceLost(f"{self.uri}: gives no more frames (unplugged, switched off or ended)")
                assert image is not None
                with self._changed:
                    if self._closed.is_set():
                        break
                    if self._newest is not None:
                        self.dropped += 1
                    self._newest = (image, stamp, sequence)
                    self._changed.notify_all()
                sequence += 1
        except SourceError as error:
            self._fail(error)
        except Exception as error:  # of the driver's binding: whoever reads must hear of it
            self._fail(SourceLost(f"{self.uri}: {type(error).__name__}: {error}"))
        finally:
            if capture is not None:
                capture.release()
            while self._errands:
                self._errands.popleft()[1].set_exception(self._failure or SourceLost(f"{self.uri}: closed"))

    def _fail(self, error: SourceError) -> None:
        with self._changed:
            self._failure = error
            self._changed.notify_all()
