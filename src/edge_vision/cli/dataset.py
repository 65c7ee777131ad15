"""`edge_vision dataset WHAT`: is a dataset fit to train and to measure by, and splits that do not leak."""

from __future__ import annotations

import argparse

from edge_vision.cli.subcommands import add_parts, run_part

DESCRIPTION = "Check a dataset (labels, leaks between splits, statistics), split it by sequence, try the leak check."

SUBCOMMANDS = {
    "check": "labels, near-duplicates across splits, class balance, box and image sizes",
    "split": "deal whole sequences out to splits, balanced by class",
    "measure": "how many near-duplicates the leak check finds, and how many it imagines, on the twin or a video",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_parts(parser, "dataset", SUBCOMMANDS)


def run(arguments: argparse.Namespace) -> int:
    return run_part(arguments, "dataset")
