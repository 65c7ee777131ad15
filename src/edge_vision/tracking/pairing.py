"""Results and the images they are of, which come on two topics and not always in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from edge_vision.datatypes import Detections, Frame

Deliver = Callable[[Detections, Frame | None], None]


class StampPairs:
    """Delivers detections in the order of their coming, each with the frame of its stamp or with None.

    The newest ``depth`` frames are kept; more, up to ``most``, where detections come so late that theirs had to go.
    Detections whose frame is not there yet wait for it, but not beyond the next detections, nor beyond a later frame
    (images of one topic come in order, so it was lost), nor at all once ``patience`` of them in a row had none: then
    nobody publishes the images. Who has a clock ends the wait of the last ones (`give_up`).

    missed: detections delivered without a frame.
    """

    def __init__(self, deliver: Deliver, depth: int = 8, patience: int = 3, most: int = 32) -> None:
        self._deliver = deliver
        self._depth, self._patience, self._most = depth, patience, max(most, depth)
        self._frames: dict[int, Frame] = {}
        self._gone: deque[int] = deque(maxlen=self._most)  # stamps of frames that had to go for newer ones
        self._waiting: deque[Detections] = deque()
        self._in_a_row = 0
        self.missed = 0

    def add_frame(self, frame: Frame) -> None:
        self._frames.pop(frame.stamp, None)  # so that a stamp that comes again is the newest
        self._frames[frame.stamp] = frame
        if len(self._frames) > self._depth:
            oldest = next(iter(self._frames))
            del self._frames[oldest]
            self._gone.append(oldest)
        self._flush(frame.stamp)

    def add_detections(self, detections: Detections) -> None:
        self._waiting.append(detections)
        self._flush(None)

    @property
    def waiting(self) -> Detections | None:
        """What waits for its frame. May be asked by any thread."""
        waiting = tuple(self._waiting)
        return waiting[0] if waiting else None

    def give_up(self, detections: Detections) -> None:
        """Delivers these without a frame, if they still wait."""
        if self.waiting is detections:
            self._waiting.popleft()
            self._missed(detections)

    def forget(self) -> None:
        """Delivers what waits, and drops all frames."""
        if self.waiting is not None:
            self.give_up(self.waiting)
        self._frames.clear()

    def _flush(self, came: int | None) -> None:
        """came: stamp of the frame that has just come."""
        while self._waiting:
            detections = self._waiting[0]
            frame = self._frames.get(detections.stamp)
            if frame is None and self._may_come(detections.stamp, came):
                return
            self._waiting.popleft()
            if frame is None:
                self._missed(detections)
                continue
            self._in_a_row = 0
            for stamp in [stamp for stamp in self._frames if stamp < detections.stamp]:
                del self._frames[stamp]
            self._deliver(detections, frame)

    def _missed(self, detections: Detections) -> None:
        self.missed += 1
        self._in_a_row += 1
        if detections.stamp in self._gone:
            self._depth = min(2 * self._depth, self._most)
            self._gone.clear()
        self._deliver(detections, None)

    def _may_come(self, stamp: int, came: int | None) -> bool:
        newest = next(reversed(self._frames), None) if came is None else came
        return len(self._waiting) == 1 and self._in_a_row < self._patience and (newest is None or newest < stamp)
