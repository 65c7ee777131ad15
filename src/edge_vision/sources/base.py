"""What every source of frames is: the contract, its errors and the little that all kinds share."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edge_vision.datatypes import NS_PER_S, CameraInfo, Frame, Tracks

AUTOMATIC = -1.0
"""The value of a control (`Source.set_control`) that leaves it to the camera: its automatic, or what it began with."""


class SourceError(RuntimeError):
    """A source cannot be used as asked; the message says what, where and what to do. Trying again is no use."""


class SourceLost(SourceError):
    """A device or stream is not there, or no longer: it may come back (see `Reconnecting`)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A frame, and where the source is a simulation what is truly in it."""

    frame: Frame
    truth: Tracks | None = None


@runtime_checkable
class Source(Protocol):
    """Where frames come from. One thread reads; any thread may close."""

    @property
    def uri(self) -> str:
        """As given, passwords hidden."""

    @property
    def description(self) -> str:
        """One line for people: ``video file x.mp4, 768x432, 10 fps, 1394 frames``."""

    @property
    def live(self) -> bool:
        """True: frames come at their own pace (device, stream); False: recorded, the caller may pace them."""

    @property
    def rate(self) -> float | None:
        """Nominal frames per second, None if unknown."""

    @property
    def length(self) -> int | None:
        """Frames in one pass, None if endless or unknown."""

    @property
    def warnings(self) -> list[str]:
        """What went wrong without ending the source (skipped images, a truncated file), oldest first."""

    @property
    def dropped(self) -> int:
        """Frames of a live source that a newer one replaced before they were read."""

    def read(self) -> Sample | None:
        """The next sample, or None at the end of a recording and after `close`.

        Raises SourceLost where the source may come back, SourceError where it will not.
        """

    def camera_info(self) -> CameraInfo | None:
        """The camera's intrinsics where the source itself knows them."""

    def controls(self) -> Mapping[str, float]:
        """What of the camera can be changed while frames flow, with the values in force; {} where nothing can.

        exposure: seconds, `AUTOMATIC` while the camera chooses it. gain: a factor in the simulation, the driver's own
        unit of a V4L2 camera.
        """

    def set_control(self, name: str, value: float) -> float:
        """Changes a control, from any thread; the value in force afterwards, which a driver may have rounded.

        Frames show it from the next one (simulation) to some frames later (cameras, which have frames under way).
        Raises SourceError where the source has no such control, or refuses the value.
        """

    def close(self) -> None:
        """Give the device or file back. Idempotent; from another thread it ends a waiting `read` with None."""


class BaseSource:
    """The common part of the sources: description, counters, closing, ``with``."""

    live = False

    def __init__(self, uri: str) -> None:
        self.uri = hide_credentials(uri)
        self.description = self.uri
        self.rate: float | None = None
        self.length: int | None = None
        self.warnings: list[str] = []
        self.dropped = 0
        self._closed = threading.Event()

    def read(self) -> Sample | None:
        raise NotImplementedError

    def camera_info(self) -> CameraInfo | None:
        return None

    def controls(self) -> Mapping[str, float]:
        return {}

    def set_control(self, name: str, value: float) -> float:
        raise SourceError(
            f"{self.description}: its {name} cannot be changed while it plays; "
            f"the simulation (sim://) and V4L2 cameras can, other cameras by their own tools"
        )

    def close(self) -> None:
        self._closed.set()

    def __enter__(self) -> BaseSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.description}>"


class Clock:
    """Stamps in ns for recorded frames, strictly increasing over jumps and loops.

    Frames come at ``start`` plus their own time where they have one that advances, else one period after the last.
    """

    def __init__(self, start: int, rate: float) -> None:
        self.period = round(NS_PER_S / rate)
        self._rate = rate
        self._start = start
        self._first: float | None = None  # the recording's own time of the frame that got self._start
        self._frames = 0  # since self._start
        self._last: int | None = None

    def restart(self) -> None:
        """The recording begins anew: its next frame comes one period after the last."""
        if self._last is not None:
            self._start = self._last + self.period
        self._first = None
        self._frames = 0

    def stamp(self, milliseconds: float | None = None) -> int:
        """The stamp of the next frame; ``milliseconds``: its own time in the recording, None if it has none."""
        value = self._start + round(self._frames * NS_PER_S / self._rate)  # a multiple of the period would drift
        if milliseconds is not None:
            if self._first is None:
                self._first = milliseconds
            value = self._start + round((milliseconds - self._first) * 1e6)
        if self._last is not None and value <= self._last:
            value = self._last + self.period
        self._frames += 1
        self._last = value
        return value


_PASSWORD = re.compile(r"(://[^/:@\s]*:)(?!\d+(?:[/?#]|$))\S*@")
_SECRET = re.compile(r"((?:password|passwd|pwd|pass|user-pw|token|secret|key|auth)=)[^&\s#]+", re.IGNORECASE)


def hide_credentials(text: str) -> str:
    """``text`` with the passwords of its URLs replaced by ``***``: user:password@host and ?password=, ?token=, …"""
    return _SECRET.sub(r"\1***", _PASSWORD.sub(r"\1***@", text))


def checked_control(name: str, value: float) -> float:
    """A value for a control: `AUTOMATIC` for every negative one. Raises SourceError for what cannot be one."""
    if name not in ("exposure", "gain"):
        raise SourceError(f"unknown control {name!r}; there are exposure and gain")
    if not math.isfinite(value) or (name == "exposure" and value == 0):
        unit = " of seconds" if name == "exposure" else ""
        raise SourceError(f"{name} {value:g} is not possible: give a positive number{unit}, or -1 for automatic")
    return AUTOMATIC if value < 0 else float(value)


def requested_size(width: int | None, height: int | None) -> tuple[int | None, int | None]:
    """Width and height as asked for, 0 meaning the source's own like None. Raises SourceError below zero."""
    for name, value in (("width", width), ("height", height)):
        if value is not None and value < 0:
            raise SourceError(f"{name} is {value}: give the pixels wanted, or 0 for the source's own size")
    return width or None, height or None


def resize(image: NDArray, width: int | None, height: int | None) -> NDArray:
    """``image`` at the size asked for; with one of the two, in its own proportions; itself where it fits already."""
    have_height, have_width = image.shape[:2]
    if width is None and height is None:
        return image
    if width is None:
        assert height is not None
        width = max(1, round(have_width * height / have_height))
    elif height is None:
        height = max(1, round(have_height * width / have_width))
    if (width, height) == (have_width, have_height):
        return image
    import cv2

    smaller = width < have_width or height < have_height
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def encoding_of(image: NDArray) -> str:
    """The `Frame` encoding of an image as OpenCV reads it. Raises SourceError for what a frame cannot hold."""
    if image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8:
        return "bgr8"
    if image.ndim == 2 and image.dtype in (np.uint8, np.uint16):
        return "mono8" if image.dtype == np.uint8 else "mono16"
    raise SourceError(f"images of shape {image.shape} and type {image.dtype} are not supported")
