"""`edge_vision calibrate WHAT`: boards, calibrations from images, comparisons; a module calibrate_WHAT each."""

from __future__ import annotations

import argparse

from edge_vision.cli.subcommands import add_parts, run_part

DESCRIPTION = "Calibrate cameras: print a board, calibrate from its images, compare two calibrations."

SUBCOMMANDS = {
    "board": "print a calibration board true to scale: PDF, SVG or PNG",
    "images": "calibrate a camera from a folder of images or a video",
    "check": "is a stored calibration still that of its camera, by a board or by a scene that stands still",
    "compare": "how many pixels two calibrations are apart over the image",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_parts(parser, "calibrate", SUBCOMMANDS)


def run(arguments: argparse.Namespace) -> int:
    return run_part(arguments, "calibrate")
