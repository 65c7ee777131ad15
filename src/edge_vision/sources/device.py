"""V4L2 cameras: /dev/video0, 0, device:0, v4l2:///dev/video0?width=1280&height=720&fps=30&fourcc=MJPG."""

from __future__ import annotations

import glob
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import cv2

from edge_vision.sources.base import AUTOMATIC, SourceError, SourceLost, checked_control
from edge_vision.sources.live import LiveCapture
from edge_vision.sources.opencv import open_capture, positive, sane_rate


@dataclass(frozen=True)
class DeviceOptions:
    """What to ask a camera's driver for; None leaves its own setting. The driver may choose otherwise.

    buffers: frames that the driver holds. Two let it fill one while the other is fetched; with one, many USB cameras
    fall to half their rate.
    """

    path: str
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    fourcc: str | None = None
    buffers: int = 2

    @classmethod
    def from_uri(
        cls, uri: str, *, width: int | None = None, height: int | None = None, fps: float | None = None
    ) -> DeviceOptions:
        """What the URI asks for, and where it leaves something open the arguments. Raises SourceError."""
        name, _, query = uri.partition("?")
        if uri.startswith("v4l2:"):
            parts = urlsplit(uri)
            name, query = unquote(parts.netloc + parts.path), parts.query
        name = name.removeprefix("device:")
        path = f"/dev/video{int(name)}" if name.isdecimal() else name
        if not path.startswith("/"):
            raise SourceError(f"{uri}: no device is named {name!r}; give /dev/video0, device:0 or v4l2:///dev/video0")
        options: dict[str, Any] = {"width": width, "height": height, "fps": fps}
        for key, value in parse_qsl(query, keep_blank_values=True):
            options[key] = _option(uri, key, value)
        return cls(path, **options)


def _option(uri: str, key: str, value: str) -> int | float | str:
    known = {"width": int, "height": int, "fps": float, "fourcc": str, "buffers": int}
    if key not in known:
        raise SourceError(f"{uri}: unknown option {key!r}; known: {', '.join(known)}")
    try:
        number = known[key](value)
    except ValueError:
        raise SourceError(f"{uri}: {key}={value} is no number") from None
    if isinstance(number, str):
        if len(number) != 4 or not number.isascii():
            raise SourceError(f"{uri}: fourcc={value} is no pixel format of four characters such as MJPG or YUYV")
    elif not number > 0:
        raise SourceError(f"{uri}: {key}={value} must be above 0")
    return number


class Device(LiveCapture):
    """A V4L2 camera, read at its own pace; see `LiveCapture`. A missing device is SourceLost: it may be plugged in."""

    def __init__(self, uri: str, options: DeviceOptions, *, frame_id: str = "", read_timeout: float = 5.0) -> None:
        self.options = options
        self._controls: dict[str, float] = {}
        super().__init__(uri, self._open, frame_id=frame_id, read_timeout=read_timeout)

    def controls(self) -> Mapping[str, float]:
        return dict(self._controls)

    def set_control(self, name: str, value: float) -> float:
        """As `Source.set_control`. exposure switches the camera's automatic off, `AUTOMATIC` on again; gain is in the
        driver's own unit (`v4l2-ctl -l` shows its range), and `AUTOMATIC` leaves it as it is."""
        value = checked_control(name, value)
        if name not in self._controls:
            raise SourceError(
                f"{self.options.path}: the camera has no {name} control; "
                f"`v4l2-ctl -d {self.options.path} --list-ctrls` shows what it has"
            )
        in_force = self.ask(lambda capture: set_control(capture, name, value, self.options.path))
        self._controls[name] = in_force
        return in_force

    def _open(self) -> cv2.VideoCapture:
        path = self.options.path
        check_device(path)
        capture = open_capture(path, cv2.CAP_V4L2)
        if not capture.isOpened():
            capture.release()
            raise SourceLost(
                f"{path} cannot be opened for capture: another program may be using it (see `fuser {path}`), "
                f"or it is a metadata or output device. {cameras_here()}"
            )
        configure(capture, self.options)
        return capture

    def describe(self, capture: Any) -> None:
        self._controls = read_controls(capture)
        wanted = self.options
        width, height = (int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        fourcc = fourcc_name(int(capture.get(cv2.CAP_PROP_FOURCC)))
        self.rate = sane_rate(capture)
        rate = f"{self.rate:g} fps" if self.rate else "unknown rate"
        self.description = f"camera {wanted.path}, {width}x{height}, {rate}, {fourcc}"
        asked: dict[str, tuple[object, object]] = {
            "width": (wanted.width, width),
            "height": (wanted.height, height),
            "fourcc": (wanted.fourcc, fourcc),
        }
        if self.rate:
            asked["fps"] = (wanted.fps, self.rate)
        refused = [f"{name} {got} instead of {want}" for name, (want, got) in asked.items() if want not in (None, got)]
        if refused:
            self.warnings.append(
                f"{wanted.path}: the driver chose {', '.join(refused)}; "
                f"`v4l2-ctl -d {wanted.path} --list-formats-ext` shows what it can do"
            )


def configure(capture: Any, options: DeviceOptions) -> None:
    """Asks the driver, the pixel format first: sizes and rates depend on it, and drivers reset them with it."""
    if options.fourcc:
        capture.set(cv2.CAP_PROP_FOURCC, fourcc_code(options.fourcc))
    for key, value in (
        (cv2.CAP_PROP_FRAME_WIDTH, options.width),
        (cv2.CAP_PROP_FRAME_HEIGHT, options.height),
        (cv2.CAP_PROP_FPS, options.fps),
    ):
        if value and positive(capture, key) != value:
            capture.set(key, value)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, options.buffers)


# V4L2_CID_EXPOSURE_AUTO (videodev2's v4l2_exposure_auto_type), which OpenCV hands through: UVC cameras know these two.
_MANUAL, _AUTOMATIC = 1, 3
_EXPOSURE_UNIT = 1e-4  # s, of V4L2_CID_EXPOSURE_ABSOLUTE


def read_controls(capture: Any) -> dict[str, float]:
    """The controls that the camera has, with their values (`Source.controls`). OpenCV says 0 or less for those that it
    has not; a gain of 0 exists, and is told by setting it to itself."""
    controls = {}
    exposure = positive(capture, cv2.CAP_PROP_EXPOSURE)
    if exposure is not None:
        automatic = capture.get(cv2.CAP_PROP_AUTO_EXPOSURE) not in (_MANUAL, -1)
        controls["exposure"] = AUTOMATIC if automatic else exposure * _EXPOSURE_UNIT
    gain = capture.get(cv2.CAP_PROP_GAIN)
    if math.isfinite(gain) and (gain > 0 or (gain == 0 and capture.set(cv2.CAP_PROP_GAIN, gain))):
        controls["gain"] = float(gain)
    return controls


def set_control(capture: Any, name: str, value: float, path: str) -> float:
    """Sets ``exposure`` (s, or `AUTOMATIC`) or ``gain`` of an open V4L2 capture; the value that the driver then says.

    Raises SourceError where the driver refuses.
    """
    remedy = f"`v4l2-ctl -d {path} --list-ctrls` shows the ranges"
    if name == "gain":
        if value != AUTOMATIC and not capture.set(cv2.CAP_PROP_GAIN, value):
            raise SourceError(f"{path}: the driver refuses a gain of {value:g}; {remedy}")
        return float(capture.get(cv2.CAP_PROP_GAIN))
    automatic = value == AUTOMATIC
    # A camera without the switch is always manual: it then lacks an automatic, but takes an exposure.
    switched = capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, _AUTOMATIC if automatic else _MANUAL)
    if automatic:
        if not switched:
            raise SourceError(f"{path}: the camera has no automatic exposure; give it in seconds")
        return AUTOMATIC
    if not capture.set(cv2.CAP_PROP_EXPOSURE, max(1, round(value / _EXPOSURE_UNIT))):
        raise SourceError(f"{path}: the driver refuses an exposure of {value:g} s; {remedy}")
    return float(capture.get(cv2.CAP_PROP_EXPOSURE)) * _EXPOSURE_UNIT


def fourcc_code(name: str) -> int:
    """0x47504A4D for MJPG."""
    return int.from_bytes(name.encode("ascii"), "little")


def fourcc_name(code: int) -> str:
    """MJPG for 0x47504A4D."""
    return "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24)).strip("\0 ") if code > 0 else "unknown format"


def check_device(path: str) -> None:
    """Raises SourceLost, saying what to do, where there is no device of this name that this user may open."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise SourceLost(f"no such device: {path}. {cameras_here()}") from None
    except OSError as error:
        raise SourceLost(f"{path}: {error.strerror}") from error
    if not stat.S_ISCHR(mode):
        raise SourceError(f"{path} is not a device; give a camera such as /dev/video0. {cameras_here()}")
    if not os.access(path, os.R_OK | os.W_OK):
        raise SourceLost(
            f"{path}: no permission; `sudo usermod -aG video $USER` and log in again "
            f"(in a container: --device {path} --group-add video)"
        )


def cameras_here() -> str:
    """A sentence that names the video devices of this machine."""
    names = []
    for path in sorted(glob.glob("/dev/video*")):
        told = Path(f"/sys/class/video4linux/{os.path.basename(path)}/name")
        names.append(f"{path} ({told.read_text().strip()})" if told.is_file() else path)
    return f"Video devices here: {', '.join(names)}." if names else "This machine has no /dev/video* device."
