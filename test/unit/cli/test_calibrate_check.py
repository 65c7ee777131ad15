"""`edge_vision calibrate check`, as a user calls it, on rendered images of a board and of a scene."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from edge_vision.calibration.camera_info_file import write_camera_info
from edge_vision.calibration.models import rotation_matrices
from edge_vision.cli.main import main
from edge_vision.datatypes import CameraInfo

SIZE = (640, 480)
K = np.array([[520.0, 0, 322], [0, 521, 238], [0, 0, 1]])
BOARD = "kind: chessboard\ncolumns: 7\nrows: 5\nspacing: 0.03\n"


def info(scale: float = 1.0) -> CameraInfo:
    own = K * [[scale, 1, 1], [1, scale, 1], [1, 1, 1]]
    return CameraInfo(*SIZE, own, np.zeros(5), P=np.hstack([own, np.zeros((3, 1))]), camera_name="front")


def board_image(R: np.ndarray, t: np.ndarray) -> np.ndarray:
    """A chessboard of 8x6 squares seen by K, antialiased."""
    cell = 60
    board = np.full((8 * cell, 10 * cell), 255, np.uint8)
    for row in range(6):
        for column in range(8):
            if (row + column) % 2 == 0:
                board[(row + 1) * cell : (row + 2) * cell, (column + 1) * cell : (column + 2) * cell] = 20
    # From pixels of the print to metres on the board, whose origin is the first inner corner.
    to_board = np.array([[0.03 / cell, 0, -0.06 + 0.015 / cell], [0, 0.03 / cell, -0.06 + 0.015 / cell], [0, 0, 1]])
    H = K @ np.column_stack([R[:, 0], R[:, 1], t]) @ to_board
    big = np.diag([3.0, 3, 1]) @ H
    large = cv2.warpPerspective(board, big, (3 * SIZE[0], 3 * SIZE[1]), flags=cv2.INTER_LINEAR, borderValue=128)
    return cv2.resize(large, SIZE, interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A folder with images of the board all over the view, tilted, and its YAML."""
    folder = tmp_path_factory.mktemp("board")
    (folder / "board.yaml").write_text(BOARD)
    images = folder / "images"
    images.mkdir()
    rng = np.random.default_rng(1)
    turns = [(0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)]
    for index in range(14):
        R = rotation_matrices([*turns[index % 4], rng.uniform(-0.2, 0.2)])[0]
        middle = np.array([rng.uniform(-0.06, 0.06), rng.uniform(-0.05, 0.05), rng.uniform(0.24, 0.36)])
        cv2.imwrite(str(images / f"{index:02}.png"), board_image(R, middle - R @ [0.09, 0.06, 0]))
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders of images of a textured wall: as it was, as it is with a longer focal length, another wall."""
    folder = tmp_path_factory.mktemp("place")
    walls = []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        wall = cv2.GaussianBlur(rng.integers(0, 255, SIZE[::-1]).astype(np.uint8), (0, 0), 3)
        walls.append(cv2.normalize(wall, None, 0, 255, cv2.NORM_MINMAX))
    longer = K * [[1.01, 1, 1], [1, 1.01, 1], [1, 1, 1]] @ np.linalg.inv(K)
    rng = np.random.default_rng(3)
    pictures = {
        "then": walls[0],
        "now": walls[0],
        "longer": cv2.warpPerspective(walls[0], longer, SIZE, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT),
        "other": walls[1],
    }
    for name, picture in pictures.items():
        (folder / name).mkdir()
        for index in range(3):
            noisy = picture + rng.normal(0, 2, picture.shape)
            cv2.imwrite(str(folder / name / f"{index}.png"), np.clip(noisy, 0, 255).astype(np.uint8))
    write_camera_info(folder / "cam.yaml", info())
    assert check(folder / "then", folder / "cam.yaml", "--take-reference", folder / "ref.npz") == 0
    return folder


def check(source, calibration, *more) -> int:
    return main(["calibrate", "check", str(source), "--calibration", str(calibration), *map(str, more)])


def test_a_board_tells_a_good_file_from_a_wrong_one(shown, tmp_path, capsys):
    write_camera_info(tmp_path / "good.yaml", info())
    write_camera_info(tmp_path / "wrong.yaml", info(1.05))
    how = ("--board", shown / "board.yaml", "--json", "-")
    assert check(shown / "images", tmp_path / "good.yaml", *how) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "valid"
    picture = tmp_path / "new" / "wrong.png"
    assert check(shown / "images", tmp_path / "wrong.yaml", *how, "--png", picture) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["cause"], told["remedy"]) == ("drifted", "lens", "calibrate again")
    shift = next(each for each in told["figures"] if each["name"] == "shift of fx")
    assert abs(shift["value"] + 26) < 5
    assert cv2.imread(str(picture)).shape[1] == 1280


def test_a_scene_tells_whether_the_lens_has_changed(place, capsys):
    capsys.readouterr()
    reference = ("--reference", place / "ref.npz")
    assert check(place / "now", place / "cam.yaml", *reference) == 0
    assert capsys.readouterr().out.startswith("valid: the lens shift is ")
    assert check(place / "longer", place / "cam.yaml", *reference) == 1
    said = capsys.readouterr().out
    assert said.startswith("drifted: the lens shift is ")
    assert "or the camera has come so much nearer): calibrate again" in said
    assert check(place / "longer", place / "cam.yaml", *reference, "--limit", 20) == 0
    assert check(place / "other", place / "cam.yaml", *reference) == 2
    assert "unknown: " in capsys.readouterr().out


def test_what_cannot_be_done_says_why_with_exit_code_2(place, shown, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    cases = [
        ((place / "now", tmp_path / "no.yaml", "--reference", place / "ref.npz"), "no such calibration file"),
        ((place / "now", place / "cam.yaml", "--reference", tmp_path / "no.npz"), "there is no reference"),
        ((place / "now", place / "cam.yaml", "--board", tmp_path / "no.yaml"), "no.yaml"),
        ((tmp_path / "empty", place / "cam.yaml", "--reference", place / "ref.npz"), "empty"),
        ((place / "now", place / "cam.yaml", "--take-reference", place / "cam.yaml" / "x.npz"), "cannot write"),
    ]
    for arguments, says in cases:
        assert check(*arguments) == 2
        assert says in capsys.readouterr().err
    assert check(place / "now", place / "cam.yaml", "--board", shown / "board.yaml") == 2
    assert "was seen in none of 3 images" in capsys.readouterr().out


def test_images_of_another_size_exit_with_1_and_the_remedy(place, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((240, 320), np.uint8))
    assert check(tmp_path / "small.png", place / "cam.yaml", "--reference", place / "ref.npz") == 1
    assert "drifted: the image size differs" in capsys.readouterr().out
