from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.datasets import Dataset, Sample, hashing
from edge_vision.datasets.hashing import SIDE, distances, nearest, thumbnail, thumbnails
from edge_vision.datasets.leak_sheet import choose, draw_sheet
from edge_vision.datasets.leaks import compare, find_leaks, join_sequences, near_duplicates
from edge_vision.simulation import Conveyor, ConveyorOptions

CLIPS = 8


@pytest.fixture(scope="module")
def shots() -> dict[tuple[int, int], np.ndarray]:
    """Frames 60, 61 and 62 of some clips of the twin at half size."""
    found = {}
    for seed in range(1, CLIPS + 1):
        conveyor = Conveyor(ConveyorOptions(seed=seed, width=320, height=240))
        found |= {(seed, k): conveyor.render(60 + k).frame.image for k in range(3)}
    return found


def small(images: list[np.ndarray], folder: Path) -> np.ndarray:
    files = []
    for i, image in enumerate(images):
        files.append(folder / f"{i}.png")
        cv2.imwrite(str(files[-1]), image)
    found, broken = thumbnails(files)
    assert not broken
    return found


def by_hand(a: int, b: int) -> int:
    return bin(a ^ b).count("1")


@pytest.mark.parametrize("counted", [True, False])
def test_distances_are_the_bits_that_differ_with_and_without_numpys_count(monkeypatch, counted):
    if not counted:
        monkeypatch.delattr(np, "bitwise_count", raising=False)
    elif not hasattr(np, "bitwise_count"):
        pytest.skip("this NumPy has no bitwise_count")
    a, b = (np.random.default_rng(k).integers(0, 1 << 63, 20, dtype=np.uint64) for k in range(2))
    expected = [[by_hand(int(x), int(y)) for y in b] for x in a]
    assert distances(a, b).tolist() == expected


@given(st.lists(st.integers(0, 255), min_size=1, max_size=40), st.integers(1, 5), st.integers(0, 8))
def test_nearest_are_what_all_pairs_say(values, count, limit):
    hashes = np.array(values, np.uint64)
    groups = np.arange(len(values)) % 3
    before, hashing._BLOCK = hashing._BLOCK, 64  # several blocks
    try:
        i, j, bits = nearest(hashes, hashes, count, limit, (groups, groups))
    finally:
        hashing._BLOCK = before
    found = sorted(zip(i.tolist(), bits.tolist(), strict=True))
    expected = []
    for row, value in enumerate(values):
        others = sorted(by_hand(value, v) for k, v in enumerate(values) if groups[k] != groups[row])
        expected += [(row, d) for d in others[:count] if d <= limit]
    assert found == sorted(expected)
    assert all(groups[a] != groups[b] for a, b in zip(i, j, strict=True))


@pytest.mark.parametrize("change", ["next", "second", "jpeg", "brighter", "half", "cropped", "noise"])
def test_copies_of_the_twins_frames_are_found_and_other_clips_are_not(shots, tmp_path, change):
    firsts = [shots[seed, 0] for seed in range(1, CLIPS + 1)]
    rng = np.random.default_rng(0)
    changed = {
        "next": lambda k, i: shots[k + 1, 1],
        "second": lambda k, i: shots[k + 1, 2],
        "jpeg": lambda k, i: cv2.imdecode(cv2.imencode(".jpg", i, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_COLOR),
        "brighter": lambda k, i: cv2.convertScaleAbs(i, alpha=1.3),
        "half": lambda k, i: cv2.resize(i, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        "cropped": lambda k, i: cv2.resize(i[5:-5, 6:-6], (320, 240)),
        "noise": lambda k, i: np.clip(i + rng.normal(0, 8, i.shape), 0, 255).astype(np.uint8),
    }[change]
    copies = [changed(k, image) for k, image in enumerate(firsts)]
    thumbs = np.concatenate([small(firsts, tmp_path), small(copies, tmp_path)])
    pairs = near_duplicates(thumbs, np.repeat([0, 1], CLIPS))
    assert {(pair.first, pair.second) for pair in pairs} == {(k, k + CLIPS) for k in range(CLIPS)}


def test_what_a_fixed_camera_always_sees_does_not_make_frames_alike(shots, tmp_path):
    thumbs = small([image for (_, k), image in shots.items() if k == 0], tmp_path)
    background = np.median(thumbs, axis=0).astype(np.float32)
    plain = [compare(thumbs[0], other, np.zeros_like(background))[0] for other in thumbs[1:]]
    without = [compare(thumbs[0], other, background)[0] for other in thumbs[1:]]
    assert min(plain) > 0.5
    assert max(without) < 0.4


def test_empty_scenes_are_the_same_picture(tmp_path):
    rng = np.random.default_rng(0)
    scene = np.full((SIDE, SIDE), 90, np.uint8)
    scene[20:40] = 140
    noisy = [np.clip(scene + rng.normal(0, 1, scene.shape), 0, 255).astype(np.uint8) for _ in range(24)]
    pairs = near_duplicates(np.stack(noisy), np.arange(24) % 2)
    assert pairs
    assert max(pair.difference for pair in pairs) < 4


def dataset(folder: Path, images: list[tuple[str, str, str, np.ndarray]]) -> Dataset:
    samples = []
    for name, split, sequence, image in images:
        cv2.imwrite(str(folder / name), image)
        ids = np.zeros(1, np.int64)
        size = image.shape[1], image.shape[0]
        samples.append(Sample(folder / name, *size, np.array([[1.0, 1, 9, 9]]), ids, split, sequence))
    return Dataset(folder, "coco", "detection", ("a",), tuple(samples))


def test_a_report_names_clips_and_frames_that_leak(shots, tmp_path):
    images = [(f"t{s}.png", "train", f"clip{s}", shots[s, 0]) for s in (1, 2, 3)]
    images += [("v1.png", "val", "clip1", shots[1, 1]), ("v4.png", "val", "clip4", shots[4, 0])]
    images += [("x2.png", "test", "another", shots[2, 1])]
    found = dataset(tmp_path, images)
    (tmp_path / "v4.png").write_bytes(b"gone bad")
    seen: list[int] = []
    report = find_leaks(found, seen.append)
    assert sum(seen) == len(images)
    assert report.shared == {"clip1": {"train": 1, "val": 1}}
    assert {(p.first, p.second) for p in report.pairs} == {(0, 3), (1, 5)}
    assert report.leaking == {"val": 1, "test": 1}
    assert report.checked == {"train": 3, "val": 2, "test": 1}
    assert report.undecodable == (str(tmp_path / "v4.png"),)
    assert not report.clean
    together, pairs = join_sequences(found)
    assert together["another"] == together["clip2"]
    assert together["clip1"] == "clip1"
    assert len(pairs) == 1
    sheet = draw_sheet(found, report.pairs)
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] > 1200
    assert (sheet < 200).mean() > 0.2  # the pictures are on it


def test_the_sheet_shows_different_clips_first(shots, tmp_path):
    images = [(f"t{k}.png", "train", "clip1", shots[1, k]) for k in range(3)]
    images += [("v.png", "val", "clip1", shots[1, 0]), ("t9.png", "train", "clip2", shots[2, 0])]
    images += [("v9.png", "val", "clip2", shots[2, 1])]
    found = dataset(tmp_path, images)
    pairs = find_leaks(found).pairs
    assert len(pairs) > 2
    clips = {found.samples[pair.first].sequence for pair in choose(pairs, found, 2)}
    assert clips == {"clip1", "clip2"}


def test_thumbnails_are_means_of_what_they_cover(tmp_path):
    image = np.zeros((256, 512, 3), np.uint8)
    image[:, 256:] = 200
    cv2.imwrite(str(tmp_path / "x.png"), image)
    found = thumbnail(tmp_path / "x.png")
    assert found is not None
    assert found.shape == (SIDE, SIDE)
    assert abs(int(found[10, 10])) <= 1
    assert abs(int(found[10, 50]) - 200) <= 1
    assert thumbnail(tmp_path / "none.png") is None
