"""A camera's calibration without a screen: looks at a board, says what to show next, solves, commits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from std_srvs.srv import Trigger

from edge_vision.calibration.boards import find_board
from edge_vision.calibration.camera_info_location import camera_info_path, camera_name_of, filled_in
from edge_vision.calibration.session import Session, SessionOptions
from edge_vision.datatypes import CalibrationStatus, CameraInfo, Frame, Outcome
from edge_vision.ros import adapters
from edge_vision.ros.calibration_adapters import CALIBRATION_STATUS
from edge_vision.ros.calibration_commit import Committer
from edge_vision.ros.calibration_diagnostics import attention, figures
from edge_vision.ros.calibration_preview import Preview
from edge_vision.ros.node import Unusable, VisionNode
from edge_vision.ros.parameters import NodeParameters, parameter
from edge_vision.ros.quality_adapters import mono_or_bgr
from edge_vision.ros.slow_services import SlowService
from edge_vision.srv import CalibrationFiles

_IDLE_S = 0.3  # between two images while none are looked at: add_view takes the newest
_STATUS_S = 0.2  # between two status messages that tell nothing new


@dataclass(frozen=True)
class CalibrationParameters(NodeParameters):
    board: str = parameter(
        "charuco_9x7_25mm", "The board: a YAML file (docs/calibration.md), or the name of one in config/boards."
    )
    model: str = parameter(
        "auto",
        "Lens model; auto: by hold-out error.",
        choices=("auto", "plumb_bob", "rational_polynomial", "equidistant"),
    )
    bow: str = parameter("auto", "Estimate how the board is bent.", choices=("auto", "on", "off"))
    stop_at: str = parameter("good", "Collecting ends by itself at this verdict.", choices=("good", "usable", "never"))
    autocommit: bool = parameter(False, "Commit by itself when done.")
    least_gain: float = parameter(
        SessionOptions.least_gain, "Share by which a view must lower the uncertainty to be kept.", range=(0.0, 1.0)
    )
    most_views: int = parameter(SessionOptions.most_views, "Views that are kept at most.", range=(3, 1000))
    max_speed: float = parameter(
        SessionOptions.max_speed,
        "Pixels per second (of an image 1280 wide) that the board may move: rolling shutters shear it.",
        range=(0.1, 1e6),
    )
    archive: str = parameter(
        "${ROS_HOME}/calibration", "Folder for images and corners of the views kept; empty: nothing is kept."
    )
    camera_name: str = parameter("", "Name of the camera in its camera_info file; empty: as the namespace, or camera.")
    camera_info: str = parameter(
        "",
        "File that commit writes, as the camera's camera_info_url; empty: ${ROS_HOME}/camera_info/${NAME}.yaml "
        "(ROS_HOME: ~/.ros where not set; NAME: camera_name).",
    )
    set_camera_info: str = parameter("set_camera_info", "The camera's service, to which commit gives it; empty: none.")
    collect: bool = parameter(True, "Begin to collect as soon as the node is active.")
    rate: float = parameter(
        8.0, "Images looked at per second at most, 0: all that there is time for.", range=(0.0, 1000.0)
    )
    preview_width: int = parameter(640, "Width of the preview in pixels at most.", range=(160, 4096))
    web: bool = parameter(False, "Serve a page with preview and buttons.")
    web_host: str = parameter("127.0.0.1", "Address that the page is served on; 0.0.0.0: to the network, with a token.")
    web_port: int = parameter(8088, "Port of the page, 0: any that is free.", range=(0, 65535))
    web_token: str = parameter("", "What the page's address must end with (?token=...); empty: made up where needed.")
    image_transport: str = parameter("raw", "As of the inference node.", choices=("raw", "compressed"), read_only=True)


#: commands that take long, so that one who asks for the same meanwhile waits for the same answer
_LONG = ("calibrate", "save", "load_samples", "commit")
#: what can change while the node is configured
_LIVE = ("autocommit", "camera_info", "rate", "preview_width", "collect")


class CalibrationNode(VisionNode[CalibrationParameters]):
    """image_raw -> calibration_status, calibration_preview; services ~/start, ~/calibrate, ~/commit, ... (docs)."""

    parameters_type = CalibrationParameters

    def configure(self) -> None:
        p = self.parameters
        self._camera_name = camera_name_of(p.camera_name, self.get_namespace())
        camera_info_path(p.camera_info, self._camera_name)
        board = find_board(p.board)
        options = SessionOptions(
            model=p.model,
            bow=p.bow,
            least_gain=p.least_gain,
            most_views=p.most_views,
            stop_at=p.stop_at,
            max_speed=p.max_speed,
            archive=_given(filled_in(p.archive, self._camera_name)),
            camera_name=self._camera_name,
        )
        self._session = Session(board, options, on_done=self._on_done)
        self._told: CalibrationStatus | None = None
        self._told_at = self._due_at = 0.0
        self._seen_at = time.monotonic()
        self._telling = threading.Lock()
        self.states = self.publisher(CalibrationStatus, "calibration_status", adapter=CALIBRATION_STATUS)
        self._preview = Preview(self)
        adapter = adapters.COMPRESSED_IMAGE if p.image_transport == "compressed" else adapters.IMAGE
        self.subscription(Frame, "image_raw", self.look, adapter=adapter, needed=self._needed)
        self._committer = Committer(self, p.set_camera_info, self.container.call_soon)
        self.subscription(
            CameraInfo, "camera_info", self._committer.heard, counted=False, needed=lambda: self._committer.listening
        )
        self._commands: dict[str, Callable[[str], Outcome]] = {
            "start": lambda _: self._session.start(),
            "stop": lambda _: self._session.stop(),
            "add_view": lambda _: self._session.add_view(),
            "calibrate": lambda _: self._session.calibrate(),
            "save": lambda folder: self._session.save(_given(folder)),
            "load_samples": lambda folder: self._session.load(_given(folder)),
            "reset": lambda _: self._session.reset(),
            "commit": lambda _: self._commit(),
        }
        self._answering: list[SlowService] = [self._offer(name) for name in self._commands]
        self._look, self._draw = self.stage("look"), self.stage("preview")
        self._server = self._serve() if p.web else None

    def _offer(self, name: str) -> SlowService:
        files = name in ("save", "load_samples")
        return SlowService(
            self,
            CalibrationFiles if files else Trigger,
            f"~/{name}",
            (lambda request: self.command(name, request.folder)) if files else (lambda _: self.command(name)),
            self.container.call_soon,
            joined=name in _LONG,
        )

    def _serve(self) -> Any:
        try:
            from edge_vision.web.errors import WebError
            from edge_vision.web.server import Server
        except ImportError as error:
            if (error.name or "").split(".")[0] != "aiohttp":
                raise
            raise Unusable(
                "web is true, but aiohttp, which serves the page, is not installed: apt install python3-aiohttp (or "
                "pip install aiohttp), or set web to false"
            ) from None
        p = self.parameters
        page = _Page(self._session, self._preview, self.command)
        try:
            server = Server(page, host=p.web_host, port=p.web_port, token=p.web_token)
            self.get_logger().info(f"the page is at {server.start()}")
        except WebError as error:
            raise Unusable(str(error)) from None
        return server

    def activate(self) -> None:
        self._seen_at = time.monotonic()
        if self.parameters.collect and self._session.status().state == "idle":
            self.command("start")

    def deactivate(self) -> None:
        if self._session.status().state == "collecting":
            self._session.stop()

    def cleanup(self) -> None:
        server = self.__dict__.pop("_server", None)
        if server is not None:
            server.stop()
        for service in self.__dict__.pop("_answering", []):
            service.close()
        if hasattr(self, "_committer"):
            self._committer.close()
            del self._committer
        if hasattr(self, "_session"):
            self._session.close()
            del self._session

    # --- images ------------------------------------------------------------------------------------------------------

    def _needed(self) -> bool:
        """Whether an image is worth waking the worker for; asked by the threads that bring them."""
        return self.parameters.input_mode == "every" or time.monotonic() >= self._due_at

    def look(self, frame: Frame) -> None:
        now, session = time.monotonic(), self._session
        with self._look:
            session.look(mono_or_bgr(frame))
        status = session.status(frame.stamp)
        self._due_at = now + self._pause(status)
        if status.seen:
            self._seen_at = now
        self._tell(status)
        if self._preview.wanted:
            with self._draw:
                self._preview.show(frame, status, self.parameters.preview_width)

    def _pause(self, status: CalibrationStatus) -> float:
        """Seconds until the next image is looked at."""
        rate = self.parameters.rate
        if status.state == "collecting" or self._preview.wanted:
            return 1.0 / rate if rate > 0 else 0.0
        return _IDLE_S

    # --- telling -----------------------------------------------------------------------------------------------------

    def _tell(self, status: CalibrationStatus) -> None:
        """Publishes the status where it is news, or the last one is old."""
        with self._telling:
            now = time.monotonic()
            if now - self._told_at < _STATUS_S and self._told is not None and _news(status) == _news(self._told):
                return
            self._told, self._told_at = status, now
            self.states.publish(status)

    def _tell_now(self) -> None:
        session = getattr(self, "_session", None)
        if session is not None and self.active:
            self._tell(session.status())

    def every_second(self) -> None:
        if time.monotonic() - self._told_at > 0.9:
            self._tell_now()

    # --- commands ----------------------------------------------------------------------------------------------------

    def command(self, name: str, argument: str = "") -> Outcome:
        """What a service or the page asks for, by any thread but the executor's; may take seconds."""
        work = self._commands.get(name)
        if work is None:
            return Outcome(False, f"there is no command {name}; there are {', '.join(self._commands)}")
        try:
            outcome = work(argument)
        except (ValueError, OSError) as error:
            outcome = Outcome(False, str(error))
        said = f"{name}: {outcome.message}"
        if outcome.success:
            self.get_logger().info(said)
        else:
            self.get_logger().warning(said)
        self._tell_now()
        return outcome

    def _commit(self) -> Outcome:
        session, committer, p = self._session, self._committer, self.parameters
        info = session.camera_info
        if info is None:
            return Outcome(False, "there is no calibration yet: collect views first, then call ~/calibrate")
        status = session.status()
        path = camera_info_path(p.camera_info, self._camera_name)
        done = committer.commit(replace(info, camera_name=self._camera_name), path, session.record)
        if done.in_use:
            session.mark_committed(True)
        judged = "" if status.verdict == "good" else f" (its verdict is: {status.verdict})"
        return Outcome(done.success, done.message + judged)

    def _on_done(self) -> None:
        """The session has made its final solution, on its worker thread, which must not wait for a camera."""
        self._tell_now()
        if self.parameters.autocommit:
            threading.Thread(target=self.command, args=("commit",), name="commit", daemon=True).start()

    # --- parameters and diagnostics ----------------------------------------------------------------------------------

    def reconfigure(self, new: CalibrationParameters) -> None:
        camera_info_path(new.camera_info, camera_name_of(new.camera_name, self.get_namespace()))
        if not hasattr(self, "_session"):
            find_board(new.board)
            return
        fixed = replace(new, **{name: getattr(self.parameters, name) for name in _LIVE})
        changed = [name for name in new.__dataclass_fields__ if getattr(fixed, name) != getattr(self.parameters, name)]
        if changed:
            raise ValueError(
                f"{', '.join(changed)} cannot change while the node is configured: "
                f"ros2 lifecycle set {self.get_name()} deactivate, then cleanup; set it; then configure, activate"
            )

    def warning(self) -> str | None:
        if not hasattr(self, "_session"):
            return None
        return attention(self._session.status(), time.monotonic() - self._seen_at, self.parameters.board)

    def status(self) -> dict[str, str]:
        if not hasattr(self, "_session"):
            return {}
        server = getattr(self, "_server", None)
        page = {} if server is None else {"page": server.url}
        return figures(self._session.status(), self._session.rejected) | page


class _Page:
    """What the page shows and does (edge_vision.web.control.Control)."""

    def __init__(self, session: Session, preview: Preview, command: Callable[[str, str], Outcome]) -> None:
        self._session, self._preview, self._command = session, preview, command

    def status(self) -> CalibrationStatus:
        return self._session.status()

    def preview(self) -> bytes | None:
        return self._preview.look()

    def command(self, name: str, argument: str = "") -> Outcome:
        return self._command(name, argument)


def _news(status: CalibrationStatus) -> tuple:
    """What is worth a message at once."""
    return status.state, status.message, status.views, status.verdict, status.model, status.committed


def _given(folder: str) -> str:
    return str(Path(folder).expanduser()) if folder else ""
