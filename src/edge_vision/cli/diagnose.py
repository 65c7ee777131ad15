"""`edge_vision diagnose WHAT`: what is wrong, from records; a module diagnose_WHAT each."""

from __future__ import annotations

import argparse
from importlib import import_module

DESCRIPTION = "Tell what is wrong from records: of a training, its loss curves."

SUBCOMMANDS = {
    "training": "underfitting, overfitting, unrepresentative data, learning rate: from the log's loss curves"
}
"""Each a module ``edge_vision.cli.diagnose_NAME`` with DESCRIPTION, add_arguments(parser) and run(arguments)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    choices = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    for name, line in SUBCOMMANDS.items():
        module = import_module(f"edge_vision.cli.diagnose_{name}")
        own = choices.add_parser(
            name,
            help=line,
            description=module.DESCRIPTION,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        module.add_arguments(own)


def run(arguments: argparse.Namespace) -> int:
    return import_module(f"edge_vision.cli.diagnose_{arguments.what}").run(arguments)
