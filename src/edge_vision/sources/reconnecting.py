"""A source that comes back by itself."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace

from edge_vision.datatypes import CameraInfo
from edge_vision.sources.base import Sample, Source, SourceError, SourceLost

Report = Callable[[str, str], None]
"""Takes a level (``info`` or ``warning``) and a message for people."""


class Reconnecting:
    """Opens a source, and again whenever it is lost: after ``first_delay`` seconds, then twice as long each time.

    A `Source` itself. It opens with the first ``read``, or with ``connect`` for those who want to learn at once of
    what no retry can mend. Every loss and failed attempt is reported once through ``on_event``, with what went wrong
    and when the next attempt follows; so is the return. Permanent errors (SourceError, which recorded sources raise)
    pass through. Sequence numbers go on over reconnects. ``stop`` closes it, and both that and ``close`` end a waiting
    ``read`` at once, with None. The delay starts from ``first_delay`` again when a frame has come.
    """

    def __init__(
        self,
        open: Callable[[], Source],
        *,
        first_delay: float = 0.5,
        max_delay: float = 10.0,
        on_event: Report = lambda level, message: None,
        stop: threading.Event | None = None,
    ) -> None:
        self._open = open
        self._first_delay = first_delay
        self._max_delay = max_delay
        self._report = on_event
        self.losses = 0
        self._changed = threading.Condition()
        self._closed = False
        self._source: Source | None = None
        self._known: Source | None = None  # the newest that was open: what there is to say about the source
        self._delay = first_delay
        self._pause: float | None = None  # seconds to wait before the next attempt
        self._attempt = 0  # since the source was lost
        self._lost_at: float | None = None
        self._base = 0  # what the sequence numbers of this source are counted from
        self._next_sequence = 0
        self._past_dropped = 0
        self._past_warnings: list[str] = []
        if stop is not None:
            watch = threading.Thread(target=_close_on, args=(stop, weakref.ref(self)), name="stop source", daemon=True)
            watch.start()

    @property
    def uri(self) -> str:
        return self._known.uri if self._known else ""

    @property
    def description(self) -> str:
        return self._known.description if self._known else "a source that was not open yet"

    @property
    def live(self) -> bool:
        return self._known.live if self._known else True

    @property
    def rate(self) -> float | None:
        return self._known.rate if self._known else None

    @property
    def length(self) -> int | None:
        return self._known.length if self._known else None

    @property
    def dropped(self) -> int:
        source = self._source
        return self._past_dropped + (source.dropped if source else 0)

    @property
    def warnings(self) -> list[str]:
        source = self._source
        now = source.warnings if source else []
        return self._past_warnings + [text for text in now if text not in self._past_warnings]

    @property
    def connected(self) -> bool:
        return self._source is not None

    def camera_info(self) -> CameraInfo | None:
        return self._known.camera_info() if self._known else None

    def controls(self) -> Mapping[str, float]:
        source = self._source
        return source.controls() if source else {}

    def set_control(self, name: str, value: float) -> float:
        source = self._source
        if source is None:
            raise SourceLost(f"{self.description}: not open now; its {name} can be set when it is back")
        return source.set_control(name, value)

    def connect(self) -> bool:
        """One attempt where it is not open: whether it is now. Raises SourceError for what no retry can mend."""
        if self._source is not None:
            return True
        self._attempt += 1
        try:
            source = self._open_or_close()
        except SourceLost as error:
            if self._lost_at is None:
                self._lost_at = time.monotonic()
            self._schedule(f"{error} (attempt {self._attempt})")
            return False
        if source is None:
            return False
        if self._lost_at is not None:
            away = time.monotonic() - self._lost_at
            self._report("info", f"{source.description}: open after {away:.1f} s (attempt {self._attempt})")
        self._lost_at = None
        self._attempt = 0
        return True

    def read(self) -> Sample | None:
        while not self._closed:
            if self._pause is not None:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, self._pause)
                self._pause = None
                continue
            if not self.connect():
                continue
            source = self._source
            if source is None:
                break
            try:
                sample = source.read()
            except SourceLost as error:
                self._lose(source, error)
                continue
            if sample is None:
                break
            self._delay = self._first_delay
            return self._numbered(sample)
        return None

    def close(self) -> None:
        with self._changed:
            self._closed = True
            source, self._source = self._source, None
            self._changed.notify_all()
        if source is not None:
            self._retire(source)

    def __enter__(self) -> Reconnecting:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_or_close(self) -> Source | None:
        """The source, open; None when closed meanwhile. Raises what opening raises.

        Opening may hang for as long as a server's time-out, so it gets a thread that can be left to itself.
        """
        outcome: list[Source | Exception] = []
        abandoned = False

        def run() -> None:
            try:
                result: Source | Exception = self._open()
            except Exception as error:
                result = error
            with self._changed:
                outcome.append(result)
                self._changed.notify_all()
                late = abandoned
            if late and not isinstance(result, Exception):
                result.close()

        threading.Thread(target=run, name="open source", daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: outcome or self._closed)
            if not outcome:
                abandoned = True
                return None
            result = outcome[0]
            if isinstance(result, Exception):
                raise result
            if not self._closed:
                self._source = self._known = result
                self._base = self._next_sequence
                return result
        result.close()
        return None

    def _lose(self, source: Source, error: SourceError) -> None:
        with self._changed:
            if self._closed:
                return
            self._source = None
        self._retire(source)
        self.losses += 1
        self._lost_at = time.monotonic()
        self._schedule(str(error))

    def _schedule(self, what: str) -> None:
        self._pause = self._delay
        self._report("warning", f"{what}; trying again in {self._delay:g} s")
        self._delay = min(2 * self._delay, self._max_delay)

    def _retire(self, source: Source) -> None:
        source.close()
        self._past_dropped += source.dropped
        self._past_warnings += [text for text in source.warnings if text not in self._past_warnings]

    def _numbered(self, sample: Sample) -> Sample:
        sequence = self._base + sample.frame.sequence
        self._next_sequence = sequence + 1
        if self._base == 0:
            return sample
        return Sample(replace(sample.frame, sequence=sequence), sample.truth)


def _close_on(stop: threading.Event, source: weakref.ref[Reconnecting]) -> None:
    stop.wait()
    alive = source()
    if alive is not None:
        alive.close()
