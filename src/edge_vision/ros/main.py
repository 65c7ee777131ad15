"""The executables: `camera`, `inference`, ... run one node; `pipeline` runs a set of them in one process."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from edge_vision.ros import registry


def _parser(executable: str) -> argparse.ArgumentParser:
    about = (
        "Runs several nodes in one process, which hand frames and results to each other without copying."
        if executable == "pipeline"
        else f"Runs the node {executable}: {registry.NODES[executable][2]}."
    )
    parser = argparse.ArgumentParser(
        prog=executable,
        description=about,
        epilog="ROS arguments follow --ros-args: parameters (-p name:=value, --params-file F), remaps (-r from:=to).",
    )
    if executable == "pipeline":
        parser.add_argument(
            "nodes",
            nargs="*",
            metavar="NODE",
            help=f"which of {', '.join(registry.NODES)} (default: {' '.join(registry.DEFAULT_PIPELINE)})",
        )
    parser.add_argument(
        "--must-start",
        action="store_true",
        help="end with exit code 1 when a node cannot start, instead of keeping it for its parameters to be mended",
    )
    return parser


def main(executable: str, arguments: Sequence[str] | None = None) -> int:
    """Runs an executable by its name; returns the exit code (2: wrong arguments, 1: could not run)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    split = given.index("--ros-args") if "--ros-args" in given else len(given)
    parser = _parser(executable)
    options = parser.parse_args(given[:split])
    try:
        names = (
            registry.ordered(options.nodes or registry.DEFAULT_PIPELINE) if executable == "pipeline" else [executable]
        )
    except ValueError as error:
        parser.error(str(error))

    from edge_vision.ros import runtime

    try:
        runtime.initialise([executable, *given[split:]])
    except Exception as error:  # rclpy raises several kinds for arguments and parameter files that cannot be read
        print(f"{executable}: cannot start: {error}", file=sys.stderr)
        return 2

    from edge_vision.ros.container import run

    return run(names, must_start=options.must_start)
