"""How long the composed pipeline takes from the start of its process to its first result, and what memory it needs:
the product itself, as `edge_vision demo` and the launch file start it, on the twin.

When another process hears of it depends on how soon the two find each other, which is the middleware's affair.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from edge_vision.benchmarks.child import Child, ChildFailed
from edge_vision.benchmarks.pipeline import COMPOSED_NODES, RSS_MB, START_S, Settings, medians
from edge_vision.benchmarks.results import Check, Row, Section
from edge_vision.benchmarks.usage import usage
from edge_vision.evaluation.latency import summarize

_TIMES = 3
_RUN_S = 8.0  # memory is read after this long
_LIMIT_S = 60.0
_CODE = """\
import sys
from edge_vision.benchmarks.nodes import announce_first_tracks
announce_first_tracks()
from edge_vision.ros.main import main
sys.exit(main('pipeline'))
"""


def measure(settings: Settings, advance: Callable[[int], object], *, width: int = 640, height: int = 480) -> Section:
    """Starts the pipeline three times. Raises ChildFailed where it ends early or no result comes within a minute."""
    namespaces = [f"/start{index}" for index in range(_TIMES)]
    topics = [f"{namespace}/tracks" for namespace in namespaces]
    started: list[float] = []
    heard: list[float] = []
    rss, peak, cpu = [], [], []
    with ExitStack() as stack:
        listener = Child("listener", "edge_vision.benchmarks.nodes.listen", {"topics": topics})
        stack.callback(listener.close)
        listener.answer()
        for namespace, topic in zip(namespaces, topics, strict=True):
            begin = time.time_ns()
            command = _command(settings, namespace, width, height)
            process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
            try:
                started.append((_first(process) - begin) * 1e-9)
                heard.append((_first_heard(listener, topic) - begin) * 1e-9)
                time.sleep(_RUN_S / 2)
                half = usage(process.pid)
                time.sleep(_RUN_S / 2)
                now = usage(process.pid)
            finally:
                _end(process)
            rss.append(now.rss_mb)
            peak.append(now.peak_mb)
            cpu.append((now.cpu_s - half.cpu_s) / (_RUN_S / 2))
            advance(1)
    start, slowest = medians(started)
    memory, most = medians(rss)[0], max(peak)
    rows = (
        Row("start to first tracks", summarize(np.array(started) * 1e9), None, medians(cpu)[0], memory),
        Row("start to first tracks elsewhere", summarize(np.array(heard) * 1e9)),
    )
    checks = (
        Check("start to first result, median", start, START_S, " s"),
        Check("RSS of the composed pipeline", memory, RSS_MB, " MiB"),
        Check("RSS at its peak", most, RSS_MB, " MiB"),
    )
    note = f"slowest start {slowest:.2f} s; nodes {' '.join(COMPOSED_NODES)} on sim://conveyor, which they render"
    return Section(f"start and memory, {width} x {height}", rows, {}, checks, (note,))


def _command(settings: Settings, namespace: str, width: int, height: int) -> list[str]:
    values: dict[str, Any] = {key: value for key, value in settings.engine().items() if value != ""}
    values["source"] = f"sim://conveyor?width={width}&height={height}&fps={settings.rate:g}"
    ros = [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]
    ros += ["-r", f"__ns:={namespace}", "--log-level", "warn"]
    return [sys.executable, "-c", _CODE, "--must-start", *COMPOSED_NODES, "--ros-args", *ros]


def _first(process: subprocess.Popen) -> int:
    """When the process had its first tracks out, ns of the epoch."""
    assert process.stdout is not None
    if select.select([process.stdout], [], [], _LIMIT_S)[0]:
        line = process.stdout.readline()
        if line:
            return int(line)
        raise ChildFailed(f"the pipeline ended with exit code {process.wait()} before its first result")
    raise ChildFailed(f"no tracks within {_LIMIT_S:g} s of the pipeline's start")


def _first_heard(listener: Child, topic: str) -> int:
    deadline = time.monotonic() + _LIMIT_S
    while time.monotonic() < deadline:
        first = listener.ask("first")["first"][topic]
        if first is not None:
            return first
        time.sleep(0.05)
    raise ChildFailed(f"no tracks were heard within {_LIMIT_S:g} s of the pipeline's first")


def _end(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
