"""``sim://board`` as a source: the boards as they are printed, found by what calibrates with them, and moved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_vision.calibration.boards import find_board
from edge_vision.calibration.detection import detect
from edge_vision.calibration.views import Rejected, View
from edge_vision.simulation.movement import Hand, Manner, shown_poses
from edge_vision.sources import SourceError, open_source
from edge_vision.sources.board_scene import SimulatedBoard

BOARDS = ("acircles_4x11_20mm", "aprilgrid_6x6_22mm", "charuco_9x7_25mm", "chessboard_9x6_25mm", "circles_7x5_30mm")
FACING = np.eye(3), np.array([-0.1, -0.07, 0.45])


def opened(uri: str) -> SimulatedBoard:
    source = open_source(uri)
    assert isinstance(source, SimulatedBoard)
    return source


def look(source: SimulatedBoard, board) -> View | Rejected:
    sample = source.read()
    assert sample is not None
    return detect(sample.frame.image, board)


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_is_found_where_it_truly_is(name: str) -> None:
    board = find_board(name)
    with opened(f"sim://board?board={name}&width=800&height=600&seed=2&motion_blur=off") as source:
        scene = source._scene
        errors = []
        for seed, shown in enumerate(shown_poses(scene.lens, 800, 600, scene.sheet.outline, scene.sheet.printed_up)):
            hand = Hand(scene.sheet.outline.mean(0), Manner(degrees=3, share=0.02), seed)
            hand.aim(shown, 0.0)
            pose = hand.pose(0.0)
            assert pose is not None
            source.move_board(pose.rotation, pose.translation)
            view = look(source, board)
            if isinstance(view, View):
                errors.append(view.pixels - scene.project(board.points, pose)[view.ids])
        assert len(errors) >= 6
        every = np.concatenate(errors)
        # The centre of a circle's image is not the image of its centre: circles have a bias of their own.
        bias = 0.25 if "circles" in name else 0.03
        assert np.abs(every.mean(0)).max() < bias / 3
        assert max(np.abs(view.mean(0)).max() for view in errors) < bias
        assert np.median(np.abs(every)) < (0.15 if "circles" in name else 0.08)


def test_an_inverted_board_is_not_taken_for_the_board() -> None:
    board = find_board("charuco_9x7_25mm")  # a chessboard with its colours inverted is itself, upside down
    found = []
    for inverted in ("off", "on"):
        with opened(f"sim://board?inverted={inverted}") as source:
            source.move_board(*FACING)
            found.append(isinstance(look(source, board), View))
    assert found == [True, False]


def test_it_shows_itself_until_it_is_moved_and_then_stays_where_it_was_put() -> None:
    with opened("sim://board?width=160&height=120&noise=off&fps=2") as source:
        first, later = source.read(), [source.read() for _ in range(8)][-1]
        assert first is not None
        assert later is not None
        assert (first.frame.encoding, first.frame.sequence, later.frame.sequence) == ("bgr8", 0, 8)
        assert later.frame.stamp - first.frame.stamp == 4_000_000_000
        assert first.truth is None
        assert np.abs(first.frame.image.astype(int) - later.frame.image).max() > 100
        source.move_board(*FACING)
        put = [source.read() for _ in range(5)]
        assert put[0] is not None
        assert all(sample is not None and (sample.frame.image == put[0].frame.image).all() for sample in put[1:])
        source.move_board(FACING[0], FACING[1] + [0.1, 0, 0])
        moved = source.read()
        assert moved is not None
        assert (moved.frame.image != put[0].frame.image).any()


def test_what_is_no_pose_is_refused() -> None:
    with opened("sim://board?width=64&height=48") as source:
        for rotation, translation in (
            (2 * np.eye(3), np.zeros(3)),
            (np.diag([1.0, 1.0, -1.0]), np.ones(3)),
            (np.eye(3), np.array([0, 0, np.nan])),
            (np.eye(4), np.zeros(3)),
        ):
            with pytest.raises(ValueError, match="rotation"):
                source.move_board(rotation, translation)


def test_the_camera_is_uncalibrated_unless_it_is_asked_not_to_be() -> None:
    with opened("sim://board?model=equidistant") as source:
        assert source.camera_info() is None
    with opened("sim://board?model=equidistant&calibrated=true&width=320&height=240") as source:
        info = source.camera_info()
        assert info is not None
        assert (info.width, info.distortion_model, len(info.D)) == (320, "equidistant", 4)
        assert info.frame_id == "camera_optical_frame"


def test_a_board_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("{kind: chessboard, columns: 5, rows: 4, spacing: 0.03}")
    with opened(f"sim://board?board={file}") as source:
        assert "chessboard 5x4, 30 mm" in source.description
        view = look(source, find_board(str(file)))
        assert isinstance(view, View)
        assert len(view.ids) == 20


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("sim://board?board=nonesuch", "no board 'nonesuch'; .* charuco_9x7_25mm"),
        ("sim://board?board=no/such.yaml", "no such board file"),
        ("sim://board?model=pinhole", "one of plumb_bob"),
        ("sim://board?shutter=1", "unknown option 'shutter'"),
        ("sim://sea", "unknown scene 'sea'; known: sim://conveyor, sim://flat, sim://board"),
    ],
)
def test_what_cannot_be_is_said(uri: str, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        open_source(uri)
