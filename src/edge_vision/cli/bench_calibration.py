"""`edge_vision bench calibration`: are the calibration's sigmas true, and what does a solve cost?"""

from __future__ import annotations

import argparse
from typing import Any

DESCRIPTION = (
    "Simulates calibrations at the level of corners (plumb_bob and equidistant, noise 0.1 to 0.5 px, with and without "
    "1 mm of bow), solves them, and counts the runs with a parameter beyond three of the sigmas reported; then times "
    "cold solves of 13 and of 186 views."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All but those of every bench (--json, --check)."""
    parser.add_argument("--runs", type=_count, default=200, help="simulated calibrations")
    parser.add_argument("--seed", type=int, default=1, help="of the random scenes")
    parser.add_argument("--solves", type=_count, default=10, help="timed solves of each size")


def measure(arguments: argparse.Namespace, bar: Any) -> Any:
    from edge_vision.benchmarks import calibration
    from edge_vision.benchmarks.results import Report, machine

    settings = calibration.Settings(runs=arguments.runs, seed=arguments.seed, solves=arguments.solves)
    bar.total = calibration.work(settings)
    shown = {"runs": settings.runs, "seed": settings.seed}
    return Report("bench calibration", machine(), shown, calibration.measure(settings, bar.update))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number above 0")
    return int(text)
