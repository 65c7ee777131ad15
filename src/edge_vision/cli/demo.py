"""`edge_vision demo`: the pipeline on a source, as one process, with its results in files and a summary."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DESCRIPTION = "Runs camera, inference, tracking and overlay on a source and writes what they find."
DEFAULT_DURATION_S = 20.0
_MOST_SECONDS_TO_END = 25.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source", default="sim://conveyor", help="sim://..., video, image folder, /dev/video0, rtsp://..."
    )
    parser.add_argument("--model", default="conveyor_parts", help="bundled model, bundle folder or .onnx file")
    parser.add_argument(
        "--duration",
        type=float,
        default=None,
        metavar="S",
        help=f"seconds of the source (default: all of a recording, {DEFAULT_DURATION_S:g} of anything else)",
    )
    parser.add_argument("--backend", default="auto", help="inference backend, e.g. onnxruntime, openvino")
    parser.add_argument("--hardware", default="auto", help="hardware profile, e.g. cpu, intel, raspberry_pi, jetson")
    parser.add_argument(
        "--classes", default="", help="names or numbers of the classes to report, by commas; empty: all"
    )
    parser.add_argument(
        "--score", type=float, default=None, help="least score of a detection (default: the model's own)"
    )
    parser.add_argument("--output", default="output", metavar="DIR", help="folder for the files")
    parser.add_argument(
        "--pace",
        choices=("auto", "real_time", "fast"),
        default="auto",
        help="auto: recordings as fast as they can be worked on and every frame of them, all else in real time",
    )
    parser.add_argument("--json", action="store_true", help="print summary.json instead of the table")


def run(arguments: argparse.Namespace) -> int:
    from edge_vision.deployment import DeploymentError, executable_directory, plan
    from edge_vision.sources import SourceError

    if arguments.duration is not None and arguments.duration <= 0:
        return _fail(f"--duration must be more than 0 seconds, got {arguments.duration:g}", 2)
    try:
        recorded, frames, rate = _look_at(arguments.source)
    except SourceError as error:
        return _fail(str(error), 1)
    duration = arguments.duration or (0.0 if recorded else DEFAULT_DURATION_S)
    fast = arguments.pace == "fast" or (arguments.pace == "auto" and recorded)
    output = Path(arguments.output).expanduser()
    expected = int(duration * rate) if duration and rate else frames
    parameters: dict[str, dict[str, Any]] = {
        "camera": {"duration": duration, "exit_at_end": True, "pace": "fast" if fast else "real_time"},
        "recorder": {"output": str(output), "progress": True, "total": min(expected or 0, frames or expected or 0)},
    }
    inference: dict[str, Any] = {"classes": arguments.classes} if arguments.classes else {}
    if arguments.score is not None:
        inference["score_threshold"] = arguments.score
    if fast:
        inference["input_mode"] = "every"
    parameters["inference"] = inference
    values = {
        "source": arguments.source,
        "model": arguments.model,
        "composed": "true",
    }
    # What was not asked for is left to the parameter files and to the inference node, which says why it chose.
    values |= {name: getattr(arguments, name) for name in ("backend", "hardware") if getattr(arguments, name) != "auto"}
    try:
        process = plan(values, extra_nodes=("recorder",), parameters=parameters)
        command = process.processes[0].command(executable_directory())
    except (DeploymentError, ValueError) as error:
        return _fail(str(error), 2)
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "summary.json").unlink(missing_ok=True)  # an old one must not be taken for this run's
    except OSError as error:
        return _fail(f"{output}: cannot be written ({error.strerror}); name another folder with --output", 2)
    code = _run([*command[:1], "--must-start", *command[1:]], process.environment)
    return _report(output, code, arguments.json)


def _look_at(uri: str) -> tuple[bool, int | None, float | None]:
    """Whether the source is a recording, its frames and its rate. Raises SourceError where it cannot be opened.

    Cameras and streams are left to the pipeline, which waits for those that are not there yet.
    """
    from edge_vision.sources import SourceLost, open_source

    if uri.strip().startswith("sim:"):
        with open_source(uri) as source:
            return False, source.length, source.rate
    try:
        with open_source(uri) as source:
            return not source.live, source.length, source.rate
    except SourceLost:
        return False, None, None


def _run(command: list[str], environment: Mapping[str, str]) -> int:
    """The pipeline's exit code. Ctrl-C and SIGTERM go to the pipeline, which completes its files; a second kills."""
    child = subprocess.Popen(command, env={**os.environ, **environment}, start_new_session=True)
    asked = 0

    def forward(number: int, _frame: object) -> None:
        nonlocal asked
        asked += 1
        child.send_signal(number if asked == 1 else signal.SIGKILL)

    previous = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while True:
            try:
                return child.wait(timeout=_MOST_SECONDS_TO_END if asked else None)
            except subprocess.TimeoutExpired:
                child.kill()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _report(output: Path, code: int, as_json: bool) -> int:
    path = output / "summary.json"
    try:
        summary = json.loads(path.read_text())
    except (OSError, ValueError):
        return _fail("the pipeline ended before it could write a summary; the lines above say why", code or 1)
    print(json.dumps(summary, indent=2) if as_json else table(summary, output))
    for problem in summary.get("problems", []):
        print(f"problem: {problem}", file=sys.stderr)
    return code if code else int(bool(summary.get("problems")))


def table(summary: Mapping[str, Any], output: Path) -> str:
    """The summary for people."""
    nodes = summary.get("nodes", {})
    inference, camera = nodes.get("inference", {}), nodes.get("camera", {})
    tracking = nodes.get("tracking", {}).get("statistics", {}).get("stages", {})
    stages = inference.get("statistics", {}).get("stages", {})
    dropped = sum(node.get("statistics", {}).get("dropped", 0) for node in nodes.values())
    per_class = ", ".join(f"{name} {count}" for name, count in summary["detections_per_class"].items()) or "none"
    rows = [
        ("source", camera.get("source", "")),
        ("model", inference.get("model", "")),
        ("backend", _backend(inference)),
        ("chosen because", inference.get("chosen because", "")),
        *((name, why) for name, why in inference.items() if name.startswith("not ")),
        ("frames", f"{summary['frames']}, of which {summary['frames_with_results']} with results, {dropped} dropped"),
        ("rate", f"{summary['fps']:g} fps"),
        ("latency", _times(tracking.get("latency"), "camera to tracks")),
        ("of which", "  ".join(f"{name} {stage['p50_ms']:.2f} ms" for name, stage in stages.items())),
        ("detections", f"{summary['detections']} ({per_class})"),
        ("tracks", str(summary["tracks"])),
    ]
    scores = summary.get("scores")
    if scores and "mAP50" in scores:
        rows.append(
            ("mAP50", f"{scores['mAP50']:.3f} against the simulation's truth (mAP50-95 {scores['mAP50_95']:.3f})")
        )
    elif scores:
        rows.append(("mAP50", f"not computed: {scores['error']}"))
    rows.append(("files", f"{output}/: " + ", ".join(summary["files"])))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _backend(inference: Mapping[str, str]) -> str:
    parts = [inference.get(name, "") for name in ("backend", "device", "precision")]
    threads = inference.get("threads", "?")
    return ", ".join([*parts, f"{threads} thread{'s' if threads != '1' else ''}"]) if parts[0] else ""


def _times(stage: Mapping[str, float] | None, what: str) -> str:
    return f"p50 {stage['p50_ms']:.1f} ms, p95 {stage['p95_ms']:.1f} ms ({what})" if stage else "none"


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
