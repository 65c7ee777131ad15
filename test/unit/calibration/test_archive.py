"""Samples come back from an archive as they were, whole or not at all; what cannot be written is tried again."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from edge_vision.calibration.archive import (
    HEAD,
    ArchiveError,
    Sample,
    encode,
    images_in,
    next_run,
    read_archive,
    write_head,
    write_sample,
)
from edge_vision.calibration.boards import Board
from edge_vision.calibration.sample_store import SampleStore
from edge_vision.calibration.views import View
from edge_vision.whole_files import write_bytes

BOARD = Board("charuco", 9, 7, 0.025, 0.018, "DICT_5X5_100", name="mine")


def view(name: str = "0001", seed: int = 0) -> View:
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.choice(len(BOARD.points), 20, replace=False))
    return View(name, ids, rng.uniform(0, 600, (20, 2)), (640, 480), 123, 31.7, 2.1, 0.3, 0.0, 1 / 3, ("seen in part",))


def picture(dtype=np.uint8, shape=(48, 64, 3)) -> np.ndarray:
    return np.random.default_rng(1).integers(0, np.iinfo(dtype).max, shape, dtype)


def test_every_digit_and_pixel_comes_back(tmp_path):
    write_head(tmp_path, BOARD, "front")
    images = [picture(), picture(np.uint16, (48, 64)), None]
    samples = [Sample(view(f"{index:04d}", index), image) for index, image in enumerate(images)]
    for sample in samples:
        write_sample(tmp_path, sample)
    archive = read_archive(tmp_path)
    assert (archive.board, archive.camera_name, archive.folder) == (BOARD, "front", tmp_path)
    for before, after in zip(samples, archive.samples, strict=True):
        assert np.array_equal(after.view.ids, before.view.ids)
        assert np.array_equal(after.view.pixels, before.view.pixels)
        for name in ("name", "image_size", "stamp", "spacing", "edge_width", "motion", "saturated", "tilt", "warnings"):
            assert getattr(after.view, name) == getattr(before.view, name)
        if before.image is None:
            assert after.image is None
        else:
            np.testing.assert_array_equal(cv2.imread(str(after.image), cv2.IMREAD_UNCHANGED), before.image)
            assert after.png() == before.png()


def test_the_newest_of_several_runs_is_read(tmp_path):
    for number in (1, 2, 3):
        folder = next_run(tmp_path, "front")
        assert folder.name == f"front-{number:03d}"
        write_head(folder, BOARD, "front")
    assert next_run(tmp_path, "rear").name == "rear-001"
    assert read_archive(tmp_path).folder.name == "front-003"
    assert read_archive(tmp_path / "front-002").folder.name == "front-002"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (HEAD, "{", "is no JSON"),
        (HEAD, '{"format": 99}', "format 99"),
        (HEAD, '{"format": 1, "camera_name": "x", "board": {"kind": "round"}}', "does not describe its board"),
        ("0001.json", '{"ids": [1, 2], "pixels": [[1, 2]], "image_size": [640, 480]}', "does not hold a view"),
        ("0001.json", '{"ids": [400], "pixels": [[1, 2]], "image_size": [640, 480]}', "does not have"),
        ("0001.json", '{"ids": [1], "pixels": "none", "image_size": [640, 480]}', "does not hold a view"),
    ],
)
def test_what_is_damaged_is_named(tmp_path, name, content, words):
    write_head(tmp_path, BOARD, "front")
    (tmp_path / name).write_text(content)
    with pytest.raises(ArchiveError, match=words) as raised:
        read_archive(tmp_path)
    assert str(tmp_path / name) in str(raised.value)


def test_a_folder_without_an_archive_is_refused(tmp_path):
    with pytest.raises(ArchiveError, match="holds no samples"):
        read_archive(tmp_path)
    (tmp_path / "b.PNG").write_bytes(b"")
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    assert [path.name for path in images_in(tmp_path)] == ["a.jpg", "b.PNG"]


def test_other_json_files_are_passed_over(tmp_path):
    write_head(tmp_path, BOARD, "front")
    write_sample(tmp_path, Sample(view(), picture()))
    (tmp_path / "report.json").write_text(json.dumps({"rms": 0.1}))
    assert [sample.view.name for sample in read_archive(tmp_path).samples] == ["0001"]


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"before")
    with pytest.raises(TypeError):
        write_bytes(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_images_of_other_numbers_are_kept_as_grey():
    floats = picture(shape=(48, 64)).astype(np.float32)
    assert cv2.imdecode(np.frombuffer(encode(floats), np.uint8), cv2.IMREAD_UNCHANGED).shape == (48, 64)


def test_the_store_writes_when_it_can_and_keeps_what_it_cannot(tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    store = SampleStore(str(blocked), "front", BOARD)
    samples = [Sample(view(f"{index:04d}", index), picture()) for index in range(3)]
    for sample in samples:
        store.add(sample)
    assert store.waits
    assert not store.write()
    assert "cannot write the archive" in store.problem
    assert not store.waits  # nothing new: no use in trying again and again
    assert store.folder == ""
    assert all(isinstance(sample.image, bytes) for sample in samples)  # a PNG is smaller than its pixels
    blocked.unlink()
    store.new_run()
    store.add(Sample(view("0009", 9), picture()))
    assert store.waits
    assert store.write()
    assert store.problem == ""
    assert store.folder == str(blocked / "front-002")
    assert len(read_archive(blocked / "front-001").samples) == 3  # those of before went where they belong
    assert [sample.view.name for sample in read_archive(blocked / "front-002").samples] == ["0009"]
    assert all(sample.image == blocked / "front-001" / f"{sample.view.name}.png" for sample in samples)


def test_without_a_folder_the_store_only_makes_pngs(tmp_path):
    store = SampleStore("", "front", BOARD)
    sample = Sample(view(), picture())
    store.add(sample)
    assert store.write()
    assert isinstance(sample.image, bytes)
    assert (store.folder, store.problem) == ("", "")
