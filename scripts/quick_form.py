"""`--quick` of scripts that take long: the same in a few minutes, to see that it works."""

from __future__ import annotations

import argparse
from collections.abc import Mapping


def arguments(parser: argparse.ArgumentParser, quick: Mapping[str, object]) -> argparse.Namespace:
    """What the command line says. quick: defaults, by name, where --quick is given; what is given besides counts."""
    told = ", ".join(f"--{name.replace('_', '-')} {value}" for name, value in quick.items())
    parser.add_argument("--quick", action="store_true", help=f"a few minutes instead: {told}, unless given")
    args = parser.parse_args()
    if args.quick:
        parser.set_defaults(**quick)
        args = parser.parse_args()
    return args
