"""Which URI opens what; the twin; frames in memory; what every source promises."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.datatypes import Frame, Tracks
from edge_vision.sources import KINDS, MemorySource, Sample, Source, SourceError, hide_credentials, open_source, opencv
from edge_vision.sources.base import Clock


def read_all(source) -> list[Sample]:
    with source:
        return list(iter(source.read, None))


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("", "no source given; known: sim://"),
        ("ftp://host/x.mp4", r"unknown kind of source ftp://; known: sim://conveyor"),
        ("foo://bob:secret@host", r"foo://bob:\*\*\*@host: unknown kind"),
        ("sim://harbour", r"unknown scene 'harbour'; known: sim://conveyor"),
        ("sim://conveyor?widht=3", "widht"),
        ("file://otherhost/x.mp4", "three slashes"),
        ("nothing/here.mp4", r"no such file: nothing/here\.mp4; the current folder is /"),
        ("/dev/zero", "neither a file nor a folder nor a camera"),
    ],
)
def test_what_cannot_be_opened(uri: str, told: str) -> None:
    with pytest.raises(SourceError, match=told) as error:
        open_source(uri)
    assert "secret" not in str(error.value)


def test_impossible_sizes_and_rates() -> None:
    with pytest.raises(SourceError, match="height is -1"):
        open_source("sim://conveyor", height=-1)
    with pytest.raises(SourceError, match="fps is -5"):
        open_source("sim://conveyor", fps=-5)


def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    path.chmod(0)
    try:
        path.read_bytes()
    except PermissionError:
        with pytest.raises(SourceError, match="no permission"):
            open_source(str(path))
    else:
        pytest.skip("this user may read every file")


def test_home_and_file_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    cv2.imwrite(str(tmp_path / "a b.png"), np.zeros((4, 4, 3), np.uint8))
    for uri in ("~/a b.png", f"file://{tmp_path}/a%20b.png"):
        assert len(read_all(open_source(uri))) == 1


def test_every_kind_is_a_source(tmp_path: Path, write_video, mjpeg_server) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 3), np.uint8))
    for uri in ("sim://conveyor?frames=1", str(write_video()), str(tmp_path / "a.png"), mjpeg_server.url):
        with open_source(uri) as source:
            assert isinstance(source, Source)
            assert source.uri in uri
            assert source.read().frame.frame_id == "camera_optical_frame"
            assert repr(source)
        assert source.read() is None, "closed"
        source.close()


def test_examples_of_kinds_name_only_schemes_that_open() -> None:
    schemes = {example.partition("://")[0] for example, _ in KINDS if "://" in example}
    assert schemes == {"sim", "v4l2", "rtsp", "gst"}


def test_the_twin_with_its_truth() -> None:
    with open_source("sim://conveyor?seed=3&width=320&height=240", width=64, fps=20, frame_id="belt") as source:
        assert (source.live, source.rate, source.length) == (False, 20.0, None)
        samples = [source.read() for _ in range(3)]
        info = source.camera_info()
    assert "320x240, 20 fps, endless" in source.description, "the URI comes before the arguments"
    for index, sample in enumerate(samples):
        frame, truth = sample.frame, sample.truth
        assert (frame.width, frame.height, frame.sequence, frame.stamp) == (320, 240, index, index * 50_000_000)
        assert truth.stamp == frame.stamp
        assert truth.frame_id == frame.frame_id == "belt"
    assert (info.width, info.height, info.frame_id) == (320, 240, "belt")


def test_the_twin_looped_repeats_itself_with_stamps_going_on() -> None:
    with open_source("sim://conveyor?frames=2&fps=10&width=160&height=120", loop=True, start_stamp=5) as source:
        samples = [source.read() for _ in range(5)]
    assert [s.frame.stamp for s in samples] == [5 + 100_000_000 * n for n in range(5)]
    assert [s.frame.sequence for s in samples] == list(range(5))
    np.testing.assert_array_equal(samples[0].frame.image, samples[2].frame.image)
    np.testing.assert_array_equal(samples[1].truth.boxes, samples[3].truth.boxes)
    assert len(read_all(open_source("sim://conveyor?frames=2&width=160&height=120"))) == 2


def frames_at(*stamps: int) -> list[Sample]:
    return [
        Sample(Frame(np.full((2, 3, 3), n, np.uint8), stamp, "left"), Tracks(stamp=stamp))
        for n, stamp in enumerate(stamps)
    ]


def test_memory_keeps_stamps_and_hands_out_the_images_themselves() -> None:
    samples = frames_at(100, 110, 130)
    source = MemorySource(samples)
    assert (source.length, source.live) == (3, False)
    out = read_all(source)
    assert [sample.frame.stamp for sample in out] == [100, 110, 130]
    assert all(a.frame.image is b.frame.image for a, b in zip(out, samples, strict=True))


def test_memory_looped() -> None:
    source = MemorySource(frames_at(100, 110, 130), loop=True)
    out = [source.read() for _ in range(7)]
    assert [sample.frame.stamp for sample in out] == [100, 110, 130, 145, 155, 175, 190]
    assert [sample.truth.stamp for sample in out] == [sample.frame.stamp for sample in out]
    assert [sample.frame.sequence for sample in out] == list(range(7))


def test_memory_at_a_rate() -> None:
    source = MemorySource([sample.frame for sample in frames_at(3, 2, 1)], loop=True, fps=100, start_stamp=50)
    assert [source.read().frame.stamp for _ in range(5)] == [50 + 10_000_000 * n for n in range(5)]
    with pytest.raises(ValueError, match="at least one"):
        MemorySource([])


@given(
    st.integers(-(2**60), 2**60),
    st.floats(0.01, 1000),
    st.lists(st.none() | st.floats(-1e9, 1e9) | st.just("loop"), min_size=1, max_size=30),
)
def test_stamps_always_increase(start: int, rate: float, times: list) -> None:
    clock = Clock(start, rate)
    stamps = []
    for time in times:
        if time == "loop":
            clock.restart()
        else:
            stamps.append(clock.stamp(time))
    assert all(b > a for a, b in itertools.pairwise(stamps))
    assert not stamps or stamps[0] == start


def test_an_even_rate_does_not_drift() -> None:
    clock = Clock(0, 30000 / 1001)
    stamps = [clock.stamp() for _ in range(108_000)]
    assert stamps[-1] == round(107_999 * 1001 / 30000 * 1e9)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("rtsp://bob:secret@host:554/x", "rtsp://bob:***@host:554/x"),
        ("rtsp://bob:se@cr:et@host/x", "rtsp://bob:***@host/x"),
        ("rtsp://bob:se/cr#et@host/x", "rtsp://bob:***@host/x"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("http://host/x?user=bob&password=secret&n=1", "http://host/x?user=bob&password=***&n=1"),
        ("http://host/x?access_token=secret", "http://host/x?access_token=***"),
        ("rtspsrc location=rtsp://bob:secret@host/x ! appsink", "rtspsrc location=rtsp://bob:***@host/x ! appsink"),
        ("rtspsrc user-id=bob user-pw=secret location=x", "rtspsrc user-id=bob user-pw=*** location=x"),
        ("folder/video.mp4", "folder/video.mp4"),
    ],
)
def test_passwords_are_hidden(text: str, hidden: str) -> None:
    assert hide_credentials(text) == hidden


def test_samples_cannot_be_changed() -> None:
    sample = frames_at(1)[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        sample.frame = None  # type: ignore[misc]


def test_ffmpegs_own_messages_are_off_unless_asked_for(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    code = (
        "import sys\nfrom edge_vision.sources import *\n"
        "try: open_source(sys.argv[1])\nexcept SourceError as error: print(error)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.mp4")],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "cannot read" in result.stdout
    assert result.stderr == ""


def test_opencvs_log_level_is_put_back() -> None:
    level = opencv._levels.getLogLevel()
    with opencv.quiet(), opencv.quiet():
        assert opencv._levels.getLogLevel() <= min(level, 2)
    assert opencv._levels.getLogLevel() == level
