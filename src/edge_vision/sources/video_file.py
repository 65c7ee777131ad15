"""Frames of a video file, or of a finished recording behind a URL, by FFmpeg."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import BinaryIO

import cv2

from edge_vision.datatypes import Frame
from edge_vision.sources.base import BaseSource, Clock, Sample, SourceError, resize
from edge_vision.sources.opencv import open_capture, positive, sane_rate

SUFFIXES = frozenset((
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".ogv",
    ".3gp", ".h264", ".264", ".h265", ".hevc", ".gif",
))  # fmt: skip
DEFAULT_RATE = 25.0


class VideoFile(BaseSource):
    """A recording, read as fast as asked for; stamps follow its own time stamps from ``start_stamp`` on.

    path: a file, or an http(s) URL of one. fps: replaces the recording's time stamps by an even rate.
    A truncated recording gives what it has and then a warning. Raises SourceError where there is no video in it.
    """

    def __init__(
        self,
        path: str,
        *,
        width: int | None = None,
        height: int | None = None,
        fps: float | None = None,
        loop: bool = False,
        frame_id: str = "",
        start_stamp: int = 0,
        read_timeout: float = 5.0,
    ) -> None:
        super().__init__(path)
        self._remote = "://" in path
        # Absolute, or FFmpeg takes the part before a colon in a file's name for a protocol.
        self._target = path if self._remote else str(Path(path).absolute())
        self._timeout = read_timeout
        self._size = width, height
        self._loop = loop
        self._frame_id = frame_id
        self._lock = threading.Lock()  # VideoCapture.release during a read crashes
        self._sequence = 0
        self._pass_frames = 0
        self._first_pass = True
        self._capture = self._open()

        self.rate = fps or sane_rate(self._capture)
        count = positive(self._capture, cv2.CAP_PROP_FRAME_COUNT)
        self._announced = int(count) if count is not None and count < 1e9 else None
        self.length = None if loop else self._announced
        self._own_times = not fps
        self._clock = Clock(start_stamp, self.rate or DEFAULT_RATE)
        self.description = ", ".join(
            part
            for part in (
                f"video file {self._name}",
                f"{self._capture.get(cv2.CAP_PROP_FRAME_WIDTH):.0f}x{self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT):.0f}",
                f"{self.rate:g} fps" if self.rate else "unknown rate",
                f"{self._announced} frames" if self._announced else "unknown length",
                "looping" if loop else "",
            )
            if part
        )

    @property
    def _name(self) -> str:
        return self.uri if self._remote else os.path.basename(self._target)

    def read(self) -> Sample | None:
        with self._lock:
            if self._closed.is_set():
                return None
            ok, image = self._capture.read()
            if not ok:
                self._end_of_pass()
                if not self._loop:
                    return None
                self._rewind()
                ok, image = self._capture.read()
                if not ok:
                    raise SourceError(f"{self.uri}: cannot be read a second time: was the file changed or removed?")
            if self._closed.is_set():  # while a read hung on the network: close() left the release to us
                self._capture.release()
                return None
            time = self._capture.get(cv2.CAP_PROP_POS_MSEC) if self._own_times else None
            frame = Frame(resize(image, *self._size), self._clock.stamp(time), self._frame_id, self._sequence)
            self._sequence += 1
            self._pass_frames += 1
            return Sample(frame)

    def close(self) -> None:
        super().close()
        if self._lock.acquire(timeout=1.0):
            try:
                self._capture.release()
            finally:
                self._lock.release()

    def _open(self) -> cv2.VideoCapture:
        capture = open_capture(self._target, cv2.CAP_FFMPEG, self._timeout if self._remote else None)
        if not capture.isOpened():
            capture.release()
            reason = (
                "FFmpeg finds no video there, or the server does not answer" if self._remote else diagnose(self._target)
            )
            raise SourceError(f"cannot read {self.uri} as a video: {reason}")
        return capture

    def _rewind(self) -> None:
        # Opened anew: seeking to frame 0 is not exact in every container.
        self._capture.release()
        self._capture = self._open()
        self._clock.restart()
        self._pass_frames = 0

    def _end_of_pass(self) -> None:
        read, announced = self._pass_frames, self._announced
        if read == 0:
            why = "the file is damaged or its codec unknown here; re-encode it (ffmpeg -i IN -c:v libx264 OUT.mp4)"
            if self._remote:
                why += (
                    ", or the server cannot send parts of a file (HTTP range requests), which an MP4 with its index "
                    "at the end needs; add -movflags +faststart or download it first"
                )
            raise SourceError(f"{self.uri}: not one frame of {announced or 'the video'} could be decoded: {why}")
        # Containers often give the count from duration and rate: off by a few is no damage.
        if self._first_pass and announced and announced - read > max(2, 0.02 * announced):
            self.warnings.append(
                f"{self.uri}: ended after {read} of the {announced} frames that its header announces: "
                "the file is truncated or damaged; copy or record it again"
            )
        self._first_pass = False


def diagnose(path: str) -> str:
    """Why FFmpeg can make nothing of a file, and what to do: in words, from its first bytes."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            head = file.read(512)
            boxes = _mp4_boxes(file, size) if head[4:8] == b"ftyp" else None
    except OSError as error:
        return f"{error.strerror}: check the path and its permissions"
    if size == 0:
        return "the file is empty"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the video itself; run `git lfs pull`"
    if boxes is not None and b"moov" not in boxes:
        return (
            "it is an MP4 without its index (no moov box): the recording or the copy was cut off before its end; "
            "copy or record it again"
        )
    if not any(byte < 9 for byte in head):
        return "it looks like text; give a video that FFmpeg can decode (mp4, avi, mkv, webm, …)"
    return "FFmpeg knows no such format or codec; re-encode it (ffmpeg -i IN -c:v libx264 OUT.mp4)"


def _mp4_boxes(file: BinaryIO, size: int) -> set[bytes]:
    """The types of an MP4's top-level boxes (ISO/IEC 14496-12, 4.2)."""
    found: set[bytes] = set()
    offset = 0
    while offset + 8 <= size and len(found) < 64:
        file.seek(offset)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length == 0:
            length = size - offset
        if length < 8:
            break
        if offset + length <= size:
            found.add(header[4:8])
        offset += length
    return found
