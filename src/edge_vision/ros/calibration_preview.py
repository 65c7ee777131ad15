"""The calibration's preview: drawn only while somebody looks, as Image, CompressedImage and for the page."""

from __future__ import annotations

import time
from dataclasses import dataclass

import cv2
from sensor_msgs.msg import CompressedImage

from edge_vision.datatypes import CalibrationStatus, Frame
from edge_vision.drawing.calibration import draw_preview
from edge_vision.ros import adapters
from edge_vision.ros.node import VisionNode

_WATCHED_S = 3.0  # the page asks for pictures more often than that
_JPEG_QUALITY = 80


@dataclass(frozen=True)
class Picture:
    """A JPEG of the preview."""

    data: bytes
    stamp: int = 0
    frame_id: str = ""


class Preview:
    """Publishes calibration_preview and calibration_preview/compressed for a node; to be made in its `configure`."""

    def __init__(self, node: VisionNode) -> None:
        self._images = node.publisher(Frame, "calibration_preview", counted=False)
        self._pictures = node.publisher(Picture, "calibration_preview/compressed", adapter=_PICTURE, counted=False)
        self._newest: Picture | None = None
        self._asked_at = float("-inf")

    def look(self) -> bytes | None:
        """The newest picture as JPEG; for a few seconds from now on there will be new ones. Any thread."""
        self._asked_at = time.monotonic()
        return None if self._newest is None else self._newest.data

    @property
    def wanted(self) -> bool:
        """Whether anybody looks."""
        return self._pictures_wanted or self._images.has_subscribers

    @property
    def _pictures_wanted(self) -> bool:
        return time.monotonic() - self._asked_at < _WATCHED_S or self._pictures.has_subscribers

    def show(self, frame: Frame, status: CalibrationStatus, width: int) -> None:
        """Draws the status into the frame, `width` pixels wide at most."""
        image = draw_preview(frame.image, status, width=width)
        if self._images.has_subscribers:
            self._images.publish(Frame(image, frame.stamp, frame.frame_id, frame.sequence, "bgr8"))
        if self._pictures_wanted:
            data = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))[1].tobytes()
            self._newest = Picture(data, frame.stamp, frame.frame_id)
            if self._pictures.has_subscribers:
                self._pictures.publish(self._newest)


def _to_message(picture: Picture) -> CompressedImage:
    message = CompressedImage(format="bgr8; jpeg compressed bgr8")
    adapters.set_header(message.header, picture)
    message.data = picture.data
    return message


def _no_input(_: CompressedImage) -> Picture:
    raise ValueError("previews are published, not read")


_PICTURE = adapters.Adapter(Picture, CompressedImage, _to_message, _no_input)
