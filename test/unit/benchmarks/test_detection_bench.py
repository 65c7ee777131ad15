"""The bench of the detection: its scenes are what they say, and its figures those of the detectors."""

import numpy as np

from edge_vision.benchmarks.board_scenes import BOARDS, SIZE, scenes
from edge_vision.benchmarks.detection import detection_section
from edge_vision.benchmarks.results import Report, as_dict
from edge_vision.calibration.detection import detect


def test_a_scene_has_its_corners_where_it_says() -> None:
    board = BOARDS["charuco"]
    scene = next(scenes(board, 1))
    assert scene.image.shape == SIZE[::-1]
    view = detect(scene.image, board)
    off = view.pixels - scene.pixels(board.points)[view.ids]
    assert len(view) == len(board.points)
    assert np.sqrt(np.mean(np.sum(off**2, 1))) < 0.1


def test_both_detectors_are_measured_on_every_view() -> None:
    told: list[int] = []
    section = detection_section(1, told.append, kinds=("chessboard",), seeds=1)
    ours, theirs = section.rows
    assert ours.latency.count == theirs.latency.count == sum(told) == 5
    assert ours.latency.p50 > 0
    assert theirs.latency.p50 > 0
    unfound, rms = section.checks[1:]
    assert unfound.value == 0
    assert 0 < rms.value < rms.limit
    assert any("270 corners" in note and "0 astray" in note for note in section.notes)
    parts = as_dict(Report("bench calibration", "here", {}, (section,)))["sections"]
    assert [row["name"] for row in parts[0]["rows"]] == [ours.name, theirs.name]
