"""`edge_vision evaluate tracking`: from files to tables, with its exit codes."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_vision.benchmarks.crowd import Crowd, make_crowd
from edge_vision.benchmarks.tracking_peers import available
from edge_vision.cli import evaluate_tracking
from edge_vision.evaluation import mot_files, sequences, tracking
from edge_vision.evaluation.mot_files import SequenceInfo
from edge_vision.evaluation.track_records import BoxRecords, Role, TrackedBoxes, TruthRecords

pytest.importorskip("trackeval", reason="trackeval is not installed: pip install --no-deps trackeval==1.3.0")

FRAMES = 30


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sequences of a synthetic crowd, in MOTChallenge's layout."""
    home = tmp_path_factory.mktemp("data")
    numbers = np.arange(1, FRAMES + 1)
    for seed, name in enumerate(("walk-1", "run-1")):
        found, truth = make_crowd(Crowd(6, FRAMES, seed=seed))
        (home / name / "gt").mkdir(parents=True)
        (home / name / "det").mkdir()
        mot_files.write_seqinfo(home / name / "seqinfo.ini", SequenceInfo(name, 30, FRAMES, 1920, 1080))
        true = sequences.as_records([TrackedBoxes(t.boxes, t.ids) for t in truth], numbers)
        roles = np.full(len(true), Role.COUNTED, np.uint8)
        records = TruthRecords(true.frames, true.ids, true.boxes, roles, np.ones(len(true), np.int64))
        mot_files.write_truth(home / name / "gt" / "gt.txt", records)
        boxes = sequences.as_records([TrackedBoxes(d.boxes, np.full(len(d), -1), d.scores) for d in found], numbers)
        mot_files.write_boxes(home / name / "det" / "det.txt", boxes)
    return home


def run(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    evaluate_tracking.add_arguments(parser)
    return evaluate_tracking.run(parser.parse_args([str(argument) for argument in arguments]))


def test_detections_are_tracked_and_scored(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--markdown", tmp_path / "a.md", "--csv", tmp_path / "a.csv", "--results", tmp_path / "tracks"]
    presets = ["--preset", "edge_vision", "sort"]
    assert run(data, data, "--groups", "prefix", "--json", *presets, *files) == 0
    report = json.loads(capsys.readouterr().out)
    ours = report["trackers"][0]
    assert ours["name"] == "edge_vision"
    assert set(ours["groups"]) == {"walk", "run"}
    assert ours["sequences"]["walk-1"]["hota"] > 0.5
    assert ours["combined"]["frames"] == 2 * FRAMES
    assert ours["ms"]["walk-1"] > 0
    page = (tmp_path / "a.md").read_text()
    assert page.startswith("| HOTA / MOTA / IDF1 / IDSW | run | walk | mean HOTA | ms/update |")
    assert "**" in page
    with open(tmp_path / "a.csv") as file:
        rows = list(csv.DictReader(file))
    assert {(row["tracker"], row["kind"]) for row in rows} >= {("edge_vision", "sequence"), ("sort", "all")}
    # What was written scores as what was tracked.
    assert run(data, tmp_path / "tracks" / "edge_vision", "--json") == 0
    again = json.loads(capsys.readouterr().out)["trackers"][0]
    assert again["combined"]["hota"] == pytest.approx(ours["combined"]["hota"], abs=1e-4)
    assert again["ms"] == {}


def test_thinned_and_dropped_frames_are_not_looked_at(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data, data, "--every", "3", "--sequences", "walk-1", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["trackers"][0]["combined"]["frames"] == FRAMES / 3
    assert "1 frame in 3" in report["notes"][0]
    assert run(data, data, "--drop", "0.5", "--seed", "1", "--sequences", "walk-1", "--json") == 0
    first = json.loads(capsys.readouterr().out)["trackers"][0]["combined"]
    assert 5 < first["frames"] < 25
    assert run(data, data, "--drop", "0.5", "--seed", "1", "--sequences", "walk-1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["trackers"][0]["combined"] == first


def trackers(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[list[dict], list[str]]:
    assert run(*arguments, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    return report["trackers"], report["notes"]


def tracked_to(folder: Path, home: Path, seed: int) -> list[dict[str, Any]]:
    """The sequences of a single run with half the frames lost, truth and written tracks as TrackEval takes them."""
    prepared = []
    for found in sequences.find_sequences(home, folder):
        one = sequences.load_sequence(*found)
        frames = sequences.chosen_frames(FRAMES, drop=0.5, seed=seed, name=one.name)
        truth, boxes = sequences.truth_frames(one.truth, frames), sequences.tracked_frames(one.boxes, frames)
        prepared.append(tracking.prepare(truth, boxes, one.name))
    return prepared


def test_draws_are_scored_as_trackeval_combines_single_runs(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from trackeval.metrics import CLEAR, HOTA, Identity

    lost = [data, data, "--drop", "0.5", "--groups", "prefix"]
    ((draws,), notes) = trackers(capsys, *lost, "--seed", "3", "--draws", "2", "--results", tmp_path / "draws")
    assert "2 sequences in 2 draws taken together" in notes[0]
    assert "50% of the frames dropped (seeds 3 to 4)" in notes[0]
    assert "first draw" in notes[-1]
    assert list(draws["sequences"]) == ["run-1", "run-1, draw 2", "walk-1", "walk-1, draw 2"]
    single, prepared = [], []
    for seed in (3, 4):
        ((one,), _) = trackers(capsys, *lost, "--seed", str(seed), "--results", tmp_path / str(seed))
        single.append(one)
        prepared += tracked_to(tmp_path / str(seed), data, seed)
    for name in ("run-1", "walk-1"):  # each draw by itself is the run with its seed
        assert draws["sequences"][name] == single[0]["sequences"][name]
        assert draws["sequences"][f"{name}, draw 2"] == single[1]["sequences"][name]
        written = [(tmp_path / folder / f"{name}.txt").read_text() for folder in ("draws", "3", "4")]
        assert written[0] == written[1] != written[2]
    assert sorted(file.name for file in (tmp_path / "draws").iterdir()) == ["run-1.txt", "walk-1.txt"]
    assert draws["ms"]["walk"] > 0

    def combined(metric: Any, chosen: list[int]) -> dict[str, Any]:
        parts = {str(index): metric.eval_sequence(prepared[index]) for index in chosen}
        return metric.combine_sequences(parts)

    quiet = {"PRINT_CONFIG": False}
    units = {"run": [0, 2], "walk": [1, 3], "combined": [0, 1, 2, 3]}
    for unit, chosen in units.items():
        got = draws["combined"] if unit == "combined" else draws["groups"][unit]
        assert got["hota"] == pytest.approx(combined(HOTA(), chosen)["HOTA"].mean(), abs=1e-4)
        assert got["assa"] == pytest.approx(combined(HOTA(), chosen)["AssA"].mean(), abs=1e-4)
        assert got["mota"] == pytest.approx(combined(CLEAR(quiet), chosen)["MOTA"], abs=1e-4)
        assert got["idf1"] == pytest.approx(combined(Identity(quiet), chosen)["IDF1"], abs=1e-4)
        pair = [one["combined"] if unit == "combined" else one["groups"][unit] for one in single]
        for count in ("frames", "objects", "results", "idsw", "fp", "fn"):
            assert got[count] == pair[0][count] + pair[1][count]


def test_thinned_draws_start_a_frame_later_each(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second draw is what the first is of a sequence that lacks its first frame; the camera's motion included."""
    later = tmp_path / "later"
    steps = np.random.default_rng(1).uniform(-60, 60, (FRAMES, 2))
    for home, skipped in ((tmp_path / "whole", 0), (later, 1)):
        (home / "walk-1").mkdir(parents=True)
        length = FRAMES - skipped
        mot_files.write_seqinfo(home / "walk-1" / "seqinfo.ini", SequenceInfo("walk-1", 30, length, 1920, 1080))
        for kind in ("gt", "det"):
            rows = [line.split(",") for line in (data / "walk-1" / kind / f"{kind}.txt").read_text().splitlines()]
            lines = []
            for frame, number, left, top, *rest in rows:
                if int(frame) > skipped:  # the camera moves: so do all boxes
                    x, y = np.array([left, top], float) + steps[1 : int(frame)].sum(axis=0)
                    lines.append(",".join([str(int(frame) - skipped), number, f"{x:.3f}", f"{y:.3f}", *rest]))
            (home / "walk-1" / f"{kind}.txt").write_text("\n".join(lines) + "\n")
        warps = [f"{row} 1 0 {x} 0 1 {y}" for row, (x, y) in enumerate(steps[skipped:])]
        (home / "walk-1" / "gmc.txt").write_text("\n".join(warps) + "\n")
    thinned = ["--every", "3", "--warps"]
    ((draws,), notes) = trackers(capsys, tmp_path / "whole", tmp_path / "whole", *thinned, "--draws", "3")
    assert "in 3 draws taken together, 1 frame in 3 (from frame 1 to 3 on)" in notes[0]
    assert "with the camera's motion for 1 sequences" in notes[0]
    assert draws["combined"]["frames"] == FRAMES
    ((second,), _) = trackers(capsys, later, later, *thinned)
    assert draws["sequences"]["walk-1, draw 2"] == pytest.approx(second["sequences"]["walk-1"])
    assert draws["sequences"]["walk-1, draw 2"]["hota"] > 0.4
    ((still,), _) = trackers(capsys, tmp_path / "whole", tmp_path / "whole", "--every", "3", "--draws", "3")
    for name, scores in draws["sequences"].items():
        assert scores["idf1"] > still["sequences"][name]["idf1"]  # the motion is of use in every draw


def test_seeds_and_first_frames_are_drawn_together(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = ["--csv", tmp_path / "a.csv", "--markdown", tmp_path / "a.md"]
    chosen = ["--every", "2", "--drop", "0.3", "--draws", "3", "--sequences", "walk-1"]
    assert run(data, data, *chosen, *tables) == 0
    out = capsys.readouterr().out
    assert "1 frame in 2 (from frame 1 to 2 on), 30% of the frames dropped (seeds 0 to 2)" in out
    names = ["walk-1", "walk-1, draw 2", "walk-1, draw 3", "all together"]
    with open(tmp_path / "a.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == names
    frames = [len(sequences.chosen_frames(FRAMES, 2, 0.3, draw, "walk-1", start=1 + draw % 2)) for draw in range(3)]
    assert [int(row["frames"]) for row in rows] == [*frames, sum(frames)]
    assert all(any(name in line for line in (tmp_path / "a.md").read_text().splitlines()) for name in names)


def test_peers_get_the_frames_of_every_draw(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not available()[0]:
        pytest.skip("no other tracker is installed: see docs/tracking_scores.md")
    lost = [data, data, "--drop", "0.5", "--peers", "--sequences", "walk-1"]
    several, _ = trackers(capsys, *lost, "--draws", "2")
    assert len(several) > 1
    singles = [trackers(capsys, *lost, "--seed", str(seed))[0] for seed in (0, 1)]
    for both, first, second in zip(several, *singles, strict=True):
        assert both["name"] == first["name"] == second["name"]
        assert both["sequences"]["walk-1"] == first["combined"]
        assert both["sequences"]["walk-1, draw 2"] == second["combined"]


def test_the_table_names_sequences_and_their_sum(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data, data) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["edge_vision", "HOTA", "DetA"]
    assert [line.split()[0] for line in lines[1:3]] == ["run-1", "walk-1"]
    assert lines[3].startswith("= all together")


def test_settings_reach_the_tracker(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = ["--sequences", "walk-1", "--json"]
    assert run(data, data, *one, "--set", "new_score=0.99") == 0
    strict = json.loads(capsys.readouterr().out)["trackers"][0]["combined"]
    assert run(data, data, *one) == 0
    assert json.loads(capsys.readouterr().out)["trackers"][0]["combined"]["results"] > strict["results"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--preset", "best"], "unknown tracker preset 'best'"),
        (["--set", "patience=3"], "patience"),
        (["--set", "lost_after"], "write NAME=VALUE"),
        (["--every", "0"], "from 1 up"),
        (["--drop", "1"], "cannot be dropped"),
        (["--draws", "0", "--drop", "0.2"], "from 1 up"),
        (["--draws", "2"], "there is nothing to draw"),
        (["--draws", "4", "--every", "3"], "at most --draws 3"),
        (["--draws", "2", "--every", "0"], "from 1 up"),
        (["--draws", "32", "--every", "40"], "has 30 frames and frame 31 cannot be the first"),
        (["--groups", "cars=KITTI*"], "no sequence fits the group cars"),
        (["--sequences", "swim*"], "no sequence in"),
    ],
)
def test_wrong_arguments_end_with_2(
    data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert run(data, data, *arguments) == 2
    assert says in capsys.readouterr().err


def test_a_broken_file_ends_with_2_and_its_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("walk-1", "run-1"):
        (tmp_path / f"{name}.txt").write_text("1,-1,1,1,5,5,0.9\n1,-1,oops,1,5,5,0.9\n")
    assert run(data, tmp_path) == 2
    assert "run-1.txt, line 2" in capsys.readouterr().err


def test_without_trackeval_it_ends_with_1(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "trackeval.metrics", None)
    assert run(data, data, "--sequences", "walk-1") == 1
    assert "pip install --no-deps trackeval" in capsys.readouterr().err


def test_an_interpreter_that_is_none_ends_with_1(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data, data, "--peer-python", "/no/such/python") == 1
    assert "cannot be started" in capsys.readouterr().err


def test_results_and_peers_do_not_go_together(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = BoxRecords(np.array([1]), np.array([1]), np.array([[0.0, 0, 9, 9]]), np.ones(1), np.full(1, -1))
    for name in ("walk-1", "run-1"):
        mot_files.write_boxes(tmp_path / f"{name}.txt", records)
    assert run(data, tmp_path, "--peers") == 2
    assert "holds results" in capsys.readouterr().err


def test_a_video_where_there_are_images(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "img1"
    images.mkdir()
    for frame in range(1, FRAMES + 1):
        cv2.imwrite(str(images / f"{frame:06d}.jpg"), np.full((270, 480, 3), 80, np.uint8))
    home = data / "walk-1"
    link = home / "img1"
    link.symlink_to(images, target_is_directory=True)
    try:
        assert run(data, data, "--every", "4", "--video", tmp_path / "tracks.mp4") == 0
    finally:
        link.unlink()
    assert "no video of run-1" in capsys.readouterr().out
    video = cv2.VideoCapture(str(tmp_path / "tracks.mp4"))
    shown = []
    while (read := video.read())[0]:
        shown.append(read[1])
    assert len(shown) == FRAMES - 1  # frames 1, 5, ..., 29, each as long as the step
    assert shown[-1].shape == (270, 480, 3)
    assert shown[-1].std() > 1  # something is drawn


def test_a_real_sequence(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = shared_data / "tracking"
    if not (home / "TUD-Campus").is_dir():
        pytest.skip("tracking/TUD-Campus is not among the shared data")
    assert run(home, home, "--sequences", "TUD-Campus", "--json") == 0
    combined = json.loads(capsys.readouterr().out)["trackers"][0]["combined"]
    assert (combined["frames"], combined["objects"], combined["identities"]) == (71, 359, 8)
    assert combined["hota"] > 0.4


def test_the_twin_is_followed_without_switches(capsys: pytest.CaptureFixture[str]) -> None:
    """The bundled detector on the twin; docs/tracking_scores.md has the figure of 3,000 frames."""
    assert run("sim://conveyor", "conveyor_parts", "--frames", 120, "--seeds", 9001, "--json") == 0
    scores = json.loads(capsys.readouterr().out)["trackers"][0]["combined"]
    assert scores["frames"] == 120
    assert scores["objects"] > 1000
    assert scores["idsw"] <= 1
    assert scores["idf1"] > 0.95


def test_no_scene_of_the_twin_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("sim://nothing", "conveyor_parts") == 2
    assert "sim://conveyor" in capsys.readouterr().err
