"""Streams that vanish come back by themselves: a real server killed and revived, and the order of attempts."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edge_vision.datatypes import Frame
from edge_vision.sources import MemorySource, Reconnecting, SourceError, SourceLost, open_source


class Flaky(MemorySource):
    """A live source of ``count`` frames that is then lost."""

    live = True

    def __init__(self, count: int) -> None:
        super().__init__([Frame(np.zeros((2, 2, 3), np.uint8), stamp) for stamp in range(count)])
        self.warnings.append("the driver chose otherwise")
        self.dropped = 1

    def read(self):
        sample = super().read()
        if sample is None:
            raise SourceLost("unplugged")
        return sample


class Opener:
    """Opens sources one after another; what is an exception is raised."""

    def __init__(self, *results) -> None:
        self.results = list(results)
        self.opened: list = []

    def __call__(self):
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        self.opened.append(result)
        return result


def test_a_killed_server_is_waited_for_and_read_again(mjpeg_server, numbered) -> None:
    events: list[tuple[str, str]] = []
    revived = threading.Event()

    def on_event(level: str, message: str) -> None:
        events.append((level, message))
        if "(attempt 2)" in message and not revived.is_set():
            revived.set()
            mjpeg_server.start()

    url = mjpeg_server.url
    with Reconnecting(
        lambda: open_source(url, read_timeout=2.0), first_delay=0.02, max_delay=0.05, on_event=on_event
    ) as source:
        sequences = [source.read().frame.sequence for _ in range(5)]
        mjpeg_server.kill()
        while not (source.losses and source.connected):
            sequences.append(source.read().frame.sequence)
        sequences += [source.read().frame.sequence for _ in range(5)]
        frame = source.read().frame
        assert 0 <= numbered.number_in(frame.image) < 30
    assert source.losses == 1
    assert sequences == sorted(set(sequences)), "numbers go on over the reconnect"
    assert [level for level, _ in events] == ["warning"] * (len(events) - 1) + ["info"]
    assert "gives no more frames" in events[0][1]
    assert events[0][1].endswith("trying again in 0.02 s")
    assert "(attempt 1); trying again in 0.04 s" in events[1][1]
    assert "(attempt 2); trying again in 0.05 s" in events[2][1]
    assert ": open after" in events[-1][1]


def test_the_delay_doubles_up_to_the_longest_and_starts_anew_after_a_frame() -> None:
    events: list[str] = []
    gone = SourceLost("no such device")
    opener = Opener(gone, gone, gone, gone, Flaky(1), gone, Flaky(2))
    source = Reconnecting(opener, first_delay=0.001, max_delay=0.004, on_event=lambda _, text: events.append(text))
    assert [source.read().frame.sequence for _ in range(3)] == [0, 1, 2]
    delays = [text.partition("trying again in ")[2] for text in events if "trying again" in text]
    assert delays == ["0.001 s", "0.002 s", "0.004 s", "0.004 s", "0.001 s", "0.002 s"]
    assert [text for text in events if "attempt" not in text] == ["unplugged; trying again in 0.001 s"]
    assert source.losses == 1
    assert source.dropped == 2
    assert source.warnings == ["the driver chose otherwise"]
    source.close()
    assert all(flaky._closed.is_set() for flaky in opener.opened)


def test_recorded_sources_end_and_fail_as_they_are() -> None:
    frames = [Frame(np.zeros((2, 2, 3), np.uint8), stamp) for stamp in (0, 10)]
    with Reconnecting(lambda: MemorySource(frames)) as source:
        assert [sample.frame.stamp for sample in iter(source.read, None)] == [0, 10]
        assert (source.live, source.length) == (False, 2)
        assert source.read() is None
    source = Reconnecting(lambda: open_source("missing.mp4"))
    with pytest.raises(SourceError, match="no such file"):
        source.read()
    with pytest.raises(SourceError, match="no such file"):
        source.connect()


def test_connect_is_one_attempt() -> None:
    events: list[str] = []
    opener = Opener(SourceLost("no such device"), Flaky(1))
    source = Reconnecting(opener, first_delay=0.001, on_event=lambda _, text: events.append(text))
    assert not source.connect()
    assert not source.connected
    assert source.description == "a source that was not open yet"
    assert events == ["no such device (attempt 1); trying again in 0.001 s"]
    assert source.connect()
    assert source.connect()
    assert source.description.startswith("1 frames in memory")


@pytest.mark.parametrize("how", ["stop", "close"])
@pytest.mark.parametrize("where", ["delay", "opening", "reading"])
def test_stop_and_close_end_a_waiting_read_at_once(how: str, where: str, mjpeg_server) -> None:
    stop, waiting, release = threading.Event(), threading.Event(), threading.Event()
    late: list[MemorySource] = []

    def hang():
        waiting.set()
        release.wait(30)
        late.append(Flaky(1))
        return late[0]

    def fail():
        raise SourceLost("gone")

    def stream():
        mjpeg_server.mode, mjpeg_server.sent = "hang", 38
        return open_source(mjpeg_server.url, read_timeout=60.0)

    source = Reconnecting(
        {"delay": fail, "opening": hang, "reading": stream}[where],
        first_delay=60.0,
        max_delay=60.0,
        on_event=lambda *_: waiting.set(),
        stop=stop,
    )
    ended = threading.Event()

    def read() -> None:
        while source.read() is not None:
            waiting.set()
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    if where == "reading":
        # FFmpeg looks at two pictures before it hands out the first: let it come to neither.
        while mjpeg_server.sent < 40:
            threading.Event().wait(0.01)
    else:
        assert waiting.wait(20)
    (stop.set if how == "stop" else source.close)()
    assert ended.wait(20)
    release.set()
    if where == "opening":
        while not late or not late[0]._closed.is_set():
            threading.Event().wait(0.01)
    assert source.read() is None
