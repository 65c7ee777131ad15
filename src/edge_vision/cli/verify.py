"""`edge_vision verify`: whether a model gives the same on every backend that is here."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_vision.inference.decoders import DECODERS
from edge_vision.paths import find_model

if TYPE_CHECKING:
    from edge_vision.verification import Report

DESCRIPTION = (
    "Run every file of a model on every backend, device and precision here, compare each with fp32 ONNX Runtime "
    "on the same frames, and write down which may be chosen automatically. Exit code 1: one is out of its tolerance."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="bundled model, bundle folder or .onnx file")
    parser.add_argument(
        "--frames",
        metavar="URI",
        help="a video, a folder of images, an image or sim://... (default: the twin for models of its classes)",
    )
    parser.add_argument("--count", type=int, default=100, help="frames, evenly spread")
    parser.add_argument("--backend", type=_names, metavar="A,B", help="these backends alone")
    parser.add_argument("--device", type=_names, metavar="A,B", help="these devices alone")
    parser.add_argument("--precision", type=_names, metavar="A,B", help="these precisions alone")
    parser.add_argument("--threads", type=int, default=0, help="threads of a backend, 0 for the profile's rule")
    parser.add_argument(
        "--decoder", choices=tuple(DECODERS), metavar="NAME", help=f"of a bare file: {', '.join(DECODERS)}"
    )
    parser.add_argument(
        "--tolerance",
        nargs="+",
        type=_limit,
        default=[],
        metavar="[PRECISION.]NAME=VALUE",
        help="other limits, e.g. int8.matched=0.85; names: matched, raw, score, map_drop, agreement",
    )
    parser.add_argument("--dry-run", action="store_true", help="write no records: nothing changes for automatic choice")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--markdown", metavar="FILE", help="write the table as Markdown, too")
    parser.add_argument(
        "--picture", metavar="FILE.png", help="draw the worst frame of the worst candidate with both sets of boxes"
    )


def run(args: argparse.Namespace) -> int:
    from edge_vision.inference import InferenceError
    from edge_vision.sources import SourceError
    from edge_vision.verification import as_dict, text

    try:
        report = _verify(args)
        _write(args, report)
    except (InferenceError, SourceError, ImportError, ValueError, OSError) as error:
        print(f"edge_vision verify: {error}", file=sys.stderr)
        return 2
    print(json.dumps(as_dict(report), indent=2) if args.json else text(report))
    return 0 if report.passed else 1


def _verify(args: argparse.Namespace) -> Report:
    from tqdm import tqdm

    from edge_vision.inference import load_bundle
    from edge_vision.verification import take_frames, usual_source, verify

    bundle = load_bundle(find_model(args.model), decoder=args.decoder)
    if bundle.task != "detect":
        raise ValueError(
            f"{args.model} is for {bundle.task}; what is verified are the boxes of detectors. `edge_vision convert` "
            "compares what it makes of this one with ONNX Runtime; to run it in another precision, name that"
        )
    source = args.frames or usual_source(bundle.labels)
    if source is None:
        raise ValueError(
            f"{args.model} needs frames that show what it detects: give --frames with a video, a folder of images or "
            "an image"
        )
    frames = take_frames(source, args.count)
    with tqdm(unit="frame", file=sys.stderr, leave=False) as bar:

        def progress(candidate: str, done: int, whole: int) -> None:
            bar.total = whole
            bar.set_description(candidate, refresh=False)
            bar.update(done)

        return verify(
            bundle,
            frames,
            backends=args.backend,
            devices=args.device,
            precisions=args.precision,
            threads=args.threads,
            tolerance=dict(args.tolerance),
            write=not args.dry_run,
            progress=progress,
        )


def _write(args: argparse.Namespace, report: Report) -> None:
    from edge_vision.verification import markdown, picture

    if args.markdown:
        Path(args.markdown).write_text(markdown(report), encoding="utf-8")
    if args.picture:
        import cv2

        image = picture(report)
        if image is None:
            print("edge_vision verify: no candidate ran, so there is no picture", file=sys.stderr)
        elif not cv2.imwrite(args.picture, image):
            raise ValueError(f"cannot write {args.picture}: check the folder and give a name that ends in .png")


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r} names nothing: give one or more, with commas between")
    return names


def _limit(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no limit: write name=number, e.g. fp16.matched=0.98") from None
