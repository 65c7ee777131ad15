"""KITTI's tracking labels and results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_vision.evaluation import kitti_files
from edge_vision.evaluation.track_records import BoxRecords, Role

TAIL = "-1.5 10 20 40 60 1.5 1.6 3.9 1 2 3 0.1"


def label(frame: int, number: int, kind: str, truncated: int = 0, occluded: int = 0) -> str:
    return f"{frame} {number} {kind} {truncated} {occluded} {TAIL}"


def test_roles_follow_the_benchmark(tmp_path: Path) -> None:
    rows = [
        label(0, 1, "Car"),
        label(0, 2, "Car", occluded=3),
        label(0, 3, "Car", truncated=1),
        label(0, 4, "Van"),
        label(0, 5, "Pedestrian"),
        label(0, -1, "DontCare", -1, -1),
    ]
    (tmp_path / "0001.txt").write_text("\n".join(rows) + "\n")
    truth = kitti_files.read_truth(tmp_path / "0001.txt")
    assert truth.roles.tolist() == [Role.COUNTED, Role.NEUTRAL, Role.NEUTRAL, Role.NEUTRAL, Role.REGION]
    assert truth.frames.tolist() == [1] * 5  # frames count from 0 in the file
    assert truth.boxes[0].tolist() == [10, 20, 40, 60]
    people = kitti_files.read_truth(tmp_path / "0001.txt", "pedestrian")
    assert people.ids.tolist() == [5, -1]


def test_results_come_back(tmp_path: Path) -> None:
    boxes = np.array([[1.5, 2.25, 30, 40], [0, 0, 5, 6]])
    records = BoxRecords(np.array([1, 3]), np.array([4, 9]), boxes, np.array([0.5, 0.25]), np.zeros(2, np.int64))
    kitti_files.write_boxes(tmp_path / "0001.txt", records)
    assert kitti_files.is_kitti(tmp_path / "0001.txt")
    read = kitti_files.read_boxes(tmp_path / "0001.txt")
    assert read.tracked
    for name in ("frames", "ids", "boxes", "scores"):
        np.testing.assert_allclose(getattr(read, name), getattr(records, name))


def test_a_mot_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "gt.txt").write_text("1,1,2,3,4,5,1,1,1\n")
    assert not kitti_files.is_kitti(tmp_path / "gt.txt")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("0 1 Car 0 0", "17 or 18 blank-separated columns, got 5"),
        (label(0, 1, "Boat"), "unknown type 'Boat'"),
        (label(0, 1, "Car").replace("20", "x"), "could not convert"),
        (label(-1, 1, "Car"), "frames from 0 up"),
        (label(0, 1, "Car").replace("40 60", "5 60"), "right or lower edge"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, row: str, says: str) -> None:
    (tmp_path / "0001.txt").write_text(label(0, 0, "Car") + "\n\n" + row + "\n")
    with pytest.raises(ValueError, match=rf"0001\.txt, line 3: .*{says}"):
        kitti_files.read_truth(tmp_path / "0001.txt")


def test_an_unknown_type_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0001.txt").write_text(label(0, 0, "Car") + "\n")
    with pytest.raises(ValueError, match="no type 'bus'"):
        kitti_files.read_truth(tmp_path / "0001.txt", "bus")
