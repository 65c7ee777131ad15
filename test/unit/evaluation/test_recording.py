"""A run's files: whole, agreeing with each other, and with one clear error where the disk refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import cv2
import numpy as np
import pytest

from edge_vision.datatypes import Detections, Frame, Tracks
from edge_vision.evaluation.formats import OutputError, read_coco_results, read_mot
from edge_vision.evaluation.recording import Recording

LABELS = ("nut", "bolt")


def feed(recording: Recording, sequences: list[int], fps: float = 10.0) -> None:
    for sequence in sequences:
        stamp = round(sequence * 1e9 / fps)
        boxes = np.array([[10, 20, 50, 60]], np.float32)
        scores, classes = np.array([0.9], np.float32), np.array([sequence % 2])
        image = np.full((96, 128, 3), sequence, np.uint8)
        recording.add_frame(Frame(image, stamp, "camera", sequence))
        recording.add_truth(Tracks(boxes, scores, classes, np.array([7]), labels=LABELS, stamp=stamp))
        recording.add_detections(Detections(boxes, scores, classes, LABELS, stamp=stamp))
        recording.add_tracks(Tracks(boxes, scores, classes, np.array([3]), labels=LABELS, stamp=stamp))
        recording.add_overlay(Frame(image, stamp, "camera", sequence))


def test_the_four_files_of_a_run_agree(tmp_path):
    recording = Recording(tmp_path / "made" / "here")
    feed(recording, list(range(12)))
    summary = recording.close({"ended": "by hand"})

    folder = tmp_path / "made" / "here"
    assert sorted(path.name for path in folder.iterdir()) == sorted(summary["files"])
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert summary["frames"] == summary["frames_with_results"] == summary["video_frames"] == 12
    assert summary["detections_per_class"] == {"bolt": 6, "nut": 6}
    assert summary["tracks"] == 1
    assert summary["scores"]["mAP50"] == 1.0
    assert summary["ended"] == "by hand"
    assert read_coco_results(folder / "detections.json").image_ids.tolist() == list(range(12))
    assert read_mot(folder / "tracks.csv").frames.tolist() == list(range(1, 13))
    video = cv2.VideoCapture(str(folder / "overlay.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 12
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(10.0)


def test_dropped_frames_keep_the_video_in_time(tmp_path):
    recording = Recording(tmp_path)
    feed(recording, [0, 1, 5, 6])  # 2, 3 and 4 were dropped
    summary = recording.close()
    assert summary["video_frames"] == 7
    video = cv2.VideoCapture(str(tmp_path / "overlay.mp4"))
    levels = []
    while (read := video.read())[0]:
        levels.append(round(float(read[1].mean())))
    assert len(levels) == 7
    assert np.abs(np.diff(levels[2:5])).max() <= 1, "the missing frames show what came next"


def test_one_frame_and_no_frame_end_well(tmp_path):
    for name, sequences in (("one", [0]), ("none", [])):
        recording = Recording(tmp_path / name)
        feed(recording, sequences)
        assert recording.close()["frames"] == len(sequences)
        assert json.loads((tmp_path / name / "detections.json").read_text()) is not None
    assert cv2.VideoCapture(str(tmp_path / "one" / "overlay.mp4")).read()[0]


def test_a_folder_that_cannot_be_made_is_named_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/output: cannot be made .*--output"):
        Recording(tmp_path / "file" / "output")


def test_a_disk_that_is_nearly_full_ends_the_video_and_nothing_else(tmp_path, monkeypatch):
    recording = Recording(tmp_path)
    feed(recording, list(range(8)))
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("edge_vision.evaluation.recording.shutil.disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match=r"overlay.mp4: only 0.0 MB are free .* Free some space"):
        feed(recording, list(range(8, 20)))
    monkeypatch.undo()
    summary = recording.close()
    assert summary["video_frames"] == 8
    assert cv2.VideoCapture(str(tmp_path / "overlay.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 8


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process are set as Linux has them")
def test_a_disk_that_is_full_gives_one_error_for_each_file_and_keeps_what_was_written(tmp_path):
    """A real write error of the kernel: in a child process whose files may not grow beyond 150 kB."""
    script = f"""
        import resource, signal, sys
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
        sys.path.insert(0, {str(__import__("pathlib").Path(__file__).parent)!r})
        from test_recording import feed, Recording, OutputError, Detections
        import numpy as np
        recording = Recording({str(tmp_path)!r})
        many = np.tile(np.array([[1, 2, 3, 4]], np.float32), (200, 1))
        errors = []
        for stamp in range(50):
            try:
                scores, classes = np.ones(200, np.float32), np.zeros(200, np.int64)
                recording.add_detections(Detections(many, scores, classes, ("a",), stamp=stamp))
            except OutputError as error:
                errors.append(str(error))
        print(len(errors), errors[0])
        recording.close()
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stdout.startswith("1 "), result.stdout + result.stderr
    assert "detections.json" in result.stdout
    assert len(json.loads((tmp_path / "detections.json").read_text())) > 100
