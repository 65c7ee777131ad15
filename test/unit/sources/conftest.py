"""Real recordings and a real MJPEG server for the tests of the sources."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest


def picture(index: int, width: int = 320, height: int = 240) -> np.ndarray:
    """A noisy image whose mean tells its number: 6 * (index % 30) + 40 in every channel, survives any codec."""
    noise = np.random.default_rng(index).integers(-8, 9, (height, width, 1))
    return np.broadcast_to(noise + 6 * (index % 30) + 40, (height, width, 3)).astype(np.uint8)


def number_in(image: np.ndarray) -> int:
    """The number of a `picture` after compression: MJPEG takes about 1 off the mean, MPEG-4 about 3."""
    return round((float(image.mean()) - 38.5) / 6)


@pytest.fixture
def numbered() -> SimpleNamespace:
    """The helpers `picture` and `number_in` (test modules cannot import each other)."""
    return SimpleNamespace(picture=picture, number_in=number_in)


@pytest.fixture
def write_video(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str = "video.mp4", frames: int = 20, fps: float = 20.0) -> Path:
        codec = {".mp4": "mp4v", ".avi": "MJPG"}[Path(name).suffix]
        path = tmp_path / name
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), fps, (320, 240))
        assert writer.isOpened()
        for index in range(frames):
            writer.write(picture(index))
        writer.release()
        return path

    return write


class MjpegServer:
    """What a network camera does: multipart JPEG over HTTP, one picture every ``period`` s. Can be cut off and revived.

    mode: ``stream``; ``hang`` after some frames keeps the connection open and sends nothing more.
    """

    def __init__(self, period: float = 0.02) -> None:
        self.period = period
        self.mode = "stream"
        self.sent = 0
        self.port = 0
        self._server: ThreadingHTTPServer | None = None
        self._stopped = threading.Event()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/stream.mjpg"

    def start(self) -> None:
        self._stopped = stopped = threading.Event()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                try:
                    while not stopped.wait(camera.period):
                        if camera.mode == "hang" and camera.sent >= 40:
                            stopped.wait(30)
                            return
                        data = cv2.imencode(".jpg", picture(camera.sent))[1].tobytes()
                        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                        self.wfile.write(head.encode() + data + b"\r\n")
                        camera.sent += 1
                except (BrokenPipeError, ConnectionResetError):
                    pass  # the reader has gone

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def kill(self) -> None:
        """Cuts every connection and stops listening."""
        self._stopped.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@pytest.fixture
def mjpeg_server() -> Iterator[MjpegServer]:
    server = MjpegServer()
    yield server
    server.kill()


@pytest.fixture
def file_server() -> Iterator[Callable[[Path], str]]:
    """Serves a folder over HTTP; returns the base URL."""
    servers = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    def serve(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()
