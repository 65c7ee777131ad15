"""The few things that all sources over cv2.VideoCapture need, for OpenCV 4.6 to 5."""

from __future__ import annotations

import math
import os
import threading
from typing import Any

# One error of ours instead of a page of FFmpeg's. FFmpeg's wrapper reads the variable once, when it is first used;
# who wants the page sets it (32: info, 48: debug).
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2

# cv2.getLogLevel to 4.x, cv2.utils.logging in 5 (and in the wheels before); Debian's 4.6 has the first alone.
_levels: Any = cv2 if hasattr(cv2, "getLogLevel") else cv2.utils.logging
_LEVEL_ERROR = 2


def open_capture(target: str | int, backend: int, timeout: float | None = None) -> cv2.VideoCapture:
    """An opened or (see ``isOpened``) failed capture; FFmpeg gives up opening and reading after ``timeout`` seconds."""
    parameters: list[int] = []
    if timeout is not None and backend == cv2.CAP_FFMPEG:
        milliseconds = max(1, round(timeout * 1000))
        parameters = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, milliseconds,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC, milliseconds,
        ]  # fmt: skip
    capture = cv2.VideoCapture()
    capture.setExceptionMode(False)
    with quiet():
        capture.open(target, backend, parameters)  # type: ignore[arg-type]
    return capture


def positive(capture: Any, key: int) -> float | None:
    """A property of the capture, None where the backend does not know it (0, negative, NaN)."""
    value = capture.get(key)
    return float(value) if math.isfinite(value) and value > 0 else None


def sane_rate(capture: Any) -> float | None:
    """Frames per second, None if unknown or one of the time bases that some containers give instead."""
    rate = positive(capture, cv2.CAP_PROP_FPS)
    return rate if rate is not None and 0.01 <= rate <= 1000 else None


class quiet:
    """``with quiet():`` keeps OpenCV's own warnings off stderr: what failed is told by our error."""

    _lock = threading.Lock()
    _inside = 0  # the level is the process's: the first one in lowers it, the last one out puts it back
    _level = 0

    def __enter__(self) -> None:
        with quiet._lock:
            quiet._inside += 1
            if quiet._inside == 1:
                quiet._level = _levels.getLogLevel()
                _levels.setLogLevel(min(quiet._level, _LEVEL_ERROR))

    def __exit__(self, *_: object) -> None:
        with quiet._lock:
            quiet._inside -= 1
            if quiet._inside == 0:
                _levels.setLogLevel(quiet._level)


def built_with(name: str) -> bool:
    """Whether this OpenCV was built with ``name``, a line of cv2.getBuildInformation (``GStreamer``, ``FFMPEG``)."""
    for line in cv2.getBuildInformation().splitlines():
        key, _, value = line.strip().partition(":")
        if key == name:
            return value.strip().startswith("YES")
    return False
