"""Video files: real recordings, whole and cut off, and what is none."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from edge_vision.sources import SourceError, SourceLost, open_source

MS = 1_000_000


def read_all(source) -> list:
    with source:
        return [sample.frame for sample in iter(source.read, None)]


@pytest.mark.parametrize("name", ["video.mp4", "video.avi", "with: colon.mp4"])
def test_every_frame_in_order_with_the_containers_time(write_video, numbered, name: str) -> None:
    source = open_source(str(write_video(name, frames=20, fps=20)), frame_id="left", start_stamp=5000 * MS)
    assert (source.live, source.rate, source.length) == (False, 20.0, 20)
    assert source.description == f"video file {name}, 320x240, 20 fps, 20 frames"
    frames = read_all(source)
    assert [numbered.number_in(frame.image) for frame in frames] == list(range(20))
    assert [frame.stamp for frame in frames] == [(5000 + 50 * n) * MS for n in range(20)]
    assert [frame.sequence for frame in frames] == list(range(20))
    assert {(frame.frame_id, frame.encoding, frame.image.shape) for frame in frames} == {
        ("left", "bgr8", (240, 320, 3))
    }
    assert source.warnings == []
    assert source.read() is None, "still at the end, or closed"


def test_frames_handed_out_are_not_written_again(write_video, numbered) -> None:
    frames = read_all(open_source(str(write_video(frames=5))))
    assert not any(np.shares_memory(a.image, b.image) for a in frames for b in frames if a is not b)


def test_loop_goes_on_counting(write_video, numbered) -> None:
    with open_source(str(write_video(frames=6, fps=25)), loop=True) as source:
        assert source.length is None
        frames = [source.read().frame for _ in range(15)]
    assert [frame.sequence for frame in frames] == list(range(15))
    assert [frame.stamp for frame in frames] == [40 * n * MS for n in range(15)]
    assert [numbered.number_in(frame.image) for frame in frames] == [n % 6 for n in range(15)]


def test_rate_and_size_can_be_asked_for(write_video) -> None:
    frames = read_all(open_source(str(write_video(frames=4)), fps=8, width=160))
    assert [frame.stamp for frame in frames] == [125 * n * MS for n in range(4)]
    assert {frame.image.shape for frame in frames} == {(120, 160, 3)}


def test_truncated_avi_gives_what_it_has_and_a_warning(write_video) -> None:
    path = write_video("video.avi", frames=60)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    source = open_source(str(path))
    frames = read_all(source)
    assert 20 < len(frames) < 40
    (warning,) = source.warnings
    assert f"ended after {len(frames)} of the 60 frames" in warning
    assert str(path) in warning


def test_mp4_without_its_index_says_so(write_video) -> None:
    path = write_video("video.mp4", frames=60)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match=r"cut off before its end; copy or record it again"):
        open_source(str(path))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "the file is empty"),
        (b"hello\nthere\n" * 50, "looks like text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "git lfs pull"),
        (bytes(range(256)) * 20, "re-encode it"),
        (b"\0\0\0\x18ftypisom" + bytes(12) + b"\0\0\0\1moov" + b"\xff" * 8 + bytes(50), "no moov box"),
    ],
)
def test_what_is_no_video(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=told) as error:
        open_source(str(path))
    assert str(path) in str(error.value)
    assert not isinstance(error.value, SourceLost), "trying again is no use"


def test_a_file_removed_while_looping_is_an_error(write_video) -> None:
    path = write_video(frames=3)
    with open_source(str(path), loop=True) as source:
        for _ in range(3):
            source.read()
        path.unlink()
        with pytest.raises(SourceError, match="cannot read"):
            source.read()


def test_close_from_another_thread_while_reading(write_video) -> None:
    path = str(write_video(frames=30))
    for _ in range(20):
        source = open_source(path, loop=True)
        count = 0
        reading = threading.Event()

        def read(source=source, reading=reading) -> None:
            nonlocal count
            while source.read() is not None:
                count += 1
                reading.set()

        thread = threading.Thread(target=read)
        thread.start()
        assert reading.wait(20)
        source.close()
        source.close()
        thread.join(20)
        assert not thread.is_alive()
        assert count > 0


def test_a_recording_behind_http_is_read_whole(write_video, file_server) -> None:
    path = write_video("video.avi", frames=12)
    url = file_server(path.parent) + "/video.avi"
    source = open_source(url)
    assert not source.live
    assert len(read_all(source)) == 12
    with pytest.raises(SourceError, match="server does not answer"):
        open_source(url.replace("video", "none"))
    # Python's own server sends whole files only, and this MP4 has its index at its end.
    url = f"{file_server(path.parent)}/{write_video('video.mp4', frames=12).name}"
    with open_source(url) as source, pytest.raises(SourceError, match="download it first"):
        source.read()


def test_the_real_recording(shared_data: Path) -> None:
    source = open_source(str(shared_data / "video" / "one-by-one-person-detection.mp4"))
    assert source.description == "video file one-by-one-person-detection.mp4, 768x432, 10 fps, 1394 frames"
    frames = 0
    with source:
        while (sample := source.read()) is not None:
            assert sample.frame.stamp == 100 * MS * frames
            frames += 1
    assert (frames, source.warnings) == (1394, [])


def test_the_real_recording_truncated(shared_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    shutil.copyfile(shared_data / "video" / "one-by-one-person-detection.mp4", path)
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 8)
    source = open_source(str(path))
    frames = read_all(source)
    assert 100 < len(frames) < 400
    assert f"after {len(frames)} of the 1394" in source.warnings[0]
