"""`edge_vision estimate`: how fast a model would be on a board that is not here, and whether it fits."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from edge_vision.paths import find_model

if TYPE_CHECKING:
    from edge_vision.optimize.estimate import Row, Target

DESCRIPTION = (
    "Estimate latency, RAM and flash of a model on boards that are not here, each with its interval, and for "
    "microcontrollers the operators that have no fast kernel. Exit code 1: it fits none of the targets."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", help="bundled model, bundle folder or .onnx file")
    parser.add_argument(
        "--target",
        default="all",
        metavar="A,B",
        help="names or files of config/targets, `this` for this machine (measured once, some seconds), all",
    )
    parser.add_argument(
        "--precision", choices=("fp32", "fp16", "int8"), help="default: the model's, int8 on microcontrollers"
    )
    parser.add_argument("--threads", type=int, default=0, help="of the runtime, 0 for those that were published")
    parser.add_argument("--errors", action="store_true", help="show the published points, each beside its estimate")
    parser.add_argument("--fresh", action="store_true", help="measure this machine again")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables as Markdown, too")


def run(args: argparse.Namespace) -> int:
    from edge_vision.inference.errors import InferenceError

    try:
        return _run(args)
    except BrokenPipeError:
        raise
    except (InferenceError, ImportError, ValueError, OSError) as error:
        print(f"edge_vision estimate: {error}", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace) -> int:
    if args.threads < 0:
        raise ValueError(f"--threads is {args.threads}: give 0 or the number of threads")
    if args.model is None and not args.errors:
        raise ValueError("name a model, or ask for --errors")
    targets, measured = _targets(args)
    if args.errors:
        return _errors(args, targets, measured)
    from edge_vision.optimize.estimate import estimate, read_model
    from edge_vision.optimize.estimate.report import as_dict, text

    model = read_model(find_model(args.model), args.precision or "")
    found = [estimate(model, target, args.precision or "", args.threads) for target in targets]
    _write(args, text(found, markdown=True))
    print(json.dumps([as_dict(one) for one in found], indent=2) if args.json else text(found))
    return 0 if any(one.ram.fits and (one.flash is None or one.flash.fits) for one in found) else 1


def _targets(args: argparse.Namespace) -> tuple[list[Target], tuple[Row, ...]]:
    """The targets, and the networks that were measured for `this`."""
    from edge_vision.optimize.estimate import find_target, target_names

    names = [name.strip() for name in args.target.split(",") if name.strip()]
    if not names:
        raise ValueError(f"--target {args.target!r} names none: choose of {', '.join(target_names())}, this, all")
    targets: list[Target] = []
    rows: tuple[Row, ...] = ()
    for name in names:
        if name == "all":
            targets += [find_target(each) for each in target_names()]
        elif name == "this":
            from edge_vision.inference.profiles import choose_profile
            from edge_vision.optimize.estimate.this_machine import this_machine

            profile, machine = choose_profile()
            threads = args.threads or profile.threads(machine.cores, machine.physical_cores)
            target, rows = this_machine(
                threads, _precisions(args), fresh=args.fresh, log=lambda line: print(line, file=sys.stderr)
            )
            targets.append(target)
        else:
            targets.append(find_target(name))
    return targets, rows


def _precisions(args: argparse.Namespace) -> tuple[str, ...]:
    return {"int8": ("int8",), "fp32": ("fp32",), "fp16": ("fp32",)}.get(args.precision or "", ("fp32", "int8"))


def _errors(args: argparse.Namespace, targets: list[Target], measured: tuple[Row, ...]) -> int:
    from edge_vision.optimize.estimate import check_target
    from edge_vision.optimize.estimate.report import errors_text, summary_text

    rows = [*measured, *(row for target in targets for row in check_target(target))]
    if args.model:
        rows += _own_model(args, targets, measured)
    _write(args, f"{summary_text(rows, True)}\n\n{errors_text(rows, True)}\n")
    if args.json:
        print(json.dumps([asdict(row) | {"ratio": row.ratio, "inside": row.inside} for row in rows], indent=2))
    else:
        print(f"{errors_text(rows)}\n\n{summary_text(rows)}")
    return 0


def _own_model(args: argparse.Namespace, targets: list[Target], measured: tuple[Row, ...]) -> list[Row]:
    """A model that is here, measured here, beside its estimate for this machine."""
    from edge_vision.optimize.estimate import read_model
    from edge_vision.optimize.estimate.this_machine import check_graph

    here = next((target for target in targets if target.name == "this"), None)
    if here is None:
        raise ValueError("a model can be measured on this machine alone: add --target this, or leave the model out")
    model = read_model(find_model(args.model), args.precision or "")
    return [check_graph(model.proto, model.name, model.precision, here.settings[0].threads, here, measured)]


def _write(args: argparse.Namespace, content: str) -> None:
    if args.markdown:
        file = Path(args.markdown)
        part = file.with_name(f"{file.name}.part")
        part.write_text(content, encoding="utf-8")
        part.replace(file)
