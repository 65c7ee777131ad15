"""`edge_vision calibrate WHAT`: boards, calibrations from images, comparisons; a module calibrate_WHAT each."""

from __future__ import annotations

import argparse
from importlib import import_module

DESCRIPTION = "Calibrate cameras: print a board, calibrate from its images, compare two calibrations."

SUBCOMMANDS = {
    "board": "print a calibration board true to scale: PDF, SVG or PNG",
    "images": "calibrate a camera from a folder of images or a video",
    "check": "is a stored calibration still that of its camera, by a board or by a scene that stands still",
    "compare": "how many pixels two calibrations are apart over the image",
}
"""Each a module ``edge_vision.cli.calibrate_NAME`` with DESCRIPTION, add_arguments(parser) and run(arguments)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    choices = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    for name, line in SUBCOMMANDS.items():
        module = import_module(f"edge_vision.cli.calibrate_{name}")
        own = choices.add_parser(
            name,
            help=line,
            description=module.DESCRIPTION,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        module.add_arguments(own)


def run(arguments: argparse.Namespace) -> int:
    return import_module(f"edge_vision.cli.calibrate_{arguments.what}").run(arguments)
