"""A calibration that the page can steer: small, but with states, and with pictures that tell which they are."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from edge_vision.datatypes import CalibrationStatus, Outcome

START = CalibrationStatus(
    message="Ready",
    board="chessboard 9 x 6, 25 mm",
    width=640,
    height=360,
    frame_id="front_camera",
)
VIEW: dict[str, Any] = {
    "views": 9,
    "x": 0.8,
    "y": 0.7,
    "size": 0.4,
    "skew": 0.5,
    "coverage": 0.6,
    "model": "plumb_bob",
    "rms": 0.21,
    "uncertainty_centre": 0.08,
    "uncertainty_corners": 0.93,
    "verdict": "usable",
    "reasons": ("9 views (15 for good)", "60 % of the image covered (70 % for good)"),
    "remedies": ("add views", "bring the board to the bottom right"),
    "next_view": "near (0.31 m), top left",
    "next_gain": 0.14,
}


class Calibrating:
    """A `Control`. Every call of `preview` gives another picture, `picture_index` of it tells which."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._status = START
        self.commands: list[tuple[str, str]] = []
        self.ended: list[str] = []
        self.statuses = 0
        self.previews = 0
        self.picture_size = (640, 360)
        self.without_picture = False
        self.gate = threading.Event()  # what `calibrate` waits for
        self.gate.set()

    def tell(self, **changed: Any) -> None:
        with self._lock:
            self._status = replace(self._status, **changed)

    def status(self) -> CalibrationStatus:
        with self._lock:
            self.statuses += 1
            return self._status

    def preview(self) -> bytes | None:
        with self._lock:
            if self.without_picture:
                return None
            self.previews += 1
            index = self.previews
        width, height = self.picture_size
        image = np.full((height, width, 3), 90, np.uint8)
        for bit in range(10):
            image[:32, 32 * bit : 32 * bit + 32] = 255 * (index >> bit & 1)
        return bytes(cv2.imencode(".jpg", image)[1])

    def command(self, name: str, argument: str = "") -> Outcome:
        self.commands.append((name, argument))
        if name == "calibrate":
            self.gate.wait(10)
            self.ended.append(name)
            return Outcome(True, "Calibrated from 9 views")
        if name == "save":
            return Outcome(False, f"{argument}: read-only file system. Choose another folder")
        if name == "load_samples":
            raise RuntimeError("the disk is gone")
        self.tell(state={"start": "collecting", "stop": "idle"}.get(name, self._status.state), message=f"did {name}")
        return Outcome(True, f"did {name}")


def picture_index(picture: bytes) -> int:
    image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_GRAYSCALE)
    return sum(int(image[16, 32 * bit + 16] > 128) << bit for bit in range(10))


def wait_until(true: Any, what: str, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {seconds} s")
        time.sleep(0.02)


@pytest.fixture
def control() -> Calibrating:
    return Calibrating()


@pytest.fixture
def server(control: Calibrating) -> Iterator[Any]:
    pytest.importorskip("aiohttp")
    from edge_vision.web.server import Server

    made = Server(control)
    made.start()
    yield made
    control.gate.set()
    made.stop()


@pytest.fixture(scope="session")
def tools() -> Any:
    """Functions of this file, which tests cannot import."""
    return SimpleNamespace(picture_index=picture_index, wait_until=wait_until, view=VIEW, Calibrating=Calibrating)
