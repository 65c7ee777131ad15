"""MOTChallenge's files: round trips, roles of the truth, and what is said about broken ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.evaluation import mot_files
from edge_vision.evaluation.mot_files import SequenceInfo
from edge_vision.evaluation.track_records import BoxRecords, Role, TruthRecords, as_probabilities

coordinate = st.floats(-500, 4000).map(lambda value: round(value, 2))
side = st.floats(0, 2000).map(lambda value: round(value, 2))


@st.composite
def records(draw: st.DrawFn) -> BoxRecords:
    count = draw(st.integers(0, 20))
    frames = np.sort(np.array(draw(st.lists(st.integers(1, 9), min_size=count, max_size=count)), np.int64))
    ids = np.arange(count, dtype=np.int64)
    corners = np.array(draw(st.lists(st.tuples(coordinate, coordinate, side, side), min_size=count, max_size=count)))
    boxes = corners.reshape(count, 4)
    boxes[:, 2:] += boxes[:, :2]
    scores = np.array(draw(st.lists(st.floats(0, 1), min_size=count, max_size=count)), np.float64)
    return BoxRecords(frames, ids, boxes, scores, np.full(count, -1, np.int64))


@given(records())
def test_boxes_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, given_records: BoxRecords
) -> None:
    path = tmp_path_factory.mktemp("mot") / "tracks.txt"
    mot_files.write_boxes(path, given_records)
    read = mot_files.read_boxes(path)
    np.testing.assert_array_equal(read.frames, given_records.frames)
    np.testing.assert_array_equal(read.ids, given_records.ids)
    np.testing.assert_allclose(read.boxes, given_records.boxes, atol=2e-3)
    np.testing.assert_allclose(read.scores, given_records.scores, atol=1e-6)


@given(records())
def test_truth_comes_back_with_what_counts(tmp_path_factory: pytest.TempPathFactory, given_records: BoxRecords) -> None:
    roles = np.where(given_records.ids % 3 == 0, Role.PASSIVE, Role.COUNTED).astype(np.uint8)
    classes = np.ones(len(roles), np.int64)
    truth = TruthRecords(given_records.frames, given_records.ids, given_records.boxes, roles, classes)
    path = tmp_path_factory.mktemp("mot") / "gt.txt"
    mot_files.write_truth(path, truth)
    read = mot_files.read_truth(path)
    np.testing.assert_array_equal(read.roles, roles)
    np.testing.assert_array_equal(read.class_ids, classes)
    np.testing.assert_allclose(read.boxes, truth.boxes, atol=2e-3)


def test_pixels_count_from_one_in_the_file_and_from_zero_here(tmp_path: Path) -> None:
    (tmp_path / "det.txt").write_text("1,-1,1,1,10,20,0.9,-1,-1,-1\n")
    read = mot_files.read_boxes(tmp_path / "det.txt")
    assert read.boxes.tolist() == [[0, 0, 10, 20]]
    assert not read.tracked


def test_roles_follow_motchallenge(tmp_path: Path) -> None:
    rows = ["1,1,1,1,9,9,1,1,1", "1,2,1,1,9,9,0,1,1", "1,3,1,1,9,9,0,8,1", "1,4,1,1,9,9,0,3,1", "1,-1,1,1,9,9,0,13,0"]
    (tmp_path / "gt.txt").write_text("\n".join(rows) + "\n")
    roles = mot_files.read_truth(tmp_path / "gt.txt").roles.tolist()
    assert roles == [Role.COUNTED, Role.PASSIVE, Role.NEUTRAL, Role.PASSIVE, Role.NEUTRAL]


def test_classes_can_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "gt.txt").write_text("1,1,1,1,9,9,1,3,1\n1,2,1,1,9,9,1,5,1\n")
    assert mot_files.read_truth(tmp_path / "gt.txt").roles.tolist() == [Role.COUNTED, Role.COUNTED]
    assert mot_files.read_truth(tmp_path / "gt.txt", classes=(5,)).roles.tolist() == [Role.PASSIVE, Role.COUNTED]


def test_rows_without_a_class_count_where_the_flag_says_so(tmp_path: Path) -> None:
    (tmp_path / "gt.txt").write_text("2,1,1,1,9,9,1,-1,-1,-1\n1,1,1,1,9,9,0,-1,-1,-1\n")
    read = mot_files.read_truth(tmp_path / "gt.txt")
    assert read.frames.tolist() == [1, 2]
    assert read.roles.tolist() == [Role.PASSIVE, Role.COUNTED]


@pytest.mark.parametrize(
    ("rows", "line", "says"),
    [
        (["1,1,0,0,5,5,1,-1,-1,-1", "", "1,2,0,0,5"], 3, "10 comma-separated columns, got 5"),
        (["1,1,0,0,5,5,1", "1,2,0,zero,5,5,1"], 2, "zero"),
        (["1,1,0,0,5,nan,1"], 1, "finite"),
        (["0,1,0,0,5,5,1"], 1, "from 1"),
        (["1.5,1,0,0,5,5,1"], 1, "whole"),
        (["1,1,0,0,5,5,1", "", "2,1,0,0,-5,5,1"], 3, "negative"),
        (["1,7,0,0,5,5,1", "1,7,9,9,5,5,1"], 2, "id 7 is there twice in frame 1"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, rows: list[str], line: int, says: str) -> None:
    (tmp_path / "gt.txt").write_text("\n".join(rows) + "\n")
    for read in (mot_files.read_boxes, mot_files.read_truth):
        with pytest.raises(ValueError, match=rf"gt\.txt, line {line}: .*{says}"):
            read(tmp_path / "gt.txt")


def test_an_empty_file_is_a_sequence_without_boxes(tmp_path: Path) -> None:
    (tmp_path / "det.txt").write_text("\n")
    assert len(mot_files.read_boxes(tmp_path / "det.txt")) == 0
    assert len(mot_files.read_truth(tmp_path / "det.txt")) == 0


def test_seqinfo_comes_back(tmp_path: Path) -> None:
    (tmp_path / "img1").mkdir()
    info = SequenceInfo("belt", 29.97, 40, 640, 480, tmp_path / "img1", ".png")
    mot_files.write_seqinfo(tmp_path / "seqinfo.ini", info)
    assert mot_files.read_seqinfo(tmp_path / "seqinfo.ini") == info


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name=x\n", "no seqinfo.ini"),
        ("[Other]\na=1\n", r"no section \[Sequence\]"),
        ("[Sequence]\nseqLength=3\n", "frameRate is missing"),
        ("[Sequence]\nframeRate=fast\nseqLength=3\n", "frameRate=fast is no number"),
        ("[Sequence]\nframeRate=30\nseqLength=0\n", "seqLength=0"),
    ],
)
def test_a_broken_seqinfo_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "seqinfo.ini").write_text(text)
    with pytest.raises(ValueError, match=f"seqinfo.ini.*{says}"):
        mot_files.read_seqinfo(tmp_path / "seqinfo.ini")


@pytest.mark.parametrize("first", [0, 1, 301])
@pytest.mark.parametrize("apart", ["\t", " ", ","])
def test_warps_begin_at_any_number(tmp_path: Path, first: int, apart: str) -> None:
    rows = [apart.join(map(str, (first + i, 1, 0, i, 0, 1, -i))) for i in range(4)]
    (tmp_path / "gmc.txt").write_text("\n".join(rows) + "\n")
    warps = mot_files.read_warps(tmp_path / "gmc.txt", 4)
    assert warps[:, 0, 2].tolist() == [0, 1, 2, 3]
    shorter = mot_files.read_warps(tmp_path / "gmc.txt", 5)
    assert shorter[:, 0, 2].tolist() == [0, 0, 1, 2, 3]
    with pytest.raises(ValueError, match="4 warps for 9 frames"):
        mot_files.read_warps(tmp_path / "gmc.txt", 9)


def test_warps_with_a_gap_are_refused(tmp_path: Path) -> None:
    (tmp_path / "gmc.txt").write_text("1 1 0 0 0 1 0\n3 1 0 0 0 1 0\n")
    with pytest.raises(ValueError, match=r"gmc\.txt, line 2: .*go up by one"):
        mot_files.read_warps(tmp_path / "gmc.txt", 2)


def test_scores_become_probabilities() -> None:
    logits = np.array([-800.0, -1.0, 0.0, 3.0, 800.0])
    found = as_probabilities(logits)
    np.testing.assert_allclose(found, [0, 1 / (1 + np.e), 0.5, 1 / (1 + np.exp(-3)), 1], atol=1e-12)
    given_ones = np.array([0.2, 1.0])
    assert as_probabilities(given_ones) is given_ones
    assert as_probabilities(given_ones, "logit")[1] == pytest.approx(0.731, abs=1e-3)
    with pytest.raises(ValueError, match="--scores logit"):
        as_probabilities(logits, "probability")
    with pytest.raises(ValueError, match="unknown score scale 'percent'"):
        as_probabilities(logits, "percent")
