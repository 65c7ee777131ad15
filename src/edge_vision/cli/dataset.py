"""`edge_vision dataset WHAT`: is a dataset fit to train and to measure by, and splits that do not leak."""

from __future__ import annotations

import argparse
from importlib import import_module

DESCRIPTION = "Check a dataset (labels, leaks between splits, statistics), split it by sequence, try the leak check."

SUBCOMMANDS = {
    "check": "labels, near-duplicates across splits, class balance, box and image sizes",
    "split": "deal whole sequences out to splits, balanced by class",
    "measure": "how many near-duplicates the leak check finds, and how many it imagines, on the twin or a video",
}
"""Each a module ``edge_vision.cli.dataset_NAME`` with DESCRIPTION, add_arguments(parser) and run(arguments)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    choices = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    for name, line in SUBCOMMANDS.items():
        module = import_module(f"edge_vision.cli.dataset_{name}")
        own = choices.add_parser(
            name,
            help=line,
            description=module.DESCRIPTION,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        module.add_arguments(own)


def run(arguments: argparse.Namespace) -> int:
    return import_module(f"edge_vision.cli.dataset_{arguments.what}").run(arguments)
