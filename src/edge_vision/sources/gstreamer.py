"""GStreamer pipelines: ``gst://videotestsrc ! videoconvert ! video/x-raw,format=BGR ! appsink`` or the same without gst://."""

from __future__ import annotations

from typing import Any

import cv2

from edge_vision.sources.base import SourceError, SourceLost
from edge_vision.sources.live import LiveCapture
from edge_vision.sources.opencv import built_with, open_capture, sane_rate


class GStreamer(LiveCapture):
    """A pipeline that ends in an appsink, read at its own pace; see `LiveCapture`.

    Raises SourceError where this OpenCV has no GStreamer.
    """

    def __init__(
        self,
        uri: str,
        *,
        width: int | None = None,
        height: int | None = None,
        frame_id: str = "",
        read_timeout: float = 5.0,
    ) -> None:
        self._pipeline = complete(uri)
        if not built_with("GStreamer"):
            raise SourceError(
                f"OpenCV {cv2.__version__} of this Python was built without GStreamer (the wheels on PyPI are): "
                "use the distribution's (apt install python3-opencv gstreamer1.0-plugins-good, and no opencv wheel in "
                "the virtual environment, made with --system-site-packages), or give a device, file or RTSP URL"
            )
        super().__init__(uri, self._open, width=width, height=height, frame_id=frame_id, read_timeout=read_timeout)

    def _open(self) -> cv2.VideoCapture:
        capture = open_capture(self._pipeline, cv2.CAP_GSTREAMER)
        if not capture.isOpened():
            capture.release()
            raise SourceLost(
                f"GStreamer cannot start the pipeline {self.uri!r}: try it with `gst-launch-1.0 -v …`, appsink "
                "replaced by fakesink; it must deliver video/x-raw that appsink can take (`videoconvert !` before it)"
            )
        return capture

    def describe(self, capture: Any) -> None:
        self.rate = sane_rate(capture)
        size = f"{capture.get(cv2.CAP_PROP_FRAME_WIDTH):.0f}x{capture.get(cv2.CAP_PROP_FRAME_HEIGHT):.0f}"
        self.description = f"GStreamer pipeline, {size}, {f'{self.rate:g} fps' if self.rate else 'unknown rate'}"


def complete(uri: str) -> str:
    """The pipeline without ``gst://``; an appsink is added where there is none, and made to keep only the newest."""
    pipeline = uri.removeprefix("gst://").removeprefix("gst:").strip().rstrip("!").strip()
    if not pipeline:
        raise SourceError(f"{uri!r} holds no pipeline; give for example gst://videotestsrc ! videoconvert ! appsink")
    *elements, last = (part.strip() for part in pipeline.split("!"))
    if last.split()[0] != "appsink":
        return f"{pipeline} ! appsink drop=true max-buffers=1 sync=false"
    if "drop=" not in last and "max-buffers=" not in last:
        last += " drop=true max-buffers=1"
    return " ! ".join([*elements, last])
