"""What it costs to make detections of raw outputs: decoding and non-maximum suppression, beside other packages' own.

The tensor is that of YOLOv8 at 640x640 and 80 classes, (1, 84, 8400) float32, with objects that many anchors have
found, so that suppression has its usual work. Every contender gets the same values, written anew before each call as a
network would have, and they take turns.
"""

from __future__ import annotations

import importlib
import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_vision.benchmarks.results import Check, Row, Section
from edge_vision.evaluation.latency import summarize
from edge_vision.inference.backends import package_version
from edge_vision.inference.decoders import Decode, Setup, decoder
from edge_vision.inference.nms import non_maximum_suppression
from edge_vision.inference.onnx_header import TensorSpec

SIZE = 640
ANCHORS = 8400
LIMIT_MS = 2.0
OURS = "edge_vision"

Contender = Callable[[NDArray[np.float32]], int]
"""A raw output to the number of detections."""


@dataclass(frozen=True, slots=True)
class Settings:
    """calls: of each contender; candidates: anchors above the threshold, around `objects` places."""

    calls: int = 300
    candidates: int = 300
    objects: int = 40
    classes: int = 80
    score: float = 0.25
    iou: float = 0.7
    most: int = 300
    seed: int = 0


def work(settings: Settings) -> int:
    """How often `measure` calls its `advance` with 1."""
    return settings.calls


def make_output(settings: Settings) -> NDArray[np.float32]:
    """(1, 4 + classes, 8400) as a detector puts it out: low scores nearly everywhere, and `candidates` anchors above
    the threshold, whose boxes lie a few pixels around their object's."""
    rng = np.random.default_rng(settings.seed)
    output = np.empty((1, 4 + settings.classes, ANCHORS), np.float32)
    output[0, :4] = rng.uniform(10, SIZE - 10, (4, ANCHORS))
    output[0, 4:] = 0.2 * rng.random((settings.classes, ANCHORS)) ** 8
    anchors = rng.choice(ANCHORS, settings.candidates, replace=False)
    found = rng.integers(0, settings.objects, settings.candidates)
    centres = rng.uniform(50, SIZE - 50, (settings.objects, 2))
    sizes = rng.uniform(30, 150, (settings.objects, 2))
    kinds = rng.integers(0, min(8, settings.classes), settings.objects)
    output[0, :2, anchors] = centres[found] + rng.normal(0, 3, (settings.candidates, 2))
    output[0, 2:4, anchors] = sizes[found] * rng.uniform(0.9, 1.1, (settings.candidates, 2))
    output[0, 4 + kinds[found], anchors] = rng.uniform(settings.score + 0.01, 0.95, settings.candidates)
    return output


def build_decoder(output: NDArray[np.float32]) -> Decode:
    setup = Setup(Path("yolov8"), SIZE, SIZE, (TensorSpec("output0", output.shape, "float32"),), (output,))
    return decoder("yolov8").build(setup).decode


def ultralytics(settings: Settings, threads: int, free: bool = False) -> Contender:
    """Ultralytics' `non_max_suppression`, which decodes too. free: with suppression itself taken as free, a lower bound
    for machines whose torchvision suppresses faster. Raises ImportError where it is not installed."""
    torch = importlib.import_module("torch")
    module = importlib.import_module("ultralytics.utils.nms")

    def run(output: NDArray[np.float32]) -> int:
        torch.set_num_threads(threads)
        found = module.non_max_suppression(
            torch.from_numpy(output), settings.score, settings.iou, max_det=settings.most
        )
        return len(found[0])

    def run_free(output: NDArray[np.float32]) -> int:
        own = module.TorchNMS.nms
        module.TorchNMS.nms = staticmethod(lambda boxes, scores, threshold: torch.arange(1))
        try:
            return run(output)
        finally:
            module.TorchNMS.nms = own

    return run_free if free else run


def supervision(settings: Settings, decode: Decode) -> Contender:
    """Supervision's `Detections.with_nms` behind our decoding: it has none of its own. Raises ImportError."""
    Detections = importlib.import_module("supervision").Detections

    def run(output: NDArray[np.float32]) -> int:
        boxes, scores, class_ids = decode([output], settings.score)
        return len(Detections(xyxy=boxes, confidence=scores, class_id=class_ids).with_nms(threshold=settings.iou))

    return run


def contenders(settings: Settings, decode: Decode) -> tuple[dict[str, Contender], list[str]]:
    """The peers that can be run here, and why the others cannot."""

    def ours(output: NDArray[np.float32]) -> int:
        candidates = decode([output], settings.score)
        return len(non_maximum_suppression(*candidates, settings.iou, settings.most))

    found: dict[str, Contender] = {OURS: ours}
    notes: list[str] = []
    makers: Mapping[str, Callable[[], Contender]] = {
        "ultralytics, 1 thread": lambda: ultralytics(settings, 1),
        "ultralytics, 2 threads": lambda: ultralytics(settings, 2),
        "ultralytics, NMS taken as free": lambda: ultralytics(settings, 1, free=True),
        "supervision, our decoding": lambda: supervision(settings, decode),
    }
    for name, make in makers.items():
        package = name.split(",")[0]
        try:
            found[name] = make()
        except ImportError as error:
            note = f"{package}: not installed ({error})"
            if note not in notes:
                notes.append(note)
    if any(name.startswith("ultralytics") for name in found):
        path = (
            "torchvision.ops.nms" if "torchvision" in sys.modules else "its own TorchNMS (torchvision is not imported)"
        )
        versions = f"ultralytics {package_version('ultralytics')}, torch {package_version('torch')}"
        notes.append(f"{versions}: suppression by {path}")
    if any(name.startswith("supervision") for name in found):
        notes.append(f"supervision {package_version('supervision')}")
    return found, notes


def measure(settings: Settings, advance: Callable[[int], Any] = lambda steps: None) -> Section:
    """p50 and more of decoding and suppression together, by contender; of which, for ours: each alone.

    advance: called with 1 after each round.
    """
    original = make_output(settings)
    decode = build_decoder(original)
    runs, notes = contenders(settings, decode)
    output = original.copy()
    times: dict[str, list[int]] = {name: [] for name in runs}
    parts: dict[str, list[int]] = {"decode": [], "NMS": []}
    kept: dict[str, int] = {}
    for name, run in runs.items():  # the first calls load what they need
        kept[name] = [run(output) for _ in range(3)][-1]
    order = list(runs)
    shuffle = random.Random(settings.seed)
    for _ in range(settings.calls):
        shuffle.shuffle(order)
        for name in order:
            np.copyto(output, original)
            start = time.perf_counter_ns()
            runs[name](output)
            times[name].append(time.perf_counter_ns() - start)
        np.copyto(output, original)
        start = time.perf_counter_ns()
        candidates = decode([output], settings.score)
        middle = time.perf_counter_ns()
        non_maximum_suppression(*candidates, settings.iou, settings.most)
        parts["NMS"].append(time.perf_counter_ns() - middle)
        parts["decode"].append(middle - start)
        advance(1)
    notes.insert(0, "kept: " + ", ".join(f"{name} {count}" for name, count in kept.items() if "free" not in name))
    rows = tuple(Row(name, summarize(taken)) for name, taken in times.items())
    ours = rows[0].latency.p50
    checks = [Check(f"{OURS}: p50 of decoding and NMS", ours, LIMIT_MS, " ms")]
    checks += [Check(f"{OURS} against {row.name}", ours / row.latency.p50, 1.0) for row in rows[1:]]
    title = f"(1, {4 + settings.classes}, {ANCHORS}) float32, {settings.candidates} candidates"
    stages = {f"{OURS} {name}": summarize(taken) for name, taken in parts.items()}
    return Section(title, rows, stages, tuple(checks), tuple(notes), OURS)
