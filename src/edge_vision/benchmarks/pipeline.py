"""`edge_vision bench pipeline`: bare call, plain loop, composed pipeline and one process a node, in turns on the same
frames, so that whatever else the machine does hits all alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_vision.benchmarks.child import Child
from edge_vision.benchmarks.frames import FrameFile, distinct_frames, render
from edge_vision.benchmarks.results import NAN, Check, Row, Section, difference
from edge_vision.evaluation.latency import Percentiles, summarize

CONTENDERS = ("plain", "composed", "processes", "start")
QUALITY = "quality"  # one more, on request: what the quality node costs the composed pipeline
COMPOSED_NODES = ("camera", "inference", "tracking", "overlay", "monitor")
JUDGED_NODES = ("camera", "quality", *COMPOSED_NODES[1:])
SEPARATE_NODES = ("camera", "inference", "tracking")
_FRAMES_A_ROUND, _ROUND_S = 50, 1.5  # or as many as come in that time

BARE, WARM, LOOP = "bare backend call", "bare backend call, in a row", "plain loop"
COMPOSED, COMPOSED_HEARD = "composed pipeline", "composed, heard outside"
JUDGED = "composed, with the quality node"
SEPARATE, SEPARATE_HEARD = "a process a node", "a process a node, heard outside"

# What the composed pipeline may take, as a multiple of the plain loop, by image width.
_RATIO_SMALL, _RATIO_LARGE = 1.15, 1.2
_OVERHEAD = 0.30  # pre- and post-processing, as a share of the bare call, at 640x480
_RATIO_QUALITY = 1.05
RSS_MB, START_S = 350.0, 3.0

Advance = Callable[[int], object]


@dataclass(frozen=True)
class Settings:
    model: Path
    decoder: str = ""
    backend: str = "auto"
    hardware: str = "auto"
    threads: int = 0
    frames: int = 300
    rate: float = 30.0
    only: tuple[str, ...] = CONTENDERS

    def engine(self) -> dict[str, Any]:
        return {
            "model": str(self.model.resolve()),
            "decoder": self.decoder,
            "backend": self.backend,
            "hardware": self.hardware,
            "threads": self.threads,
        }


@dataclass
class Gathered:
    """What one contender's rounds gave so far."""

    samples: dict[str, list[int]] = field(default_factory=dict)
    dropped: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    rss_mb: dict[str, float] = field(default_factory=dict)

    def add(self, answer: dict[str, Any], process: str = "") -> None:
        for name, values in answer["samples"].items():
            self.samples.setdefault(name, []).extend(values)
        self.dropped += answer["dropped"]
        self.cpu_s += answer["cpu_s"]
        self.rss_mb[process] = answer["rss_mb"]

    @property
    def rate(self) -> float:
        """Frames a second that came out of the tracking node."""
        return len(self.samples.get("tracking/latency", [])) / self.wall_s if self.wall_s else NAN

    def row(self, name: str, stage: str, costs: bool = True) -> Row:
        latency = summarize(self.samples.get(stage, []))
        if not costs:
            return Row(name, latency, None)
        cpu = self.cpu_s / self.wall_s if self.wall_s else NAN
        return Row(name, latency, self.dropped, cpu, sum(self.rss_mb.values()))


def work(settings: Settings, sizes: Sequence[tuple[int, int]]) -> int:
    """Steps of the whole measurement, for the progress bar."""
    contenders = 2 * ("plain" in settings.only) + len({"composed", "processes", QUALITY} & {*settings.only})
    steps = 0
    for width, height in sizes:
        steps += contenders * settings.frames + (distinct_frames(settings.frames, width, height) if contenders else 0)
    return steps


def measure(settings: Settings, width: int, height: int, advance: Advance) -> tuple[Section, dict[str, Any]]:
    """All contenders at one image size; the section and what the engine is.

    Raises ChildFailed where one cannot run, ValueError or OSError where the frames cannot be made.
    """
    with ExitStack() as stack:
        file = render(width, height, settings.frames, fps=settings.rate, progress=lambda: advance(1))
        stack.callback(file.remove)
        rounds = _Rounds(settings, file, stack)
        first, most = 0, max(_FRAMES_A_ROUND, round(_ROUND_S * settings.rate))
        while first < settings.frames:
            count = min(most, settings.frames - first)
            rounds.play(first, count, advance)
            first += count
        return rounds.section(f"{width} x {height}", width), rounds.engine


class _Rounds:
    """The processes of all contenders at one size, played in turns."""

    def __init__(self, settings: Settings, file: FrameFile, stack: ExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self.engine: dict[str, Any] = {}
        options = {"frames": file.as_options(), **settings.engine()}
        only = settings.only
        self._plain = self._composed = self._judged = self._listener = None
        self._separate: dict[str, Child] = {}
        topics = []
        if "plain" in only:
            self._plain, self.engine = self._child("plain loop", "edge_vision.benchmarks.plain.serve", options)
        if "composed" in only:
            topics += ["/composed/detections", "/composed/tracks"]
            composed = {**options, "nodes": COMPOSED_NODES, "namespace": "/composed"}
            self._composed, _ = self._child("composed pipeline", "edge_vision.benchmarks.nodes.serve", composed)
        if QUALITY in only:
            judged = {**options, "nodes": JUDGED_NODES, "namespace": "/judged"}
            topics += ["/judged/detections", "/judged/tracks"]
            self._judged, _ = self._child(JUDGED, "edge_vision.benchmarks.nodes.serve", judged)
        if "processes" in only:
            topics += ["/separate/detections", "/separate/tracks"]
            for name in SEPARATE_NODES:
                alone = {**options, "nodes": [name], "namespace": "/separate"}
                self._separate[name], _ = self._child(name, "edge_vision.benchmarks.nodes.serve", alone)
        if topics:
            self._listener, _ = self._child("listener", "edge_vision.benchmarks.nodes.listen", {"topics": topics})
        self._begin(topics)
        self._settle()

    def _begin(self, topics: Sequence[str]) -> None:
        self.bare, self.loop, self.composed, self.separate = Gathered(), Gathered(), Gathered(), Gathered()
        self.judged = Gathered()
        self._swap = False
        self.heard: dict[str, list[int]] = {topic: [] for topic in topics}

    def _child(self, name: str, function: str, options: dict[str, Any]) -> tuple[Child, dict[str, Any]]:
        child = Child(name, function, options)
        self._stack.callback(child.close)
        return child, child.answer()

    def _settle(self) -> None:
        """Some frames that are not counted: until everybody has found everybody."""
        self._play_all(0, 10, 10.0)
        self._play_all(0, 10, self._settings.rate)
        self._begin(list(self.heard))

    def play(self, first: int, count: int, advance: Advance) -> None:
        self._play_all(first, count, self._settings.rate, advance)

    def _play_all(self, first: int, count: int, rate: float, advance: Advance = lambda steps: None) -> None:
        frames = {"first": first, "count": count, "rate": rate}
        if self._plain is not None:
            self.bare.add(self._plain.ask("play", what="bare", **frames))
            advance(count)
            answer = self._plain.ask("play", what="loop", **frames)
            self.loop.add(answer)
            self.loop.wall_s += answer["wall_s"]
            advance(count)
        together = [(self._composed, self.composed), (self._judged, self.judged)]
        self._swap = not self._swap  # who comes second finds another machine: warm, or throttled
        for pipeline, gathered in reversed(together) if self._swap else together:
            if pipeline is not None:
                self._play(pipeline, {"": pipeline}, gathered, frames)
                advance(count)
        if self._separate:
            self._play(self._separate["camera"], self._separate, self.separate, frames)
            advance(count)

    def _play(self, camera: Child, processes: dict[str, Child], gathered: Gathered, frames: dict[str, Any]) -> None:
        assert self._listener is not None
        for process in (*processes.values(), self._listener):
            process.ask("begin")
        camera.ask("play", **frames)
        answers = {name: process.ask("collect") for name, process in processes.items()}
        for name, answer in answers.items():
            gathered.add(answer, name)
        gathered.wall_s += max(answer["wall_s"] for answer in answers.values())
        for topic, ages in self._listener.ask("collect")["ages"].items():
            self.heard[topic].extend(ages)

    def section(self, title: str, width: int) -> Section:
        rows, stages = [], {}
        checks: list[Check] = []
        if self._plain is not None:
            warm = self.bare.row(WARM, "warm", costs=False)
            rows += [self.bare.row(BARE, "run", costs=False), warm, self.loop.row(LOOP, "total")]
            for name in ("preprocess", "run", "postprocess", "track"):
                stages[f"{LOOP}: {name}"] = summarize(self.loop.samples[name])
        if self._composed is not None:
            rows.append(self.composed.row(COMPOSED, "tracking/latency"))
            rows.append(Row(COMPOSED_HEARD, summarize(self.heard["/composed/tracks"])))
            stages |= _breakdown(COMPOSED, self.composed)
        notes = []
        if self._judged is not None:
            rows.append(self.judged.row(JUDGED, "tracking/latency"))
            stages |= _breakdown(JUDGED, self.judged)
            name = "quality/analyse"
            stages[f"{JUDGED}: {name}"] = summarize(self.judged.samples.get(name, []))
            if self._composed is not None:
                checks += _costs(self.composed, self.judged)
                notes = [
                    f"{name}: {gathered.rate:.1f} tracked frames a second"
                    for name, gathered in ((COMPOSED, self.composed), (JUDGED, self.judged))
                ]
        if self._separate:
            rows.append(self.separate.row(SEPARATE, "tracking/latency"))
            rows.append(Row(SEPARATE_HEARD, summarize(self.heard["/separate/tracks"])))
            stages |= _breakdown(SEPARATE, self.separate)
        by_name = {row.name: row for row in rows}
        if LOOP in by_name and COMPOSED in by_name:
            limit = _RATIO_SMALL if width <= 640 else _RATIO_LARGE
            ratio = by_name[COMPOSED].latency.p50 / by_name[LOOP].latency.p50
            checks.append(Check("composed p50 / plain loop p50", ratio, limit))
        if LOOP in by_name and width <= 640:
            around = stages[f"{LOOP}: preprocess"].p50 + stages[f"{LOOP}: postprocess"].p50
            share = around / by_name[BARE].latency.p50
            checks.append(Check("pre- and post-processing / bare call", share, _OVERHEAD))
        return Section(title, tuple(rows), stages, tuple(checks), tuple(notes), LOOP if LOOP in by_name else "")


def _costs(without: Gathered, judged: Gathered) -> list[Check]:
    """What the quality node costs: in latency, and in frames a second (which tells at a --rate beyond what it can)."""
    before, after = (summarize(gathered.samples["tracking/latency"]) for gathered in (without, judged))
    return [
        Check("with the quality node / without, p50", after.p50 / before.p50, _RATIO_QUALITY),
        Check("frames a second without / with the quality node", without.rate / judged.rate, _RATIO_QUALITY),
    ]


_WORK = ("inference/preprocess", "inference/run", "inference/postprocess", "tracking/track")


def _breakdown(contender: str, gathered: Gathered) -> dict[str, Percentiles]:
    shown = ("camera/publish", *_WORK[:3], "inference/publish", *_WORK[3:], "tracking/publish", "inference/send")
    samples = gathered.samples
    found = {f"{contender}: {name}": summarize(samples[name]) for name in shown if name in samples}
    total = samples.get("tracking/latency", [])
    rest = difference(total, *(samples.get(name, []) for name in _WORK))
    if rest.count:
        found[f"{contender}: hand-over, waiting, messages"] = rest
    return found


def medians(samples: Sequence[float]) -> tuple[float, float]:
    """(median, largest); NaN for none."""
    return (float(np.median(samples)), float(max(samples))) if len(samples) else (NAN, NAN)
