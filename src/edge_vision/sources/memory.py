"""Frames held in memory, for measurements and tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edge_vision.datatypes import NS_PER_S, CameraInfo, Frame
from edge_vision.sources.base import BaseSource, Clock, Sample


class MemorySource(BaseSource):
    """Replays samples: with ``fps`` at that even rate from ``start_stamp`` on, else with the stamps they have.

    Looped, stamps and sequence numbers go on: a next pass begins one frame period after the last frame.
    The images are handed out as they are, not copied. Raises ValueError for no samples.
    """

    def __init__(
        self,
        samples: Sequence[Sample | Frame],
        loop: bool = False,
        fps: float | None = None,
        *,
        start_stamp: int = 0,
        camera_info: CameraInfo | None = None,
    ) -> None:
        if not samples:
            raise ValueError("a MemorySource needs at least one sample")
        super().__init__("memory://")
        self._samples = [item if isinstance(item, Sample) else Sample(item) for item in samples]
        self._loop = loop
        self._even = fps is not None
        self._info = camera_info
        self._index = 0
        self._sequence = 0
        first, last = self._samples[0].frame.stamp, self._samples[-1].frame.stamp
        own_rate = (len(samples) - 1) * NS_PER_S / (last - first) if last > first else None
        self.rate = fps or own_rate
        self.length = None if loop else len(self._samples)
        self._clock = Clock(start_stamp if self._even else first, self.rate or 1.0)
        frame = self._samples[0].frame
        self.description = (
            f"{len(self._samples)} frames in memory, {frame.width}x{frame.height}, "
            f"{f'{self.rate:g} fps' if self.rate else 'unknown rate'}{', looping' if loop else ''}"
        )

    def read(self) -> Sample | None:
        if self._closed.is_set():
            return None
        if self._index == len(self._samples):
            if not self._loop:
                return None
            self._index = 0
            self._clock.restart()
        sample = self._samples[self._index]
        stamp = self._clock.stamp(None if self._even else sample.frame.stamp / 1e6)
        frame = replace(sample.frame, stamp=stamp, sequence=self._sequence)
        truth = None if sample.truth is None else replace(sample.truth, stamp=stamp)
        self._index += 1
        self._sequence += 1
        return Sample(frame, truth)

    def camera_info(self) -> CameraInfo | None:
        return self._info
