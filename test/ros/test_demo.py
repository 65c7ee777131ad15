"""`edge_vision demo` as a person starts it: a process, its exit code, its files, what it says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from edge_vision.evaluation.formats import read_coco_results, read_mot
from edge_vision.inference.backends import BACKENDS

FILES = ["detections.json", "overlay.mp4", "summary.json", "tracks.csv"]


def demo(*arguments: str | Path, timeout: float = 90) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end; it and its pipeline are killed after `timeout` seconds."""
    command = ["timeout", "-k", "5", str(timeout), "edge_vision", "demo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout + 20, check=False)


def video_frames(path: Path) -> int:
    video = cv2.VideoCapture(str(path))
    count = 0
    while video.read()[0]:
        count += 1
    return count


def test_the_twin_is_detected_and_scored(tmp_path):
    result = demo("--duration", "3", "--pace", "fast", "--source", "sim://conveyor?seed=901", "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["frames"] == summary["frames_with_results"] == 90
    assert summary["scores"]["frames"] == 90
    assert summary["scores"]["mAP50"] > 0.8
    assert video_frames(tmp_path / "overlay.mp4") == summary["video_frames"] == 90
    coco = read_coco_results(tmp_path / "detections.json")
    assert len(coco) == summary["detections"] > 90
    assert set(coco.image_ids) <= set(range(90))
    tracks = read_mot(tmp_path / "tracks.csv")
    assert len(set(tracks.ids.tolist())) == summary["tracks"] > 2
    # The person is told what ran, why, and how good it was.
    assert any(name in result.stdout for name in BACKENDS)
    for words in ("chosen because", "mAP50", "latency", "dropped", "overlay.mp4"):
        assert words in result.stdout
    assert "frame 90" in result.stderr, "the progress line"


def test_json_is_json(tmp_path):
    result = demo("--duration", "1", "--json", "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == json.loads((tmp_path / "summary.json").read_text())


def test_people_are_found_in_a_real_video(tmp_path, shared_data):
    source, model = (
        shared_data / "video" / "one-by-one-person-detection.mp4",
        shared_data / "models/fastestdet_coco.onnx",
    )
    wanted = ("--duration", "25", "--classes", "person")
    result = demo("--source", source, "--model", model, *wanted, "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["frames"] == summary["frames_with_results"] == 250, "every frame of a recording"
    assert list(summary["detections_per_class"]) == ["person"]
    assert summary["detections"] > 100
    tracks = read_mot(tmp_path / "tracks.csv")
    people = tracks.ids[tracks.class_ids == 0]
    longest = max((people == track).sum() for track in set(people.tolist()))
    assert longest > 60, "one person walks through for many seconds under one id"


def test_interrupted_runs_leave_whole_files(tmp_path):
    process = subprocess.Popen(
        ["edge_vision", "demo", "--duration", "60", "--output", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 45
        tracks = tmp_path / "tracks.csv"
        while time.monotonic() < deadline and not (tracks.exists() and tracks.stat().st_size):
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=40)
    finally:
        process.kill()
    assert process.returncode == 0, stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["ended"] == "SIGINT received"
    assert 0 < summary["frames"] < 1800
    assert video_frames(tmp_path / "overlay.mp4") == summary["video_frames"] > 0
    assert len(read_coco_results(tmp_path / "detections.json")) == summary["detections"]
    assert "files" in stdout


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """40 frames of the twin."""
    from edge_vision.sources import open_source

    path = tmp_path_factory.mktemp("video") / "belt.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (640, 480))
    with open_source("sim://conveyor?frames=40") as source:
        while (sample := source.read()) is not None:
            writer.write(sample.frame.image)
    writer.release()
    return path


def test_what_is_wrong_is_said_with_the_remedy(tmp_path, video):
    (tmp_path / "letter.onnx").write_text("Dear aunt, this is no model.\n" * 50)
    (tmp_path / "letter.mp4").write_text("Dear aunt, this is no video.\n" * 50)
    (tmp_path / "file").write_text("")
    cases = [
        (["--source", tmp_path / "none.mp4"], "none.mp4"),
        (["--source", tmp_path / "letter.mp4"], "letter.mp4"),
        (["--source", "smoke://signal"], "unknown kind of source"),
        (["--source", "sim://conveyor?colour=red"], "colour"),
        (["--model", tmp_path / "none.onnx"], "none.onnx"),
        (["--model", tmp_path / "letter.onnx"], "letter.onnx"),
        (["--backend", "abacus"], "abacus"),
        (["--backend", "tensorrt"], "tensorrt"),
        (["--output", tmp_path / "file" / "output"], "--output"),
        (["--duration", "-3"], "--duration"),
        (["--classes", "unicorn"], "unicorn"),
        (["--score", "7"], "score_threshold"),
    ]
    for arguments, words in cases:
        result = demo("--source", video, "--output", tmp_path / "output", *arguments)
        assert result.returncode in (1, 2), f"{arguments}: {result.returncode}\n{result.stderr}"
        assert words in result.stderr, f"{arguments}: {result.stderr}"
        assert "Traceback" not in result.stderr, f"{arguments}: {result.stderr}"


def test_a_truncated_video_is_worked_through_as_far_as_it_goes(tmp_path, video):
    data = video.read_bytes()
    short = tmp_path / "short.avi"
    short.write_bytes(data[: len(data) * 6 // 10])
    result = demo("--source", short, "--output", tmp_path / "output")
    summary = json.loads((tmp_path / "output" / "summary.json").read_text())
    assert 10 < summary["frames"] < 40
    assert summary["frames_with_results"] == summary["frames"]
    assert "short.avi" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 5 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("a small disk can only be mounted by root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_costs_the_video_and_nothing_else(tmp_path, small_disk):
    (small_disk / "ballast").write_bytes(bytes(1 << 20))
    result = demo("--duration", "30", "--pace", "fast", "--output", small_disk / "output")
    assert result.returncode == 1
    assert "overlay.mp4: only" in result.stderr
    assert "Free some space" in result.stderr
    assert result.stderr.count("overlay.mp4: only") <= 2, "once in the log, once at the end"
    summary = json.loads((small_disk / "output" / "summary.json").read_text())
    assert summary["frames_with_results"] == 900
    assert 0 < video_frames(small_disk / "output" / "overlay.mp4") < 900
    assert len(read_coco_results(small_disk / "output" / "detections.json")) == summary["detections"]
