from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_vision.datasets import Dataset, DatasetError, Sample, read_dataset
from edge_vision.datasets.sequences import with_sequences
from edge_vision.datasets.split_files import write_splits
from edge_vision.datasets.splitting import split_dataset


def dataset_of(names: list[str], classes: list[list[int]] | None = None, labels: int = 3) -> Dataset:
    samples = []
    for index, name in enumerate(names):
        ids = np.array(classes[index] if classes else [0], np.int64)
        boxes = np.tile([1.0, 1, 9, 9], (len(ids), 1))
        samples.append(Sample(Path("/set", name), 64, 48, boxes, ids))
    return Dataset(Path("/set"), "coco", "detection", tuple("abcdefgh"[:labels]), tuple(samples))


def sequences(names: list[str], group_by: str = "") -> list[str]:
    return [sample.sequence for sample in with_sequences(dataset_of(names), group_by).samples]


def test_frames_of_a_clip_are_one_sequence_whatever_split_they_lie_in():
    found = sequences(["train/clip3_000017.jpg", "val/clip3_000018.jpg", "train/clip4_000017.jpg", "train/cat.jpg"])
    assert found[0] == found[1] == "clip3"
    assert len(set(found)) == 3


def test_a_pause_cuts_a_clip():
    names = [f"cam-{t}.png" for t in (*range(1000, 2000, 100), *range(90_000, 91_000, 100))]
    found = sequences(names)
    assert found == ["cam"] * 10 + ["cam#1"] * 10


def test_bare_numbers_are_a_clip_only_where_they_go_up_in_even_steps():
    assert len(set(sequences([f"{i:06d}.jpg" for i in range(50)]))) == 1
    drawn = np.random.default_rng(0).choice(500_000, 50, replace=False)
    assert len(set(sequences([f"{i:012d}.jpg" for i in drawn]))) == 50


def test_exported_names_lose_their_hash():
    found = sequences(["a_0001_jpg.rf.0123456789abcdef.jpg", "a_0002_jpg.rf.fedcba9876543210.jpg"])
    assert found == ["a", "a"]


def test_group_by_takes_the_first_group_and_must_fit_every_path():
    assert sequences(["day1/a_1.jpg", "day1/b_1.jpg", "day2/a_1.jpg"], r"(day\d)") == ["day1", "day1", "day2"]
    with pytest.raises(DatasetError, match="not found in x"):
        sequences(["day1/a.jpg", "x.jpg"], r"day\d")
    with pytest.raises(DatasetError, match="no regular expression"):
        sequences(["a.jpg"], "(")


@settings(max_examples=40)
@given(st.data())
def test_no_sequence_is_ever_in_two_splits_and_the_seed_decides_alone(data):
    sizes = data.draw(st.lists(st.integers(1, 12), min_size=3, max_size=15))
    kinds = data.draw(st.lists(st.integers(0, 2), min_size=len(sizes), max_size=len(sizes)))
    names = [f"clip{c}x_{i:03d}.jpg" for c, size in enumerate(sizes) for i in range(size)]
    classes = [[kinds[c]] for c, size in enumerate(sizes) for _ in range(size)]
    dataset = with_sequences(dataset_of(names, classes))
    seed = data.draw(st.integers(0, 5))
    result = split_dataset(dataset, {"train": 6, "val": 2, "test": 2}, seed)
    where = defaultdict(set)
    for sample in result.dataset.samples:
        where[sample.sequence].add(sample.split)
    assert all(len(splits) == 1 for splits in where.values())
    assert min(result.images.values()) > 0
    assert sum(result.images.values()) == len(names)
    assert sum(map(sum, result.objects.values())) == len(names)
    turned = Dataset(dataset.path, "coco", "detection", dataset.labels, dataset.samples[::-1])
    assert split_dataset(turned, {"train": 6, "val": 2, "test": 2}, seed).sequences == result.sequences


def test_ratio_and_classes_are_met_where_the_groups_allow():
    rng = np.random.default_rng(1)
    names, classes = [], []
    for clip in range(60):
        rare = clip % 10 == 0
        for frame in range(int(rng.integers(5, 25))):
            names.append(f"c{clip}x_{frame:03d}.jpg")
            classes.append([2] * 3 if rare else [0, 0, 1])
    result = split_dataset(with_sequences(dataset_of(names, classes)), {"train": 0.7, "val": 0.15, "test": 0.15})
    assert not result.notes
    for name, share in result.wanted.items():
        assert abs(result.reached[name] - share) < 0.01
        objects = np.array(result.objects[name]) / np.sum([result.objects[n] for n in result.wanted], axis=0)
        assert np.abs(objects - share).max() < 0.06


def test_what_cannot_be_met_is_told():
    names = [f"big_{i:03d}.jpg" for i in range(90)] + [f"c{i}x_001.jpg" for i in range(10)]
    classes = [[0]] * 90 + [[1]] + [[0]] * 9
    result = split_dataset(with_sequences(dataset_of(names, classes, 2)), {"train": 0.5, "val": 0.5})
    assert any("largest sequence alone is 90.0%" in note for note in result.notes)
    assert any(note.startswith("b: in 1 of 11 sequences") for note in result.notes)
    with pytest.raises(DatasetError, match="1 sequences cannot be dealt out to 2 splits"):
        split_dataset(with_sequences(dataset_of([f"big_{i:03d}.jpg" for i in range(9)])), {"train": 1, "val": 1})
    with pytest.raises(DatasetError, match="cannot split by"):
        split_dataset(dataset_of(["a.jpg"]), {"train": 1, "val": -1})


def test_written_splits_read_back_as_they_were(tmp_path, write_coco):
    boxes = {f"c{clip}x_{i}.png": [(1 + clip % 2, [1, 2, 10.5, 20])] for clip in range(6) for i in range(3)}
    dataset = read_dataset(write_coco(tmp_path / "all.json", boxes))
    result = split_dataset(dataset, {"train": 2, "val": 1})
    files = write_splits(result, tmp_path / "out")
    again = read_dataset(tmp_path / "out")
    assert again.splits == ("train", "val")
    assert again.labels == dataset.labels
    assert {s.image.name: (s.split, s.boxes.tolist(), s.class_ids.tolist()) for s in again.samples} == {
        s.image.name: (s.split, s.boxes.tolist(), s.class_ids.tolist()) for s in result.dataset.samples
    }
    assert json.loads(files[-1].read_text())["splits"]["train"]["images"] == 12
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_yolo_splits_are_lists_beside_a_data_yaml(tmp_path, write_image):
    for clip in range(4):
        for frame in range(3):
            write_image(tmp_path / "set/images" / f"c{clip}x_{frame}.png", clip)
            label = tmp_path / "set/labels" / f"c{clip}x_{frame}.txt"
            label.parent.mkdir(exist_ok=True)
            label.write_text("0 .5 .5 .2 .2\n")
    result = split_dataset(read_dataset(tmp_path / "set"), {"train": 1, "val": 1})
    write_splits(result, tmp_path / "out")
    again = read_dataset(tmp_path / "out")
    assert again.kind == "yolo"
    assert [len(again.in_split(name)) for name in ("train", "val")] == [6, 6]
    assert not again.issues


def test_class_lists_name_the_class(tmp_path, write_image):
    for kind in ("x", "y"):
        for clip in range(4):
            write_image(tmp_path / "set" / kind / f"{kind}{clip}x_1.png", clip)
    result = split_dataset(read_dataset(tmp_path / "set"), {"train": 1, "val": 1})
    write_splits(result, tmp_path / "out")
    rows = [row.split("\t") for row in (tmp_path / "out/val.txt").read_text().splitlines()]
    assert sorted(kind for _, kind in rows) == ["0", "0", "1", "1"]
    assert all(Path(path).is_file() for path, _ in rows)


def test_a_folder_with_files_and_a_failed_write_leave_everything_as_it_was(tmp_path, write_coco, monkeypatch):
    dataset = read_dataset(write_coco(tmp_path / "all.json", {f"c{i}x_1.png": [] for i in range(4)}))
    result = split_dataset(dataset, {"train": 1, "val": 1})
    (tmp_path / "full").mkdir()
    (tmp_path / "full/kept").write_text("x")
    with pytest.raises(DatasetError, match="not empty"):
        write_splits(result, tmp_path / "full")
    before = sorted(path.name for path in tmp_path.iterdir())
    whole = Path.write_text

    def full(self: Path, *args, **options):
        if self.name == "splits.json":
            raise OSError(28, "No space left on device")
        return whole(self, *args, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(DatasetError, match="No space left"):
        write_splits(result, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    with pytest.raises(DatasetError, match="needs YOLO's label files"):
        write_splits(result, tmp_path / "new", "yolo")
