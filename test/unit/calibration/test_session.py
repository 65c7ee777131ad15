"""A session guided by its own words ends at good, repeats exactly, and tells what is wrong with what it is shown."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_vision.calibration.archive import read_archive
from edge_vision.calibration.boards import Board
from edge_vision.calibration.models import rotation_matrices
from edge_vision.calibration.printing import board_pattern, rasterise
from edge_vision.calibration.projection import Camera
from edge_vision.calibration.result import CalibrationError
from edge_vision.calibration.session import Session, SessionOptions
from edge_vision.datatypes import CALIBRATION_STATES, Frame

CAMERA = Camera("plumb_bob", (640, 480), np.array([520.0, 522, 325, 236, -0.2, 0.05, 1e-3, -1e-3, 0]))
BOARD = Board("chessboard", 9, 6, 0.025)
SECOND = 1_000_000_000


class Stage:
    """A camera that sees a board: pixel by pixel from the lens' rays, twice supersampled, then blurred and noisy."""

    def __init__(self, camera: Camera = CAMERA, board: Board = BOARD, seed: int = 0) -> None:
        self.camera, self.board, self.rng = camera, board, np.random.default_rng(seed)
        width, height = camera.image_size
        u, v = np.meshgrid((np.arange(2 * width) + 0.5) / 2 - 0.5, (np.arange(2 * height) + 0.5) / 2 - 0.5)
        rays = camera.unproject(np.column_stack([u.ravel(), v.ravel()]))
        self.rays = rays.reshape(2 * height, 2 * width, 3).astype(np.float32)
        raster, drawn = rasterise(board_pattern(board, margin=board.spacing * 1000), 4.0)
        self.raster = cv2.GaussianBlur(raster, (0, 0), 1.0)
        self.to_raster, _ = cv2.findHomography(board.points[:, :2], drawn)

    def image(self, rotation, translation) -> np.ndarray:
        normal, t = rotation[:, 2].astype(np.float32), np.asarray(translation, np.float32)
        depth = (normal @ t) / (self.rays @ normal)
        on_board = (self.rays * depth[..., None] - t) @ rotation[:, :2].astype(np.float32)
        at = cv2.perspectiveTransform(on_board.reshape(1, -1, 2), self.to_raster).reshape(on_board.shape)
        at = np.where(depth[..., None] > 0, at, -1e4).astype(np.float32)
        image = cv2.remap(self.raster, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderValue=150)
        image = cv2.resize(image, self.camera.image_size, interpolation=cv2.INTER_AREA).astype(np.float32)
        image = cv2.GaussianBlur(image, (0, 0), 0.7)
        return np.clip(25 + 0.75 * image + self.rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)

    def by_hand(self, rotation, translation) -> np.ndarray:
        """As asked, but for 3 degrees and 3 %."""
        turned = rotation_matrices(self.rng.normal(0, np.radians(3), 3))[0] @ rotation
        middle = self.board.points.mean(axis=0)
        centre = (rotation @ middle + translation) * (1 + self.rng.normal(0, 0.03, 3))
        return self.image(turned, centre - turned @ middle)

    def front(self, index: int) -> np.ndarray:
        """One of many views from near the axis."""
        rng = np.random.default_rng(index)
        rotation = rotation_matrices(rng.uniform(-0.5, 0.5, 3))[0]
        centre = np.array([*rng.uniform(-0.05, 0.05, 2), rng.uniform(0.35, 0.5)])
        return self.image(rotation, centre - rotation @ self.board.points.mean(axis=0))


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage()


@pytest.fixture
def make():
    """Sessions that are closed."""
    made: list[Session] = []

    def session(board: Board = BOARD, on_done=None, **options) -> Session:
        made.append(Session(board, SessionOptions(model="plumb_bob", **options), on_done=on_done))
        return made[-1]

    yield session
    for each in made:
        each.close()


def until(condition, seconds: float = 60.0) -> bool:
    """Waits for what the worker does; whether it came."""
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return bool(met)


def frame(image, index: int = 0) -> Frame:
    return Frame(image, index * SECOND, "camera_optical", index, "mono8")


def follow(session: Session, stage: Stage, most: int = 60) -> list[str]:
    """Shows what is asked for until the session ends; what became of each frame."""
    width, height = stage.camera.image_size
    looks = [session.look(frame(np.full((height, width), 128, np.uint8)))]
    while session.status().state != "done" and len(looks) < most:
        until(lambda: session.status().next_view or session.status().state == "done")
        asked = session.status()
        if asked.state == "collecting":
            image = stage.by_hand(asked.next_rotation, asked.next_translation)
            looks.append(session.look(frame(image, len(looks))))
        before = asked.next_rotation
        until(lambda: session.status().state == "done" or (session.status().next_rotation != before).any(), 2)  # noqa: B023
    return looks


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A guided run to its end: session, the folder of its archive, what became of its frames, how often it was done."""
    folder = tmp_path_factory.mktemp("archive")
    done: list[str] = []
    session = Session(
        BOARD,
        SessionOptions(model="plumb_bob", archive=str(folder), camera_name="front"),
        on_done=lambda: done.append("done"),
    )
    assert session.start().success
    looks = follow(session, Stage(seed=1))
    until(lambda: done)
    yield session, folder, looks, done
    session.close()


def test_a_guided_session_ends_by_itself_at_good(run):
    session, _, looks, done = run
    status = session.status()
    assert (status.state, status.verdict) == ("done", "good"), status.message
    assert status.reasons == ()
    assert done == ["done"]
    assert 15 <= status.views <= 30
    assert looks.count("kept") == status.views
    assert (status.width, status.height) == (640, 480)
    assert min(status.x, status.y, status.size, status.skew) > 0.8
    assert 0.7 < status.coverage <= 1
    calibration = session.calibration
    for name in ("fx", "fy", "cx", "cy"):
        truth = dict(zip(calibration.parameter_names, CAMERA.parameters, strict=True))[name]
        assert calibration.values[name] == pytest.approx(truth, abs=0.5)
    assert session.camera_info.camera_name == "front"
    assert session.camera_info.frame_id == "camera_optical"
    assert session.look(frame(np.zeros((480, 640), np.uint8))) == "not collecting"


def test_the_archive_repeats_the_run_in_another_process(run):
    session, folder, _, _ = run
    script = (
        "import sys; from edge_vision.calibration.session import Session, SessionOptions\n"
        "from edge_vision.calibration.boards import Board\n"
        "s = Session(Board('chessboard', 9, 6, 0.025), SessionOptions(model='plumb_bob'))\n"
        "print(s.load(sys.argv[1]).message); assert s.calibrate().success; c = s.calibration; s.close()\n"
        "print([x.hex() for x in [*c.parameters.tolist(), c.rms, *c.covariance.ravel().tolist()]])\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": ""},
    ).stdout.splitlines()
    c = session.calibration
    assert told[0].startswith(f"{session.status().views} views loaded from ")
    assert told[1] == str([x.hex() for x in [*c.parameters.tolist(), c.rms, *c.covariance.ravel().tolist()]])


def test_the_images_of_the_archive_give_the_same_corners(run):
    session, folder, _, _ = run
    (inner,) = folder.iterdir()
    archive = read_archive(folder)
    assert (archive.folder, archive.camera_name, archive.board) == (inner, "front", BOARD)
    assert session.status().archive == str(inner)
    from edge_vision.calibration.detection import detect

    for sample in archive.samples:
        image = cv2.imread(str(sample.image), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(detect(image, BOARD).pixels, sample.view.pixels)


def test_save_writes_samples_files_and_report(run, tmp_path):
    session, _, _, _ = run
    told = session.save(str(tmp_path / "out"))
    assert told.success, told.message
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"front.yaml", "front.camchain.yaml", "front.opencv.yml", "report.md", "report.json"} <= names
    assert {"session.json", "0001.png", "0001.json"} <= names
    assert session.status().state == "done"


def test_done_is_not_the_end(run):
    session, _, _, done = run
    views = session.status().views
    assert session.start().success
    assert session.status().state == "collecting"
    until(lambda: session.status().state == "done", 0.5)  # it does not end again by what it knew
    assert session.status().state == "collecting"
    assert session.stop().success
    assert (session.status().state, session.status().views, len(done)) == ("idle", views, 1)
    assert session.calibrate().success
    assert session.status().state == "done"


def test_four_views_that_are_nearly_one_are_not_good_enough(make, stage):
    session = make()
    session.start()
    rotation = rotation_matrices(np.array([0.3, 0.1, 0]))[0]
    images = [stage.image(rotation, np.array([-0.1 + 0.0005 * index, -0.06, 0.45])) for index in range(4)]
    looks = [session.look(frame(image, index)) for index, image in enumerate(images)]
    assert looks == ["kept", "adds too little", "adds too little", "adds too little"]
    for index, image in enumerate(images):
        session.look(frame(image, 10 + index))
        assert session.add_view().success
    assert session.status().views == 5
    session.calibrate()
    status = session.status()
    assert status.verdict == "not yet"
    assert session.calibration is None or len(status.reasons) >= 3


def test_a_view_can_be_asked_for(make, stage):
    session = make()
    assert not session.add_view().success
    assert session.look(frame(stage.front(1))) == "not collecting"
    assert session.add_view().success
    assert "already" in session.add_view().message
    assert session.status().views == 1
    session.look(frame(np.full((480, 640), 90, np.uint8)))
    refused = session.add_view()
    assert not refused.success
    assert "9x6" in refused.message


def test_images_of_another_size_are_told_and_the_samples_kept(make, stage):
    session = make()
    session.start()
    assert session.look(frame(stage.front(1))) == "kept"
    small = cv2.resize(stage.front(2), (320, 240))
    assert session.look(frame(small, 1)) == "another image size"
    assert "320x240" in session.status().message
    assert "640x480" in session.status().message
    assert not session.add_view().success
    assert session.rejected == {"another image size": 1}
    assert session.look(frame(stage.front(3), 2)) == "kept"
    assert session.status().views == 2


def test_a_board_that_is_never_seen_is_doubted(make):
    session = make()
    session.start()
    blank = np.full((60, 80), 90, np.uint8)
    for index in range(120):
        assert session.look(frame(blank, index)) == "no board"
    message = session.status().message
    assert "never seen in 120 frames" in message
    assert "9x6 inner corners" in message
    assert session.rejected == {"no board": 120}


@pytest.mark.parametrize(
    ("board", "change", "words"),
    [
        (BOARD, lambda image: 255 - image, "light on dark"),
        (Board("chessboard", 5, 4, 0.025), lambda image: image, "9x6 inner corners is in view"),
    ],
    ids=["inverted", "another size"],
)
def test_why_a_board_is_not_seen_is_found_out(make, stage, board, change, words):
    session = make(board)
    session.start()
    image = change(stage.front(1))

    def told() -> bool:
        assert session.look(frame(image)) != "kept"
        return words in session.status().message

    assert until(told), session.status().message
    assert session.status().views == 0
    assert sum(session.rejected.values()) >= 1


def test_blurred_frames_are_told_and_counted(make, stage):
    session = make()
    session.start()
    assert session.look(frame(stage.front(1))) == "kept"
    looks = [session.look(frame(cv2.GaussianBlur(stage.front(2), (0, 0), 4), 1 + index)) for index in range(12)]
    assert set(looks) == {"blurred"}
    message = session.status().message
    assert "12 frames in a row" in message
    assert "focus" in message
    assert session.rejected == {"blurred": 12}
    assert session.status().views == 1


def test_a_board_that_moves_between_frames_is_not_kept(make, stage):
    session = make()
    session.start()
    rotation, start = np.eye(3), np.array([-0.1, -0.06, 0.45])
    times = [0, 100_000_000, 200_000_000]
    places = [start, start + [0.01, 0, 0], start + [0.0101, 0, 0]]
    frames = [
        Frame(stage.image(rotation, place), stamp=SECOND + stamp) for place, stamp in zip(places, times, strict=True)
    ]
    looks = [session.look(each) for each in frames]
    assert looks[:2] == ["kept", "moving"]
    assert looks[2] != "moving"


@pytest.mark.parametrize("shape", [(0, 0, 3), (5,), (2, 2, 3), (48, 64, 7)])
def test_what_is_no_image_is_told(make, shape):
    session = make()
    session.start()
    assert session.look(Frame(np.zeros(shape, np.uint8))) in ("not an image", "no board")
    assert session.status().views == 0
    assert sum(session.rejected.values()) == 1


def test_an_archive_that_cannot_be_written_loses_nothing(make, stage, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    session = make(archive=str(blocked))
    session.start()
    assert session.look(frame(stage.front(1))) == "kept"
    assert until(lambda: "cannot write the archive" in session.status().message)
    assert session.look(frame(stage.front(2), 1)) == "kept"
    assert not session.save(str(blocked / "inside")).success
    saved = session.save(str(tmp_path / "elsewhere"))
    assert saved.success, saved.message
    assert len(read_archive(tmp_path / "elsewhere").samples) == 2
    blocked.unlink()
    assert session.look(frame(stage.front(3), 2)) == "kept"
    assert until(lambda: session.status().archive)
    assert until(lambda: len(read_archive(blocked).samples) == 3)
    assert "cannot write" not in session.status().message


def test_reset_begins_a_run_of_its_own(make, stage, tmp_path):
    session = make(archive=str(tmp_path))
    session.start()
    session.look(frame(stage.front(1)))
    until(lambda: (tmp_path / "camera-001" / "0001.json").exists())
    assert session.reset().success
    status = session.status()
    assert (status.state, status.views, status.archive, session.rejected) == ("collecting", 0, "", {})
    session.look(frame(stage.front(2), 1))
    assert until(lambda: (tmp_path / "camera-002" / "0001.json").exists())
    assert len(read_archive(tmp_path / "camera-001").samples) == 1
    assert session.status().archive == str(tmp_path / "camera-002")


def test_what_cannot_be_solved_is_told_and_changes_nothing(make, stage):
    session = make()
    session.start()
    session.look(frame(stage.front(1)))
    told = session.calibrate()
    assert not told.success
    assert "3" in told.message
    status = session.status()
    assert (status.state, status.views, status.verdict) == ("collecting", 1, "not yet")
    assert "not calibrated" in status.message


def test_the_most_views_are_the_end_whatever_the_verdict(make, stage):
    done: list[int] = []
    session = make(on_done=lambda: done.append(1), most_views=5, least_gain=0.0)
    session.start()
    for index in range(8):
        session.look(frame(stage.front(index), index))
    assert until(lambda: session.status().state == "done"), session.status()
    status = session.status()
    assert (status.views, status.verdict, done) == (5, "not yet", [])
    assert "the most asked for" in status.message


def test_loading_adds_what_fits(make, stage, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), stage.front(index))
    cv2.imwrite(str(folder / "small.png"), cv2.resize(stage.front(5), (320, 240)))
    (folder / "torn.png").write_bytes(b"no image")
    session = make()
    told = session.load(str(folder))
    assert told.success
    assert told.message.startswith("3 views loaded")
    assert "1 of another size than 640x480" in told.message
    assert "torn.png" in told.message
    assert "3 were there already" in session.load(str(folder)).message
    assert session.status().views == 3
    assert not make(Board("chessboard", 7, 5, 0.025)).load(str(tmp_path)).success
    assert session.save(str(tmp_path / "kept")).success
    other = make(Board("chessboard", 9, 6, 0.03)).load(str(tmp_path / "kept"))
    assert not other.success
    assert "30 mm" in other.message
    assert make().load(str(tmp_path / "kept")).success


def test_another_runs_samples_are_not_mixed(make, stage, tmp_path):
    first, second = make(), make()
    for session, index in ((first, 1), (second, 2)):
        session.start()
        session.look(frame(stage.front(index)))
    assert first.save(str(tmp_path)).success
    assert first.save(str(tmp_path)).success
    refused = second.save(str(tmp_path))
    assert not refused.success
    assert "another folder" in refused.message
    assert not second.save().success


def test_close_ends_the_worker_and_what_comes_after_is_refused(stage):
    session = Session(BOARD)
    session.start()
    session.look(frame(stage.front(1)))
    session.close()
    assert until(lambda: not session._worker.is_alive())
    assert not session.calibrate().success
    assert not session.start().success


@pytest.mark.parametrize(
    "options",
    [
        {"model": "pinhole"},
        {"bow": "maybe"},
        {"stop_at": "perfect"},
        {"least_gain": 2.0},
        {"most_views": 1},
        {"max_speed": 0.0},
        {"camera_name": "a/b"},
    ],
)
def test_options_that_mean_nothing_are_refused(options):
    with pytest.raises(CalibrationError, match=str(next(iter(options.values())))):
        SessionOptions(**options)


def test_states_are_those_of_the_message(run):
    assert run[0].status().state in CALIBRATION_STATES
    assert Path(run[0].status().archive).is_dir()
