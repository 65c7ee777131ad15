"""`edge_vision calibrate images` and `compare`, as a user calls them, on drawn and real images."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from edge_vision.calibration.camera_info_file import format_camera_info, read_camera_info
from edge_vision.calibration.files import RECORD, read_calibration
from edge_vision.calibration.models import rotation_matrices
from edge_vision.cli.main import main
from edge_vision.datatypes import CameraInfo

BOARD = "kind: chessboard\ncolumns: 7\nrows: 5\nspacing: 0.03\n"
K = np.array([[520.0, 0, 322], [0, 521, 238], [0, 0, 1]])


def draw(pose, size=(640, 480)) -> np.ndarray:
    """A chessboard of 8x6 squares seen by K without distortion, antialiased."""
    R, t = rotation_matrices(np.array(pose[:3]))[0], np.array(pose[3:])
    image = np.full((size[1] * 2, size[0] * 2), 235, np.uint8)

    def pixels(corners):
        seen = np.array([[x, y, 0.0] for x, y in corners]) @ R.T + t
        flat = seen[:, :2] / seen[:, 2:] * K[[0, 1], [0, 1]] + K[:2, 2]
        return np.round(((flat + 0.5) * 2 - 0.5) * 16).astype(np.int32)

    for row in range(6):
        for column in range(8):
            if (row + column) % 2:
                continue
            x, y = (column - 1) * 0.03, (row - 1) * 0.03
            square = [(x, y), (x + 0.03, y), (x + 0.03, y + 0.03), (x, y + 0.03)]
            cv2.fillConvexPoly(image, pixels(square), 25, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(cv2.resize(image, size, interpolation=cv2.INTER_AREA), (0, 0), 0.7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Ten images of the board, one without it, and the board's file."""
    root = tmp_path_factory.mktemp("images")
    (root / "board.yaml").write_text(BOARD)
    images = root / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for index in range(10):
        tilt = [(0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5), (0.3, 0.3)][index % 5]
        place = [(-0.18, -0.1), (-0.02, -0.12), (-0.16, 0.0), (0.0, 0.0), (-0.09, -0.06)][index * 3 % 5]
        image = draw((*tilt, rng.uniform(-0.2, 0.2), *place, rng.uniform(0.42, 0.55)))
        noise = rng.normal(0, 2, image.shape)
        cv2.imwrite(str(images / f"view{index:02}.png"), np.clip(image + noise, 0, 255).astype(np.uint8))
    cv2.imwrite(str(images / "wall.png"), np.full((480, 640), 128, np.uint8))
    return root


def test_from_a_folder_to_files_and_report(folder, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["calibrate", "images", str(folder / "images"), "--board", str(folder / "board.yaml")]
    assert main([*arguments, "--name", "front", "-o", str(out)]) == 0
    told = capsys.readouterr()
    assert "verdict: " in told.out
    assert "next views" in told.out
    assert "wall.png" in told.out  # and why it is left out
    assert "detecting" in told.err
    info = read_camera_info(out / "front.yaml")
    np.testing.assert_allclose(info.K, K, atol=2.5)
    assert (info.width, info.height, info.camera_name) == (640, 480, "front")
    for other in ("front.opencv.yml", "front.camchain.yaml"):
        read = read_calibration(out / other)
        np.testing.assert_array_equal(read.K, info.K)
        np.testing.assert_array_equal(read.D[:4], info.D[:4])
    record = yaml.safe_load((out / "front.yaml").read_text())[RECORD]
    report = json.loads((out / "report.json").read_text())
    assert record["rms"] == pytest.approx(report["residuals"]["rms"], rel=1e-12)
    assert record["rms"] < 0.2
    assert record["verdict"] == report["verdict"]
    assert len(report["views"]) + len(report["removed_views"]) == 10
    assert [each["name"] for each in report["rejected_images"]] == ["wall.png"]
    assert np.shape(report["uncertainty"]["map"]) == (5, 7)
    assert report["next_views"][0]["gain"] > 0
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 5
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    ).replace("https://matplotlib.org", "")
    markdown = (out / "report.md").read_text()
    for name in ("uncertainty", "coverage", "residuals", "cross_validation", "views"):
        picture = cv2.imread(str(out / f"{name}.png"))
        assert picture is not None
        assert picture.std() > 5
        assert f"({name}.png)" in markdown


def test_json_alone_and_the_exit_code_of_a_check(folder, capsys):
    arguments = ["calibrate", "images", str(folder / "images"), "--board", str(folder / "board.yaml")]
    code = main(
        [*arguments, "--model", "plumb_bob", "--terms", "k1", "--frames", "4", "--json", "-", "--at-least", "good"]
    )
    report = json.loads(capsys.readouterr().out)
    assert code == 1
    assert report["verdict"] == "not yet"
    assert report["parameters"]["k2"] == {"value": 0.0, "sigma": None}
    assert {"views", "coverage"} <= {reason["figure"] for reason in report["reasons"] if reason["level"] != "good"}


@pytest.mark.parametrize(
    ("board", "arguments", "message"),
    [
        (BOARD, ["{folder}/nothing"], "nothing"),
        (BOARD, ["{folder}/images/wall.png"], "no view of the board"),
        (BOARD.replace("7", "8"), ["{folder}/images/view00.png"], "7x5 inner corners is in view"),
        ("kind: chess\n", ["{folder}/images"], "columns is missing"),
        (BOARD, ["{folder}/images", "--terms", "k1"], "give --model"),
        (BOARD, ["{folder}/images/view00.png", "--model", "plumb_bob", "--terms", "k9"], "plumb_bob has no k9"),
        (BOARD, ["{folder}/images", "--frames", "2"], "2 usable views, 3 are needed"),
        (BOARD, ["{folder}/images", "-o", "{folder}/board.yaml"], "is a file"),
    ],
)
def test_what_cannot_be_done_is_told(folder, tmp_path, capsys, board, arguments, message):
    (tmp_path / "board.yaml").write_text(board)
    given = [argument.format(folder=folder) for argument in arguments]
    assert main(["calibrate", "images", *given, "--board", str(tmp_path / "board.yaml")]) == 2
    told = capsys.readouterr().err
    assert "edge_vision calibrate images: " in told
    assert message in told


def test_images_of_two_sizes_are_told(folder, tmp_path, capsys):
    for index in range(3):
        image = cv2.imread(str(folder / "images" / f"view{index:02}.png"))
        cv2.imwrite(str(tmp_path / f"{index}.png"), image[: 480 - 10 * (index == 2)])
    assert main(["calibrate", "images", str(tmp_path), "--board", str(folder / "board.yaml")]) == 2
    assert "images of different sizes: 640x480" in capsys.readouterr().err


def test_compare(tmp_path, capsys):
    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    for file, k1 in ((a, -0.1), (b, -0.11)):
        file.write_text(format_camera_info(CameraInfo(640, 480, K, np.array([k1, 0, 0, 0]), P=np.eye(3, 4))))
    picture, page = tmp_path / "difference.png", tmp_path / "difference.html"
    assert main(["calibrate", "compare", str(a), str(b), "--png", str(picture), "--html", str(page)]) == 0
    assert "difference, corners" in capsys.readouterr().out
    assert cv2.imread(str(picture)).std() > 5
    assert "<svg" in page.read_text()
    assert main(["calibrate", "compare", str(a), str(a), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["largest"] < 1e-6
    assert main(["calibrate", "compare", str(a), str(b), "--at-most", "1e-9", "--distance", "0.5"]) == 1
    assert "shift taken out" in capsys.readouterr().out
    assert main(["calibrate", "compare", str(a), str(tmp_path / "none.yaml")]) == 2
    assert "no such calibration file" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["images", "compare"])
def test_help(what, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", what, "--help"])
    assert ended.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Exit code 0" in told
    assert "None" not in told


def test_bouguets_left_images(shared_data, tmp_path, capsys):
    """RMS below 0.22, fx inside of the published 3 sigma, and a verdict with its reasons."""
    (tmp_path / "board.yaml").write_text("kind: chessboard\ncolumns: 9\nrows: 6\nspacing: 0.03\n")
    images = str(shared_data / "calibration" / "opencv_left")
    assert main(["calibrate", "images", images, "--board", str(tmp_path / "board.yaml"), "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["model"] == "plumb_bob"
    assert len(report["views"]) == 13
    assert report["residuals"]["rms"] < 0.22
    assert abs(report["parameters"]["fx"]["value"] - 533.00) < 1.08
    assert abs(report["parameters"]["fy"]["value"] - 533.15) < 1.11
    blamed = {reason["figure"] for reason in report["reasons"] if reason["level"] != "good"}
    assert {"views", "coverage", "uncertainty at the corners"} <= blamed
    assert not blamed & {"RMS", "outliers", "cross-validation"}


def test_a_video_is_thinned_to_what_tells_most(folder, tmp_path, capsys):
    path = str(tmp_path / "board.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 10, (640, 480))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MJPG video")
    for index in range(10):
        image = cv2.imread(str(folder / "images" / f"view{index:02}.png"))
        for _ in range(2):
            writer.write(image)
    writer.release()
    arguments = ["calibrate", "images", path, "--board", str(folder / "board.yaml"), "--every", "1", "--most", "8"]
    assert main([*arguments, "--model", "plumb_bob", "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["views"]) + len(report["removed_views"]) == 8
    assert report["images"] == 20
    assert any("of 20 frames" in note for note in report["notes"])
