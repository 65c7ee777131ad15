"""The ring of slots: what is read is what was written, or nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_vision.ros import shared_frames
from edge_vision.ros.shared_frames import FOLDER, PREFIX, SLOTS, Segment, read_slot, remove_stale_segments

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no {FOLDER} on this system")


@pytest.fixture
def segment() -> Iterator[Segment]:
    segment = Segment(3000)
    yield segment
    segment.close()


def reader(segment: Segment) -> np.ndarray:
    return np.memmap(FOLDER / segment.name, np.uint8, "r")


@pytest.mark.parametrize(("shape", "kind"), [((10, 20, 3), np.uint8), ((30, 40), np.uint8), ((10, 20), np.uint16)])
def test_what_is_read_is_what_was_written(segment, shape, kind) -> None:
    rng = np.random.default_rng(1)
    for _ in range(2 * SLOTS):
        image = rng.integers(0, 2**8 * np.dtype(kind).itemsize, shape).astype(kind)
        offset, generation = segment.write(image)
        pixels = read_slot(reader(segment), offset, generation, image.nbytes)
        assert pixels is not None
        np.testing.assert_array_equal(pixels.view(kind).reshape(shape), image)


def test_an_image_that_is_no_block_of_memory_is_written_as_it_looks(segment) -> None:
    image = np.arange(600, dtype=np.uint8).reshape(10, 20, 3)[:, ::-1, ::-1]
    offset, generation = segment.write(image)
    np.testing.assert_array_equal(read_slot(reader(segment), offset, generation, 600).reshape(10, 20, 3), image)


def test_a_slot_that_was_written_again_gives_nothing(segment) -> None:
    image = np.zeros(3000, np.uint8)
    offset, generation = segment.write(image)
    for _ in range(SLOTS - 1):
        segment.write(image)
        assert read_slot(reader(segment), offset, generation, 3000) is not None, "the other slots are not this one"
    assert segment.write(image)[0] == offset
    assert read_slot(reader(segment), offset, generation, 3000) is None


def test_a_slot_that_is_being_written_gives_nothing(segment) -> None:
    offset, generation = segment.write(np.zeros(3000, np.uint8))
    writable = np.memmap(FOLDER / segment.name, np.uint8, "r+")
    writable[offset : offset + 8].view(np.uint64)[0] = 0
    assert read_slot(reader(segment), offset, generation, 3000) is None


def test_a_slot_outside_the_segment_gives_nothing(segment) -> None:
    """A message may say anything."""
    view = reader(segment)
    for offset in (len(view) - 100, len(view), 2**40, 2**64 - 1):
        assert read_slot(view, offset, 1, 3000) is None
    assert read_slot(view, 0, 1, len(view)) is None


_WRITER = """
import numpy as np
from edge_vision.ros.shared_frames import Segment
segment = Segment(600_000)
print(segment.name, len(segment._bytes) // segment._slots, flush=True)
images = [np.full(600_000, value, np.uint8) for value in range(7)]
number = 0
while True:
    number += 1
    segment.write(images[number % 7])
"""


def test_never_torn_however_fast_the_writer_is() -> None:
    """A writer without mercy in another process: each frame read is whole and the right one, or counted as missed."""
    writer = subprocess.Popen([sys.executable, "-c", _WRITER], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout is not None
        name, stride = writer.stdout.readline().split()
        view = np.memmap(FOLDER / name, np.uint8, "r")
        words = view[: SLOTS * int(stride)].reshape(SLOTS, -1)[:, :8].view(np.uint64)[:, 0]
        whole = missed = 0
        while whole < 300 or missed < 30:
            # The newest frame, which is there for a while, and the oldest, which is about to be written over.
            generations = words.copy()
            for slot in (int(generations.argmax()), int(generations.argmin())):
                generation = int(generations[slot])
                pixels = read_slot(view, slot * int(stride), generation, 600_000) if generation else None
                if pixels is None:
                    missed += 1
                    continue
                assert (pixels == generation % 7).all(), "torn"
                whole += 1
    finally:
        writer.kill()
        writer.wait(20)
        removed = remove_stale_segments()
    assert removed >= 1, "what the killed writer left"


def test_no_room_is_an_error_that_leaves_nothing() -> None:
    before = set(FOLDER.glob(f"{PREFIX}{os.getpid()}_*"))
    with pytest.raises(OSError, match=r"No space|too large|memory"):
        Segment(1 << 46)
    assert set(FOLDER.glob(f"{PREFIX}{os.getpid()}_*")) == before


def test_only_its_owner_reads_it_and_closing_removes_it() -> None:
    segment = Segment(100)
    path = FOLDER / segment.name
    assert path.stat().st_mode & 0o777 == 0o600
    segment.close()
    assert not path.exists()
    segment.close()


def test_only_what_the_dead_left_is_removed(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shared_frames, "FOLDER", tmp_path)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait(20)
    names = {
        "stale": f"{PREFIX}{dead.pid}_0123",
        "alive": f"{PREFIX}{os.getpid()}_0123",
        "other": "somebody_elses_1_2",
        "odd": f"{PREFIX}x_y",
    }
    for name in names.values():
        (tmp_path / name).touch()
    assert remove_stale_segments() == 1
    assert {path.name for path in tmp_path.iterdir()} == {names["alive"], names["other"], names["odd"]}
    monkeypatch.setattr(shared_frames, "FOLDER", Path(tmp_path / "absent"))
    assert remove_stale_segments() == 0
