"""Image files, folders and patterns."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.sources import SourceError, open_source
from edge_vision.sources.images import natural_key


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in (10, 2, 1, 33):
        cv2.imwrite(str(tmp_path / f"frame{index}.png"), np.full((20 + index, 30, 3), index, np.uint8))
    return tmp_path


def read_all(source) -> list:
    with source:
        return [sample.frame for sample in iter(source.read, None)]


def test_a_folder_in_natural_order_with_images_of_mixed_size(folder: Path) -> None:
    (folder / "notes.txt").write_text("not an image")
    source = open_source(str(folder), frame_id="left", start_stamp=7)
    assert (source.live, source.rate, source.length) == (False, 10.0, 4)
    frames = read_all(source)
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [1, 2, 10, 33]
    assert [frame.height for frame in frames] == [21, 22, 30, 53]
    assert [frame.stamp for frame in frames] == [7, 100_000_007, 200_000_007, 300_000_007]
    assert [frame.sequence for frame in frames] == [0, 1, 2, 3]
    assert {frame.frame_id for frame in frames} == {"left"}


@pytest.mark.parametrize("pattern", ["frame?.png", "**/frame[12].png"])
def test_a_pattern(folder: Path, pattern: str) -> None:
    frames = read_all(open_source(str(folder / pattern), fps=4))
    assert [(int(frame.image[0, 0, 0]), frame.stamp) for frame in frames] == [(1, 0), (2, 250_000_000)]


def test_one_image_looped_is_endless(folder: Path) -> None:
    with open_source(f"file://{folder}/frame2.png", loop=True, fps=50) as source:
        frames = [source.read().frame for _ in range(5)]
        assert source.length is None
    assert [(frame.stamp, frame.sequence) for frame in frames] == [(20_000_000 * n, n) for n in range(5)]


def test_a_name_with_brackets_is_a_name_first(folder: Path) -> None:
    (folder / "frame1.png").rename(folder / "frame[1].png")
    assert len(read_all(open_source(str(folder / "frame[1].png")))) == 1


def test_unreadable_images_are_left_out_and_told_once(folder: Path) -> None:
    (folder / "frame0.png").write_bytes(b"")
    (folder / "frame3.png").write_text("no image")
    jpeg = cv2.imencode(".jpg", np.random.default_rng(1).integers(0, 255, (80, 80, 3), dtype=np.uint8))[1].tobytes()
    (folder / "frame4.jpg").write_bytes(jpeg)
    (folder / "frame5.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "frame6.tiff").write_bytes(cv2.imencode(".tiff", np.zeros((8, 8), np.float32))[1].tobytes())
    with open_source(str(folder), loop=True) as source:
        frames = [source.read().frame for _ in range(15)]
    assert [frame.sequence for frame in frames] == list(range(15))
    assert np.unique(np.diff([frame.stamp for frame in frames])).tolist() == [100_000_000]
    assert source.unreadable == 4
    told = [
        ("frame0.png", "empty"),
        ("frame3.png", "no image"),
        ("frame5.jpg", "cut off"),
        ("frame6.tiff", "float32"),
    ]
    assert len(source.warnings) == len(told)
    for warning, (name, reason) in zip(source.warnings, told, strict=True):
        assert name in warning
        assert reason in warning


def test_none_readable_is_an_error_even_when_looping(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    (tmp_path / "b.png").write_text("no image")
    with (
        open_source(str(tmp_path), loop=True) as source,
        pytest.raises(SourceError, match=r"none of the 2 images could be read; the first: .*a\.png"),
    ):
        source.read()


@pytest.mark.parametrize(
    ("image", "encoding", "shape"),
    [
        (np.full((6, 8), 9, np.uint8), "mono8", (6, 8)),
        (np.full((6, 8), 40000, np.uint16), "mono16", (6, 8)),
        (np.full((6, 8, 3), 40000, np.uint16), "bgr8", (6, 8, 3)),
        (np.full((6, 8, 4), 99, np.uint8), "bgr8", (6, 8, 3)),
    ],
)
def test_encodings(tmp_path: Path, image: np.ndarray, encoding: str, shape: tuple[int, ...]) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), image)
    (frame,) = read_all(open_source(str(tmp_path / "a.png")))
    assert (frame.encoding, frame.image.shape) == (encoding, shape)
    expected = round(40000 / 257) if image.dtype == np.uint16 and image.ndim == 3 else image.flat[0]
    assert np.unique(frame.image).tolist() == [expected]


def test_resized_in_proportion_or_to_both(folder: Path) -> None:
    def shape(**size: int) -> tuple[int, ...]:
        return read_all(open_source(str(folder / "frame10.png"), **size))[0].image.shape  # 30 x 30

    assert shape(width=60) == (60, 60, 3)
    assert shape(height=15) == (15, 15, 3)
    assert shape(width=40, height=20) == (20, 40, 3)
    assert shape(width=0, height=0) == (30, 30, 3)


def test_folders_and_patterns_without_images(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no files"):
        open_source(str(tmp_path))
    (tmp_path / "clip.mp4").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"holds 1 other files, such as clip\.mp4; give a folder of \.png"):
        open_source(str(tmp_path))
    with pytest.raises(SourceError, match="no file fits the pattern"):
        open_source(str(tmp_path / "*.png"))


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_natural_order_is_that_of_the_numbers(numbers: list[int]) -> None:
    names = sorted((f"run/frame_{number}.png" for number in numbers), key=natural_key)
    assert names == [f"run/frame_{number}.png" for number in sorted(numbers)]


@given(st.lists(st.text(), max_size=5))
def test_any_names_can_be_sorted(names: list[str]) -> None:
    assert sorted(sorted(names, key=natural_key)) == sorted(names)


def test_real_photographs(shared_data: Path) -> None:
    frames = read_all(open_source(str(shared_data / "images" / "*.jpg")))
    assert len(frames) == 5
    assert {frame.encoding for frame in frames} == {"bgr8"}
