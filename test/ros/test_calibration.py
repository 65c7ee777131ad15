"""The calibration node: a board is shown, views are kept, solved, saved, loaded, and given to a camera of anybody's."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shutil
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticStatus
from edge_vision.msg import CalibrationStatus
from edge_vision.srv import CalibrationFiles
from ros_harness import RELIABLE, Observer, Process, Received, executable, image_message, ros_arguments, stamp_of
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from sensor_msgs.srv import SetCameraInfo
from std_srvs.srv import Trigger

from edge_vision.calibration.boards import read_board
from edge_vision.calibration.camera_info_file import read_camera_info
from edge_vision.calibration.printing import board_pattern, rasterise
from edge_vision.calibration.session import Session, SessionOptions
from edge_vision.datatypes import Frame

SECOND = 10**9
SIZE = 640, 480
K = np.array([[560.0, 0, 322.0], [0, 561.0, 238.0], [0, 0, 1]])
LENS = {"model": "plumb_bob", "bow": "off"}  # which is solved in a moment
BOARD = "kind: chessboard\ncolumns: 8\nrows: 5\nspacing: 0.03\n"


@pytest.fixture(scope="module")
def board_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("board") / "own.yaml"
    path.write_text(BOARD)
    return path


@pytest.fixture(scope="module")
def pictures(board_file) -> list[np.ndarray]:
    """A chessboard before a pinhole camera: tilted to each side in turn, in all parts of the image."""
    board = read_board(board_file)
    raster, drawn = rasterise(board_pattern(board, margin=30), 1.5)
    to_board, _ = cv2.findHomography(drawn, board.points[:, :2], 0)
    middle, noise = board.outline.mean(0), np.random.default_rng(3)
    found = []
    for index in range(16):
        axis = np.radians(90 * index + 20)
        R, _ = cv2.Rodrigues(np.radians(32) * np.array([np.cos(axis), np.sin(axis), 0.1 * (index % 3)]))
        place = 0.06 * (index % 3 - 1), 0.045 * (index // 3 % 3 - 1), 0.42 + 0.03 * (index % 4)
        T = np.array(place) - R @ middle
        H = K @ np.column_stack([R[:, 0], R[:, 1], T]) @ to_board
        thrice = np.array([[3.0, 0, 1], [0, 3, 1], [0, 0, 1]])
        large = cv2.warpPerspective(raster, thrice @ H, (3 * SIZE[0], 3 * SIZE[1]), borderValue=150)
        image = cv2.GaussianBlur(cv2.resize(large, SIZE, interpolation=cv2.INTER_AREA).astype(np.float32), (0, 0), 0.7)
        found.append(np.clip(25 + 0.75 * image + noise.normal(0, 1.5, image.shape), 0, 255).astype(np.uint8))
    return found


@pytest.fixture(scope="module")
def samples(board_file, pictures, tmp_path_factory) -> Path:
    """An archive of these views."""
    folder = tmp_path_factory.mktemp("archive")
    session = Session(read_board(board_file), SessionOptions(archive=str(folder), stop_at="never"))
    try:
        assert session.start().success
        for index, picture in enumerate(pictures):
            session.look(Frame(picture, 10 * index * SECOND, "lens", index, "mono8"))
            if session.status().views <= index:
                assert session.add_view().success
    finally:
        session.close()
    return folder


class Camera:
    """A camera of somebody else's: takes calibrations as it is told to, and publishes what it goes by."""

    def __init__(
        self, observer: Observer, namespace: str, *, answer: str = "", takes: bool = True, serves: bool = True
    ):
        self.observer, self.answer, self.takes = observer, answer, takes
        self.asked: list[CameraInfo] = []
        self.info = CameraInfo(width=SIZE[0], height=SIZE[1], distortion_model="plumb_bob", d=[0.0] * 5)
        self.images = observer.publisher(Image, f"{namespace}/image_raw", RELIABLE)
        self.infos = observer.publisher(CameraInfo, f"{namespace}/camera_info")
        self.timer = observer.node.create_timer(0.1, lambda: self.infos.publish(self.info))
        self.service = (
            observer.node.create_service(SetCameraInfo, f"{namespace}/set_camera_info", self._set) if serves else None
        )

    def _set(self, request, response):
        self.asked.append(request.camera_info)
        response.success, response.status_message = not self.answer, self.answer
        if self.takes and not self.answer:
            self.info = request.camera_info
        return response

    def close(self) -> None:
        node = self.observer.node
        node.destroy_timer(self.timer)
        node.destroy_publisher(self.images)
        node.destroy_publisher(self.infos)
        if self.service is not None:
            node.destroy_service(self.service)


@pytest.fixture
def camera(observer) -> Iterator:
    made: list[Camera] = []

    def make(namespace: str, **behaviour) -> Camera:
        made.append(Camera(observer, namespace, **behaviour))
        return made[-1]

    yield make
    for each in made:
        each.close()


def show(
    observer: Observer,
    process: Process,
    seen: Camera,
    states: Received,
    picture: np.ndarray,
    stamp: int,
    encoding: str = "mono8",
):
    """Sends an image until the node has looked at it (some come too soon after others); returns its status."""

    def looked_at() -> bool:
        if not states or stamp_of(states[-1]) != stamp:
            seen.images.publish(image_message(picture, stamp, encoding, "lens"))
            observer.spin_for(0.15)
        return bool(states) and stamp_of(states[-1]) == stamp

    observer.spin_until(looked_at, f"the status of image {stamp}", process)
    return states[-1]


def ask(observer: Observer, node: str, what: str, folder: Path | str | None = None) -> tuple[bool, str]:
    """(success, message) of a service of the node."""
    if folder is None:
        response = observer.call(Trigger, f"{node}/{what}", Trigger.Request())
    else:
        response = observer.call(CalibrationFiles, f"{node}/{what}", CalibrationFiles.Request(folder=str(folder)))
    return response.success, response.message


def calibrated(observer: Observer, node: str, samples: Path) -> None:
    """The node has solved the samples."""
    loaded, said = ask(observer, node, "load_samples", samples)
    assert loaded, said
    done, said = ask(observer, node, "calibrate")
    assert done, said


def test_a_board_is_shown_collected_solved_saved_and_the_run_repeated(
    observer, start, tmp_path, board_file, pictures, camera
):
    own = {"board": board_file, "archive": tmp_path / "kept", "rate": 0.0, "stop_at": "never"} | LENS
    process = start("calibration", parameters=own, namespace="/cell")
    seen = camera("/cell")
    node = "/cell/calibration"
    with observer.listen(CalibrationStatus, "/cell/calibration_status") as states:
        states.wait(1, process)
        assert (states[-1].state, states[-1].views) == ("collecting", 0)
        assert "8x5" in states[-1].board
        for index, picture in enumerate(pictures, 1):
            shown = show(observer, process, seen, states, picture, 10 * index * SECOND)
            assert (shown.header.frame_id, shown.seen, shown.width, shown.height) == ("lens", True, *SIZE), shown.looked
        assert states[-1].views > 8
        observer.spin_until(lambda: states[-1].model, "a solution while it collects", process)
        assert states[-1].next_view
        assert any(states[-1].cells)
        empty = show(observer, process, seen, states, np.full((480, 640), 99, np.uint8), 10_000 * SECOND)
        assert (empty.seen, empty.looked) == (False, "no board")

        views = states[-1].views
        done, said = ask(observer, node, "calibrate")
        assert done, said
        assert f"{views} views" in said
        observer.spin_until(lambda: states[-1].state == "done", "done", process)
        assert states[-1].rms < 0.3
        assert not states[-1].committed
        stamps = itertools.count(20_000 * SECOND, 10 * SECOND)
        observer.spin_until(
            lambda: (
                show(observer, process, seen, states, pictures[0], next(stamps))
                and "call ~/commit" in observer.diagnostics["cell/calibration"].message
            ),
            "what is to be done",
            process,
        )
        assert states[-1].views == views, "it is done"
        values = observer.fresh_values("cell/calibration", process)
        assert values["views"] == str(views)
        assert values["state"] == "done"
        assert values["verdict"] == states[-1].verdict
        assert float(values["look p50 [ms]"]) > 0
        assert "preview p50 [ms]" not in values, "nobody looked at it"

        done, said = ask(observer, node, "commit")
        assert done, said
        observer.spin_until(lambda: states[-1].committed, "committed", process)
        done, said = ask(observer, node, "save", tmp_path / "saved")
        assert done, said
        archive = Path(states[-1].archive)
        assert len(list(archive.glob("*.png"))) >= views
        done, said = ask(observer, node, "reset")
        assert done, said
        observer.spin_until(lambda: states[-1].views == 0, "a new beginning", process)
        assert len(list(archive.glob("*.png"))) >= views, "what was kept stays"

    solved = seen.info
    assert np.allclose([solved.k[0], solved.k[4], solved.k[2], solved.k[5]], K[[0, 1, 0, 1], [0, 1, 2, 2]], atol=6)
    assert {"report.json", "report.md"} <= {path.name for path in (tmp_path / "saved").iterdir()}
    # From the archive, on another day and under another name: the same numbers to the last digit.
    process = start("calibration", parameters=own | {"camera_info": tmp_path / "again.yaml"}, namespace="/again")
    calibrated(observer, "/again/calibration", archive)
    done, said = ask(observer, "/again/calibration", "commit")
    assert done, said
    again = read_camera_info(tmp_path / "again.yaml")
    assert (again.K.ravel().tolist(), again.D.tolist()) == (list(solved.k), list(solved.d))
    assert again.camera_name == "again", "of its namespace"


def test_the_camera_gets_it_by_service_and_file(observer, start, tmp_path, board_file, samples, camera) -> None:
    own = {"board": board_file, "archive": "''", "collect": False, "camera_name": "left"} | LENS
    process = start("calibration", parameters=own, namespace="/give", environment={"ROS_HOME": str(tmp_path)})
    node, file = "/give/calibration", tmp_path / "camera_info" / "left.yaml"
    with observer.listen(CalibrationStatus, "/give/calibration_status") as states:
        states.wait(1, process)
        assert states[-1].state == "idle"
        done, said = ask(observer, node, "commit")
        assert not done
        assert "there is no calibration yet" in said
        assert not file.exists()

        calibrated(observer, node, samples)
        done, said = ask(observer, node, "commit")  # nobody serves set_camera_info
        assert done, said
        assert f"wrote {file} and read the same back" in said
        assert "there is no service /give/set_camera_info" in said
        assert not states[-1].committed
        kept = read_camera_info(file)
        assert kept.camera_name == "left"
        record = yaml.safe_load(file.read_text())["edge_vision_calibration"]
        assert record["verdict"] == states[-1].verdict
        assert record["views"] > 10

        seen = camera("/give")
        done, said = ask(observer, node, "commit")
        assert done, said
        assert "/give/set_camera_info accepted it; /give/camera_info shows the same numbers" in said
        assert len(seen.asked) == 1
        assert list(seen.info.k) == kept.K.ravel().tolist()
        assert seen.info.distortion_model == kept.distortion_model
        observer.spin_until(lambda: states[-1].committed, "committed", process)
        assert observer.fresh_values("give/calibration", process)["committed"] == "yes"

        # Another solution has not been given to it.
        done, said = ask(observer, node, "calibrate")
        assert done, said
        seen.takes = False
        seen.info = CameraInfo(width=SIZE[0], height=SIZE[1])
        done, said = ask(observer, node, "commit")
        assert not done
        assert re.search(
            r"NOT IN USE: /give/camera_info still shows distortion_model \(none\).*restart the camera", said
        )
        seen.answer = "calibration is locked by the maintainer"
        done, said = ask(observer, node, "commit")
        assert not done
        assert "NOT ACCEPTED: /give/set_camera_info refuses (calibration is locked by the maintainer)" in said
        assert f"wrote {file}" in said


def test_a_folder_that_is_read_only_loses_nothing(
    observer, start, tmp_path, board_file, pictures, samples, camera
) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) is not installed: root would write anywhere")
    sealed = tmp_path / "sealed"
    sealed.mkdir()
    sealed.chmod(0o555)
    own = {"board": board_file, "archive": sealed / "kept", "camera_info": sealed / "c.yaml", "rate": 0.0} | LENS
    process = start.command(
        ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"]
        + [executable("calibration"), *ros_arguments(own, {}, "/sealed", ())],
        "sealed",
    )
    seen = camera("/sealed")
    node = "/sealed/calibration"
    with observer.listen(CalibrationStatus, "/sealed/calibration_status") as states:
        show(observer, process, seen, states, pictures[0], 10 * SECOND)
        observer.spin_until(lambda: "sealed" in states[-1].message, "the archive's trouble", process)
        assert states[-1].views == 1, "it is kept all the same"
    done, said = ask(observer, node, "save", tmp_path / "elsewhere")
    assert done, said
    assert len(list((tmp_path / "elsewhere").glob("*.png"))) == 1
    calibrated(observer, node, samples)
    done, said = ask(observer, node, "commit")
    assert not done
    assert re.search(r"NO FILE WRITTEN: .*c\.yaml.*Permission denied.*give the parameter camera_info a file", said)
    assert "nothing is lost" in said
    assert "shows the same numbers" in said, "the other steps were done all the same"
    assert len(seen.asked) == 1
    assert observer.set_parameter(node, "camera_info", str(tmp_path / "open.yaml")) == (True, "")
    done, said = ask(observer, node, "commit")
    assert done, said
    assert read_camera_info(tmp_path / "open.yaml").K.ravel().tolist() == list(seen.info.k)
    good, why = observer.set_parameter(node, "camera_info", "nowhere.ini")
    assert not good
    assert ".yaml" in why
    assert process.alive


def test_the_preview_is_drawn_only_while_somebody_looks(observer, start, board_file, pictures, camera) -> None:
    own = {"board": board_file, "archive": "''", "rate": 0.0, "preview_width": 320}
    process = start("calibration", parameters=own, namespace="/look")
    seen = camera("/look")
    stamp = 0

    def show_next() -> None:
        nonlocal stamp
        stamp += 10 * SECOND
        seen.images.publish(image_message(pictures[stamp // (10 * SECOND) % 16], stamp, "mono8", "lens"))
        observer.spin_for(0.2)

    with observer.listen(CalibrationStatus, "/look/calibration_status") as states:
        states.wait(1, process)
        for _ in range(3):
            show_next()
        observer.spin_until(lambda: states[-1].views, "views", process)
    assert "preview p50 [ms]" not in observer.fresh_values("look/calibration", process)
    with (
        observer.listen(Image, "/look/calibration_preview") as images,
        observer.listen(CompressedImage, "/look/calibration_preview/compressed") as pressed,
    ):
        observer.spin_until(lambda: show_next() or (images and pressed), "previews", process)
        picture = np.frombuffer(bytes(images[-1].data), np.uint8).reshape(images[-1].height, images[-1].step // 3, 3)
        assert (images[-1].encoding, images[-1].width, images[-1].height) == ("bgr8", 320, 240)
        assert images[-1].header.frame_id == "lens"
        assert np.ptp(picture.astype(int), axis=2).max() > 60, "something is drawn in colour into the grey image"
        assert "jpeg" in pressed[-1].format
        assert cv2.imdecode(np.frombuffer(bytes(pressed[-1].data), np.uint8), cv2.IMREAD_COLOR).shape == (240, 320, 3)
        # A node that does not collect shows the picture all the same.
        assert ask(observer, "/look/calibration", "stop")[0]
        before = len(images)
        observer.spin_until(lambda: show_next() or len(images) > before, "previews while idle", process)
    assert "preview p50 [ms]" in observer.fresh_values("look/calibration", process)


def test_views_by_hand(observer, start, board_file, pictures, camera) -> None:
    own = {"board": board_file, "archive": "''", "rate": 0.0, "collect": False}
    process = start("calibration", parameters=own, namespace="/hand")
    seen, node = camera("/hand"), "/hand/calibration"
    assert ask(observer, node, "add_view") == (
        False,
        "no frame came yet: is the camera on, and its topic the right one?",
    )
    with observer.listen(CalibrationStatus, "/hand/calibration_status") as states:
        for index in range(5):
            show(observer, process, seen, states, pictures[index], (index + 1) * 10 * SECOND)
            done, said = ask(observer, node, "add_view")
            assert done, said
        observer.spin_until(lambda: states[-1].views == 5, "five views", process)
        assert states[-1].state == "idle"
    done, said = ask(observer, node, "load_samples", "/nowhere/at/all")
    assert not done
    assert "/nowhere/at/all" in said


def test_what_cannot_be_is_told_with_the_remedy(observer, start, tmp_path, board_file) -> None:
    process = start("calibration", parameters={"board": "carucho", "archive": "''"}, namespace="/bad")
    name = "bad/calibration"
    said = observer.wait_for_status(name, DiagnosticStatus.ERROR, process).message
    assert "there is no board 'carucho'; give a YAML file that describes it, or one of " in said
    assert "charuco_9x7_25mm" in said
    assert observer.state("/bad/calibration") == "unconfigured"
    # It is mended and goes on.
    assert observer.set_parameter("/bad/calibration", "board", str(board_file)) == (True, "")
    assert observer.change_state("/bad/calibration", "configure")
    assert observer.change_state("/bad/calibration", "activate")
    with observer.listen(CalibrationStatus, "/bad/calibration_status") as states:
        states.wait(1, process)
        assert states[-1].state == "collecting"
    good, why = observer.set_parameter("/bad/calibration", "board", "charuco_9x7_25mm")
    assert not good
    assert "board cannot change while the node is configured" in why
    assert observer.set_parameter("/bad/calibration", "autocommit", True) == (True, "")
    # Down and up again.
    for transition in ("deactivate", "cleanup", "configure", "activate"):
        assert observer.change_state("/bad/calibration", transition), transition
    assert ask(observer, "/bad/calibration", "stop")[0]
    assert process.stop() == 0

    spoilt = tmp_path / "spoilt.yaml"
    spoilt.write_text("kind: chessboard\ncolumns: 8\nrows: 5\nspacing: 30\n")
    process = start("calibration", "--must-start", parameters={"board": spoilt}, namespace="/spoilt")
    assert process.wait() == 1
    assert "spoilt.yaml" in process.log
    assert "Traceback" not in process.log


def test_the_page_is_served_by_the_node(observer, start, board_file, pictures, camera) -> None:
    pytest.importorskip("aiohttp", reason="aiohttp serves the page: pip install aiohttp")
    own = {"board": board_file, "archive": "''", "rate": 0.0, "web": True, "web_port": 0}
    process = start("calibration", parameters=own, namespace="/page")
    line = process.wait_for_log("the page is at http")[0]
    url = re.search(r"http://\S+?/", line)[0]
    assert url.startswith("http://127.0.0.1:")
    seen = camera("/page")

    def get(path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(url + path, data=body, headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read()

    def told() -> dict:
        return json.loads(get("status.json"))

    assert told()["state"] == "collecting"
    with observer.listen(CalibrationStatus, "/page/calibration_status") as states:
        for index in range(4):
            show(observer, process, seen, states, pictures[index], (index + 1) * 10 * SECOND)
        observer.spin_until(lambda: told()["views"] == states[-1].views > 0, "views on the page", process)
        assert "preview p50 [ms]" not in observer.fresh_values("page/calibration", process)

        def looks() -> bytes | None:  # the first look finds nothing, but from then on there will be pictures
            with contextlib.suppress(urllib.error.HTTPError):
                return get("preview.jpg?after=0")
            return None

        stamps = itertools.count(100 * SECOND, 10 * SECOND)
        with ThreadPoolExecutor(1) as browser:
            looking = browser.submit(looks)
            observer.spin_until(
                lambda: show(observer, process, seen, states, pictures[5], next(stamps)) and looking.done(),
                "the picture",
                process,
            )
        assert looking.result()
        shown = cv2.imdecode(np.frombuffer(get("preview.jpg"), np.uint8), cv2.IMREAD_COLOR)
        assert shown.shape == (480, 640, 3)
        assert json.loads(get("command/stop", b"{}"))["success"]
        observer.spin_until(lambda: states[-1].state == "idle", "stopped", process)
    assert observer.fresh_values("page/calibration", process)["page"] == url
    # A port that is taken.
    port = url.rsplit(":", 1)[1].strip("/")
    second = start("calibration", parameters=own | {"web_port": port}, namespace="/taken")
    said = observer.wait_for_status("taken/calibration", DiagnosticStatus.ERROR, second).message
    assert f"port {port} of 127.0.0.1 is taken" in said
    assert "web_port" in said
    assert process.alive


def test_whatever_images_come_the_node_goes_on(observer, start, board_file, pictures, camera) -> None:
    own = {"board": board_file, "archive": "''", "rate": 0.0}
    process: Process = start("calibration", parameters=own, namespace="/odd")
    seen = camera("/odd")
    with observer.listen(CalibrationStatus, "/odd/calibration_status") as states:
        stamp = 0

        def shown(image: np.ndarray, encoding: str = "mono8") -> CalibrationStatus:
            nonlocal stamp
            stamp += 10 * SECOND
            return show(observer, process, seen, states, image, stamp, encoding)

        assert shown(pictures[0]).views == 1
        assert "size" in shown(cv2.resize(pictures[1], (320, 240))).looked
        assert not shown(cv2.GaussianBlur(pictures[2], (0, 0), 6)).seen
        assert not shown(np.zeros((480, 640), np.uint8)).seen
        colour = cv2.cvtColor(pictures[3], cv2.COLOR_GRAY2RGB)
        assert shown(colour, "rgb8").views == 2
        seen.images.publish(image_message(np.zeros((48, 64), np.float32), stamp + SECOND, "32FC1"))
        process.wait_for_log("unknown image encoding '32FC1'")
        assert shown(pictures[4].astype(np.uint16) * 257, "mono16").views == 3
        values = observer.fresh_values("odd/calibration", process)
        assert any(key.startswith("not kept: ") for key in values), values


def test_a_wrong_board_and_blurred_images_are_told(observer, start, tmp_path, pictures, camera) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(BOARD.replace("columns: 8", "columns: 9"))
    own = {"board": wrong, "archive": "''", "rate": 0.0}
    process = start("calibration", parameters=own, namespace="/wrong")
    seen = camera("/wrong")
    stamps = itertools.count(SECOND, SECOND // 10)
    with observer.listen(CalibrationStatus, "/wrong/calibration_status") as states:

        def told(pattern: str, picture: np.ndarray) -> bool:
            seen.images.publish(image_message(picture, next(stamps), "mono8"))
            observer.spin_for(0.05)
            return bool(states) and re.search(pattern, states[-1].message) is not None

        observer.spin_until(lambda: told("9x5.*8x5|8x5.*9x5", pictures[3]), "which board it is", process)
        assert states[-1].views == 0
        blurred = cv2.GaussianBlur(pictures[3], (0, 0), 4)
        observer.spin_until(lambda: told(r"\d\d frames in a row", blurred), "that they are blurred", process)
        assert states[-1].views == 0
        assert states[-1].state == "collecting"
