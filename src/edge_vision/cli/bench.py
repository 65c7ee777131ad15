"""`edge_vision bench ...`: figures, each beside what it is compared to, from one run."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edge_vision.cli import bench_backends, bench_calibration, bench_enhance, bench_quality, bench_verdicts

DESCRIPTION = (
    "Measures pipeline, transport, inference backends and decoding, side by side with what they are compared to."
)

PIPELINE_PARTS = ("plain", "composed", "processes", "start")
DEFAULT_SIZES = ("640x480", "1920x1080")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    pipeline = commands.add_parser(
        "pipeline",
        help="camera to tracks: composed and one process a node, against the plain loop and the bare backend call",
        description="Plays the same frames of the twin, in turns, to: the bare backend call; a plain loop of "
        "pre-processing, run, decoding and tracking without ROS; the composed pipeline; one process a node. Results "
        "are heard by one more process. Then starts the composed pipeline anew for its start-up time and memory.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    pipeline.add_argument("--model", default="conveyor_parts", help="bundled model, bundle folder or .onnx file")
    pipeline.add_argument("--decoder", default="", help="decoder of a bare .onnx file (default: recognised)")
    pipeline.add_argument("--backend", default="auto", help="inference backend")
    pipeline.add_argument("--hardware", default="auto", help="hardware profile")
    pipeline.add_argument("--threads", type=int, default=0, help="threads of the backend, 0 for the profile's rule")
    pipeline.add_argument("--frames", type=_positive(int), default=300, help="frames for each contender and size")
    pipeline.add_argument("--rate", type=_positive(float), default=30.0, help="frames per second")
    pipeline.add_argument(
        "--only",
        nargs="+",
        choices=(*PIPELINE_PARTS, "quality"),
        default=PIPELINE_PARTS,
        metavar="PART",
        help=_choices(PIPELINE_PARTS) + "; with composed also quality: what the quality node costs it",
    )
    _common(pipeline)

    from edge_vision.benchmarks.transport import CONTENDERS

    transport = commands.add_parser(
        "transport",
        help="one hop of a frame between nodes, ours against plain rclpy, inside a process and across",
        description="Sends frames from one node to another and times each from the publish call to the callback "
        "that has its pixels: ours and plain rclpy with default settings, in turns. 1,000 frames at 10 fps take 100 s "
        "a size.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    transport.add_argument("--frames", type=_positive(int), default=200, help="frames for each contender and size")
    transport.add_argument("--rate", type=_positive(float), default=10.0, help="frames per second of each contender")
    names = (*CONTENDERS, "building")
    transport.add_argument("--only", nargs="+", choices=names, default=names, metavar="PART", help=_choices(names))
    _common(transport)

    backends = commands.add_parser(
        "backends",
        help="which hardware, which runtime? every backend, device and precision on a model",
        description=bench_backends.DESCRIPTION,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    bench_backends.add_arguments(backends)

    decoding = commands.add_parser(
        "decoding",
        help="decoding and non-maximum suppression, against ultralytics' and supervision's where they are installed",
        description="Decodes a YOLOv8 output of 84 x 8400 with crowded candidates and suppresses those that overlap, "
        "in turns with the packages that do the same.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    decoding.add_argument("--calls", type=_positive(int), default=300, help="calls of each contender")
    decoding.add_argument("--candidates", type=_positive(int), default=300, help="boxes above the threshold")
    _output(decoding)

    tracking = commands.add_parser(
        "tracking",
        help="a tracker's update against the number of objects, beside every peer that is installed",
        description="Times the update on crowds made by code, of 10 to 500 objects that are born, missed and end.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    tracking.add_argument(
        "--objects", nargs="+", type=_positive(int), default=(10, 50, 100, 500), help="sizes of crowds"
    )
    tracking.add_argument("--frames", type=_positive(int), default=150, help="of each contender and round")
    tracking.add_argument("--rounds", type=_positive(int), default=3, help="turns of each contender")
    tracking.add_argument("--peer-python", nargs="+", default=[], metavar="PATH", help="interpreters with more peers")
    _output(tracking)

    enhance = commands.add_parser(
        "enhance",
        help="detections on bad frames without and with enhancement, blur taken back, and the time of every stage",
        description=bench_enhance.DESCRIPTION,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    bench_enhance.add_arguments(enhance)

    quality = commands.add_parser(
        "quality",
        help="SSIM and the no-reference report, beside scikit-image where it is installed",
        description=bench_quality.DESCRIPTION,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    bench_quality.add_arguments(quality)
    _common(quality, bench_quality.DEFAULT_SIZES)

    calibration = commands.add_parser(
        "calibration",
        help="are the calibration's sigmas true? and the time of solving, detection and rectification",
        description=bench_calibration.DESCRIPTION,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    bench_calibration.add_arguments(calibration)
    _output(calibration)

    verdicts = commands.add_parser(
        "verdicts",
        help="spoiled pictures: how often the no-reference verdicts name the right cause",
        description=bench_verdicts.DESCRIPTION,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    bench_verdicts.add_arguments(verdicts)


def _common(parser: argparse.ArgumentParser, sizes: tuple[str, ...] = DEFAULT_SIZES) -> None:
    parser.add_argument("--sizes", nargs="+", type=_size, default=sizes, metavar="WxH", help="image sizes")
    _output(parser)


def _output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", metavar="FILE", default=argparse.SUPPRESS, help="write the figures as JSON, - for stdout"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")


def run(arguments: argparse.Namespace) -> int:
    if arguments.what == "backends":
        return bench_backends.run(arguments)
    if arguments.what == "verdicts":
        return bench_verdicts.run(arguments)
    if arguments.what == "enhance":
        return bench_enhance.run(arguments)
    if arguments.what == "calibration":
        return _report(arguments, bench_calibration.measure, "solve")
    if arguments.what == "decoding":
        return _report(arguments, _decoding, "call")
    if arguments.what == "tracking":
        return _report(arguments, _tracking, "round")
    arguments.sizes = [_size(size) if isinstance(size, str) else size for size in arguments.sizes]
    if arguments.what == "quality":
        return _report(arguments, bench_quality.measure, "round")
    if set(arguments.only) - {"plain"} and not _has_ros():
        return _fail("ROS is not on the path of this shell: `. scripts/env.sh` first (or --only plain)")
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    return _report(arguments, _pipeline if arguments.what == "pipeline" else _transport, "frame")


def _report(arguments: argparse.Namespace, measure: Callable[[argparse.Namespace, Any], Any], unit: str) -> int:
    from tqdm import tqdm

    from edge_vision.benchmarks.child import ChildFailed
    from edge_vision.benchmarks.results import as_dict, text

    load = os.getloadavg()[0]  # of others, before the measurement makes its own
    try:
        with tqdm(desc=f"bench {arguments.what}", unit=unit, file=sys.stderr, smoothing=0) as bar:
            report = measure(arguments, bar)
        report = replace(report, settings={**report.settings, "load before": f"{load:.1f}"})
    except (ChildFailed, ValueError, OSError) as error:
        return _fail(str(error))
    target = getattr(arguments, "json", None)
    if target != "-":
        print(text(report))
    if target:
        written = json.dumps(as_dict(report), indent=2)
        if target == "-":
            print(written)
        else:
            Path(target).write_text(written + "\n")
    return 1 if arguments.check and report.missed else 0


def _decoding(arguments: argparse.Namespace, bar: Any) -> Any:
    from edge_vision.benchmarks import decoding
    from edge_vision.benchmarks.results import Report, machine

    settings = decoding.Settings(calls=arguments.calls, candidates=arguments.candidates)
    bar.total = decoding.work(settings)
    shown = {"calls": settings.calls, "candidates": settings.candidates}
    return Report("bench decoding", machine(), shown, (decoding.measure(settings, bar.update),))


def _tracking(arguments: argparse.Namespace, bar: Any) -> Any:
    from edge_vision.benchmarks import tracking
    from edge_vision.benchmarks.other_python import PeerFailed
    from edge_vision.benchmarks.results import Report, machine

    settings = tracking.Settings(
        objects=tuple(arguments.objects),
        frames=arguments.frames,
        rounds=arguments.rounds,
        pythons=tuple(arguments.peer_python),
    )
    bar.total = tracking.work(settings)
    try:
        sections = tracking.measure(settings, bar.update)
    except PeerFailed as error:
        raise ValueError(str(error)) from error
    shown = {"frames": settings.frames, "rounds": settings.rounds}
    return Report("bench tracking", machine(), shown, sections)


def _pipeline(arguments: argparse.Namespace, bar: Any) -> Any:
    from edge_vision.benchmarks import pipeline, start
    from edge_vision.benchmarks.results import Report, machine

    settings = pipeline.Settings(
        _existing_model(arguments.model),
        arguments.decoder,
        arguments.backend,
        arguments.hardware,
        arguments.threads,
        arguments.frames,
        arguments.rate,
        tuple(arguments.only),
    )
    bar.total = pipeline.work(settings, arguments.sizes)
    sections = []
    engine: dict[str, Any] = {}
    if set(settings.only) - {"start"}:
        for width, height in arguments.sizes:
            section, engine = pipeline.measure(settings, width, height, bar.update)
            sections.append(section)
    if "start" in settings.only:
        bar.set_description("starting the pipeline")
        sections.append(start.measure(settings, lambda steps: None))
    shown = {
        "model": str(arguments.model),
        "frames": settings.frames,
        "rate": f"{settings.rate:g} fps",
        **_engine(engine),
    }
    return Report("bench pipeline", machine(), shown, tuple(sections))


def _engine(engine: dict[str, Any]) -> dict[str, Any]:
    if not engine:
        return {}
    return {
        "input": "x".join(str(side) for side in engine["input"]),
        "backend": f"{engine['backend']} {engine['version']} ({engine['device']}, {engine['precision']})",
        "threads": engine["threads"],
    }


def _existing_model(model: str) -> Path:
    """`find_model`, and ValueError where there is none: before any child process starts."""
    from edge_vision.paths import find_model

    found = find_model(model)
    if not found.exists():
        raise ValueError(f"no model {model}: give a bundle folder, an .onnx file, or the name of a folder in models/")
    return found


def _transport(arguments: argparse.Namespace, bar: Any) -> Any:
    from edge_vision.benchmarks import transport
    from edge_vision.benchmarks.results import Report, machine

    settings = transport.Settings(arguments.frames, arguments.rate, tuple(arguments.only))
    bar.total = transport.work(settings, arguments.sizes)
    sections = [transport.measure(settings, width, height, bar.update) for width, height in arguments.sizes]
    shown = {"frames": settings.frames, "rate": f"{settings.rate:g} fps"}
    return Report("bench transport", machine(), shown, tuple(sections))


def _has_ros() -> bool:
    try:
        return find_spec("rclpy") is not None and find_spec("edge_vision.msg") is not None
    except ModuleNotFoundError:
        return False


def _choices(names: tuple[str, ...]) -> str:
    return f"measure these alone: {', '.join(names)}"


def _positive(kind: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if value <= 0:
            raise argparse.ArgumentTypeError(
                f"'{text}' must be {'a whole number' if kind is int else 'a number'} above 0"
            )
        return value

    return read


def _size(text: str) -> tuple[int, int]:
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        width = height = 0
    if width < 32 or height < 32:
        raise argparse.ArgumentTypeError(f"'{text}' is no image size: write WIDTHxHEIGHT, e.g. 640x480")
    return width, height


def _fail(message: str) -> int:
    print(f"edge_vision bench: {message}", file=sys.stderr)
    return 1
