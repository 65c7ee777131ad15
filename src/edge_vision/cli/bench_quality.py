"""`edge_vision bench quality`: what SSIM and the other figures cost, beside scikit-image's."""

from __future__ import annotations

import argparse
from typing import Any

DESCRIPTION = (
    "Times SSIM on the same pair of images in turns with scikit-image's (Wang's setting) and with five filters of "
    "OpenCV, one thread each, and compares the values; then the no-reference report of a frame. scikit-image may be in "
    "another environment: name its interpreter with --peer-python."
)
DEFAULT_SIZES = ("1280x720",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All but those of every bench (--sizes, --json, --check)."""
    parser.add_argument("--calls", type=_count, default=30, help="calls of each contender")
    parser.add_argument("--peer-python", nargs="+", default=[], metavar="PATH", help="interpreters with scikit-image")
    parser.add_argument("--no-report", action="store_true", help="leave the no-reference report out")


def measure(arguments: argparse.Namespace, bar: Any) -> Any:
    from edge_vision.benchmarks import quality
    from edge_vision.benchmarks.other_python import PeerFailed
    from edge_vision.benchmarks.results import Report, machine

    settings = quality.Settings(
        calls=arguments.calls,
        sizes=tuple(arguments.sizes),
        pythons=tuple(arguments.peer_python),
        report=not arguments.no_report,
    )
    bar.total = quality.work(settings)
    try:
        sections = quality.measure(settings, bar.update)
    except PeerFailed as error:
        raise ValueError(str(error)) from error
    return Report("bench quality", machine(), {"calls": settings.calls}, sections)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number above 0")
    return int(text)
