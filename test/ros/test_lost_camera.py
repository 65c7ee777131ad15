"""A network camera that goes away and comes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from ros_harness import square, stamp_of
from vision_msgs.msg import Detection2DArray


class Camera:
    """Multipart JPEG over HTTP, as network cameras send it."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        stopped = self._stopped = threading.Event()
        data = cv2.imencode(".jpg", square((64, 40, 128, 88)))[1].tobytes()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                try:
                    while not stopped.wait(0.04):
                        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                        self.wfile.write(head.encode() + data + b"\r\n")
                except (BrokenPipeError, ConnectionResetError):
                    pass  # the reader has gone

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def kill(self) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def network_camera() -> Iterator[Camera]:
    camera = Camera()
    yield camera
    camera.kill()


def test_a_camera_that_vanishes_is_reported_and_comes_back_by_itself(observer, start, model, network_camera) -> None:
    process = start(
        "pipeline",
        "camera",
        "inference",
        parameters={"source": f"http://127.0.0.1:{network_camera.port}/stream.mjpg", "model": model},
        namespace="/remote",
    )
    name = "remote/camera"
    with observer.listen(Detection2DArray, "/remote/detections") as found:
        found.wait(5, process)
        observer.wait_for_status(name, DiagnosticStatus.OK, process)
        network_camera.kill()
        process.wait_for_log(r"\[WARN\].*camera.*trying again in 0\.5 s")
        status = observer.wait_for_status(name, DiagnosticStatus.ERROR, process)
        assert f"127.0.0.1:{network_camera.port}" in status.message
        process.wait_for_log(r"\[WARN\].*cannot open the stream.*\(attempt 1\); trying again in 1 s")
        process.wait_for_log(r"\[WARN\].*cannot open the stream.*\(attempt 2\); trying again in 2 s")
        newest = stamp_of(found[-1])
        network_camera.start()
        (back,) = process.wait_for_log(r"open after [\d.]+ s \(attempt")
        assert "[INFO]" in back
        found.wait(5, process)
        assert stamp_of(found[-1]) > newest
        observer.wait_for_status(name, DiagnosticStatus.OK, process)
        values = observer.fresh_values(name, process)
    assert values["times lost"] == "1"
    warnings = process.lines(r"\[WARN\].*trying again in")
    attempts = [line for line in warnings if "attempt" in line]
    assert len(warnings) == len(attempts) + 1, "the loss, and each attempt, told once"
    assert len({line.split("(attempt")[1] for line in attempts}) == len(attempts)
    assert process.lines(r"\[ERROR\]|Traceback") == []
    # While it is gone, an end is an end at once.
    network_camera.kill()
    process.wait_for_log(r"trying again in", count=len(warnings) + 1)
    assert process.stop(timeout=5.0) == 0
    network_camera.start()  # for the fixture to end


def test_a_camera_that_is_not_there_yet(observer, start, network_camera) -> None:
    url = f"http://127.0.0.1:{network_camera.port}/stream.mjpg"
    network_camera.kill()
    process = start("camera", parameters={"source": url}, namespace="/later")
    status = observer.wait_for_status("later/camera", DiagnosticStatus.ERROR, process)
    assert "trying again" in status.message
    assert observer.state("/later/camera") == "active"
    network_camera.start()
    observer.wait_for_status("later/camera", DiagnosticStatus.OK, process)
    assert process.lines(r"open after")
