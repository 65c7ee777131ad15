"""`edge_vision bench transport`: one hop of a frame between two nodes, ours against plain rclpy.

A hop lasts from the sender's publish call, the building of the message included, to the receiver's callback having the
pixels as an array. The contenders take turns frame by frame: each sends one, and only when it has arrived (or is given
up for now) the next contender sends. Frames that never arrive are lost.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from edge_vision.benchmarks.child import Child
from edge_vision.benchmarks.frames import FrameFile, render
from edge_vision.benchmarks.pacing import Ticker
from edge_vision.benchmarks.results import Check, Row, Section
from edge_vision.evaluation.latency import summarize

_HOPS = "edge_vision.benchmarks.hops."
_DISTINCT = 16
_GIVE_UP_S = 0.5  # the next contender's turn comes after this long; a frame that arrives later is not lost
_LATE_S = 2.0  # at the end, for those
_FAST_DDS_PROFILES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS")

INSIDE_LIMIT_MS = 0.1
ACROSS_RATIO = 0.5


@dataclass(frozen=True, slots=True)
class Contender:
    """sender, receiver: functions of `hops`; receiver "" where the sender's process also receives."""

    title: str
    sender: str
    receiver: str = ""
    default_profile: bool = False  # Fast DDS as it comes, not with the project's profile


CONTENDERS: dict[str, Contender] = {
    "inside": Contender("inside a process, edge_vision", "ours_inside"),
    "plain_inside": Contender("inside a process, plain rclpy", "plain_inside", default_profile=True),
    "shared": Contender(
        "across processes, edge_vision",
        "ours_send",
        "ours_receive_shared",
    ),
    "image": Contender(
        "across, edge_vision as Image",
        "ours_send",
        "ours_receive_image",
    ),
    "plain": Contender(
        "across processes, plain rclpy",
        "plain_send",
        "plain_receive",
        default_profile=True,
    ),
}


@dataclass(frozen=True)
class Settings:
    frames: int = 200
    rate: float = 10.0
    only: tuple[str, ...] = (*CONTENDERS, "building")


@dataclass
class _Hop:
    """One contender at work."""

    contender: Contender
    sender: Child
    receiver: Child
    nanoseconds: dict[int, int] = field(default_factory=dict)  # by the frame's number
    sent: int = 0

    def send(self, number: int) -> None:
        self.sender.tell("send", number=number)
        self.sent += 1

    def take(self, timeout_s: float, wanted: int) -> None:
        """Reads what has arrived until the frame `wanted` has, or the time is over."""
        deadline = time.monotonic() + timeout_s
        while wanted not in self.nanoseconds:
            arrived = self.receiver.answer(deadline - time.monotonic())
            if arrived is None:
                return
            self.nanoseconds[arrived["number"]] = arrived["ns"]


def work(settings: Settings, sizes: Sequence[tuple[int, int]]) -> int:
    """Frames in all, for the progress bar."""
    return len(sizes) * settings.frames * sum(name in settings.only for name in CONTENDERS)


def measure(settings: Settings, width: int, height: int, advance: Callable[[int], object]) -> Section:
    """Raises ChildFailed where a contender cannot run, ValueError or OSError where the frames cannot be made."""
    with ExitStack() as stack:
        file = render(width, height, _DISTINCT, fps=30.0)
        stack.callback(file.remove)
        building = _building(file, stack) if "building" in settings.only else {}
        hops = {name: _start(c, file, stack) for name, c in CONTENDERS.items() if name in settings.only}
        for hop in hops.values():
            _connect(hop)
        ticker = Ticker(settings.rate)
        for number in range(settings.frames if hops else 0):
            ticker.wait()
            for hop in hops.values():
                hop.send(number)
                hop.take(_GIVE_UP_S, number)
                advance(1)
        for hop in hops.values():
            while len(hop.nanoseconds) < hop.sent:
                before = len(hop.nanoseconds)
                hop.take(_LATE_S, -1)
                if len(hop.nanoseconds) == before:
                    break
        return _section(f"{width} x {height}", hops, building)


def _environment(contender: Contender) -> dict[str, str] | None:
    if not contender.default_profile:
        return None
    return {name: value for name, value in os.environ.items() if name not in _FAST_DDS_PROFILES}


def _start(contender: Contender, file: FrameFile, stack: ExitStack) -> _Hop:
    slug = "_".join(filter(None, (contender.sender, contender.receiver)))
    options = {"frames": file.as_options(), "namespace": f"/hop_{slug}"}
    environment = _environment(contender)

    def child(function: str, role: str) -> Child:
        made = Child(f"{contender.title} ({role})", _HOPS + function, options, environment)
        stack.callback(made.close)
        return made

    sender = child(contender.sender, "sender")
    receiver = child(contender.receiver, "receiver") if contender.receiver else sender
    sender.answer()
    if receiver is not sender:
        receiver.answer()
    return _Hop(contender, sender, receiver)


def _connect(hop: _Hop) -> None:
    """Frames that are not counted, until one has come through and then some more: numbers below 0.

    Raises ChildFailed through the child where it ends; TimeoutError where nothing comes.
    """
    for number in range(-1, -120, -1):
        hop.send(number)
        hop.take(0.25, number)
        if len(hop.nanoseconds) >= 10:
            break
    else:
        raise OSError(f"{hop.contender.title}: no frames come through; do other DDS programs run on this domain?")
    time.sleep(0.2)
    hop.take(0.0, 0)
    hop.nanoseconds.clear()
    hop.sent = 0


def _building(file: FrameFile, stack: ExitStack) -> dict[str, Any]:
    """Times of building an Image, in processes with and without `keep_freed_memory`."""
    found: dict[str, Any] = {}
    for tuned, title in ((False, "glibc's malloc as it comes"), (True, "freed memory kept")):
        child = Child("building", _HOPS + "building", {"frames": file.as_options(), "tuned": tuned})
        stack.callback(child.close)
        for name, samples in child.answer().items():
            found[f"{name}, {title}"] = summarize(samples)
    return found


def _section(title: str, hops: dict[str, _Hop], building: dict[str, Any]) -> Section:
    rows: dict[str, Row] = {}
    checks: list[Check] = []
    for name, hop in hops.items():
        arrived = [ns for number, ns in hop.nanoseconds.items() if number >= 0]
        rows[name] = Row(hop.contender.title, summarize(arrived), hop.sent - len(arrived))
    if "inside" in rows:
        checks.append(Check("inside a process, p50", rows["inside"].latency.p50, INSIDE_LIMIT_MS, " ms"))
    if "shared" in rows and "plain" in rows:
        ratio = rows["shared"].latency.p50 / rows["plain"].latency.p50
        checks.append(Check("across processes, p50 / plain rclpy's", ratio, ACROSS_RATIO))
    if "shared" in rows:
        checks.append(Check("frames lost across processes", float(rows["shared"].dropped or 0), 0))
    return Section(title, tuple(rows.values()), building, tuple(checks))
