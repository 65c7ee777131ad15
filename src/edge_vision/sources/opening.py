"""Which kind of source a URI names."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

from edge_vision.sources.base import BaseSource, SourceError, hide_credentials, requested_size

KINDS = (
    ("sim://conveyor?seed=1", "the simulated conveyor, with ground truth"),
    ("sim://flat?bits=12", "the simulated camera before an even light, for sensor measurement"),
    ("sim://board?model=equidistant", "a simulated calibration board before a camera to calibrate"),
    ("belt.mp4", "a video file, also behind an http(s) URL"),
    ("image.png", "one image"),
    ("folder/ or 'folder/*.png'", "images in natural order"),
    ("/dev/video0 or device:0 or 0", "a V4L2 camera"),
    ("v4l2:///dev/video0?width=1280&height=720&fps=30&fourcc=MJPG", "the same with its settings"),
    ("rtsp://user:password@host/path", "a network stream; also http, https, rtmp, udp, tcp, srt"),
    ("gst://videotestsrc ! videoconvert ! appsink", "a GStreamer pipeline"),
)
"""Examples of the URIs that `open_source` takes, each with what it names."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def open_source(
    uri: str,
    *,
    width: int | None = None,
    height: int | None = None,
    fps: float | None = None,
    loop: bool = False,
    frame_id: str = "camera_optical_frame",
    start_stamp: int = 0,
    read_timeout: float = 5.0,
) -> BaseSource:
    """Opens the source that ``uri`` names (see `KINDS`).

    width, height (pixels): asked of a camera's driver and of the simulation; other images are resized to them, in
        their proportions where only one is given. None or 0: the source's own.
    fps: asked of a camera's driver and of the simulation; for recordings the rate of their stamps. None or 0: the
        source's own, 10 for images. What a URI says itself comes before these three.
    loop: recordings begin anew at their end; stamps and sequence numbers go on.
    start_stamp: ns, of the first frame of recordings and the simulation. Live frames have the system's time.
    read_timeout: seconds after which opening or reading a live source gives up with SourceLost.

    Raises SourceLost where a camera or stream is not there (now), SourceError for all else that cannot be.
    """
    uri = uri.strip()
    if not uri:
        raise SourceError(f"no source given; {_known()}")
    width, height = requested_size(width, height)
    if fps is not None and fps < 0:
        raise SourceError(f"fps is {fps:g}: give frames per second, or 0 for the source's own rate")
    fps = fps or None
    scheme = found.group(1).lower() if (found := _SCHEME.match(uri)) else None

    # Each kind is imported when it is used: a node that simulates needs no FFmpeg, a camera no simulation.
    if scheme == "sim":
        from edge_vision.sources.scene import open_scene

        size = {"width": width, "height": height}
        return open_scene(uri, **size, fps=fps, loop=loop, frame_id=frame_id, start_stamp=start_stamp)
    if scheme == "v4l2" or (scheme is None and _names_device(uri)):
        from edge_vision.sources.device import Device, DeviceOptions

        options = DeviceOptions.from_uri(uri, width=width, height=height, fps=fps)
        return Device(uri, options, frame_id=frame_id, read_timeout=read_timeout)
    if scheme == "gst" or uri.startswith("gst:") or (" ! " in uri and not os.path.exists(uri)):
        from edge_vision.sources.gstreamer import GStreamer

        return GStreamer(uri, width=width, height=height, frame_id=frame_id, read_timeout=read_timeout)

    from edge_vision.sources import stream, video_file

    if scheme in stream.SCHEMES:
        if scheme in ("http", "https") and Path(urlsplit(uri).path).suffix.lower() in video_file.SUFFIXES:
            return video_file.VideoFile(
                uri,
                width=width,
                height=height,
                fps=fps,
                loop=loop,
                frame_id=frame_id,
                start_stamp=start_stamp,
                read_timeout=read_timeout,
            )
        return stream.Stream(uri, width=width, height=height, frame_id=frame_id, read_timeout=read_timeout)
    if scheme is not None and scheme != "file" and not os.path.exists(uri):
        raise SourceError(f"{hide_credentials(uri)}: unknown kind of source {scheme}://; {_known()}")

    from edge_vision.sources import images

    path = _local_path(uri)
    kind = _kind_of_file(path)
    opener = video_file.VideoFile if kind == "video" else images.Images
    return opener(path, width=width, height=height, fps=fps, loop=loop, frame_id=frame_id, start_stamp=start_stamp)


def _names_device(uri: str) -> bool:
    return uri.isdecimal() or uri.startswith(("device:", "/dev/video", "/dev/v4l/"))


def _local_path(uri: str) -> str:
    if uri.startswith("file:"):
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost"):
            raise SourceError(
                f"{uri}: files of other machines cannot be read; a file here has three slashes, file:///…"
            )
        return unquote(parts.path)
    return os.path.expanduser(uri)


def _kind_of_file(path: str) -> str:
    """``video`` or ``images``. Raises SourceError for a path that is neither file, folder nor pattern."""
    from edge_vision.sources import images

    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if isinstance(error, FileNotFoundError) and any(character in path for character in "*?["):
            return "images"
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise SourceError(f"no such file: {path}; the current folder is {os.getcwd()}") from None
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        return "images"
    if not stat.S_ISREG(mode):
        raise SourceError(f"{path} is neither a file nor a folder nor a camera; {_known()}")
    if not os.access(path, os.R_OK):
        raise SourceError(f"cannot read {path}: no permission")
    return "images" if Path(path).suffix.lower() in images.SUFFIXES else "video"


def _known() -> str:
    return "known: " + "; ".join(f"{example} ({what})" for example, what in KINDS)
