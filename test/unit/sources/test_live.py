"""Live sources: a real MJPEG server read by FFmpeg, and stand-ins for the cameras that this machine lacks."""

from __future__ import annotations

import itertools
import socket
import stat
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_vision.sources import AUTOMATIC, SourceError, SourceLost, gstreamer, open_source
from edge_vision.sources.device import Device, DeviceOptions, check_device, configure, fourcc_code, fourcc_name
from edge_vision.sources.live import LiveCapture
from edge_vision.sources.opencv import built_with


def test_a_stream_is_read_in_order_with_the_systems_time(mjpeg_server, numbered) -> None:
    before = time.time_ns()
    with open_source(mjpeg_server.url, frame_id="dock") as source:
        assert source.live
        assert source.length is None
        assert "320x240" in source.description
        frames = [source.read().frame for _ in range(10)]
    after = time.time_ns()
    stamps = [frame.stamp for frame in frames]
    assert before < stamps[0]
    assert stamps == sorted(set(stamps))
    assert stamps[-1] < after
    assert {frame.frame_id for frame in frames} == {"dock"}
    # The server numbers its pictures as the source numbers the frames it captured, also where some were not read.
    assert [numbered.number_in(frame.image) for frame in frames] == [frame.sequence % 30 for frame in frames]


def test_a_slow_reader_gets_the_newest_and_knows_what_it_missed(mjpeg_server) -> None:
    with open_source(mjpeg_server.url) as source:
        first = source.read().frame
        start = mjpeg_server.sent
        while mjpeg_server.sent < start + 15:
            time.sleep(0.01)
        later = source.read().frame
        assert later.sequence > first.sequence + 5
        assert source.dropped >= later.sequence - first.sequence - 1


def read_to_the_end(source) -> None:
    while source.read() is not None:
        pass


def test_a_stream_that_ends_is_lost(mjpeg_server) -> None:
    with open_source(mjpeg_server.url, read_timeout=2.0) as source:
        source.read()
        mjpeg_server.kill()
        with pytest.raises(SourceLost, match=r"gives no more frames"):
            read_to_the_end(source)
        with pytest.raises(SourceLost):  # and stays lost
            source.read()


def test_a_stream_that_hangs_is_lost_after_the_time_out(mjpeg_server) -> None:
    mjpeg_server.mode = "hang"
    with (
        open_source(mjpeg_server.url, read_timeout=0.5) as source,
        pytest.raises(SourceLost, match=r"no(| more) frame"),
    ):
        read_to_the_end(source)


def test_a_server_that_never_answers_is_lost_after_the_time_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"rtsp://user:secret@127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(SourceLost, match=r"user:\*\*\*@127") as error:
            open_source(url, read_timeout=0.3)
    assert "secret" not in str(error.value)


def test_close_ends_a_waiting_read(mjpeg_server) -> None:
    mjpeg_server.mode = "hang"
    source = open_source(mjpeg_server.url, read_timeout=30.0)
    ended = threading.Event()

    def read() -> None:
        read_to_the_end(source)
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    while mjpeg_server.sent < 40:
        time.sleep(0.01)
    source.close()
    assert ended.wait(20)
    assert source.read() is None


class StandIn:
    """A camera for what no server can show: hangs, raises, or records what it was asked for."""

    def __init__(self, behave=lambda: True) -> None:
        self.behave = behave
        self.released = threading.Event()
        self.set_calls: list[tuple[int, float]] = []

    def grab(self) -> bool:
        return self.behave()

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.zeros((4, 6, 3), np.uint8)

    def get(self, key: int) -> float:
        return {cv2.CAP_PROP_FRAME_WIDTH: 640, cv2.CAP_PROP_FRAME_HEIGHT: 480, cv2.CAP_PROP_FPS: 15}.get(key, 0)

    def set(self, key: int, value: float) -> bool:
        self.set_calls.append((key, value))
        return True

    def release(self) -> None:
        self.released.set()


def test_a_driver_that_hangs_holds_nobody_up_and_is_released_when_it_comes_back() -> None:
    wake = threading.Event()
    camera = StandIn(lambda: wake.wait(30))
    source = LiveCapture("stand-in", lambda: camera, read_timeout=0.05)
    with pytest.raises(SourceLost, match=r"no frame for 0\.05 s"):
        source.read()
    source.close()
    assert not camera.released.is_set(), "released by nobody but the thread that reads"
    wake.set()
    assert camera.released.wait(20)


def test_a_driver_that_hangs_on_opening() -> None:
    wake = threading.Event()
    camera = StandIn()

    def open_slowly() -> StandIn:
        wake.wait(30)
        return camera

    with pytest.raises(SourceLost, match="not open after"):
        LiveCapture("stand-in", open_slowly, read_timeout=0.01)
    wake.set()
    assert camera.released.wait(20)


def test_an_exception_in_the_driver_reaches_the_reader() -> None:
    def fail() -> bool:
        raise cv2.error("bad pixel format")

    with LiveCapture("stand-in", lambda: StandIn(fail)) as source, pytest.raises(SourceLost, match="bad pixel format"):
        source.read()


@pytest.mark.parametrize(
    "uri", ["/dev/video7", "7", "device:7", "device:/dev/video7", "v4l2:///dev/video7", "v4l2://7"]
)
def test_names_of_devices(uri: str) -> None:
    assert DeviceOptions.from_uri(uri).path == "/dev/video7"


def test_options_of_a_device() -> None:
    uri = "v4l2:///dev/video0?width=1280&height=720&fps=29.97&fourcc=MJPG&buffers=1"
    assert DeviceOptions.from_uri(uri, width=640) == DeviceOptions("/dev/video0", 1280, 720, 29.97, "MJPG", 1)
    assert DeviceOptions.from_uri("0", width=640, fps=5).width == 640
    assert DeviceOptions.from_uri("/dev/v4l/by-id/usb-cam-index0?fps=5").fps == 5


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("v4l2:///dev/video0?widht=3", r"unknown option 'widht'; known: width, height, fps, fourcc, buffers"),
        ("v4l2:///dev/video0?width=wide", r"width=wide is no number"),
        ("v4l2:///dev/video0?fps=0", r"must be above 0"),
        ("v4l2:///dev/video0?fps=nan", r"must be above 0"),
        ("v4l2:///dev/video0?fourcc=JPEG2000", r"four characters such as MJPG"),
        ("device:front", r"no device is named 'front'; give /dev/video0"),
        ("v4l2:///dev/null", r"another program may be using it"),
    ],
)
def test_wrong_devices(uri: str, told: str) -> None:
    with pytest.raises(SourceError, match=told):
        open_source(uri)


def test_a_missing_device_may_come_back_and_the_error_names_those_there_are() -> None:
    missing = next(n for n in itertools.count() if not Path(f"/dev/video{n}").exists())
    for uri in (str(missing), f"v4l2:///dev/video{missing}?width=640"):
        with pytest.raises(SourceLost, match=rf"no such device: /dev/video{missing}\. .*/dev/video"):
            open_source(uri)


def test_a_file_is_no_device(tmp_path: Path) -> None:
    (tmp_path / "video0").write_bytes(b"")
    with pytest.raises(SourceError, match="is not a device"):
        check_device(str(tmp_path / "video0"))


def test_the_driver_is_asked_for_the_format_first() -> None:
    camera = StandIn()
    configure(camera, DeviceOptions("/dev/video0", 1280, 480, 30, "MJPG"))
    assert camera.set_calls == [
        (cv2.CAP_PROP_FOURCC, cv2.VideoWriter_fourcc(*"MJPG")),
        (cv2.CAP_PROP_FRAME_WIDTH, 1280),
        (cv2.CAP_PROP_FPS, 30),
        (cv2.CAP_PROP_BUFFERSIZE, 2),
    ], "and not for the height that it has already"


def test_what_the_driver_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "_open", lambda self: StandIn())
    with Device("x", DeviceOptions("/dev/video0", 1280, 480, 30)) as source:
        (warning,) = source.warnings
        assert "the driver chose width 640 instead of 1280, fps 15.0 instead of 30;" in warning
        assert source.description == "camera /dev/video0, 640x480, 15 fps, unknown format"
        assert source.rate == 15


def test_fourcc_there_and_back() -> None:
    for name in ("MJPG", "YUYV", "GREY"):
        assert fourcc_code(name) == cv2.VideoWriter_fourcc(*name)
        assert fourcc_name(fourcc_code(name)) == name


def test_a_real_camera() -> None:
    cameras = [path for path in Path("/dev").glob("video*") if stat.S_ISCHR(path.stat().st_mode)]
    if not cameras:
        pytest.skip("no V4L2 camera on this machine")
    try:
        source = open_source(str(sorted(cameras)[0]))
    except SourceLost as error:
        pytest.skip(f"the camera cannot be opened: {error}")
    with source:
        frames = [source.read().frame for _ in range(5)]
    assert [frame.sequence for frame in frames] == sorted({frame.sequence for frame in frames})


def test_gstreamer_pipelines_are_completed() -> None:
    complete = gstreamer.complete
    assert complete("gst://a ! appsink") == "a ! appsink drop=true max-buffers=1"
    assert complete("a ! b") == "a ! b ! appsink drop=true max-buffers=1 sync=false"
    assert complete("gst:a ! appsink max-buffers=4") == "a ! appsink max-buffers=4"
    with pytest.raises(SourceError, match="holds no pipeline"):
        complete("gst://")


@pytest.mark.parametrize("uri", ["gst://videotestsrc ! videoconvert ! appsink", "videotestsrc ! appsink"])
def test_opencv_without_gstreamer_says_what_to_install(uri: str) -> None:
    if built_with("GStreamer"):
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(SourceError, match="python3-opencv") as error:
        open_source(uri)
    assert not isinstance(error.value, SourceLost)


def test_a_gstreamer_pipeline() -> None:
    if not built_with("GStreamer"):
        pytest.skip("this OpenCV was built without GStreamer")
    caps = "video/x-raw,format=BGR,width=320,height=240"
    with open_source(f"gst://videotestsrc is-live=true ! videoconvert ! {caps} ! appsink") as source:
        assert source.read().frame.image.shape == (240, 320, 3)
    with pytest.raises(SourceLost, match="gst-launch"):
        open_source("gst://nosuchelement ! appsink")


class Camera(StandIn):
    """A V4L2 camera with an automatic exposure of 0.5 ms steps up to 0.1 s, and a gain."""

    def __init__(self) -> None:
        super().__init__(lambda: time.sleep(0.005) is None)
        self.values = {cv2.CAP_PROP_AUTO_EXPOSURE: 3.0, cv2.CAP_PROP_EXPOSURE: 156.0, cv2.CAP_PROP_GAIN: 0.0}
        self.threads: set[int] = set()

    def get(self, key: int) -> float:
        return self.values.get(key, super().get(key))

    def set(self, key: int, value: float) -> bool:
        self.threads.add(threading.get_ident())
        if key not in self.values or (key == cv2.CAP_PROP_EXPOSURE and not 1 <= value <= 1000):
            return False
        self.values[key] = round(value / 5) * 5 if key == cv2.CAP_PROP_EXPOSURE else value
        return True


@pytest.fixture
def camera(monkeypatch):
    camera = Camera()
    monkeypatch.setattr(Device, "_open", lambda self: camera)
    with Device("/dev/video7", DeviceOptions("/dev/video7")) as source:
        yield source, camera


def test_the_controls_of_a_camera_are_in_seconds_and_set_by_the_thread_that_reads(camera) -> None:
    source, driver = camera
    assert source.controls() == {"exposure": AUTOMATIC, "gain": 0.0}
    assert source.set_control("exposure", 0.0042) == pytest.approx(0.004)  # the driver rounds
    assert source.controls()["exposure"] == pytest.approx(0.004)
    assert driver.values[cv2.CAP_PROP_AUTO_EXPOSURE] == 1
    assert source.set_control("gain", 12) == 12
    assert source.set_control("gain", AUTOMATIC) == 12
    assert source.set_control("exposure", AUTOMATIC) == AUTOMATIC
    assert driver.values[cv2.CAP_PROP_AUTO_EXPOSURE] == 3
    with pytest.raises(SourceError, match="refuses an exposure of 5 s"):
        source.set_control("exposure", 5.0)
    with pytest.raises(SourceError, match="give a positive number of seconds"):
        source.set_control("exposure", 0.0)
    with pytest.raises(SourceError, match="unknown control 'focus'"):
        source.set_control("focus", 1.0)
    assert threading.get_ident() not in driver.threads
    source.close()
    with pytest.raises(SourceLost, match="closed"):
        source.set_control("gain", 1.0)


def test_a_camera_without_a_gain_says_so(camera) -> None:
    source, driver = camera
    del driver.values[cv2.CAP_PROP_GAIN], source._controls["gain"]
    with pytest.raises(SourceError, match="has no gain control"):
        source.set_control("gain", 2.0)
