"""`edge_vision diagnose WHAT`: what is wrong, from records; a module diagnose_WHAT each."""

from __future__ import annotations

import argparse

from edge_vision.cli.subcommands import add_parts, run_part

DESCRIPTION = "Tell what is wrong from records: of a training, its loss curves."

SUBCOMMANDS = {
    "training": "underfitting, overfitting, unrepresentative data, learning rate: from the log's loss curves"
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_parts(parser, "diagnose", SUBCOMMANDS)


def run(arguments: argparse.Namespace) -> int:
    return run_part(arguments, "diagnose")
