"""What an update of the tracker costs against the number of objects, beside every other tracker that is installed.

Each contender follows the same synthetic crowds (`crowd.py`). They take turns: in every round each goes once through
the whole crowd with a fresh tracker, in another order. Timed is the update alone: what it takes to put boxes into a
peer's own types, and to read what it says, is not counted (ours needs neither).
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.benchmarks import peer_process
from edge_vision.benchmarks.crowd import Crowd, make_crowd
from edge_vision.benchmarks.other_python import PeerFailed
from edge_vision.benchmarks.peer_process import LocalPeers, PeerProcess
from edge_vision.benchmarks.results import Check, Row, Section
from edge_vision.benchmarks.tracking_peers import Ours
from edge_vision.datatypes import Detections
from edge_vision.evaluation.latency import summarize
from edge_vision.tracking import PRESETS, kernels

OURS = "edge_vision"
LIMITS_MS = {10: 0.15, 50: 0.5, 100: 1.0, 500: 6.0}
WARM_FRAMES = 10  # of each pass, not counted: tracks are only being made

Follow = Callable[[list[Detections], float], NDArray[np.int64]]
"""Detections of a sequence and its frame rate to the ns of every update."""


@dataclass(frozen=True, slots=True)
class Settings:
    """objects: sizes of the crowds; frames, rounds: of each contender; only: patterns of peers' names;
    pythons: interpreters that have more peers."""

    objects: tuple[int, ...] = tuple(LIMITS_MS)
    frames: int = 150
    rounds: int = 3
    presets: tuple[str, ...] = tuple(PRESETS)
    peers: bool = True
    only: tuple[str, ...] = ("*",)
    pythons: tuple[str, ...] = ()
    seed: int = 0


def work(settings: Settings) -> int:
    """How often `measure` calls its `advance` with 1."""
    return len(settings.objects) * settings.rounds


def measure(settings: Settings, advance: Callable[[int], Any] = lambda steps: None) -> tuple[Section, ...]:
    """A section a size of crowd: ms of an update by contender. Raises ValueError for sizes without sense, PeerFailed
    where an interpreter for peers cannot be used."""
    if settings.frames <= WARM_FRAMES or settings.rounds < 1 or min(settings.objects, default=0) < 1:
        raise ValueError(f"give at least one object, one round and more than {WARM_FRAMES} frames")
    if OURS not in settings.presets:
        raise ValueError(f"the preset {OURS} is what the others are compared to: leave it in")
    with ExitStack() as stack:
        contenders, notes = _contenders(settings, stack)
        return tuple(_section(settings, count, contenders, notes, advance) for count in settings.objects)


def _contenders(settings: Settings, stack: ExitStack) -> tuple[dict[str, Follow], list[str]]:
    found: dict[str, Follow] = {}
    for preset in (OURS, *(name for name in settings.presets if name != OURS)):
        found[preset if preset == OURS else f"{OURS}: {preset}"] = _ours(preset)
    notes = [f"{OURS}: {'compiled steps' if kernels.compiled else 'NumPy alone, the compiled steps were not built'}"]
    if settings.peers:
        places: list[LocalPeers | PeerProcess] = [LocalPeers()]
        for python in settings.pythons:
            process = PeerProcess(python)
            stack.callback(process.close)
            places.append(process)
        versions: dict[str, str] = {}
        for place in places:
            versions |= place.versions()
            for peer in place.peers:
                if peer.name not in found and not peer.warps and any(fnmatch(peer.name, p) for p in settings.only):
                    found[peer.name] = _peer(place, peer.name)
        gone = {name: why for name, why in places[0].missing.items() if name not in versions}
        notes.append("peers: " + (", ".join(f"{name} {number}" for name, number in versions.items()) or "none"))
        notes += [f"not compared: {name}, {why}" for name, why in gone.items()]
    return found, notes


def _ours(preset: str) -> Follow:
    return lambda frames, rate: peer_process.track(Ours(preset), frames).ns


def _peer(place: LocalPeers | PeerProcess, name: str) -> Follow:
    return lambda frames, rate: place.track(name, frames, rate).ns


def _section(
    settings: Settings,
    count: int,
    contenders: dict[str, Follow],
    notes: Iterable[str],
    advance: Callable[[int], Any],
) -> Section:
    crowd = Crowd(count, settings.frames, seed=settings.seed)
    frames, _ = make_crowd(crowd)
    taken: dict[str, list[NDArray[np.int64]]] = {name: [] for name in contenders}
    said = list(notes)
    shuffle = random.Random(settings.seed)
    for _ in range(settings.rounds):
        order = list(taken)
        shuffle.shuffle(order)
        for name in order:
            gc.collect()  # one contender's rubbish is not swept in another's time
            try:
                taken[name].append(contenders[name](frames, crowd.rate)[WARM_FRAMES:])
            except PeerFailed as error:
                del taken[name]
                said.append(f"not compared: {error}")
        advance(1)
    rows = tuple(Row(name, summarize(np.concatenate(ns))) for name, ns in taken.items())
    ours = rows[0].latency.p50
    checks = [Check(f"{OURS}: p50 of an update", ours, LIMITS_MS[count], " ms")] if count in LIMITS_MS else []
    checks += [
        Check(f"{OURS} against {r.name}", ours / r.latency.p50, 1.0) for r in rows if not r.name.startswith(OURS)
    ]
    boxes = sum(map(len, frames)) / len(frames)
    title = f"{count} objects, {boxes:.0f} boxes a frame"
    return Section(title, rows, {}, tuple(checks), tuple(said), OURS)
