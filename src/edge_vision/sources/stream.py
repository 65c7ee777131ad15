"""Network streams: RTSP, HTTP (MJPEG, HLS), RTMP, UDP, SRT, by FFmpeg."""

from __future__ import annotations

from typing import Any

import cv2

from edge_vision.sources.base import SourceLost
from edge_vision.sources.live import LiveCapture
from edge_vision.sources.opencv import open_capture, sane_rate

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "tcp", "srt", "rtp")


class Stream(LiveCapture):
    """A network stream, read at its own pace; see `LiveCapture`. What fails is SourceLost: servers come back."""

    def __init__(
        self,
        url: str,
        *,
        width: int | None = None,
        height: int | None = None,
        frame_id: str = "",
        read_timeout: float = 5.0,
    ) -> None:
        self._url = url
        super().__init__(url, self._open, width=width, height=height, frame_id=frame_id, read_timeout=read_timeout)

    def _open(self) -> cv2.VideoCapture:
        capture = open_capture(self._url, cv2.CAP_FFMPEG, self._timeout)
        if not capture.isOpened():
            capture.release()
            raise SourceLost(
                f"cannot open the stream {self.uri}: no server there, wrong path or password, or not a video "
                f"(tried for at most {self._timeout:g} s; `ffplay URL` shows the server's answer)"
            )
        return capture

    def describe(self, capture: Any) -> None:
        self.rate = sane_rate(capture)
        size = f"{capture.get(cv2.CAP_PROP_FRAME_WIDTH):.0f}x{capture.get(cv2.CAP_PROP_FRAME_HEIGHT):.0f}"
        self.description = f"stream {self.uri}, {size}, {f'{self.rate:g} fps' if self.rate else 'unknown rate'}"
