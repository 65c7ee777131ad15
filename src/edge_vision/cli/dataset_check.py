"""`edge_vision dataset check DATASET`: what is wrong with it, what leaks between its splits, what it holds."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from edge_vision.whole_files import write_bytes

DESCRIPTION = (
    "Reads COCO, YOLO, MOT or class folders and tells what is wrong with labels and images, which clips and "
    "near-duplicate frames are in more than one split, and how classes and sizes are distributed; every warning with "
    "its figure and threshold. Exit code 0: nothing to warn of; 1: there is; 2: it cannot be read."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="folder, COCO .json or data.yaml")
    parser.add_argument(
        "--splits",
        metavar="A,B,..",
        default=argparse.SUPPRESS,
        help="look at these splits alone (default: all that there are)",
    )
    add_reading_arguments(parser)
    parser.add_argument("--input", type=size, default="640x640", metavar="WxH", help="the detector's input, px")
    parser.add_argument("--stride", type=int, default=8, help="the detector's finest stride, px")
    parser.add_argument("--no-leaks", action="store_true", help="do not decode images to look for near-duplicates")
    parser.add_argument("--json", metavar="FILE", default=argparse.SUPPRESS, help="everything; - for stdout, no text")
    parser.add_argument("--markdown", metavar="FILE", default=argparse.SUPPRESS, help="the report as Markdown")
    parser.add_argument("--html", metavar="FILE", default=argparse.SUPPRESS, help="a page with plots")
    parser.add_argument("--plot", metavar="FILE.png", default=argparse.SUPPRESS, help="the plots as a picture")
    parser.add_argument("--sheet", metavar="FILE.png", default=argparse.SUPPRESS, help="near-duplicates as a picture")


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--group-by",
        metavar="REGEX",
        default="",
        help="an image's sequence is what this finds in its path (first group); default: by folder and numbering",
    )
    parser.add_argument("--images", metavar="FOLDER", default=argparse.SUPPRESS, help="where COCO's file names lie")


def run(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from edge_vision.datasets import DatasetError, plots
    from edge_vision.datasets.leak_sheet import draw_sheet
    from edge_vision.datasets.leaks import find_leaks
    from edge_vision.datasets.report import as_dict, markdown, warnings_of
    from edge_vision.datasets.statistics import measure_dataset

    files = {kind: getattr(arguments, kind, None) for kind in ("json", "markdown", "html", "plot", "sheet")}
    if (files["html"] or files["plot"]) and (problem := plots.problem()):
        return fail(problem)
    try:
        check_writable([file for file in files.values() if file and file != "-"])
        dataset = read(arguments, getattr(arguments, "splits", ""))
        statistics = measure_dataset(dataset, arguments.input, arguments.stride)
        leaks = None
        if len(dataset.splits) > 1 and not arguments.no_leaks:
            with tqdm(total=len(dataset), desc="looking for near-duplicates", unit="image", file=sys.stderr) as bar:
                leaks = find_leaks(dataset, bar.update)
        sheet = draw_sheet(dataset, leaks.pairs) if leaks is not None and leaks.pairs else None
        written = json.dumps(as_dict(dataset, statistics, leaks), indent=2, allow_nan=False)
        if files["json"] and files["json"] != "-":
            write(files["json"], written.encode() + b"\n")
        if files["markdown"]:
            write(files["markdown"], markdown(dataset, statistics, leaks).encode())
        if files["html"]:
            from edge_vision.datasets.page import dataset_page

            write(files["html"], dataset_page(dataset, statistics, leaks, sheet).encode())
        if files["plot"]:
            plots.draw(statistics, Path(files["plot"]), "png")
        if files["sheet"]:
            write_picture(files["sheet"], sheet)
    except (DatasetError, OSError) as error:
        return fail(str(error))
    print(written if files["json"] == "-" else markdown(dataset, statistics, leaks), end="\n")
    return 1 if warnings_of(statistics, leaks) else 0


def read(arguments: argparse.Namespace, splits: str = ""):  # type: ignore[no-untyped-def]
    """The dataset that the arguments name, with a progress bar. Raises DatasetError."""
    from dataclasses import replace

    from tqdm import tqdm

    from edge_vision.datasets import DatasetError, read_dataset

    with tqdm(desc="reading", unit="image", file=sys.stderr, leave=False) as bar:
        images = getattr(arguments, "images", None)
        dataset = read_dataset(arguments.dataset, images=images, group_by=arguments.group_by, advance=bar.update)
    if splits:
        wanted = splits.split(",")
        if unknown := [name for name in wanted if name not in dataset.splits]:
            there = ", ".join(dataset.splits) or "none"
            raise DatasetError(dataset.path, f"has no split {', '.join(unknown)}", f"there are: {there}")
        dataset = replace(dataset, samples=tuple(s for s in dataset.samples if s.split in wanted))
    return dataset


def write(file: str, content: bytes) -> None:
    write_bytes(Path(file).expanduser(), content)


def write_picture(file: str, picture) -> None:  # type: ignore[no-untyped-def]
    if picture is None:
        print(f"no near-duplicates: {file} is not written", file=sys.stderr)
        return
    import cv2

    ok, data = cv2.imencode(Path(file).suffix or ".png", picture)
    if not ok:
        raise OSError(f"cannot write {file}: name a .png or .jpg")
    write(file, data.tobytes())


def check_writable(files: list[str]) -> None:
    """Before minutes of work, not after."""
    for file in files:
        folder = Path(file).expanduser().parent
        if not folder.is_dir():
            raise OSError(f"cannot write {file}: there is no folder {folder}; make it first")
        if not os.access(folder, os.W_OK):
            raise OSError(f"cannot write {file}: the folder {folder} may not be written to; name another")


def size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not width.isdecimal() or not (height or width).isdecimal() or min(int(width), int(height or width)) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no size: write 640x480")
    return int(width), int(height or width)


def fail(message: str) -> int:
    print(f"edge_vision dataset: {message}", file=sys.stderr)
    return 2
