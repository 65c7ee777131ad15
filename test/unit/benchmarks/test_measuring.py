"""What measuring stands on: frames in a file, the memory of a process, children that are asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from edge_vision.benchmarks.child import Child, ChildFailed
from edge_vision.benchmarks.frames import FrameFile, distinct_frames, render
from edge_vision.benchmarks.nodes import GatedSource
from edge_vision.benchmarks.usage import mapped_kb, usage
from edge_vision.simulation import Conveyor, ConveyorOptions

SMAPS = """\
7f0000000000-7f0000100000 r--s 00000000 fe:00 42       /tmp/frames.bgr
Size:               1024 kB
Rss:                 640 kB
Pss:                 320 kB
7f0000100000-7f0000200000 r-xp 00000000 fe:00 43       /usr/lib/lib c.so
Rss:                 100 kB
7f0000200000-7f0000300000 rw-p 00000000 00:00 0
Rss:                  50 kB
7f0000300000-7f0000400000 r--s 00100000 fe:00 42       /tmp/frames.bgr
Rss:                  10 kB
VmFlags: rd sh mr mw me ms sd
"""


@pytest.fixture
def file():
    made = render(64, 48, 5, fps=30.0, seed=3)
    yield made
    made.remove()


def test_memory_of_one_file_is_the_sum_over_its_mappings() -> None:
    assert mapped_kb(SMAPS, "/tmp/frames.bgr") == 650
    assert mapped_kb(SMAPS, "/usr/lib/lib c.so") == 100
    assert mapped_kb(SMAPS, "/tmp/other") == 0


def test_usage_of_a_process_that_works_and_holds_memory() -> None:
    code = "x = bytearray(64 << 20); n = 0\nwhile n < 3_000_000: n += 1\nprint(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seen = usage(process.pid)
        process.communicate(b"\n")
    assert seen.cpu_s > 0
    assert 64 < seen.rss_mb <= seen.peak_mb < 200


def test_usage_of_a_process_that_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(ProcessLookupError, match=str(process.pid)):
        usage(process.pid)


def test_frames_in_the_file_are_those_of_the_twin_and_different(file) -> None:
    images = file.open()
    scene = Conveyor(ConveyorOptions(width=64, height=48, fps=30.0, seed=3))
    assert images.shape == (5, 48, 64, 3)
    for index, image in enumerate(images):
        assert np.array_equal(image, scene.render(index).frame.image)
    assert len({image.tobytes() for image in images}) == 5
    assert FrameFile.from_options(file.as_options()) == file


def test_the_frames_file_is_not_counted_as_memory_of_whoever_maps_it(file) -> None:
    images = file.open()
    mapped = mapped_kb(Path("/proc/self/smaps").read_text(), str(file.path))
    assert mapped * 1024 >= images.nbytes
    assert usage().rss_mb - usage(without=file.path).rss_mb == pytest.approx(mapped / 1024, abs=2.0)


@pytest.mark.parametrize(
    ("wanted", "size", "count"), [(30, (640, 480), 30), (1000, (640, 480), 218), (1, (64, 48), 2), (9, (9000, 9000), 2)]
)
def test_as_many_distinct_frames_as_there_is_room_for(wanted, size, count) -> None:
    assert distinct_frames(wanted, *size) == count


def test_no_file_is_left_where_rendering_fails(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(64, 48, 5, fps=30.0, progress=interrupted)
    assert list(tmp_path.iterdir()) == []


def test_a_gated_source_gives_what_it_is_told_to_and_ends_when_closed(file) -> None:
    source = GatedSource(file)
    seen = []

    def read() -> None:
        while (sample := source.read()) is not None:
            seen.append(sample.frame)

    reader = threading.Thread(target=read)
    reader.start()
    source.play(0, 3, 0.0)
    source.play(3, 4, 0.0)
    source.close()
    reader.join(5.0)
    assert not reader.is_alive()
    assert [frame.sequence for frame in seen] == list(range(7))
    assert np.array_equal(seen[6].image, file.open()[1])
    stamps = [frame.stamp for frame in seen]
    assert stamps == sorted(set(stamps))


# --- children ---------------------------------------------------------------------------------------------------------


ECHO = """\
import os

def serve(options, conversation):
    conversation.say(options)

    def shout():
        os.system("echo from a library")
        print("from Python", flush=True)

    def twice():
        conversation.say({"n": 1})
        conversation.say({"n": 2})

    conversation.serve(
        {
            "add": lambda a, b: {"sum": a + b},
            "shout": shout,
            "twice": twice,
            "fail": lambda: 1 / 0,
            "die": lambda: os._exit(7),
        }
    )
"""


@pytest.fixture
def child(monkeypatch, tmp_path):
    """Starts children that run the module above."""
    (tmp_path / "bench_echo.py").write_text(ECHO)
    package = Path(__file__).parents[3] / "src"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(package), os.environ.get("PYTHONPATH", "")]))
    made = []

    def start(function: str = "bench_echo.serve", **options) -> Child:
        made.append(Child("echo", function, options))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_a_child_answers_in_order_and_its_prints_are_no_answers(child) -> None:
    echo = child(greeting="hello")
    assert echo.answer() == {"greeting": "hello"}
    assert echo.ask("add", a=2, b=3) == {"sum": 5}
    echo.tell("shout")
    echo.tell("add", a=1, b=1)
    assert echo.answer() == {"sum": 2}


def test_waiting_for_an_answer_has_an_end_and_answers_read_ahead_are_not_lost(child) -> None:
    echo = child()
    echo.answer()
    assert echo.answer(timeout_s=0.01) is None
    echo.tell("twice")
    assert [echo.answer(timeout_s=5.0), echo.answer(timeout_s=5.0)] == [{"n": 1}, {"n": 2}]


def test_a_request_that_fails_says_why_and_the_child_lives(child) -> None:
    echo = child()
    echo.answer()
    with pytest.raises(ChildFailed, match="echo: ZeroDivisionError: division by zero"):
        echo.ask("fail")
    assert echo.ask("add", a=0, b=0) == {"sum": 0}


def test_a_child_that_dies_is_named(child) -> None:
    echo = child()
    echo.answer()
    with pytest.raises(ChildFailed, match=r"'echo' has ended \(exit code 7\)"):
        echo.ask("die")


def test_a_child_that_cannot_start_is_named(child) -> None:
    with pytest.raises(ChildFailed, match="nowhere"):
        child("nowhere.serve").answer()


def test_a_child_ends_with_its_parents_interest_and_ignores_its_interrupts(child) -> None:
    echo = child()
    echo.answer()
    os.kill(echo.pid, signal.SIGINT)
    assert echo.ask("add", a=1, b=2) == {"sum": 3}
    echo.close()
    with pytest.raises(ProcessLookupError):
        os.kill(echo.pid, 0)
