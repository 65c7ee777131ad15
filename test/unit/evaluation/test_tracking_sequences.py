"""Sequences: found in folders, thinned and with frames dropped, warps composed, groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.datatypes import NS_PER_S
from edge_vision.evaluation import sequences
from edge_vision.evaluation.track_records import BoxRecords, TrackedBoxes

ROW = "1,1,10,10,20,40,1,1,1\n"
DETECTION = "1,-1,10,10,20,40,0.9,-1,-1,-1\n"


def folder(path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return path


def seqinfo(length: int = 5) -> str:
    return f"[Sequence]\nframeRate=25\nseqLength={length}\n"


@pytest.mark.parametrize(
    ("truth", "boxes"),
    [
        ("A/gt/gt.txt", "A/det/det.txt"),
        ("A/gt.txt", "A/det.txt"),
        ("A/gt.txt", "A/det_synth.txt"),
        ("A/gt/gt.txt", "A.txt"),
        ("A.txt", "A.txt"),
    ],
)
def test_every_usual_layout_is_found(tmp_path: Path, truth: str, boxes: str) -> None:
    true = folder(tmp_path / "truth", {truth: ROW, "B/readme.md": "", truth.replace("A", "C", 1): ROW})
    found = folder(tmp_path / "found", {boxes: DETECTION, boxes.replace("A", "C", 1): DETECTION})
    if truth != "A.txt":
        folder(true, {"A/seqinfo.ini": seqinfo()})
    pairs = sequences.find_sequences(true, found)
    _, true_file, box_file, _ = pairs[0]
    assert (true_file, box_file) == (true / truth, found / boxes)
    assert [name for *_, name in pairs] == ["A", "C"]
    assert [name for *_, name in sequences.find_sequences(true, found, names=["[B-D]"])] == ["C"]
    sequence = sequences.load_sequence(*pairs[0], frame_rate=25)
    assert (sequence.name, sequence.info.frame_rate, len(sequence.truth), len(sequence.boxes)) == ("A", 25, 1, 1)


def test_two_files_are_a_sequence(tmp_path: Path) -> None:
    home = folder(tmp_path / "Street", {"gt/gt.txt": ROW, "mine.txt": DETECTION, "seqinfo.ini": seqinfo()})
    ((info, *_, name),) = sequences.find_sequences(home / "gt" / "gt.txt", home / "mine.txt")
    assert info is not None
    assert name == "Street"


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    true = folder(tmp_path / "truth", {"A/gt.txt": ROW})
    with pytest.raises(ValueError, match="nothing does not exist"):
        sequences.find_sequences(tmp_path / "nothing", true)
    with pytest.raises(ValueError, match=r"nothing for A in .*--sequences"):
        sequences.find_sequences(true, true)
    with pytest.raises(ValueError, match=r"no sequence in .* is called B: there are A"):
        sequences.find_sequences(true, true, names=["B"])
    with pytest.raises(ValueError, match=r"no truth in .*gt/gt\.txt"):
        sequences.find_sequences(folder(tmp_path / "empty", {"x/y": ""}), true)
    with pytest.raises(ValueError, match="is one file for several sequences"):
        sequences.find_sequences(true, true / "A" / "gt.txt")
    found = folder(tmp_path / "found", {"A.txt": DETECTION})
    ((_, *files),) = sequences.find_sequences(true, found)
    with pytest.raises(ValueError, match=r"gt\.txt: no seqinfo\.ini beside it.*--fps"):
        sequences.load_sequence(None, *files)


def test_frames_beyond_the_end_are_told(tmp_path: Path) -> None:
    home = folder(
        tmp_path, {"A/gt.txt": ROW, "A/det.txt": DETECTION.replace("1,", "9,", 1), "A/seqinfo.ini": seqinfo(5)}
    )
    (pair,) = sequences.find_sequences(home, home)
    with pytest.raises(ValueError, match=r"det\.txt: frame 9 lies beyond .*seqLength=5"):
        sequences.load_sequence(*pair)


def test_thinned_frames_begin_with_the_first() -> None:
    assert sequences.chosen_frames(10, 3).tolist() == [1, 4, 7, 10]
    assert sequences.chosen_frames(2, 6).tolist() == [1]


def test_thinned_frames_begin_where_they_are_told_to() -> None:
    starts = [sequences.chosen_frames(10, 3, start=start).tolist() for start in (1, 2, 3)]
    assert starts == [[1, 4, 7, 10], [2, 5, 8], [3, 6, 9]]
    lost = sequences.chosen_frames(3000, 3, 0.2, 4, "a", start=2)
    assert set(lost.tolist()) < set(range(2, 3001, 3))
    assert sequences.chosen_frames(10, 10, 0.99, start=10).tolist() == [10]  # one is always left
    for wrong in (0, 11):
        with pytest.raises(ValueError, match=rf"A has 10 frames and frame {wrong} cannot be the first"):
            sequences.chosen_frames(10, 3, name="A", start=wrong)


def test_the_first_draw_is_what_it_always_was() -> None:
    """Frames that published figures were measured on: another random stream would move them."""
    assert sequences.chosen_frames(20, drop=0.5, name="MOT17-02-val").tolist() == [2, 3, 6, 7, 11, 12, 13, 16, 17, 20]
    assert sequences.chosen_frames(20, 2, 0.5, 1, "MOT17-02-val", start=1).tolist() == [1, 3]


def test_dropped_frames_depend_on_seed_and_name_alone() -> None:
    chosen = sequences.chosen_frames(1000, drop=0.2, seed=4, name="a")
    assert 750 < len(chosen) < 850
    assert chosen.tolist() == sequences.chosen_frames(1000, drop=0.2, seed=4, name="a").tolist()
    assert chosen.tolist() != sequences.chosen_frames(1000, drop=0.2, seed=5, name="a").tolist()
    assert chosen.tolist() != sequences.chosen_frames(1000, drop=0.2, seed=4, name="b").tolist()
    assert len(sequences.chosen_frames(1, drop=0.99)) == 1
    for wrong in ({"every": 0}, {"drop": 1.0}, {"drop": -0.1}):
        with pytest.raises(ValueError, match="give"):
            sequences.chosen_frames(10, **wrong)


@given(st.integers(1, 4), st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_composed_warps_lead_where_the_single_ones_do(every: int, seed: int, start: int) -> None:
    rng = np.random.default_rng(seed)
    warps = np.eye(2, 3) + rng.normal(0, 0.02, (13, 2, 3)) * (1, 1, 100)
    frames = sequences.chosen_frames(13, every, 0.2, seed, start=start)
    composed = sequences.compose_warps(warps, frames)
    point = rng.uniform(0, 1000, 2)
    single, thinned = point.copy(), point.copy()
    for frame in range(int(frames[0]) + 1, int(frames[-1]) + 1):
        single = warps[frame - 1] @ (*single, 1)
    for warp in composed[1:]:
        thinned = warp @ (*thinned, 1)
    np.testing.assert_allclose(thinned, single)
    np.testing.assert_array_equal(composed[0], np.eye(2, 3))


def test_detections_have_the_time_of_their_frame() -> None:
    frames = np.array([1, 1, 3], np.int64)
    boxes = np.arange(12.0).reshape(3, 4)
    records = BoxRecords(frames, np.full(3, -1), boxes, np.array([0.5, 0.6, 0.7]), np.full(3, -1))
    got = sequences.detections(records, np.array([1, 2, 3]), 25.0)
    assert [len(d) for d in got] == [2, 0, 1]
    assert [d.stamp for d in got] == [0, NS_PER_S // 25, 2 * NS_PER_S // 25]
    assert got[2].boxes.tolist() == [[8, 9, 10, 11]]


def test_tracks_become_rows_and_back() -> None:
    found = [
        TrackedBoxes(np.array([[0.0, 1, 2, 3]]), np.array([4])),
        TrackedBoxes(np.zeros((0, 4)), np.zeros(0, np.int64)),
    ]
    records = sequences.as_records(found, np.array([2, 5]))
    assert (records.frames.tolist(), records.ids.tolist(), records.tracked) == ([2], [4], True)
    back = sequences.tracked_frames(records, np.array([2, 5]))
    assert [len(frame.ids) for frame in back] == [1, 0]


def test_groups(tmp_path: Path) -> None:
    names = ["KITTI-1", "MOT17-02", "TUD-C", "42"]
    assert sequences.group_names([], names) == {}
    assert sequences.group_names(["people=MOT*,TUD*", "cars=KITTI*"], names) == {
        "people": ["MOT17-02", "TUD-C"],
        "cars": ["KITTI-1"],
    }
    assert sequences.group_names(["prefix"], names) == {
        "KITTI": ["KITTI-1"],
        "MOT": ["MOT17-02"],
        "TUD": ["TUD-C"],
        "other": ["42"],
    }
    (tmp_path / "groups.yaml").write_text("cars: ['KITTI*']\n")
    assert sequences.group_names([str(tmp_path / "groups.yaml")], names) == {"cars": ["KITTI-1"]}
    (tmp_path / "list.yaml").write_text("- a\n")
    for wrong, says in (
        (["a=X*"], "no sequence fits the group a"),
        (["a=", "b=c"], "'a=' is no group"),
        ([str(tmp_path / "none.yaml")], "No such file"),
        ([str(tmp_path / "list.yaml")], "no file of groups"),
    ):
        with pytest.raises(ValueError, match=says):
            sequences.group_names(wrong, names)
