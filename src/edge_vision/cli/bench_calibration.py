"""`edge_vision bench calibration`: are the sigmas true, and what do a solve, a detection and image_rect cost?"""

from __future__ import annotations

import argparse
from typing import Any

DESCRIPTION = (
    "Simulates calibrations at the level of corners (plumb_bob and equidistant, noise 0.1 to 0.5 px, with and without "
    "1 mm of bow), solves them, and counts the runs with a parameter beyond three of the sigmas reported; then times "
    "cold solves of 13 and of 186 views, the detection of every kind of board in rendered views with known corners "
    "beside OpenCV's own detectors, and the rectification of images."
)
PARTS = ("sigmas", "solves", "detection", "rectification")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All but those of every bench (--json, --check)."""
    parser.add_argument("--runs", type=_count, default=200, help="simulated calibrations")
    parser.add_argument("--seed", type=int, default=1, help="of the random scenes")
    parser.add_argument("--solves", type=_count, default=10, help="timed solves of each size")
    parser.add_argument("--rounds", type=_count, default=6, help="how often each view's board is looked for")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))


def measure(arguments: argparse.Namespace, bar: Any) -> Any:
    import cv2

    from edge_vision.benchmarks import calibration, detection, rectification
    from edge_vision.benchmarks.results import Report, machine

    settings = calibration.Settings(runs=arguments.runs, seed=arguments.seed, solves=arguments.solves)
    rounds = arguments.rounds
    work = {
        "sigmas": settings.runs,
        "solves": 2 * settings.solves,
        "detection": detection.work(rounds),
        "rectification": rectification.work(),
    }
    bar.total = sum(work[part] for part in set(arguments.only))
    sections: list[Any] = []
    if "sigmas" in arguments.only:
        sections.append(calibration.sigmas(settings, bar.update))
    if "solves" in arguments.only:
        sections.append(calibration.times(settings, bar.update))
    if "detection" in arguments.only:
        sections.append(detection.detection_section(rounds, bar.update))
    if "rectification" in arguments.only:
        sections += rectification.rectification_sections(done=bar.update)
    shown = {"runs": settings.runs, "seed": settings.seed, "rounds": rounds, "OpenCV": cv2.__version__}
    return Report("bench calibration", machine(), shown, tuple(sections))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number above 0")
    return int(text)
