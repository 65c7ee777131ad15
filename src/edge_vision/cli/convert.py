"""`edge_vision convert`: an ONNX model into the files that other backends read, added to its bundle."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edge_vision.inference import Bundle, load_bundle
from edge_vision.inference.backends import backend
from edge_vision.inference.bundle import PRECISIONS
from edge_vision.inference.conversion import TARGETS, TOLERANCES, Conversion, convert, converter, home
from edge_vision.inference.errors import InferenceError
from edge_vision.paths import find_model

DESCRIPTION = (
    "Convert an ONNX model for other backends. A result is compared with ONNX Runtime before it goes into the bundle."
)

ALL = "all"
MADE, THERE, UNAVAILABLE, FAILED = "made", "there", "unavailable", "failed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="bundled model, bundle folder or .onnx file")
    parser.add_argument("--to", type=_targets, default=ALL, metavar="NAMES", help=f"{', '.join(TARGETS)}, or all")
    parser.add_argument(
        "--precision", type=_precisions, default="fp32", metavar="NAMES", help=f"{', '.join(TOLERANCES)}, or both"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder of the bundle; otherwise the model's own, and for an .onnx file <stem>_bundle beside it",
    )
    parser.add_argument("--decoder", help="decoder of an .onnx file where its outputs do not tell")
    parser.add_argument("--force", action="store_true", help="make anew what the bundle has already")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _targets(text: str) -> tuple[str, ...]:
    """Names separated by commas; () for all."""
    return () if text == ALL else _names(text, tuple(TARGETS))


def _precisions(text: str) -> tuple[str, ...]:
    return _names(text, PRECISIONS)


def _names(text: str, known: Sequence[str]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
    if not names:
        raise argparse.ArgumentTypeError(f"names nothing; choose from {', '.join(known)}")
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True, slots=True)
class Row:
    """One conversion as it went. state: made, there (already), unavailable (here, in this precision) or failed; error:
    raw, against ONNX Runtime; reason: why nothing was made; size in bytes, weights included."""

    target: str
    precision: str
    state: str
    file: str = ""
    size: int = 0
    error: float | None = None
    seconds: float = 0.0
    reason: str = ""


def run(args: argparse.Namespace) -> int:
    try:
        own = home(load_bundle(find_model(args.model), decoder=args.decoder), args.out)
    except (InferenceError, OSError) as error:
        print(f"edge_vision convert: {error}", file=sys.stderr)
        return 2
    rows = list(convert_all(own, args.to or tuple(TARGETS), args.precision, args.force))
    if args.json:
        print(json.dumps({"bundle": str(own.folder), "conversions": [asdict(row) for row in rows]}, indent=2))
    else:
        _print(own, rows)
    # What cannot be had here is no failure where everything was asked for.
    bad = {FAILED, UNAVAILABLE} if args.to else {FAILED}
    return 1 if any(row.state in bad for row in rows) else 0


def convert_all(bundle: Bundle, targets: Sequence[str], precisions: Sequence[str], force: bool) -> Iterator[Row]:
    """Convert to every target in every precision; a row for each, as it is done. One that fails raises nothing."""
    for target in targets:
        for precision in precisions:
            print(f"{target} {precision}", file=sys.stderr)
            reason = _unavailable(target, precision)
            if reason:
                yield Row(target, precision, UNAVAILABLE, reason=reason)
                continue
            there = [v for v in bundle.variants if (v.backend, v.precision) == (target, precision)]
            there = [v for v in there if v.path.suffix == converter(target).SUFFIX]
            if there and not force:
                yield Row(target, precision, THERE, there[0].path.name, reason="--force makes it anew")
                continue
            try:
                done = convert(load_bundle(bundle.file), target, precision, force=force, progress=_progress)
            except (InferenceError, OSError) as error:
                yield Row(target, precision, FAILED, reason=str(error))
            else:
                yield _row(done)


def _unavailable(target: str, precision: str) -> str | None:
    module = converter(target)
    if precision not in module.PRECISIONS:
        return f"makes {', '.join(module.PRECISIONS)} only"
    return module.available() or backend(target).available()


def _row(done: Conversion) -> Row:
    return Row(done.target, done.precision, MADE, done.variant.path.name, done.size, done.error, done.seconds)


def _progress(line: str) -> None:
    print(f"  {line}", file=sys.stderr)


def _print(bundle: Bundle, rows: Sequence[Row]) -> None:
    print(f"bundle {bundle.folder}")
    table = [("target", "precision", "state", "file", "size", "raw error", "seconds", "")]
    for row in rows:
        size = f"{row.size / 1e6:.2f} MB" if row.size else "-"
        error = f"{row.error:.1e}" if row.error is not None else "-"
        seconds = f"{row.seconds:.1f}" if row.seconds else "-"
        table.append((row.target, row.precision, row.state, row.file or "-", size, error, seconds, row.reason))
    widths = [max(len(line[column]) for line in table) for column in range(7)]
    for line in table:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        print("  ".join([*cells, line[7]]).rstrip())
    limits = ", ".join(f"{limit:g} for {precision}" for precision, limit in TOLERANCES.items())
    print(f"raw error: of the output's range, on noise, against ONNX Runtime in fp32; accepted up to {limits}")
