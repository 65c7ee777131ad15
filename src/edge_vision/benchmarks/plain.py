"""The contenders without ROS: the bare backend call, and the plain loop that is the floor for every pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edge_vision.benchmarks.child import Conversation
from edge_vision.benchmarks.frames import FrameFile
from edge_vision.benchmarks.pacing import Ticker
from edge_vision.benchmarks.usage import usage
from edge_vision.datatypes import Frame
from edge_vision.inference import Engine, load_bundle
from edge_vision.tracking import Tracker

Samples = dict[str, list[int]]
"""Nanoseconds by stage, one a frame."""


def load_engine(options: dict[str, Any]) -> Engine:
    """As the inference node loads it."""
    bundle = load_bundle(Path(options["model"]), decoder=options["decoder"] or None)
    return Engine.load(bundle, backend=options["backend"], threads=options["threads"], hardware=options["hardware"])


def play_bare(engine: Engine, images: NDArray, order: range, rate: float) -> Samples:
    """The backend's call alone on each frame's tensor; then as often in a row on one tensor, caches warm.

    order: at least one frame.
    """
    assert engine.session is not None
    run = engine.session.run
    paced, warm = [], []
    ticker = Ticker(rate)
    for index in order:
        ticker.wait()
        tensor = engine.preprocess(Frame(images[index % len(images)])).tensor
        start = time.perf_counter_ns()
        run([tensor])
        paced.append(time.perf_counter_ns() - start)
    for _ in order:
        start = time.perf_counter_ns()
        run([tensor])
        warm.append(time.perf_counter_ns() - start)
    return {"run": paced, "warm": warm}


def play_loop(engine: Engine, tracker: Tracker, images: NDArray, order: range, rate: float) -> Samples:
    """What the pipeline does for a frame, in one thread and nothing else."""
    samples: Samples = {name: [] for name in ("preprocess", "run", "postprocess", "track", "total")}
    columns = list(samples.values())
    clock: Callable[[], int] = time.perf_counter_ns
    ticker = Ticker(rate)
    for index in order:
        ticker.wait()
        frame = Frame(images[index % len(images)], time.time_ns(), "camera_optical_frame", index)
        t0 = clock()
        prepared = engine.preprocess(frame)
        t1 = clock()
        raw = engine.run(prepared)
        t2 = clock()
        detections = engine.postprocess(raw, prepared)
        t3 = clock()
        tracker.update(detections)
        t4 = clock()
        for column, value in zip(columns, (t1 - t0, t2 - t1, t3 - t2, t4 - t3, t4 - t0), strict=True):
            column.append(value)
    return samples


def serve(options: dict[str, Any], conversation: Conversation) -> None:
    """The child: {"do": "play", "what": "bare" or "loop", "first", "count", "rate"}."""
    file = FrameFile.from_options(options["frames"])
    images = file.open()
    engine = load_engine(options)
    tracker = Tracker.from_preset("edge_vision")
    description = engine.description
    conversation.say(
        {
            "backend": description.backend,
            "version": description.runtime_version,
            "device": description.device,
            "precision": description.precision,
            "threads": description.threads,
            "model": description.model,
            "input": [engine.bundle.input.width, engine.bundle.input.height],
        }
    )

    def play(what: str, first: int, count: int, rate: float) -> dict[str, Any]:
        order = range(first, first + count)
        before, start = usage(), time.perf_counter()
        if what == "bare":
            samples = play_bare(engine, images, order, rate)
        else:
            samples = play_loop(engine, tracker, images, order, rate)
        wall = time.perf_counter() - start
        after = usage(without=file.path)
        return {
            "samples": samples,
            "cpu_s": after.cpu_s - before.cpu_s,
            "wall_s": wall,
            "rss_mb": after.rss_mb,
            "peak_mb": after.peak_mb,
            "dropped": 0,
        }

    conversation.serve({"play": play})
    engine.close()
