"""`edge_vision COMMAND ...`: finds the command's module, imports only that, runs it.

A command is a module of `edge_vision.cli` with DESCRIPTION (one line), add_arguments(parser) and run(arguments) -> exit
code: 0 done, 1 it could not be done (the message says why), 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

# Commands with their one line here, so that --help imports nothing.
COMMANDS = {
    "demo": "run the pipeline on a source and write overlay.mp4, detections.json, tracks.csv, summary.json",
    "evaluate": "score a detector (COCO protocol), or with `tracking` a tracker (HOTA, MOTA, IDF1), against the truth",
    "bench": "measure pipeline, transport, backends, decoding and tracking, side by side with their peers",
    "verify": "prove that every variant and backend of a model finds what fp32 ONNX Runtime finds",
    "convert": "make the files that other backends read: OpenVINO, TFLite, ncnn, TVM, TensorRT",
    "optimize": "make a model smaller and faster within a budget of accuracy, and prove what every step cost",
    "estimate": "what a model would take on a board that is not here: time, RAM, flash, with the estimate's error",
    "package": "sign and encrypt a model's bundle, check one that was, make the keys for it",
    "backends": "which inference backends are here, and what would make the others available",
    "quality": "how good pictures are, by themselves and against a reference: table, CSV, JSON, a page with plots",
    "sensor": "measure a camera by EMVA 1288: gain, noise, quantum efficiency, dynamic range, nonuniformity",
    "calibrate": "print a board, calibrate a camera from its images, compare two calibrations",
    "diagnose": "what is wrong with a training, from its loss curves",
    "dataset": "check a dataset (labels, leaks, statistics), split it by sequence",
    "parameters": "every node's topics and parameters, as a table",
}


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="edge_vision",
        description="Vision for edge devices: detect, track, measure.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n"
        + "\n".join(f"  {name:<12}{line}" for name, line in COMMANDS.items())
        + "\n\nedge_vision COMMAND --help tells more.",
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.add_argument("command", nargs="?", choices=list(COMMANDS), metavar="COMMAND", help="see below")
    options = parser.parse_args(given[:1])
    if options.version:
        from edge_vision import __version__

        print(__version__)
        return 0
    if options.command is None:
        parser.print_help()
        return 2
    command = import_module(f"edge_vision.cli.{options.command}")
    own = argparse.ArgumentParser(
        prog=f"edge_vision {options.command}",
        description=command.DESCRIPTION,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.add_arguments(own)
    try:
        return command.run(own.parse_args(given[1:]))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `edge_vision ... | head`
        sys.stderr.close()
        return 0
