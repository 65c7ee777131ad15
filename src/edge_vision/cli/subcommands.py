"""Commands of several parts, `edge_vision COMMAND WHAT`: each part a module ``edge_vision.cli.COMMAND_WHAT`` with
DESCRIPTION, add_arguments(parser) and run(arguments)."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType


def add_parts(parser: argparse.ArgumentParser, command: str, lines: Mapping[str, str]) -> None:
    """Gives the parser a part for each name of ``lines``, which say in one line what each does."""
    choices = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    for name, line in lines.items():
        module = _part(command, name)
        own = choices.add_parser(
            name,
            help=line,
            description=module.DESCRIPTION,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        module.add_arguments(own)


def run_part(arguments: argparse.Namespace, command: str) -> int:
    """Runs the part that was asked for; returns its exit code."""
    return _part(command, arguments.what).run(arguments)


def _part(command: str, name: str) -> ModuleType:
    return import_module(f"edge_vision.cli.{command}_{name}")
