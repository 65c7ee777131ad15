"""Gives a calibration to the camera: its camera_info file, its set_camera_info service, and proof that it uses it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.node import Node
from sensor_msgs.srv import SetCameraInfo

from edge_vision.calibration.camera_info_file import CameraInfoError
from edge_vision.datatypes import CameraInfo
from edge_vision.ros import adapters
from edge_vision.ros.calibration_files import difference, holds_already, write_camera_info_file
from edge_vision.ros.slow_services import on_executor

_APPEARS_S = 3.0  # a service that is there is found within
_ASK_AGAIN_S = 4.0  # DDS loses an answer whose reader it has not met yet; to be told the same twice does no harm
_ANSWERS_S = 12.0
_SHOWS_S = 5.0  # until camera_info comes with what the camera was told


@dataclass(frozen=True)
class Committed:
    """What became of a commit. success: all that was asked for was done. in_use: the camera has taken it over.
    message: every step in words."""

    success: bool
    in_use: bool
    message: str


class Committer:
    """Commits calibrations for a node; made and closed on the executor's thread, `commit` called by another one."""

    def __init__(self, node: Node, service: str, call_soon: Callable[[Callable[[], None]], None]) -> None:
        """service: the name of the camera's set_camera_info; "": it has none."""
        self._node = node
        self._call_soon = call_soon
        self._service = node.resolve_service_name(service) if service else ""
        self._client: Any = node.create_client(SetCameraInfo, service) if service else None
        self._one = threading.Lock()
        self._heard: CameraInfo | None = None
        self._news = threading.Event()
        self.listening = False

    def close(self) -> None:
        if self._client is not None:
            self._node.destroy_client(self._client)
            self._client = None

    def heard(self, info: CameraInfo) -> None:
        """The camera's camera_info as it comes; any thread. Only needed while `listening`."""
        self._heard = info
        self._news.set()

    def commit(self, info: CameraInfo, path: Path, record: Mapping[str, Any] | None = None) -> Committed:
        """Writes the file, tells the camera, sees whether it publishes the same numbers. Blocks for 25 s at most.

        No step's failure keeps the others from being done. record: figures that go into the file for people.
        """
        if not self._one.acquire(blocking=False):
            return Committed(False, False, "a commit is going on already")
        try:
            written, said_of_file = self._file(path, info, record)
            accepted, said_of_camera = self._tell(info)
            shown, said_of_topic = self._watch(info, accepted)
            if accepted and written and not holds_already(path, info, record):
                # The camera keeps the same file; it knows no record, and may write less digits.
                written, said_of_file = self._file(path, info, record)
        finally:
            self._one.release()
        steps = [said for said in (said_of_file, said_of_camera, said_of_topic) if said]
        success = written and accepted is not False and shown is not False
        in_use = shown is True or (accepted is True and shown is None)
        return Committed(success, in_use, "; ".join(steps))

    # --- the steps: whether it was done (None: there was nothing to do), and what to tell -----------------------------

    def _file(self, path: Path, info: CameraInfo, record: Mapping[str, Any] | None) -> tuple[bool, str]:
        try:
            write_camera_info_file(path, info, record)
        except CameraInfoError as error:
            remedy = "give the parameter camera_info a file that can be written and commit again (nothing is lost)"
            return False, f"NO FILE WRITTEN: {error}: {remedy}"
        return True, f"wrote {path} and read the same back"

    def _tell(self, info: CameraInfo) -> tuple[bool | None, str]:
        client = self._client
        if client is None:
            return None, ""
        name = self._service
        deadline = time.monotonic() + _APPEARS_S
        while not self._ask(client.service_is_ready):
            if time.monotonic() > deadline:
                return None, (
                    f"there is no service {name}: the camera reads the file when it starts next, if its "
                    "camera_info_url is that file (parameter set_camera_info: the service's name, empty for none)"
                )
            time.sleep(0.1)
        request = SetCameraInfo.Request(camera_info=adapters.CAMERA_INFO.to_message(info))
        response = self._call(client, request)
        if response is None:
            return False, f"NOT ACCEPTED: {name} has not answered within {_ANSWERS_S:g} s: is the camera's node stuck?"
        said = f" ({response.status_message})" if response.status_message else ""
        if not response.success:
            return False, f"NOT ACCEPTED: {name} refuses{said or ', and does not say why: see the camera’s log'}"
        return True, f"{name} accepted it{said}"

    def _call(self, client: Any, request: Any) -> Any:
        deadline = time.monotonic() + _ANSWERS_S
        answered = threading.Event()
        answers: list[Any] = []

        def take(future: Any) -> None:
            if not future.cancelled() and future.exception() is None:
                answers.append(future.result())
                answered.set()

        while (left := deadline - time.monotonic()) > 0:
            future = self._ask(lambda: client.call_async(request))
            self._ask(lambda: future.add_done_callback(take))  # noqa: B023  called before the loop goes on
            if answered.wait(min(left, _ASK_AGAIN_S)):
                return answers[0]
            self._ask(lambda: client.remove_pending_request(future))  # noqa: B023
        return None

    def _watch(self, info: CameraInfo, accepted: bool | None) -> tuple[bool | None, str]:
        """Whether camera_info shows it. Without a service that accepted it, it is only looked whether it does."""
        topic = self._node.resolve_topic_name("camera_info")
        deadline = time.monotonic() + (_SHOWS_S if accepted else 0.5)
        wrong = None
        self._heard = None
        self._news.clear()
        self.listening = True
        try:
            while (left := deadline - time.monotonic()) > 0 and self._news.wait(left):
                self._news.clear()
                heard = self._heard
                wrong = None if heard is None else difference(info, heard)
                if wrong == "":
                    return True, f"{topic} shows the same numbers"
        finally:
            self.listening = False
        if not accepted:
            return None, ""
        if wrong is None:
            return None, f"nothing has come on {topic} in {_SHOWS_S:g} s, so that it is not known what the camera uses"
        return False, f"NOT IN USE: {topic} still shows {wrong}: restart the camera's node, which then reads the file"

    def _ask(self, function: Callable[[], Any]) -> Any:
        def ask() -> Any:
            if self._client is None:
                raise TimeoutError("the node was cleaned up meanwhile")
            return function()

        return on_executor(self._call_soon, ask, _ANSWERS_S)
