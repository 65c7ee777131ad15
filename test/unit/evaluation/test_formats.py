"""Result files: what is written can be read by us and by others; an interrupt or a full disk leaves a whole file."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.datatypes import Detections, Tracks
from edge_vision.evaluation.formats import CocoResultsWriter, MotWriter, OutputError, read_coco_results, read_mot

LABELS = ("bolt", "nut", "washer")


def boxes_of(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low = rng.uniform(-20, 1900, (count, 2))
    return np.hstack([low, low + rng.uniform(0.5, 400, (count, 2))]).astype(np.float32)


def detections_of(count: int, seed: int = 0) -> Detections:
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0, 1, count).astype(np.float32)
    return Detections(boxes_of(count, seed), scores, rng.integers(0, 3, count), LABELS)


def tracks_of(count: int, seed: int = 0) -> Tracks:
    found = detections_of(count, seed)
    return Tracks(
        boxes=found.boxes,
        scores=found.scores,
        class_ids=found.class_ids,
        ids=np.arange(count, dtype=np.int64) + 10 * seed,
        velocities=np.zeros((count, 2), np.float32),
        ages=np.zeros(count, np.float32),
        states=np.ones(count, np.uint8),
        labels=LABELS,
    )


counts = st.lists(st.integers(0, 6), max_size=6)


@given(counts)
def test_coco_round_trip(tmp_path_factory, counts: list[int]) -> None:
    path = tmp_path_factory.mktemp("coco") / "detections.json"
    images = [detections_of(count, seed) for seed, count in enumerate(counts)]
    with CocoResultsWriter(path) as writer:
        for image in images:
            writer.write(image)
    back = read_coco_results(path)
    assert writer.written == len(back) == sum(counts)
    assert back.image_ids.tolist() == [index for index, count in enumerate(counts) for _ in range(count)]
    if len(back):
        np.testing.assert_allclose(back.boxes, np.concatenate([i.boxes for i in images]), atol=2e-3)
        np.testing.assert_allclose(back.scores, np.concatenate([i.scores for i in images]), atol=1e-6)
        assert back.category_ids.tolist() == np.concatenate([i.class_ids for i in images]).tolist()


@given(counts)
def test_mot_round_trip(tmp_path_factory, counts: list[int]) -> None:
    path = tmp_path_factory.mktemp("mot") / "tracks.csv"
    frames = [tracks_of(count, seed) for seed, count in enumerate(counts)]
    with MotWriter(path) as writer:
        for frame in frames:
            writer.write(frame)
    back = read_mot(path)
    assert writer.written == len(back) == sum(counts)
    assert back.frames.tolist() == [index for index, count in enumerate(counts, 1) for _ in range(count)]
    if len(back):
        np.testing.assert_allclose(back.boxes, np.concatenate([f.boxes for f in frames]), atol=2e-3)
        assert back.ids.tolist() == np.concatenate([f.ids for f in frames]).tolist()
        assert back.class_ids.tolist() == np.concatenate([f.class_ids for f in frames]).tolist()
        assert (back.visibility == -1).all()


def test_named_frames_and_images(tmp_path: Path) -> None:
    with CocoResultsWriter(tmp_path / "d.json") as coco, MotWriter(tmp_path / "t.csv") as mot:
        for number in (7, 9):
            coco.write(detections_of(2), number)
            mot.write(tracks_of(2), number)
        coco.write(detections_of(1))
    assert read_coco_results(tmp_path / "d.json").image_ids.tolist() == [7, 7, 9, 9, 10]
    assert read_mot(tmp_path / "t.csv").frames.tolist() == [7, 7, 9, 9]


def test_mot_row_is_the_challenges(tmp_path: Path) -> None:
    """Nine columns, frames and pixels from 1: a box over the whole 640x480 image starts at (1, 1)."""
    tracks = Tracks(
        boxes=np.array([[0, 0, 640, 480]], np.float32),
        scores=np.array([0.5], np.float32),
        class_ids=np.array([2]),
        ids=np.array([12]),
    )
    with MotWriter(tmp_path / "t.csv") as writer:
        writer.write(tracks)
    row = [float(value) for value in (tmp_path / "t.csv").read_text().strip().split(",")]
    assert row == [1, 12, 1, 1, 640, 480, 0.5, 2, -1]


def test_pycocotools_reads_the_results(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    truth = coco.COCO()
    truth.dataset = {
        "images": [{"id": 0}, {"id": 1}],
        "categories": [{"id": index, "name": name} for index, name in enumerate(LABELS)],
        "annotations": [],
    }
    truth.createIndex()
    with CocoResultsWriter(tmp_path / "d.json") as writer:
        writer.write(detections_of(3))
        writer.write(detections_of(2))
    loaded = truth.loadRes(str(tmp_path / "d.json"))
    assert len(loaded.getAnnIds()) == 5


@pytest.mark.parametrize("writer", [CocoResultsWriter, MotWriter])
def test_file_is_whole_after_every_flush(tmp_path: Path, writer: type) -> None:
    path = tmp_path / "out"
    out = writer(path)
    read = read_coco_results if writer is CocoResultsWriter else read_mot
    assert len(read(path)) == 0
    for number in range(3):
        out.write((detections_of if writer is CocoResultsWriter else tracks_of)(4, number))
        out.flush()
        assert len(read(path)) == 4 * (number + 1)
    out.close()
    out.close()
    assert len(read(path)) == 12


CHILD = """
import resource, sys, time
sys.path.insert(0, {src!r})
import numpy as np
from edge_vision.datatypes import Detections, Tracks
from edge_vision.evaluation import formats
n = 50
boxes = np.tile(np.array([[1.25, 2.5, 30, 40]], np.float32), (n, 1))
ones = np.ones(n, np.float32)
detections = Detections(boxes, ones, np.zeros(n, np.int64), ("a",))
still = np.zeros((n, 2), np.float32)
tracks = Tracks(boxes, ones, np.zeros(n, np.int64), np.arange(n), still, ones, ones.astype(np.uint8))
"""


def child(body: str) -> subprocess.Popen[str]:
    src = str(Path(__file__).resolve().parents[3] / "src")
    code = CHILD.format(src=src) + textwrap.dedent(body)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("kind", ["CocoResultsWriter", "MotWriter"])
def test_disk_that_fills_up_is_one_clear_error_and_a_whole_file(tmp_path: Path, kind: str) -> None:
    """RLIMIT_FSIZE lets every file end at 100 kB, in the middle of a record."""
    path = tmp_path / "results"
    process = child(f"""
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        errors = 0
        with formats.{kind}({str(path)!r}) as writer:
            for frame in range(1, 101):
                try:
                    writer.write(tracks if {kind!r} == "MotWriter" else detections, frame)
                except formats.OutputError as error:
                    errors += 1
                    print(error)
        print(errors, writer.written, writer.lost)
    """)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    message, counts = out.strip().splitlines()
    errors, written, lost = map(int, counts.split())
    assert errors == 1
    assert written + lost == 5000
    assert written > 0
    assert str(path) in message
    assert "MB free" in message
    assert len((read_mot if kind == "MotWriter" else read_coco_results)(path)) == written


def test_full_device() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OutputError, match="/dev/full") as raised:
        CocoResultsWriter("/dev/full")
    assert raised.value.errno == errno.ENOSPC
    writer = MotWriter("/dev/full")
    writer.write(tracks_of(3))
    with pytest.raises(OutputError, match="No space left"):
        writer.close()
    assert (writer.written, writer.lost) == (0, 3)
    writer.write(tracks_of(2))  # the pipeline goes on, the loss is counted
    assert writer.lost == 5


def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere"):
        CocoResultsWriter(tmp_path / "nowhere" / "d.json")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_run_leaves_a_whole_file(tmp_path: Path, end: signal.Signals) -> None:
    path = tmp_path / "d.json"
    process = child(f"""
        formats.FLUSH_SECONDS = 0.01
        with formats.CocoResultsWriter({str(path)!r}) as writer:
            while True:
                writer.write(detections)
                time.sleep(0.005)
    """)
    try:
        deadline = time.monotonic() + 60
        while (not path.exists() or path.stat().st_size < 20_000) and process.poll() is None:
            assert time.monotonic() < deadline, "the writer writes nothing"
            time.sleep(0.02)
        process.send_signal(end)
        process.communicate(timeout=60)
    finally:
        process.kill()
    records = json.loads(path.read_text())
    assert len(records) >= 100
    assert len(records) % 50 == 0


def test_reading_what_is_no_result_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("frame,id\n")
    with pytest.raises(ValueError, match="line 1"):
        read_mot(path)
    with pytest.raises(ValueError, match="not JSON"):
        read_coco_results(path)
    path.write_text("1,2,3,4,5,6,1\n1,2,3\n")
    with pytest.raises(ValueError, match="line 2: expected 7"):
        read_mot(path)
    path.write_text('{"a": 1}')
    with pytest.raises(ValueError, match="list of records"):
        read_coco_results(path)
    path.write_text('[{"image_id": 1, "category_id": 0, "bbox": [1, 2, 3], "score": 1}]')
    with pytest.raises(ValueError, match="record 0"):
        read_coco_results(path)


def test_reads_the_challenges_own_files(shared_data: Path) -> None:
    truth = read_mot(shared_data / "tracking" / "MOT17-02-val" / "gt.txt")
    assert truth.frames.min() == 1
    assert set(truth.class_ids.tolist()) >= {1, 7}
    assert ((truth.visibility >= 0) & (truth.visibility <= 1)).all()
    world = read_mot(shared_data / "tracking" / "TUD-Campus" / "gt.txt")
    assert (world.class_ids == -1).all()
    assert (world.boxes[:, 2:] > world.boxes[:, :2]).all()
